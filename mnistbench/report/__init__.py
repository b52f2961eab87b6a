"""Charts and README files generated from the stored rows.

``write`` generates them, ``stale`` lists those that no longer match the rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnistbench import charts, words
from mnistbench.exceptions import MnistbenchError
from mnistbench.files import write_text
from mnistbench.report import tables
from mnistbench.results import storage, stored
from mnistbench.results.reproduction import Run
from mnistbench.results.row import Row
from mnistbench.task.presets import PRESETS
from mnistbench.timing import coverage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OPENING = "classic"
"""Workload whose table and chart open the project's README."""

_BEGIN, _END = "<!-- {}: begin, written by 'mnistbench charts' -->", "<!-- {}: end -->"
"""Markers around the generated sections "results", "errors" and "coverage"."""


@dataclass(frozen=True)
class _Picture:
    """Chart: its file name without the suffix, the function that draws it, and its data."""

    stem: str
    draw: Callable[[Any], Figure]
    shown: Sequence[Row] | Sequence[Run]

    @property
    def digest(self) -> str:
        """Digest of its data."""
        return charts.digest(json.dumps([_drawn(one) for one in self.shown], sort_keys=True))


def _drawn(one: Row | Run) -> dict[str, Any]:
    """Return the fields of a row or a run that a picture may show; of later versions, those that hold something."""
    found = asdict(one)
    for part, values in ((one, found), (one.origin, found["origin"])):
        for own in fields(part):
            if own.metadata.get("undrawn") or (own.metadata.get("later") and values[own.name] is None):
                del values[own.name]
    return found


@dataclass(frozen=True)
class _Results:
    """Stored results of one machine.

    Attributes:
        name: The machine's label, which no other machine of the folder has.
        folder: Folder of its charts.
        opening: Rows of the last of its largest interleaved runs of the workload :data:`OPENING`.
        workloads: The latest rows of each workload, presets first.
        stored: All rows of each workload.
        scaling: The latest row of each size of the scaling benchmark.
        ranks: The latest row of each workload of several ranks.
        errors: All trainings of presets.
    """

    name: str
    folder: Path
    opening: list[Row]
    workloads: dict[str, list[Row]]
    stored: dict[str, list[Row]]
    scaling: list[Row]
    ranks: list[Row]
    errors: list[Run]

    @classmethod
    def of(cls, name: str, folder: Path, rows: Sequence[Row], errors: list[Run]) -> _Results:
        """Choose those of all of a machine's rows that count."""
        found = storage.workloads(rows)
        names = [name for name in dict.fromkeys([*PRESETS, *found]) if name in found]
        latest = {name: storage.latest(found[name]) for name in names}
        raced: dict[tuple[str, str, str], list[Row]] = {}
        for row in found.get(OPENING, []):
            if row.interleaved and row.validated:
                raced.setdefault(row.origin.run, []).append(row)
        opening = max(raced.values(), key=_extent, default=[])
        sized, shared = storage.scaling(rows), storage.of_ranks(rows)
        return cls(name, folder, storage.latest(opening), latest, found, sized, shared, errors)

    def of_workload(self, workload: str) -> list[_Picture]:
        """List the charts of a workload, if it is a preset."""
        valid = _validated(self.workloads[workload])
        drawable = charts.drawable(valid) if workload in PRESETS else {}
        return [_Picture(f"{workload}-{name}", draw, valid) for name, draw in drawable.items()]

    def of_all(self) -> list[_Picture]:
        """List the charts of all workloads: the speedups, and the scaling along each axis."""
        every = [row for rows in self.workloads.values() for row in _validated(rows)]
        found = [_Picture("speedups", charts.speedups, every)] if charts.has_speedups(every) else []
        sized = _validated(self.scaling)
        axes = charts.scaling_axes(sized)
        found += [_Picture(f"scaling-{axis}", partial(charts.scaling, axis=axis), sized) for axis in axes]
        kinds = charts.ranks_kinds(sized)
        return found + [_Picture(f"scaling-{kind}", partial(charts.ranks, kind=kind), sized) for kind in kinds]

    def of_errors(self) -> list[_Picture]:
        """List the chart of the presets' test errors, if any are stored."""
        return [_Picture("test-errors", charts.errors_over_time, self.errors)] if self.errors else []

    def pictures(self) -> Iterator[tuple[Path, _Picture]]:
        """Yield every chart with its file."""
        found = [picture for workload in self.workloads for picture in self.of_workload(workload)]
        for picture in (*found, *self.of_all(), *self.of_errors()):
            yield self.folder / f"{picture.stem}.svg", picture


def write(folder: Path, project: bool = False) -> list[Path]:
    """Draw the charts and write the pages that do not match the rows; return the files written.

    Args:
        folder: Folder of results, whose README.md is written too.
        project: Whether to write README.md, docs/errors.md and docs/honesty.md beside the folder as well, between their
            two markers if they have them. They belong to the project, not to whoever measures with it.

    Raises:
        MnistbenchError: If there are no results, a file is damaged, or something cannot be written.
    """
    machines, written = _machines(folder), []
    for path, picture in _stale_pictures(machines):
        charts.write(picture.draw(picture.shown), path, picture.digest)
        written.append(path)
    for path, text in _stale_texts(folder, machines, project):
        write_text(path, text)
        written.append(path)
    return written


def stale(folder: Path) -> list[Path]:
    """List the files that :func:`write` would change, those of the project included.

    Raises:
        MnistbenchError: If there are no results, or a file is damaged.
    """
    machines = _machines(folder)
    found = [*_stale_pictures(machines), *_stale_texts(folder, machines, project=True)]
    return [path for path, _ in found]


def _stale_pictures(machines: Sequence[_Results]) -> Iterator[tuple[Path, _Picture]]:
    """Yield every chart that is missing or was drawn of other rows, with its file."""
    for path, picture in (found for machine in machines for found in machine.pictures()):
        if charts.stored_source(path) != picture.digest:
            yield path, picture


def _stale_texts(folder: Path, machines: Sequence[_Results], project: bool) -> Iterator[tuple[Path, str]]:
    """Yield every page that is missing or has another text, with its file."""
    for path, text in [*_texts(folder, machines), *(_project_texts(folder, machines) if project else ())]:
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            yield path, text


def history(folder: Path, backend: str, workload: str) -> list[Row]:
    """Read the validated rows of a backend on a workload, from all runs on all machines, for :func:`charts.history`.

    Raises:
        MnistbenchError: If there are none, the workload has rows of many sizes, or a file is damaged.
    """
    if workload == storage.SCALING:
        raise MnistbenchError(f"workload {workload}: its rows are of many sizes, and have no history in one line")
    rows = [row for machine in stored.folders(folder) for row in _validated(storage.load(machine))]
    valid = [row for of_workload in storage.workloads(rows).values() for row in of_workload]
    chosen = [row for row in valid if (row.backend, row.workload.name) == (backend, workload)]
    if not chosen:
        others = ", ".join(sorted({f"{row.backend} on {row.workload.name}" for row in valid})) or "of nothing"
        raise MnistbenchError(f"{folder}: holds no results of {backend} on {workload}; there are: {others}")
    return chosen


def spread(rows: Sequence[Row]) -> tuple[float, float] | None:
    """Return the smallest and the largest spread of the rounds of a row, among rows with several; None without any."""
    found = [row.timing.spread for row in rows if len(row.samples) > 1]
    return (min(found), max(found)) if found else None


def _machines(folder: Path) -> list[_Results]:
    """Choose what counts of each machine's stored results."""
    return [_Results.of(one.label, folder / one.machine.folder, one.rows, one.errors) for one in stored.read(folder)]


def _validated(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.validated]


def _texts(folder: Path, machines: Sequence[_Results]) -> Iterator[tuple[Path, str]]:
    """Yield the generated pages and their texts."""
    lines = [
        "# Results",
        "",
        "Written by `mnistbench charts` from the JSON files in the folders; see the project's README",
        "for what is measured and how.",
    ]
    rows = [row for machine in machines for of_workload in machine.workloads.values() for row in of_workload]
    if all(row.device == "CPU" for row in rows):
        lines += ["", "No GPU rows have been measured yet; `benchmarks/gpu.sh` measures them where there is a GPU."]
    for machine in machines:
        for workload, of_workload in machine.workloads.items():
            lines += [
                "",
                f"## {words.markdown(machine.name)}: {words.markdown(workload)}",
                "",
                *tables.as_markdown(of_workload, machine.stored[workload]),
            ]
            for picture in machine.of_workload(workload):
                lines += ["", _image(picture.stem.removeprefix(f"{workload}-"), machine, picture)]
        if machine.ranks:
            lines += ["", f"## {machine.name}: several ranks", "", *tables.ranks_as_markdown(machine.ranks)]
        lines += [*_all_workloads(machine), *_errors(machine)]
    yield folder / "README.md", "\n".join(lines) + "\n"


def _project_texts(folder: Path, machines: Sequence[_Results]) -> Iterator[tuple[Path, str]]:
    """Yield the project's pages with a generated section, and their texts."""
    project = folder.resolve().parent
    yield from _section(project / "README.md", "results", _opening(folder, machines))
    yield from _section(project / "docs" / "errors.md", "errors", _latest_errors(folder, machines))
    yield from _section(project / "docs" / "honesty.md", "coverage", coverage.as_markdown)


def _image(name: str, machine: _Results, picture: _Picture, folder: str = "") -> str:
    return f"![{name}]({folder}{machine.folder.name}/{picture.stem}.svg)"


def _all_workloads(machine: _Results) -> Iterator[str]:
    """Yield the results' section on the charts of all workloads."""
    shown = machine.of_all()
    if shown:
        yield from ("", f"## {words.markdown(machine.name)}: all workloads")
    for picture in shown:
        yield from ("", _image(picture.stem, machine, picture))
    if shown and shown[-1].stem.startswith("scaling"):
        line = words.markdown(tables.provenance(machine.scaling))
        yield from ("", f"Scaling: {line[0].lower()}{line[1:]}")


def _errors(machine: _Results) -> Iterator[str]:
    """Yield the results' section on the presets' test errors."""
    for picture in machine.of_errors():
        yield from (
            "",
            f"## {words.markdown(machine.name)}: test errors",
            "",
            *tables.errors_as_markdown(machine.errors),
        )
        yield from ("", _image("test-errors", machine, picture))


def _opening(folder: Path, machines: Sequence[_Results]) -> list[str]:
    """Return the table and the chart that open the project's README.

    They are of the last of the largest interleaved runs: of one's own before merged ones, of those in float32 before
    those in float64 only, and of those with all of today's checks if there are any.
    """
    machine = max((one for one in machines if one.opening), key=lambda one: _extent(one.opening), default=None)
    if machine is None:
        return [f"No run has measured {OPENING} in turn: `mnistbench compare --results {folder.name}` does."]
    chart = f"![training time]({folder.name}/{machine.folder.name}/{OPENING}-training-time.svg)"
    return [*tables.opening_as_markdown(machine.opening), "", chart]


def _latest_errors(folder: Path, machines: Sequence[_Results]) -> list[str]:
    """Return the test errors that docs/errors.md shows, from the machine measured last."""
    dated = [one for one in machines if one.errors]
    machine = max(dated, key=lambda one: max(run.origin.date for run in one.errors), default=None)
    if machine is None:
        return []
    (picture,) = machine.of_errors()
    chart = _image("test errors", machine, picture, f"../{folder.name}/")
    return [*tables.errors_as_markdown(machine.errors), "", chart]


def _extent(rows: Sequence[Row]) -> tuple[bool, bool, bool, int, str]:
    """Return whether a run is one's own, whether it has rows in float32, which README's text is about, whether all rows
    passed today's checks, their number, and its date."""
    own = all(row.origin.merged is None for row in rows)
    single, checked = any(row.dtype == "float32" for row in rows), not any(row.checked_less for row in rows)
    return own, single, checked, len(rows), max(row.origin.date for row in rows)


def _section(
    page: Path, name: str, lines: Iterable[str] | Callable[[str], Iterable[str]]
) -> Iterator[tuple[Path, str]]:
    """Yield ``page`` with a section's lines between its two markers, if it has them.

    Args:
        lines: Lines, or a function of the section's present text that returns them.
    """
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    before, begin, rest = text.partition(_BEGIN.format(name))
    shown, end, after = rest.partition(_END.format(name))
    if begin and end:
        yield page, "\n".join([before + begin, *(lines(shown) if callable(lines) else lines), end + after])
