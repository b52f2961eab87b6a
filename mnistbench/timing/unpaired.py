"""Ratios of timings of different runs, which nothing pairs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from mnistbench.timing.statistics import Ratio, student, student_quantile


def unpaired_ratio(before: Sequence[float], after: Sequence[float], level: float = 0.95) -> Ratio:
    """Estimate the ratio of timings with the logarithms ``before`` to those of other processes, ``after``.

    The margin is that of B. L. Welch ("The generalization of 'Student's' problem when several different population
    variances are involved", 1947), with the degrees of freedom of the smaller group in place of his, which are more:
    the interval is rather too wide than too narrow. Without two values in each group there is none.

    Raises:
        ValueError: If a group is empty.
    """
    if not before or not after:
        raise ValueError("the ratio of no timings is not defined")
    value, fewest = math.exp(statistics.fmean(before) - statistics.fmean(after)), min(len(before), len(after))
    if fewest < 2:
        return Ratio(value)
    margin = student_quantile(fewest - 1, (1 + level) / 2) * math.hypot(student(before)[1], student(after)[1])
    return Ratio(value, value * math.exp(-margin), value * math.exp(margin), fewest)
