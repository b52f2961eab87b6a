"""What charts of several lines share: a line of one measurement, and labels right of the plot that name the lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from mnistbench.charts.page import MARGIN, PALE, WIDTH, Page, line_height, marker, spread, text_width

LINE = 2.0
"""Points of a line's width."""

LEADER = 0.3
"""Inches between the plot and its labels."""


@dataclass(frozen=True)
class Curve:
    """One measurement's line; only finite values."""

    name: str
    dtype: str
    colour: str
    x: list[float]
    y: list[float]


@dataclass(frozen=True)
class End:
    """A label, and the point of the plot that it names; ``handle`` are the line properties of its sample."""

    x: float
    y: float
    text: str
    handle: dict[str, Any]


def label_width(texts: Sequence[str]) -> float:
    """Inches right of the plot for labels, their handles and leaders."""
    return LEADER + 0.3 + max(text_width(text) for text in texts) + MARGIN


def panel_height(labels: int, least: float = 2.2) -> float:
    """Inches of a plot that has so many labels beside it."""
    return max(least, labels * line_height() + 0.1)


def label_ends(page: Page, axes: Axes, ends: Sequence[End]) -> None:
    """Write the labels right of the plot, near where their lines end, with leaders, none upon another."""
    box = axes.get_position()
    right = box.x1 * WIDTH
    top, bottom = page.height * (1 - box.y1), page.height * (1 - box.y0)
    points = [page.place(axes, end.x, end.y) for end in ends]
    inches = page.figure.dpi_scale_trans
    axes.patch.set_visible(False)  # leaders are behind it
    # Of labels that want the same place, the first is the uppermost.
    places = spread([y for _, y in points], line_height(), top, bottom)
    for end, (x, y), place in zip(ends, points, places, strict=True):
        to = right + LEADER
        line = [x, to], [page.height - y, page.height - place]
        page.figure.add_artist(Line2D(*line, color=PALE, linewidth=1, zorder=-1, transform=inches))
        sample = [to, to + 0.2], [page.height - place] * 2
        page.figure.add_artist(Line2D(*sample, markevery=[1], transform=inches, **end.handle))
        page.text(to + 0.3, place, end.text, va="center_baseline")


def handle(curve: Curve, size: float = 5.0) -> dict[str, Any]:
    """Line properties of a curve: its colour and the marker of its dtype."""
    return {"color": curve.colour} | marker(curve.dtype, curve.colour) | {"markersize": size}
