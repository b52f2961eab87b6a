"""A row as JSON values for the page.

Rows may be a stranger's. A text of theirs is cut, put on one line, and freed of what is not printable, so that it
cannot pass for another one; what becomes of it on the page is the business of whoever writes it there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

from mnistbench import words
from mnistbench.results.row import Row
from mnistbench.timing import noise

DAMAGED = (TypeError, ValueError, ArithmeticError, AttributeError, KeyError)
"""Exceptions raised by values of a row that no measurement has."""

_LONGEST = 200  # characters of a text of a row


def plain(value: object, most: int = _LONGEST) -> str:
    """Return a text of a row on one line, without what is not printable, and cut after ``most`` characters."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in words.one_line(value))
    return text if len(text) <= most else text[: most - 1] + "…"


def named(value: object, most: int = 80) -> str:
    """Return a name as :func:`plain` does, and words for an empty one."""
    return plain(value, most) or "(no name)"


def record(row: Row) -> dict[str, Any]:
    """Return a row as JSON values; one that holds what no measurement can hold is no result."""
    found = {
        "backend": named(row.backend),
        "dtype": plain(row.dtype),
        "device": plain(row.device),
        "threads": _number(row.threads),
        "problem": None if row.problem is None else plain(row.problem, 400),
    }
    try:
        if found["threads"] is None:
            raise TypeError("the number of threads is no number")
        return found | {"timing": _timing(row), **_speed(row), **_told(row)}
    except DAMAGED as error:
        problem = row.problem or f"its record is damaged: {words.exception(error)}"
        return found | {"problem": plain(problem, 400), "timing": None, **_NOTHING}


_NOTHING: dict[str, Any] = {
    **{"seconds": [], "processes": [], "interleaved": False, "iterations": None, "versions": {}, "costs": {}},
    **{"peak": None, "bandwidth": None, "notes": [], "accuracy": None, "agreement": "", "kernel": "", "skips": None},
    **{"level": None, "error": None, "tolerance": None, "timed": None, "size": None},
}


def _timing(row: Row) -> dict[str, Any]:
    """Return the median of a row and its interval.

    Raises:
        ValueError: If a timing is not positive and finite, or the median is not.
    """
    if not all(math.isfinite(seconds) and seconds > 0 for seconds in row.samples):
        raise ValueError("a timing is not above 0")
    found = row.timing
    values = {name: _number(getattr(found, name)) for name in ("value", "low", "high", "level", "spread", "between")}
    if None in values.values():
        raise ValueError("the median of the timings is no number")
    return values | {"noisy": found.noisy}


def _speed(row: Row) -> dict[str, Any]:
    """Return the fractions of the machine's limits that a row reached."""
    speed, rates = row.speed, row.speed.rates(row.limits)
    return {
        "peak": _number(speed.fraction_of_peak(row.limits)),
        "bandwidth": _number(speed.fraction_of_bandwidth(row.limits)),
        "level": None if rates is None else plain(rates.level_for(speed.bytes_read).name),
        "skips": None if row.skips is None else plain(row.skips),
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


def _notes(row: Row) -> Iterator[str]:
    """Yield reasons to doubt a number, and what it holds for."""
    yield from noise.of_processes(row.runs)
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
    if row.throttled:
        yield f"the GPU's clocks were held down: {row.throttled}"


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {plain(name, 80): plain(value, 80) for name, value in values.items()}


def _number(value: Any) -> float | None:
    """Return a finite number, or None."""
    if value is None or isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value
