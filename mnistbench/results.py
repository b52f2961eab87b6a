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
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mnistbench.backends as registry
from mnistbench.agreement import Agreement, Trajectory
from mnistbench.errors import MnistbenchError
from mnistbench.files import write_text
from mnistbench.measurement import statistics
from mnistbench.measurement.cold import ColdStart
from mnistbench.workload import Workload

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
"""Raised when a row's fields change their meaning."""


def row(
    workload: Workload,
    description: dict[str, Any],
    start: ColdStart,
    samples: Sequence[float],
    agreement: Agreement,
    trajectory: Trajectory,
    final: dict[str, float | None],
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
    """
    middle = statistics.median(samples)
    costs = {**start.costs.as_dict(), "train": middle.value}
    rate = workload.dense_flops * workload.iterations / middle.value
    peak = _peak(workload, description)
    problem = _problem(agreement, rate, peak, description)
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
        "flops_per_second": rate,
        "peak_flops_per_second": peak,
        "fraction_of_peak": None if peak is None else rate / peak,
        "image_bytes_per_second": workload.image_bytes * workload.iterations / middle.value,
        "final": final,
        "history": [{"iteration": m.iteration, "loss": m.loss, "accuracy": m.accuracy} for m in agreement.history],
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


def _peak(workload: Workload, description: dict[str, Any]) -> float | None:
    """The host's multiply-add peak for a row that was computed on it, None for another device."""
    if description["device"] != "CPU":
        return None
    from mnistbench.measurement import limits  # which loads Numba; reading rows needs none

    return limits.multiply_add_peak(workload.dtype, description["threads"])


def _problem(agreement: Agreement, rate: float, peak: float | None, description: dict[str, Any]) -> str | None:
    """Why a row is no result, or None."""
    if not agreement.passed:
        return f"disagrees with the reference: {agreement.summary()}"
    if peak is not None and rate > peak and description["skips"] is None:
        return f"{rate / 1e9:.0f} GFLOP/s is above the machine's peak of {peak / 1e9:.0f}, and nothing is skipped"
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


def load(folder: Path) -> pd.DataFrame:
    """Every row of every run stored in a machine's folder, oldest first.

    The columns are the row's own fields, and besides: ``dtype``, ``workload`` (its name), ``images``, ``iterations``,
    ``samples``, ``median``, ``low``, ``high``, ``level``, ``noisy``, ``tolerance``, ``accuracy`` (train),
    ``machine``, ``commit``, ``dirty``, ``commit_date`` (None where it is not known), ``date``, ``file``.

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

    Besides :func:`load`'s columns they have ``speedup``: the median of the ``numpy`` backend in float64 over the
    row's own, on as many threads, or for another device on the most; NaN where no such row is validated. The
    attribute ``images`` is the number of training images.
    """
    if rows.empty:
        return rows
    identity = ["backend", "dtype", "device", "threads"]
    chosen = rows[rows["workload"] == workload].drop_duplicates(identity, keep="last")
    rank = {name: place for place, name in enumerate(registry.names())}
    places = chosen["backend"].map(lambda name: rank.get(name, len(rank)))
    chosen = chosen.assign(place=places).sort_values(["place", "threads", "dtype"], kind="stable")
    chosen = chosen.drop(columns="place").reset_index(drop=True)
    numpy = chosen[(chosen["backend"] == "numpy") & (chosen["dtype"] == "float64") & chosen["validated"]]
    baselines = dict(zip(numpy["threads"], numpy["median"], strict=True))
    most = baselines[max(baselines)] if baselines else math.nan
    chosen["speedup"] = [
        (baselines.get(threads, math.nan) if device == "CPU" else most) / median
        for threads, device, median in zip(chosen["threads"], chosen["device"], chosen["median"], strict=True)
    ]
    if len(chosen):
        chosen.attrs["images"] = int(chosen["images"].iloc[0])
    return chosen


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
