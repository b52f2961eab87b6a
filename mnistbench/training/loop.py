"""Training from start to end: drives a trainer, reports progress, measures the costs, returns what was learned."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

import mnistbench.backends as registry
from mnistbench.backends import Backend, Metrics, Trainer
from mnistbench.datasets import Dataset, Split
from mnistbench.exceptions import Diverged, ModelError, OptionError
from mnistbench.reference.evaluation import Score, score
from mnistbench.reference.parameters import Array, Parameters
from mnistbench.task.recipe import Activation, Recipe
from mnistbench.task.workload import DType, Workload
from mnistbench.timing.clock import Costs, timed

if TYPE_CHECKING:
    import pandas as pd

ITERATIONS = 500
"""Where neither iterations nor epochs are given."""

EVERY = 10
"""Where every iteration takes all images, and nothing else is asked for, one in so many is reported."""


class ParametersLike(Protocol):
    """Anything with ``weights``, (out, in) arrays, and ``biases``, (out, 1) arrays, first layer first."""

    @property
    def weights(self) -> list[Array]: ...
    @property
    def biases(self) -> list[Array]: ...


@dataclass(frozen=True)
class Report(Metrics):
    """What is said of training on the way: the metrics of an iteration, and how the dev images fare after it.

    The metrics are the iteration's own: with batches those of one batch, before its update, as dropout and augmentation
    have it, and noisy. The dev images are seen as they are, by the parameters after the update.

    Attributes:
        epoch: how many are complete after the iteration.
        dev_loss, dev_accuracy: with batches or patience, where there are dev images; else None.
        seconds: of training until here.
    """

    epoch: int = 0
    dev_loss: float | None = None
    dev_accuracy: float | None = None
    seconds: float = field(default=0.0, compare=False)


Watch = Callable[[Report, Parameters], None]


@dataclass(frozen=True)
class TrainingResult:
    """What a run of training gave.

    Attributes:
        backend: its name.
        workload: what was computed.
        parameters: after the last update; with patience, those with the least dev loss of all that were reported.
        metrics: at the iterations asked for, and in the end ``loss`` and ``accuracy``: the state after ``updates``.
        accuracy, dev_accuracy, test_accuracy: of ``parameters``; None where the data set has no such images.
        loss: mean cross-entropy of the training images under ``parameters``, as they are and without dropout.
        updates: how many made ``parameters``.
        iterations: how many were run: the workload's, or less where patience ended.
        costs: import, load, compile, train, in seconds.
        description: what the trainer said of itself.
        snapshots: (updates done, parameters then), where asked for.
    """

    backend: str
    workload: Workload
    parameters: Parameters
    metrics: list[Report]
    accuracy: float
    dev_accuracy: float | None
    test_accuracy: float | None
    loss: float
    updates: int
    iterations: int
    costs: Costs
    description: dict[str, Any]
    snapshots: list[tuple[int, Parameters]] = field(default_factory=list)

    @property
    def epoch(self) -> int:
        """After how many complete epochs ``parameters`` are taken."""
        return self.updates // self.workload.iterations_per_epoch

    @cached_property
    def history(self) -> pd.DataFrame:
        """The metrics as columns ``iteration``, ``loss``, ``accuracy``; where dev was followed or there are batches,
        also ``epoch``, ``dev_loss`` and ``dev_accuracy``."""
        import pandas as pd  # a third of a second that a run without a table does not pay

        return pd.DataFrame(self.history_records())

    def history_records(self) -> list[dict[str, Any]]:
        """The metrics as JSON values."""
        columns = ["iteration", "loss", "accuracy"]
        if self.workload.recipe.batch_size is not None or any(m.dev_loss is not None for m in self.metrics):
            columns = ["epoch", *columns, "dev_loss", "dev_accuracy"]
        return [{column: getattr(metrics, column) for column in columns} for metrics in self.metrics]


def train(
    dataset: Dataset,
    backend: str = "numba",
    iterations: int | None = None,
    learning_rate: float = 0.1,
    dtype: DType = "float32",
    parameters: ParametersLike | None = None,
    seed: int = 0,
    hidden: int | tuple[int, ...] = 10,
    every: int | None = None,
    threads: int | None = None,
    snapshots: Collection[int] = (),
    progress: Callable[[Report], None] | None = None,
    *,
    epochs: int | None = None,
    activation: Activation = "relu",
    recipe: Recipe | None = None,
    patience: int | None = None,
) -> TrainingResult:
    """Train a network on the data set's training images, by default by full-batch gradient descent.

    Args:
        dataset: from :func:`mnistbench.load_data`.
        backend: a name that :func:`mnistbench.backends` lists.
        iterations: gradient steps; 500 where there are no ``epochs`` either.
        learning_rate: alpha, before any schedule.
        dtype: "float32" or "float64".
        parameters: initial values to start from; by default drawn from ``seed``.
        seed: for the initial values, and all that is random in training.
        hidden: units of the hidden layer, or of each of them; taken from ``parameters`` where those are given.
        epochs: instead of ``iterations``, how often to use every image.
        activation: of the hidden layers.
        recipe: every other option of training.
        every, threads, snapshots, progress, patience: as :func:`train_workload` has them.

    Raises:
        UnknownBackend, BackendUnavailable, UnsupportedWorkload: the backend cannot do it.
        OptionError: a value out of range, or both iterations and epochs.
        ModelError: ``parameters`` do not fit the data set.
        Diverged: the loss or the parameters left the finite numbers; it names the iteration.
    """
    if epochs is not None and iterations is not None:
        raise OptionError(f"{iterations} iterations and {epochs} epochs: give one of them")
    given = None if parameters is None else _given(parameters)
    network = dataset.network(*(hidden if isinstance(hidden, tuple) else (hidden,))) if given is None else given.network
    workload = Workload(
        replace(network, activation=activation),
        len(dataset.train),
        ITERATIONS if iterations is None else iterations,
        learning_rate,
        dtype,
        seed,
        recipe=recipe or Recipe(),
    )
    return train_workload(
        workload if epochs is None else workload.for_epochs(epochs),
        dataset,
        backend,
        parameters=given,
        every=every,
        threads=threads,
        snapshots=snapshots,
        progress=progress,
        patience=patience,
    )


def train_workload(
    workload: Workload,
    dataset: Dataset,
    backend: str = "numba",
    *,
    parameters: ParametersLike | None = None,
    every: int | None = None,
    threads: int | None = None,
    snapshots: Collection[int] = (),
    progress: Callable[[Report], None] | None = None,
    patience: int | None = None,
    watch: Watch | None = None,
) -> TrainingResult:
    """Train a workload, such as a preset, on a data set with as many training images.

    Args:
        workload: what to compute.
        dataset: for a preset, from :func:`mnistbench.load_images`.
        backend: a name that :func:`mnistbench.backends` lists.
        parameters: initial values to start from; by default drawn from the workload's seed.
        every: record, and report to ``progress``, the metrics of every so many iterations, from 0; by default every
            tenth, or, with batches, the last one of every epoch.
        threads: how many of the host's to use; None for all that the process may.
        snapshots: after how many updates to keep a copy of the parameters.
        progress: called with each report while training goes on.
        patience: stop when the dev loss, wherever it is reported, was not below its least for so many epochs, and
            keep the parameters that had it.
        watch: called with each report and the parameters after it; outside of what is timed.

    Raises:
        as :func:`train`.
    """
    given = None if parameters is None else _given(parameters)
    _check(workload, dataset, given, every, patience)
    chosen = registry.require(backend)
    chosen.require(workload)
    drawn = given or Parameters.initial(workload.network, workload.seed, workload.recipe.initializer)
    initial = drawn.astype(workload.dtype)
    trainer, costs = load(chosen, workload, dataset, initial, threads)
    with trainer:
        costs.import_ = registry.import_seconds(backend)
        costs.compile += registry.probe_seconds(backend)
        run = _Run(trainer, workload, dataset, initial, costs, patience)
        reported = _reported(workload, every)
        last = workload.iterations
        kept = [(0, initial)] if 0 in snapshots else []
        for stop in sorted({i + 1 for i in reported} | {k for k in snapshots if 0 < k < last} | {last}):
            found = run.advance_to(stop)
            if stop in snapshots:
                kept.append((stop, run.current))
            if stop - 1 not in reported:
                continue
            report = run.report(found)
            if progress:
                progress(report)
            if watch:
                watch(report, run.current)
            if run.exhausted(report):
                break
        return run.result(backend, kept)


class _Run:
    """A trainer on its way through a workload, and what is known of it."""

    def __init__(
        self,
        trainer: Trainer,
        workload: Workload,
        dataset: Dataset,
        initial: Parameters,
        costs: Costs,
        patience: int | None,
    ) -> None:
        self._trainer, self._workload, self._dataset, self._initial = trainer, workload, dataset, initial
        self._costs, self._patience = costs, patience
        self._done = 0
        self._reports: list[Report] = []
        self._best: tuple[Report, Parameters] | None = None
        self.current = initial

    def advance_to(self, stop: int) -> Metrics:
        """Run the iterations before ``stop`` that are not done; the metrics of the last."""
        found, seconds = timed(partial(self._trainer.advance, stop - self._done))
        self._costs.train += seconds
        previous, self.current = self.current, self._trainer.parameters()
        if not (math.isfinite(found.loss) and self.current.is_finite()):
            raise Diverged(self._first_infinite(previous, stop), self._workload.learning_rate)
        self._done = stop
        return found

    def report(self, found: Metrics) -> Report:
        """What to say after the iteration of these metrics, which is kept."""
        wanted = self._patience is not None or self._workload.recipe.batch_size is not None
        dev = self._dev(self.current) if wanted else None
        self._reports.append(self._as_report(found.iteration, Score(found.loss, found.accuracy), self._done, dev))
        return self._reports[-1]

    def _as_report(self, iteration: int, own: Score, updates: int, dev: Score | None) -> Report:
        epoch = updates // self._workload.iterations_per_epoch
        dev_loss, dev_accuracy = dev or (None, None)
        return Report(iteration, own.loss, own.accuracy, epoch, dev_loss, dev_accuracy, self._costs.train)

    def _dev(self, parameters: Parameters) -> Score | None:
        if not len(self._dataset.dev):
            return None
        return score(parameters, self._dataset.dev, self._workload.network.activation)

    def exhausted(self, report: Report) -> bool:
        """Whether patience ends with this report."""
        if self._patience is None or report.dev_loss is None:
            return False
        if self._best is None or report.dev_loss < (self._best[0].dev_loss or 0):
            self._best = report, self.current
        return report.epoch - self._best[0].epoch >= self._patience

    def result(self, backend: str, snapshots: list[tuple[int, Parameters]]) -> TrainingResult:
        """What came of it, by the best parameters if there was patience, else by the last."""
        parameters, updates = self.current, self._done
        if self._best is not None:
            updates, parameters = self._best[0].iteration + 1, self._best[1]
            self._trainer.reset(parameters)
        dataset = self._dataset
        dev_accuracy, test_accuracy = (accuracy(self._trainer, split) for split in (dataset.dev, dataset.test))
        final, _ = final_score(self._trainer, self._workload, dataset.train)
        if not math.isfinite(final.loss):
            raise Diverged(updates - 1, self._workload.learning_rate)
        dev = self._dev(parameters) if any(report.dev_loss is not None for report in self._reports) else None
        return TrainingResult(
            backend=backend,
            workload=self._workload,
            parameters=parameters,
            metrics=[*self._reports, self._as_report(updates, final, updates, dev)],
            accuracy=final.accuracy,
            dev_accuracy=dev_accuracy,
            test_accuracy=test_accuracy,
            loss=final.loss,
            updates=updates,
            iterations=self._done,
            costs=self._costs,
            description=self._trainer.describe(),
            snapshots=snapshots,
        )

    def _first_infinite(self, previous: Parameters, stop: int) -> int:
        """The first iteration before ``stop`` with an infinite or NaN loss or result, found one by one.

        A trainer can start from any parameters, but not in the middle of an epoch or with an optimizer's moments, so
        that what goes beyond the classic is computed again from its beginning.
        """
        if self._workload.beyond_classic is None:
            self._trainer.reset(previous)
        else:
            self._trainer.reset(self._initial)
            if self._done:
                self._trainer.advance(self._done)
        for iteration in range(self._done, stop):
            metrics = self._trainer.advance(1)
            if not (math.isfinite(metrics.loss) and self._trainer.parameters().is_finite()):
                return iteration
        return stop - 1


def _reported(workload: Workload, every: int | None) -> Collection[int]:
    """The iterations whose metrics are reported."""
    if every is not None or workload.recipe.batch_size is None:
        return range(0, workload.iterations, every or EVERY)
    epoch = workload.iterations_per_epoch
    return {*range(epoch - 1, workload.iterations, epoch), workload.iterations - 1}


def _check(
    workload: Workload, dataset: Dataset, given: Parameters | None, every: int | None, patience: int | None
) -> None:
    """Refuse what cannot be before anything is loaded."""
    if every is not None and every < 1:
        raise OptionError(f"every {every}: at least 1 iteration is needed")
    if patience is not None and patience < 1:
        raise OptionError(f"patience {patience}: at least 1 epoch is needed")
    if patience is not None and not len(dataset.dev):
        raise OptionError(f"patience {patience}: there are no dev images to judge by; hold some out, by the dev size")
    network = workload.network if given is None else given.network
    what = "the workload" if given is None else "parameters"
    if (network.inputs, network.outputs) != (dataset.pixels, dataset.classes):
        raise ModelError(
            f"{what} of a {network} network cannot fit the data: {dataset.source} has "
            f"{dataset.pixels} pixels and {dataset.classes} classes"
        )
    if network.sizes != workload.network.sizes:
        raise ModelError(f"parameters of a {network} network: the workload is of a {workload.network} network")
    if workload.images != len(dataset.train):
        raise OptionError(
            f"{workload.images} images: {dataset.source} has {len(dataset.train)} to train on; load as many"
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


def final_score(trainer: Trainer, workload: Workload, split: Split) -> tuple[Score, Metrics]:
    """Of all training images as they are, under the current parameters; and the iteration more that is run for it.

    Where an iteration takes all images as they are, only its forward pass counts, which sees these parameters.
    """
    parameters, recipe = trainer.parameters(), workload.recipe
    found = trainer.advance(1)
    if recipe.batch_size is not None or any(recipe.dropout) or recipe.augmentation:
        return score(parameters, split, workload.network.activation), found
    return Score(found.loss, found.accuracy), found


def _given(parameters: ParametersLike) -> Parameters:
    """Somebody's initial values, checked."""
    own = Parameters([np.asarray(w) for w in parameters.weights], [np.asarray(b) for b in parameters.biases])
    if not own.is_finite():
        raise ModelError("parameters: hold values that are NaN or infinite")
    return own


def accuracy(trainer: Trainer, split: Split | None) -> float | None:
    """The fraction of the images that the trainer's current parameters classify as their label says; None of none."""
    if not split:
        return None
    return float(np.mean(trainer.predict(split.images) == split.labels))
