"""Comparison of what a row says with what follows from the rest of it, and with the limits that its machine states."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnistbench import words
from mnistbench.agreement import growth, switching, trajectory_k
from mnistbench.exceptions import RowError
from mnistbench.machine.bounds import Speed
from mnistbench.machine.identity import Machine
from mnistbench.measurement import LATE_FLOOR, is_late, threads_beyond
from mnistbench.measurement.bound import least_flops_of, pixels_in_use
from mnistbench.results.merging.schema import ENTRY
from mnistbench.results.origin import Origin
from mnistbench.results.reading import DAMAGED, quoted
from mnistbench.results.row import Row
from mnistbench.task.presets import PRESETS
from mnistbench.task.workload import Workload
from mnistbench.threads import most_threads
from mnistbench.timing.statistics import median

CLOCKS = timedelta(days=1)
"""Largest difference of two machines' clocks: by more, a date is in the future, or a commit after its measurement."""

_SAME = 1e-9
"""Relative difference up to which two numbers are the same, computed in different orders."""

_LOOSEST = 10.0
"""Largest tolerance of a relative error that is believed; that of "deep" in float32 is 1.3."""

_LOOSER = 2.0
"""Largest tolerance of a classic that is believed, as a multiple of today's."""

_COSTS: tuple[set[str], ...] = (
    {"train"},
    {"load", "train"},
    {"import", "load", "compile", "train"},
    {"import", "load", "compile", "tuning", "first_call", "train"},
)
"""Costs that a row has: without new processes, in the scaling benchmark, in earlier versions, and all of them."""

_KNOWN_IMAGES = 60_000
"""Largest number of training images that are loaded to compare a row with them."""


def examined(entry: Mapping[str, Any], origin: Origin) -> Row:
    """Read a row from an entry of pytest-benchmark.

    Raises:
        RowError: If its form is wrong, or something it says is not believed.
    """
    ENTRY(entry, "")
    record, samples = entry["extra_info"], entry["stats"]["data"]
    try:
        row = Row.from_dict(record, samples, origin)
        problems = [*_counts(row), *_on(row, origin.machine), *_recomputed(record, row), *_statistics(entry["stats"])]
        problems += [*_agreement(row), *_task(row), *_rounds(row)]
        problems += _speed(row, record) if row.validated and not problems else ()
    except DAMAGED as error:
        raise RowError(words.exception(error)) from error
    if problems:
        raise RowError(problems[0])
    return row


def require_dates(date: str, commit_date: str | None) -> None:
    """Raise a RowError if a measurement is of the future, or its commit is younger."""
    measured = datetime.fromisoformat(date)
    if measured > datetime.now(UTC) + CLOCKS:
        raise RowError(f"its date {date} is in the future")
    if commit_date is not None and datetime.fromisoformat(commit_date) > measured + CLOCKS:
        raise RowError(f"its commit, of {commit_date}, is younger than its date {date}")


def too_many_threads(threads: int, machine: Machine) -> str | None:
    """Describe in words that nobody may ask for as many threads on a machine, or return None."""
    if not machine.cpus or threads <= most_threads(machine.cpus):
        return None
    return f"threads is {threads}, and the machine has {words.counted(machine.cpus, 'CPU')}"


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same but for the rounding of numbers and fields that only ``other`` has."""
    if isinstance(one, bool) or isinstance(other, bool) or one is None or other is None:
        return one is other
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=_SAME)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return all(name in other and same(value, other[name]) for name, value in one.items())
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def _told(value: Any) -> str:
    return quoted(value) if isinstance(value, str) else f"{value:.6g}" if isinstance(value, float) else str(value)[:60]


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
        if name in again and not same(value, again[name]):
            yield f"{name} is {_told(value)}, where the rest of the row gives {_told(again[name])}"
    if not same(row.costs["train"], statistics.median(row.samples)):
        yield f"costs, train is {row.costs['train']:.6g}, where the rounds give {statistics.median(row.samples):.6g}"
    if row.cold is not None:
        found = {"compile_cached": row.cold.compile_cached, "peak_memory_bytes": row.cold.peak_memory, **row.cold.costs}
        own = {"compile_cached": row.compile_cached, "peak_memory_bytes": row.peak_memory_bytes, **row.costs}
        for name, value in found.items():
            if not same(value, own.get(name)):
                yield f"{name} is {_told(own.get(name))}, where the new processes give {_told(value)}"


def _statistics(stats: Mapping[str, Any]) -> Iterator[str]:
    """Yield the statistics of pytest-benchmark that are not those of the rounds."""
    data = stats["data"]
    mean, extent = statistics.fmean(data), (min(data), max(data))
    expected = {
        "rounds": len(data),
        "min": extent[0],
        "max": extent[1],
        "mean": mean,
        "median": median(data).value,
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
    for process in (*row.cold.empty, *row.cold.filled, *row.cold.kernels) if row.cold else ():
        if process.iterations > iterations:
            yield f"a new process trained {process.iterations:,} of {words.counted(iterations, 'iteration')}"
    if row.proof is not None:
        for name in ("seeds", "advance", "whole", "cpu"):
            if len(getattr(row.proof, name)) != rounds:
                yield f"proof, {name} is of {len(getattr(row.proof, name))} rounds, where {rounds} were timed"
        if row.proof.watched and len(row.proof.watched) != len(row.runs):
            yield f"proof, watched is of {len(row.proof.watched)} processes, where {len(row.runs)} ran"


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


_WORST = re.compile(r".* after (\d+) updates: (\S+) of its tolerance")


def _agreement(row: Row) -> Iterator[str]:
    """Yield what contradicts the agreement with the reference that a row claims."""
    found = row.agreement
    if row.validated and not found.passed:
        yield "validated is true, and agreement, passed is false"
    if not found.passed:
        return
    # A classic's tolerance grows from checkpoint to checkpoint, others' may fall: theirs is known of the last alone.
    for iteration, error in found.trajectory if row.workload.is_classic else found.trajectory[-1:]:
        if error > found.tolerance:
            of = f"{words.relative(error)} of {words.relative(found.tolerance)}"
            yield f"agreement, passed is true, and the error after {words.counted(iteration, 'iteration')} is {of}"
    worst = _WORST.fullmatch(found.summary)
    if worst is None:
        yield f"agreement, summary is {quoted(found.summary)}, and does not name the worst comparison"
    elif not _at_most_one(worst[2]):
        yield f"agreement, passed is true, and its summary says: {words.visible(found.summary)}"
    if row.validated and not found.trajectory:
        yield "agreement, trajectory is empty, and validated is true"
    if found.tolerance > (most := _loosest(row.workload)):
        yield f"agreement, tolerance is {words.relative(found.tolerance)}, more than {words.relative(most)}"


def _at_most_one(text: str) -> bool:
    try:
        return float(text) <= 1
    except ValueError:
        return False


def _loosest(workload: Workload) -> float:
    """Return the largest tolerance of a relative error that is believed."""
    if not workload.is_classic:
        return _LOOSEST
    eps = 2.0 ** (-52 if workload.dtype == "float64" else -23)
    today = growth(workload.images) * trajectory_k(workload.iterations) * eps + switching(workload, eps)
    return min(_LOOSEST, _LOOSER * today)


def _task(row: Row) -> Iterator[str]:
    """Yield what a row says of its task or its data that is not so."""
    workload, size = row.workload, row.size
    preset = PRESETS.get(workload.name)
    if preset is not None and _without_seed(workload) != _without_seed(preset.with_dtype(workload.dtype)):
        yield f"workload is named {workload.name}, and is not that preset"
    if size is not None and size.hidden not in workload.network.hidden:
        yield f"hidden is {size.hidden}, where the network is {workload.network}"
    if workload.network.inputs == 784 and workload.images <= _KNOWN_IMAGES:
        digest, _ = _embedded(workload.images, workload.seed)
        if row.data_sha256 != digest:
            yield f"data_sha256 is not that of {workload.images:,} images of MNIST with seed {workload.seed}"


def _without_seed(workload: Workload) -> dict[str, Any]:
    return {name: value for name, value in workload.describe().items() if name != "seed"}


@lru_cache(maxsize=64)
def _embedded(images: int, seed: int) -> tuple[str, NDArray[np.int64]]:
    """Return the digest of the embedded MNIST's data set, and the pixels in use of its training images."""
    from mnistbench.datasets import load_images

    dataset = load_images(images, seed)
    return dataset.sha256, pixels_in_use(dataset)


def _on(row: Row, machine: Machine) -> Iterator[str]:
    """Yield what the machine of a row cannot have done."""
    if row.device != "CPU" and machine.vendor and machine.gpu is None:
        yield f"device is {quoted(row.device)}, and the machine has no GPU"
    if row.device == "CPU" and row.gpu:
        yield "gpu reports a GPU, and the device is the CPU"
    if problem := too_many_threads(row.threads, machine):
        yield problem
    if row.limits is not None and row.device == "CPU" and row.limits.threads != row.threads:
        yield f"limits are of {words.counted(row.limits.threads, 'thread')}, and the row is of {row.threads}"
    memory = machine.memory_gib * 2**30
    used = row.peak_memory_bytes or 0
    if memory and used > memory:
        yield f"peak_memory_bytes is {words.size(used)}, and the machine has {words.size(memory)}"


def _speed(row: Row, record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the limit of the machine that the fastest round exceeds."""
    workload, read = row.workload, row.workload.image_bytes if row.bytes_read is None else row.bytes_read
    least = None
    if workload.network.inputs == 784 and workload.images <= _KNOWN_IMAGES:
        least = least_flops_of(workload, _embedded(workload.images, workload.seed)[1])
    units = () if row.arithmetic is None else (row.arithmetic.bits, row.arithmetic.products)
    speed = Speed(workload, min(row.samples), row.device, row.threads, read, row.skips, least, *units)
    if row.limits is not None:
        if problem := speed.above(row.limits):
            yield problem
    elif (peak := record.get("peak_flops_per_second")) and row.skips is None and speed.flops_per_second > peak:
        rates = (words.quantity(rate, "FLOP/s") for rate in (speed.flops_per_second, peak))
        yield "{} is above the machine's peak of {}, and nothing is skipped".format(*rates)
