"""Timed rounds of a trainer, tied to the run of it that was compared with the reference.

What is timed has to be what was compared. So every measurement, by ``mnistbench compare`` or ``pytest benchmarks/``,
goes through :class:`Measurement`. docs/honesty.md says what each of its checks is for:

1. The trainer is compared with the reference along the whole training, in pieces of a few iterations, and another
   trainer of its backend on random images.
2. One call of all timed iterations ends where these pieces did, bit for bit.
3. Rounds are timed, each from fresh random parameters; a GPU works before, so that its clock has risen.
4. Two of them, chosen after all are over, are repeated in pieces, bit for bit, and one is compared with the reference.

The rate and the CPU seconds of the rounds must be possible. All checks are outside of the timed rounds.
"""

from __future__ import annotations

import functools
import secrets
import statistics
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Concatenate, ParamSpec

import numpy as np

from mnistbench import words
from mnistbench.agreement import (
    Agreement,
    Check,
    Trajectory,
    check_round,
    check_trainer,
    check_training_loss,
    check_update,
)
from mnistbench.agreement.other_images import Start, compare_other_images
from mnistbench.backends import Description, Metrics, Trainer
from mnistbench.machine import energy as counters
from mnistbench.machine import nvidia
from mnistbench.measurement import energy
from mnistbench.measurement.energy import Energy
from mnistbench.measurement.proof import CHECKS, Proof
from mnistbench.measurement.rounds import Clock, Round, Starts, timed_round
from mnistbench.reference.parameters import Array, Parameters
from mnistbench.task.workload import DType

__all__ = ["CHECKS", "Clock", "Energy", "Measurement", "Proof", "Round", "Starts", "timed_round"]

P = ParamSpec("P")

REPEATED = 2
"""Number of rounds that are repeated in pieces, the reference's among them."""

UPDATES = 3
"""Number of updates at random places of a classic round that the reference makes, besides its first and its last."""

Update = tuple[int, Parameters, Parameters, Metrics]
"""Iteration, parameters before and after it, and its metrics."""

LATE = 0.05
"""Fraction of a round by which it may take longer from host to host than ``advance`` alone."""

LATE_FLOOR = 1e-3
"""Seconds that it may take longer besides. If it takes still longer, the time from host to host is the round's."""

ELSEWHERE = 4.0
"""Factor for tolerances that were found along another training of the same workload."""

ALONG = 4.0
"""Factor for tolerances along the very training. Twins do not meet everything that rounding may do from weights at
random. With two of them, and 1 eps of noise, one start of 25 had trainings of "deep" in float32 at 2.5 of these
tolerances, and all others were below 1.4; those from ELSEWHERE did not hold for 17 trainings of 100."""

SPREADS = 4.0
"""Largest distance of one call's end from that of pieces, as a multiple of the distance between repeated pieces."""

SPIN = 0.2
"""Seconds that a GPU works before each round: idle, it lowers its clock, and the first milliseconds are slow."""

MORE_THREADS = 0.3
"""CPU seconds a second beyond the declared threads that the interpreter and libraries may spend."""

MEASURABLE = 0.05
"""Seconds of rounds from which CPU seconds are compared with them; less is not counted precisely everywhere."""


def _step(
    action: Callable[Concatenate[Measurement, P], None],
) -> Callable[Concatenate[Measurement, P], None]:
    """Make an exception of a method the measurement's problem, and skip the method if there is one already."""

    @functools.wraps(action)
    def step(self: Measurement, /, *arguments: P.args, **options: P.kwargs) -> None:
        if self.problem is None:
            try:
                action(self, *arguments, **options)
            except Exception as error:  # a faulty backend may raise anything
                self.problem = words.exception(error)

    return step


class Measurement:
    """Measurement of one trainer. Once it has a problem, its further steps do nothing.

    Attributes:
        trainer: Trainer that is measured.
        agreement: Agreement of the trainer with the reference, with the checks of rounds.
        problem: Reason why it has no result, or None.
        watched: What was seen of the machine during the rounds.
        energy: Energy of a training; None if it was not measured.
        took: Seconds of the one call that was compared, from host to host; 0 before.
    """

    def __init__(
        self, trainer: Trainer, agreement: Agreement, trajectory: Trajectory, clock: Clock = timed_round
    ) -> None:
        """Prepare to measure a newly started trainer."""
        self.agreement = agreement
        self.problem: str | None = None
        self.trainer, self._trajectory, self._clock = trainer, trajectory, clock
        self.watched: list[Mapping[str, float]] = []
        self.energy: Energy | None = None
        self.took = 0.0
        self._checks: list[str] = []
        self._seeds: list[int] = []
        self._rounds: list[Round] = []

    @_step
    def compare(self, gradients: bool = True) -> None:
        """Compare the trainer with the reference along the whole training, which also warms it up.

        Args:
            gradients: Whether to compare gradients too.
        """
        self.agreement = check_trainer(self.trainer, self.agreement, self._trajectory, gradients)
        if not self.agreement.passed:
            self.problem = f"disagrees with the reference: {self.agreement.summary()}"
        self._passed("trajectory")

    @_step
    def compare_elsewhere(self, start: Start) -> None:
        """Compare the backend with the reference on random images too.

        Args:
            start: Function that starts the backend on a workload, a data set and initial parameters.
        """
        task = self._trajectory.workload.with_dtype(self._dtype)
        agreement = Agreement(self.agreement.backend, self._dtype)
        found = compare_other_images(start, agreement, task, self._trajectory.dataset)
        if not found.passed:
            self.problem = f"disagrees with the reference on random images: {found.summary()}"
        self._passed("other images")

    @_step
    def tie(self, iterations: int) -> None:
        """Require that one call ends where the compared pieces did.

        Args:
            iterations: Number of iterations; one of the trajectory's checkpoints.
        """
        initial = self._trajectory.fresh()
        found = self._clock(self.trainer, initial, iterations)
        self.took = found.whole
        what = f"one call of {words.counted(iterations, 'iteration')}"
        checks = check_round(found.parameters, found.metrics, self._dtype, self._trajectory, iterations)
        self.agreement.checks.extend(checks)
        self._require(what, checks)
        expected = self.agreement.states[iterations]
        if self.problem is None and not _equal(found.parameters, expected):
            self._require_near(what, found, expected, initial, iterations)
        self._passed("one call")

    def repeats(self, iterations: int) -> bool:
        """Whether one call ends where an earlier process's compared pieces did, bit for bit.

        If not, as where a library chooses another way of computing, the trainer has to be compared itself.
        """
        found = self._clock(self.trainer, self._trajectory.fresh(), iterations)
        self.took = found.whole
        equal = _equal(found.parameters, self.agreement.states[iterations])
        if equal:
            self._passed("one call")
        else:
            self.agreement = Agreement(self.agreement.backend, self._dtype)
            self.trainer.reset(self._trajectory.fresh())
        return equal

    @_step
    def round(self, seed: int, initial: Parameters, iterations: int) -> None:
        """Time a round from the initial parameters of a seed; all rounds have the same number of iterations."""
        self._spin_up()
        found = self._clock(self.trainer, initial, iterations)
        if found.seconds <= 0:
            self.problem = "a round took no time"
        self._seeds.append(seed)
        self._rounds.append(found)

    def _spin_up(self) -> None:
        """Let a GPU work until its clock has risen."""
        if not self.on_gpu:
            return
        few = max(1, self._trajectory.workload.iterations // 50)
        end = time.perf_counter() + SPIN
        while time.perf_counter() < end:
            self.trainer.advance(few)

    @functools.cached_property
    def on_gpu(self) -> bool:
        """Whether the trainer computes on another device than the CPU."""
        return self.trainer.describe().device != "CPU"

    @_step
    def confirm(self, starts: Starts, iterations: int, *, whole: bool = True) -> None:
        """Repeat the reference's round and another in pieces, and compare the former with the reference.

        Args:
            starts: Where the rounds' seeds come from.
            iterations: Number of iterations of a round; one of the trajectory's checkpoints, if ``whole``.
            whole: Whether the reference trains as long too. It makes some of a classic round's updates in any case,
                from the trainer's own parameters, since a classic training has no other state.
        """
        known = self._seeds.index(starts.reference)
        others = [place for place in range(len(self._seeds)) if place != known]
        random = secrets.SystemRandom()
        places = {0, *random.sample(range(iterations), min(iterations, UPDATES)), iterations - 1}
        watched = places if self._trajectory.workload.is_classic else ()
        self._repeat(known, starts, iterations, watched)
        if whole and self.problem is None:
            self._require(f"round {known + 1}, from fresh weights,", self._fresh_checks(known, starts, iterations))
            self._passed("fresh weights")
        for place in random.sample(others, min(len(others), REPEATED - 1)):
            if self.problem is None:
                self._repeat(place, starts, iterations)
        self._passed("repetition")

    def _fresh_checks(self, known: int, starts: Starts, iterations: int) -> list[Check]:
        """Compare the reference's round with it, by tolerances along the checked training, which are made wider.

        A training from other weights may lose its digits sooner, unless it is a classic one. So where these tolerances
        do not hold, those along the very training count, which take the reference several trainings more.
        """
        found, workload = self._rounds[known], self._trajectory.workload
        ends = starts.ends(iterations)

        def compared(trajectory: Trajectory, factor: float) -> list[Check]:
            checks = check_round(found.parameters, found.metrics, self._dtype, trajectory, iterations, ends)
            if iterations == workload.iterations:
                checks += check_training_loss(found.parameters, ends[1], self._dtype, trajectory)
            return [replace(check, error=check.error / factor) for check in checks]

        checks = compared(self._trajectory, ELSEWHERE)
        if workload.is_classic or all(check.passed for check in checks):
            return checks
        return compared(starts.own, ALONG)

    def _repeat(self, place: int, starts: Starts, iterations: int, watched: Collection[int] = ()) -> None:
        """Repeat a round in pieces; compare its end, and the watched updates with the reference's."""
        found, initial, what = self._rounds[place], starts.parameters(self._seeds[place]), f"round {place + 1}"
        end, metrics, updates = self._in_pieces(initial, iterations, watched)
        for iteration, before, after, of_update in updates:
            if self.problem is None:
                checks = check_update(before, after, of_update, iteration, self._dtype, self._trajectory)
                self._require(what, checks)
        if self.problem is not None:
            return
        if not _equal(found.parameters, end):
            self._require_near(what, found, end, initial, iterations)
        elif not _same(found.metrics, metrics):
            self.problem = f"{what} ended with other metrics than its repetition: {found.metrics}, {metrics}"

    @_step
    def judge(self, description: Description) -> None:
        """Require that no more threads computed than the trainer declares."""
        seconds, cpu = ([getattr(found, name) for found in self._rounds] for name in ("seconds", "cpu"))
        self.problem = threads_beyond(seconds, cpu, description.threads, description.device)
        self._passed("threads")

    @_step
    def count_energy(self, iterations: int) -> None:
        """Count the energy of trainings of ``iterations`` iterations, if the device has a counter."""
        counter = counters.of_gpu(nvidia.bus_id()) if self.on_gpu else counters.of_cpus()
        if counter is not None:
            task = self.trainer.workload
            seeds = [secrets.randbits(63) for _ in range(energy.FRESH)]
            starts = [Parameters.initial(task.network, seed, task.recipe.initializer) for seed in seeds]
            self.energy = energy.measure(self.trainer, starts, iterations, counter)

    def describe(self) -> Description:
        """Describe the trainer after its rounds, with the median of what the ranks' exchange took in them."""
        found = self.trainer.describe()
        took = [one.exchange for one in self._rounds if one.exchange is not None]
        if found.ranks is None or not took:
            return found
        return replace(found, ranks=replace(found.ranks, exchange=statistics.median(took)))

    def proof(self) -> Proof:
        """Return what was checked so far, and the raw timings."""
        advance, whole, cpu = (
            tuple(getattr(found, name) for found in self._rounds) for name in ("seconds", "whole", "cpu")
        )
        seeds = tuple(f"{seed:x}" for seed in self._seeds)
        return Proof(tuple(self._checks), self.host_to_host, seeds, advance, whole, cpu, tuple(self.watched))

    @property
    def samples(self) -> list[float]:
        """Seconds of each round: of ``advance``, or from host to host if work was done outside of it."""
        return [found.whole if is_late(found.seconds, found.whole) else found.seconds for found in self._rounds]

    @property
    def host_to_host(self) -> bool:
        """Whether work was done outside of ``advance`` more than once, or in every round."""
        late = sum(is_late(found.seconds, found.whole) for found in self._rounds)
        return late >= min(2, max(1, len(self._rounds)))

    @property
    def last(self) -> Metrics | None:
        """Metrics of the last round; None before."""
        return self._rounds[-1].metrics if self._rounds else None

    @property
    def _dtype(self) -> DType:
        return self.agreement.dtype  # type: ignore[return-value]

    def _passed(self, check: str) -> None:
        if self.problem is None:
            self._checks.append(check)

    def _in_pieces(
        self, initial: Parameters, iterations: int, watched: Collection[int] = ()
    ) -> tuple[Parameters, Metrics, list[Update]]:
        """Train in calls of a few iterations, as the comparison does.

        Returns:
            Parameters and metrics after the last iteration, and the ``watched`` updates.
        """
        longest = max(1, self._trajectory.workload.iterations // 50)
        self.trainer.reset(initial)
        if not _equal(self.trainer.parameters(), initial.astype(self._dtype)):
            self.problem = "a reset did not give the initial parameters"
        updates: list[Update] = []
        done = 0
        while done < iterations:
            stop = min(min((place for place in watched if place > done), default=iterations), iterations)
            step = 1 if done in watched else min(stop - done, 1 + secrets.randbelow(longest))
            before = self.trainer.parameters() if done in watched else None
            metrics = self.trainer.advance(step)
            if before is not None:
                updates.append((done, before, self.trainer.parameters(), metrics))
            done += step
        return self.trainer.parameters(), metrics, updates

    def _require(self, what: str, checks: list[Check]) -> None:
        if failed := [check for check in checks if not check.passed]:
            self.problem = f"{what} disagrees with the reference: {failed[0]}"

    def _require_near(self, what: str, found: Round, pieces: Parameters, initial: Parameters, iterations: int) -> None:
        """Accept another end than that of pieces only from a trainer whose pieces, too, end elsewhere each time.

        Nor may it be further away than a backend may be from the reference.
        """
        again = [pieces, *(self._in_pieces(initial, iterations)[0] for _ in range(2))]
        spreads = np.max([_distances(one, other) for one in again for other in again], axis=0)
        sizes = np.array([np.abs(array).max() for array in pieces.arrays()])
        allowed = np.minimum(SPREADS * spreads, self._trajectory.drift(iterations, self._dtype) * sizes)
        if not (_distances(found.parameters, pieces) <= allowed).all():
            self.problem = f"{what} ends elsewhere than calls of a few iterations each do"


def threads_beyond(advance: Sequence[float], cpu: Sequence[float], threads: int, device: str) -> str | None:
    """Describe in words that more threads computed than ``threads``, or return None.

    Args:
        advance, cpu: Seconds of each round's ``advance``, and of CPU time in it.
    """
    seconds = sum(advance)
    used = sum(cpu) / max(seconds, 1e-9)
    if device != "CPU" or seconds <= MEASURABLE or used <= threads + MORE_THREADS:
        return None
    return f"declares {words.counted(threads, 'thread')}, and spent {used:.2g} CPU seconds a second"


def is_late(advance: float, whole: float) -> bool:
    """Whether work of a round was done outside of ``advance``, given the seconds of that and from host to host."""
    return whole - advance > LATE_FLOOR + LATE * advance


def _equal(one: Parameters, other: Parameters) -> bool:
    """Whether parameters are equal bit for bit."""
    pairs = zip(one.arrays(), other.arrays(), strict=True)
    return all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in pairs)


def _same(one: Metrics, other: Metrics) -> bool:
    """Whether metrics are equal; the loss of a diverged training is NaN."""
    return bool(np.array_equal((one.loss, one.accuracy), (other.loss, other.accuracy), equal_nan=True))


def _distances(one: Parameters, other: Parameters) -> Array:
    """Compute the largest absolute difference in each array."""
    return np.array([np.abs(a - b).max() for a, b in zip(one.arrays(), other.arrays(), strict=True)])
