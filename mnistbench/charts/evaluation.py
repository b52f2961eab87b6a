"""Charts of what a trained network predicts: the probabilities for pictures, and a confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
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
    named_ticks,
    readable_on,
    shortened,
    styled,
    text_width,
)
from mnistbench.exceptions import DataError
from mnistbench.prediction.evaluation import LEVEL

if TYPE_CHECKING:
    from mnistbench.prediction.evaluation import Evaluation

MOST_PANELS = 60
MOST_CLASSES = 40

_BAR = "#0072B2"
_ERRORS = LinearSegmentedColormap.from_list("errors", ["#FFFFFF", "#F6C79A", "#D55E00"])
_RIGHT = "#DCE9F3"


@styled()
def probabilities(
    images: NDArray[np.uint8],
    found: NDArray[np.float64],
    names: Sequence[str],
    image_shape: Sequence[int],
    subtitle: str = "",
) -> Figure:
    """Draw images as the network sees them, each beside the probabilities of its classes.

    Args:
        images: (k, pixels), with k from 1 to 60.
        found: (k, classes) probabilities, of at most 40 classes.
        names: Name of each image.
        image_shape: (height, width), whose product is pixels.

    Raises:
        DataError: If the arrays do not fit each other, or there are too few or too many images or classes.
    """
    pictures = as_images(images, image_shape, "images")
    count, classes = found.shape
    if not (1 <= count <= MOST_PANELS and classes <= MOST_CLASSES):
        raise DataError(
            f"charts: {count} pictures of {classes} classes to draw; give 1 to {MOST_PANELS} of at most {MOST_CLASSES}"
        )
    if len(pictures) != count or len(names) != count:
        raise DataError(f"charts: {count} rows of probabilities need as many images and names")
    columns = min(2, count)
    cell = cell_of(image_shape, 1.4)
    body = max(cell[1], 0.17 * classes)
    pitch, step = body + line_height() + 0.25, (WIDTH - 2 * MARGIN) / 2
    page = Page("Predictions", subtitle, math.ceil(count / columns) * pitch)
    axes = canvas(page, math.ceil(count / columns) * pitch)
    for i, name in enumerate(names):
        left, y = MARGIN + i % columns * step, i // columns * pitch
        best = int(found[i].argmax())
        page.text(left, page.top + y + 0.1, f"{best}", weight="bold")
        room = step - 0.5
        page.text(left + 0.2, page.top + y + 0.1, shortened(name, room), color=GREY)
        y += line_height() + 0.05
        draw_image(axes, pictures[i], left, y, cell, cmap="gray_r", vmin=0, vmax=255)
        axes.add_patch(Rectangle((left, y), *cell, fill=False, edgecolor=PALE, linewidth=0.8))
        _bars(page, left + cell[0] + 0.15, page.top + y, (step - cell[0] - 0.7, body), found[i])
    return page.figure


def _bars(page: Page, left: float, top: float, size: tuple[float, float], found: NDArray[np.float64]) -> None:
    """Draw a bar for each class, named on its left, with its probability on its right."""
    width, height = size
    digits, ends = text_width(str(len(found) - 1), SMALL) + 0.08, text_width("100.0%", SMALL) + 0.06
    axes = page.axes(left + digits, top, width - digits - ends, height)
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(len(found) - 0.5, -0.5))
    best, row = int(found.argmax()), height / len(found)
    axes.barh(
        range(len(found)), found, height=0.72, color=[_BAR if k == best else "#9FC5E0" for k in range(len(found))]
    )
    for digit, share in enumerate(found):
        y = top + (digit + 0.5) * row
        strong: dict[str, Any] = {"weight": "bold", "color": INK} if digit == best else {"color": GREY}
        page.text(left + digits - 0.08, y, str(digit), ha="right", size=SMALL, **strong)
        end = left + digits + (width - digits - ends) * float(share) + 0.06
        page.text(end, y, words.percent(float(share)), size=SMALL, **strong)


@styled()
def evaluation(
    found: Evaluation,
    images: NDArray[np.uint8],
    image_shape: Sequence[int],
    subtitle: str = "",
    may_be_known: bool = False,
) -> Figure:
    """Draw the confusion matrix, the accuracy of each class with its interval, and the most confident mistakes.

    Args:
        found: What :func:`mnistbench.prediction.evaluation.evaluate` returned.
        images: (k, pixels): the images of the first k mistakes, at most 10.
        image_shape: (height, width), whose product is pixels.
        subtitle: Line below the title.
        may_be_known: Whether the network may have been trained on the images, which the chart then says.

    Raises:
        DataError: If there are more than 40 classes and one for labels without an output, or the images do not fit.
    """
    pictures = as_images(images, image_shape, "images")
    classes = len(found.confusion)
    if classes > MOST_CLASSES + 1 or len(pictures) > min(10, len(found.mistakes)):
        raise DataError(f"charts: {classes} classes, {len(pictures)} mistakes to draw; give at most {MOST_CLASSES}, 10")
    size = min(0.44, 4.3 / classes)
    step = (WIDTH - 2 * MARGIN) / 10
    cell = cell_of(image_shape, step - 0.12)
    below = 0.45 + cell[1] + 2 * line_height(SMALL) + 0.1 if len(pictures) else 0.0
    total = found.all
    low, high = total.interval or (0.0, 1.0)
    title = f"{words.percent(total.accuracy or 0.0, 2)} of {total.of:,} images right"
    small_print = (
        f"Intervals cover the accuracy on other such images with {words.level(LEVEL)} probability (Wilson); that of "
        f"all images is {words.percent(low, 2)} to {words.percent(high, 2)}."
    )
    if may_be_known:
        small_print += " The network may have been trained on these; the intervals hold only if it was not."
    page = Page(title, subtitle, 0.75 + classes * size + 0.3 + below, small_print)
    _matrix(page, found, size)
    _accuracies(page, found, size)
    if len(pictures):
        page.top += 0.75 + classes * size + 0.3
        _mistakes(page, found, pictures, cell, step)
    return page.figure


def _matrix(page: Page, found: Evaluation, size: float) -> None:
    """Draw the confusion matrix at the left of the page's body, in squares of ``size`` inches."""
    confusion = found.confusion
    classes = len(confusion)
    errors = confusion - np.diag(confusion.diagonal())
    most = max(int(errors.max()), 1)
    left, top = MARGIN + 0.45, page.top + 0.65
    page.text(MARGIN, page.top + 0.1, "label by prediction", weight="bold")
    axes = page.axes(left, top, classes * size, classes * size)
    axes.set_axis_off()
    axes.set(xlim=(0, classes), ylim=(classes, 0))
    numbers = text_width(f"{confusion.max():,}", SMALL) + 0.04 <= size
    for row in range(classes):
        middle = (row + 0.5) * size
        beside, above = (shortened(found.names[row], room, SMALL) for room in (0.35, max(0.9 * size, 0.2)))
        page.text(left - 0.1, top + middle, beside, ha="right", size=SMALL, color=GREY)
        page.text(left + middle, top - 0.13, above, ha="center", size=SMALL, color=GREY)
        for column in range(classes):
            _square(axes, row, column, int(confusion[row, column]), most, numbers)
    page.text(left, top - 0.32, "predicted as", size=SMALL, color=GREY)
    page.text(MARGIN, top - 0.13, "label", size=SMALL, color=GREY)


def _square(axes: Axes, row: int, column: int, count: int, most: int, numbers: bool) -> None:
    """Draw one square: pale blue on the diagonal; elsewhere the more orange the more errors, none blank."""
    colour = _RIGHT if row == column else to_hex(_ERRORS((count / most) ** 0.5)).upper()
    axes.add_patch(Rectangle((column, row), 1, 1, facecolor=colour, edgecolor="#EEEEEE", linewidth=0.8))
    if numbers and count:
        ink = readable_on(colour)
        axes.text(column + 0.5, row + 0.5, f"{count:,}", size=SMALL, color=ink, ha="center", va="center_baseline")


def _accuracies(page: Page, found: Evaluation, size: float) -> None:
    """Draw each class's accuracy and interval as a dot on a line, in the rows of the matrix."""
    shares = found.classes
    left = MARGIN + 0.45 + len(shares) * size + 0.35
    top, height = page.top + 0.65, len(shares) * size
    page.text(left, page.top + 0.1, "accuracy of each class", weight="bold")
    room = text_width("100.0%", SMALL) + 0.1
    width = WIDTH - MARGIN - left - room
    intervals = [share.interval for share in shares if share.interval]
    low = min((interval[0] for interval in intervals), default=0.0)
    axis = Linear.between(max(0.0, low - 0.02), 1.0, 3)
    axes = page.axes(left, top, width, height)
    axes.set(xlim=(axis.low, axis.high), ylim=(len(shares), 0))
    named_ticks(axes.xaxis, axis.ticks, lambda tick: f"{100 * tick:.4g}%")
    axes.xaxis.tick_top()
    named_ticks(axes.yaxis, [], str)
    axes.grid(axis="x")
    axes.spines[:].set_visible(False)
    for row, share in enumerate(shares):
        y = top + (row + 0.5) * size
        if share.accuracy is None or share.interval is None:
            page.text(left, y, "no images", size=SMALL, color=GREY)
            continue
        axes.plot(share.interval, [row + 0.5] * 2, color=_BAR, linewidth=2, solid_capstyle="butt", clip_on=False)
        axes.plot([share.accuracy], [row + 0.5], color=_BAR, marker="o", markersize=5, clip_on=False)
        page.text(WIDTH - MARGIN, y, words.percent(share.accuracy), size=SMALL, ha="right")


def _mistakes(
    page: Page, found: Evaluation, pictures: NDArray[np.uint8], cell: tuple[float, float], step: float
) -> None:
    """Draw the most confident mistakes in a row, each with its label and the prediction below it."""
    page.text(MARGIN, page.top + 0.1, "most confidently wrong", weight="bold")
    axes = canvas(page, 0.35 + cell[1])
    for i, picture in enumerate(pictures):
        mistake = found.mistakes[i]
        x = MARGIN + i * step
        middle = x + cell[0] / 2
        draw_image(axes, picture, x, 0.3, cell, cmap="gray_r", vmin=0, vmax=255)
        axes.add_patch(Rectangle((x, 0.3), *cell, fill=False, edgecolor=WRONG, linewidth=1.5))
        y = page.top + 0.3 + cell[1] + 0.06 + line_height(SMALL) / 2
        words_below = (f"{mistake.predicted}, is {mistake.label}", words.percent(mistake.probability))
        for place, text in enumerate(words_below):
            how: dict[str, Any] = {"color": WRONG, "weight": "bold"} if place == 0 else {"color": GREY}
            page.text(middle, y + place * line_height(SMALL), text, ha="center", size=SMALL, **how)
