"""Charts of one network: its training with the weights of its hidden units, and its predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from mnistbench import words
from mnistbench.charts.images import as_images, canvas, cell_of, draw_image
from mnistbench.charts.page import (
    GREY,
    INK,
    MARGIN,
    PALE,
    SMALL,
    WIDTH,
    WRONG,
    Linear,
    Page,
    line_height,
    spread,
    styled,
    text_width,
)
from mnistbench.exceptions import DataError

Array = NDArray[np.floating[Any]]

_UNITS = 10
_MOST_PICTURES = 400
_LINE, _DEV_LINE = "#0072B2", "#D55E00"


def _units_shown(weights: Array) -> list[int]:
    """Choose the hidden units with the largest weights (Euclidean norm), at most ten."""
    size = np.linalg.norm(weights.astype(np.float64), axis=1)
    return sorted(int(unit) for unit in np.argsort(-size, kind="stable")[:_UNITS])


def _points(history: pd.DataFrame, column: str) -> tuple[Array, Array]:
    """Return the iterations and the finite values of a column; empty without that column."""
    if column not in history:
        return np.empty(0), np.empty(0)
    values = history[column].to_numpy(dtype=float)
    points = history[np.isfinite(values)].sort_values("iteration", kind="stable")
    return points["iteration"].to_numpy(dtype=float), points[column].to_numpy(dtype=float)


def _metric(page: Page, left: float, width: float, history: pd.DataFrame, name: str, marked: Sequence[int]) -> None:
    """Draw loss or accuracy, and that of dev, over the iterations, with the snapshots marked."""
    own, dev = _points(history, name), _points(history, f"dev_{name}")
    if not len(own[0]):
        raise DataError(f"charts: the history has no finite {name} to draw")
    lines = [("train ", own, _LINE), ("dev ", dev, _DEV_LINE)] if len(dev[0]) else [("", own, _LINE)]
    labels = [f"{what}{words.significant(y[-1])}" for what, (_, y), _ in lines]
    scale = Linear.metric(np.concatenate([y for _, (_, y), _ in lines]), 1.0 if name == "accuracy" else 0.0)
    page.text(left, page.top + 0.1, name, weight="bold")
    width -= scale.room + max(map(text_width, labels)) + 0.2
    top, height = page.top + 0.3, 1.7
    axes = page.axes(left + scale.room, top, width, height)
    Linear.iterations([*(i for _, (x, _), _ in lines for i in x), *marked], width).horizontal(axes)
    scale.vertical(axes)
    for iteration in marked:
        axes.axvline(iteration, color=GREY, linewidth=0.8, linestyle=":")
    for _, (x, y), colour in lines:
        axes.plot(x, y, color=colour, linewidth=2, marker="o" if len(x) == 1 else None, clip_on=False)
    wanted = [page.place(axes, x[-1], y[-1])[1] for _, (x, y), _ in lines]
    places = spread(wanted, line_height(), top, top + height)
    for label, place, (what, _, colour) in zip(labels, places, lines, strict=True):
        page.text(left + scale.room + width + 0.1, place, label, color=colour if what else INK)
    axes.set_xlabel("iteration", size=SMALL, color=GREY)


@styled()
def training_run(
    history: pd.DataFrame,
    snapshots: Sequence[tuple[int, Array]],
    image_shape: Sequence[int],
    subtitle: str = "",
) -> Figure:
    """Draw loss and accuracy over the iterations, and each hidden unit's weights as an image.

    Args:
        history: Columns iteration, loss and accuracy, and optionally dev_loss and dev_accuracy.
        snapshots: Pairs of an iteration and W1 (hidden, pixels). Each is a row of images; a last row shows the change
            from the first to the last. Only the 10 units with the largest final weights are drawn.
        image_shape: (height, width), whose product is pixels.

    Raises:
        DataError: If the history has no finite values, or weights have another shape or are not finite.
    """
    grid = _Grid.of(snapshots, image_shape)
    small_print = "Dotted lines: the iterations of the images below." if snapshots else ""
    if len(snapshots) > 1:
        small_print += " Change: the weights of the last less those of the first."
    page = Page("A network learning", subtitle, 2.6 + grid.height, small_print)
    half = (WIDTH - MARGIN) / 2
    marked = [iteration for iteration, _ in snapshots]
    for i, name in enumerate(("loss", "accuracy")):
        _metric(page, MARGIN + i * half, half - MARGIN, history, name, marked)
    page.top += 2.7
    if snapshots:
        _weights(page, grid)
    return page.figure


@dataclass(frozen=True)
class _Grid:
    """Images of weights: named rows, the units that are the columns, and places in inches."""

    rows: list[tuple[str, NDArray[Any]]]
    units: list[int]
    left: float
    step: float
    cell: tuple[float, float]

    @classmethod
    def of(cls, snapshots: Sequence[tuple[int, Array]], image_shape: Sequence[int]) -> _Grid:
        rows = [(f"{iteration:,}", as_images(W1, image_shape, "weights")) for iteration, W1 in snapshots]
        if len({images.shape for _, images in rows}) > 1:
            raise DataError("charts: the snapshots are of different networks; give those of one training")
        if len(rows) > 1:
            rows.append(("change", rows[-1][1] - rows[0][1]))
        if not all(np.isfinite(images).all() for _, images in rows):
            raise DataError("charts: a snapshot holds weights that are not finite; use a lower learning rate")
        units = _units_shown(snapshots[-1][1]) if snapshots else []
        left = MARGIN + 0.15 + max(text_width(name) for name in ("iteration", *(name for name, _ in rows)))
        # At least 5 places, so that a few units do not fill a page.
        step = (WIDTH - left - MARGIN) / max(5, len(units))
        return cls(rows, units, left, step, cell_of(image_shape, step - 0.08))

    @property
    def height(self) -> float:
        return 0.65 + len(self.rows) * (self.cell[1] + 0.08) if self.rows else 0.0


def _weights(page: Page, grid: _Grid) -> None:
    """Draw a row of images for each iteration and a column for each unit, on one colour scale symmetric around 0."""
    axes = canvas(page, grid.height)
    most = max(float(np.abs(images[grid.units]).max()) for _, images in grid.rows) or 1.0
    scale: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -most, "vmax": most}
    hidden = grid.rows[0][1].shape[0]
    which = "" if hidden == len(grid.units) else f", {len(grid.units)} largest of {hidden:,} units"
    page.text(MARGIN, page.top + 0.1, f"weights of the first layer{which}", weight="bold")
    _scale_bar(page, axes, most, scale)
    small: dict[str, Any] = {"size": SMALL, "color": GREY}
    page.text(grid.left - 0.1, page.top + 0.42, "iteration", ha="right", **small)
    for column, unit in enumerate(grid.units):
        middle = grid.left + column * grid.step + grid.cell[0] / 2
        page.text(middle, page.top + 0.42, f"unit {unit}", ha="center", **small)
    for row, (name, images) in enumerate(grid.rows):
        y = 0.55 + row * (grid.cell[1] + 0.08)
        page.text(grid.left - 0.1, page.top + y + grid.cell[1] / 2, name, ha="right")
        for column, unit in enumerate(grid.units):
            x = grid.left + column * grid.step
            draw_image(axes, images[unit], x, y, grid.cell, **scale)
            axes.add_patch(Rectangle((x, y), *grid.cell, fill=False, edgecolor=PALE, linewidth=0.8))


def _scale_bar(page: Page, axes: Axes, most: float, scale: dict[str, Any]) -> None:
    """Draw the colour scale at the top right."""
    width, end = 1.1, f"+{words.significant(most, 2)}"
    x = WIDTH - MARGIN - text_width(end, SMALL) - 0.08 - width
    draw_image(axes, np.linspace(-most, most, 101)[np.newaxis], x, 0.04, (width, 0.12), **scale)
    page.text(
        x - 0.08, page.top + 0.1, f"{words.MINUS}{words.significant(most, 2)}", size=SMALL, color=GREY, ha="right"
    )
    page.text(x + width + 0.08, page.top + 0.1, end, size=SMALL, color=GREY)


@styled()
def predictions(
    images: NDArray[np.uint8],
    predicted: NDArray[np.integer[Any]],
    labels: NDArray[np.integer[Any]] | None,
    image_shape: Sequence[int],
    subtitle: str = "",
) -> Figure:
    """Draw images with the predicted class below each; a wrong one is framed and marked ✗, with its label.

    Args:
        images: (k, pixels), with k from 1 to 400.
        predicted: (k,) classes.
        labels: (k,) true classes, or None if unknown.
        image_shape: (height, width), whose product is pixels.

    Raises:
        DataError: If the arrays do not fit each other, or there are too few or too many images.
    """
    pictures = as_images(images, image_shape, "images")
    count = len(pictures)
    if not 1 <= count <= _MOST_PICTURES:
        raise DataError(f"charts: {count} images to draw; give 1 to {_MOST_PICTURES}")
    if len(predicted) != count or (labels is not None and len(labels) != count):
        raise DataError(f"charts: {count} images need as many predictions, and as many labels or None")
    truth = predicted if labels is None else labels
    captions = [f"{p}" if p == t else f"✗ {p}, is {t}" for p, t in zip(predicted, truth, strict=True)]
    right = int(np.sum(predicted == truth))
    title = "Predictions" if labels is None else f"Predictions: {right:,} of {count:,} right"
    legend = "" if labels is None or right == count else "✗ and a frame: wrong, with the label."

    inner = WIDTH - 2 * MARGIN
    widest = max(text_width(caption, weight="bold") for caption in captions)
    columns = max(1, min(10, int(inner / max(0.8, widest + 0.1))))
    step = inner / columns
    cell = cell_of(image_shape, min(step - 0.16, 1.0))
    pitch = cell[1] + line_height() + 0.14
    page = Page(title, subtitle or legend, math.ceil(count / columns) * pitch)
    axes = canvas(page, math.ceil(count / columns) * pitch)
    for i, (image, caption) in enumerate(zip(pictures, captions, strict=True)):
        middle, y = MARGIN + (i % columns + 0.5) * step, i // columns * pitch + 0.03
        x = middle - cell[0] / 2
        draw_image(axes, image, x, y, cell, cmap="gray_r", vmin=0, vmax=255)
        wrong = predicted[i] != truth[i]
        frame: dict[str, Any] = (
            {"edgecolor": WRONG, "linewidth": 2.5} if wrong else {"edgecolor": PALE, "linewidth": 0.8}
        )
        axes.add_patch(Rectangle((x, y), *cell, fill=False, **frame))
        style = {"weight": "bold", "color": WRONG} if wrong else {"color": INK}
        page.text(middle, page.top + y + cell[1] + 0.06 + line_height() / 2, caption, ha="center", **style)
    return page.figure
