"""Comparison of what a row says with what follows from the rest of it, and with what is known besides."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

from mnistbench import words
from mnistbench.exceptions import RowError
from mnistbench.measurement import LATE_FLOOR, is_late, threads_beyond
from mnistbench.results.merging import limits, verdicts
from mnistbench.results.merging.forms import told
from mnistbench.results.merging.schema import ENTRY
from mnistbench.results.origin import Origin
from mnistbench.results.reading import DAMAGED
from mnistbench.results.row import Row

CLOCKS = timedelta(days=1)
"""Largest difference of two machines' clocks: by more, a date is in the future, or a commit after its measurement."""

_SAME = 1e-9
"""Relative difference up to which two numbers are the same, computed in different orders."""

_COSTS: tuple[set[str], ...] = (
    {"train"},
    {"load", "train"},
    {"import", "load", "compile", "train"},
    {"import", "load", "compile", "tuning", "first_call", "train"},
)
"""Costs that a row has: without new processes, in the scaling benchmark, in earlier versions, and all of them."""


def believed(entry: Mapping[str, Any], origin: Origin) -> Row:
    """Read a row from an entry of pytest-benchmark.

    Raises:
        RowError: If its form is wrong, or something it says is not believed.
    """
    ENTRY(entry, "")
    record, samples = entry["extra_info"], entry["stats"]["data"]
    if record["validated"] is not (record["problem"] is None):
        raise RowError(f"validated is {told(record['validated'])}, and problem is {told(record['problem'])}")
    try:
        row = Row.from_dict(record, samples, origin)
        problem = next(_problems(row, record, entry["stats"]), None)
    except DAMAGED as error:
        raise RowError(words.exception(error)) from error
    if problem is not None:
        raise RowError(problem)
    return row


def _problems(row: Row, record: Mapping[str, Any], stats: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is not believed, cheap comparisons first; later ones rely on the earlier."""
    machine = row.origin.machine
    yield from chain(_counts(row), _ranks(row), limits.of_machine(row, machine))
    yield from chain(_recomputed(record, row), _rounds(row), _statistics(stats), _processes(row))
    yield from chain(verdicts.agreement(row), verdicts.scores(row), verdicts.task(row))
    if row.validated:
        yield from limits.of_rate(row, record, machine)


def require_dates(date: str, commit_date: str | None) -> None:
    """Raise a RowError if a measurement is of the future, or its commit is younger."""
    measured = datetime.fromisoformat(date)
    if measured > datetime.now(UTC) + CLOCKS:
        raise RowError(f"its date {date} is in the future")
    if commit_date is not None and datetime.fromisoformat(commit_date) > measured + CLOCKS:
        raise RowError(f"its commit, of {commit_date}, is younger than its date {date}")


def follows(one: Any, other: Any) -> bool:
    """Whether a JSON value is ``other``, but for the rounding of numbers and fields that only ``other`` has."""
    if isinstance(one, bool) or isinstance(other, bool) or one is None or other is None:
        return one is other
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=_SAME)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return all(name in other and follows(value, other[name]) for name, value in one.items())
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(follows, one, other))
    return bool(one == other)


def _recomputed(record: Mapping[str, Any], row: Row) -> Iterator[str]:
    """Yield the fields that do not follow from the others."""
    again = row.as_dict()
    again["workload"] = record["workload"]  # earlier versions have other names in it
    if row.limits is None and record.get("peak_flops_per_second"):  # of earlier versions
        again["fraction_of_peak"] = again["flops_per_second"] / record["peak_flops_per_second"]
    if "image_bytes_per_second" in record:  # of earlier versions too
        again["image_bytes_per_second"] = row.workload.image_bytes * row.workload.iterations / row.costs["train"]
    if row.size is None:
        again |= dict.fromkeys(("hidden", "allowed_threads", "compared"))
    for name, value in record.items():
        if name in again and not follows(value, again[name]):
            place, one, other = _first_difference(name, value, again[name])
            yield f"{place} is {told(one)}, where the rest of the row gives {told(other)}"
    if not follows(row.costs["train"], statistics.median(row.samples)):
        yield f"costs, train is {row.costs['train']:.6g}, where the rounds give {statistics.median(row.samples):.6g}"


def _first_difference(name: str, one: Any, other: Any) -> tuple[str, Any, Any]:
    """Return the place of the first difference of two JSON values, and the two values there."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        inner = next(inner for inner, value in one.items() if inner not in other or not follows(value, other[inner]))
        return _first_difference(f"{name}, {inner}", one[inner], other.get(inner))
    return name, one, other


def _statistics(stats: Mapping[str, Any]) -> Iterator[str]:
    """Yield the statistics of pytest-benchmark that are not those of the rounds."""
    data = stats["data"]
    mean, extent = statistics.fmean(data), (min(data), max(data))
    expected = {
        "rounds": len(data),
        "min": extent[0],
        "max": extent[1],
        "mean": mean,
        "median": statistics.median(data),
        "total": math.fsum(data),
        "ops": 1 / mean,
        "stddev": statistics.stdev(data) if len(data) > 1 else 0.0,
    }
    for name, value in expected.items():
        # A deviation is a difference, which loses digits.
        if not math.isclose(stats[name], value, rel_tol=1e-6, abs_tol=_SAME * mean if name == "stddev" else 0):
            yield f"stats, {name} is {stats[name]:.6g}, where the rounds give {value:.6g}"
    for name in ("q1", "q3", "ld15iqr", "hd15iqr"):
        if not extent[0] * (1 - _SAME) <= stats[name] <= extent[1] * (1 + _SAME):
            yield f"stats, {name} is {stats[name]:.6g}, outside of the rounds"


def _counts(row: Row) -> Iterator[str]:
    """Yield what does not fit the numbers of costs, iterations, rounds and processes."""
    iterations, rounds = row.workload.iterations, len(row.samples)
    if {*row.costs} not in _COSTS:
        yield f"costs are {', '.join(row.costs)}: some of a new process, and not all"
    if row.timed is not None and row.timed >= iterations:
        yield f"timed is {row.timed:,}, of {words.counted(iterations, 'iteration')}"
    for name, points in (("agreement, trajectory", row.agreement.trajectory), ("errors", row.errors)):
        places = [place for place, _ in points]
        # The scaling benchmark may compare more iterations than it times.
        if places != sorted(set(places)) or (row.size is None and max(places, default=0) > iterations):
            yield f"{name} has iterations out of order, or after the last"
    if row.proof is not None:
        for name in ("seeds", "advance", "whole", "cpu"):
            if len(getattr(row.proof, name)) != rounds:
                yield f"proof, {name} is of {len(getattr(row.proof, name))} rounds, where {rounds} were timed"
        if row.proof.watched and len(row.proof.watched) != len(row.runs):
            yield f"proof, watched is of {len(row.proof.watched)} processes, where {len(row.runs)} ran"


def _processes(row: Row) -> Iterator[str]:
    """Yield the costs that are not those of the new processes."""
    if row.cold is None:
        return
    iterations = row.workload.iterations
    for process in (*row.cold.empty, *row.cold.filled, *row.cold.kernels):
        if process.iterations > iterations:
            yield f"a new process trained {process.iterations:,} of {words.counted(iterations, 'iteration')}"
    found = {"compile_cached": row.cold.compile_cached, "peak_memory_bytes": row.cold.peak_memory, **row.cold.costs}
    own = {"compile_cached": row.compile_cached, "peak_memory_bytes": row.peak_memory_bytes, **row.costs}
    for name, value in found.items():
        if not follows(value, own.get(name)):
            yield f"{name} is {told(own.get(name))}, where the new processes give {told(value)}"


def _ranks(row: Row) -> Iterator[str]:
    """Yield what does not fit the ranks that trained together."""
    if row.ranks is None:
        return
    threads, number = sum(row.ranks.threads), len(row.ranks.threads)
    if threads != row.threads:
        yield f"ranks have {words.counted(threads, 'thread')}, and the row has {row.threads:,}"
    if row.ranks.hosts > number:
        yield f"ranks are {number}, on {words.counted(row.ranks.hosts, 'host')}"


def _rounds(row: Row) -> Iterator[str]:
    """Yield rounds whose seconds are not those that the clocks showed."""
    proof = row.proof
    if proof is None or len(proof.advance) != len(row.samples) or len(proof.whole) != len(row.samples):
        return
    scale = row.workload.iterations / (row.timed or row.workload.iterations)
    for place, (seconds, advance, whole) in enumerate(zip(row.samples, proof.advance, proof.whole, strict=True), 1):
        if advance > whole + LATE_FLOOR:
            yield f"round {place} took {words.seconds(whole)} from host to host, and {words.seconds(advance)} in it"
        clock = (whole if is_late(advance, whole) else advance) * scale
        if not math.isclose(seconds, clock, rel_tol=1e-6):
            yield f"round {place} is {words.seconds(seconds)}, where its clock gives {words.seconds(clock)}"
    if row.validated and (problem := threads_beyond(proof.advance, proof.cpu, row.threads, row.device)):
        yield problem
