"""A chart of times in lanes, as SVG: small, with text as text, coloured by the page's style sheet.

It is drawn here and not by matplotlib, whose SVG files carry styles that the page's policy forbids, a white ground, and
fifty times the bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mnistbench import words
from mnistbench.webpage.markup import Markup, tag

_WIDTH, _LEFT, _RIGHT, _LANE = 760, 190, 110, 26
COLOURS = 8  # of the style sheet
_LETTERS = 26  # characters of a label that have room


@dataclass(frozen=True)
class Lane:
    """A lane of the chart.

    Attributes:
        value, low, high: Median in seconds, and its interval.
        rounds: Seconds of each round.
        told: Value in words.
        hollow: Whether the mark is an open diamond, as float64 has it.
        colour: Place of its colour in the style sheet.
    """

    label: str
    value: float
    low: float
    high: float
    rounds: Sequence[float]
    told: str
    hollow: bool
    colour: int


def chart(title: str, lanes: Sequence[Lane]) -> Markup:
    """Draw lanes, of which there is at least one, on a logarithmic axis of seconds."""
    values = [value for lane in lanes for value in (lane.low, lane.high, lane.value, *lane.rounds)]
    low, high = math.log10(min(values)), math.log10(max(values))
    margin = max(0.2, high - low) * 0.05
    low, high = low - margin, high + margin
    bottom = _LANE * len(lanes) + 6

    def at(value: float) -> float:
        return round(_LEFT + (math.log10(value) - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT), 1)

    parts = [*_axis(low, high, at, bottom)]
    for place, lane in enumerate(lanes):
        parts += _lane(lane, at, _LANE * place + _LANE // 2 + 3)
    box = f"0 0 {_WIDTH} {bottom + 24}"
    return tag("svg", parts, viewBox=box, class_="static", role="img", aria_label=title)


def _axis(low: float, high: float, at: Callable[[float], float], bottom: int) -> list[Markup]:
    """Return ticks at 1, 2 and 5 times powers of ten, fewer where they have no room."""
    decades = range(math.floor(low), math.ceil(high) + 1)
    for digits in ((1, 2, 5), (1,)):
        ticks = [float(f"{digit}e{decade}") for decade in decades for digit in digits]
        ticks = [tick for tick in ticks if low <= math.log10(tick) <= high]
        if len(ticks) <= 9:
            break
    found = []
    for tick in ticks:
        x = at(tick)
        found.append(tag("line", class_="grid", x1=x, x2=x, y1=0, y2=bottom))
        found.append(tag("text", words.seconds(tick, 2), class_="tick", x=x, y=bottom + 17, text_anchor="middle"))
    return found


def _lane(lane: Lane, at: Callable[[float], float], y: int) -> list[Markup]:
    label = lane.label if len(lane.label) <= _LETTERS else lane.label[: _LETTERS - 1] + "…"
    x, hue = at(lane.value), f"k{lane.colour % COLOURS}"
    shape = f"M{x} {y}m0-6l6 6l-6 6l-6-6z" if lane.hollow else f"M{x} {y}m-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0z"
    rounds = "".join(f"M{at(value)} {y}m-2 0a2 2 0 1 0 4 0a2 2 0 1 0-4 0z" for value in lane.rounds)
    return [
        tag("line", class_="lane", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y),
        tag("text", label, class_="label", x=_LEFT - 12, y=y + 4, text_anchor="end"),
        tag("path", class_=f"round {hue}", d=rounds),
        tag("line", class_=f"interval {hue}", x1=at(lane.low), x2=at(lane.high), y1=y, y2=y),
        tag("path", class_=f"shape {hue}{' hollow' * lane.hollow}", d=shape),
        tag("text", lane.told, class_="value", x=_WIDTH - _RIGHT + 8, y=y + 4),
    ]
