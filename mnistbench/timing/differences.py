"""Tests whether contenders differ from a baseline beside which they took turns.

All contenders are tested at once, and the levels are those of the whole family: that any of them seems to differ
though none does has a probability of :data:`SIGNIFICANCE`, however many they are. What is one observation depends on
the numbers of processes and rounds:

- Of eight processes or more, each is one, and its sign is flipped.
- Of two to seven, each is one too, but flips of so few signs find little; those of five are never significant, since 2
  of 32 put all on one side. So Student's t is taken, which assumes that the logarithms of the processes' ratios are
  roughly normal.
- In a single process, each round is one, and its sign is flipped. This assumes that rounds do not depend on each other,
  and tells whether the contenders differ in this process, not whether they will in the next. Flips of the rounds of
  five processes at once would see differences in 20 of 100 runs where processes differ and contenders do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mnistbench.timing.statistics import (
    FEWEST,
    Ratio,
    Rounds,
    log_ratios,
    log_ratios_of_processes,
    paired_ratio,
    student,
    student_interval,
)

SIGNIFICANCE = 0.05
"""Significance level of the tests, all contenders together."""

_FLIPPED = 8  # least number of processes whose signs are flipped
_EXACT = 15  # largest number of observations of which all combinations of signs are tried
_DRAWN = 20_000  # combinations drawn if there are more


@dataclass(frozen=True)
class Difference:
    """How a contender differs from the baseline.

    Attributes:
        p: Probability of a difference as large as this one or larger if there were none, adjusted for the number of
            contenders; None if there are too few rounds to tell.
        together: Ratio of the baseline's seconds to the contender's, with an interval so wide that those of all
            contenders cover their true ratios with a probability of 0.95.
    """

    p: float | None
    together: Ratio

    @property
    def significant(self) -> bool | None:
        """Whether the difference is significant; None if unknown."""
        return None if self.p is None else self.p <= SIGNIFICANCE


def differences(baseline: Rounds, others: Sequence[Rounds]) -> list[Difference]:
    """Compare contenders with the baseline beside which all of them took turns.

    The intervals are Bonferroni's: with m contenders, each has a level of 1 - 0.05 / m. They assume nothing of how the
    contenders depend on each other, as Holm's method does not. Of few processes no method does much better, since each
    contender's own scatter must be estimated.

    Raises:
        ValueError: If the contenders' numbers of processes or rounds differ or are 0, or a timing is not positive.
    """
    if not others:
        return []
    level = 1 - SIGNIFICANCE / len(others)
    adjusted: Sequence[float | None]
    if len(baseline) == 1:
        rounds = [log_ratios(baseline[0], own) for (own,) in others]
        adjusted = sign_flips(rounds) if len(baseline[0]) >= FEWEST else [None] * len(others)
        together = [paired_ratio(baseline[0], own, level) for (own,) in others]
    else:
        logarithms = [log_ratios_of_processes(baseline, own) for own in others]
        flipped = len(baseline) >= _FLIPPED
        adjusted = sign_flips(logarithms) if flipped else holm([_student_p(own) for own in logarithms])
        together = [Ratio(*student_interval(own, level), len(own)) for own in logarithms]
    return [*map(Difference, adjusted, together)]


def sign_flips(values: ArrayLike) -> list[float]:
    """Test whether each contender's values lie around 0; return the p-values, adjusted for the number of contenders.

    If a contender does not differ from the baseline, its logarithm of a ratio is as likely to have the opposite sign.
    So its t statistic is compared with those of all combinations of signs (Fisher, "The Design of Experiments", 1935,
    section 21), or of 20,000 drawn ones for more than 15 observations. The same signs are taken for all contenders,
    which share the baseline, and each is compared with the largest statistic of those that differ no more than it does
    (the step-down max-t method; Westfall and Young, "Resampling-Based Multiple Testing", 1993, section 2.6). For one
    contender the test is exact, for every symmetric distribution.

    Args:
        values: Logarithms of ratios, (contenders, observations).
    """
    logarithms = np.atleast_2d(np.asarray(values, np.float64))
    n = logarithms.shape[1]
    lengths = np.sqrt(n * (logarithms**2).sum(axis=1, keepdims=True))
    # Flips do not change the sum of squares, so these grow as t does, and need no scatter of each combination.
    scaled = np.divide(logarithms, lengths, out=np.zeros_like(logarithms), where=lengths > 0)
    observed = np.abs(scaled.sum(axis=1))
    order = np.argsort(observed, kind="stable")
    flipped = np.abs(scaled[order] @ _signs(n))
    largest = np.maximum.accumulate(flipped, axis=0)
    p = (largest >= observed[order, None] - 1e-12).mean(axis=1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[::-1])[::-1]
    return [float(value) for value in adjusted]


def _signs(n: int) -> NDArray[np.float64]:
    """Return combinations of n signs, (n, combinations): the actual one first, and no two that are opposite."""
    if n <= _EXACT:
        bits = np.arange(2 ** (n - 1)) >> np.arange(n)[:, None] & 1
    else:
        bits = np.random.default_rng(0).integers(0, 2, (n, _DRAWN))
        bits[:, 0] = 0
    return np.where(bits, -1.0, 1.0)


def holm(values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number (Holm, "A simple sequentially rejective multiple test procedure", 1979)."""
    order = sorted(range(len(values)), key=values.__getitem__)
    steps = accumulate(((len(values) - place) * values[which] for place, which in enumerate(order)), max)
    adjusted = dict(zip(order, steps, strict=True))
    return [min(1.0, adjusted[which]) for which in range(len(values))]


def _student_p(values: Sequence[float]) -> float:
    """Return the p-value of Student's test whether values lie around 0."""
    from scipy.special import stdtr  # whose import takes a tenth of a second

    mean, error = student(values)
    if error == 0:
        return float(mean == 0)
    return 2 * float(stdtr(len(values) - 1, -abs(mean) / error))
