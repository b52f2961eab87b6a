"""Finished comparisons as JSON values, and as stored rows."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mnistbench import files, machine, report
from mnistbench.comparison import Comparison, Contender
from mnistbench.measurement.bound import least_flops
from mnistbench.results import runs
from mnistbench.results.row import Row, final_record


def record(comparison: Comparison) -> dict[str, Any]:
    """Return the outcome as JSON values: all raw timings, ratios and warnings."""
    return {
        "machine": machine.describe(),
        "versions": machine.versions(),
        "workload": comparison.workload.describe(),
        "baseline": comparison.baseline,
        "isolated": comparison.isolated,
        "contenders": [_contender(contender, comparison) for contender in comparison.contenders],
        "warnings": comparison.warnings,
    }


def _contender(contender: Contender, comparison: Comparison) -> dict[str, Any]:
    ratio = comparison.ratio(contender)
    return {
        "label": contender.label,
        "backend": contender.backend,
        "dtype": contender.dtype,
        "seconds": contender.samples,
        "processes": [len(run) for run in contender.runs],
        "timed": contender.timed,
        "baseline": comparison.baseline_of(contender).label,
        # JSON has no infinity: an unknown interval is null.
        "ratio": ratio and {"value": ratio.value, "interval": [ratio.low, ratio.high] if ratio.known else None},
        "significant": comparison.significant(contender),
        "final": final_record(contender.final),
        "agreement": contender.agreement.summary(),
        "problem": contender.problem,
        "proof": contender.proof and asdict(contender.proof),
        "energy": contender.energy and asdict(contender.energy),
        "description": asdict(contender.description) if contender.description else {},
    }


def require_writable(folder: Path) -> None:
    """Check before the race that its rows can be stored.

    Raises:
        MnistbenchError: If they cannot.
    """
    runs.require_benchmark()
    files.require_writable(folder / machine.folder_name() / "measurements.json")


def store(comparison: Comparison, folder: Path) -> list[Path]:
    """Store the rows of all contenders that ran, draw the folder's charts anew, and return the files written.

    The rows are written together: cold starts, if any, were measured before the race. A backend that took part
    twice has one row: its first.

    Raises:
        MnistbenchError: If something cannot be written.
    """
    rows = [
        _row(contender, comparison) for contender in comparison.contenders if contender.samples and contender.is_first
    ]
    if not rows:
        return []
    options = {
        "command": "compare",
        "rounds": comparison.rounds,
        "processes": comparison.processes,
        "budget": comparison.budget if math.isfinite(comparison.budget) else None,
        "ran": comparison.ran,
        "isolated": comparison.isolated,
        "orders": comparison.orders,
        "cold_starts": comparison.cold_starts,
    }
    run = runs.Run(folder / machine.folder_name(), comparison.workload.name, options)
    run.document["benchmarks"] = [runs.entry(row) for row in rows]
    return [run.finish(), *report.write(folder)]


def _row(contender: Contender, comparison: Comparison) -> Row:
    assert comparison.trajectory is not None, "the reference comes before the race"
    assert contender.description is not None, "it was described before it ran"
    return Row.measured(
        comparison.workload.with_dtype(contender.dtype),
        contender.description,
        contender.cold,
        contender.samples,
        contender.agreement,
        comparison.trajectory,
        contender.final,
        problem=contender.problem,
        interleaved=True,
        timed=contender.timed,
        proof=contender.proof,
        processes=[len(run) for run in contender.runs if run],
        least_flops=least_flops(comparison.workload, comparison.trajectory.dataset),
        energy=contender.energy,
        share_cores=comparison.team is not None and comparison.team.may_share_cores,
    )
