"""Chart of one backend's history: the training time at each commit, on each machine."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mnistbench import words
from mnistbench.charts.lines import LINE, Curve, curve_ends, handle, label_ends, label_width, panel, panel_height
from mnistbench.charts.page import GREY, SMALL, Page, clean, colours, named_ticks, shortened, styled, text_width
from mnistbench.charts.rows import provenance, required, setting
from mnistbench.charts.scales import Logarithmic
from mnistbench.machine.identity import labels

if TYPE_CHECKING:
    from mnistbench.results.row import Row

_HASH = 7  # digits of a commit's short name
_FULL_HASH = re.compile("[0-9a-f]{12,64}")
_SLOT = 0.7  # fraction of a commit's room that its repeated runs share


@dataclass(frozen=True)
class _Line(Curve):
    """Medians on one machine, in one dtype and setting; x is a commit's place, y seconds."""

    machine: str
    setting: str
    low: list[float]
    high: list[float]


def _commit(row: Row) -> str:
    """Return a short name, with a plus if the code differed from the commit."""
    commit = row.origin.commit
    name = commit[:_HASH] if _FULL_HASH.fullmatch(commit) else shortened(commit, 0.9, SMALL)
    return name + "+" * bool(row.origin.dirty)


def _time(row: Row) -> float:
    """Return the time of the row's commit in seconds, or of its measurement if that is unknown."""
    return datetime.fromisoformat(row.origin.commit_date or row.origin.date).timestamp()


def _commits(rows: Sequence[Row]) -> list[str]:
    """List the commits by date; a commit of unknown date by its first measurement."""
    first: dict[str, float] = {}
    for row in rows:
        name = _commit(row)
        first[name] = min(_time(row), first.get(name, math.inf))
    return sorted(first, key=lambda name: (first[name], name))


def _lines(rows: Sequence[Row], commits: Sequence[str]) -> list[_Line]:
    """Make a line for each machine, dtype and setting. Runs at one commit stand side by side, in order of time."""
    names = labels(row.origin.machine for row in rows)
    machines = [*names.values()]
    colour = colours([row.backend for row in rows] if len(machines) == 1 else machines)
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: datetime.fromisoformat(row.origin.date).timestamp()):
        groups.setdefault((names[row.origin.machine], row.dtype, setting(row)), []).append(row)
    found = []
    for (machine, dtype, where), members in sorted(groups.items()):
        at = [_commit(row) for row in members]
        places = [_place(commits.index(name), at[:i].count(name), at.count(name)) for i, name in enumerate(at)]
        points = sorted(zip(places, members, strict=True), key=lambda point: point[0])
        timings = [row.timing for _, row in points]
        y, low, high = (
            [max(1e-9, seconds) for seconds in column]
            for column in zip(*((t.value, t.low, t.high) for t in timings), strict=True)
        )
        hue = colour[members[0].backend if len(machines) == 1 else machine]
        x = [place for place, _ in points]
        found.append(_Line(members[0].backend, dtype, hue, x, y, machine, where, low, high))
    return found


def _place(commit: int, run: int, runs: int) -> float:
    """Return the x coordinate of run number ``run`` of ``runs`` at a commit, around the commit's own."""
    return commit + _SLOT * ((run + 0.5) / runs - 0.5)


def _labels(lines: Sequence[_Line]) -> list[str]:
    """Return each line's label: what tells it from the others, and its last median."""
    several_machines = len({line.machine for line in lines}) > 1
    several_settings = len({line.setting for line in lines}) > 1
    texts = []
    for line in lines:
        parts = [clean(line.dtype)]
        parts += [shortened(line.setting, 1.5)] * several_settings
        parts += [shortened(line.machine, 2.0)] * several_machines
        texts.append(f"{', '.join(parts)}  {words.seconds(line.y[-1])}")
    return texts


@styled()
def history(rows: Sequence[Row], subtitle: str = "") -> Figure:
    """Draw the training time over the commits in order of date, with a line for each machine, dtype and setting.

    All rows are of one backend and one workload, from any number of machines.
    """
    measured = required(rows, several_machines=True)
    commits = _commits(measured)
    lines = _lines(measured, commits)
    texts = _labels(lines)
    height = panel_height(len(texts), 3.0)
    name = shortened(measured[0].backend, 3.0)
    small_print = "Markers: medians; bars: their intervals. Runs at one commit stand side by side"
    small_print += "; +: with uncommitted changes. " if any(row.origin.dirty for row in measured) else ". "
    title = f"History of {name}: {shortened(measured[0].workload.name, 3.0)}"
    page = Page(title, subtitle, height + 0.8, small_print + provenance(measured)[1])
    iterations = " or ".join(f"{count:,}" for count in dict.fromkeys(row.workload.iterations for row in measured))
    axes = _axes(page, f"time of {iterations} iterations", height, lines, commits, label_width(texts))
    for line in lines:
        for x, low, high in zip(line.x, line.low, line.high, strict=True):
            axes.plot([x, x], [low, high], color=line.colour, linewidth=3.5, alpha=0.4, solid_capstyle="butt")
        axes.plot(line.x, line.y, linewidth=0.6 * LINE, clip_on=False, **handle(line))
    label_ends(page, axes, curve_ends(lines, texts))
    return page.figure


def _axes(page: Page, title: str, height: float, lines: Sequence[_Line], commits: Sequence[str], right: float) -> Axes:
    """Add axes of seconds over the commits; the last commit is named, and others where there is room."""
    times = [time for line in lines for time in (*line.y, *line.low, *line.high)]
    vertical = Logarithmic.of(times, height, lambda time: words.seconds(time, 2), upright=True)
    axes, width = panel(page, title, height, vertical, right)
    axes.set_xlim(-0.5, len(commits) - 0.5)
    room = width / len(commits)
    step = math.ceil((max(text_width(name, SMALL) for name in commits) + 0.15) / room)
    shown = [place for place in range(len(commits)) if (len(commits) - 1 - place) % step == 0]
    named_ticks(axes.xaxis, shown, lambda place: commits[int(place)])
    axes.set_xlabel("commit, in order of date", size=SMALL, color=GREY)
    return axes
