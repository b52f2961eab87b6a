"""Statistics of repeated timings: few, skewed to the slow side, and not normally distributed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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

FEWEST = 5
"""Rounds below which nothing is said beyond a ratio itself: no ranks of 4 and 4 timings have a probability below
SIGNIFICANCE (the least is 2 / C(8, 4) = 0.03), and 4 ratios lie all on one side of the true one in 2 of 16 cases, so
that no interval between them is near 95 % certain. 5 do so in 2 of 32."""

_EXACT = 40  # timings up to which the ranks' distribution is computed and not approximated

_RESAMPLES = 2_000
_AT_ONCE = 1_000_000  # means of pairs in memory: 8 MB


@dataclass(frozen=True)
class Ratio:
    """How many times as fast as another one something is.

    Attributes:
        value: the estimate.
        low, high: an interval that covers the true ratio with a probability of about 0.95 (0.94 at five rounds).
    """

    value: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        """Whether there were enough rounds for an interval; else it is 0 to infinity."""
        return math.isfinite(self.high)


def paired_ratio(baseline: Sequence[float], other: Sequence[float], seed: int = 0) -> Ratio:
    """The ratio of the baseline's seconds to the other's, which ran in the same rounds.

    Estimated by the median of all means of two logarithms of ratios (Hodges and Lehmann, "Estimates of location based
    on rank tests", 1963): nearly as exact as a mean where the noise is normal, and hardly moved by an outlier.

    The interval is between percentiles of the estimate in resamples of the rounds, moved outwards as a t
    distribution's are from a normal one's, without which it would be too narrow for few rounds (Hesterberg, "What
    Teachers Should Know About the Bootstrap", 2015, section 3.3).

    Args:
        baseline, other: seconds of the same rounds in the same order, above 0.
        seed: of the resampling.

    Raises:
        ValueError: not as many of the one as of the other, none, or one that is not above 0.
    """
    if len(baseline) != len(other) or not baseline:
        raise ValueError(f"{len(baseline)} and {len(other)} timings are no pairs")
    if min(*baseline, *other) <= 0:
        raise ValueError("a timing is not above 0")
    logarithms = np.log(np.asarray(baseline) / np.asarray(other))
    value = math.exp(_pseudomedian(logarithms[None])[0])
    n = len(logarithms)
    if n < FEWEST:
        return Ratio(value, 0.0, math.inf)
    from scipy.stats import norm, t  # which takes a quarter of a second to load

    outer = norm.cdf(math.sqrt(n / (n - 1)) * t.ppf(0.025, n - 1))
    resamples = logarithms[np.random.default_rng(seed).integers(0, n, (_RESAMPLES, n))]
    low, high = np.quantile(_pseudomedian(resamples), [outer, 1 - outer])
    return Ratio(value, math.exp(low), math.exp(high))


def _pseudomedian(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each row, the median of the means of all pairs of its values, each value with itself included."""
    first, second = np.triu_indices(samples.shape[1])
    parts = np.array_split(samples, 1 + len(samples) * len(first) // _AT_ONCE)
    return np.concatenate([np.median((part[:, first] + part[:, second]) / 2, axis=1) for part in parts])


def different(first: Sequence[float], second: Sequence[float]) -> bool | None:
    """Whether timings differ by more than chance: Mann and Whitney's test of their ranks, at SIGNIFICANCE.

    Returns:
        None where there are fewer than FEWEST timings of either.
    """
    from scipy.stats import mannwhitneyu

    if min(len(first), len(second)) < FEWEST:
        return None
    method = "exact" if len(first) + len(second) <= _EXACT else "auto"
    return bool(mannwhitneyu(first, second, method=method).pvalue < SIGNIFICANCE)
