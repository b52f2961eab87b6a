"""Statistics of repeated timings: few, skewed to the slow side, and not normally distributed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

NOISY_SPREAD = 0.10
"""A spread of the rounds beyond this fraction of their median is called noisy."""


@dataclass(frozen=True)
class Median:
    """The median of some timings and how far it can be trusted.

    Attributes:
        value: the median, in seconds.
        low, high: an interval that covers the true median with probability ``level``.
        level: that probability; below 0.95 where there are fewer than six timings.
        spread: the largest minus the smallest timing, as a fraction of the median.
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
    """The median with an interval between two of the timings, which assumes nothing of their distribution.

    Each timing lies below the true median with probability 1/2, so the number of those that do is binomial, and the
    interval from the k-th smallest to the k-th largest misses the median with probability 2 P(B < k). The largest k
    that keeps this within 1 - ``level`` is taken, or 1 if none does (David and Nagaraja, Order Statistics, 2003,
    section 7.1).

    Raises:
        ValueError: there are no samples.
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
"""How often two equal backends may seem to differ."""

FEWEST = 6
"""Rounds below which nothing is said beyond a ratio itself: 5 ratios all lie on one side of the true one in 2 of 32
cases, so no interval between them is 95 % certain."""

_EXACT = 40  # timings up to which the ranks' distribution is computed and not approximated


@dataclass(frozen=True)
class Ratio:
    """How many times as fast as another one something is.

    Attributes:
        value: the estimate.
        low, high: an interval that covers the true ratio with a probability of at least 0.95; 0 and infinity where
            there is none.
    """

    value: float
    low: float = 0.0
    high: float = math.inf

    @property
    def known(self) -> bool:
        """Whether it has an interval."""
        return math.isfinite(self.high)


def paired_ratio(baseline: Sequence[float], other: Sequence[float], level: float = 0.95) -> Ratio:
    """Estimate the ratio of the baseline's seconds to the other's, which ran in the same rounds.

    The estimate is the median of the Walsh averages, the means of all pairs of logarithms of ratios (Hodges and
    Lehmann, "Estimates of location based on rank tests", 1963): nearly as exact as a mean where the noise is normal,
    and hardly moved by an outlier. The interval lies between two Walsh averages and is exact for every symmetric
    distribution of the logarithms: it holds the values that Wilcoxon's signed-rank test does not reject (Hollander,
    Wolfe and Chicken, "Nonparametric Statistical Methods", 2014, section 3.3).

    Raises:
        ValueError: the numbers of timings differ, or are 0, or a timing is not above 0.
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
    """The largest k that the signed-rank statistic of ``n`` values falls below with probability ``tail`` at most."""
    if n > _EXACT:
        deviation = math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
        return int(n * (n + 1) / 4 + statistics.NormalDist().inv_cdf(tail) * deviation)
    sets = np.ones(1)  # how many sets of the ranks have each sum
    for rank in range(1, n + 1):
        sets = np.pad(sets, (0, rank)) + np.pad(sets, (rank, 0))
    return int(np.searchsorted(np.cumsum(sets) / 2.0**n, tail, side="right"))


def different(first: Sequence[float], second: Sequence[float]) -> bool | None:
    """Whether timings differ by more than chance: Mann and Whitney's test of their ranks, at :data:`SIGNIFICANCE`.

    Returns:
        None where there are fewer than :data:`FEWEST` timings of either.
    """
    from scipy.stats import mannwhitneyu

    if min(len(first), len(second)) < FEWEST:
        return None
    method = "exact" if len(first) + len(second) <= _EXACT else "auto"
    return bool(mannwhitneyu(first, second, method=method).pvalue < SIGNIFICANCE)
