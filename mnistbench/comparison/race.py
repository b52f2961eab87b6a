"""Rounds of a comparison: every contender in turn, each measured as :mod:`mnistbench.measurement` says."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from mnistbench import words
from mnistbench.agreement import Trajectory, last_checkpoint
from mnistbench.backends import Trainer
from mnistbench.comparison import Comparison, Contender, Progress, processes
from mnistbench.datasets import Dataset
from mnistbench.machine.bounds import beside_limits, prepare
from mnistbench.measurement import Measurement, Starts, timed_round
from mnistbench.measurement.bound import least_flops
from mnistbench.reference.parameters import Parameters
from mnistbench.results.row import speed_of
from mnistbench.task.workload import Workload
from mnistbench.timing import noise
from mnistbench.timing.clock import timed
from mnistbench.timing.orders import balanced
from mnistbench.training.scores import final_scores

Racing = Sequence[tuple[Contender, Trainer]]


@dataclass(frozen=True)
class _Entry:
    """A contender with its trainer and measurement in one process."""

    contender: Contender
    trainer: Trainer
    measurement: Measurement


SETTLE = 0.1
"""Seconds of rest before each round, in which threads of the previous one stop spinning."""


class Race:
    """Rounds of a comparison's contenders, in one process of each after the other.

    A contender that fails a check, or raises, gets no result, and the race goes on without it.
    """

    def __init__(self, comparison: Comparison, threads: int | None, progress: Progress) -> None:
        assert comparison.trajectory is not None, "the reference comes before the race"
        prepare()
        self._comparison, self._threads, self._progress = comparison, threads, progress
        self._trajectory: Trajectory = comparison.trajectory
        self._starts = Starts(self._trajectory)

    def run(self, racing: Racing) -> list[str]:
        """Check the trainers, run a process's rounds, and repeat some; return what disturbed the rounds.

        The first trainer of a contender is compared with the reference along the whole trajectory. That of a later
        process is not if it ends where the first one did, bit for bit.
        """
        entries = [_Entry(contender, trainer, self._measurement(contender, trainer)) for contender, trainer in racing]
        for entry in entries:
            self._check(entry)
        self._trajectory.free_images()
        team = self._comparison.team
        with noise.Watch() if team is None else team.watch() as watch:
            if entries:
                self._rounds(entries, watch)
        for entry in entries:
            entry.measurement.watched = [watch.record()]
            self._finish(entry)
        return [*watch.warnings()]

    def _measurement(self, contender: Contender, trainer: Trainer) -> Measurement:
        clock = processes.remote_round if isinstance(trainer, processes.RemoteTrainer) else timed_round
        return Measurement(trainer, contender.agreement, self._trajectory, clock)

    def _check(self, entry: _Entry) -> None:
        contender, measurement = entry.contender, entry.measurement
        self._show(contender, "is checked")
        if not contender.agreement.checks:
            self._step(entry, measurement.compare)
            self._step(entry, lambda: setattr(contender, "description", entry.trainer.describe()))
            self._step(entry, lambda: self._compare_elsewhere(entry))
            self._step(entry, lambda: self._choose(entry))
            self._step(entry, lambda: measurement.tie(contender.timed))
        else:
            self._step(entry, lambda: self._check_again(entry))
        self._show(contender, "ready")

    def _rounds(self, entries: Sequence[_Entry], watch: noise.Watch) -> None:
        """Run all rounds. Progress is shown between rounds only, since drawing would slow a round on few cores."""
        orders = balanced(len(entries))
        places = [self._comparison.contenders.index(entry.contender) for entry in entries]
        for entry in entries:
            entry.contender.runs.append([])
        # Each has weights of its own, so that no other trainer of its backend has seen them.
        expected = self._expected_rounds(entries)
        seeds = [self._starts.seeds(self._comparison.rounds, expected) for _ in entries]
        for number in range(self._comparison.rounds):
            if last := self._comparison.left <= 0:
                self._comparison.is_cut |= number + 1 < self._comparison.rounds
                for own in seeds:
                    self._starts.end_with_reference(own, number)
            order = next(orders)
            self._comparison.orders.append([places[place] for place in order])
            for place in order:
                entry, seed = entries[place], seeds[place][number]
                initial = self._starts.parameters(seed)
                contender, measurement = entry.contender, entry.measurement
                if contender.problem is None:
                    self._show(contender, "runs")
                    watch.look()
                    time.sleep(SETTLE)
                    self._step(entry, partial(measurement.round, seed, initial, contender.timed))
                    scale = self._comparison.workload.iterations / contender.timed
                    contender.runs[-1] = [seconds * scale for seconds in measurement.samples]
                    if measurement.last is not None:
                        contender.accuracy = measurement.last.accuracy
                    self._show(contender, "ready")
            if last:
                break

    def _expected_rounds(self, entries: Sequence[_Entry]) -> int:
        """Estimate how many rounds of all contenders the budget lasts for, by the time of one."""
        took = sum(SETTLE + entry.measurement.took for entry in entries if entry.contender.problem is None)
        most = self._comparison.rounds
        if took == 0 or took * most <= self._comparison.left:
            return most
        return min(most, 1 + max(0, int(self._comparison.left / took)))

    def _show(self, contender: Contender, state: str) -> None:
        contender.state = "out" if contender.problem else state
        self._progress(self._comparison)

    def _step(self, entry: _Entry, action: Callable[[], Any]) -> None:
        """Take a step of a contender that is still in the race; a failed check or an exception takes it out."""
        contender, measurement = entry.contender, entry.measurement
        if contender.problem is not None:
            return
        try:
            action()
            contender.problem = contender.problem or measurement.problem
        except Exception as error:
            contender.problem = words.exception(error)
        contender.agreement = measurement.agreement

    def _compare_elsewhere(self, entry: _Entry) -> None:
        isolated, team = self._comparison.isolated, self._comparison.team

        def start(task: Workload, dataset: Dataset, initial: Parameters) -> Trainer:
            return processes.start(entry.contender.backend, task, dataset, initial, self._threads, isolated, team)

        entry.measurement.compare_elsewhere(start)

    def _choose(self, entry: _Entry) -> None:
        """Choose the number of iterations of a contender's rounds by the time of a few."""
        entry.contender.timed = iterations = self._comparison.workload.iterations
        if self._comparison.longest < math.inf:
            few = max(1, iterations // 50)
            seconds = min(timed(partial(entry.trainer.advance, few))[1] for _ in range(2)) / few
            entry.contender.timed = last_checkpoint(iterations, self._comparison.longest / max(seconds, 1e-9))

    def _check_again(self, entry: _Entry) -> None:
        """Compare a later process's trainer with the reference, unless it ends where the first one did."""
        if not entry.measurement.repeats(entry.contender.timed):
            entry.measurement.compare()
            entry.measurement.tie(entry.contender.timed)

    def _finish(self, entry: _Entry) -> None:
        """Repeat some rounds, as their check, score the network, and sum up what was checked."""
        contender, measurement = entry.contender, entry.measurement
        self._show(contender, "repeats a round")
        self._step(entry, lambda: measurement.confirm(self._starts, contender.timed))
        self._step(entry, lambda: self._judge(entry))
        if self._comparison.energies and contender.energy is None:
            self._step(entry, lambda: measurement.count_energy(contender.timed))
            contender.energy = measurement.energy
        proof = measurement.proof()
        contender.proof = proof if contender.proof is None else contender.proof.with_process(proof)
        self._show(contender, "finished")

    def _judge(self, entry: _Entry) -> None:
        contender, measurement = entry.contender, entry.measurement
        task, dataset = self._comparison.workload.with_dtype(contender.dtype), self._trajectory.dataset
        contender.final = final_scores(measurement.agreement.states[task.iterations], task, dataset)
        contender.accuracy = contender.final.train_accuracy
        # Update the GPU's clocks and the exchange only: other contenders' libraries may have changed the rest.
        assert contender.description is not None, "it was described before it ran"
        now = measurement.describe()
        contender.description = replace(contender.description, gpu=now.gpu, ranks=now.ranks)
        measurement.judge(contender.description)
        speed = speed_of(task, contender.description, min(contender.samples), least_flops(task, dataset))
        contender.problem = measurement.problem or beside_limits(speed)[1]
