"""Charts of test errors against the seconds of training: of the presets, beside the published ones, and of backends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from mnistbench.charts.lines import LINE, Curve, End, handle, label_ends, label_width, panel_height
from mnistbench.charts.page import GREY, MARGIN, SMALL, WIDTH, Page, clean, colours, seconds, shortened, styled
from mnistbench.charts.rows import Record, provenance, records, task
from mnistbench.charts.scales import Logarithmic

# Hues of Okabe and Ito (2008): one for a network, paler where it is trained on images as they are.
_COLOURS = {
    "lecun-300": "#7FB8E0",
    "lecun-300-distorted": "#0072B2",
    "lecun-500-150": "#F2C14E",
    "lecun-500-150-distorted": "#D55E00",
    "simard": "#7FCFB4",
    "simard-elastic": "#009E73",
}

_LEAST_ERROR, _LEAST_SECONDS = 1e-4, 1e-6
"""One image in 10,000, and a microsecond: a logarithmic axis has no place for 0."""


@styled()
def errors_over_time(rows: pd.DataFrame, subtitle: str = "") -> Figure:
    """The error on the test images after every epoch over the seconds of training, both logarithmic.

    A line for each workload, backend and dtype: of the seed whose last error is the median. Dashed, in its colour, is
    the error published of such a network.

    Args:
        rows: a run each; columns workload, backend, dtype, seed, test_error, curve (a list of dictionaries with
            seconds and test_error), published, machine.

    Raises:
        DataError: there are no rows.
    """
    everything = records(rows)
    shown = _medians(everything)
    texts = [f"{_name(row, shown)}  {100 * row['test_error']:.2f} %" for row in shown]
    theirs = {row["workload"]: float(row["published"]) for row in shown}
    limits = [f"published  {100 * error:g} %" for error in theirs.values()]
    height = panel_height(len(texts) + len(limits), 3.8)
    page = Page("Test errors of the presets", subtitle, height + 0.8, _small_print(everything))
    page.text(MARGIN, page.top + 0.12, "error on the 10,000 test images", weight="bold")
    curves = [_curve(row) for row in shown]
    errors = [error for curve in curves for error in curve.y] + list(theirs.values())
    vertical = Logarithmic.of(errors, height, lambda error: f"{100 * error:g} %", upright=True)
    left = MARGIN + vertical.room
    width = WIDTH - left - label_width([*texts, *limits])
    axes = page.axes(left, page.top + 0.3, width, height)
    vertical.vertical(axes)
    Logarithmic.of([x for curve in curves for x in curve.x], width, lambda s: seconds(s, 1)).horizontal(axes)
    axes.set_xlabel("seconds of training", size=SMALL, color=GREY)
    ends = []
    for (name, error), text in zip(theirs.items(), limits, strict=True):
        dashed: dict[str, Any] = {"color": _colour(name), "linewidth": 1.2, "linestyle": (0, (5, 3))}
        axes.axhline(error, **dashed)
        ends.append(End(axes.get_xlim()[1], error, text, dashed))
    for curve, text in zip(curves, texts, strict=True):
        axes.plot(curve.x, curve.y, linewidth=LINE, markevery=[len(curve.x) - 1], clip_on=False, **handle(curve))
        ends.append(End(curve.x[-1], curve.y[-1], text, handle(curve)))
    label_ends(page, axes, ends)
    return page.figure


def has_errors(rows: pd.DataFrame) -> bool:
    """Whether :func:`error_over_time` has something to draw."""
    return len(rows) > 0 and any(len(_points(row)) > 1 for row in records(rows))


@styled()
def error_over_time(rows: pd.DataFrame, subtitle: str = "") -> Figure:
    """The error on the test images along a timed workload over the seconds of training, both logarithmic.

    A line for each backend and dtype. All compute the same numbers: the faster one's line is further left.

    Raises:
        DataError: there are no rows.
    """
    measured = records(rows)
    shown = sorted((row for row in measured if len(_points(row)) > 1), key=lambda row: float(row["median"]))
    colour = colours(row["backend"] for row in shown)
    curves = [
        Curve(row["backend"], row["dtype"], colour[row["backend"]], *map(list, zip(*_points(row), strict=True)))
        for row in shown
    ]
    texts = [f"{shortened(c.name, 1.7)} {clean(c.dtype)}  {seconds(c.x[-1])}" for c in curves]
    height = panel_height(len(texts), 3.2)
    note = f"The clock ran for whole rounds, and stood still for the test. {provenance(measured)[1]}"
    page = Page(f"Test error: {task(rows)}", subtitle, height + 0.8, note)
    page.text(MARGIN, page.top + 0.12, "error on the test images", weight="bold")
    vertical = Logarithmic.of([y for c in curves for y in c.y], height, lambda e: f"{100 * e:g} %", upright=True)
    left = MARGIN + vertical.room
    width = WIDTH - left - label_width(texts)
    axes = page.axes(left, page.top + 0.3, width, height)
    vertical.vertical(axes)
    Logarithmic.of([x for c in curves for x in c.x], width, lambda s: seconds(s, 1)).horizontal(axes)
    axes.set_xlabel("seconds of training", size=SMALL, color=GREY)
    for curve in curves:
        axes.plot(curve.x, curve.y, linewidth=LINE, clip_on=False, **handle(curve, 4.0))
    label_ends(page, axes, [End(c.x[-1], c.y[-1], text, handle(c)) for c, text in zip(curves, texts, strict=True)])
    return page.figure


def _points(row: Record) -> list[tuple[float, float]]:
    """(seconds, error) after each iteration with a known error, but the start, for which the axis has no place."""
    found = row.get("errors")
    per_iteration = float(row["median"]) / row["iterations"]
    return [
        (max(_LEAST_SECONDS, point["iteration"] * per_iteration), max(_LEAST_ERROR, float(point["error"])))
        for point in (found if isinstance(found, list) else [])
        if point["iteration"] > 0
    ]


def _medians(rows: Sequence[Record]) -> list[Record]:
    """Of each workload, backend and dtype the run with the median error; the better of the two in the middle."""
    cases: dict[tuple[str, str, str], list[Record]] = {}
    for row in rows:
        cases.setdefault((row["workload"], row["backend"], row["dtype"]), []).append(row)
    ordered = (sorted(runs, key=lambda row: (row["test_error"], row["seed"])) for runs in cases.values())
    return [runs[(len(runs) - 1) // 2] for runs in ordered]


def _name(row: Record, shown: Sequence[Record]) -> str:
    """The workload, and where there are several lines of it, who trained it."""
    alone = sum(other["workload"] == row["workload"] for other in shown) == 1
    return shortened(row["workload"], 1.9) + ("" if alone else f" {clean(row['backend'])} {clean(row['dtype'])}")


def _colour(workload: str) -> str:
    return _COLOURS.get(workload, GREY)


def _curve(row: Record) -> Curve:
    x = [max(_LEAST_SECONDS, float(point["seconds"])) for point in row["curve"]]
    y = [max(_LEAST_ERROR, float(point["test_error"])) for point in row["curve"]]
    return Curve(row["workload"], row["dtype"], _colour(row["workload"]), x, y)


def _small_print(rows: Sequence[Record]) -> str:
    seeds = len({row["seed"] for row in rows})
    which = f"Of {seeds} seeds the one with the median error is drawn. " if seeds > 1 else ""
    where = "; ".join(dict.fromkeys(f"{row['backend']} {row['dtype']}, {row['machine']}" for row in rows))
    return (
        "Dashed: published of a network of the same layer sizes, trained in the authors' own way. Each point is after "
        f"an epoch; the clock stands still for the test. {which}{where}."
    )
