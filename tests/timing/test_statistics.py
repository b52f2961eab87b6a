"""Statistics of rounds and of processes hold what they promise."""

from __future__ import annotations

import math
import statistics as standard
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scipy.stats import wilcoxon

from mnistbench.timing.statistics import (
    NOISY_SPREAD,
    Median,
    median,
    median_of_processes,
    paired_ratio,
    ratio_of_processes,
    spread,
    wilson,
)

# Rounds of one process


@pytest.mark.parametrize(
    ("n", "low", "high", "level"),
    [
        (1, 1, 1, 0.0),
        (2, 1, 2, 1 - 2 / 4),
        (3, 1, 3, 1 - 2 / 8),
        (5, 1, 5, 1 - 2 / 32),
        (6, 1, 6, 1 - 2 / 64),
        (8, 1, 8, 1 - 2 / 256),
        (9, 2, 8, 1 - 2 * 10 / 512),
        (15, 4, 12, 1 - 2 * (1 + 15 + 105 + 455) / 2**15),
        (20, 6, 15, 1 - 2 * (1 + 20 + 190 + 1140 + 4845 + 15504) / 2**20),
    ],
)
def test_known_intervals(n: int, low: int, high: int, level: float) -> None:
    """The values are those of tables of the sign test."""
    samples = list(np.random.default_rng(0).permutation(np.arange(1.0, n + 1)))
    found = median(samples)
    assert (found.low, found.high) == (low, high)
    assert found.level == pytest.approx(level)
    assert found.value == (n + 1) / 2


DISTRIBUTIONS: dict[str, tuple[Callable[[np.random.Generator, int], NDArray[np.float64]], float]] = {
    "exponential": (lambda rng, size: rng.exponential(1.0, size), math.log(2)),
    "lognormal": (lambda rng, size: rng.lognormal(0.0, 1.5, size), 1.0),
    "pareto": (lambda rng, size: rng.pareto(1.0, size) + 1, 2.0),
    "normal": (lambda rng, size: rng.normal(10.0, 1.0, size), 10.0),
}


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6, 7, 10, 15, 30])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_interval_covers_the_true_median_as_often_as_it_says(name: str, n: int) -> None:
    draw, true = DISTRIBUTIONS[name]
    rng = np.random.default_rng(n)
    trials = 1500
    found = [median(draw(rng, n).tolist()) for _ in range(trials)]
    level = found[0].level
    covered = sum(m.low <= true <= m.high for m in found) / trials
    # The promise is exact for a continuous distribution, so that too often is wrong too: 4.5 standard errors.
    assert covered == pytest.approx(level, abs=4.5 * math.sqrt(max(level * (1 - level), 1e-4) / trials))


@given(st.lists(st.floats(1e-9, 1e6), min_size=1, max_size=60), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_an_interval_is_two_of_the_samples_around_the_median(samples: list[float], level: float) -> None:
    found = median(samples, level)
    assert found.value == standard.median(samples)
    assert min(samples) <= found.low <= found.value <= found.high <= max(samples)
    assert {found.low, found.high} <= set(samples)
    assert 0 <= found.level <= 1
    attainable = 1 - 2 / 2 ** len(samples)
    assert found.level >= min(level, attainable) - 1e-12
    assert found == median(samples[::-1], level)


def test_a_wider_interval_for_a_higher_level() -> None:
    samples = [float(k) for k in range(31)]
    narrow, wide = median(samples, 0.5), median(samples, 0.99)
    assert wide.low < narrow.low < narrow.high < wide.high
    assert wide.level >= 0.99 > narrow.level >= 0.5


@pytest.mark.parametrize("n", [2, 3, 4, 5, 7, 10, 15, 30])
def test_noise_is_called_noisy_as_often_whatever_the_number_of_rounds(n: int) -> None:
    """Half of the rows or a little more with noise just at the limit, and nearly all with twice as much."""
    rng = np.random.default_rng(n)
    trials = 2000

    def noisy(scale: float) -> float:
        rows = 1 + NOISY_SPREAD * scale * rng.standard_normal((trials, n))
        return sum(median(row).noisy for row in rows.tolist()) / trials

    assert 0.47 < noisy(1.0) < 0.65
    assert noisy(0.5) < 0.22
    assert noisy(0.25) < 0.02
    assert noisy(2.0) > 0.7


def test_the_spread_is_a_standard_deviation_and_no_outlier_changes_it() -> None:
    rounds = np.random.default_rng(0).normal(2.0, 0.1, 1001).tolist()
    assert spread([rounds]) == pytest.approx(0.05, rel=0.05)
    assert median(rounds).spread == spread([rounds])
    assert spread([[1.0, 1.01, 1.02, 1.0, 9.0]]) < 0.03
    assert spread([[1.0, 1.0], [2.0, 2.0]]) == 0, "only rounds of the same process are compared"
    assert spread([[7.0], [8.0]]) == spread([[0.0, 0.0]]) == 0
    with pytest.raises(ValueError, match="no timings"):
        median([])


# Ratios of one process


def timings(rng: np.random.Generator, rounds: int, kind: str) -> tuple[list[float], list[float]]:
    """Seconds of two trainers in the same rounds, the first exactly 3 times as slow but for noise.

    The noise is what timings on shared machines show: a factor that both have in a round and that wanders, and for
    each its own, skewed to the slow side, now and then by much.
    """
    wander = np.cumsum(rng.normal(0, 0.02, rounds))
    own: Callable[[], NDArray[np.float64]] = {
        "jitter": lambda: rng.normal(0, 0.02, rounds),
        "skewed": lambda: rng.gamma(2, 0.01, rounds),
        "outliers": lambda: rng.gamma(2, 0.01, rounds) + (rng.random(rounds) < 0.05) * rng.exponential(0.2, rounds),
    }[kind]
    return list(3 * np.exp(wander + own())), list(np.exp(wander + own()))


@pytest.mark.parametrize(("rounds", "level"), [(6, 1 - 2 / 64), (7, 1 - 6 / 128), (10, 1 - 50 / 1024), (50, 0.95)])
@pytest.mark.parametrize("kind", ["jitter", "skewed", "outliers"])
def test_intervals_cover_the_truth_as_often_as_they_say(rounds: int, level: float, kind: str) -> None:
    """As often as tables of the signed-rank statistic have it."""
    rng = np.random.default_rng(rounds)
    found = [paired_ratio(*timings(rng, rounds, kind)) for _ in range(1000)]
    covered = sum(ratio.low <= 3 <= ratio.high for ratio in found) / 1000
    assert covered == pytest.approx(level, abs=4.5 * math.sqrt(level * (1 - level) / 1000))


def test_the_interval_is_that_of_the_signed_rank_test() -> None:
    """It holds the ratios that Wilcoxon's test does not reject, and no others."""
    first, second = timings(np.random.default_rng(0), 9, "skewed")
    found = paired_ratio(first, second)
    logarithms = np.log(np.array(first) / np.array(second))
    for ratio, rejected in ((0.9999, True), (1.0001, False)):
        low, high = math.log(found.low * ratio), math.log(found.high / ratio)
        assert [wilcoxon(logarithms - shift).pvalue <= 0.05 for shift in (low, high)] == [rejected] * 2


@given(
    st.lists(st.floats(1e-9, 1e6), min_size=1, max_size=20).flatmap(
        lambda values: st.tuples(st.just(values), st.permutations(values))
    ),
    st.floats(1e-3, 1e3),
)
def test_a_ratio_lies_in_its_interval_and_scales(pair: tuple[list[float], list[float]], factor: float) -> None:
    first, second = pair
    found = paired_ratio(first, second)
    assert found.low <= found.value * (1 + 1e-9)
    assert found.value <= found.high * (1 + 1e-9)
    assert found.known is (len(first) >= 6)
    scaled = paired_ratio([factor * value for value in first], second)
    assert scaled.value == pytest.approx(factor * found.value, rel=1e-6)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [([], [], "no pairs"), ([1.0], [1.0, 2.0], "no pairs"), ([1.0, 0.0], [1.0, 2.0], "not above 0")],
)
def test_what_is_no_pair_is_refused(first: list[float], second: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired_ratio(first, second)


def test_a_long_race_takes_little_memory() -> None:
    """A thousand rounds have half a million pairs."""
    tracemalloc.start()
    found = paired_ratio([2.0] * 1000, [1.0] * 1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.value == pytest.approx(2)
    assert peak < 200e6


# Several processes

TIMES = [[1.0, 1.02, 1.01], [1.1, 1.08, 1.09], [0.97, 0.99], [1.03], [1.2, 1.0, 1.05, 1.04, 1.06]]


def test_the_interval_is_students_for_the_processes_medians() -> None:
    logarithms = np.log([standard.median(rounds) for rounds in TIMES])
    expected = stats.ttest_1samp(logarithms, 0).confidence_interval(0.95)
    found = median_of_processes(TIMES)
    assert (found.low, found.high) == pytest.approx((math.exp(expected.low), math.exp(expected.high)))
    assert found.value == pytest.approx(stats.gmean(np.exp(logarithms)))
    assert (found.level, found.processes) == (0.95, 5)
    assert found.between == pytest.approx(logarithms.std(ddof=1))
    assert found.spread == spread(TIMES)


def test_the_interval_of_the_next_process_is_the_prediction_of_students_t() -> None:
    found = median_of_processes(TIMES)
    assert found.next_process is not None
    margin = stats.t.ppf(0.975, 4) * found.between * math.sqrt(1 + 1 / 5)
    assert found.next_process == pytest.approx((found.value * math.exp(-margin), found.value * math.exp(margin)))


def test_the_ratio_is_students_for_the_processes_ratios() -> None:
    other = [
        [second / factor for second in rounds] for rounds, factor in zip(TIMES, (3, 3.1, 2.9, 3, 3.2), strict=True)
    ]
    expected = stats.ttest_1samp(np.log([3, 3.1, 2.9, 3, 3.2]), 0).confidence_interval(0.95)
    found = ratio_of_processes(TIMES, other)
    assert (found.low, found.high) == pytest.approx((math.exp(expected.low), math.exp(expected.high)))
    assert (found.known, found.processes) == (True, 5)


def test_one_process_has_the_intervals_of_its_rounds() -> None:
    rounds, other = TIMES[4], [2.0, 2.1, 2.2, 2.0, 2.1]
    assert median_of_processes([rounds]) == median(rounds)
    assert median(rounds).next_process is None, "it does not show how others differ"
    assert ratio_of_processes([rounds], [other]) == paired_ratio(rounds, other)
    assert ratio_of_processes([rounds], [other]).processes == 1


@given(st.lists(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=6), min_size=2, max_size=8), st.floats(1e-3, 1e3))
def test_a_median_of_processes_lies_among_theirs_and_scales(samples: list[list[float]], factor: float) -> None:
    found = median_of_processes(samples)
    middles = [standard.median(rounds) for rounds in samples]
    assert min(middles) * (1 - 1e-9) <= found.value <= max(middles) * (1 + 1e-9)
    assert found.low <= found.value <= found.high
    assert found.next_process is not None
    assert found.next_process[0] <= found.low
    assert found.high <= found.next_process[1]
    scaled = median_of_processes([[factor * second for second in rounds] for rounds in samples])
    assert scaled.value == pytest.approx(factor * found.value)
    assert (scaled.spread, scaled.between) == pytest.approx((found.spread, found.between), rel=1e-9, abs=1e-9)


def test_the_more_the_processes_differ_the_wider_the_interval() -> None:
    """However many rounds each of them ran."""

    def width(found: Median) -> float:
        return found.high / found.low

    steady = [[at] * 3 for at in (1.0, 1.001, 0.999, 1.0, 1.0)]
    apart = [[at] * 300 for at in (1.0, 1.05, 0.95, 1.0, 1.0)]
    assert width(median_of_processes(apart)) > 10 * width(median_of_processes(steady)) - 9


@pytest.mark.parametrize(
    ("baseline", "other", "message"),
    [
        ([], [], "0 and 0 processes"),
        ([[1.0]] * 2, [[1.0]] * 3, "2 and 3 processes"),
        ([[1.0]] * 2, [[1.0], []], "pairs"),
    ],
)
def test_processes_that_are_no_pairs_are_refused(
    baseline: list[list[float]], other: list[list[float]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ratio_of_processes(baseline, other)
    with pytest.raises(ValueError, match="not defined"):
        median_of_processes([])


@pytest.mark.parametrize("share", [0.0054, 0.016, 0.3])
def test_wilsons_interval_covers_the_probability(share: float) -> None:
    rng = np.random.default_rng(0)
    found = rng.binomial(10_000, share, 4_000) / 10_000
    covered = np.mean([low <= share <= high for low, high in (wilson(one, 10_000) for one in found.tolist())])
    assert covered == pytest.approx(0.95, abs=0.02)
    assert wilson(0.0, 100)[0] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("n", [1_023, 1_024, 2_000])
def test_the_median_of_many_timings_has_an_interval(n: int) -> None:
    found = median([float(place) for place in range(1, n + 1)])
    assert 0.95 <= found.level < 0.96
    assert found.low + found.high == n + 1
    assert found.high - found.low == pytest.approx(1.96 * math.sqrt(n), rel=0.05)
