"""What people read of the results: tables, charts and README files, all generated from stored rows.

``write`` makes them anew, ``stale`` names those that no longer match the rows or the code that drew them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from mnistbench import charts, results
from mnistbench.errors import MnistbenchError
from mnistbench.files import write_text
from mnistbench.workload import PRESETS

Row = dict[str, Any]

OPENING = "classic"
"""The workload whose table and chart open the project's README."""

_BEGIN, _END = "<!-- results: begin, written by 'mnistbench charts' -->", "<!-- results: end -->"


def seconds(value: float) -> str:
    """A duration to three digits in the unit that suits it: "23.2 s", "2.04 ms", "870 µs"."""
    rounded = float(f"{value:.2e}")
    if rounded == 0 or rounded >= 1000:
        return f"{value:.0f} {'s' if rounded else 'µs'}"
    unit, factor = next(((u, f) for u, f in (("s", 1.0), ("ms", 1e3)) if rounded * f >= 1), ("µs", 1e6))
    scaled = rounded * factor
    decimals = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
    return f"{scaled:.{decimals}f} {unit}"


def times(ratio: float) -> str:
    """A ratio to three digits: "24.1×", "1.00×", "1,020×"."""
    return f"{ratio:,.0f}×" if ratio >= 99.95 else f"{ratio:#.3g}×"


def _train(row: Row) -> str:
    noisy = ", noisy" if row["noisy"] else ""
    return f"{seconds(row['median'])} ({seconds(row['low'])} to {seconds(row['high'])}{noisy})"


def _compile(row: Row) -> str:
    cached = row["compile_cached"]
    if row["costs"]["compile"] < 1e-3:
        return "nothing"
    return seconds(row["costs"]["compile"]) + ("" if pd.isna(cached) else f" ({seconds(cached)} cached)")


def _agreement(row: Row) -> str:
    error = row["agreement"][-1]["error"] if row["agreement"] else math.nan
    return f"agrees ({error:.0e})" if row["validated"] and error else "agrees (0)" if row["validated"] else "NO RESULT"


def _speedup(row: Row) -> str:
    if math.isnan(row["speedup"]) or not row["validated"]:
        return ""
    low, high = row["speedup_low"], row["speedup_high"]
    interval = f" ({times(low)} to {times(high)})" if math.isfinite(high) and low < high else ""
    return f"{times(row['speedup'])}{interval}"


_COLUMNS: dict[str, Callable[[Row], str]] = {
    "backend": lambda row: str(row["backend"]),
    "dtype": lambda row: str(row["dtype"]),
    "device": lambda row: f"{row['device']}, {row['threads']} thread{'s' * (row['threads'] != 1)}",
    "load": lambda row: seconds(row["costs"]["load"]),
    "compile": _compile,
    "train": _train,
    "per iteration": lambda row: seconds(row["median"] / row["iterations"]),
    "speedup": _speedup,
    "accuracy": lambda row: f"{row['accuracy']:.1%}",
    "agreement": _agreement,
}


def _cells(rows: pd.DataFrame) -> list[list[str]]:
    """The headings, and a line of cells for each row."""
    return [[*_COLUMNS], *([make(row) for make in _COLUMNS.values()] for row in rows.to_dict("records"))]  # type: ignore[arg-type]


def as_text(rows: pd.DataFrame) -> Iterator[str]:
    """The table for a terminal, and a line for each thing to know about it."""
    cells = _cells(rows)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
    yield from _notes(rows)


def as_markdown(rows: pd.DataFrame) -> Iterator[str]:
    """The table as Markdown, and its notes."""
    headings, *lines = _cells(rows)
    yield f"| {' | '.join(headings)} |"
    yield f"| {' | '.join('---' for _ in headings)} |"
    for line in lines:
        yield f"| {' | '.join(line)} |"
    yield ""
    for note in _notes(rows):
        yield f"{note}  "


def _how_compared(rows: pd.DataFrame) -> str:
    if rows["speedup_high"].notna().all() and rows["file"].nunique() == 1:
        return "the ratio within rounds that ran all of them in turn, with its 95% interval"
    if rows["speedup_high"].notna().any():
        return "where it has an interval the ratio within rounds that ran both in turn, else a ratio of medians"
    return "a ratio of medians"


def _notes(rows: pd.DataFrame) -> Iterator[str]:
    """What a reader needs to judge the numbers."""
    rounds = rows["samples"].map(len)
    counted = f"{rounds.min()}" if rounds.min() == rounds.max() else f"{rounds.min()} to {rounds.max()}"
    yield (
        f"train: median of {counted} rounds of {rows['iterations'].iloc[0]} iterations from fresh weights, and an "
        f"interval that covers the true median with a probability of at least {rows['level'].min():.0%}; "
        f"speedup: over numpy float64, {_how_compared(rows)}; "
        "load and compile: in a process that has just started; agreement: the largest relative error of a parameter."
    )
    for row in rows.to_dict("records"):
        if not row["validated"]:
            yield f"{row['backend']} {row['dtype']} is no result: {row['problem']}."
        if row["noisy"]:
            spread = (max(row["samples"]) - min(row["samples"])) / row["median"]
            yield f"{row['backend']} {row['dtype']} is noisy: its rounds differ by {spread:.0%} of their median."
        gpu = row.get("gpu")
        if isinstance(gpu, dict) and gpu.get("throttled"):
            yield f"{row['backend']} {row['dtype']} ran while the GPU's clocks were held down: {gpu['throttled']}."


def write(folder: Path) -> list[Path]:
    """Draw every machine's charts, and write the folder's README.md and the results section of the one beside it.

    A README.md beside the folder that has no such section, between its two markers, stays as it is.

    Returns:
        the files written.

    Raises:
        MnistbenchError: there are no results, a file of them is damaged, or something cannot be written.
    """
    written = []
    for machine in _machines(folder):
        for workload, rows in _drawn(machine):
            for name, draw in charts.CHARTS.items():
                stem = machine / f"{workload}-{name}"
                written += charts.save(draw(_validated(rows)), stem, _digest(rows))
    for path, text in _texts(folder):
        write_text(path, text)
        written.append(path)
    return written


def stale(folder: Path) -> list[Path]:
    """The files that :func:`write` would change.

    Raises:
        MnistbenchError: there are no results, or a file of them is damaged.
    """
    found = []
    for machine in _machines(folder):
        for workload, rows in _drawn(machine):
            paths = [machine / f"{workload}-{name}.{kind}" for name in charts.CHARTS for kind in ("svg", "png")]
            found += [path for path in paths if charts.stored_source(path) != _digest(rows)]
    for path, text in _texts(folder):
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            found.append(path)
    return found


def _machines(folder: Path) -> list[Path]:
    """The folders of machines with stored results."""
    found = sorted({path.parent for path in folder.glob("*/[0-9][0-9][0-9][0-9]_*.json")})
    if not found:
        raise MnistbenchError(f"{folder}: holds no results; measure some with 'pytest benchmarks/'")
    return found


def _workloads(machine: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    """Each workload measured on a machine, presets first, and the latest rows of it."""
    rows = results.load(machine)
    for workload in dict.fromkeys([*PRESETS, *rows["workload"]]):
        if len(chosen := results.latest(rows, workload)):
            yield workload, chosen


def _drawn(machine: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    """The workloads that have charts of their own: presets with a result. Others have a table."""
    for workload, rows in _workloads(machine):
        if workload in PRESETS and rows["validated"].any():
            yield workload, rows


def _validated(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["validated"]].reset_index(drop=True)


def _digest(rows: pd.DataFrame) -> str:
    """Of the rows and of the code that draws them."""
    records = rows.to_dict("records")
    return charts.digest(json.dumps(records, sort_keys=True, default=lambda value: value.item()))


def _texts(folder: Path) -> Iterator[tuple[Path, str]]:
    """The README files and what they should say."""
    lines = [
        "# Results",
        "",
        "Written by `mnistbench charts` from the JSON files in the folders; see the project's README",
    ]
    lines += ["for what is measured and how."]
    if all((results.load(machine)["device"] == "CPU").all() for machine in _machines(folder)):
        lines += ["", "No GPU rows have been measured yet; `benchmarks/gpu.sh` measures them where there is a GPU."]
    opening: tuple[str, list[str]] = ("", [])
    for machine in _machines(folder):
        for workload, rows in _workloads(machine):
            table = [*as_markdown(rows), *_provenance(rows)]
            lines += ["", f"## {rows['machine'].iloc[0]}: {workload}", "", *table]
            if workload in PRESETS and rows["validated"].any():
                lines += [f"\n![{name}]({machine.name}/{workload}-{name}.svg)" for name in charts.CHARTS]
            if workload == OPENING and rows["date"].max() > opening[0]:
                chart = f"![training time]({folder.name}/{machine.name}/{workload}-training-time.svg)"
                opening = rows["date"].max(), [*table, "", chart]
    yield folder / "README.md", "\n".join(lines) + "\n"
    yield from _opening(folder.resolve().parent / "README.md", opening[1])


def _provenance(rows: pd.DataFrame) -> list[str]:
    """When, from which commit and with which versions the rows were measured."""
    versions: dict[str, str] = {}
    for found in rows["versions"]:
        versions |= found
    commits = dict.fromkeys(
        f"{row['commit'][:7]}{' with uncommitted changes' if row['dirty'] else ''}" for row in rows.to_dict("records")
    )
    libraries = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    return [f"Measured until {rows['date'].max()[:10]} at {', '.join(commits)}, with {libraries}."]


def _opening(readme: Path, lines: list[str]) -> Iterator[tuple[Path, str]]:
    """``readme`` with the lines between its two markers, if it has them."""
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if begin and end:
        yield readme, "\n".join([before + begin, *lines, end + after])
