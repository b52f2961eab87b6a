"""Words that the charts take from the rows: the task, the machine, the settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from mnistbench import words
from mnistbench.exceptions import DataError
from mnistbench.machine.identity import labels
from mnistbench.results.origin import Measured, mixture

if TYPE_CHECKING:
    from mnistbench.results.row import Row

T = TypeVar("T", bound=Measured)


def required(rows: Sequence[T], several_machines: bool = False) -> Sequence[T]:
    """Return the rows; raise DataError if there are none, or if they are of several machines and must not be."""
    if not rows:
        raise DataError("charts: no validated results to draw; measure a backend that agrees with the reference")
    machines = labels(row.origin.machine for row in rows)
    if len(machines) > 1 and not several_machines:
        raise DataError(f"charts: rows of {len(machines)} machines, {'; '.join(machines.values())}: draw each apart")
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
    machine = "; ".join(labels(row.origin.machine for row in rows).values())
    workload = _only((row.workload.name for row in rows), ", ")
    # The machine's name may contain the device.
    named = _only(row.device for row in rows)
    running = shared.removeprefix(f"{named}, ") if named and named in machine else shared
    where = ", ".join(part for part in (machine, running) if part)
    mixed = f" Rows of {found}." if (found := mixture(rows)) else ""
    return shared, f"Workload {workload}, on {where}.{mixed}"
