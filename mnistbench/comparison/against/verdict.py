"""Verdict on a ratio that is looked at again and again while more pairs are measured.

Whoever looks at a 95% interval after every pair, and stops when it pleases, sees it miss the truth far more often than
in 5 of 100 cases. So the 5% are spent in parts (Lan and DeMets, "Discrete sequential boundaries for clinical trials",
Biometrika 70(3), 1983): the first look may miss with 2.5%, the next with 1.25%, and each with half of what is left.
All looks together then miss in at most 5 of 100 cases, however many they are and whenever they end.

The interval of a look is :func:`paired_ratio`'s. It assumes that the logarithms of the pairs' ratios are independent
and symmetric, and they are: of two processes that differ by a factor only, each is as likely to be the luckier one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mnistbench.timing.statistics import Ratio, paired_ratio

Word = Literal["slower", "not slower", "cannot tell"]

MISSED = 0.05
"""Probability that any look's interval misses the true ratio."""

FIRST = 8
"""Number of pairs at the first look; with fewer than 7, no interval has its level."""

_GROWTH = 1.5  # number of pairs at a look, as a multiple of that at the look before


@dataclass(frozen=True)
class Verdict:
    """What is known at a look.

    Attributes:
        word: "slower" if the interval is above the limit, "not slower" if it is below, else "cannot tell".
        ratio: Time now as a multiple of the other revision's, with the look's interval.
    """

    word: Word
    ratio: Ratio


def judge(ratios: Sequence[float], look: int, fail: float) -> Verdict:
    """Judge the ratios of all pairs so far.

    Args:
        ratios: Time now as a multiple of the other revision's, in each pair of processes.
        look: Number of looks before this one.
        fail: Slowdown from which on a revision is slower, as a fraction.
    """
    ratio = paired_ratio(ratios, [1.0] * len(ratios), 1 - MISSED / 2 ** (look + 1))
    if ratio.low > 1 + fail:
        return Verdict("slower", ratio)
    return Verdict("not slower" if ratio.high < 1 + fail else "cannot tell", ratio)


def next_look(pairs: int) -> int:
    """Return the number of pairs of the first look at more than ``pairs`` pairs: 8, 12, 18, 27, 41, ..."""
    due = FIRST
    while due <= pairs:
        due = math.ceil(due * _GROWTH)
    return due
