"""A finished comparison as JSON values, and as rows stored like any others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from mnistbench import files, report, results
from mnistbench.comparison import Comparison, Contender
from mnistbench.measurement import cold, machine


def record(comparison: Comparison) -> dict[str, Any]:
    """The outcome as JSON values: all raw timings, ratios and warnings."""
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
        "baseline": comparison.baseline_of(contender).label,
        # JSON has no infinity: an interval that is not known is null.
        "ratio": ratio and {"value": ratio.value, "interval": [ratio.low, ratio.high] if ratio.known else None},
        "significant": comparison.significant(contender),
        "final": contender.final,
        "agreement": contender.agreement.summary(),
        "problem": contender.problem,
        "description": contender.description,
    }


def require_writable(folder: Path) -> None:
    """Find out before the race whether its rows can be stored.

    Raises:
        MnistbenchError: they cannot.
    """
    files.require_writable(folder / machine.folder_name() / "measurements.json")


def store(comparison: Comparison, folder: Path, threads: int | None) -> list[Path]:
    """Store the rows of everybody who ran all rounds, draw the folder's charts anew, and return the files written.

    What a cold process pays is measured here, one process after the other. A backend that took part twice has one
    row: its first.

    Raises:
        MnistbenchError: something cannot be written, or a process failed.
    """
    entries = []
    taken = set()
    for contender in comparison.contenders:
        case = contender.backend, contender.dtype
        if case in taken or len(contender.samples) < comparison.rounds:
            continue
        taken.add(case)
        workload = comparison.workload.with_dtype(contender.dtype)
        start = cold.measure(contender.backend, workload, threads)
        # Failed checks of timed rounds are among the agreement's; what else went wrong is a failure of its own.
        agreement = contender.agreement
        if contender.problem and agreement.passed:
            agreement = replace(agreement, failure=contender.problem)
        fields = results.row(
            workload, contender.description, start, contender.samples, agreement, comparison.trajectory, contender.final
        )
        entries.append((fields, contender.samples))
    if not entries:
        return []
    document = results.document(entries)
    name = f"{comparison.workload.name}_{document['commit_info']['id'][:7]}"
    stored = results.store(folder / machine.folder_name(), name, document)
    return [stored, *report.write(folder)]
