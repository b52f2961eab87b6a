"""Charts of what a workload costs: the time to train, and the time from a cold start."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mnistbench import words
from mnistbench.charts.page import (
    GREY,
    INK,
    MARGIN,
    SMALL,
    WIDTH,
    Page,
    clean,
    colours,
    marker,
    named_ticks,
    readable_on,
    shortened,
    styled,
    text_width,
    thinned,
)
from mnistbench.charts.rows import provenance, required, setting, task

if TYPE_CHECKING:
    from mnistbench.results.row import Row

_LEFT = 0.95  # left end of the plot, right of the dtypes
_RIGHT = WIDTH - 0.35
_HEADER, _ROW, _GAP = 0.27, 0.25, 0.09  # heights: a backend's name, a measurement, between backends
_PARTS = {
    "import": "#DEDEDE",
    "load": "#C2C2C2",
    "compile": "#A3A3A3",
    "tuning": "#858585",
    "first call": "#666666",
}
"""Parts of a cold start before the training, which has the backend's colour, in the order they are paid."""

_OVER_GRID = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}


@dataclass(frozen=True)
class _Group:
    """Measurements of a backend, fastest first."""

    name: str
    rows: list[Row]

    @property
    def height(self) -> float:
        return _HEADER + len(self.rows) * _ROW + _GAP


def _grouped(rows: Sequence[Row], costs: Sequence[float]) -> list[_Group]:
    """Group the rows by backend; order the groups, and the rows within, by cost."""
    groups: dict[str, list[Row]] = {}
    for index in sorted(range(len(rows)), key=lambda i: costs[i]):
        groups.setdefault(rows[index].backend, []).append(rows[index])
    return [_Group(name, members) for name, members in groups.items()]


def _frame(page: Page, groups: Sequence[_Group], everywhere: str) -> tuple[Axes, list[tuple[float, Row]]]:
    """Write backends and dtypes; return axes whose y is inches below the body's top, and each row's y.

    A backend's device and threads stand beside its name unless they are those that hold ``everywhere``.
    """
    height = sum(group.height for group in groups)
    axes = page.axes(_LEFT, page.top, _RIGHT - _LEFT, height)
    axes.set_ylim(height, 0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    y, places = 0.0, []
    for group in groups:
        name = shortened(group.name, 5.0, weight="bold")
        page.text(MARGIN, page.top + y + _HEADER / 2, name, weight="bold", bbox=_OVER_GRID)
        device = "; ".join(dict.fromkeys(setting(row) for row in group.rows))
        if device != everywhere:
            x = MARGIN + text_width(name, weight="bold") + 0.12
            device = shortened(device, WIDTH - MARGIN - x, SMALL)
            page.text(x, page.top + y + _HEADER / 2, device, size=SMALL, color=GREY, bbox=_OVER_GRID)
        for i, row in enumerate(group.rows):
            place = y + _HEADER + (i + 0.5) * _ROW
            page.text(MARGIN + 0.1, page.top + place, clean(row.dtype), color=GREY)
            places.append((place, row))
        y += group.height
    return axes, places


def _scale(ends: Sequence[float], labels: Sequence[float]) -> float:
    """Compute the inches per unit at which every label (inches) fits right of its end (units)."""
    room = _RIGHT - _LEFT
    return min(((room - label) / end for end, label in zip(ends, labels, strict=True) if end > 0), default=room)


def _positive(value: float) -> float:
    """Return a time for a logarithmic axis: 0, from a coarse clock, is drawn at a nanosecond."""
    return max(float(value), 1e-9)


def _reach(row: Row) -> tuple[float, float]:
    """Return the smallest and the largest time drawn for a row."""
    times = [_positive(seconds) for seconds in row.samples]
    return min(times), max(times)


def _time_label(row: Row) -> str:
    speedup = f" · {words.times(row.speedup.value)}" if row.speedup else ""
    return words.seconds(row.timing.value) + speedup


def _how_to_read(rows: Sequence[Row]) -> str:
    """Explain the marks of the training-time chart."""
    with_interval = [row for row in rows if row.timing.low < row.timing.high]
    text = "Marker: median. Fine ticks: every round."
    if with_interval:
        levels = sorted({row.timing.level for row in with_interval})
        least = "at least " if len(levels) > 1 else ""
        text += f" Bar: confidence interval of the median, {least}{words.level(levels[0], 1)}."
    if any(len(row.samples) == 1 for row in rows):
        text += " A single round has no interval."
    if any(row.speedup for row in rows):
        text += f" {words.TIMES}: speedup over numpy float64."
    return text


def _time_axis(axes: Axes, low: float, high: float) -> None:
    """Make the x axis logarithmic, from 10**low to 10**high seconds, with a light grid at labelled ticks."""
    axes.set_xscale("log")
    axes.set_xlim(10**low, 10**high)
    decades = range(math.floor(low), math.ceil(high) + 1)
    ticks = [float(f"{m}e{d}") for d in decades for m in (1, 2, 5)]
    if high - low > 2.5:
        ticks = [10.0**d for d in thinned(decades, 8)]
    edge = 0.25 / (_RIGHT - _LEFT) * (high - low)
    named_ticks(axes.xaxis, [t for t in ticks if low <= math.log10(t) <= high - edge], lambda t: words.seconds(t, 1))
    axes.grid(axis="x")


@styled()
def training_time(rows: Sequence[Row], subtitle: str = "") -> Figure:
    """Draw the training times: the median, its confidence interval and every round, fastest first."""
    measured = required(rows)
    everywhere, small_print = provenance(measured)
    groups = _grouped(measured, [row.timing.value for row in measured])
    title = f"Time to train: {task(rows)}"
    small_print = f"{_how_to_read(measured)} {small_print}"
    page = Page(title, subtitle, sum(group.height for group in groups) + 0.5, small_print)
    axes, places = _frame(page, groups, everywhere)

    low = math.log10(min(_reach(row)[0] for row in measured))
    ends = [math.log10(_reach(row)[1]) - low for row in measured]
    labels = [text_width(_time_label(row)) + 0.15 for row in measured]
    # No more than the whole width for a decade, so that equal times look equal; room for half a marker.
    scale = min(_RIGHT - _LEFT, _scale(ends, [label + 0.1 for label in labels]))
    low -= 0.1 / scale
    _time_axis(axes, low, low + (_RIGHT - _LEFT) / scale)
    axes.set_xlabel("time, logarithmic (further left is faster)", size=SMALL, color=GREY)

    colour = colours(row.backend for row in measured)
    for y, row in places:
        hue = colour[row.backend]
        samples = [_positive(t) for t in row.samples]
        axes.plot(samples, [y] * len(samples), "|", color=hue, alpha=0.5, markersize=13, markeredgewidth=0.8)
        interval = [_positive(row.timing.low), _positive(row.timing.high)]
        if len(samples) > 1:
            axes.plot(interval, [y, y], color=hue, linewidth=3.5, alpha=0.6, solid_capstyle="butt")
        axes.plot(_positive(row.timing.value), y, linestyle="", **marker(row.dtype, hue))
        axes.annotate(
            _time_label(row),
            (_reach(row)[1], y),
            (9, 0),
            textcoords="offset points",
            va="center_baseline",
            annotation_clip=False,
            bbox=_OVER_GRID,
        )
    return page.figure


def _parts(row: Row) -> dict[str, float]:
    """Return the costs in the order they are paid, medians over new processes.

    The training is that of the new processes; rows of earlier versions have the median of the timed rounds alone. A
    negative difference of times is noise, drawn as 0.
    """
    costs = {name: row.costs.get(name.replace(" ", "_"), 0.0) for name in (*_PARTS, "train")}
    if row.cold is not None:
        costs["train"] = statistics.median(row.cold.training(row.workload.iterations))
    return {name: max(0.0, float(cost)) for name, cost in costs.items()}


def _totals(row: Row) -> list[float]:
    """List the seconds from the start to the trained model of each new process; empty in rows of earlier versions."""
    if row.cold is None:
        return []
    costs = [row.cold.cost(name) for name in row.cold.costs] + [row.cold.training(row.workload.iterations)]
    return [max(0.0, math.fsum(of_process)) for of_process in zip(*costs, strict=True)]


def _part_label(name: str, cost: float) -> str:
    return f"{name} {words.seconds(cost, 2 if cost < 10 else 3)}"


def _fits(name: str, cost: float, scale: float) -> bool:
    return text_width(_part_label(name, cost), SMALL) + 0.1 < cost * scale


def _beside(parts: dict[str, float], scale: float) -> tuple[str, str]:
    """Return the texts right of a bar: the total, and the larger parts that do not fit inside."""
    total = sum(parts.values())
    named = [
        _part_label(name, cost)
        for name, cost in parts.items()
        if cost >= 0.01 * total > 0 and not _fits(name, cost, scale)
    ]
    return words.seconds(total), ", ".join(named)


def _beside_width(parts: dict[str, float], scale: float) -> float:
    total, named = _beside(parts, scale)
    return 0.25 + text_width(total, weight="bold") + text_width(named, SMALL)


def _bar(axes: Axes, y: float, parts: dict[str, float], hues: dict[str, str], scale: float) -> None:
    """Draw one stacked bar, its parts named inside where they fit and beside it where they do not."""
    left = 0.0
    for name, cost in parts.items():
        axes.barh(y, cost, left=left, height=0.78 * _ROW, color=hues[name], edgecolor="white", linewidth=0.6)
        if _fits(name, cost, scale):
            label = _part_label(name, cost)
            ink = readable_on(hues[name])
            axes.text(left + cost / 2, y, label, size=SMALL, color=ink, ha="center", va="center_baseline")
        left += cost
    total, named = _beside(parts, scale)
    x = left + 0.06 / scale
    axes.text(x, y, total, weight="bold", va="center_baseline")
    x += (text_width(total, weight="bold") + 0.1) / scale
    axes.text(x, y, named, size=SMALL, color=GREY, va="center_baseline")


def has_cold_starts(rows: Sequence[Row]) -> bool:
    """Whether the costs of a new process are known of a row."""
    return any("import" in row.costs for row in rows)


@styled()
def cold_start(rows: Sequence[Row], subtitle: str = "") -> Figure:
    """Draw the costs from a cold start to the trained model, one after the other, of rows that have them."""
    measured = required([row for row in rows if has_cold_starts([row])])
    everywhere, small_print = provenance(measured)
    costs = [_parts(row) for row in measured]
    totals = [sum(parts.values()) for parts in costs]
    groups = _grouped(measured, totals)
    title = f"From a cold start to the trained model: {task(rows)}"
    small_print = f"{_how_started(measured)} Parts below 1% are not named. {small_print}"
    page = Page(title, subtitle, sum(group.height for group in groups) + 0.3, small_print)
    _key(page)
    page.top += 0.3
    axes, places = _frame(page, groups, everywhere)

    # A part written inside its bar shortens the label beside it, so the second scale is never the smaller.
    scale = _scale(totals, [_beside_width(parts, 0.0) for parts in costs])
    scale = _scale(totals, [_beside_width(parts, scale) for parts in costs])
    axes.set_xlim(0, (_RIGHT - _LEFT) / scale)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    colour = colours(row.backend for row in measured)
    for y, row in places:
        _bar(axes, y, _parts(row), _PARTS | {"train": colour[row.backend]}, scale)
        if len(ends := _totals(row)) > 1:
            axes.plot([min(ends), max(ends)], [y + 0.46 * _ROW] * 2, color=INK, linewidth=1.0, solid_capstyle="butt")
    return page.figure


def _how_started(rows: Sequence[Row]) -> str:
    """Explain what was measured in new processes, of which rows of earlier versions have one without the training."""
    started = [row for row in rows if row.cold]
    text = "Bars: medians over new processes. Line below a bar: from the fastest to the slowest." if started else ""
    scaled = [row for row in started if row.cold and row.cold.empty[0].iterations < row.workload.iterations]
    if scaled:
        named = ", ".join(f"{row.backend} {row.dtype}" for row in scaled)
        text += f" Scaled from a training's first iterations: {named}."
    if len(started) < len(rows):
        others = " of other rows" * bool(started)
        text += f" Import, load and compile{others} are of one process, the training is the median of warm rounds."
    return text.strip()


def _key(page: Page) -> None:
    """Draw the order and the greys of a bar's parts, in one line at the top of the body."""
    x, y = MARGIN, page.top + 0.1
    axes = page.axes(0, page.top, WIDTH, 0.2)
    axes.set_axis_off()
    axes.set(xlim=(0, WIDTH), ylim=(0.2, 0))
    for name, grey in _PARTS.items():
        axes.barh(0.1, 0.13, left=x, height=0.13, color=grey, linewidth=0)
        page.text(x + 0.19, y, name, size=SMALL, color=GREY)
        x += 0.19 + text_width(name, SMALL) + 0.2
    page.text(x, y, "train: the backend's colour", size=SMALL, color=GREY)
