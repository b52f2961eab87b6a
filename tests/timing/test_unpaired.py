"""Ratios of different runs have intervals that are Welch's, or wider."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from mnistbench.timing.unpaired import unpaired_ratio


def test_the_interval_holds_welchs_and_what_is_true() -> None:
    chance = np.random.default_rng(1)
    held, trials = 0, 400
    for _ in range(trials):
        before, after = chance.normal(0.5, 0.1, 5).tolist(), chance.normal(0.2, 0.3, 4).tolist()
        found = unpaired_ratio(before, after)
        welch = stats.ttest_ind(before, after, equal_var=False).confidence_interval(0.95)
        assert math.log(found.low) <= welch.low < welch.high <= math.log(found.high)
        held += found.low < math.exp(0.3) < found.high
    assert held / trials > 0.94


def test_without_two_values_there_is_no_interval() -> None:
    assert not unpaired_ratio([0.0], [0.1, 0.2]).known
    with pytest.raises(ValueError, match="not defined"):
        unpaired_ratio([], [1.0])
