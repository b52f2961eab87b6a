"""Warnings about unreliable timings: differing or short rounds, other work on the machine, a slower clock.

The checks are those of pyperf's ``check`` command, but use medians and a robust measure of scatter instead of means and
standard deviations, since there are few rounds and some are outliers.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from mnistbench import words
from mnistbench.threads import listed_cpus
from mnistbench.timing.statistics import NOISY_SPREAD, Rounds, median, median_of_processes

OUTLIER = 0.50
"""Distance from the median, as a fraction of it, beyond which a timing is an outlier."""

SHORTEST = 1e-3
"""Seconds of the shortest reliable round; a single interrupt distorts a shorter one."""

OTHERS = 0.10
"""Warn if other processes, or the hypervisor, used more CPUs than this while timing."""

SLOWER = 0.10
"""Warn if the CPU's median speed was below its best by more than this fraction."""

_STEPS = 500  # two hashes of a block each, in a chain: about 0.2 ms
_LOOKS = 3  # repetitions, of which the fastest counts

_CPUS = Path("/sys/devices/system/cpu")


def of_processes(samples: Rounds) -> Iterator[str]:
    """Yield a warning for each problem with the seconds of repeated rounds, each compared with those of its process."""
    middle = median_of_processes(samples)
    if middle.noisy:
        yield f"rounds scatter by {words.percent(middle.spread, 0)} of their median"
    if middle.between > NOISY_SPREAD:
        yield f"processes scatter by {words.percent(middle.between, 0)}: one may be faster or slower as a whole"
    centers = [median(rounds).value for rounds in samples]
    away = [abs(value / at - 1) for rounds, at in zip(samples, centers, strict=True) if at for value in rounds]
    if far := sum(distance > OUTLIER for distance in away):
        yield f"{far} of {len(away)} rounds further than {words.percent(OUTLIER, 0)} from the median"
    if (shortest := min(map(min, samples))) < SHORTEST:
        took, least = words.seconds(shortest), words.seconds(SHORTEST, 1)
        yield f"a round took {took}, less than {least}; train for more iterations"


def of_cores() -> Iterator[str]:
    """Yield a warning if the usable CPUs are cores of different kinds, so that equal shares take unequal times."""
    if _kinds_of_cores() > 1:
        yield "the CPUs are cores of different kinds, fast and economical ones; on Linux, taskset chooses one kind"


def _kinds_of_cores() -> int:
    """Count the kinds of the usable CPUs' cores; 1 if they are unknown."""
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "hw.nperflevels"]
        text = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        return int(text) if text.isdecimal() else 1
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    kinds = 0
    for kind in ("cpu_core", "cpu_atom"):  # told by Linux on Intel's hybrid processors
        with contextlib.suppress(OSError, ValueError):
            kinds += bool(usable & listed_cpus((_CPUS.parents[1] / kind / "cpus").read_text()))
    capacities = set()
    for cpu in usable:  # told by Linux on Arm; on Intel's, cores of one kind may differ in turbo clock
        with contextlib.suppress(OSError):
            capacities.add((_CPUS / f"cpu{cpu}" / "cpu_capacity").read_text().strip())
    return kinds or max(1, len(capacities))


class Watch:
    """Context manager that watches the machine during a measurement. Call :meth:`look` between rounds.

    Attributes:
        others: Average number of CPUs that other processes used; None before the end.
        stolen: Average number of CPUs that the hypervisor withheld (steal time); None before the end.
    """

    def __init__(self, cpus: Collection[int] | None = None, beside: Callable[[], float] = lambda: 0.0) -> None:
        """Prepare to watch.

        Args:
            cpus: Numbers of the CPUs to watch; None for those of this process.
            beside: Function that returns the CPU seconds so far of other processes that take part.
        """
        self._cpus, self._beside = cpus, beside
        self.others: float | None = None
        self.stolen: float | None = None
        self._clocks: list[float] = []
        self._throttled = 0

    def __enter__(self) -> Self:
        self._throttled = _throttle_count()
        self._start = time.perf_counter(), *self._cpu_seconds()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            return  # those who take part may wait for this process, and never answer
        before, busy_before, own_before, stolen_before = self._start
        busy, own, stolen = self._cpu_seconds()
        elapsed = time.perf_counter() - before
        self._throttled = _throttle_count() - self._throttled
        self.others = max(0.0, (busy - busy_before) - (own - own_before)) / elapsed
        self.stolen = max(0.0, stolen - stolen_before) / elapsed

    def _cpu_seconds(self) -> tuple[float, float, float]:
        busy, own, stolen = _cpu_seconds(self._cpus)
        return busy, own + self._beside(), stolen

    def look(self) -> None:
        """Time a fixed chain of hashes, each of the one before, which shows the current clock of this CPU."""
        seconds = []
        for _ in range(_LOOKS):
            start = time.perf_counter()
            hashlib.pbkdf2_hmac("sha256", b"", b"", _STEPS)
            seconds.append(time.perf_counter() - start)
        self._clocks.append(min(seconds))

    def record(self) -> dict[str, float]:
        """Return what was seen, by name: CPUs that others used, CPUs withheld, throttlings, and the clock's loss."""
        return {
            "others": self.others or 0.0,
            "stolen": self.stolen or 0.0,
            "throttlings": float(self._throttled),
            "clock_lost": self._lost,
        }

    @property
    def _lost(self) -> float:
        """Fraction by which the median clock was below the best one; 0 without looks."""
        return 1 - min(self._clocks) / median(self._clocks).value if self._clocks else 0.0

    def warnings(self) -> Iterator[str]:
        """Yield a warning for each disturbance seen."""
        yield from of_records([self.record()])


def of_records(records: Sequence[Mapping[str, float]]) -> Iterator[str]:
    """Yield a warning for each disturbance that :meth:`Watch.record` tells of any process, at its worst."""
    names = ("others", "stolen", "throttlings", "clock_lost")
    most = {name: max((one.get(name, 0.0) for one in records), default=0.0) for name in names}
    if most["others"] > OTHERS:
        yield f"other processes used {most['others']:.1f} CPUs meanwhile"
    if most["stolen"] > OTHERS:
        yield f"the hypervisor kept {most['stolen']:.1f} CPUs from this machine"
    if most["throttlings"] > 0:
        yield "the CPU throttled its clock because of heat or power"
    if most["clock_lost"] > SLOWER:
        yield f"the CPU ran {words.percent(most['clock_lost'], 0)} below its best clock half of the time"


def _cpu_seconds(cpus: Collection[int] | None = None) -> tuple[float, float, float]:
    """Return CPU seconds so far: all work on some CPUs, that of this process and its children, and steal time."""
    usable = cpus if cpus or not hasattr(os, "sched_getaffinity") else os.sched_getaffinity(0)
    busy = stolen = 0.0
    for cpu, times in enumerate(psutil.cpu_times(percpu=True)):
        if usable is None or cpu in usable:
            # On Linux, user time includes guest time.
            idle = times.idle + sum(getattr(times, name, 0.0) for name in ("iowait", "steal", "guest", "guest_nice"))
            busy += sum(times) - idle
            stolen += getattr(times, "steal", 0.0)
    return busy, own_seconds(), stolen


def own_seconds() -> float:
    """Return the CPU seconds so far of this process and its children."""
    process = psutil.Process()
    used = process.cpu_times()
    own: float = used.user + used.system + used.children_user + used.children_system
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has ended
            used = child.cpu_times()
            own += used.user + used.system + used.children_user + used.children_system
    return own


def _throttle_count() -> int:
    """Count how often the cores were throttled since the machine started; 0 if unknown."""
    total = 0
    for counter in _CPUS.glob("cpu[0-9]*/thermal_throttle/core_throttle_count"):
        with contextlib.suppress(OSError, ValueError):
            total += int(counter.read_text())
    return total
