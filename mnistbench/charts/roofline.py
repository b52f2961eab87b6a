"""The roofline: how near each backend comes to what the machine can compute and read.

After Williams, Waterman and Patterson, "Roofline: an insightful visual performance model for multicore
architectures" (2009): the rate cannot exceed the processor's, nor the intensity times the rate of reading.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mnistbench.charts.lines import End, label_ends, label_width, panel_height
from mnistbench.charts.page import (
    GREY,
    INK,
    MARGIN,
    PALE,
    SMALL,
    WIDTH,
    Page,
    clean,
    colours,
    line_height,
    marker,
    scientific,
    shortened,
    significant,
    spread,
    styled,
    text_width,
    with_prefix,
)
from mnistbench.charts.rows import Record, provenance, records, task
from mnistbench.charts.scales import Logarithmic
from mnistbench.exceptions import DataError

SKIPS = "†"
"""Marks a rate that counts operations which the backend leaves out."""

_DASHES: dict[str, Any] = {"float32": (0, (6, 2)), "float64": (0, (2, 2))}


@dataclass(frozen=True)
class _Roofs:
    """What one device can do at best.

    Attributes:
        peaks: dtype to FLOP/s.
        slopes: where data is read from, to bytes/s.
    """

    peaks: dict[str, float]
    slopes: dict[str, float]

    @classmethod
    def of(cls, limits: dict[str, Any]) -> _Roofs:
        """From the field ``limits`` of a row, or the ``gpu`` in it."""
        return cls(
            {str(dtype): float(rate) for dtype, rate in limits["multiply_add"].items() if rate},
            {str(level["name"]): float(level["bytes_per_second"]) for level in limits["levels"]},
        )

    def highest(self, other: _Roofs) -> _Roofs:
        """The better of two measurements of each."""
        return _Roofs(_highest(self.peaks, other.peaks), _highest(self.slopes, other.slopes))


def _highest(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    return {name: max(one.get(name, 0.0), other.get(name, 0.0)) for name in one | other}


def has_roofs(rows: pd.DataFrame) -> bool:
    """Whether :func:`roofline` can draw any of the rows."""
    return any(_has_roofs(row) for row in rows.to_dict("records"))  # type: ignore[arg-type]


def _has_roofs(row: Record) -> bool:
    """Whether a row has a point and a roof. Older rows lack some of it: None, NaN, or no such column."""
    numbers = (row.get(name) for name in ("bytes_read", "dense_flops", "flops_per_second"))
    if not all(isinstance(n, (int, float)) and math.isfinite(n) and n > 0 for n in numbers):
        return False
    limits = row.get("limits")
    own = limits.get("gpu") if isinstance(limits, dict) and row["device"] != "CPU" else limits
    return isinstance(own, dict) and {"multiply_add", "levels"} <= own.keys()


def _intensity(row: Record) -> float:
    """FLOP per byte of image data that an iteration reads."""
    return float(row["dense_flops"]) / float(row["bytes_read"])


def _roofs(rows: Sequence[Record]) -> dict[str, _Roofs]:
    """The roofs of the CPU on the most threads, under "", and those of each GPU, under "GPU" or their names."""
    gpus = {row["device"] for row in rows if row["device"] != "CPU"}
    most = max((row["threads"] for row in rows if row["device"] == "CPU"), default=0)
    found: dict[str, _Roofs] = {}
    for row in rows:
        on_cpu = row["device"] == "CPU"
        if on_cpu and row["threads"] < most:
            continue
        gpu = "GPU" if len(gpus) == 1 else shortened(row["device"], 0.8)
        name, own = ("", row["limits"]) if on_cpu else (gpu, row["limits"]["gpu"])
        roofs = _Roofs.of(own)
        found[name] = found[name].highest(roofs) if name in found else roofs
    return found


def _skipping(rows: Sequence[Record]) -> str:
    """Which work the marked backends leave out, in words."""
    skipping: dict[str, list[str]] = {}
    for row in rows:
        if isinstance(row.get("skips"), str):
            skipping.setdefault(row["skips"], []).append(f"{row['backend']} {row['dtype']}")
    which = "; ".join(f"{' and '.join(names)} left out {work}" for work, names in skipping.items())
    return f"{SKIPS} The rate counts the FLOPs of the dense products, though {which}. " if which else ""


def _labels(rows: Sequence[Record]) -> list[str]:
    """Each point's name and rate; and its threads, or which GPU it is, where those differ."""
    threads = {row["threads"] for row in rows if row["device"] == "CPU"}
    gpus = {row["device"] for row in rows if row["device"] != "CPU"}
    texts = []
    for row in rows:
        where = ""
        if row["device"] == "CPU" and len(threads) > 1:
            where = f", {row['threads']} thread{'s' * (row['threads'] != 1)}"
        if row["device"] != "CPU" and len(gpus) > 1:
            where = f", {shortened(row['device'], 1.0)}"
        mark = SKIPS if isinstance(row.get("skips"), str) else ""
        name = f"{shortened(row['backend'], 1.5)} {clean(row['dtype'])}{mark}{where}"
        texts.append(f"{name}  {_rate(row['flops_per_second'])}")
    return texts


def _rate(value: float) -> str:
    return with_prefix(value, "FLOP/s")


def _name_intensity(value: float) -> str:
    return significant(value, 1) if 1e-3 <= value < 1e5 else scientific(value, 1)


@dataclass(frozen=True)
class _Slope:
    """A roof that rises: its name, and bytes/s."""

    name: str
    rate: float

    @property
    def text(self) -> str:
        """What is written at its start."""
        return f"{self.name} {with_prefix(self.rate, 'B/s')}"


@styled()
def roofline(rows: pd.DataFrame, subtitle: str = "") -> Figure:
    """Rate against arithmetic intensity, under the measured limits of the machine; both axes logarithmic.

    Rows without ``bytes_read`` or ``limits``, which older versions did not store, are left out.

    Raises:
        DataError: there are no rows, or none that has both.
    """
    measured = [row for row in records(rows) if _has_roofs(row)]
    if not measured:
        raise DataError("charts: no row has the bytes that it read and the limits of its machine; measure anew")
    _, where = provenance(measured)
    roofs = _roofs(measured)
    slopes = [
        _Slope(f"{device} {name}".strip(), rate) for device, r in roofs.items() for name, rate in r.slopes.items()
    ]
    peaks = [
        (f"{device} {dtype}".strip(), dtype, rate) for device, r in roofs.items() for dtype, rate in r.peaks.items()
    ]
    texts = _labels(measured)
    names = [f"{shortened(name, 1.9)} peak  {_rate(rate)}" for name, _, rate in peaks]
    height = panel_height(len(texts) + len(names), 4.2)
    small_print = f"Level: multiply-adds in registers. Rising: reading what is there. {_skipping(measured)}{where}"
    page = Page(f"Roofline: {task(rows)}", subtitle, height + 0.85, small_print)
    page.text(MARGIN, page.top + 0.12, "rate of the dense computation", weight="bold")
    axes, start = _axes(page, height, measured, slopes, [rate for _, _, rate in peaks], texts + names)
    axes.set_xlabel("FLOP per byte of image data read", size=SMALL, color=GREY)
    _draw_slopes(page, axes, slopes, start, max((rate for _, _, rate in peaks), default=math.inf))

    ends = []
    for (_, dtype, rate), name in zip(peaks, names, strict=True):
        style = {"color": INK, "linewidth": 1.3, "linestyle": _DASHES.get(dtype, "-")}
        axes.axhline(rate, **style)
        ends.append(End(axes.get_xlim()[1], rate, name, style))
    colour = colours(row["backend"] for row in measured)
    for row, text in zip(measured, texts, strict=True):
        style = {"linestyle": "", **marker(row["dtype"], colour[row["backend"]])}
        axes.plot(_intensity(row), row["flops_per_second"], zorder=3, **style)
        ends.append(End(_intensity(row), row["flops_per_second"], text, style))
    label_ends(page, axes, ends)
    return page.figure


def _axes(
    page: Page,
    height: float,
    rows: Sequence[Record],
    slopes: Sequence[_Slope],
    peaks: Sequence[float],
    texts: list[str],
) -> tuple[Axes, float]:
    """Axes with room left of all points for the names of the slopes; and the intensity where those start."""
    intensities = [_intensity(row) for row in rows]
    # The slopes are seen to reach the roof.
    corners = [max(peaks) / slope.rate for slope in slopes if peaks]
    low = min(intensities + corners) / 1.5
    naming = 0.35 + max((text_width(slope.text, SMALL) for slope in slopes), default=0.0)
    rates = [row["flops_per_second"] for row in rows]
    rates += [*peaks, *(slope.rate * low for slope in slopes)]
    vertical = Logarithmic.of(rates, height, lambda rate: with_prefix(rate, "FLOP/s", 1), upright=True)
    left = MARGIN + vertical.room
    width = WIDTH - left - label_width(texts)
    axes = page.axes(left, page.top + 0.3, width, height)
    vertical.vertical(axes)
    values = [low, *intensities, *corners]
    horizontal = Logarithmic.of(values, width, _name_intensity, margins=(naming, 0.25))
    replace(horizontal, ticks=[tick for tick in horizontal.ticks if tick >= low]).horizontal(axes)
    return axes, low


def _draw_slopes(page: Page, axes: Axes, slopes: Sequence[_Slope], start: float, peak: float) -> None:
    """Draw the roofs that rise from ``start`` to the highest peak, and name each left of where it starts."""
    left = page.place(axes, axes.get_xlim()[0], 1.0)[0]
    box = axes.get_position()
    top, bottom = page.height * (1 - box.y1), page.height * (1 - box.y0)
    heights = [page.place(axes, start, slope.rate * start)[1] for slope in slopes]
    half = line_height(SMALL) / 2
    places = spread(heights, 2 * half, top + half, bottom - half - 0.05)
    for slope, y, place in zip(slopes, heights, places, strict=True):
        end = min(axes.get_xlim()[1], peak / slope.rate)
        axes.plot([start, end], [slope.rate * start, slope.rate * end], color=GREY, linewidth=1.3)
        x = left + 0.08 + text_width(slope.text, SMALL)
        begin = page.place(axes, start, 1.0)[0]
        across, down = [x + 0.04, begin - 0.02], [page.height - place, page.height - y]
        page.figure.add_artist(Line2D(across, down, color=PALE, linewidth=1, transform=page.figure.dpi_scale_trans))
        over_grid = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        page.text(left + 0.08, place, slope.text, size=SMALL, color=GREY, bbox=over_grid)
