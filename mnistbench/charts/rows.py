"""Words that the charts take from the rows: the task, the machine, the settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from mnistbench import words
from mnistbench.exceptions import DataError

if TYPE_CHECKING:
    from mnistbench.results.row import Row

T = TypeVar("T")


def required(rows: Sequence[T]) -> Sequence[T]:
    """Return the rows; raise DataError if there are none."""
    if not rows:
        raise DataError("charts: no validated results to draw; measure a backend that agrees with the reference")
    return rows


def _only(values: Iterable[str], joined: str = "") -> str:
    """Return the value if all are the same, else all values joined by ``joined``, or "" without that."""
    different = list(dict.fromkeys(values))
    return different[0] if len(different) == 1 else joined.join(different) if joined else ""


def task(rows: Sequence[Row]) -> str:
    """Describe the workload: "500 iterations on 41,000 images"."""
    iterations = _only((words.counted(row.workload.iterations, "iteration") for row in rows), " or ")
    return f"{iterations} on {_only((words.counted(row.workload.images, 'image') for row in rows), ' or ')}"


def setting(row: Row) -> str:
    """Describe a row's device and threads."""
    return f"{row.device}, {words.counted(row.threads, 'thread')}"


def provenance(rows: Sequence[Row]) -> tuple[str, str]:
    """Return the setting that all rows share, or "", and a sentence on where they were measured."""
    shared = _only(setting(row) for row in rows)
    machine = _only((row.origin.machine for row in rows), "; ")
    workload = _only((row.workload.name for row in rows), ", ")
    # The machine's name may contain the device.
    named = _only(row.device for row in rows)
    running = shared.removeprefix(f"{named}, ") if named and named in machine else shared
    where = ", ".join(part for part in (machine, running) if part)
    return shared, f"Workload {workload}, on {where}."
