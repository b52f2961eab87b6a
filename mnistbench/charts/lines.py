"""Parts of charts with several lines: the plot, a line of one measurement, and the labels right of the plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from mnistbench.charts.page import MARGIN, PALE, WIDTH, Page, line_height, marker, spread, text_width
from mnistbench.charts.scales import Logarithmic

LINE = 2.0
"""Width of a line in points."""

LEADER = 0.3
"""Inches between the plot and its labels."""


@dataclass(frozen=True)
class Curve:
    """Line of one measurement; all values are finite."""

    name: str
    dtype: str
    colour: str
    x: list[float]
    y: list[float]


@dataclass(frozen=True)
class End:
    """Label and the point of the plot that it names; ``handle`` has the line properties of its sample."""

    x: float
    y: float
    text: str
    handle: dict[str, Any]


def label_width(texts: Sequence[str]) -> float:
    """Compute the inches right of the plot for labels, their handles and leaders."""
    return LEADER + 0.3 + max(text_width(text) for text in texts) + MARGIN


def panel_height(labels: int, least: float = 2.2) -> float:
    """Compute the inches of a plot with ``labels`` labels beside it."""
    return max(least, labels * line_height() + 0.1)


def panel(page: Page, title: str, height: float, vertical: Logarithmic, right: float) -> tuple[Axes, float]:
    """Add a titled plot that leaves ``right`` inches for labels; return its axes and its width."""
    page.text(MARGIN, page.top + 0.12, title, weight="bold")
    left = MARGIN + vertical.room
    width = WIDTH - left - right
    axes = page.axes(left, page.top + 0.3, width, height)
    vertical.vertical(axes)
    return axes, width


def label_ends(page: Page, axes: Axes, ends: Sequence[End]) -> None:
    """Write the labels right of the plot, with leaders to the ends of their lines and without overlap."""
    box = axes.get_position()
    right = box.x1 * WIDTH
    top, bottom = page.height * (1 - box.y1), page.height * (1 - box.y0)
    points = [page.place(axes, end.x, end.y) for end in ends]
    inches = page.figure.dpi_scale_trans
    axes.patch.set_visible(False)  # leaders are behind it
    # If labels want the same place, the first is the uppermost.
    places = spread([y for _, y in points], line_height(), top, bottom)
    for end, (x, y), place in zip(ends, points, places, strict=True):
        to = right + LEADER
        line = [x, to], [page.height - y, page.height - place]
        page.figure.add_artist(Line2D(*line, color=PALE, linewidth=1, zorder=-1, transform=inches))
        sample = [to, to + 0.2], [page.height - place] * 2
        page.figure.add_artist(Line2D(*sample, markevery=[1], transform=inches, **end.handle))
        page.text(to + 0.3, place, end.text, va="center_baseline")


def handle(curve: Curve, size: float = 5.0) -> dict[str, Any]:
    """Return the line properties of a curve: its colour and the marker of its dtype."""
    return {"color": curve.colour} | marker(curve.dtype, curve.colour) | {"markersize": size}


def curve_ends(curves: Sequence[Curve], texts: Sequence[str]) -> list[End]:
    """Make the label of each curve."""
    return [End(c.x[-1], c.y[-1], text, handle(c)) for c, text in zip(curves, texts, strict=True)]
