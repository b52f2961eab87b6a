"""Timed rounds of a trainer, tied to the run of it that was compared with the reference.

What is timed has to be what was compared. So every measurement, by ``mnistbench compare`` or ``pytest benchmarks/``,
goes through :class:`Measurement`. docs/honesty.md says what each of its checks is for:

1. The trainer is compared with the reference along the whole training, in pieces of a few iterations, and another
   trainer of its backend on random images.
2. One call of all timed iterations ends where these pieces did, bit for bit.
3. Rounds are timed, each from fresh random parameters.
4. Two of them, chosen after all are over, are repeated in pieces, bit for bit, and one is compared with the reference.

The rate and the CPU seconds of the rounds must be possible. All checks are outside of the timed rounds.
"""

from __future__ import annotations

import secrets
import statistics
from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from mnistbench import words
from mnistbench.agreement import Agreement, Check, Trajectory, check_round, check_trainer, check_update
from mnistbench.agreement.other_images import Start, compare_other_images
from mnistbench.backends import Description, Metrics, Trainer
from mnistbench.measurement.proof import CHECKS, Proof
from mnistbench.measurement.rounds import Clock, Round, Starts, timed_round
from mnistbench.reference.parameters import Array, Parameters
from mnistbench.task.workload import DType

__all__ = ["CHECKS", "Clock", "Measurement", "Proof", "Round", "Starts", "timed_round"]

REPEATED = 2
"""Number of rounds that are repeated in pieces, the reference's among them."""

UPDATES = 3
"""Number of updates at random places of a classic round, besides its first and its last, that the reference makes."""

Update = tuple[Parameters, Parameters, Metrics]
"""Parameters before and after an iteration, and its metrics."""

LATE, LATE_FLOOR = 0.05, 1e-3
"""Fraction of a round, and seconds, by which it may take longer from host to host than ``advance`` alone. If it takes
longer than both together, work was done outside of ``advance``, and the time from host to host is the result."""

ELSEWHERE = 4.0
"""Factor for tolerances that were found along another training of the same workload."""

SPREADS = 4.0
"""Largest distance of one call's end from that of pieces, as a multiple of the distance between repeated pieces."""

MORE_THREADS = 0.3
"""CPU seconds a second beyond the declared threads that the interpreter and libraries may spend."""

MEASURABLE = 0.05
"""Seconds of rounds from which CPU seconds are compared with them; less is not counted precisely everywhere."""


class Measurement:
    """Measurement of one trainer.

    Attributes:
        trainer: Trainer that is measured.
        agreement: Agreement of the trainer with the reference, with the checks of rounds.
        problem: Reason why it has no result, or None.
        watched: What was seen of the machine during the rounds.
    """

    def __init__(
        self, trainer: Trainer, agreement: Agreement, trajectory: Trajectory, clock: Clock = timed_round
    ) -> None:
        """Prepare to measure a newly started trainer."""
        self.agreement = agreement
        self.problem: str | None = None
        self.trainer, self._trajectory, self._clock = trainer, trajectory, clock
        self.watched: list[Mapping[str, float]] = []
        self._checks: list[str] = []
        self._seeds: list[int] = []
        self._rounds: list[Round] = []

    def compare(self, gradients: bool = True) -> None:
        """Compare the trainer with the reference along the whole training, which also warms it up.

        Args:
            gradients: Whether to compare gradients too.
        """
        self.agreement = check_trainer(self.trainer, self.agreement, self._trajectory, gradients)
        if not self.agreement.passed:
            self.problem = f"disagrees with the reference: {self.agreement.summary()}"
        self._passed("trajectory")

    def compare_elsewhere(self, start: Start, image_shape: tuple[int, int]) -> None:
        """Compare the backend with the reference on random images too.

        Args:
            start: Function that starts the backend on a workload, a data set and initial parameters.
            image_shape: (height, width) of the workload's images.
        """
        task = self._trajectory.workload.with_dtype(self._dtype)
        found = compare_other_images(start, Agreement(self.agreement.backend, self._dtype), task, image_shape)
        if not found.passed:
            self.problem = f"disagrees with the reference on random images: {found.summary()}"
        self._passed("other images")

    def tie(self, iterations: int) -> None:
        """Require that one call ends where the compared pieces did.

        Args:
            iterations: Number of iterations; one of the trajectory's checkpoints.
        """
        initial = self._trajectory.fresh()
        found = self._clock(self.trainer, initial, iterations)
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
        equal = _equal(found.parameters, self.agreement.states[iterations])
        if equal:
            self._passed("one call")
        else:
            self.agreement = Agreement(self.agreement.backend, self._dtype)
            self.trainer.reset(self._trajectory.fresh())
        return equal

    def round(self, seed: int, initial: Parameters, iterations: int) -> None:
        """Time a round from the initial parameters of a seed; all rounds have the same number of iterations."""
        found = self._clock(self.trainer, initial, iterations)
        if found.seconds <= 0:
            self.problem = "a round took no time"
        self._seeds.append(seed)
        self._rounds.append(found)

    def confirm(self, starts: Starts, iterations: int) -> None:
        """Repeat the reference's round and another in pieces, and compare the former with the reference.

        A classic training has no state but its parameters, so the reference makes some of the updates, from the
        trainer's own parameters. Otherwise it trains from the round's weights, and ``iterations`` is a checkpoint.

        Args:
            starts: Where the rounds' seeds come from.
            iterations: Number of iterations of a round.
        """
        if self.problem is not None:
            return
        known = self._seeds.index(starts.reference)
        others = [place for place in range(len(self._seeds)) if place != known]
        random = secrets.SystemRandom()
        classic = self._trajectory.workload.is_classic
        for place in (known, *random.sample(others, min(len(others), REPEATED - 1))):
            found, initial, what = self._rounds[place], starts.parameters(self._seeds[place]), f"round {place + 1}"
            chosen = place == known and classic
            places = {0, *random.sample(range(iterations), min(iterations, UPDATES)), iterations - 1}
            watched = places if chosen else ()
            end, metrics, updates = self._in_pieces(initial, iterations, watched)
            if self.problem is not None:
                return
            for before, after, of_update in updates:
                self._require(what, check_update(before, after, of_update, self._dtype, self._trajectory))
            if place == known and not classic:
                ends = starts.ends(iterations)
                checks = check_round(found.parameters, found.metrics, self._dtype, self._trajectory, iterations, ends)
                self._require(what, [replace(check, error=check.error / ELSEWHERE) for check in checks])
            if place == known:
                self._passed("fresh weights")
            if not _equal(found.parameters, end):
                self._require_near(what, found, end, initial, iterations)
            elif not _same(found.metrics, metrics):
                self.problem = f"{what} ended with other metrics than its repetition: {found.metrics}, {metrics}"
            if self.problem is not None:
                return
        self._passed("repetition")

    def judge(self, description: Description) -> None:
        """Require that no more threads computed than the trainer declares."""
        seconds = sum(found.seconds for found in self._rounds)
        used = sum(found.cpu for found in self._rounds) / max(seconds, 1e-9)
        if seconds > MEASURABLE and description.device == "CPU" and used > description.threads + MORE_THREADS:
            declared = words.counted(description.threads, "thread")
            self.problem = f"declares {declared}, and spent {used:.2g} CPU seconds a second"
        self._passed("threads")

    def proof(self) -> Proof:
        """Return what was checked so far, and the raw timings."""
        advance, whole, cpu = (
            tuple(getattr(found, name) for found in self._rounds) for name in ("seconds", "whole", "cpu")
        )
        seeds = tuple(f"{seed:x}" for seed in self._seeds)
        return Proof(tuple(self._checks), self.whole, seeds, advance, whole, cpu, tuple(self.watched))

    @property
    def samples(self) -> list[float]:
        """Seconds of each round: of ``advance``, or from host to host where :attr:`whole` says so."""
        return [found.whole if self.whole else found.seconds for found in self._rounds]

    @property
    def whole(self) -> bool:
        """Whether work was done outside of ``advance``, so that the time from host to host is the result."""
        if not self._rounds:
            return False
        late = statistics.median(found.whole - found.seconds for found in self._rounds)
        return late > LATE_FLOOR + LATE * statistics.median(found.seconds for found in self._rounds)

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
                updates.append((before, self.trainer.parameters(), metrics))
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
