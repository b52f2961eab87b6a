"""Trials of ways to compute: the fastest is kept, and what trying cost is told apart from what it needed to start."""

from __future__ import annotations

import warnings
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from mnistbench.backends import trials
from mnistbench.backends.numpy import NumpyBackend
from mnistbench.backends.trials import Trials, trial_of
from mnistbench.task.workload import DType, Network, Workload

STARTS = {"slow": 100.0, "fast": 1000.0, "medium": 10.0}
ITERATES = {"slow": 3.0, "fast": 1.0, "medium": 2.0}


class Clock:
    now = 0.0


class Timed:
    """Stands in for a trainer; its times are those above."""

    def __init__(self, way: str) -> None:
        if way == "broken":
            Clock.now += 7
            raise RuntimeError(way)
        self._way = way
        Clock.now += STARTS[way]

    def __enter__(self) -> Timed:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def advance(self, iterations: int) -> None:
        Clock.now += iterations * ITERATES[self._way]


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "_tuning", 0.0)
    monkeypatch.setattr("mnistbench.timing.clock.time.perf_counter", lambda: Clock.now)


@pytest.mark.parametrize("order", [*permutations(STARTS)])
def test_the_fastest_way_is_kept_and_its_start_is_no_tuning(order: tuple[str, ...]) -> None:
    start: Any = Timed
    tried: Trials[str] = Trials(start, "three ways")
    before = Clock.now
    for way in order:
        tried.run(way)
    assert tried.fastest == "fast"
    started = STARTS["fast"] + 2 * ITERATES["fast"]
    assert trials.tuning_seconds() == Clock.now - before - started


def test_a_way_that_fails_is_out_and_its_time_is_tuning() -> None:
    start: Any = Timed
    tried: Trials[str] = Trials(start, "three ways")
    tried.run("slow")
    with pytest.raises(RuntimeError, match="broken"):
        tried.run("broken")
    assert tried.fastest == "slow"
    assert trials.tuning_seconds() == 7 + 15 * ITERATES["slow"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hidden", [10, 128, 512])
def test_a_trial_computes_with_normal_numbers(hidden: int, dtype: DType) -> None:
    workload, dataset, parameters = trial_of(Workload(Network((784, hidden, 10)), 100, dtype=dtype))
    with NumpyBackend().start(workload, dataset, parameters, 1) as trainer:
        trainer.advance(17)
        sizes = np.concatenate([np.abs(gradient).ravel() for _, gradient in trainer.gradients().named()])
    assert sizes[sizes > 0].min() > 1e6 * np.finfo(np.float32).tiny


def test_ways_that_only_warn_are_kept_and_those_that_fail_are_named() -> None:
    """As in a process that makes errors of warnings, like pytest."""

    class Warns(Timed):
        def __init__(self, way: str) -> None:
            warnings.warn(f"{way} is deprecated", DeprecationWarning, stacklevel=1)
            super().__init__(way)

    start: Any = Warns
    seen: list[str] = []

    def others(fastest: str) -> list[str]:
        seen.append(fastest)
        return ["broken", "fast"]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = trials.fastest(["slow", "medium"], others, start, "a test")
    assert found == ("fast", "broken failed: RuntimeError: broken")
    assert seen == ["medium"]
    with pytest.raises(RuntimeError, match="broken"):
        trials.fastest(["broken"], others, start, "a test")
