"""Heatmap of the speedups over the reference: each backend on every workload."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mnistbench import words
from mnistbench.charts.page import (
    GREY,
    MARGIN,
    PALE,
    SMALL,
    WIDTH,
    Page,
    line_height,
    readable_on,
    shortened,
    styled,
    text_width,
)
from mnistbench.charts.rows import provenance, required, setting
from mnistbench.exceptions import DataError

if TYPE_CHECKING:
    from mnistbench.results.row import Row, Speedup

# Orange is slower than the reference, blue is faster, white is equal: hues that the colour-blind can tell apart.
_COLOURS = LinearSegmentedColormap.from_list("speedup", ["#D55E00", "#F6C79A", "#FFFFFF", "#7FB6D9", "#0072B2"])

# Inches, but for the edge, which is in points.
_NAMES, _HEADINGS = 2.3, 1.0  # largest widths of a backend's and of a workload's name
_CELL = 0.5  # height of a cell: two lines and a margin
_HEADER, _GAP = 0.45, 0.25  # heights of the columns' names and between blocks of columns
_EDGE = 1.5  # white edge of a cell

Column = tuple[str, str]
"""A workload and a dtype."""


def has_speedups(rows: Sequence[Row]) -> bool:
    """Whether :func:`speedups` can draw any of the rows."""
    return any(row.speedup for row in rows)


def _cell_texts(row: Row) -> tuple[str, str]:
    """Return the speedup, and its interval or ""."""
    found = _speedup(row)
    interval = f"{_number(found.low)}–{_number(found.high)}" if found.known and found.low < found.high else ""
    return f"{words.ABOUT} " * found.across_runs + words.times(found.value), interval


def _speedup(row: Row) -> Speedup:
    assert row.speedup is not None, "others are not drawn"
    return row.speedup


def _number(ratio: float) -> str:
    return words.times(ratio).removesuffix(words.TIMES)


@dataclass(frozen=True)
class _Table:
    """Cells of the heatmap: a line for each backend (and setting), a column for each workload and dtype."""

    lines: list[tuple[str, str]]
    columns: list[Column]
    cells: dict[tuple[tuple[str, str], Column], Row]
    width: float  # inches of a column

    @classmethod
    def of(cls, rows: Sequence[Row]) -> _Table:
        settings = {setting(row) for row in rows}
        cells: dict[tuple[tuple[str, str], Column], Row] = {}
        for row in rows:
            line = (row.backend, setting(row) if len(settings) > 1 else "")
            cells[line, (row.workload.name, row.dtype)] = row
        lines = list(dict.fromkeys(line for line, _ in cells))
        order = list(dict.fromkeys(row.workload.name for row in rows))
        columns = sorted({column for _, column in cells}, key=lambda c: (order.index(c[0]), c[1]))
        texts = [text for row in cells.values() for text in _cell_texts(row)]
        headers = [shortened(text, _HEADINGS, SMALL) for column in columns for text in column]
        widest = max([text_width(text, weight="bold") for text in texts] + [text_width(h, SMALL) for h in headers])
        return cls(lines, columns, cells, widest + 0.2)

    @property
    def names(self) -> float:
        """Width of the lines' names in inches."""
        widths = [text_width(shortened(name, _NAMES, weight="bold"), weight="bold") for name, _ in self.lines]
        widths += [text_width(shortened(where, _NAMES, SMALL), SMALL) for _, where in self.lines]
        return max(widths) + 0.15

    @property
    def blocks(self) -> list[list[Column]]:
        """Columns in blocks as wide as the page."""
        count = max(1, int((WIDTH - 2 * MARGIN - self.names) / self.width))
        return [self.columns[first : first + count] for first in range(0, len(self.columns), count)]

    @property
    def block_height(self) -> float:
        """Height of a block of columns and the gap below it, in inches."""
        return _HEADER + len(self.lines) * _CELL + _GAP


@styled()
def speedups(rows: Sequence[Row], subtitle: str = "") -> Figure:
    """Draw the speedup over numpy float64 and its interval, for backends by workloads and dtypes.

    Colours are on a logarithmic scale. Cells without a validated measurement stay blank.
    """
    measured = [row for row in required(rows) if row.speedup and row.validated]
    if not measured:
        raise DataError("charts: no row has a speedup; measure numpy in float64 on the same machine too")
    table = _Table.of(measured)
    exponents = [abs(math.log10(_speedup(row).value)) for row in measured]
    most = max([*exponents, math.log10(2)])
    _, where = provenance(measured)
    intervals = any(_cell_texts(row)[1] for row in measured)
    small_print = (
        f"{words.TIMES}: the reference's time over the backend's, on colours of its logarithm."
        + " Below it: an interval that covers the true one with 95% probability." * intervals
        + f" {words.ABOUT}: over a time of another run." * any(_speedup(row).across_runs for row in measured)
        + f" Blank: not measured, or no result. {where}"
    )
    page = Page("Speedup over numpy float64", subtitle, 0.4 + len(table.blocks) * table.block_height, small_print)
    _scale(page, most)
    page.top += 0.4
    for block in table.blocks:
        _draw_block(page, table, block, most)
        page.top += table.block_height
    return page.figure


def _draw_block(page: Page, table: _Table, columns: Sequence[Column], most: float) -> None:
    """Draw a block of columns at the top of the page's body."""
    left, height = MARGIN + table.names, len(table.lines) * _CELL
    axes = page.axes(left, page.top + _HEADER, len(columns) * table.width, height)
    axes.set_axis_off()
    axes.set(xlim=(0, len(columns)), ylim=(len(table.lines), 0))
    for i, texts in enumerate(columns):
        for y, text in zip((0.12, 0.30), texts, strict=True):
            middle = left + (i + 0.5) * table.width
            page.text(middle, page.top + y, shortened(text, _HEADINGS, SMALL), size=SMALL, color=GREY, ha="center")
    for j, (name, where) in enumerate(table.lines):
        y = page.top + _HEADER + (j + 0.5) * _CELL
        shift = 0.09 if where else 0.0
        page.text(MARGIN, y - shift, shortened(name, _NAMES, weight="bold"), weight="bold")
        if where:
            page.text(MARGIN, y + shift, shortened(where, _NAMES, SMALL), size=SMALL, color=GREY)
        for i, column in enumerate(columns):
            _draw_cell(axes, i, j, table.cells.get(((name, where), column)), most)


def _draw_cell(axes: Axes, i: int, j: int, row: Row | None, most: float) -> None:
    """Draw one cell: coloured, with its numbers, or an outline."""
    if row is None:
        axes.add_patch(Rectangle((i, j), 1, 1, facecolor="none", edgecolor=PALE, linewidth=0.8))
        return
    colour = _colour(_speedup(row).value, most)
    axes.add_patch(Rectangle((i, j), 1, 1, facecolor=colour, edgecolor="white", linewidth=_EDGE))
    value, interval = _cell_texts(row)
    shift = line_height(SMALL) / 2 / _CELL if interval else 0.0
    ink = readable_on(colour)
    axes.text(i + 0.5, j + 0.5 - shift, value, weight="bold", color=ink, ha="center", va="center_baseline")
    if interval:
        axes.text(i + 0.5, j + 0.5 + shift, interval, size=SMALL, color=ink, ha="center", va="center_baseline")


def _colour(speedup: float, most: float) -> str:
    """Return the colour of a speedup as #RRGGBB; 10**most and 10**-most have the strongest."""
    return to_hex(_COLOURS(0.5 + 0.5 * math.log10(speedup) / most)).upper()


def _scale(page: Page, most: float) -> None:
    """Draw the colours from the slowest to the fastest, at the top of the body."""
    ends = [words.times(10.0**exponent, 2) for exponent in (-most, most)]
    x = MARGIN
    page.text(x, page.top + 0.1, f"slower {ends[0]}", size=SMALL, color=GREY)
    x += text_width(f"slower {ends[0]}", SMALL) + 0.08
    axes = page.axes(x, page.top + 0.03, 1.6, 0.14)
    axes.set_axis_off()
    axes.imshow([[k / 100 for k in range(101)]], aspect="auto", cmap=_COLOURS, vmin=0, vmax=1)
    page.text(x + 1.68, page.top + 0.1, f"{ends[1]} faster", size=SMALL, color=GREY)
