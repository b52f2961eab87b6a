"""Training from start to end: drives a trainer, reports progress, measures the costs, returns what was learned."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

import mnistbench.backends as registry
from mnistbench.backends import Backend, Metrics, Trainer
from mnistbench.datasets import Dataset, Split
from mnistbench.errors import Diverged, ModelError, OptionError
from mnistbench.measurement.clock import Costs, timed
from mnistbench.network import Array, Parameters
from mnistbench.workload import DType, Workload

if TYPE_CHECKING:
    import pandas as pd


class ParametersLike(Protocol):
    """Anything with ``weights``, (out, in) arrays, and ``biases``, (out, 1) arrays, first layer first."""

    @property
    def weights(self) -> list[Array]: ...
    @property
    def biases(self) -> list[Array]: ...


@dataclass(frozen=True)
class TrainingResult:
    """What a run of training gave.

    Attributes:
        backend: its name.
        workload: what was computed.
        parameters: after the last update.
        metrics: at the iterations asked for, and at the end: the state after that many updates.
        accuracy, dev_accuracy, test_accuracy: of ``parameters``; None where the data set has no test images.
        loss: mean cross-entropy of the training images under ``parameters``.
        costs: import, load, compile, train, in seconds.
        description: what the trainer said of itself.
        snapshots: (updates done, parameters then), where asked for.
    """

    backend: str
    workload: Workload
    parameters: Parameters
    metrics: list[Metrics]
    accuracy: float
    dev_accuracy: float
    test_accuracy: float | None
    loss: float
    costs: Costs
    description: dict[str, Any]
    snapshots: list[tuple[int, Parameters]] = field(default_factory=list)

    @cached_property
    def history(self) -> pd.DataFrame:
        """The metrics as columns ``iteration``, ``loss``, ``accuracy``."""
        import pandas as pd  # a third of a second that a run without a table does not pay

        return pd.DataFrame(self.history_records(), columns=["iteration", "loss", "accuracy"])

    def history_records(self) -> list[dict[str, Any]]:
        """The metrics as JSON values."""
        return [{"iteration": m.iteration, "loss": m.loss, "accuracy": m.accuracy} for m in self.metrics]


def train(
    dataset: Dataset,
    backend: str = "numba",
    iterations: int = 500,
    learning_rate: float = 0.1,
    dtype: DType = "float32",
    parameters: ParametersLike | None = None,
    seed: int = 0,
    hidden: int | tuple[int, ...] = 10,
    every: int = 10,
    threads: int | None = None,
    snapshots: Collection[int] = (),
    progress: Callable[[Metrics], None] | None = None,
) -> TrainingResult:
    """Train a network on the data set's training images by full-batch gradient descent.

    Args:
        dataset: from :func:`mnistbench.load_data`.
        backend: a name that :func:`mnistbench.backends` lists.
        iterations: gradient steps.
        learning_rate: alpha.
        dtype: "float32" or "float64".
        parameters: initial values to start from; by default drawn from ``seed``.
        seed: for the initial values.
        hidden: units of the hidden layer; taken from ``parameters`` where those are given.
        every: record, and report to ``progress``, the metrics of every so many iterations, from 0.
        threads: how many of the host's to use; None for all that the process may.
        snapshots: after how many updates to keep a copy of the parameters.
        progress: called with the metrics while training goes on.

    Raises:
        UnknownBackend, BackendUnavailable, UnsupportedWorkload: the backend cannot do it.
        OptionError: a value out of range.
        ModelError: ``parameters`` do not fit the data set.
        Diverged: the loss or the parameters left the finite numbers; it names the iteration.
    """
    if every < 1:
        raise OptionError(f"every {every}: at least 1 iteration is needed")
    given = None if parameters is None else _given(parameters)
    network = dataset.network(*(hidden if isinstance(hidden, tuple) else (hidden,))) if given is None else given.network
    if (network.inputs, network.outputs) != (dataset.pixels, dataset.classes):
        raise ModelError(
            f"parameters of a {network} network do not fit the data: {dataset.source} has "
            f"{dataset.pixels} pixels and {dataset.classes} classes"
        )
    workload = Workload(network, len(dataset.train), iterations, learning_rate, dtype, seed)
    chosen = registry.require(backend)
    chosen.require(workload)
    initial = (given or Parameters.initial(network, seed)).astype(dtype)
    trainer, costs = load(chosen, workload, dataset, initial, threads)
    with trainer:
        costs.import_ = registry.import_seconds(backend)
        costs.compile += registry.probe_seconds(backend)
        recorded = set(range(0, iterations, every))
        stops = sorted({i + 1 for i in recorded} | {k for k in snapshots if 0 < k < iterations} | {iterations})
        metrics, kept = [], [(0, initial)] if 0 in snapshots else []
        done, current = 0, initial
        for stop in stops:
            found, seconds = timed(partial(trainer.advance, stop - done))
            costs.train += seconds
            previous, current = current, trainer.parameters()
            if not (math.isfinite(found.loss) and current.is_finite()):
                raise Diverged(_first_infinite(trainer, previous, done, stop), learning_rate)
            if found.iteration in recorded:
                metrics.append(found)
                if progress:
                    progress(found)
            if stop in snapshots:
                kept.append((stop, current))
            done = stop
        dev_accuracy = accuracy(trainer, dataset.dev)
        test_accuracy = accuracy(trainer, dataset.test) if dataset.test is not None else None
        # One iteration more than asked for, of which only the forward pass counts: it sees the final parameters.
        final = trainer.advance(1)
        if not math.isfinite(final.loss):
            raise Diverged(iterations - 1, learning_rate)
        return TrainingResult(
            backend=backend,
            workload=workload,
            parameters=current,
            metrics=[*metrics, final],
            accuracy=final.accuracy,
            dev_accuracy=dev_accuracy,
            test_accuracy=test_accuracy,
            loss=final.loss,
            costs=costs,
            description=trainer.describe(),
            snapshots=kept,
        )


def load(
    backend: Backend, workload: Workload, dataset: Dataset, initial: Parameters, threads: int | None
) -> tuple[Trainer, Costs]:
    """Start a trainer at iteration 0 with everything compiled, and say what loading and compiling cost.

    What the first iteration took longer than later ones is counted as compiling if it is more than such an
    iteration takes; less than that also happens by chance, and when memory is first touched.
    """
    costs = Costs()
    _, costs.compile = timed(lambda: backend.warm_up(workload, threads))
    trainer, costs.load = timed(lambda: backend.start(workload, dataset, initial, threads))
    first, *later = (timed(lambda: trainer.advance(1))[1] for _ in range(4))
    if first > 2 * max(later):
        costs.compile += first - statistics.median(later)
    trainer.reset(initial)
    return trainer, costs


def _given(parameters: ParametersLike) -> Parameters:
    """Somebody's initial values, checked."""
    own = Parameters([np.asarray(w) for w in parameters.weights], [np.asarray(b) for b in parameters.biases])
    if not own.is_finite():
        raise ModelError("parameters: hold values that are NaN or infinite")
    return own


def accuracy(trainer: Trainer, split: Split) -> float:
    """The fraction of the images that the trainer's current parameters classify as their label says."""
    return float(np.mean(trainer.predict(split.images) == split.labels))


def _first_infinite(trainer: Trainer, parameters: Parameters, first: int, stop: int) -> int:
    """Replay iterations ``first`` to ``stop`` - 1 one at a time; the first with an infinite or NaN loss or result."""
    trainer.reset(parameters)
    for iteration in range(first, stop):
        metrics = trainer.advance(1)
        if not (math.isfinite(metrics.loss) and trainer.parameters().is_finite()):
            return iteration
    return stop - 1
