"""Charts of several ranks: the time of an iteration and the efficiency over their number, strong and weak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mnistbench import words
from mnistbench.charts.lines import LINE, Curve, curve_ends, handle, label_ends, label_width, panel, panel_height
from mnistbench.charts.page import GREY, MARGIN, SMALL, WIDTH, Linear, Page, clean, colours, shortened, styled
from mnistbench.charts.rows import provenance, required
from mnistbench.charts.scales import Logarithmic
from mnistbench.exceptions import DataError
from mnistbench.timing.statistics import Median

if TYPE_CHECKING:
    from mnistbench.results.row import Row

Kind = Literal["ranks", "weak"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""Strong scaling, of the same images on more ranks, and weak scaling, of as many images on each rank."""

_TITLES = {"ranks": "Strong scaling: the same images on more ranks", "weak": "Weak scaling: more images on more ranks"}
_DASHES = (0, (4, 3))


@dataclass(frozen=True)
class _Line(Curve):
    """Seconds per iteration (y) over the numbers of ranks (x), from a single rank on.

    Attributes:
        low, high: Ends of the intervals of the seconds.
        images: Number of images: of all ranks, or with ``kind`` "weak" of each.
        kind: What stays the same on more ranks.
    """

    low: list[float]
    high: list[float]
    images: int
    kind: Kind

    @property
    def ideal(self) -> list[float]:
        """Seconds of ranks that lose nothing to each other."""
        return [self.y[0] / (count if self.kind == "ranks" else 1) for count in self.x]

    @property
    def efficiency(self) -> list[float]:
        """Ideal seconds as a fraction of those measured."""
        return [ideal / seconds for ideal, seconds in zip(self.ideal, self.y, strict=True)]


def ranks_kinds(rows: Sequence[Row]) -> list[Kind]:
    """List the kinds of scaling of which the rows have a line."""
    return [kind for kind in KINDS if _lines(rows, kind)]


def _lines(rows: Sequence[Row], kind: Kind) -> list[_Line]:
    """Make a line of each backend, dtype, number of images and setting that ran on one rank and on several."""
    groups: dict[tuple[Any, ...], dict[int, Row]] = {}
    for row in rows:
        if row.size is None or row.ranks is None or kind not in row.size.axes:
            continue
        count = len(row.ranks.threads)
        images = row.workload.images if kind == "ranks" else row.workload.images // count
        setting = row.backend, row.dtype, row.device, row.size.hidden, row.size.allowed_threads, images
        groups.setdefault(setting, {})[count] = row
    colour = colours(row.backend for row in rows)
    found = []
    for (*_, images), members in groups.items():
        counts, measured = zip(*sorted(members.items()), strict=True)
        if counts[0] != 1 or len(counts) == 1:
            continue
        first = measured[0]
        y, low, high = (
            [_seconds(row.timing, end) / row.workload.iterations for row in measured]
            for end in ("value", "low", "high")
        )
        line = _Line(
            first.backend, first.dtype, colour[first.backend], [*map(float, counts)], y, low, high, images, kind
        )
        found.append(line)
    return found


def _seconds(timing: Median, end: str) -> float:
    """Return the median or an end of its interval; a clock that reads 0 is drawn at a nanosecond."""
    return max(1e-9, float(getattr(timing, end)))


@styled()
def ranks(rows: Sequence[Row], kind: Kind, subtitle: str = "") -> Figure:
    """Draw the seconds of an iteration over the number of ranks, both logarithmic, and below them the efficiency.

    Args:
        rows: Rows of the scaling benchmark.
        kind: "ranks" for strong scaling, "weak" for weak scaling.
        subtitle: Line below the title.
    """
    lines = _lines(required(rows), kind)
    if not lines:
        raise DataError(
            "charts: no row is of one rank and of several; run pytest benchmarks/test_scaling.py --ranks 1,2"
        )
    drawn = [row for row in rows if row.size is not None and kind in row.size.axes and row.ranks is not None]
    texts = [_label(line) for line in lines]
    ends = [f"{text} · {words.percent(line.efficiency[-1], 0)}" for line, text in zip(lines, texts, strict=True)]
    heights = panel_height(len(lines), 2.6), panel_height(len(lines), 1.6)
    page = Page(_TITLES[kind], subtitle, sum(heights) + 1.5, _how_to_read(kind, drawn) + provenance(drawn)[1])
    axes, left = _times(page, heights[0], lines, label_width(ends))
    for line in lines:
        axes.plot(line.x, line.ideal, color=line.colour, alpha=0.6, linewidth=1, linestyle=_DASHES)
        for count, low, high in zip(line.x, line.low, line.high, strict=True):
            axes.plot([count, count], [low, high], color=line.colour, linewidth=3.5, alpha=0.4, solid_capstyle="butt")
        axes.plot(line.x, line.y, linewidth=LINE, **handle(line))
    label_ends(page, axes, curve_ends(lines, texts))
    below = _efficiencies(page, page.top + heights[0] + 0.7, left, axes, heights[1], lines)
    points = [replace(line, y=[100 * value for value in line.efficiency]) for line in lines]
    label_ends(page, below, curve_ends(points, ends))
    return page.figure


def _label(line: _Line) -> str:
    images = words.abbreviated(line.images) + " each" * (line.kind == "weak")
    return f"{shortened(line.name, 1.7)} {clean(line.dtype)} · {images}"


def _how_to_read(kind: Kind, rows: Sequence[Row]) -> str:
    ideal = "1 / ranks of the time of one rank" if kind == "ranks" else "the time of one rank"
    settings = {f"{one.library} over {one.transport}, {one.each} each" for row in rows if (one := row.ranks)}
    return (
        f"Labels: images, and the efficiency on the most ranks. Bars: intervals of the medians. Dashed: {ideal}. "
        f"Efficiency: the ideal time as a fraction of the measured one. Ranks: {'; '.join(sorted(settings))}. "
    )


def _times(page: Page, height: float, lines: Sequence[_Line], right: float) -> tuple[Axes, float]:
    """Add axes that hold all times and ideals; return them and the inches left of them."""
    seconds = [value for line in lines for value in (*line.y, *line.low, *line.high, *line.ideal)]
    vertical = Logarithmic.of(seconds, height, lambda time: words.seconds(time, 1), upright=True)
    axes, width = panel(page, "time of an iteration", height, vertical, right)
    _counts(axes, width, lines)
    return axes, MARGIN + vertical.room


def _efficiencies(page: Page, top: float, left: float, above: Axes, height: float, lines: Sequence[_Line]) -> Axes:
    """Add a panel of the efficiencies in percent, as wide as the one above, with a line at 100."""
    page.text(MARGIN, top + 0.12, "efficiency", weight="bold")
    width = above.get_position().width * WIDTH
    axes = page.axes(left, top + 0.3, width, height)
    percents = [[100 * value for value in line.efficiency] for line in lines]
    Linear.metric((value for values in percents for value in values), most=108.0).vertical(axes)
    _counts(axes, width, lines)
    axes.axhline(100.0, color=GREY, linewidth=1, linestyle=_DASHES)
    for line, values in zip(lines, percents, strict=True):
        axes.plot(line.x, values, linewidth=LINE, **handle(line))
    axes.set_xlabel("ranks", size=SMALL, color=GREY)
    axes.set_ylabel("%", size=SMALL, color=GREY)
    return axes


def _counts(axes: Axes, width: float, lines: Sequence[_Line]) -> None:
    counts = [count for line in lines for count in line.x]
    Logarithmic.of(counts, width, lambda count: f"{count:g}", at=counts).horizontal(axes)
