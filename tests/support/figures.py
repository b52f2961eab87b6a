"""What a drawn chart shows."""

from __future__ import annotations

import itertools
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text


def written(figure: Figure) -> list[Text]:
    """The texts that the figure shows."""
    found = list(figure.texts)
    for axes in figure.axes:
        found += axes.texts
        if axes.axison:
            found += [*axes.get_xticklabels(), *axes.get_yticklabels(), axes.xaxis.label, axes.yaxis.label]
    return [text for text in found if text.get_visible() and text.get_text().strip()]


def said(figure: Figure) -> list[str]:
    """The texts as strings."""
    return [text.get_text() for text in written(figure)]


def assert_legible(figure: Figure) -> None:
    """No text is small, leaves the figure, or overlaps another; the figure is as wide as a page."""
    assert 8 <= figure.get_figwidth() <= 9
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = {text: text.get_window_extent(canvas.get_renderer()) for text in written(figure)}
    assert boxes
    for text, box in boxes.items():
        assert float(text.get_fontsize()) >= 9, text
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= figure.bbox.x1, text
        assert box.y1 <= figure.bbox.y1, text
    for (one, a), (other, b) in itertools.combinations(boxes.items(), 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        along = min(a.y1, b.y1) - max(a.y0, b.y0)
        # Boxes are rounded outwards to pixels.
        assert across <= 1 or along <= 1, (one, other)
