"""Figures from measured rows, training histories and predictions.

Every function returns a matplotlib figure and leaves matplotlib as it was: no pyplot, no backend chosen, the
user's style untouched. The charts of results take the rows of :mod:`mnistbench.results.storage`, validated.

Columns of the rows, of which there is one for each backend and dtype:
    backend, dtype, workload, device, machine: words.
    threads, iterations: counts.
    samples: the seconds of every round; median, low, high: seconds, with a confidence interval of ``level``.
    costs: seconds of import, load, compile and train from a cold start.
    speedup: over numpy float64, or NaN.
    history: a list of dictionaries with iteration, loss and accuracy.
    batch_size: images of an iteration, or None for all of them; it may be absent.
    errors: a list of dictionaries with iteration and error, of the test images; it may be absent or empty.
    agreement: a list of dictionaries with iteration and error, relative to the float64 reference.
    tolerance: the error that is tolerated at the end.
    speedup_low, speedup_high: an interval of the speedup, or NaN; they may be absent.
    dense_flops, bytes_read: of an iteration; flops_per_second: the rate; limits: what the machine can do at best,
        as :class:`mnistbench.machine.limits.Limits` describes it; skips: which work is left out, in words, or
        None. Only the roofline needs them, and it leaves out rows that lack them.

The attribute ``images`` of the DataFrame, where it is set, is the number of training images.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from matplotlib.figure import Figure

from mnistbench.charts.costs import cold_start, training_time
from mnistbench.charts.error_curves import error_over_time, errors_over_time, has_errors
from mnistbench.charts.heatmap import has_speedups, speedups
from mnistbench.charts.history import history
from mnistbench.charts.pictures import predictions, training_run
from mnistbench.charts.roofline import has_roofs, roofline
from mnistbench.charts.scaling import AXES, Axis, scaling, scaling_axes
from mnistbench.charts.storage import digest, save, stored_source, write
from mnistbench.charts.trajectories import agreement, learning

__all__ = [
    "AXES",
    "CHARTS",
    "Axis",
    "agreement",
    "cold_start",
    "digest",
    "drawable",
    "error_over_time",
    "errors_over_time",
    "has_errors",
    "has_speedups",
    "history",
    "learning",
    "predictions",
    "roofline",
    "save",
    "scaling",
    "scaling_axes",
    "speedups",
    "stored_source",
    "training_run",
    "training_time",
    "write",
]

CHARTS: dict[str, Callable[[pd.DataFrame], Figure]] = {
    "training-time": training_time,
    "cold-start": cold_start,
    "learning": learning,
    "agreement": agreement,
    "roofline": roofline,
    "error-over-time": error_over_time,
}
"""The charts of one workload's results, by the name of their file."""


def drawable(rows: pd.DataFrame) -> dict[str, Callable[[pd.DataFrame], Figure]]:
    """Those of :data:`CHARTS` that the rows have the columns for."""
    if rows.empty:
        return {}
    needs = {roofline: has_roofs, error_over_time: has_errors}
    return {name: chart for name, chart in CHARTS.items() if chart not in needs or needs[chart](rows)}
