"""What the charts read from the rows beyond their numbers: the task, the machine, the settings, in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from mnistbench import words
from mnistbench.exceptions import DataError

if TYPE_CHECKING:
    from mnistbench.results.row import Row

T = TypeVar("T")


def required(rows: Sequence[T]) -> Sequence[T]:
    """The rows.

    Raises:
        DataError: there are none.
    """
    if not rows:
        raise DataError("charts: no validated results to draw; measure a backend that agrees with the reference")
    return rows


def _only(values: Iterable[str], joined: str = "") -> str:
    """The value, if all are the same; else all of them ``joined`` by that, or nothing."""
    different = list(dict.fromkeys(values))
    return different[0] if len(different) == 1 else joined.join(different) if joined else ""


def task(rows: Sequence[Row]) -> str:
    """The workload in words: "500 iterations on 41,000 images"."""
    iterations = _only((words.counted(row.workload.iterations, "iteration") for row in rows), " or ")
    return f"{iterations} on {_only((words.counted(row.workload.images, 'image') for row in rows), ' or ')}"


def setting(row: Row) -> str:
    """Device and threads of a row."""
    return f"{row.device}, {words.counted(row.threads, 'thread')}"


def provenance(rows: Sequence[Row]) -> tuple[str, str]:
    """The setting that all rows share, if they do, and the line that says where they were measured."""
    shared = _only(setting(row) for row in rows)
    machine = _only((row.origin.machine for row in rows), "; ")
    workload = _only((row.workload.name for row in rows), ", ")
    # The device may be what the machine is named for.
    named = _only(row.device for row in rows)
    running = shared.removeprefix(f"{named}, ") if named and named in machine else shared
    where = ", ".join(part for part in (machine, running) if part)
    return shared, f"Workload {workload}, on {where}."
