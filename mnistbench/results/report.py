"""What people read of the results: tables, charts and README files, all generated from stored rows.

``write`` makes them anew, ``stale`` names those that no longer match the rows or the code that drew them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from mnistbench import charts
from mnistbench.exceptions import MnistbenchError
from mnistbench.files import write_text
from mnistbench.results import reproduction, storage
from mnistbench.task.presets import PRESETS
from mnistbench.timing.statistics import NOISY_SPREAD

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = dict[str, Any]

Picture = tuple[str, "Callable[[pd.DataFrame], Figure]", pd.DataFrame]
"""A chart's file name without its suffix, what draws the validated ones of its rows, and the rows."""

OPENING = "classic"
"""The workload whose table and chart open the project's README."""

_BEGIN, _END = "<!-- {}: begin, written by 'mnistbench charts' -->", "<!-- {}: end -->"
"""Between two such lines, README's sections "results" and "errors" are written."""


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
    noisy = [
        f"{row['backend']} {row['dtype']} by {(max(row['samples']) - min(row['samples'])) / row['median']:.0%}"
        for row in rows.to_dict("records")
        if row["noisy"]
    ]
    if noisy:
        yield f"noisy, rounds that differ by more than {NOISY_SPREAD:.0%} of their median: {', '.join(noisy)}."
    for row in rows.to_dict("records"):
        if not row["validated"]:
            yield f"{row['backend']} {row['dtype']} is no result: {row['problem']}."
        gpu = row.get("gpu")
        if isinstance(gpu, dict) and gpu.get("throttled"):
            yield f"{row['backend']} {row['dtype']} ran while the GPU's clocks were held down: {gpu['throttled']}."


def write(folder: Path) -> list[Path]:
    """Draw every machine's charts, and write the folder's README.md and the sections of results in the one beside it.

    A README.md beside the folder that has no such sections, between their two markers, stays as it is.

    Returns:
        the files written.

    Raises:
        MnistbenchError: there are no results, a file of them is damaged, or something cannot be written.
    """
    written = []
    for machine in _machines(folder):
        for stem, draw, rows in _pictures(machine):
            written += charts.save(draw(_validated(rows)), machine / stem, _digest(rows))
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
        for stem, _, rows in _pictures(machine):
            paths = [machine / f"{stem}.{kind}" for kind in ("svg", "png")]
            found += [path for path in paths if charts.stored_source(path) != _digest(rows)]
    for path, text in _texts(folder):
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            found.append(path)
    return found


def history(folder: Path, backend: str, workload: str) -> pd.DataFrame:
    """The validated rows of a backend on a workload, from all runs on all machines, for :func:`charts.history`.

    Raises:
        MnistbenchError: there are none, the workload has rows of many sizes, or a file is damaged.
    """
    if workload == storage.SCALING:
        raise MnistbenchError(f"workload {workload}: its rows are of many sizes, and have no history in one line")
    rows = [row for machine in _machines(folder) for row in storage.load(machine).to_dict("records")]
    valid = [row for row in rows if row["validated"] and row["workload"] != storage.SCALING]
    chosen = [row for row in valid if (row["backend"], row["workload"]) == (backend, workload)]
    if not chosen:
        others = ", ".join(sorted({f"{row['backend']} on {row['workload']}" for row in valid})) or "of nothing"
        raise MnistbenchError(f"{folder}: holds no results of {backend} on {workload}; there are: {others}")
    return pd.DataFrame(chosen)


def spread(rows: pd.DataFrame) -> tuple[float, float] | None:
    """By what fractions of their median the rounds of a row differ, slowest less fastest: least and most of all rows.

    None where every row has a single round.
    """
    found = [(max(s) - min(s)) / m for s, m in zip(rows["samples"], rows["median"], strict=True) if len(s) > 1]
    return (min(found), max(found)) if found else None


def _machines(folder: Path) -> list[Path]:
    """The folders of machines with stored results."""
    timed = {path.parent for path in folder.glob("*/[0-9][0-9][0-9][0-9]_*.json")}
    found = sorted(timed | reproduction.machines(folder))
    if not found:
        raise MnistbenchError(f"{folder}: holds no results; measure some with 'pytest benchmarks/'")
    return found


def _workloads(machine: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    """Each workload measured on a machine, presets first, and the latest rows of it."""
    rows = storage.load(machine)
    for workload in dict.fromkeys([*PRESETS, *rows["workload"]]) if len(rows) else ():
        if workload != storage.SCALING and len(chosen := storage.latest(rows, workload)):
            yield workload, chosen


def _pictures(machine: Path) -> Iterator[Picture]:
    """All charts of a machine: those of each preset, and those of more than one workload."""
    for workload, rows in _workloads(machine):
        for name, draw in _charts(workload, rows).items():
            yield f"{workload}-{name}", draw, rows
    yield from _pictures_beyond(machine)
    yield from _picture_of_errors(machine)


def _charts(workload: str, rows: pd.DataFrame) -> dict[str, Callable[[pd.DataFrame], Figure]]:
    """The charts of a workload, by name; only presets have some, the others have their tables."""
    return charts.drawable(_validated(rows)) if workload in PRESETS else {}


def _pictures_beyond(machine: Path) -> Iterator[Picture]:
    """The charts of a machine that show more than one workload: the speedups, and the scaling along each axis."""
    every = pd.DataFrame([row for _, rows in _workloads(machine) for row in rows.to_dict("records")])
    if len(every) and charts.has_speedups(_validated(every)):
        yield "speedups", charts.speedups, every
    rows = storage.scaling(storage.load(machine))
    for axis in charts.scaling_axes(_validated(rows)) if len(rows) else ():
        yield f"scaling-{axis}", partial(charts.scaling, axis=axis), rows


def _picture_of_errors(machine: Path) -> Iterator[Picture]:
    """The chart of the presets' test errors, where some are stored."""
    if len(rows := reproduction.load(machine)):
        yield "test-errors", charts.errors_over_time, rows


def _validated(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["validated"]].reset_index(drop=True)


def _digest(rows: pd.DataFrame) -> str:
    """Of the rows and of the code that draws them.

    Fields that a row lacks, because only other rows of the machine have them, do not count; nor does it that pandas
    makes whole numbers floats beside such a row.
    """
    records = [{name: _plain(value) for name, value in row.items()} for row in rows.to_dict("records")]
    known = [{name: value for name, value in row.items() if value is not None} for row in records]
    return charts.digest(json.dumps(known, sort_keys=True))


def _plain(value: Any) -> Any:
    """A cell as a JSON value: None for NaN, an int for a whole number."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float):
        return None if math.isnan(value) else int(value) if value.is_integer() else value
    return value


def _texts(folder: Path) -> Iterator[tuple[Path, str]]:
    """The README files and what they should say."""
    lines = [
        "# Results",
        "",
        "Written by `mnistbench charts` from the JSON files in the folders; see the project's README",
    ]
    lines += ["for what is measured and how."]
    devices = [device for machine in _machines(folder) for device in storage.load(machine).get("device", [])]
    if all(device == "CPU" for device in devices):
        lines += ["", "No GPU rows have been measured yet; `benchmarks/gpu.sh` measures them where there is a GPU."]
    opening: tuple[str, list[str]] = ("", [])
    errors: tuple[str, list[str]] = ("", [])
    for machine in _machines(folder):
        for workload, rows in _workloads(machine):
            table = [*as_markdown(rows), *_provenance(rows)]
            lines += ["", f"## {rows['machine'].iloc[0]}: {workload}", "", *table]
            names = _charts(workload, rows)
            lines += [f"\n![{name}]({machine.name}/{workload}-{name}.svg)" for name in names]
            if workload == OPENING and rows["date"].max() > opening[0]:
                chart = f"![training time]({folder.name}/{machine.name}/{workload}-training-time.svg)"
                opening = rows["date"].max(), [*table, "", chart]
        lines += [*_beyond(machine), *_errors(machine)]
        for stem, _, rows in _picture_of_errors(machine):
            if rows["date"].max() > errors[0]:
                chart = f"![test errors]({folder.name}/{machine.name}/{stem}.svg)"
                errors = rows["date"].max(), [*reproduction.as_markdown(rows), "", *_provenance(rows), "", chart]
    yield folder / "README.md", "\n".join(lines) + "\n"
    yield from _sections(folder.resolve().parent / "README.md", {"results": opening[1], "errors": errors[1]})


def _beyond(machine: Path) -> Iterator[str]:
    """What the results' README.md shows of the charts of more than one workload."""
    shown = list(_pictures_beyond(machine))
    if shown:
        yield from ("", f"## {shown[0][2]['machine'].iloc[0]}: all workloads")
    for stem, _, _ in shown:
        yield from ("", f"![{stem}]({machine.name}/{stem}.svg)")
    if shown and shown[-1][0].startswith("scaling"):
        yield from ("", *(f"Scaling: {line[0].lower()}{line[1:]}" for line in _provenance(shown[-1][2])))


def _errors(machine: Path) -> Iterator[str]:
    """What the results' README.md says of the presets' test errors."""
    for stem, _, rows in _picture_of_errors(machine):
        yield from ("", f"## {rows['machine'].iloc[0]}: test errors", "")
        yield from (
            *reproduction.as_markdown(rows),
            "",
            *_provenance(rows),
            "",
            f"![{stem}]({machine.name}/{stem}.svg)",
        )


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


def _sections(readme: Path, sections: dict[str, list[str]]) -> Iterator[tuple[Path, str]]:
    """``readme`` with each section's lines between its two markers, where it has them."""
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    found = False
    for name, lines in sections.items():
        before, begin, rest = text.partition(_BEGIN.format(name))
        _, end, after = rest.partition(_END.format(name))
        if begin and end:
            found = True
            text = "\n".join([before + begin, *lines, end + after])
    if found:
        yield readme, text
