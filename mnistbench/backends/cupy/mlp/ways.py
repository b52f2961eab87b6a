"""The choice of a way to launch the iterations of a multilayer perceptron, by a trial."""

from __future__ import annotations

from dataclasses import replace

from mnistbench.backends import trials
from mnistbench.backends.cupy.mlp.captured import CapturedTrainer
from mnistbench.backends.cupy.mlp.trainer import MlpTrainer
from mnistbench.datasets import Dataset, likely_shape
from mnistbench.reference.parameters import Parameters
from mnistbench.task.recipe import Schedule
from mnistbench.task.workload import Workload

_NAME = "cupy"
_KINDS = {kind.way: kind for kind in (MlpTrainer, CapturedTrainer)}


def start(workload: Workload, dataset: Dataset, parameters: Parameters) -> MlpTrainer:
    """Start the trainer of the faster way. A rank launches operations: its sums go to the host amid an iteration."""
    if dataset.share is not None:
        return MlpTrainer(_NAME, workload, dataset, parameters)
    tried = _tried(workload, dataset.image_shape)
    way, failed = fastest_way(*tried)
    if way == CapturedTrainer.way:
        try:
            return CapturedTrainer(_NAME, workload, dataset, parameters, failed)
        except Exception as error:  # whatever the reason, it can be trained without
            failed = trials.failure(way, error)
            fastest_way.record(MlpTrainer.way, failed, *tried)
    return MlpTrainer(_NAME, workload, dataset, parameters, failed)


def _tried(workload: Workload, image_shape: tuple[int, int]) -> tuple[Workload, tuple[int, int]]:
    """Return what a workload's ways are tried on: one epoch with enough batches for a trial, if it has as many.

    A trial that began many epochs would time what the host does there more often than a training does.
    """
    recipe, images = workload.recipe, workload.batch_size
    if recipe.batch_size is not None:
        recipe = replace(recipe, batch_size=workload.batch_size)
        images *= min(workload.images // images, trials.ITERATIONS)
    if not recipe.augmentation:
        image_shape = likely_shape(workload.network.inputs)
    recipe = replace(recipe, initializer="uniform", schedule=Schedule())
    return Workload(workload.network, images, 1, dtype=workload.dtype, recipe=recipe), image_shape


@trials.Once
def fastest_way(workload: Workload, image_shape: tuple[int, int]) -> trials.Choice[str]:
    """Find the faster way for a workload, by a trial on white images."""
    workload, dataset, parameters = trials.trial_of(workload, image_shape)
    return trials.fastest(
        [MlpTrainer.way],
        lambda way: [CapturedTrainer.way],
        lambda way: _KINDS[way](_NAME, workload, dataset, parameters),
        f"{_NAME}, {workload}, images of {image_shape}",
    )
