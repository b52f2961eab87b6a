"""What makes timings doubtful: rounds that differ, rounds too short, other work on the machine, a slower clock.

In the manner of pyperf's ``check`` command, and with its thresholds; on medians and ranges, where pyperf takes means
and standard deviations, since the rounds here are few.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from mnistbench.timing.statistics import median

OUTLIER = 0.50
"""A timing further than this fraction of the median from the median is an outlier."""

SHORTEST = 1e-3
"""Seconds. What disturbs a shorter round, such as one interrupt, is no longer small beside it."""

OTHERS = 0.10
"""CPUs. If other processes use more than this while timing, it is said."""

SLOWER = 0.10
"""A CPU that computed slower than its best by more than this fraction, at the middle of the looks, is said to."""

_STEPS = 200_000  # of a chain of 2 dependent operations: about 0.2 ms at 4 GHz
_LOOKS = 3  # the fastest of them counts

_CPUS = Path("/sys/devices/system/cpu")


def of_timings(samples: Sequence[float]) -> Iterator[str]:
    """What is wrong with the seconds of repeated rounds, in words without a subject."""
    middle = median(samples)
    if middle.noisy:
        yield f"rounds differ by {middle.spread:.0%} of their median"
    far = [value for value in samples if abs(value - middle.value) > OUTLIER * middle.value]
    if far:
        count = f"{len(far)} of {len(samples)} rounds"
        yield f"{count} further than {OUTLIER:.0%} from the median"
    if (shortest := min(samples)) < SHORTEST:
        yield f"a round took {shortest * 1e6:.0f} µs, less than 1 ms; train for more iterations"


class Watch:
    """Looks at the machine while something is timed. A context manager around all of it; ``look`` between rounds.

    Attributes:
        others: CPUs that other processes used, on average; None before the end.
        stolen: CPUs that the hypervisor gave to other machines while this one wanted them; None as ``others``.
    """

    def __init__(self) -> None:
        self.others: float | None = None
        self.stolen: float | None = None
        self._clocks: list[float] = []
        self._throttled = 0

    def __enter__(self) -> Self:
        _chain()(1)  # compiled before anything is timed
        self._throttled = _throttle_count()
        self._start = time.perf_counter(), *_cpu_seconds()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        before, busy_before, own_before, stolen_before = self._start
        busy, own, stolen = _cpu_seconds()
        elapsed = time.perf_counter() - before
        self._throttled = _throttle_count() - self._throttled
        self.others = max(0.0, (busy - busy_before) - (own - own_before)) / elapsed
        self.stolen = max(0.0, stolen - stolen_before) / elapsed

    def look(self) -> None:
        """Time a fixed chain of dependent operations: how fast this CPU is just now."""
        seconds = []
        for _ in range(_LOOKS):
            start = time.perf_counter()
            _chain()(_STEPS)
            seconds.append(time.perf_counter() - start)
        self._clocks.append(min(seconds))

    def warnings(self) -> Iterator[str]:
        """What was seen, in words."""
        if self.others is not None and self.others > OTHERS:
            yield f"other processes used {self.others:.1f} CPUs meanwhile"
        if self.stolen is not None and self.stolen > OTHERS:
            yield f"the hypervisor kept {self.stolen:.1f} CPUs from this machine"
        if self._throttled > 0:
            yield "the CPU throttled its clock because of heat or power"
        if self._clocks and (lost := 1 - min(self._clocks) / median(self._clocks).value) > SLOWER:
            yield f"the CPU ran {lost:.0%} below its best clock half of the time"


@cache
def _chain() -> Callable[[int], int]:
    """Operations each of which needs the one before: they take so many cycles, and depend on nothing else."""
    from numba import njit  # which only who watches has to load

    @njit(nogil=True)  # type: ignore[untyped-decorator]
    def chain(steps: int) -> int:
        value = 1
        for _ in range(steps):
            value = value * 6364136223846793005 + 1442695040888963407
        return value

    compiled: Callable[[int], int] = chain
    return compiled


def _cpu_seconds() -> tuple[float, float, float]:
    """CPU seconds so far: of all work on the CPUs this process may use, of its own and its children's, and stolen."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    busy = stolen = 0.0
    for cpu, times in enumerate(psutil.cpu_times(percpu=True)):
        if usable is None or cpu in usable:
            # Linux counts a guest's time in user's too.
            idle = times.idle + sum(getattr(times, name, 0.0) for name in ("iowait", "steal", "guest", "guest_nice"))
            busy += sum(times) - idle
            stolen += getattr(times, "steal", 0.0)
    process = psutil.Process()
    used = process.cpu_times()
    own = used.user + used.system + used.children_user + used.children_system
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has ended
            used = child.cpu_times()
            own += used.user + used.system + used.children_user + used.children_system
    return busy, own, stolen


def _throttle_count() -> int:
    """How often the cores were throttled since the machine started, where Linux tells; else 0."""
    total = 0
    for counter in _CPUS.glob("cpu[0-9]*/thermal_throttle/core_throttle_count"):
        with contextlib.suppress(OSError, ValueError):
            total += int(counter.read_text())
    return total
