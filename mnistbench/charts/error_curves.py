"""Charts of test errors over the seconds of training: presets beside published errors, and backends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mnistbench import words
from mnistbench.charts.lines import LINE, Curve, End, curve_ends, handle, label_ends, label_width, panel, panel_height
from mnistbench.charts.page import GREY, SMALL, Page, clean, colours, shortened, styled
from mnistbench.charts.rows import provenance, required, task
from mnistbench.charts.scales import Logarithmic
from mnistbench.results.origin import mixture

if TYPE_CHECKING:
    from mnistbench.results.reproduction import Run
    from mnistbench.results.row import Row

# Hues of Okabe and Ito (2008): one for each network, paler without augmentation.
_COLOURS = {
    "lecun-300": "#7FB8E0",
    "lecun-300-distorted": "#0072B2",
    "lecun-500-150": "#F2C14E",
    "lecun-500-150-distorted": "#D55E00",
    "simard": "#7FCFB4",
    "simard-elastic": "#009E73",
}

_LEAST_ERROR, _LEAST_SECONDS = 1e-4, 1e-6
"""One image in 10,000 and a microsecond, since a logarithmic axis has no place for 0."""


@styled()
def errors_over_time(runs: Sequence[Run], subtitle: str = "") -> Figure:
    """Draw the test error after every epoch over the seconds of training, both logarithmic.

    There is a line for each workload, backend and dtype: the seed with the median final error. The published error of
    such a network is dashed, in the same colour.
    """
    everything = required(runs)
    shown = _medians(everything)
    texts = [f"{_name(run, shown)}  {words.percent(run.test_error, 2)}" for run in shown]
    theirs = {run.workload.name: run.published.error for run in shown}
    limits = [f"published  {words.percent(error, None)}" for error in theirs.values()]
    height = panel_height(len(texts) + len(limits), 3.8)
    page = Page("Test errors of the presets", subtitle, height + 0.8, _small_print(everything))
    curves = [_curve(run) for run in shown]
    axes = _axes(page, "error on the 10,000 test images", height, curves, [*theirs.values()], [*texts, *limits])
    ends = []
    for (name, error), text in zip(theirs.items(), limits, strict=True):
        dashed: dict[str, Any] = {"color": _colour(name), "linewidth": 1.2, "linestyle": (0, (5, 3))}
        axes.axhline(error, **dashed)
        ends.append(End(axes.get_xlim()[1], error, text, dashed))
    for curve in curves:
        axes.plot(curve.x, curve.y, linewidth=LINE, markevery=[len(curve.x) - 1], clip_on=False, **handle(curve))
    label_ends(page, axes, ends + curve_ends(curves, texts))
    return page.figure


def _axes(
    page: Page, title: str, height: float, curves: Sequence[Curve], errors: list[float], texts: Sequence[str]
) -> Axes:
    """Add axes of errors over seconds that hold the curves and other errors, with room for labels."""
    errors = errors + [error for curve in curves for error in curve.y]
    vertical = Logarithmic.of(errors, height, lambda error: words.percent(error, None), upright=True)
    axes, width = panel(page, title, height, vertical, label_width(texts))
    Logarithmic.of([x for curve in curves for x in curve.x], width, lambda s: words.seconds(s, 1)).horizontal(axes)
    axes.set_xlabel("seconds of training", size=SMALL, color=GREY)
    return axes


def has_errors(rows: Sequence[Row]) -> bool:
    """Whether :func:`error_over_time` has something to draw."""
    return any(len(_points(row)) > 1 for row in rows)


@styled()
def error_over_time(rows: Sequence[Row], subtitle: str = "") -> Figure:
    """Draw the test error along a timed workload over the seconds of training, both logarithmic.

    There is a line for each backend and dtype. All compute the same numbers, so a faster one's line is further left.
    """
    measured = required(rows)
    shown = sorted((row for row in measured if len(_points(row)) > 1), key=lambda row: row.timing.value)
    colour = colours(row.backend for row in shown)
    curves = [
        Curve(row.backend, row.dtype, colour[row.backend], *map(list, zip(*_points(row), strict=True))) for row in shown
    ]
    texts = [f"{shortened(c.name, 1.7)} {clean(c.dtype)}  {words.seconds(c.x[-1])}" for c in curves]
    height = panel_height(len(texts), 3.2)
    note = f"The clock ran for whole rounds, and stood still for the test. {provenance(measured)[1]}"
    page = Page(f"Test error: {task(rows)}", subtitle, height + 0.8, note)
    axes = _axes(page, "error on the test images", height, curves, [], texts)
    for curve in curves:
        axes.plot(curve.x, curve.y, linewidth=LINE, clip_on=False, **handle(curve, 4.0))
    label_ends(page, axes, curve_ends(curves, texts))
    return page.figure


def _points(row: Row) -> list[tuple[float, float]]:
    """List (seconds, error) after each iteration with a known error, but the start, which the axis cannot show."""
    per_iteration = row.timing.value / row.workload.iterations
    return [
        (max(_LEAST_SECONDS, iteration * per_iteration), max(_LEAST_ERROR, error))
        for iteration, error in row.errors
        if iteration > 0
    ]


def _medians(runs: Sequence[Run]) -> list[Run]:
    """Choose the run with the median error for each workload, backend and dtype; the better of two in the middle."""
    cases: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        cases.setdefault((run.workload.name, run.backend, run.workload.dtype), []).append(run)
    ordered = (sorted(case, key=lambda run: (run.test_error, run.workload.seed)) for case in cases.values())
    return [case[(len(case) - 1) // 2] for case in ordered]


def _name(run: Run, shown: Sequence[Run]) -> str:
    """Name the workload and, if it has several lines, the backend and dtype."""
    name = run.workload.name
    alone = sum(other.workload.name == name for other in shown) == 1
    return shortened(name, 1.9) + ("" if alone else f" {clean(run.backend)} {clean(run.workload.dtype)}")


def _colour(workload: str) -> str:
    return _COLOURS.get(workload, GREY)


def _curve(run: Run) -> Curve:
    x, y = zip(*((max(_LEAST_SECONDS, seconds), max(_LEAST_ERROR, error)) for seconds, error in run.curve), strict=True)
    return Curve(run.workload.name, run.workload.dtype, _colour(run.workload.name), [*x], [*y])


def _small_print(runs: Sequence[Run]) -> str:
    seeds = len({run.workload.seed for run in runs})
    which = f"The seed with the median error of {seeds} is drawn. " if seeds > 1 else ""
    where = "; ".join(dict.fromkeys(f"{run.backend} {run.workload.dtype}, {run.origin.machine}" for run in runs))
    mixed = f" Trainings of {found}." if (found := mixture(runs)) else ""
    return (
        "Dashed: published error of a network with the same layer sizes, trained in the authors' own way. Each point "
        f"follows an epoch; the clock stands still for the test. {which}{where}.{mixed}"
    )
