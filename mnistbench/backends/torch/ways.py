"""The fastest way to compute any multilayer perceptron in PyTorch; on a GPU one is a captured iteration."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch

from mnistbench.backends import trials
from mnistbench.backends.torch import device, random
from mnistbench.backends.torch.formulas import has_onednn
from mnistbench.backends.torch.mlp import TorchMlpTrainer, Way, optimizer_of
from mnistbench.backends.torch.shared import SharedMlpTrainer
from mnistbench.datasets import Dataset, likely_shape
from mnistbench.reference.parameters import Parameters
from mnistbench.task.recipe import Schedule
from mnistbench.task.workload import Workload

# Random words per batch up to which nothing is compiled: they take less than a millisecond, compiling takes seconds.
_SMALL = 16_384


class CapturedTrainer(TorchMlpTrainer):
    """The same with a whole batch's iteration captured as a CUDA graph, which needs one launch in place of dozens.

    The graph reads the images' indices and the learning rate, a float32 number for PyTorch's fused optimizers, from
    tensors that are filled before each replay. Batches that are not whole are not captured.
    """

    def _created_optimizer(self) -> Any:
        self._rate = torch.zeros((), dtype=torch.float32, device=self._device)
        found = optimizer_of(self.workload.recipe.optimizer, self._weights, self._biases)
        for group in found.param_groups:
            group["lr"] = self._rate
            if "capturable" in group:
                group["capturable"] = True
        return found

    def __init__(self, workload: Workload, *arguments: Any) -> None:
        super().__init__(workload, *arguments)
        with self._computing():
            self._places = self._taken(0)[0].clone()
            eager = partial(super()._iterate, self._places, workload.batch_size)
            self._replay, self._result = device.captured(eager)
        self.reset(arguments[1])

    def _set_rate(self, rate: float) -> None:
        self._rate.fill_(rate)

    def _iterate(self, places: Any, m: int) -> tuple[Any, Any]:
        if m < self.workload.batch_size:
            return super()._iterate(places, m)
        self._places.copy_(places)
        self._replay()
        return self._result

    def _forget(self) -> None:
        # The graph's own tensors; a first step from moments of 0 is the same as one without any.
        for state in self._optimizer.state.values():
            for value in state.values():
                if isinstance(value, torch.Tensor):
                    value.zero_()

    def _remember(self, own: Any, state: dict[str, Any]) -> None:
        for name, value in self._optimizer.state[own].items():
            value.copy_(state[name])

    def close(self) -> None:
        del self._replay, self._result
        super().close()


def fastest_way(
    workload: Workload, threads: int, image_shape: tuple[int, int] | None = None, ranks: int | None = None
) -> tuple[Way, str | None]:
    """Return the fastest way for the workload's batches, or a rank's part of them, and ways that failed in words."""
    size = -(-workload.batch_size // (ranks or 1))
    if image_shape is None or not workload.recipe.augmentation:
        image_shape = likely_shape(workload.network.inputs)
    recipe = replace(workload.recipe, initializer="uniform", schedule=Schedule(), batch_size=size)
    batch = Workload(workload.network, size, 1, dtype=workload.dtype, recipe=recipe)
    # A rank has another number of images in each batch, for which PyTorch would compile anew.
    kinds = Kinds(compiled=ranks is None or workload.recipe.batch_size is None, captured=ranks is None)
    return _fastest_way(batch, threads, image_shape, kinds)


class Kinds(NamedTuple):
    """Kinds of ways that can be tried.

    Attributes:
        compiled: whether random bits can be compiled.
        captured: whether an iteration can be captured.
    """

    compiled: bool = True
    captured: bool = True


@trials.Once
def _fastest_way(workload: Workload, threads: int, image_shape: tuple[int, int], kinds: Kinds) -> trials.Choice[Way]:
    """Find the fastest way for a workload of one batch, by a trial on white images."""
    workload, dataset, parameters = trials.trial_of(workload, image_shape)
    many = random.Draw.of(workload, image_shape).words > _SMALL

    def others(way: Way) -> list[Way]:
        compiled = [way._replace(compiled=True)] if many and kinds.compiled else []
        can = kinds.captured and can_capture(workload)
        return compiled + [one._replace(captured=True) for one in (way, *compiled) if can]

    return trials.fastest(
        [Way(onednn) for onednn in ((False, True) if has_onednn(workload.dtype) else (False,))],
        others,
        lambda way: trainer(workload, dataset, parameters, threads, way),
        f"{device.NAME}, {workload}, images of {image_shape}, {threads} threads",
    )


def trainer(
    workload: Workload, dataset: Dataset, parameters: Parameters, threads: int, way: Way, failed: str | None = None
) -> TorchMlpTrainer:
    """Start the trainer of a way."""
    if dataset.share:
        return SharedMlpTrainer(workload, dataset, parameters, threads, way, failed)
    kind = CapturedTrainer if way.captured else TorchMlpTrainer
    return kind(workload, dataset, parameters, threads, way, failed)


def can_capture(workload: Workload) -> bool:
    """Whether an iteration can be captured: on a GPU, by a fused optimizer, whose rate is then in float32."""
    return (
        device.device().type == "cuda" and workload.dtype == "float32" and workload.recipe.optimizer.name != "rmsprop"
    )
