"""Chart of the agreement: the distance from the reference over the iterations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mnistbench import words
from mnistbench.charts.lines import LINE, Curve, End, curve_ends, handle, label_ends, label_width, panel_height
from mnistbench.charts.page import (
    DPI,
    GREY,
    INK,
    MARGIN,
    SMALL,
    WIDTH,
    Linear,
    Page,
    clean,
    colours,
    named_ticks,
    shortened,
    styled,
    thinned,
)
from mnistbench.charts.rows import provenance, required, task
from mnistbench.exceptions import DataError

if TYPE_CHECKING:
    from mnistbench.results.row import Row

_STRIPE = 8.0  # length of a dash in points, where coinciding curves take turns


def _curves(rows: Sequence[Row]) -> list[Curve]:
    colour = colours(row.backend for row in rows)
    curves = []
    for row in rows:
        if points := sorted(row.agreement.trajectory):
            x, y = (list(map(float, values)) for values in zip(*points, strict=True))
            curves.append(Curve(row.backend, row.dtype, colour[row.backend], x, y))
    if not curves:
        raise DataError("charts: no row has an error to draw")
    return curves


def _label(curve: Curve, value: str) -> str:
    return f"{shortened(curve.name, 1.7)} {clean(curve.dtype)}  {value}"


def _coinciding(axes: Axes, curves: Sequence[Curve]) -> list[list[Curve]]:
    """Group the curves: each is everywhere within 1.5 line widths of the first of its group."""
    groups: list[tuple[NDArray[np.floating[Any]], list[Curve]]] = []
    for curve in curves:
        here = axes.transData.transform(np.column_stack([curve.x, curve.y])) / DPI * 72
        for there, group in groups:
            apart = np.abs(np.interp(here[:, 0], there[:, 0], there[:, 1]) - here[:, 1])
            if apart.max() <= 1.5 * LINE:
                group.append(curve)
                break
        else:
            groups.append((here, [curve]))
    return [group for _, group in groups]


def _draw(axes: Axes, curves: Sequence[Curve]) -> None:
    """Draw the curves with markers; curves that coincide are dashed in turn, so that every colour is seen."""
    for group in _coinciding(axes, curves):
        turns = len(group)
        for turn, curve in enumerate(group):
            # Dashes are in units of the line's width.
            dash, period = _STRIPE / LINE, turns * _STRIPE / LINE
            style = "-" if turns == 1 else ((turns - turn) * dash % period, (dash, period - dash))
            last = len(curve.x) - 1
            marks = max(1, min(10 if turns == 1 else 5, len(curve.x) // turns))
            marked = sorted({round((turn + 0.5 + turns * i) / (marks * turns) * last) for i in range(marks)})
            axes.plot(
                curve.x,
                curve.y,
                linewidth=LINE,
                linestyle=style,
                dash_capstyle="butt",
                markevery=marked,
                clip_on=False,
                **handle(curve, 4.5),
            )


def _tolerances(rows: Sequence[Row]) -> list[tuple[float, str]]:
    """List each tolerance that can be drawn once, with its dtype."""
    found = dict.fromkeys((float(row.agreement.tolerance), clean(row.dtype)) for row in rows)
    return [(value, dtype) for value, dtype in found if math.isfinite(value) and value > 0]


@dataclass(frozen=True)
class _Errors:
    """Logarithmic axis of errors over whole decades, with a place ``zero`` below them for errors of 0."""

    decades: list[int]
    ticks: list[int]
    zero: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> _Errors:
        positive = [value for value in values if value > 0] or [1e-16]
        low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
        decades = list(range(low, max(high, low + 1) + 1))
        ticks = thinned(decades, 9)
        step = max(1.0, len(decades) / 10)
        # Below the lowest tick by what keeps their names apart.
        zero = 10.0 ** (decades[0] - step) if min(values) == 0 else None
        return cls(decades, ticks, zero)

    def place(self, error: float) -> float:
        """Return the y coordinate of an error."""
        return error if self.zero is None or error > 0 else self.zero

    def draw(self, axes: Axes) -> None:
        """Set the axis: a light grid, and a line named "exactly 0" if there is such an error."""
        axes.set_yscale("log")
        floor = 10.0 ** self.decades[0] if self.zero is None else self.zero * 10.0**-0.4
        axes.set_ylim(floor, 10.0 ** (self.decades[-1] + 0.4))
        zero = [] if self.zero is None else [self.zero]
        named_ticks(
            axes.yaxis,
            [*zero, *(10.0**tick for tick in self.ticks)],
            lambda value: "exactly 0" if value in zero else words.scientific(value),
        )
        axes.grid(axis="y")
        if zero:
            axes.axhline(zero[0], color=GREY, linewidth=1, linestyle=":")


def _logarithmic_iterations(axes: Axes, iterations: Sequence[float], width: float) -> None:
    """Make the x axis logarithmic with a place for iteration 0."""
    low, high = min(iterations), max(iterations)
    if high < 10:
        Linear.iterations(iterations, width).horizontal(axes)
        return
    axes.set_xscale("symlog", linthresh=1, linscale=0.4)
    axes.set_xlim(low, high)
    powers = [10.0**d for d in range(math.ceil(math.log10(high)))]
    ticks = [t for t in (0.0, *powers) if t >= low]
    if not ticks or high / ticks[-1] > 2.5:
        ticks.append(high)
    else:
        ticks[-1] = high
    named_ticks(axes.xaxis, ticks, lambda t: f"{t:,.0f}")


@styled()
def agreement(rows: Sequence[Row], subtitle: str = "") -> Figure:
    """Draw the distance of each backend's parameters from the float64 reference's, over the iterations."""
    measured = required(rows)
    curves = _curves(measured)
    tolerances = _tolerances(measured)
    _, small_print = provenance(measured)
    texts = [_label(curve, words.scientific(curve.y[-1])) for curve in curves]
    limits = [f"tolerated in {dtype}: {words.scientific(value)}" for value, dtype in tolerances]
    height = panel_height(len(texts) + len(limits), 3.6)
    page = Page(
        f"Agreement with the float64 reference: {task(rows)}",
        subtitle,
        height + 0.75,
        "The tolerances are for the end of the training. " * bool(tolerances) + small_print,
    )
    errors = _Errors.of([y for curve in curves for y in curve.y] + [value for value, _ in tolerances])
    left = 0.85
    width = WIDTH - left - label_width(texts + limits)
    page.text(MARGIN, page.top + 0.12, "relative error of the parameters", weight="bold")
    axes = page.axes(left, page.top + 0.3, width, height)
    _logarithmic_iterations(axes, [x for curve in curves for x in curve.x], width)
    errors.draw(axes)
    axes.set_xlabel("iteration", size=SMALL, color=GREY)

    dashed: dict[str, Any] = {"color": INK, "linewidth": 1.2, "linestyle": (0, (5, 3))}
    for value, _ in tolerances:
        axes.axhline(value, **dashed)
    ends = [End(axes.get_xlim()[1], value, text, dashed) for (value, _), text in zip(tolerances, limits, strict=True)]
    drawn = [Curve(c.name, c.dtype, c.colour, c.x, [errors.place(error) for error in c.y]) for c in curves]
    _draw(axes, drawn)
    label_ends(page, axes, ends + curve_ends(drawn, texts))
    return page.figure
