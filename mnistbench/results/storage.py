"""Measured rows: from a timed trainer to pytest-benchmark's JSON, and from there to a pandas table.

A row says everything about one measurement: what ran, where, how long each round took, what it cost to get there,
and whether the numbers were right. It is stored as the ``extra_info`` of a pytest-benchmark entry, beside the raw
timings, so that pytest-benchmark's own commands work on the same files.

Files are ``results/<machine>/NNNN_<workload>_<commit>.json``, one for each run, never written again. Where several
runs measured the same backend and dtype on the same workload, the latest counts.
"""

from __future__ import annotations

import json
import math
import statistics as standard
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mnistbench.backends as registry
from mnistbench import machine
from mnistbench.agreement import Agreement, Trajectory
from mnistbench.exceptions import MnistbenchError
from mnistbench.files import write_text
from mnistbench.task.workload import Workload
from mnistbench.timing import statistics
from mnistbench.training.cold import ColdStart

if TYPE_CHECKING:
    import pandas as pd

    from mnistbench.machine.rates import Limits, Rates

SCHEMA = 1
"""Raised when a row's fields change their meaning."""


def case_name(workload: Workload, backend: str, description: dict[str, Any]) -> str:
    """What pytest-benchmark knows a row by: the same for the same measurement, whoever makes it."""
    return f"{workload.name}-{backend}-{workload.dtype}-{description['threads']}-threads"


def case_fullname(name: str) -> str:
    """The same with the place of the benchmark in front of it."""
    return f"benchmarks/test_training.py::{name}"


def row(
    workload: Workload,
    description: dict[str, Any],
    start: ColdStart,
    samples: Sequence[float],
    agreement: Agreement,
    trajectory: Trajectory,
    final: dict[str, float | None],
    problem: str | None = None,
) -> dict[str, Any]:
    """One measurement as JSON values.

    Args:
        workload: what was computed.
        description: what the trainer said of itself.
        start: what a cold process paid to import, load and compile.
        samples: seconds of each timed round.
        agreement: of the same trainer with the reference.
        trajectory: the reference's.
        final: loss, train_accuracy, dev_accuracy and test_accuracy after the last iteration.
        problem: why it is no result, if that is known already.
    """
    middle = statistics.median(samples)
    costs = {**start.costs.as_dict(), "train": middle.value}
    speed, too_fast = _beside_limits(workload, description, middle.value)
    if problem is None:
        problem = too_fast if agreement.passed else f"disagrees with the reference: {agreement.summary()}"
    return {
        "schema": SCHEMA,
        "backend": agreement.backend,
        "workload": workload.describe(),
        "device": description["device"],
        "threads": description["threads"],
        "kernel": description["kernel"],
        "skips": description["skips"],
        "versions": description["versions"],
        "gpu": description.get("gpu"),
        "costs": costs,
        "compile_cached": start.compile_cached,
        "peak_memory_bytes": start.peak_memory,
        "dense_flops": workload.dense_flops,
        "image_bytes": workload.image_bytes,
        **speed,
        "final": final,
        "history": [{"iteration": m.iteration, "loss": m.loss, "accuracy": m.accuracy} for m in agreement.history],
        "errors": [{"iteration": k, "error": error} for k, error in agreement.errors],
        "agreement": {
            "passed": agreement.passed,
            "summary": agreement.summary(),
            "tolerance": trajectory.drift(workload.iterations, workload.dtype),
            "trajectory": [{"iteration": k, "error": error} for k, error in agreement.trajectory()],
        },
        "data_sha256": trajectory.dataset.sha256,
        "validated": problem is None,
        "problem": problem,
    }


def impossible(workload: Workload, description: dict[str, Any], seconds: float) -> str | None:
    """Which of the machine's limits a trainer that takes so many seconds for the workload is above, or None."""
    return _beside_limits(workload, description, seconds)[1]


def _beside_limits(
    workload: Workload, description: dict[str, Any], seconds: float
) -> tuple[dict[str, Any], str | None]:
    """The fields of a row that tell its speed and the machine's limits, and which limit it is above, or None.

    Before a row is found too fast, the limits are measured again: it may be they that were measured in a bad moment.
    """
    from mnistbench.machine import limits  # which loads Numba; reading rows needs none

    told = description.get("bytes_read")
    bytes_read = workload.image_bytes if told is None else told
    for again in (False, True):
        machine = limits.limits(description["threads"], again)
        rates = _rates(machine, description["device"])
        speed = _speed(workload, bytes_read, seconds, rates)
        too_fast = _too_fast(description, speed, bytes_read, rates)
        if too_fast is None:
            break
    return {"bytes_read": bytes_read, **speed, "limits": machine.as_dict()}, too_fast


def _rates(machine: Limits, device: str) -> Rates | None:
    """The limits of the device that a row was computed on; None for one that was not measured."""
    if device == "CPU":
        return machine
    return machine.gpu if machine.gpu is not None and machine.gpu.name == device else None


def _speed(workload: Workload, bytes_read: int, seconds: float, rates: Rates | None) -> dict[str, float | None]:
    """The rates of a workload that takes so many seconds, and what fractions of the device's limits they are.

    None where a limit is not known. ``fraction_of_peak`` is of the dense computation: skipping work can pass 1.
    ``fraction_of_bandwidth`` is of the place that holds ``bytes_read``; what is read twice and kept nearer passes 1.
    """
    rate = workload.dense_flops * workload.iterations / seconds
    reading = bytes_read * workload.iterations / seconds
    peak = None if rates is None else rates.multiply_add.get(workload.dtype)
    bandwidth = None if rates is None else rates.bandwidth_for(bytes_read)
    return {
        "flops_per_second": rate,
        "peak_flops_per_second": peak,
        "fraction_of_peak": None if peak is None else rate / peak,
        "image_bytes_per_second": workload.image_bytes * workload.iterations / seconds,
        "bytes_per_second": reading,
        "fraction_of_bandwidth": None if bandwidth is None else reading / bandwidth,
    }


def _too_fast(description: dict[str, Any], speed: dict[str, Any], bytes_read: int, rates: Rates | None) -> str | None:
    """Which of the CPU's limits a row is above, or None: a measuring error, unless it says which work it skips.

    An iteration passes over the images twice and may find in a near cache what it has just read, so only half of
    ``bytes_read`` must have come from where it lies. Beyond that nothing is allowed for. A GPU's rates say nothing
    against a row: its matrix units are faster than its multiply-adds, and a kernel may keep images in memory of its
    own.
    """
    if rates is None or description["device"] != "CPU" or description["skips"] is not None:
        return None
    rate, peak = speed["flops_per_second"], speed["peak_flops_per_second"]
    if peak is not None and rate > peak:
        return f"{rate / 1e9:.0f} GFLOP/s is above the machine's peak of {peak / 1e9:.0f}, and nothing is skipped"
    reading, least = speed["bytes_per_second"], rates.least_seconds(bytes_read / 2)
    if least is not None and reading * least > bytes_read:
        return (
            f"reading {reading / 1e9:.0f} GB/s is above the {bytes_read / least / 1e9:.0f} that the machine's caches "
            "and memory can give, and nothing is skipped"
        )
    return None


def store(folder: Path, name: str, document: dict[str, Any]) -> Path:
    """Write a pytest-benchmark document under the next free number in ``folder``; return its path.

    Raises:
        MnistbenchError: it cannot be written.
    """
    taken = [int(path.name[:4]) for path in folder.glob("[0-9][0-9][0-9][0-9]_*.json")]
    path = folder / f"{max(taken, default=0) + 1:04}_{name}.json"
    write_text(path, json.dumps(document, indent=1) + "\n")
    return path


def document(entries: Sequence[tuple[dict[str, Any], Sequence[float]]]) -> dict[str, Any]:
    """Rows of one run in interleaved rounds, and the seconds of their rounds, as pytest-benchmark would store them.

    The i-th timings of all rows are of the same round.
    """
    now = datetime.now(UTC).isoformat()
    benchmarks = []
    for fields, samples in entries:
        workload = Workload.from_description(fields["workload"])
        name = case_name(workload, fields["backend"], fields)
        benchmarks.append(
            {
                "group": workload.dtype,
                "name": name,
                "fullname": case_fullname(name),
                "params": {"backend_name": fields["backend"], "dtype": workload.dtype},
                "param": f"{fields['backend']}-{workload.dtype}",
                "extra_info": {**fields, "interleaved": True},
                "options": {},
                "stats": _stats(samples),
            }
        )
    return {
        "machine_info": {**machine.describe(), "versions": machine.versions()},
        "commit_info": machine.commit(),
        "benchmarks": benchmarks,
        "datetime": now,
        "version": "5.3.1",  # of pytest-benchmark's format
    }


def _stats(samples: Sequence[float]) -> dict[str, Any]:
    """The fields of pytest-benchmark's ``stats``, by its definitions."""
    ordered = sorted(samples)
    mean, deviation = standard.fmean(ordered), standard.stdev(ordered) if len(ordered) > 1 else 0
    low, high = _quartiles(ordered)
    reach = 1.5 * (high - low)
    far = [value for value in ordered if not low - reach <= value <= high + reach]
    further = [value for value in ordered if abs(value - mean) > deviation]
    near = [value for value in ordered if value not in far]
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": mean,
        "stddev": deviation,
        "rounds": len(ordered),
        "median": standard.median(ordered),
        "iqr": high - low,
        "q1": low,
        "q3": high,
        "iqr_outliers": len(far),
        "stddev_outliers": len(further),
        "outliers": f"{len(further)};{len(far)}",
        "ld15iqr": near[0],
        "hd15iqr": near[-1],
        "ops": 1 / mean,
        "total": sum(ordered),
        "data": list(samples),
        "iterations": 1,
    }


def _quartiles(ordered: Sequence[float]) -> tuple[float, float]:
    """The medians of the lower and the upper half; of an odd number, the means of those with and without the middle."""
    n = len(ordered)
    without, with_middle = max(1, n // 2), (n + 1) // 2
    low = standard.fmean(standard.median(ordered[:size]) for size in (without, with_middle))
    return low, standard.fmean(standard.median(ordered[-size:]) for size in (without, with_middle))


def load(folder: Path) -> pd.DataFrame:
    """Every row of every run stored in a machine's folder, oldest first.

    The columns are the row's own fields, and besides: ``dtype``, ``workload`` (its name), ``images``, ``iterations``,
    ``batch_size`` (None where an iteration takes all images), ``samples``, ``median``, ``low``, ``high``, ``level``,
    ``noisy``, ``tolerance``, ``accuracy`` (train), ``machine``, ``commit``, ``dirty``, ``commit_date`` (None where it
    is not known), ``date``, ``file``.

    Raises:
        MnistbenchError: a file is not what :func:`store` wrote.
    """
    import pandas as pd

    records: list[dict[str, Any]] = []
    for path in sorted(folder.glob("[0-9][0-9][0-9][0-9]_*.json")):
        try:
            records.extend(_records(path))
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise MnistbenchError(f"{path}: not a file of measurements ({reason}); remove or restore it") from error
    return pd.DataFrame.from_records(records)


def _records(path: Path) -> list[dict[str, Any]]:
    document = json.loads(path.read_text(encoding="utf-8"))
    records = []
    for entry in document["benchmarks"]:
        fields = dict(entry["extra_info"])
        if fields.get("schema") != SCHEMA:
            continue  # not a row of ours, such as a user's own benchmark
        samples = entry["stats"]["data"]
        middle = statistics.median(samples)
        workload, agreement = fields.pop("workload"), fields.pop("agreement")
        records.append(
            {
                **fields,
                "dtype": workload["dtype"],
                "workload": workload["name"],
                "images": workload["images"],
                "iterations": workload["iterations"],
                "batch_size": workload.get("recipe", {}).get("batch_size"),
                "samples": samples,
                "median": middle.value,
                "low": middle.low,
                "high": middle.high,
                "level": middle.level,
                "noisy": middle.noisy,
                "accuracy": fields["final"]["train_accuracy"],
                "tolerance": agreement["tolerance"],
                "agreement": agreement["trajectory"],
                "agreement_summary": agreement["summary"],
                "machine": document["machine_info"]["name"],
                "commit": document["commit_info"]["id"],
                "dirty": document["commit_info"]["dirty"],
                "commit_date": document["commit_info"].get("time"),
                "date": document["datetime"],
                "file": path.name,
            }
        )
    return records


def latest(rows: pd.DataFrame, workload: str) -> pd.DataFrame:
    """The last row of each backend, dtype, device and number of threads on a workload, in the registry's order.

    Besides :func:`load`'s columns they have ``speedup``, ``speedup_low`` and ``speedup_high``: over the ``numpy``
    backend in float64. Where both ran in interleaved rounds, it is their ratio within rounds, with its interval;
    else the ratio of medians, without one (NaN), on as many threads, or for another device on the most. NaN where no
    such row is validated. The attribute ``images`` is the number of training images.
    """
    if rows.empty:
        return rows
    of_workload = rows[rows["workload"] == workload]
    identity = ["backend", "dtype", "device", "threads"]
    chosen = of_workload.drop_duplicates(identity, keep="last")
    rank = {name: place for place, name in enumerate(registry.names())}
    places = chosen["backend"].map(lambda name: rank.get(name, len(rank)))
    chosen = chosen.assign(place=places).sort_values(["place", "threads", "dtype"], kind="stable")
    chosen = chosen.drop(columns="place").reset_index(drop=True)
    records = of_workload.to_dict("records")
    baselines = [r for r in records if (r["backend"], r["dtype"]) == ("numpy", "float64") and r["validated"]]
    speedups = [_speedup(row, baselines) for row in chosen.to_dict("records")]
    for place, column in enumerate(("speedup", "speedup_low", "speedup_high")):
        chosen[column] = [values[place] for values in speedups]
    if len(chosen):
        chosen.attrs["images"] = int(chosen["images"].iloc[0])
    return chosen


def _speedup(row: dict[Any, Any], baselines: Sequence[dict[Any, Any]]) -> tuple[float, float, float]:
    """A row's speedup over one of the baselines, oldest first, and the limits of its interval."""
    if row.get("interleaved") is True:
        for other in baselines:
            if other["file"] == row["file"] and len(other["samples"]) == len(row["samples"]):
                ratio = statistics.paired_ratio(other["samples"], row["samples"])
                return (ratio.value, ratio.low, ratio.high) if ratio.known else (ratio.value, math.nan, math.nan)
    medians = {other["threads"]: other["median"] for other in baselines}
    most = medians[max(medians)] if medians else math.nan
    own = medians.get(row["threads"], math.nan) if row["device"] == "CPU" else most
    return own / row["median"], math.nan, math.nan


SCALING = "scaling"
"""The name of the workloads of the scaling benchmark, which differ in more than the backend."""


def scaling(rows: pd.DataFrame) -> pd.DataFrame:
    """The last row of each backend, dtype and device at each size of the scaling benchmark, in the order stored.

    Besides :func:`load`'s columns they have ``hidden`` (units), ``allowed_threads``, ``axes`` (a list: which of
    "images", "hidden" and "threads" the row belongs to) and ``compared`` (in words, what agrees with the reference).
    """
    if rows.empty:
        return rows
    identity = ["backend", "dtype", "device", "images", "hidden", "allowed_threads"]
    chosen = rows[rows["workload"] == SCALING]
    return chosen.drop_duplicates(identity, keep="last").reset_index(drop=True) if len(chosen) else chosen
