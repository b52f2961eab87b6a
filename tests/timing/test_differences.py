"""The tests whether contenders differ find what differs, and nothing else."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from mnistbench.timing.differences import differences, holm, sign_flips
from mnistbench.timing.statistics import Rounds, ratio_of_processes


def by_hand(values: NDArray[np.float64]) -> list[float]:
    """The adjusted p-values of the step-down max-t method, of all combinations of signs one by one."""

    def statistics(logarithms: NDArray[np.float64]) -> NDArray[np.float64]:
        n = logarithms.shape[1]
        found: NDArray[np.float64] = np.abs(logarithms.mean(axis=1)) / (logarithms.std(axis=1, ddof=1) / math.sqrt(n))
        return found

    observed = statistics(values)
    flipped = [statistics(values * signs) for signs in itertools.product((1, -1), repeat=values.shape[1])]
    adjusted = np.zeros(len(values))
    least = 0.0
    for place, which in enumerate(np.argsort(-observed)):
        rest = np.argsort(-observed)[place:]
        largest = [found[rest].max() for found in flipped]
        least = max(least, float(np.mean([value >= observed[which] * (1 - 1e-9) for value in largest])))
        adjusted[which] = least
    return adjusted.tolist()


@pytest.mark.parametrize("n", [3, 6, 9])
@pytest.mark.parametrize("contenders", [1, 3])
def test_the_flips_are_those_by_hand(contenders: int, n: int) -> None:
    rng = np.random.default_rng(n)
    values = rng.normal(0.02 * np.arange(contenders)[:, None], 0.02, (contenders, n))
    assert sign_flips(values) == pytest.approx(by_hand(values))


def test_the_flips_are_those_of_scipy() -> None:
    values = np.random.default_rng(0).normal(0.5, 1.0, 10)
    expected = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert sign_flips(values) == pytest.approx([expected])


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=8), st.floats(0.1, 10))
def test_flips_know_neither_scale_nor_direction(values: list[float], factor: float) -> None:
    (p,) = sign_flips(values)
    assert 2.0 ** (1 - len(values)) <= p <= 1
    assert sign_flips([-factor * value for value in values]) == pytest.approx([p], abs=0.05)


def test_many_observations_are_drawn_and_always_the_same() -> None:
    values = np.random.default_rng(1).normal(0.5, 1.0, 40)
    assert sign_flips(values) == sign_flips(values)
    assert sign_flips(values)[0] == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.01)
    assert sign_flips(np.zeros((2, 40))) == [1.0, 1.0]


def test_holms_values() -> None:
    """Those of an example by hand: 3 x 0.01, then 2 x 0.02, then at least as much."""
    assert holm([0.02, 0.01, 0.03]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.6, 0.9]) == [1.0, 1.0]


def processes(rng: np.random.Generator, count: int, rounds: int, factor: float = 1.0) -> Rounds:
    found: list[list[float]] = (factor * np.exp(rng.normal(0, 0.01, (count, rounds)))).tolist()
    return found


@pytest.mark.parametrize(("count", "rounds"), [(1, 7), (2, 30), (5, 3), (5, 5), (8, 1), (20, 1)])
def test_a_large_difference_is_found(count: int, rounds: int) -> None:
    rng = np.random.default_rng(count)
    one, two = differences(processes(rng, count, rounds, 2.0), [processes(rng, count, rounds, at) for at in (1.0, 2.0)])
    assert one.significant
    assert one.p is not None
    assert two.p is not None
    assert two.p > one.p
    assert one.together.value == pytest.approx(2, rel=0.05)


def test_few_rounds_tell_nothing_and_few_processes_do() -> None:
    slow, fast = [[2.0, 2.1, 2.0, 2.1, 2.0]], [[1.0, 1.1, 1.0, 1.1, 1.1]]
    (found,) = differences(slow, [fast])
    assert (found.p, found.significant, found.together.known) == (None, None, False)
    assert differences([*zip(*slow, strict=True)], [[*zip(*fast, strict=True)]])[0].significant
    assert differences(slow, []) == []


def test_students_p_is_scipys() -> None:
    rng = np.random.default_rng(0)
    baseline, other = processes(rng, 5, 1), processes(rng, 5, 1, 1.01)
    (found,) = differences(baseline, [other])
    assert found.p == pytest.approx(stats.ttest_1samp(np.log(np.array(baseline) / other).ravel(), 0).pvalue)
    assert differences(baseline, [baseline])[0].p == 1
    assert differences(baseline, [[[second / 2] for (second,) in baseline]])[0].p == pytest.approx(0)


def test_intervals_that_hold_together_are_bonferronis() -> None:
    rng = np.random.default_rng(0)
    baseline, *others = (processes(rng, 5, 3) for _ in range(6))
    for found, other in zip(differences(baseline, others), others, strict=True):
        assert found.together == ratio_of_processes(baseline, other, 0.99)
        assert found.together.low < ratio_of_processes(baseline, other).low


def test_a_machine_that_wanders_does_not_hide_a_difference() -> None:
    """A difference of 5%, in seven rounds beside which the machine's speed changes by far more."""
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(100):
        machine = np.exp(np.cumsum(rng.normal(0, 0.1, 7)))
        first, second = machine * np.exp(rng.normal(0, 0.005, (2, 7)))
        found += bool(differences([(1.05 * first).tolist()], [[second.tolist()]])[0].significant)
    assert found == 100
    assert differences([[2.0] * 5], [[[1.0] * 5]])[0].significant is None
