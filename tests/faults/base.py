"""What all planted faults share: an honest trainer cut into steps, and the registry of trainers that replace a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from mnistbench import reference
from mnistbench.backends import Metrics
from mnistbench.backends.numpy import NumpyMlpTrainer
from mnistbench.reference import mlp
from mnistbench.reference.parameters import Array, Parameters
from mnistbench.task.workload import DTYPES, DType

Forward = tuple[list[Array], list[Array]]
"""Z_1, ..., Z_L and A_0, ..., A_L."""

T = TypeVar("T", bound=Callable[..., Any])


class Steps(NumpyMlpTrainer):
    """The honest computation, cut into the steps that a fault replaces."""

    def advance(self, iterations: int) -> Metrics:
        for _ in range(iterations):
            batch = self.batch(self._state.iteration)
            found = self.forward(batch)
            metrics = self.metrics(batch, found)
            self._state = self.update(self.gradient(batch, found))
        return metrics

    def gradients(self) -> Parameters:
        batch = self.batch(self._state.iteration)
        return self.gradient(batch, self.forward(batch))

    def batch(self, iteration: int) -> mlp.Batch:
        return self._batches(iteration)

    def forward(self, batch: mlp.Batch) -> Forward:
        return mlp.forward(self._state.parameters, batch.X, self.workload.network.activation, batch.masks)

    def gradient(self, batch: mlp.Batch, found: Forward) -> Parameters:
        return mlp.gradients(self.workload, self._state.parameters, batch, found)

    def update(self, gradient: Parameters) -> mlp.State:
        return mlp.update(self.workload, self._state, gradient)

    def metrics(self, batch: mlp.Batch, found: Forward) -> Metrics:
        return Metrics(self.loss(found[0][-1], batch.Y), self.accuracy(found[0][-1], batch.Y))

    def loss(self, logits: Array, Y: reference.Labels) -> float:
        return reference.cross_entropy(logits, Y)

    def accuracy(self, logits: Array, Y: reference.Labels) -> float:
        return reference.get_accuracy(reference.get_predictions(logits), Y)

    def metrics_now(self) -> Metrics:
        """Compute the metrics of the current parameters."""
        batch = self.batch(self._state.iteration)
        return self.metrics(batch, self.forward(batch))


@dataclass(frozen=True)
class Fault:
    """A wrong trainer, the dtypes in which the fault is large enough, and the options of the workload that show it."""

    trainer: type[NumpyMlpTrainer]
    dtypes: tuple[DType, ...]
    options: dict[str, Any]


class Faults(dict[str, Fault]):
    """Planted faults by name."""

    def __call__(
        self, method: str = "", *, base: type[Steps] = Steps, dtypes: tuple[DType, ...] = DTYPES, **options: Any
    ) -> Callable[[T], T]:
        """Register a trainer class, or ``base`` with a function in place of a method of it."""

        def register(fault: T) -> T:
            trainer: Any = type(fault.__name__, (base,), {method: fault}) if method else fault
            self[fault.__name__] = Fault(trainer, dtypes, options)
            return fault

        return register

    def each(
        self, method: str, functions: Mapping[str, Callable[..., Any]], base: type[Steps] = Steps, **options: Any
    ) -> None:
        """Register a trainer for each of the functions, by its name, which replaces that method of ``base``."""
        for name, function in functions.items():
            self[name] = Fault(type(name, (base,), {method: function}), DTYPES, options)


def scaled(gradient: Parameters, factor: float) -> Parameters:
    """Return ``factor`` times the gradient."""
    return Parameters.from_arrays(array.dtype.type(factor) * array for array in gradient.arrays())


def changed(parameters: Parameters, **arrays: Array) -> Parameters:
    """Return the parameters with other arrays in place of those named."""
    return Parameters.from_arrays(arrays.get(name, array) for name, array in parameters.named())
