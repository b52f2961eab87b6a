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
    way, failed = fastest_way(workload, dataset.image_shape)
    if way == CapturedTrainer.way:
        try:
            return CapturedTrainer(_NAME, workload, dataset, parameters, failed)
        except Exception as error:  # whatever the reason, it can be trained without
            failed = trials.failure(way, error)
    return MlpTrainer(_NAME, workload, dataset, parameters, failed)


def fastest_way(workload: Workload, image_shape: tuple[int, int]) -> tuple[str, str | None]:
    """Return the faster way for the workload's batches, and in words why the other one failed, or None."""
    recipe, size = workload.recipe, workload.batch_size
    if not recipe.augmentation:
        image_shape = likely_shape(workload.network.inputs)
    batch_size = None if recipe.batch_size is None else size
    recipe = replace(recipe, initializer="uniform", schedule=Schedule(), batch_size=batch_size)
    batch = Workload(workload.network, size, 1, dtype=workload.dtype, recipe=recipe)
    return _fastest_way(batch, image_shape)


@trials.Once
def _fastest_way(workload: Workload, image_shape: tuple[int, int]) -> trials.Choice[str]:
    """Find the faster way for a workload of one batch, by a trial on white images."""
    workload, dataset, parameters = trials.trial_of(workload, image_shape)
    return trials.fastest(
        [MlpTrainer.way],
        lambda way: [CapturedTrainer.way],
        lambda way: _KINDS[way](_NAME, workload, dataset, parameters),
        f"{_NAME}, {workload}, images of {image_shape}",
    )
