"""Statistics of repeated timings: few, skewed to the slow side, and not normally distributed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

NOISY_SPREAD = 0.10
"""A spread of the rounds beyond this fraction of their median is called noisy (pyperf warns at the same value)."""


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
