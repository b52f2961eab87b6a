"""One timed round of a trainer, and the fresh parameters from which rounds start."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter, process_time

import numpy as np

from mnistbench.agreement import State, Trajectory
from mnistbench.agreement.checkpoints import along
from mnistbench.backends import Metrics, Trainer
from mnistbench.ranks.trainer import RanksTrainer
from mnistbench.reference.parameters import Parameters


@dataclass(frozen=True)
class Round:
    """Result of one timed round.

    Attributes:
        seconds: Duration of ``advance``.
        whole: Duration from before the reset until the trained parameters are on the host.
        cpu: CPU seconds that the process spent in ``advance``, of all its threads; with several ranks, all processes.
        metrics: Return value of ``advance``.
        parameters: Parameters after the round.
        exchange: Seconds that an iteration spent in the ranks' exchange, the least of all ranks; None without ranks.
    """

    seconds: float
    whole: float
    cpu: float
    metrics: Metrics
    parameters: Parameters
    exchange: float | None = None


Clock = Callable[[Trainer, Parameters, int], Round]
"""Function that resets a trainer to initial parameters, runs a number of iterations, and times them."""


def timed_round(trainer: Trainer, initial: Parameters, iterations: int) -> Round:
    """Time a training from ``initial``, from host to host, and ``advance`` alone within it."""
    begun = perf_counter()
    trainer.reset(initial)
    spent, start = process_time(), perf_counter()
    metrics = trainer.advance(iterations)
    seconds, spent = perf_counter() - start, process_time() - spent
    exchange = None
    if isinstance(trainer, RanksTrainer):
        spent += sum(rank.cpu for rank in trainer.spent[1:])
        exchange = trainer.waited
    # Copied inside the clock: an array that is still being written ends wrong.
    parameters = Parameters.from_arrays(np.array(array) for array in trainer.parameters().arrays())
    return Round(seconds, perf_counter() - begun, spent, metrics, parameters, exchange)


class Starts:
    """Fresh initial parameters, which no trainer has seen, and the reference's training from one of them.

    Trainings of the same parameters could be remembered, whatever the order of the units. So each round starts from
    others, drawn from the operating system's random numbers. A round among them, at a place that nobody can guess,
    starts from those of the reference.
    """

    def __init__(self, trajectory: Trajectory) -> None:
        self._trajectory = trajectory
        self.reference = secrets.randbits(63)
        """Seed of the parameters from which the reference trains too."""
        self._states: dict[int, State] = {}
        task = trajectory.workload
        stops = {place for stop in trajectory.forwards for place in (stop - 1, stop)}
        self._run = along(task, lambda k: trajectory.batches(k), self.parameters(self.reference), stops)

    def seeds(self, rounds: int, expected: int | None = None) -> list[int]:
        """Draw the seeds of a measurement's rounds, one of them that of the reference.

        Args:
            expected: Number of the first rounds, among which it is; None for all.
        """
        drawn = [secrets.randbits(63) for _ in range(rounds)]
        drawn[secrets.randbelow(expected or rounds)] = self.reference
        return drawn

    def end_with_reference(self, seeds: list[int], last: int) -> None:
        """Exchange seeds so that the reference's is among those up to number ``last``, which are all that run."""
        known = seeds.index(self.reference)
        if known > last:
            seeds[known], seeds[last] = seeds[last], seeds[known]

    def parameters(self, seed: int) -> Parameters:
        """Return the initial parameters of a seed, float64."""
        task = self._trajectory.workload
        return Parameters.initial(task.network, seed, task.recipe.initializer)

    @cached_property
    def own(self) -> Trajectory:
        """The reference's trajectory from its own seed, whose tolerances are those of that training."""
        given = self._trajectory
        return Trajectory(given.workload, given.dataset, self.parameters(self.reference))

    def ends(self, iterations: int) -> tuple[State, State]:
        """Return the reference's states before and after the last of some iterations, from its own seed.

        It trains as far as has been asked for.

        Raises:
            StopIteration: If the trajectory has no checkpoint after that many.
        """
        while iterations not in self._states:
            state = next(self._run)
            self._states[state.iteration] = state
        return self._states[iterations - 1], self._states[iterations]
