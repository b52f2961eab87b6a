"""Energy of a training, in rounds of their own after the timed ones."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mnistbench.backends import Trainer
from mnistbench.machine.energy import Counter
from mnistbench.reference.parameters import Parameters

SECONDS = 2.0
"""Least seconds that are counted."""

UPDATES = 20
"""Least number of a counter's updates that are counted: it says what was spent up to its last one."""

PATIENCE = 10.0
"""Seconds without an update after which a counter stands still."""

FRESH = 16
"""Number of initial parameters that trainings start from in turn; they are drawn before, which takes energy too."""

REST = 0.5
"""Seconds of rest before the idle power is measured."""

FALLS = 0.02
"""Fall from one span to the next, as a fraction, up to which the idle power has settled."""

SETTLING = 15.0
"""Seconds after which the last span counts: a GPU lowers its clocks in steps, for some seconds."""

_POLL = 1e-3
"""Seconds between two looks at the counter of an idle device."""


@dataclass(frozen=True)
class Energy:
    """Energy of a training.

    Attributes:
        joules: Joules of all iterations of a training from fresh weights, of which the idle power is part.
        seconds: Seconds of one, with its reset.
        idle_watts: Power of the device with the training loaded, while it does nothing.
        trainings: Number of trainings that were counted together.
        updates: Number of the counter's updates meanwhile.
        counter: "NVML", of the GPU alone, or "RAPL", of all CPU packages.
    """

    joules: float
    seconds: float
    idle_watts: float
    trainings: int
    updates: int
    counter: str

    @property
    def watts(self) -> float:
        """Mean power during the trainings."""
        return self.joules / self.seconds


class _Span(NamedTuple):
    """What a counter counted between two of its updates, and how often work was done meanwhile."""

    joules: float
    seconds: float
    works: int
    updates: int


def measure(
    trainer: Trainer,
    starts: Sequence[Parameters],
    iterations: int,
    counter: Counter,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], object] = time.sleep,
) -> Energy | None:
    """Count the energy of trainings; None if the counter stands still or fails, or the last one ended elsewhere.

    Args:
        starts: Initial parameters of the trainings in turn, which the trainer has not seen.
        iterations: Number of iterations of each; where it is less than the workload's, the result is scaled to all.
    """

    turn = itertools.cycle(starts)
    last = starts[0]

    def train() -> None:
        nonlocal last
        last = next(turn)
        trainer.reset(last)
        trainer.advance(iterations)

    try:
        sleep(REST)
        idle = _idle(counter, clock, sleep)
        if idle is None:
            return None
        # Between two trainings no update is seen, so their number follows from how often an idle counter updates.
        interval = idle.seconds / idle.updates
        busy = _counted(counter, train, 1, max(SECONDS, UPDATES * interval), clock)
    except OSError:
        return None
    if busy is None or min(busy.joules, idle.joules) < 0 or not _ends_again(trainer, last, iterations):
        return None
    scale = trainer.workload.iterations / iterations / busy.works
    return Energy(
        joules=busy.joules * scale,
        seconds=busy.seconds * scale,
        idle_watts=idle.joules / idle.seconds,
        trainings=busy.works,
        updates=round(busy.seconds / interval),
        counter=counter.name,
    )


def _idle(counter: Counter, clock: Callable[[], float], sleep: Callable[[float], object]) -> _Span | None:
    """Count while nothing is done, in spans until the power has settled; None if the counter stands still."""
    begun, before = clock(), math.inf
    while (found := _counted(counter, lambda: sleep(_POLL), UPDATES, SECONDS, clock)) is not None:
        watts = found.joules / found.seconds
        if watts >= (1 - FALLS) * before or clock() - begun > SETTLING:
            break
        before = watts
    return found


def _ends_again(trainer: Trainer, start: Parameters, iterations: int) -> bool:
    """Whether a trainer's state is that after a training from ``start``, made again in two calls."""
    end = trainer.parameters()
    trainer.reset(start)
    for part in (iterations // 2, iterations - iterations // 2):
        if part:
            trainer.advance(part)
    pairs = zip(end.arrays(), trainer.parameters().arrays(), strict=True)
    return all(one.tobytes() == other.tobytes() for one, other in pairs)


def _counted(
    counter: Counter, work: Callable[[], object], updates: int, seconds: float, clock: Callable[[], float]
) -> _Span | None:
    """Work again and again from one update of a counter to another; None if it stands still.

    Args:
        updates, seconds: Least number of updates seen, and least seconds, between the two.
    """
    looked = clock()
    before = first = counter.joules()
    while first == before:
        work()
        first = counter.joules()
        if first == before and clock() - looked > PATIENCE:
            return None
    start = moved = clock()
    last, works, seen = first, 0, 0
    while True:
        work()
        works += 1
        found, now = counter.joules(), clock()
        if found != last:
            last, moved, seen = found, now, seen + 1
            if seen >= updates and now - start >= seconds:
                return _Span(found - first, now - start, works, seen)
        elif now - moved > PATIENCE:
            return None
