"""Charts of scaling: the time of an iteration over images, hidden units, or threads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mnistbench import words
from mnistbench.charts.lines import LINE, Curve, curve_ends, handle, label_ends, label_width, panel, panel_height
from mnistbench.charts.page import GREY, SMALL, Page, clean, colours, shortened, styled
from mnistbench.charts.rows import provenance, required
from mnistbench.charts.scales import Logarithmic
from mnistbench.exceptions import DataError

if TYPE_CHECKING:
    from mnistbench.results.row import Row, Size

Axis = Literal["images", "hidden", "threads"]
AXES: tuple[Axis, ...] = get_args(Axis)
"""Quantities that are varied."""

_FITTED = 3  # largest sizes, to which the exponent is fitted: overhead and caches dominate the smaller ones
_WORDS = {"images": "images", "hidden": "hidden units", "threads": "threads"}
_LEAST_SECONDS = 1e-9  # a clock that reads 0 is drawn at a nanosecond


@dataclass(frozen=True)
class _Series(Curve):
    """Seconds per iteration (y) of a backend over the sizes (x), with the ends of their intervals."""

    low: list[float]
    high: list[float]
    device: str

    @property
    def ideal(self) -> list[float]:
        """Seconds if twice the threads took half the time."""
        return [self.y[0] * self.x[0] / size for size in self.x]

    def fitted(self, axis: Axis) -> int:
        """Number of points, from the largest down, to which the exponent is fitted."""
        return len(self.x) if axis == "threads" else min(len(self.x), _FITTED)

    def exponent(self, axis: Axis) -> float | None:
        """Fit a power law by least squares of the logarithms; None with a single point."""
        count = self.fitted(axis)
        if count < 2:
            return None
        return float(np.polyfit(np.log(self.x[-count:]), np.log(self.y[-count:]), 1)[0])


def scaling_axes(rows: Sequence[Row]) -> list[Axis]:
    """List the axes along which the rows have two sizes or more."""
    return [axis for axis in AXES if len({_along_axis(row, axis) for row in _along(rows, axis)}) > 1]


def _along(rows: Sequence[Row], axis: Axis) -> list[Row]:
    """Choose the rows that differ along the axis only, in the setting with the most rows."""
    on_axis = [row for row in rows if axis in _size(row).axes]
    if not on_axis:
        return []
    counts = Counter(_others(row, axis) for row in on_axis)
    setting = max(counts, key=lambda key: (counts[key], key))
    return [row for row in on_axis if _others(row, axis) == setting]


def _others(row: Row, axis: Axis) -> tuple[int, ...]:
    """Return the values on the other axes; for threads, the number allowed, of which a backend may use fewer."""
    return tuple(value for name, value in _held(row).items() if name != axis)


def _held(row: Row) -> dict[Axis, int]:
    """Return the row's requested size on each axis."""
    return {"images": row.workload.images, "hidden": _size(row).hidden, "threads": _size(row).allowed_threads}


def _along_axis(row: Row, axis: Axis) -> float:
    """Return the row's size on the axis; for threads, those in effect."""
    return float(row.threads if axis == "threads" else _held(row)[axis])


def _size(row: Row) -> Size:
    assert row.size is not None, "rows of the scaling benchmark have a size"
    return row.size


def _series(rows: Sequence[Row], axis: Axis) -> list[_Series]:
    """Make a line for each backend, dtype and device, in the order of the rows."""
    colour = colours(row.backend for row in rows)
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.backend, row.dtype, row.device), []).append(row)
    found = []
    for (name, dtype, device), members in groups.items():
        # The last row of a size counts.
        points = sorted({_along_axis(row, axis): row for row in members}.items())
        x = [size for size, _ in points]
        y, low, high = map(list, zip(*(_per_iteration(row) for _, row in points), strict=True))
        found.append(_Series(name, dtype, colour[name], x, y, low, high, device))
    return found


def _per_iteration(row: Row) -> tuple[float, float, float]:
    """Return the median seconds of an iteration and the ends of its interval."""
    found = row.timing
    low, middle, high = (max(_LEAST_SECONDS, x / row.workload.iterations) for x in (found.low, found.value, found.high))
    return middle, low, high


def _labels(series: Sequence[_Series], axis: Axis) -> list[str]:
    """Return the lines' names and exponents, with devices if a backend ran on several."""
    names = [(one.name, one.dtype) for one in series]
    texts = []
    for one in series:
        exponent = one.exponent(axis)
        law = "one size" if exponent is None else f"{axis}^{exponent:.2f}"
        where = f", {shortened(one.device, 0.9)}" if names.count((one.name, one.dtype)) > 1 else ""
        texts.append(f"{shortened(one.name, 1.7)} {clean(one.dtype)}{where} · {law}")
    return texts


def _title(row: Row, axis: Axis) -> str:
    things = {"images": "image", "hidden": "hidden unit", "threads": "thread"}
    held = [words.counted(value, things[name]) for name, value in _held(row).items() if name != axis]
    return f"Scaling with {_WORDS[axis]}: {', '.join(held)}"


def _how_to_read(series: Sequence[_Series], axis: Axis, left_out: int) -> str:
    text = "Bars: intervals of the medians. "
    if axis == "threads":
        text += "Exponent: least squares of the logarithms over all points; dashed: ideal, threads^-1. "
    else:
        fewer = max(one.fitted(axis) for one in series)
        text += f"Exponent: least squares of the logarithms over the {fewer} largest sizes of a line. "
    if left_out:
        text += f"Not drawn: {words.counted(left_out, 'row')} of other settings. "
    return text


@styled()
def scaling(rows: Sequence[Row], axis: Axis, subtitle: str = "") -> Figure:
    """Draw seconds per iteration over the number of images, hidden units or threads, both logarithmic.

    Each line is labelled with the exponent of the power law fitted to its largest sizes, or to all threads.
    """
    everything = required(rows)
    measured = _along(everything, axis)
    if not measured:
        raise DataError(f"charts: no row is of the scaling with {axis}; run pytest benchmarks/test_scaling.py")
    series = _series(measured, axis)
    texts = _labels(series, axis)
    left_out = sum(axis in _size(row).axes for row in everything) - len(measured)
    height = panel_height(len(texts), 3.6)
    small_print = _how_to_read(series, axis, left_out) + provenance(measured)[1]
    page = Page(_title(measured[0], axis), subtitle, height + 0.8, small_print)
    axes = _axes(page, height, series, axis, label_width(texts))
    axes.set_xlabel(_WORDS[axis], size=SMALL, color=GREY)
    for one in series:
        if axis == "threads":
            axes.plot(one.x, one.ideal, color=one.colour, alpha=0.6, linewidth=1, linestyle=(0, (4, 3)))
        for size, low, high in zip(one.x, one.low, one.high, strict=True):
            axes.plot([size, size], [low, high], color=one.colour, linewidth=3.5, alpha=0.4, solid_capstyle="butt")
        axes.plot(one.x, one.y, linewidth=LINE, **handle(one))
    label_ends(page, axes, curve_ends(series, texts))
    return page.figure


def _axes(page: Page, height: float, series: Sequence[_Series], axis: Axis, right: float) -> Axes:
    """Add axes that hold all points, with ticks at the measured sizes as far as there is room."""
    sizes = [size for one in series for size in one.x]
    times = [time for one in series for time in (*one.y, *one.low, *one.high)]
    times += [time for one in series for time in one.ideal if axis == "threads"]
    vertical = Logarithmic.of(times, height, lambda time: words.seconds(time, 1), upright=True)
    axes, width = panel(page, "time of an iteration", height, vertical, right)
    Logarithmic.of(sizes, width, words.abbreviated, at=sizes).horizontal(axes)
    return axes
