"""Roofline chart: each backend's rate beside the machine's limits of arithmetic and of reading.

See Williams, Waterman and Patterson, "Roofline: an insightful visual performance model for multicore architectures"
(2009): the rate exceeds neither the processor's peak nor the arithmetic intensity times the bandwidth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mnistbench import words
from mnistbench.charts.lines import End, label_ends, label_width, panel, panel_height
from mnistbench.charts.page import (
    GREY,
    INK,
    PALE,
    SMALL,
    Page,
    clean,
    colours,
    line_height,
    marker,
    shortened,
    spread,
    styled,
    text_width,
)
from mnistbench.charts.rows import provenance, required, task
from mnistbench.charts.scales import Logarithmic
from mnistbench.exceptions import DataError

if TYPE_CHECKING:
    from mnistbench.machine.rates import Rates
    from mnistbench.results.row import Row

SKIPS = "†"
"""Mark of a rate that counts operations which the backend skips."""

_DASHES: dict[str, Any] = {"float32": (0, (6, 2)), "float64": (0, (2, 2))}


@dataclass(frozen=True)
class _Roofs:
    """Limits of one device: FLOP/s by dtype, and bytes/s by level of the memory hierarchy."""

    peaks: dict[str, float]
    slopes: dict[str, float]

    @classmethod
    def of(cls, rates: Rates) -> _Roofs:
        return cls(dict(rates.multiply_add), {level.name: level.bytes_per_second for level in rates.levels})

    def highest(self, other: _Roofs) -> _Roofs:
        """Return the elementwise maximum of two measurements."""
        return _Roofs(_highest(self.peaks, other.peaks), _highest(self.slopes, other.slopes))


def _highest(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    return {name: max(one.get(name, 0.0), other.get(name, 0.0)) for name in one | other}


def has_roofs(rows: Sequence[Row]) -> bool:
    """Whether :func:`roofline` can draw any of the rows."""
    return any(_rates(row) for row in rows)


def _rates(row: Row) -> Rates | None:
    """Return the limits of a row's device, or None if it cannot be drawn; rows of earlier versions may lack data."""
    return row.speed.rates(row.limits) if row.bytes_read else None


def _intensity(row: Row) -> float:
    """Compute the FLOP per byte that an iteration moves: of images, as the backend stores them, and of parameters."""
    return row.workload.dense_flops / (row.speed.bytes_read + row.workload.parameter_bytes)


def _roofs(rows: Sequence[Row]) -> dict[str, _Roofs]:
    """Return the limits of the CPU on the most threads, under "", and of each GPU, under "GPU" or its name."""
    gpus = {row.device for row in rows if row.device != "CPU"}
    most = max((row.threads for row in rows if row.device == "CPU"), default=0)
    found: dict[str, _Roofs] = {}
    for row in rows:
        rates = _rates(row)
        if rates is None or (row.device == "CPU" and row.threads < most):
            continue
        name = "" if row.device == "CPU" else "GPU" if len(gpus) == 1 else shortened(row.device, 0.5)
        roofs = _Roofs.of(rates)
        found[name] = found[name].highest(roofs) if name in found else roofs
    return found


def _skipping(rows: Sequence[Row]) -> str:
    """Describe the work that the marked backends skip."""
    skipping: dict[str, list[str]] = {}
    for row in rows:
        if row.skips is not None:
            skipping.setdefault(row.skips, []).append(f"{row.backend} {row.dtype}")
    which = "; ".join(f"{' and '.join(names)} left out {work}" for work, names in skipping.items())
    return f"{SKIPS} The rate counts the FLOPs of the dense products, though {which}. " if which else ""


def _labels(rows: Sequence[Row]) -> list[str]:
    """Return each point's name and rate, with its threads or GPU if those differ."""
    threads = {row.threads for row in rows if row.device == "CPU"}
    gpus = {row.device for row in rows if row.device != "CPU"}
    texts = []
    for row in rows:
        where = ""
        if row.device == "CPU" and len(threads) > 1:
            where = f", {words.counted(row.threads, 'thread')}"
        if row.device != "CPU" and len(gpus) > 1:
            where = f", {shortened(row.device, 0.6)}"
        mark = "" if row.skips is None else SKIPS
        name = f"{shortened(row.backend, 1.2)} {clean(row.dtype)}{mark}{where}"
        peak = row.speed.fraction_of_peak(row.limits)
        share = "" if peak is None else f", {words.percent(peak, 0)}"
        texts.append(f"{name}  {_rate(row.speed.flops_per_second)}{share}")
    return texts


def _rate(value: float) -> str:
    return words.quantity(value, "FLOP/s")


def _name_intensity(value: float) -> str:
    return words.significant(value, 1) if 1e-3 <= value < 1e5 else words.scientific(value, 1)


class _Slope(NamedTuple):
    """Bandwidth limit: its label and bytes/s."""

    text: str
    rate: float


@styled()
def roofline(rows: Sequence[Row], subtitle: str = "") -> Figure:
    """Draw the rate over the arithmetic intensity below the measured limits of the machine; both axes logarithmic.

    Rows without ``bytes_read`` or ``limits``, which earlier versions did not store, are left out.
    """
    measured = [row for row in required(rows) if _rates(row)]
    if not measured:
        raise DataError("charts: no row has the bytes that it read and the limits of its machine; measure anew")
    _, where = provenance(measured)
    roofs = _roofs(measured)
    slopes = [
        _Slope(f"{device} {name} {words.quantity(rate, 'B/s')}".strip(), rate)
        for device, r in roofs.items()
        for name, rate in r.slopes.items()
    ]
    peaks = [
        (f"{device} {dtype}".strip(), dtype, rate) for device, r in roofs.items() for dtype, rate in r.peaks.items()
    ]
    texts = _labels(measured)
    names = [f"{shortened(name, 1.4)} peak  {_rate(rate)}" for name, _, rate in peaks]
    height = panel_height(len(texts) + len(names), 4.2)
    how = "Level: multiply-adds in registers. Rising: reading what is there. Percentages: of the peak. Bytes: every "
    how += "pass over images, weights, gradients and optimizer state, from cache or memory. "
    small_print = f"{how}{_skipping(measured)}{where}"
    page = Page(f"Roofline: {task(rows)}", subtitle, height + 0.85, small_print)
    axes, start = _axes(page, height, measured, slopes, [rate for _, _, rate in peaks], texts + names)
    axes.set_xlabel("FLOP per byte of images and parameters moved", size=SMALL, color=GREY)
    _draw_slopes(page, axes, slopes, start, max((rate for _, _, rate in peaks), default=math.inf))

    ends = []
    for (_, dtype, rate), name in zip(peaks, names, strict=True):
        style = {"color": INK, "linewidth": 1.3, "linestyle": _DASHES.get(dtype, "-")}
        axes.axhline(rate, **style)
        ends.append(End(axes.get_xlim()[1], rate, name, style))
    colour = colours(row.backend for row in measured)
    for row, text in zip(measured, texts, strict=True):
        style = {"linestyle": "", **marker(row.dtype, colour[row.backend])}
        axes.plot(_intensity(row), row.speed.flops_per_second, zorder=3, **style)
        ends.append(End(_intensity(row), row.speed.flops_per_second, text, style))
    label_ends(page, axes, ends)
    return page.figure


def _axes(
    page: Page,
    height: float,
    rows: Sequence[Row],
    slopes: Sequence[_Slope],
    peaks: Sequence[float],
    texts: list[str],
) -> tuple[Axes, float]:
    """Add axes with room for the slopes' names; return them and the intensity at which the slopes start."""
    intensities = [_intensity(row) for row in rows]
    # Every slope reaches the roof within the axes.
    corners = [max(peaks) / slope.rate for slope in slopes if peaks]
    low = min(intensities + corners) / 1.5
    naming = 0.35 + max((text_width(slope.text, SMALL) for slope in slopes), default=0.0)
    rates = [row.speed.flops_per_second for row in rows]
    rates += [*peaks, *(slope.rate * low for slope in slopes)]
    vertical = Logarithmic.of(rates, height, lambda rate: words.quantity(rate, "FLOP/s", 1), upright=True)
    axes, width = panel(page, "rate of the dense computation", height, vertical, label_width(texts))
    values = [low, *intensities, *corners]
    horizontal = Logarithmic.of(values, width, _name_intensity, margins=(naming, 0.25))
    replace(horizontal, ticks=[tick for tick in horizontal.ticks if tick >= low]).horizontal(axes)
    return axes, low


def _draw_slopes(page: Page, axes: Axes, slopes: Sequence[_Slope], start: float, peak: float) -> None:
    """Draw the bandwidth limits from ``start`` to the highest peak, each with its name at the left."""
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
