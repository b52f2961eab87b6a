"""The rounds of a case: enough of them to see noise, in the time there is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pytest_benchmark")

from benchmarks.test_training import plan
from mnistbench.agreement import checkpoints


@given(st.floats(1e-6, 1e4), st.integers(1, 2_000))
def test_there_are_six_rounds_which_end_where_the_reference_is_known(seconds: float, iterations: int) -> None:
    rounds, timed = plan(seconds, iterations, None)
    assert timed in checkpoints(iterations)[1:]
    assert 6 <= rounds <= 15
    assert rounds * timed * seconds <= 6 * iterations * (1 + 1e-9) or (rounds, timed) == (6, 1)


@given(st.floats(0, 100), st.floats(1e-5, 10), st.integers(1, 2_000))
def test_what_is_done_once_after_a_reset_counts(once: float, each: float, iterations: int) -> None:
    """Seconds that a backend spends in its first iteration only."""
    whole = once + each * iterations
    _, timed = plan(whole, iterations, None)
    assert (once + each * timed) * iterations / timed >= whole * (1 - 1e-9)


@given(st.floats(1e-6, 1e4), st.integers(1, 2_000), st.integers(1, 20))
def test_rounds_asked_for_are_whole_trainings(seconds: float, iterations: int, rounds: int) -> None:
    assert plan(seconds, iterations, rounds) == (rounds, iterations)


@pytest.mark.parametrize(
    ("seconds", "rounds", "timed"),
    [(0.06, 15, 500), (0.6, 10, 500), (0.9, 6, 500), (1.5, 10, 200), (4.8, 6, 100), (12.0, 12, 20), (3_000.0, 6, 1)],
)
def test_the_classic(seconds: float, rounds: int, timed: int) -> None:
    assert plan(seconds, 500, None) == (rounds, timed)
