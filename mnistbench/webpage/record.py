"""A row as JSON values for the page.

Rows may be a stranger's. A text of theirs is cut, put on one line, and freed of what is not printable, so that it
cannot pass for another one; what becomes of it on the page is the business of whoever writes it there.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

from mnistbench import words
from mnistbench.machine.rates import Rates
from mnistbench.results.row import Row
from mnistbench.timing import noise

DAMAGED = (TypeError, ValueError, ArithmeticError, AttributeError, KeyError)
"""Exceptions raised by values of a row that no measurement has."""

_LONGEST = 200  # characters of a text of a row

SECONDS = (1e-9, 1e8)
"""Shortest and longest seconds of a round that a clock can give, which is three years."""


def plain(value: object, most: int = _LONGEST) -> str:
    """Return a text of a row on one line, without what is not printable, and cut after ``most`` characters."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in words.one_line(value))
    return text if len(text) <= most else text[: most - 1] + "…"


def named(value: object, most: int = 80) -> str:
    """Return a name as :func:`plain` does, and words for an empty one.

    One that had to be changed gets a mark of its own, so that it cannot pass for another name.
    """
    found = plain(value, most)
    if found == value:
        return found or "(no name)"
    digest = hashlib.sha256(str(value).encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"{found or '(no name)'} (#{digest})"


def record(row: Row) -> dict[str, Any]:
    """Return a row as JSON values; one that holds what no measurement can hold is no result."""
    found = {
        "backend": named(row.backend),
        "dtype": named(row.dtype, 40),
        "device": named(row.device),
        "threads": _number(row.threads),
        "problem": None if row.problem is None else plain(row.problem, 400),
        "ranks": None,
    }
    try:
        if found["threads"] is None:
            raise TypeError("the number of threads is no number")
        return found | {"ranks": _ranks(row), "timing": _timing(row), **_speed(row), **_told(row)}
    except DAMAGED as error:
        problem = row.problem or f"its record is damaged: {words.exception(error)}"
        return found | {"problem": plain(problem, 400), "timing": None, **_NOTHING}


_NOTHING: dict[str, Any] = {
    **{"seconds": [], "processes": [], "interleaved": False, "iterations": None, "versions": {}, "costs": {}},
    "noise": [],
    **{"peak": None, "bandwidth": None, "notes": [], "accuracy": None, "agreement": "", "kernel": "", "skips": None},
    **{"level": None, "limits": None, "error": None, "tolerance": None, "timed": None, "size": None},
}


def _timing(row: Row) -> dict[str, Any]:
    """Return a row's time, its interval, and the scatter of its rounds and processes.

    Raises:
        ValueError: If no clock can give a timing, or the median is not finite.
    """
    if not all(SECONDS[0] <= seconds <= SECONDS[1] for seconds in row.samples):
        raise ValueError("a timing is shorter or longer than any measured one")
    found = row.timing
    values = {name: _number(getattr(found, name)) for name in ("value", "low", "high", "level", "spread", "between")}
    if None in values.values():
        raise ValueError("the median of the timings is no number")
    return values


def _ranks(row: Row) -> dict[str, Any] | None:
    """Return what several ranks were that trained together; None for one process by itself."""
    found = row.ranks
    if found is None:
        return None
    told = f"{found.library} over {found.transport}, {found.each} each"
    return {"count": len(found.threads), "hosts": _number(found.hosts), "told": plain(told)}


def _speed(row: Row) -> dict[str, Any]:
    """Return the fractions of the machine's limits that a row reached."""
    speed, rates = row.speed, row.speed.rates(row.limits)
    return {
        "peak": _number(speed.fraction_of_peak(row.limits)),
        "bandwidth": _number(speed.fraction_of_bandwidth(row.limits)),
        "level": None if rates is None else plain(rates.level_for(speed.bytes_read).name),
        "limits": None if rates is None else _limits(row, rates),
        "skips": None if row.skips is None else plain(row.skips),
    }


def _limits(row: Row, rates: Rates) -> dict[str, Any]:
    """Return the limits that a row is compared with, and what else their record tells."""
    assert row.limits is not None, "as the caller found"
    measured, blas = row.limits.date, row.limits.blas
    return {
        "flops": _number(rates.multiply_add.get(row.dtype)),
        "bytes": _number(rates.bandwidth_for(row.speed.bytes_read)),
        "measured": None if measured is None else plain(measured, 40),
        "blas": None if blas is None else plain(blas),
    }


def _told(row: Row) -> dict[str, Any]:
    """Return the rounds of a row, and what it says of itself."""
    verdict, ends = row.agreement, [*accumulate(len(run) for run in row.runs)]
    return {
        "seconds": [*row.samples],
        "processes": [end - start for start, end in zip([0, *ends], ends, strict=False)],
        "interleaved": bool(row.interleaved),
        "iterations": int(row.workload.iterations),
        "timed": _number(row.timed),
        "versions": _texts(row.versions),
        "costs": {plain(name, 40): _number(value) for name, value in row.costs.items()},
        "noise": [plain(note) for note in _noise(row)],
        "notes": [plain(note) for note in _notes(row)],
        "accuracy": None if row.final is None else _number(row.final.train_accuracy),
        "agreement": plain(verdict.summary),
        "error": _number(verdict.trajectory[-1][1]) if verdict.trajectory else None,
        "tolerance": _number(verdict.tolerance),
        "kernel": plain(row.kernel),
        "size": None if row.size is None else _size(row),
    }


def _size(row: Row) -> dict[str, Any]:
    """Return a row's place in the scaling benchmark."""
    assert row.size is not None, "as the caller found"
    axes = [plain(axis, 40) for axis in row.size.axes]
    sizes = {"images": row.workload.images, "hidden": row.size.hidden, "threads": row.size.allowed_threads}
    return {"axes": axes, **{name: _number(value) for name, value in sizes.items()}}


def _noise(row: Row) -> Iterator[str]:
    """Yield what disturbed the measurement."""
    yield from noise.of_processes(row.runs)
    if row.proof is not None:
        yield from noise.of_records(row.proof.watched)
    if row.throttled:
        yield f"the GPU's clocks were held down: {row.throttled}"


def _notes(row: Row) -> Iterator[str]:
    """Yield what else restricts what a number says."""
    if row.interleaved and len(row.runs) == 1:
        yield "one process only: the next may be faster or slower"
    if row.timed:
        yield f"scaled from the first {words.counted(row.timed, 'iteration')}"
    if row.checked_less:
        yield "fewer checks than today's"
    if row.proof is not None and row.proof.host_to_host:
        yield "works outside of its iterations too: the time is from host to host"
    if row.failed:
        yield f"a way to compute failed: {row.failed}"


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {plain(name, 80): plain(value, 80) for name, value in values.items()}


def _number(value: Any) -> float | None:
    """Return a finite number, or None."""
    if value is None or isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value
