"""The rounds of a case: enough of them to see noise, in the time there is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pytest_benchmark")

from benchmarks.test_training import Plan
from mnistbench.agreement import checkpoints


@given(st.floats(1e-6, 1e4), st.integers(1, 2_000))
def test_there_are_six_rounds_which_end_where_the_reference_is_known(seconds: float, iterations: int) -> None:
    plan = Plan.make(seconds, iterations, None)
    assert plan.iterations in checkpoints(iterations)
    assert sum(plan.rounds) == plan.iterations * plan.trainings
    assert min(plan.rounds) >= 1
    assert max(plan.rounds) - min(plan.rounds) <= 1
    assert len(plan.rounds) >= min(6, iterations)
    spent = seconds * plan.trainings * plan.iterations / iterations
    assert spent <= 10 or (plan.trainings == 1 and plan.iterations <= 10)


@given(st.floats(1e-6, 1e4), st.integers(1, 2_000), st.integers(1, 20))
def test_rounds_asked_for_are_whole_trainings(seconds: float, iterations: int, rounds: int) -> None:
    assert Plan.make(seconds, iterations, rounds).rounds == [iterations] * rounds


@pytest.mark.parametrize(
    ("seconds", "trainings", "rounds"),
    [
        (0.1, 15, [500]),
        (1.0, 10, [500]),
        (1.6, 6, [500]),
        (2.5, 4, [250, 250]),
        (8.0, 1, [83, 83, 84, 83, 83, 84]),
        (20.0, 1, [33, 33, 34, 33, 33, 34]),
    ],
)
def test_the_classic(seconds: float, trainings: int, rounds: list[int]) -> None:
    assert Plan.make(seconds, 500, None).rounds == rounds * trainings
