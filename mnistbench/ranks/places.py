"""Where ranks run, and the CPUs that they share."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass

from mnistbench import threads


@dataclass(frozen=True)
class Place:
    """Where a rank runs.

    Attributes:
        host: Name of its machine, which is compared and not shown.
        cpus: Numbers of the CPUs that it may use.
        usable: Number of those in effect, within a quota.
        wanted: Number of threads that the environment asks for, or None.
        threads: Number of its threads.
    """

    host: str
    cpus: frozenset[int]
    usable: int
    wanted: int | None
    threads: int

    @classmethod
    def here(cls, apart: bool, number: int | None = None) -> Place:
        """Return where this rank runs.

        Args:
            apart: Whether it is a process of its own, whose libraries, loaded later, are to have as many threads.
            number: Number of its threads, if that is known.
        """
        wanted = threads.wanted()
        count = 1 if number is None else threads.limit(number) if apart else threads.resolve(number)
        cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
        return cls(platform.node(), frozenset(cpus), threads.usable_cpus(), wanted, count)


def default_threads(places: Sequence[Place]) -> list[int]:
    """Return each rank's number of threads: what its environment asks for, or its part of the CPUs of its host."""
    return [own.wanted or _part(own, places) for own in places]


def _part(own: Place, places: Sequence[Place]) -> int:
    beside = [other for other in places if other.host == own.host and other.cpus & own.cpus]
    return max(1, own.usable // len(beside))


def are_crowded(places: Sequence[Place]) -> bool:
    """Whether ranks have more threads than they may use CPUs, alone or with the others of their host."""
    for own in places:
        beside = [other for other in places if other.host == own.host and other.cpus & own.cpus]
        cpus = len(frozenset[int]().union(*(other.cpus for other in beside)))
        if any(other.usable < len(other.cpus) for other in beside):  # a quota, of all of them
            cpus = max(other.usable for other in beside)
        if own.threads > own.usable or sum(other.threads for other in beside) > cpus:
            return True
    return False
