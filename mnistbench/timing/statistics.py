"""Statistics of repeated timings: few, skewed to the slow side, and not normally distributed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

NOISY_SPREAD = 0.10
"""Spread of the rounds, as a fraction of their median, above which they are noisy."""


@dataclass(frozen=True)
class Median:
    """Median of timings and its confidence interval.

    Attributes:
        value: Median in seconds.
        low, high: Interval that covers the true median with probability ``level``.
        level: Confidence level; below 0.95 with fewer than six timings.
        spread: Largest minus smallest timing, as a fraction of the median.
    """

    value: float
    low: float
    high: float
    level: float
    spread: float

    @property
    def noisy(self) -> bool:
        """Whether the timings differ by more than :data:`NOISY_SPREAD`."""
        return self.spread > NOISY_SPREAD


def median(samples: Sequence[float], level: float = 0.95) -> Median:
    """Compute the median with an interval between two of the timings, which assumes nothing about their distribution.

    Each timing lies below the true median with probability 1/2, so the number of those that do is binomial, and the
    interval from the k-th smallest to the k-th largest misses the median with probability 2 P(B < k). The largest k
    that keeps this within 1 - ``level`` is taken, or 1 if none does (David and Nagaraja, Order Statistics, 2003,
    section 7.1).

    Raises:
        ValueError: If there are no samples.
    """
    ordered = sorted(samples)
    n = len(ordered)
    if n == 0:
        raise ValueError("the median of no timings is not defined")

    def missed(k: int) -> float:
        return 2.0 * sum(math.comb(n, j) for j in range(k)) / 2.0**n

    k = max((k for k in range(2, n // 2 + 1) if missed(k) <= 1 - level), default=1)
    value = statistics.median(ordered)
    spread = (ordered[-1] - ordered[0]) / value if value > 0 else 0.0
    return Median(value, ordered[k - 1], ordered[n - k], max(0.0, 1 - missed(k)), spread)


SIGNIFICANCE = 0.01
"""Significance level of the test whether timings differ."""

FEWEST = 6
"""Least number of rounds for an interval or a test: 5 ratios all lie on one side of the true one in 2 of 32 cases, so
no interval between them has a level of 0.95."""

_EXACT = 40  # largest number of timings for which the ranks' distribution is computed exactly


@dataclass(frozen=True)
class Ratio:
    """Speedup of one contender over another.

    Attributes:
        value: Estimate.
        low, high: Interval that covers the true ratio with a probability of at least 0.95; 0 and infinity if unknown.
    """

    value: float
    low: float = 0.0
    high: float = math.inf

    @property
    def known(self) -> bool:
        """Whether the interval is known."""
        return math.isfinite(self.high)


def paired_ratio(baseline: Sequence[float], other: Sequence[float], level: float = 0.95) -> Ratio:
    """Estimate the ratio of the baseline's seconds to the other's, from the same rounds.

    The estimate is the median of the Walsh averages, the means of all pairs of logarithms of ratios (Hodges and
    Lehmann, "Estimates of location based on rank tests", 1963). It is nearly as precise as the mean for normal noise,
    and robust against outliers. The interval lies between two Walsh averages and is exact for every symmetric
    distribution of the logarithms: it holds the values that Wilcoxon's signed-rank test does not reject (Hollander,
    Wolfe and Chicken, "Nonparametric Statistical Methods", 2014, section 3.3).

    Raises:
        ValueError: If the numbers of timings differ or are 0, or a timing is not positive.
    """
    if len(baseline) != len(other) or not baseline:
        raise ValueError(f"{len(baseline)} and {len(other)} timings are no pairs")
    if min(*baseline, *other) <= 0:
        raise ValueError("a timing is not above 0")
    logarithms = np.log(np.asarray(baseline) / np.asarray(other))
    n = len(logarithms)
    first, second = np.triu_indices(n)
    averages = np.sort((logarithms[first] + logarithms[second]) / 2)
    value = math.exp(np.median(averages))
    outside = _outside(n, (1 - level) / 2)
    if outside == 0:
        return Ratio(value)
    return Ratio(value, math.exp(averages[outside - 1]), math.exp(averages[-outside]))


@cache
def _outside(n: int, tail: float) -> int:
    """Compute the largest k such that the signed-rank statistic of ``n`` values is below k with probability <= tail."""
    if n > _EXACT:
        deviation = math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
        return int(n * (n + 1) / 4 + statistics.NormalDist().inv_cdf(tail) * deviation)
    sets = np.ones(1)  # number of subsets of the ranks with each sum
    for rank in range(1, n + 1):
        sets = np.pad(sets, (0, rank)) + np.pad(sets, (rank, 0))
    return int(np.searchsorted(np.cumsum(sets) / 2.0**n, tail, side="right"))


def different(first: Sequence[float], second: Sequence[float]) -> bool | None:
    """Whether timings differ by the Mann-Whitney U test at :data:`SIGNIFICANCE`; None if fewer than :data:`FEWEST`."""
    from scipy.stats import mannwhitneyu

    if min(len(first), len(second)) < FEWEST:
        return None
    method = "exact" if len(first) + len(second) <= _EXACT else "auto"
    return bool(mannwhitneyu(first, second, method=method).pvalue < SIGNIFICANCE)
