"""Rounds of a comparison: every contender in turn, each measured as :mod:`mnistbench.measurement` says."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from mnistbench import words
from mnistbench.agreement import Trajectory
from mnistbench.backends import Trainer
from mnistbench.comparison import Comparison, Contender, Progress, processes
from mnistbench.datasets import Dataset
from mnistbench.machine.bounds import beside_limits
from mnistbench.measurement import Measurement, Starts, timed_round
from mnistbench.measurement.bound import least_flops
from mnistbench.reference.parameters import Parameters
from mnistbench.results.row import speed_of
from mnistbench.task.workload import Workload
from mnistbench.timing import noise
from mnistbench.training.scores import final_scores

Racing = Sequence[tuple[Contender, Trainer]]

SETTLE = 0.1
"""Seconds of rest before each round, in which threads of the previous one stop spinning."""


class Race:
    """Contenders with their trainers, and the rounds that they run.

    A contender that fails a check, or raises, gets no result, and the race goes on without it.
    """

    def __init__(self, comparison: Comparison, racing: Racing, threads: int | None, progress: Progress) -> None:
        assert comparison.trajectory is not None, "the reference comes before the race"
        self._comparison, self._threads, self._progress = comparison, threads, progress
        self._trajectory: Trajectory = comparison.trajectory
        self._measured = [(contender, trainer, self._measurement(contender, trainer)) for contender, trainer in racing]
        self._starts = Starts(self._trajectory)

    def _measurement(self, contender: Contender, trainer: Trainer) -> Measurement:
        clock = processes.remote_round if isinstance(trainer, processes.RemoteTrainer) else timed_round
        return Measurement(trainer, contender.agreement, self._trajectory, clock)

    def check(self) -> None:
        """Compare every trainer with the reference along the whole trajectory, which is also the warm-up."""
        for contender, trainer, measurement in self._measured:
            self._show(contender, "is checked")
            self._guarded(measurement.compare, contender, measurement)
            if contender.problem is None:
                self._guarded(partial(self._describe, contender, trainer), contender, measurement)
                self._guarded(partial(self._compare_elsewhere, contender, measurement), contender, measurement)
            if contender.problem is None:
                self._guarded(partial(measurement.tie, self._iterations), contender, measurement)
            self._show(contender, "ready")

    def run(self, watch: noise.Watch) -> None:
        """Run all rounds. Progress is shown between rounds only, since drawing would slow a round on few cores."""
        order = random.SystemRandom()
        for seed in self._starts.seeds(self._comparison.rounds):
            initial = self._starts.parameters(seed)
            for contender, _, measurement in order.sample(self._measured, len(self._measured)):
                if contender.problem is None:
                    self._show(contender, "runs")
                    watch.look()
                    time.sleep(SETTLE)
                    self._guarded(partial(measurement.round, seed, initial, self._iterations), contender, measurement)
                    contender.samples = measurement.samples
                    last = measurement.last
                    contender.accuracy = last.accuracy if last is not None else contender.accuracy
                    self._show(contender, "ready")

    def finish(self) -> None:
        """Repeat some rounds, as their checks, and score the networks."""
        for contender, trainer, measurement in self._measured:
            if contender.problem is None:
                self._show(contender, "repeats a round")
                self._guarded(partial(measurement.confirm, self._starts, self._iterations), contender, measurement)
            if contender.problem is None:
                self._guarded(partial(self._finish, contender, trainer, measurement), contender, measurement)
            self._show(contender, "finished")

    @property
    def _iterations(self) -> int:
        return self._comparison.workload.iterations

    def _show(self, contender: Contender, state: str) -> None:
        contender.state = "out" if contender.problem else state
        self._progress(self._comparison)

    def _guarded(self, action: Callable[[], Any], contender: Contender, measurement: Measurement) -> None:
        """Take a step of a contender; a failed check or an exception takes it out of the race."""
        try:
            action()
            contender.problem = contender.problem or measurement.problem
        except Exception as error:
            contender.problem = words.exception(error)
        contender.agreement = measurement.agreement

    def _compare_elsewhere(self, contender: Contender, measurement: Measurement) -> None:
        def start(task: Workload, dataset: Dataset, initial: Parameters) -> Trainer:
            return processes.start(contender.backend, task, dataset, initial, self._threads, self._comparison.isolated)

        measurement.compare_elsewhere(start, self._trajectory.dataset.image_shape)

    def _describe(self, contender: Contender, trainer: Trainer) -> None:
        contender.description = trainer.describe()

    def _finish(self, contender: Contender, trainer: Trainer, measurement: Measurement) -> None:
        task, dataset = self._comparison.workload.with_dtype(contender.dtype), self._trajectory.dataset
        contender.final = final_scores(measurement.agreement.states[task.iterations], task, dataset)
        contender.accuracy = contender.final.train_accuracy
        # Update the GPU's clocks only: other contenders' libraries may have changed the rest.
        assert contender.description is not None, "it was described before it ran"
        contender.description = replace(contender.description, gpu=trainer.describe().gpu)
        measurement.judge(contender.description)
        speed = speed_of(task, contender.description, min(contender.samples), least_flops(task, dataset))
        contender.problem = measurement.problem or beside_limits(speed)[1]
        contender.proof = measurement.proof()
