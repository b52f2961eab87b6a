"""How the cost of an iteration grows with the images and the hidden units, and falls with threads."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mnistbench.charts.lines import LINE, Curve, End, handle, label_ends, label_width, panel_height
from mnistbench.charts.page import (
    GREY,
    MARGIN,
    SMALL,
    WIDTH,
    Page,
    clean,
    colours,
    seconds,
    shortened,
    styled,
)
from mnistbench.charts.rows import Record, provenance, records
from mnistbench.charts.scales import Logarithmic
from mnistbench.exceptions import DataError

Axis = Literal["images", "hidden", "threads"]
AXES: tuple[Axis, ...] = get_args(Axis)
"""What grows; each is a column of the rows."""

_FITTED = 3  # sizes, the largest ones: smaller ones cost what every iteration does, and fit into caches
_WORDS = {"images": "images", "hidden": "hidden units", "threads": "threads"}
_LEAST_SECONDS = 1e-9  # a clock that reads 0 is drawn at a nanosecond


@dataclass(frozen=True)
class _Series(Curve):
    """A backend's seconds per iteration (y) over the sizes (x), with the ends of their intervals."""

    low: list[float]
    high: list[float]
    device: str

    @property
    def ideal(self) -> list[float]:
        """Seconds if twice the threads took half the time."""
        return [self.y[0] * self.x[0] / size for size in self.x]

    def fitted(self, axis: Axis) -> int:
        """How many points the exponent is fitted to, from the largest down: all threads, or the largest sizes."""
        return len(self.x) if axis == "threads" else min(len(self.x), _FITTED)

    def exponent(self, axis: Axis) -> float | None:
        """Of the power law nearest to those points: least squares of the logarithms. None with a single point."""
        count = self.fitted(axis)
        if count < 2:
            return None
        return float(np.polyfit(np.log(self.x[-count:]), np.log(self.y[-count:]), 1)[0])


def scaling_axes(rows: pd.DataFrame) -> list[Axis]:
    """The axes along which the rows have two sizes or more."""
    return [axis for axis in AXES if not rows.empty and len({r[axis] for r in _along(_records(rows), axis)}) > 1]


def _records(rows: pd.DataFrame) -> list[Record]:
    return records(rows) if not rows.empty else []


def _along(rows: Sequence[Record], axis: Axis) -> list[Record]:
    """The rows that differ along the axis only: of the settings that occur, the one with the most rows."""
    on_axis = [row for row in rows if axis in row["axes"]]
    if not on_axis:
        return []
    counts = Counter(_others(row, axis) for row in on_axis)
    setting = max(counts, key=lambda key: (counts[key], key))
    return [row for row in on_axis if _others(row, axis) == setting]


def _others(row: Record, axis: Axis) -> tuple[int, ...]:
    """What stays the same along the axis. For a backend that uses fewer threads, those that it was allowed count."""
    held = {"images": row["images"], "hidden": row["hidden"], "threads": row["allowed_threads"]}
    return tuple(int(value) for name, value in held.items() if name != axis)


def _series(rows: Sequence[Record], axis: Axis) -> list[_Series]:
    """A line for each backend, dtype and device, in the order of the rows."""
    colour = colours(row["backend"] for row in rows)
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for row in rows:
        groups.setdefault((row["backend"], row["dtype"], row["device"]), []).append(row)
    found = []
    for (name, dtype, device), members in groups.items():
        # The last of equal sizes counts.
        points = sorted({float(row[axis]): row for row in members}.items())
        x = [size for size, _ in points]
        y, low, high = ([_per_iteration(row, key) for _, row in points] for key in ("median", "low", "high"))
        found.append(_Series(name, dtype, colour[name], x, y, low, high, device))
    return found


def _per_iteration(row: Record, key: str) -> float:
    value = float(row[key]) if math.isfinite(row[key]) else float(row["median"])
    return max(_LEAST_SECONDS, value / int(row["iterations"]))


def _labels(series: Sequence[_Series], axis: Axis) -> list[str]:
    """Names and exponents; and devices, where a backend ran on several."""
    names = [(one.name, one.dtype) for one in series]
    texts = []
    for one in series:
        exponent = one.exponent(axis)
        law = "one size" if exponent is None else f"{axis}^{exponent:.2f}"
        where = f", {shortened(one.device, 0.9)}" if names.count((one.name, one.dtype)) > 1 else ""
        texts.append(f"{shortened(one.name, 1.7)} {clean(one.dtype)}{where} · {law}")
    return texts


def _size(value: float) -> str:
    """41,000 as 41k."""
    for suffix, unit in (("M", 1e6), ("k", 1e3)):
        if value >= unit:
            return f"{value / unit:.4g}{suffix}"
    return f"{value:.4g}"


def _title(row: Record, axis: Axis) -> str:
    held = {
        "images": f"{int(row['images']):,} images",
        "hidden": f"{int(row['hidden']):,} hidden unit{'s' * (row['hidden'] != 1)}",
        "threads": f"{int(row['allowed_threads'])} thread{'s' * (row['allowed_threads'] != 1)}",
    }
    return f"Scaling with {_WORDS[axis]}: {', '.join(text for name, text in held.items() if name != axis)}"


def _how_to_read(series: Sequence[_Series], axis: Axis, left_out: int) -> str:
    text = "Bars: intervals of the medians. "
    if axis == "threads":
        text += "Exponent: least squares of the logarithms over all points; dashed: ideal, threads^-1. "
    else:
        fewer = max(one.fitted(axis) for one in series)
        text += f"Exponent: least squares of the logarithms over the {fewer} largest sizes of a line. "
    if left_out:
        text += f"Not drawn: {left_out} row{'s' * (left_out != 1)} of other settings. "
    return text


@styled()
def scaling(rows: pd.DataFrame, axis: Axis, subtitle: str = "") -> Figure:
    """Seconds per iteration over the number of images, hidden units or threads, both logarithmic.

    At each line's end is the exponent of the power law that is fitted to its largest sizes, or to all threads.

    Besides the columns that all charts of results take, the rows have ``images``, ``hidden``, ``threads`` (in
    effect), ``allowed_threads``, and ``axes``, a list of those that they belong to.

    Raises:
        DataError: there are no rows, or none along that axis.
    """
    everything = records(rows)
    measured = _along(everything, axis)
    if not measured:
        raise DataError(f"charts: no row is of the scaling with {axis}; run pytest benchmarks/test_scaling.py")
    series = _series(measured, axis)
    texts = _labels(series, axis)
    left_out = sum(axis in row["axes"] for row in everything) - len(measured)
    height = panel_height(len(texts), 3.6)
    small_print = _how_to_read(series, axis, left_out) + provenance(measured)[1]
    page = Page(_title(measured[0], axis), subtitle, height + 0.8, small_print)
    page.text(MARGIN, page.top + 0.12, "time of an iteration", weight="bold")
    axes = _axes(page, height, series, axis, label_width(texts))
    axes.set_xlabel(_WORDS[axis], size=SMALL, color=GREY)
    for one in series:
        if axis == "threads":
            axes.plot(one.x, one.ideal, color=one.colour, alpha=0.6, linewidth=1, linestyle=(0, (4, 3)))
        for size, low, high in zip(one.x, one.low, one.high, strict=True):
            axes.plot([size, size], [low, high], color=one.colour, linewidth=3.5, alpha=0.4, solid_capstyle="butt")
        axes.plot(one.x, one.y, linewidth=LINE, **handle(one))
    label_ends(page, axes, [_end(one, text) for one, text in zip(series, texts, strict=True)])
    return page.figure


def _end(series: _Series, text: str) -> End:
    style: dict[str, Any] = handle(series)
    return End(series.x[-1], series.y[-1], text, style)


def _axes(page: Page, height: float, series: Sequence[_Series], axis: Axis, right: float) -> Axes:
    """Axes over all points, with ticks at the sizes measured as far as there is room."""
    sizes = [size for one in series for size in one.x]
    times = [time for one in series for time in (*one.y, *one.low, *one.high)]
    times += [time for one in series for time in one.ideal if axis == "threads"]
    vertical = Logarithmic.of(times, height, lambda time: seconds(time, 1), upright=True)
    left = MARGIN + vertical.room
    width = WIDTH - left - right
    axes = page.axes(left, page.top + 0.3, width, height)
    vertical.vertical(axes)
    Logarithmic.of(sizes, width, _size, at=sizes).horizontal(axes)
    return axes
