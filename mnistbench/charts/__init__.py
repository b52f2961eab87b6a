"""Figures from measured rows, training histories and predictions.

Every function returns a matplotlib figure and leaves matplotlib unchanged: no pyplot, no backend chosen, the user's
style untouched. The charts of results take validated rows (:class:`mnistbench.results.row.Row`), one for each backend,
dtype and setting. All raise :class:`mnistbench.exceptions.DataError` if there is nothing to draw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from mnistbench.charts.agreement import agreement
from mnistbench.charts.costs import cold_start, has_cold_starts, training_time
from mnistbench.charts.error_curves import error_over_time, errors_over_time, has_errors
from mnistbench.charts.evaluation import evaluation, probabilities
from mnistbench.charts.heatmap import has_speedups, speedups
from mnistbench.charts.history import history
from mnistbench.charts.pictures import predictions, training_run
from mnistbench.charts.ranks import KINDS, Kind, ranks, ranks_kinds
from mnistbench.charts.roofline import has_roofs, roofline
from mnistbench.charts.scaling import AXES, Axis, scaling, scaling_axes
from mnistbench.charts.storage import digest, stored_source, write

if TYPE_CHECKING:
    from mnistbench.results.row import Row

__all__ = [
    "AXES",
    "CHARTS",
    "KINDS",
    "Axis",
    "Kind",
    "agreement",
    "cold_start",
    "digest",
    "drawable",
    "error_over_time",
    "errors_over_time",
    "evaluation",
    "has_errors",
    "has_speedups",
    "history",
    "predictions",
    "probabilities",
    "ranks",
    "ranks_kinds",
    "roofline",
    "scaling",
    "scaling_axes",
    "speedups",
    "stored_source",
    "training_run",
    "training_time",
    "write",
]

Chart = Callable[[Sequence["Row"]], Figure]

CHARTS: dict[str, Chart] = {
    "training-time": training_time,
    "cold-start": cold_start,
    "agreement": agreement,
    "roofline": roofline,
    "error-over-time": error_over_time,
}
"""Charts of one workload's results, by the name of their file."""


def drawable(rows: Sequence[Row]) -> dict[str, Chart]:
    """Return the part of :data:`CHARTS` for which the rows have data."""
    if not rows:
        return {}
    needs = {roofline: has_roofs, error_over_time: has_errors, cold_start: has_cold_starts}
    return {name: chart for name, chart in CHARTS.items() if chart not in needs or needs[chart](rows)}
