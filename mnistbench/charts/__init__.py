"""Figures from measured rows, training histories and predictions.

Every function returns a matplotlib figure and leaves matplotlib as it was: no pyplot, no backend chosen, the
user's style untouched. The charts of results take the rows of :mod:`mnistbench.results`, validated.

Columns of the rows, of which there is one for each backend and dtype:
    backend, dtype, workload, device, machine: words.
    threads, iterations: counts.
    samples: the seconds of every round; median, low, high: seconds, with a confidence interval of ``level``.
    costs: seconds of import, load, compile and train from a cold start.
    speedup: over numpy float64, or NaN.
    history: a list of dictionaries with iteration, loss and accuracy.
    agreement: a list of dictionaries with iteration and error, relative to the float64 reference.
    tolerance: the error that is tolerated at the end.

The attribute ``images`` of the DataFrame, where it is set, is the number of training images.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from matplotlib.figure import Figure

from mnistbench.charts.costs import cold_start, training_time
from mnistbench.charts.pictures import predictions, training_run
from mnistbench.charts.storage import digest, save, stored_source, write
from mnistbench.charts.trajectories import agreement, learning

__all__ = [
    "CHARTS",
    "agreement",
    "cold_start",
    "digest",
    "learning",
    "predictions",
    "save",
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
}
"""The charts of results, by the name of their file."""
