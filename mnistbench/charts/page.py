"""Foundations of the charts: the style, and a page laid out in inches.

Texts are placed by their measured size, so that they never overlap, whatever the names and values are.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import MaxNLocator
from scipy.optimize import isotonic_regression

from mnistbench import words

WIDTH = 8.5
MARGIN = 0.15
DPI = 150
TITLE, TEXT, SMALL = 13.0, 9.5, 9.0
"""Font sizes in points."""

INK, GREY, PALE = "#222222", "#5F5F5F", "#E4E4E4"
WRONG = "#C4441C"

_FONT = "DejaVu Sans"
_STYLE: dict[str, Any] = {
    "font.family": _FONT,
    "font.size": TEXT,
    "text.color": INK,
    "text.parse_math": False,  # a "$" in the name of a backend or a machine is a dollar sign
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": PALE,
    "grid.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "ytick.major.pad": 8,  # beyond the markers
    "svg.fonttype": "path",  # the same picture where the font is not installed
    "svg.hashsalt": "mnistbench",
}

# Hues of Okabe and Ito (2008), "Color Universal Design", which the colour-blind can tell apart; variants are paler.
_COLOURS = {
    "numpy": "#E69F00",
    "numba": "#0072B2",
    "numba-plain": "#56B4E9",
    "cupy": "#009E73",
    "cupy-plain": "#7FCFB4",
    "torch": "#D55E00",
    "jax": "#CC79A7",
}
# For other packages' backends: the "muted" scheme of Paul Tol's "Colour Schemes" (2021).
_OTHER_COLOURS = ("#332288", "#999933", "#882255", "#44AA99", "#CC6677", "#117733", "#AA4499", "#DDCC77")

_MARKERS = {"float32": "o", "float64": "D"}


@contextmanager
def styled() -> Iterator[None]:
    """Apply matplotlib's defaults and this package's style, and restore the user's settings afterwards."""
    with matplotlib.style.context(["default", _STYLE]):
        yield


def colours(names: Iterable[str]) -> dict[str, str]:
    """Return a colour for each backend: fixed for those of this package, by alphabetical order for others."""
    others = sorted(set(names) - set(_COLOURS))
    return _COLOURS | {name: _OTHER_COLOURS[i % len(_OTHER_COLOURS)] for i, name in enumerate(others)}


def marker(dtype: str, colour: str) -> dict[str, Any]:
    """Return the line properties of a dtype's marker: a filled circle for float32, an open diamond for float64."""
    face = "white" if dtype == "float64" else colour
    shape = _MARKERS.get(dtype, "s")
    return {
        "marker": shape,
        "markerfacecolor": face,
        "markeredgecolor": colour,
        "markersize": 6 if shape == "D" else 7,
        "markeredgewidth": 1.6,
    }


def readable_on(colour: str) -> str:
    """Return white or ink, whichever contrasts with ``colour`` (#RRGGBB), by the luma of ITU-R BT.601."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 140 else INK


@cache
def _ruler() -> Any:
    return RendererAgg(1, 1, DPI)  # type: ignore[no-untyped-call]


def text_width(text: str, size: float = TEXT, weight: str = "normal") -> float:
    """Measure the width of one line of text in inches."""
    font = FontProperties(family=_FONT, size=size, weight=weight)
    return float(_ruler().get_text_width_height_descent(text, font, False)[0]) / DPI


def line_height(size: float = TEXT) -> float:
    """Return the distance of two lines of text in inches."""
    return size * 1.4 / 72


@cache
def _drawable() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties(family=_FONT))).get_charmap())


def clean(text: str) -> str:
    """Return the text on one line, with "?" for characters that the font lacks."""
    return "".join(c if ord(c) in _drawable() else "?" for c in words.one_line(text))


def shortened(text: str, width: float, size: float = TEXT, weight: str = "normal") -> str:
    """Return the text, without its middle if it is wider than ``width`` inches: the ends tell names apart."""
    text = clean(text)
    if text_width(text, size, weight) <= width:
        return text
    # The width grows with the number of characters kept.
    lengths = range(2, len(text))
    fitting = bisect_right(lengths, width, key=lambda n: text_width(_without_middle(text, n), size, weight))
    return _without_middle(text, 1 + fitting)


def _without_middle(text: str, keep: int) -> str:
    return text[: (keep + 1) // 2] + "…" + text[len(text) - keep // 2 :]


def wrapped(text: str, width: float, size: float = TEXT, weight: str = "normal") -> list[str]:
    """Break the text between words into lines of at most ``width`` inches; longer words are shortened."""
    lines: list[str] = []
    for word in re.split(" +", clean(text)):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size, weight) <= width:
            lines[-1] = longer
        elif word:
            lines.append(shortened(word, width, size, weight))
    return lines


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return the positions at least ``gap`` apart within [low, high] that are nearest to ``wanted`` in least squares.

    With the gaps subtracted, this is isotonic regression. Equal positions keep their order. Positions that do not fit
    start at ``low`` and run past ``high``.
    """
    if not wanted:
        return []
    order = np.argsort(wanted, kind="stable")
    gaps = gap * np.arange(len(wanted))
    level = isotonic_regression(np.asarray(wanted, float)[order] - gaps).x
    places = np.empty(len(wanted))
    places[order] = np.clip(level, low, max(low, high - gaps[-1])) + gaps
    return [float(place) for place in places]


def thinned(decades: Sequence[int], most: int) -> list[int]:
    """Return every n-th of the exponents, counted from the last, with the least n that leaves at most ``most``."""
    step = max(1, math.ceil(len(decades) / most))
    return list(decades[::-1][::step][::-1])


class Page:
    """White figure with a title, a subtitle, a body, and small print.

    All places are in inches from the top left corner; the body begins at ``top``.
    """

    def __init__(self, title: str, subtitle: str, body: float, small_print: str = "") -> None:
        inner = WIDTH - 2 * MARGIN
        heading = wrapped(title, inner, TITLE, "bold")
        below = wrapped(subtitle, inner)
        footer = wrapped(small_print, inner, SMALL)
        self.top = MARGIN + len(heading) * line_height(TITLE) + len(below) * line_height() + (0.12 if heading else 0)
        foot = self.top + body + (0.1 if footer else 0)
        self.height = foot + len(footer) * line_height(SMALL) + MARGIN
        self.figure = Figure(figsize=(WIDTH, self.height), dpi=DPI, facecolor="white")
        y = self._lines(MARGIN, heading, size=TITLE, weight="bold")
        self._lines(y, below, color=GREY)
        self._lines(foot, footer, size=SMALL, color=GREY)

    def _lines(self, y: float, lines: Sequence[str], **properties: Any) -> float:
        for line in lines:
            self.text(MARGIN, y, line, va="top", **properties)
            y += line_height(properties.get("size", TEXT))
        return y

    def text(self, x: float, y: float, text: str, **properties: Any) -> None:
        """Write one line, with properties of :class:`matplotlib.text.Text`."""
        how: dict[str, Any] = {"size": TEXT, "va": "center_baseline", **properties}
        self.figure.text(x / WIDTH, 1 - y / self.height, text, **how)

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Add axes that fill a rectangle."""
        bottom = self.height - top - height
        return self.figure.add_axes((left / WIDTH, bottom / self.height, width / WIDTH, height / self.height))

    def place(self, axes: Axes, x: float, y: float) -> tuple[float, float]:
        """Convert a point of ``axes``, whose limits are set, to a place on the page."""
        px, py = self.figure.dpi_scale_trans.inverted().transform(axes.transData.transform((x, y)))
        return float(px), self.height - float(py)


def named_ticks(axis: Any, values: Sequence[float], name: Callable[[float], str]) -> None:
    """Put labelled ticks at the values of a matplotlib axis, and none elsewhere."""
    axis.set_ticks(list(values), labels=[name(value) for value in values])
    axis.set_ticks([], minor=True)
    axis.set_tick_params(length=0)


@dataclass(frozen=True)
class Linear:
    """Limits and ticks of a linear axis."""

    low: float
    high: float
    ticks: list[float]

    @classmethod
    def metric(cls, values: Iterable[float], most: float = 0.0) -> Linear:
        """Make an axis from 0 to ``most`` that also holds all values, and a little more."""
        values = list(values)
        low, high = min(0.0, *values), max(most, *values)
        margin = 0.04 * (high - low or 1.0)
        return cls._ticked(low - margin * (low < 0), high + margin * (high > most or high == low), 5)

    @classmethod
    def between(cls, low: float, high: float, bins: int) -> Linear:
        """Make an axis from ``low`` to ``high`` with ticks at round numbers, about ``bins``."""
        return cls._ticked(low, high, bins)

    @classmethod
    def iterations(cls, values: Iterable[float], width: float) -> Linear:
        """Make an axis from the first iteration to the last, with ticks at whole numbers that fit ``width`` inches."""
        values = list(values)
        low, high = min(values), max(*values, min(values) + 1)
        most = int(width / (text_width(cls.name(round(high)), SMALL) + 0.2))
        return cls._ticked(low, high, max(1, min(most, 6)), integer=True)

    @classmethod
    def _ticked(cls, low: float, high: float, bins: int, **rule: bool) -> Linear:
        ticks = MaxNLocator(nbins=bins, steps=[1, 2, 5, 10], **rule).tick_values(low, high)
        return cls(low, high, [float(tick) for tick in ticks if low <= tick <= high])

    @staticmethod
    def name(tick: float) -> str:
        """Return the name of a tick."""
        return f"{tick:,.0f}" if tick == round(tick) and abs(tick) < 1e7 else f"{tick:g}"

    @property
    def room(self) -> float:
        """Width of the names left of a vertical axis, in inches."""
        return 0.15 + max(text_width(self.name(tick), SMALL) for tick in self.ticks)

    def horizontal(self, axes: Axes) -> None:
        """Make it the x axis."""
        axes.set_xlim(self.low, self.high)
        named_ticks(axes.xaxis, self.ticks, self.name)

    def vertical(self, axes: Axes) -> None:
        """Make it the y axis, with a light grid."""
        axes.set_ylim(self.low, self.high)
        named_ticks(axes.yaxis, self.ticks, self.name)
        axes.grid(axis="y")
