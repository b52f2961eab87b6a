"""One run of a trainer through a workload: reports, snapshots, patience, divergence."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from contextlib import nullcontext
from functools import partial

from mnistbench.backends import Metrics, Trainer
from mnistbench.datasets import Dataset
from mnistbench.exceptions import Diverged
from mnistbench.reference.evaluation import Score, score
from mnistbench.reference.mlp import State
from mnistbench.reference.parameters import Parameters
from mnistbench.task.recipe import Activation
from mnistbench.task.workload import Workload
from mnistbench.timing.clock import Costs, timed
from mnistbench.training.checkpoint import Past
from mnistbench.training.keeping import Keeper
from mnistbench.training.result import Progress, TrainingResult
from mnistbench.training.scores import final_scores

Callback = Callable[[Progress, Parameters], None]

EVERY = 10
"""Default number of iterations between reports of full-batch training."""


class Reports:
    """Iterations of a workload after which progress is reported."""

    def __init__(self, workload: Workload, every: int | None) -> None:
        """Choose every ``every``-th; by default every 10th, with mini-batches the last of each epoch and of all."""
        epoch = workload.iterations_per_epoch
        self._last = -1
        if every is not None or workload.recipe.batch_size is None:
            self._each = range(0, workload.iterations, every or EVERY)
        else:
            self._each = range(epoch - 1, workload.iterations, epoch)
            self._last = workload.iterations - 1

    def __contains__(self, iteration: int) -> bool:
        return iteration in self._each or iteration == self._last

    def following(self, done: int) -> int:
        """Return the number of iterations after which the next report is due, or that of all if there is none."""
        steps = max(0, -(-(done - self._each.start) // self._each.step))
        iteration = self._each.start + steps * self._each.step
        return min(iteration, self._each.stop - 1) + 1


class _NotFinite(Exception):
    """Iterations up to ``stop`` of which one made the loss or the ``previous`` parameters infinite or NaN."""

    def __init__(self, previous: Parameters, stop: int) -> None:
        super().__init__()
        self.previous, self.stop = previous, stop


class Run:
    """One run of a trainer through a workload, from its start or from where another was interrupted."""

    def __init__(
        self,
        trainer: Trainer,
        workload: Workload,
        dataset: Dataset,
        past: Past,
        costs: Costs,
        patience: int | None,
        keeper: Keeper | None,
    ) -> None:
        self._trainer, self._workload, self._dataset = trainer, workload, dataset
        self._costs, self._patience, self._keeper = costs, patience, keeper
        self._start, self._done, self.current = past.state, past.state.iteration, past.state.parameters
        self._reports, self._best, self._snapshots = [*past.reports], past.best, [*past.snapshots]
        self._costs.train = past.seconds

    def to_the_end(self, reports: Reports, snapshots: Collection[int], callback: Callback | None) -> None:
        """Run until the iterations or the patience end, and keep the parameters after each of the ``snapshots``."""
        try:
            with self._keeper.listening() if self._keeper else nullcontext():
                self._keep_snapshot(snapshots)
                while not self._finished():
                    later = (updates for updates in snapshots if updates > self._done)
                    metrics = self._advance_to(min(reports.following(self._done), self._workload.iterations, *later))
                    self._keep_snapshot(snapshots)
                    if self._done - 1 in reports:
                        self._report(metrics, callback)
                self._look()
        except _NotFinite as found:
            if self._keeper:  # the search may take as long as the training
                self._keeper.require_no_signal()
            iteration = self._first_infinite(found.previous, found.stop)
            raise Diverged(iteration, self._workload.learning_rate) from None

    def _keep_snapshot(self, wanted: Collection[int]) -> None:
        """Keep the parameters if they are wanted and a checkpoint has not brought them."""
        if self._done in wanted and all(updates != self._done for updates, _ in self._snapshots):
            self._snapshots.append((self._done, self.current))

    def _advance_to(self, stop: int) -> Metrics:
        """Run up to iteration ``stop``, with looks at the keeper in between; return the metrics of the last one."""
        while True:
            self._look()
            metrics = self._advance(self._keeper.stride(stop - self._done) if self._keeper else stop - self._done)
            if self._done == stop:
                return metrics

    def _advance(self, iterations: int) -> Metrics:
        metrics, seconds = timed(partial(self._trainer.advance, iterations))
        self._costs.train += seconds
        if self._keeper:
            self._keeper.took(iterations, seconds)
        previous, self.current = self.current, self._trainer.parameters()
        if not (math.isfinite(metrics.loss) and self.current.is_finite()):
            raise _NotFinite(previous, self._done + iterations)
        self._done += iterations
        return metrics

    def _look(self) -> None:
        if self._keeper:
            self._keeper.look(self._past, self._finished())

    def _past(self) -> Past:
        state = State(self._done, self.current, self._trainer.moments())
        return Past(state, self._reports, self._best, self._snapshots, self._costs.train, self._finished())

    def _finished(self) -> bool:
        """Return whether all iterations have run, or patience has ended."""
        if (
            self._patience is not None
            and self._best
            and self._reports[-1].epoch - self._best[0].epoch >= self._patience
        ):
            return True
        return self._done >= self._workload.iterations

    def _report(self, metrics: Metrics, callback: Callback | None) -> None:
        """Record the progress after the iteration with these metrics, and the lowest dev loss."""
        follow = self._patience is not None or self._workload.recipe.batch_size is not None
        dev = self._dev(self.current) if follow else None
        progress = self._progress(self._done - 1, Score(metrics.loss, metrics.accuracy), self._done, dev)
        self._reports.append(progress)
        if self._patience is not None and (
            self._best is None or (progress.dev_loss or 0) < (self._best[0].dev_loss or 0)
        ):
            self._best = progress, self.current
        if callback:
            callback(progress, self.current)

    def _progress(self, iteration: int, own: Score, updates: int, dev: Score | None) -> Progress:
        epoch = updates // self._workload.iterations_per_epoch
        dev_loss, dev_accuracy = dev or (None, None)
        return Progress(iteration, own.loss, own.accuracy, epoch, dev_loss, dev_accuracy, self._costs.train)

    def _dev(self, parameters: Parameters) -> Score | None:
        if not len(self._dataset.dev):
            return None
        return score(parameters, self._dataset.dev, self._workload.network.activation)

    def result(
        self,
        backend: str,
        resumed: tuple[tuple[int, str], ...],
        changes: tuple[str, ...],
        scored: Callable[[Parameters, Activation], Score] | None,
    ) -> TrainingResult:
        """Return the result, with patience that of the parameters with the lowest dev loss.

        Args:
            scored: Function that scores parameters on the training images of all ranks, if others hold some.
        """
        parameters, updates = self.current, self._done
        if self._best is not None:
            updates, parameters = self._best[0].iteration + 1, self._best[1]
        final = final_scores(parameters, self._workload, self._dataset, scored)
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
            snapshots=self._snapshots,
            resumed=resumed,
            changes=changes,
        )

    def _first_infinite(self, previous: Parameters, stop: int) -> int:
        """Repeat the iterations before ``stop`` one by one; return the first whose loss or update is not finite.

        The moments before them are gone. So only the classic goes on from ``previous``; every other workload starts
        again where this run did.
        """
        if self._workload.is_classic:
            self._trainer.reset(previous)
        else:
            if self._start.iteration:
                self._trainer.restore(self._start)
            else:
                self._trainer.reset(self._start.parameters)
            if self._done > self._start.iteration:
                self._trainer.advance(self._done - self._start.iteration)
        for iteration in range(self._done, stop):
            metrics = self._trainer.advance(1)
            if not (math.isfinite(metrics.loss) and self._trainer.parameters().is_finite()):
                return iteration
        return stop - 1
