"""Logarithmic axes: limits that leave a margin, and ticks whose names have room."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from mnistbench.charts.page import SMALL, line_height, named_ticks, text_width

Name = Callable[[float], str]

_LEAST_DECADES = 0.6
"""Shortest axis: it has at least one tick of 1, 2 or 5 times a power of ten, and near values look near."""


@dataclass(frozen=True)
class Logarithmic:
    """Limits, ticks and names of the ticks of a logarithmic axis."""

    low: float
    high: float
    ticks: list[float]
    name: Name

    @classmethod
    def of(
        cls,
        values: Iterable[float],
        inches: float,
        name: Name,
        *,
        upright: bool = False,
        margins: tuple[float, float] = (0.12, 0.12),
        at: Sequence[float] = (),
    ) -> Logarithmic:
        """Make an axis that holds all values, which are positive.

        Args:
            inches: Length of the axis.
            name: Function that names a tick.
            upright: Whether it is a y axis, whose names need their height instead of their width.
            margins: Inches that stay free before the smallest and after the largest value.
            at: Ticks to have as far as there is room; by default 1, 2 and 5 times powers of ten.
        """
        exponents = [math.log10(value) for value in values]
        low, high = min(exponents), max(exponents)
        missing = max(0.0, _LEAST_DECADES - (high - low)) / 2
        low, high = low - missing, high + missing
        decade = (inches - sum(margins)) / (high - low)
        low, high = low - margins[0] / decade, high + margins[1] / decade

        def extent(tick: float) -> float:
            return line_height(SMALL) * 1.3 if upright else text_width(name(tick), SMALL) + 0.12

        ticks = _without_neighbours(at, decade, extent) if at else _ticks(low, high, decade, extent)
        return cls(10.0**low, 10.0**high, ticks, name)

    @property
    def room(self) -> float:
        """Width of the names left of a vertical axis, in inches."""
        return 0.15 + max((text_width(self.name(tick), SMALL) for tick in self.ticks), default=0.0)

    def horizontal(self, axes: Axes) -> None:
        """Make it the x axis, with a light grid."""
        axes.set_xscale("log")
        axes.set_xlim(self.low, self.high)
        named_ticks(axes.xaxis, self.ticks, self.name)
        axes.grid(axis="x")

    def vertical(self, axes: Axes) -> None:
        """Make it the y axis, with a light grid."""
        axes.set_yscale("log")
        axes.set_ylim(self.low, self.high)
        named_ticks(axes.yaxis, self.ticks, self.name)
        axes.grid(axis="y")


def _candidates(low: float, high: float) -> Iterator[list[float]]:
    """Yield ticks from 10**low to 10**high: 1, 2 and 5 times powers of ten, then ever fewer powers."""
    decades = range(math.floor(low), math.ceil(high) + 1)
    yield [float(f"{digit}e{decade}") for decade in decades for digit in (1, 2, 5)]
    for step in range(1, len(decades) + 1):
        yield [10.0**decade for decade in decades if decade % step == 0]


def _ticks(low: float, high: float, decade: float, extent: Callable[[float], float]) -> list[float]:
    """Choose the most ticks whose names do not touch, at ``decade`` inches per power of ten."""
    found = ([t for t in candidate if low <= math.log10(t) <= high] for candidate in _candidates(low, high))
    sets = [ticks for ticks in found if ticks]
    fitting = (ticks for ticks in sets if all(_apart(a, b, decade, extent) for a, b in itertools.pairwise(ticks)))
    return next(fitting, sets[0][-1:])


def _without_neighbours(at: Iterable[float], decade: float, extent: Callable[[float], float]) -> list[float]:
    """Choose ticks, from the largest down, whose names do not touch."""
    ticks: list[float] = []
    for tick in sorted(set(at), reverse=True):
        if not ticks or _apart(tick, ticks[-1], decade, extent):
            ticks.append(tick)
    return ticks[::-1]


def _apart(tick: float, larger: float, decade: float, extent: Callable[[float], float]) -> bool:
    return math.log10(larger / tick) * decade >= (extent(tick) + extent(larger)) / 2
