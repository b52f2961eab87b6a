"""Images of digits and of weights on a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from numpy.typing import NDArray

from mnistbench.charts.page import WIDTH, Page
from mnistbench.exceptions import DataError


def cell_of(image_shape: Sequence[int], width: float) -> tuple[float, float]:
    """Return the size of a picture ``width`` inches wide, with its aspect ratio limited to 1:4 and 5:2."""
    height, across = image_shape
    return width, width * min(max(height / across, 0.25), 2.5)


def as_images(values: NDArray[Any], image_shape: Sequence[int], what: str) -> NDArray[Any]:
    """Reshape (k, pixels) to (k, height, width); raise DataError if the shapes do not match."""
    if len(image_shape) != 2 or values.ndim != 2 or values.shape[1] != math.prod(image_shape):
        raise DataError(
            f"charts: {what} of shape {values.shape} do not make images of shape {tuple(image_shape)}; "
            "give (k, height·width) and (height, width)"
        )
    return values.reshape(-1, *image_shape)


def canvas(page: Page, height: float) -> Axes:
    """Add axes over the whole width of the page's body, in inches from its top left corner."""
    axes = page.axes(0, page.top, WIDTH, height)
    axes.set_axis_off()
    axes.set(xlim=(0, WIDTH), ylim=(height, 0))
    return axes


def draw_image(axes: Axes, image: NDArray[Any], x: float, y: float, cell: tuple[float, float], **how: Any) -> None:
    """Draw an image with its top left corner at (x, y)."""
    width, height = cell
    limits = axes.get_xlim(), axes.get_ylim()
    axes.imshow(image, extent=(x, x + width, y + height, y), aspect="auto", interpolation="none", **how)
    axes.set(xlim=limits[0], ylim=limits[1])
