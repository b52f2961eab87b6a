"""Training from start to end: runs a trainer, reports progress, measures the costs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import numpy as np

import mnistbench.backends as registry
from mnistbench.backends import Backend, Metrics, Trainer, trials
from mnistbench.datasets import Dataset
from mnistbench.exceptions import Diverged, ModelError, OptionError
from mnistbench.reference.evaluation import Score, score
from mnistbench.reference.parameters import Array, Parameters
from mnistbench.task.recipe import Activation, Recipe
from mnistbench.task.workload import DType, Workload
from mnistbench.timing.clock import Costs, timed
from mnistbench.training.result import Progress, TrainingResult
from mnistbench.training.scores import final_scores

EVERY = 10
"""Default number of iterations between reports of full-batch training."""

_LATER = 3  # iterations with whose median the first one is compared


class ParametersLike(Protocol):
    """Anything with ``weights``, (out, in) arrays, and ``biases``, (out, 1) arrays, first layer first."""

    @property
    def weights(self) -> list[Array]: ...
    @property
    def biases(self) -> list[Array]: ...


Callback = Callable[[Progress, Parameters], None]


def train(
    dataset: Dataset,
    *,
    workload: Workload | None = None,
    backend: str = "numba",
    iterations: int | None = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    dtype: DType | None = None,
    seed: int | None = None,
    hidden: int | Sequence[int] | None = None,
    activation: Activation | None = None,
    recipe: Recipe | None = None,
    parameters: ParametersLike | None = None,
    every: int | None = None,
    threads: int | None = None,
    snapshots: Collection[int] = (),
    patience: int | None = None,
    callback: Callback | None = None,
) -> TrainingResult:
    """Train a network on the training images of a data set; by default the classic's network with its recipe.

    The options from ``iterations`` to ``recipe`` describe a workload; with ``workload`` they cannot be given.

    Args:
        dataset: Images from :func:`mnistbench.load_data` or, for a preset, :func:`mnistbench.load_images`.
        workload: Workload, such as a preset, for the number of training images that the data set has.
        backend: Name that :func:`mnistbench.list_backends` lists.
        iterations: Number of gradient steps, by default 500.
        epochs: Number of passes over all training images, in place of ``iterations``.
        learning_rate: Learning rate before any schedule, by default 0.1.
        dtype: "float32" (the default) or "float64".
        seed: Seed for the initial parameters and everything random in training, by default 0.
        hidden: Number of units of the hidden layer, or of each hidden layer; by default 10, or that of ``parameters``.
        activation: Activation of the hidden layers, by default "relu".
        recipe: Other options of training.
        parameters: Initial parameters; by default drawn from the seed.
        every: Number of iterations between reports; by default 10, with mini-batches an epoch.
        threads: Number of CPU threads; by default all that the process may use.
        snapshots: Numbers of updates after which to keep a copy of the parameters.
        patience: Stop after this many epochs without a lower dev loss; keep the parameters with the lowest.
        callback: Called with each :class:`Progress` and the parameters after it, while no clock runs.

    Raises:
        UnknownBackend, BackendUnavailable, UnsupportedWorkload: If the backend cannot train the workload.
        OptionError: If a value is out of range, or two options contradict each other.
        ModelError: If ``parameters`` do not fit the data set or the workload.
        Diverged: If the loss or the parameters become infinite or NaN; the error names the iteration.
    """
    initial = None if parameters is None else _given(parameters)
    given: dict[str, Any] = {"iterations": iterations, "epochs": epochs, "learning_rate": learning_rate}
    given |= {"dtype": dtype, "seed": seed, "hidden": hidden, "activation": activation, "recipe": recipe}
    options = {name: value for name, value in given.items() if value is not None}
    if workload is None:
        workload = _workload(dataset, initial, **options)
    elif options:
        raise OptionError(f"{', '.join(options)}: the workload says it already; change it with dataclasses.replace")
    _check(workload, dataset, initial, every, patience)
    chosen = registry.get_backend(backend)
    registry.refuse_unsupported(chosen, workload)
    initial = initial or Parameters.initial(workload.network, workload.seed, workload.recipe.initializer)
    initial = initial.astype(workload.dtype)
    trainer, costs = load(chosen, workload, dataset, initial, threads)
    with trainer:
        costs.import_ = registry.import_seconds(backend)
        costs.compile += registry.probe_seconds(backend)
        run = _Run(trainer, workload, dataset, initial, costs, patience)
        kept = run.to_the_end(_reported(workload, every), snapshots, callback)
        return run.result(backend, kept)


def _workload(
    dataset: Dataset,
    parameters: Parameters | None,
    hidden: int | Sequence[int] | None = None,
    activation: Activation = "relu",
    epochs: int | None = None,
    **options: Any,
) -> Workload:
    """Return the workload that the options of :func:`train` describe."""
    if epochs is not None and "iterations" in options:
        raise OptionError(f"{options['iterations']} iterations and {epochs} epochs: give one of them")
    if parameters is None or hidden is not None:
        units = 10 if hidden is None else hidden
        network = dataset.network(*(units if isinstance(units, Sequence) else (units,)))
    else:
        network = parameters.network
    workload = Workload(replace(network, activation=activation), len(dataset.train), **options)
    return workload if epochs is None else workload.for_epochs(epochs)


class _Run:
    """One run of a trainer through a workload."""

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
        self._reports: list[Progress] = []
        self._best: tuple[Progress, Parameters] | None = None
        self.current = initial

    def advance_to(self, stop: int) -> Metrics:
        """Run up to iteration ``stop`` and return the metrics of the last one."""
        metrics, seconds = timed(partial(self._trainer.advance, stop - self._done))
        self._costs.train += seconds
        previous, self.current = self.current, self._trainer.parameters()
        if not (math.isfinite(metrics.loss) and self.current.is_finite()):
            raise Diverged(self._first_infinite(previous, stop), self._workload.learning_rate)
        self._done = stop
        return metrics

    def to_the_end(
        self, reported: Collection[int], snapshots: Collection[int], callback: Callback | None
    ) -> list[tuple[int, Parameters]]:
        """Run until the iterations or the patience end; return the parameters after each of the ``snapshots``."""
        last = self._workload.iterations
        kept = [(0, self.current)] if 0 in snapshots else []
        for stop in sorted({i + 1 for i in reported} | {k for k in snapshots if 0 < k < last} | {last}):
            metrics = self.advance_to(stop)
            if stop in snapshots:
                kept.append((stop, self.current))
            if stop - 1 not in reported:
                continue
            progress = self.report(metrics)
            if callback:
                callback(progress, self.current)
            if self.exhausted(progress):
                break
        return kept

    def report(self, metrics: Metrics) -> Progress:
        """Record and return the progress after the iteration with these metrics."""
        follow = self._patience is not None or self._workload.recipe.batch_size is not None
        dev = self._dev(self.current) if follow else None
        self._reports.append(self._progress(self._done - 1, Score(metrics.loss, metrics.accuracy), self._done, dev))
        return self._reports[-1]

    def _progress(self, iteration: int, own: Score, updates: int, dev: Score | None) -> Progress:
        epoch = updates // self._workload.iterations_per_epoch
        dev_loss, dev_accuracy = dev or (None, None)
        return Progress(iteration, own.loss, own.accuracy, epoch, dev_loss, dev_accuracy, self._costs.train)

    def _dev(self, parameters: Parameters) -> Score | None:
        if not len(self._dataset.dev):
            return None
        return score(parameters, self._dataset.dev, self._workload.network.activation)

    def exhausted(self, progress: Progress) -> bool:
        """Return whether patience ends here, and remember the parameters with the lowest dev loss."""
        if self._patience is None or progress.dev_loss is None:
            return False
        if self._best is None or progress.dev_loss < (self._best[0].dev_loss or 0):
            self._best = progress, self.current
        return progress.epoch - self._best[0].epoch >= self._patience

    def result(self, backend: str, snapshots: list[tuple[int, Parameters]]) -> TrainingResult:
        """Return the result, with patience that of the parameters with the lowest dev loss."""
        parameters, updates = self.current, self._done
        if self._best is not None:
            updates, parameters = self._best[0].iteration + 1, self._best[1]
        final = final_scores(parameters, self._workload, self._dataset)
        if not math.isfinite(final.loss):
            raise Diverged(updates - 1, self._workload.learning_rate)
        dev = self._dev(parameters) if any(progress.dev_loss is not None for progress in self._reports) else None
        last = self._progress(updates, Score(final.loss, final.train_accuracy), updates, dev)
        return TrainingResult(
            backend=backend,
            workload=self._workload,
            parameters=parameters,
            metrics=[*self._reports, last],
            accuracy=final.train_accuracy,
            dev_accuracy=final.dev_accuracy,
            test_accuracy=final.test_accuracy,
            loss=final.loss,
            updates=updates,
            iterations=self._done,
            costs=self._costs,
            description=self._trainer.describe(),
            snapshots=snapshots,
        )

    def _first_infinite(self, previous: Parameters, stop: int) -> int:
        """Repeat the iterations before ``stop`` one by one; return the first whose loss or update is not finite.

        A trainer cannot start in the middle of an epoch or with an optimizer's moments. So only the classic resumes
        from ``previous``; every other workload starts again.
        """
        if self._workload.is_classic:
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
    """Return the iterations after which progress is reported."""
    if every is not None or workload.recipe.batch_size is None:
        return range(0, workload.iterations, every or EVERY)
    epoch = workload.iterations_per_epoch
    return {*range(epoch - 1, workload.iterations, epoch), workload.iterations - 1}


def _check(
    workload: Workload, dataset: Dataset, given: Parameters | None, every: int | None, patience: int | None
) -> None:
    """Check the options against the data, before anything is loaded."""
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
    """Start a trainer at iteration 0 with everything compiled, and return what that cost."""
    costs, before = Costs(), trials.tuning_seconds()
    _, warming = timed(lambda: backend.warm_up(workload, threads))
    between = trials.tuning_seconds()
    trainer, loading = timed(lambda: backend.start(workload, dataset, initial, threads))
    costs.tuning = trials.tuning_seconds() - before
    costs.compile = warming - (between - before)
    costs.load = loading - (trials.tuning_seconds() - between)
    first, *later = (timed(lambda: trainer.advance(1))[1] for _ in range(1 + _LATER))
    costs.first_call = first - statistics.median(later)
    trainer.reset(initial)
    return trainer, costs


def _given(parameters: ParametersLike) -> Parameters:
    """Convert and check the parameters that a caller gave."""
    given = Parameters([np.asarray(w) for w in parameters.weights], [np.asarray(b) for b in parameters.biases])
    if not given.is_finite():
        raise ModelError("parameters: hold values that are NaN or infinite")
    return given
