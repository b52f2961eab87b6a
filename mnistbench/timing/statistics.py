"""Statistics of repeated timings: few, skewed to the slow side, and not normally distributed.

Rounds within one process have the functions :func:`median` and :func:`paired_ratio`. What they say holds for that
process only: another one has its memory elsewhere, and may be faster or slower as a whole. Of several processes,
:func:`median_of_processes` and :func:`ratio_of_processes` take each as one observation, however many rounds it ran,
which is how Georges, Buytaert and Eeckhout ("Statistically rigorous Java performance evaluation", 2007) and Kalibera
and Jones ("Rigorous benchmarking in reasonable time", 2013) treat the highest level at which a measurement is repeated.
:mod:`mnistbench.timing.coverage` simulates how often each interval holds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

Rounds = Sequence[Sequence[float]]
"""Seconds of the rounds of each process."""

NOISY_SPREAD = 0.05
"""Spread of the rounds, as a fraction of their median, above which they are noisy."""

_NORMAL_GAP = math.sqrt(2) * statistics.NormalDist().inv_cdf(0.75)
"""Median distance of two values of a normal distribution, in standard deviations."""


@dataclass(frozen=True)
class Median:
    """Median of timings and its confidence interval.

    Attributes:
        value: Median in seconds; with several processes the geometric mean of theirs.
        low, high: Interval that covers the true median with probability ``level``: of this process if there is one,
            else of all processes such as these, on average.
        level: Confidence level; below 0.95 with one process of fewer than six timings.
        spread: Scatter of the rounds of a process, see :func:`spread`.
        processes: Number of processes.
        between: Standard deviation of the logarithms of the processes' medians; 0 for one process.
    """

    value: float
    low: float
    high: float
    level: float
    spread: float
    processes: int = 1
    between: float = 0.0

    @property
    def noisy(self) -> bool:
        """Whether the rounds scatter by more than :data:`NOISY_SPREAD`."""
        return self.spread > NOISY_SPREAD

    @property
    def next_process(self) -> tuple[float, float] | None:
        """Interval that covers the median of one more process, of as many rounds, with probability ``level``; None if
        there is one process, which does not show how others differ.
        """
        if self.processes == 1:
            return None
        factor = (self.high / self.value) ** math.sqrt(self.processes + 1)
        return self.value / factor, self.value * factor


def spread(samples: Rounds) -> float:
    """Return how much rounds of the same process scatter, as a fraction of their median; 0 if none has two.

    The median distance of two rounds of a process, divided by that of two values of a normal distribution with
    standard deviation 1 (Shamos, "Geometry and statistics: problems at the interface", 1976; Rousseeuw and Croux,
    "Alternatives to the median absolute deviation", 1993). Unlike a range it does not grow with the number of rounds,
    and a few outliers do not change it.
    """
    gaps = [
        np.abs(np.subtract(*np.asarray(rounds)[_pairs(len(rounds), 1)])) / middle
        for rounds in samples
        if len(rounds) > 1 and (middle := statistics.median(rounds)) > 0
    ]
    return statistics.median(np.concatenate(gaps).tolist()) / _NORMAL_GAP if gaps else 0.0


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

    # Whole numbers, since from 1,024 timings on 2^n is larger than any float64.
    coefficient, outside, k = 1, 2, 1
    while k < n // 2:
        coefficient = coefficient * (n - k + 1) // k
        if (outside + 2 * coefficient) / 2**n > 1 - level:
            break
        outside, k = outside + 2 * coefficient, k + 1
    level = max(0.0, 1 - outside / 2**n)
    return Median(statistics.median(ordered), ordered[k - 1], ordered[n - k], level, spread([ordered]))


def median_of_processes(samples: Rounds, level: float = 0.95) -> Median:
    """Estimate the median of a process, with an interval that allows for the differences between processes.

    Student's t of the logarithms of the processes' medians ("The probable error of a mean", 1908). It assumes that the
    processes are independent of each other, and these logarithms roughly normal; rounds within a process may depend on
    each other in any way. No interval free of that assumption has a level of 0.95 with fewer than six processes. For
    one process it is :func:`median`.

    Raises:
        ValueError: If there are no processes, one has no samples, or one of several has a median of 0.
    """
    if not samples:
        raise ValueError("the median of no processes is not defined")
    if len(samples) == 1:
        return median(samples[0], level)
    logarithms = [math.log(statistics.median(rounds)) for rounds in samples]
    value, low, high = student_interval(logarithms, level)
    return Median(
        value, low, high, level, spread(samples), len(samples), student(logarithms)[1] * math.sqrt(len(samples))
    )


def student(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean of two values or more, and its standard error."""
    mean, n = math.fsum(values) / len(values), len(values)
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n * (n - 1)))


def student_interval(logarithms: Sequence[float], level: float) -> tuple[float, float, float]:
    """Return the geometric mean of what has these logarithms, and Student's interval around it."""
    mean, margin = math.fsum(logarithms) / len(logarithms), student_margin(logarithms, level)
    return math.exp(mean), math.exp(mean - margin), math.exp(mean + margin)


def student_margin(values: Sequence[float], level: float = 0.95) -> float:
    """Return half of the width of Student's interval around the mean of two values or more."""
    return student_quantile(len(values) - 1, (1 + level) / 2) * student(values)[1]


def wilson(share: float, count: int, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's interval for a probability, of which a ``share`` of ``count`` independent trials came out.

    See E. B. Wilson, "Probable inference, the law of succession, and statistical inference" (1927).
    """
    z = statistics.NormalDist().inv_cdf((1 + level) / 2)
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    margin = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return middle - margin, middle + margin


@cache
def student_quantile(freedom: int, level: float) -> float:
    """Return the quantile of Student's distribution with ``freedom`` degrees of freedom, at a probability ``level``."""
    from scipy.special import stdtrit  # whose import takes a tenth of a second

    return float(stdtrit(freedom, level))


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
        processes: Number of processes; what one process shows holds for that process only.
    """

    value: float
    low: float = 0.0
    high: float = math.inf
    processes: int = 1

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
    logarithms = log_ratios(baseline, other)
    averages = np.sort(_walsh(logarithms))
    value = math.exp(statistics.median(averages.tolist()))
    outside = signed_rank_bound(len(logarithms), (1 - level) / 2)
    if outside == 0:
        return Ratio(value)
    return Ratio(value, math.exp(averages[outside - 1]), math.exp(averages[-outside]))


def ratio_of_processes(baseline: Rounds, other: Rounds, level: float = 0.95) -> Ratio:
    """Estimate the ratio of the baseline's seconds to the other's, who took turns within each of several processes.

    Student's t of the logarithms of the processes' ratios, each of which is :func:`paired_ratio`'s estimate; assumed is
    what :func:`median_of_processes` assumes. For one process it is :func:`paired_ratio`.

    Raises:
        ValueError: If the numbers of processes or of a process's timings differ or are 0, or a timing is not positive.
    """
    if len(baseline) == len(other) == 1:
        return paired_ratio(baseline[0], other[0], level)
    logarithms = log_ratios_of_processes(baseline, other)
    return Ratio(*student_interval(logarithms, level), len(logarithms))


def log_ratios_of_processes(baseline: Rounds, other: Rounds) -> list[float]:
    """Return the logarithm of the ratio of the baseline's seconds to the other's in each process.

    Raises:
        ValueError: As for :func:`ratio_of_processes`.
    """
    if len(baseline) != len(other) or not baseline:
        raise ValueError(f"{len(baseline)} and {len(other)} processes are no pairs")
    return [statistics.median(_walsh(log_ratios(*pair)).tolist()) for pair in zip(baseline, other, strict=True)]


def log_ratios(baseline: Sequence[float], other: Sequence[float]) -> NDArray[np.float64]:
    """Return the logarithm of the ratio of the baseline's seconds to the other's in each round of a process.

    Raises:
        ValueError: As for :func:`paired_ratio`.
    """
    if len(baseline) != len(other) or not baseline:
        raise ValueError(f"{len(baseline)} and {len(other)} timings are no pairs")
    if min(*baseline, *other) <= 0:
        raise ValueError("a timing is not above 0")
    found: NDArray[np.float64] = np.log(np.asarray(baseline) / np.asarray(other))
    return found


def _walsh(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the means of all pairs of values, each with itself included."""
    found: NDArray[np.float64] = values[_pairs(len(values), 0)].mean(axis=0)
    return found


@lru_cache(maxsize=16)
def _pairs(n: int, apart: int) -> NDArray[np.int64]:
    """Return the first and the second index of all pairs of ``n`` values, at least ``apart`` places from each other."""
    return np.array(np.triu_indices(n, apart))


@cache
def signed_rank_bound(n: int, tail: float) -> int:
    """Compute the largest k such that the signed-rank statistic of ``n`` values is below k with probability <= tail."""
    if n > _EXACT:
        deviation = math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
        return int(n * (n + 1) / 4 + statistics.NormalDist().inv_cdf(tail) * deviation)
    sets = np.ones(1)  # number of subsets of the ranks with each sum
    for rank in range(1, n + 1):
        sets = np.pad(sets, (0, rank)) + np.pad(sets, (rank, 0))
    return int(np.searchsorted(np.cumsum(sets) / 2.0**n, tail, side="right"))
