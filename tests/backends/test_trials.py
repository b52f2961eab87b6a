"""Trials of ways to compute: the fastest is kept, and what trying cost is told apart from what it needed to start."""

from __future__ import annotations

import warnings
from itertools import permutations
from typing import Any, NamedTuple

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
    tried: Trials[str] = Trials(start)
    before = Clock.now
    for way in order:
        tried.run(way)
    assert tried.fastest == "fast"
    started = STARTS["fast"] + 2 * ITERATES["fast"]
    assert trials.tuning_seconds() == Clock.now - before - started


def test_a_way_that_fails_is_out_and_its_time_is_tuning() -> None:
    start: Any = Timed
    tried: Trials[str] = Trials(start)
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
    assert found == trials.Choice("fast", "broken failed: RuntimeError: broken", "a test")
    assert seen == ["medium"]
    with pytest.raises(RuntimeError, match="broken"):
        trials.fastest(["broken"], others, start, "a test")


class Pair(NamedTuple):
    """A way as backends have them: a kind of products, and whether a compiler takes part."""

    name: str
    compiled: bool = False


@pytest.fixture
def found() -> trials.Once[[str], Pair]:
    """Return a function that finds one of two plain ways, or the faster one compiled."""

    class Compiled(Timed):
        def __init__(self, way: Pair) -> None:
            if way in broken:
                raise RuntimeError("no compiler")
            super().__init__("fast" if way.compiled and way.name == "medium" else way.name)

    start: Any = Compiled

    @trials.Once
    def find(what: str) -> trials.Choice[Pair]:
        calls.append(what)
        plain = [Pair("slow"), Pair("medium")]
        return trials.fastest(plain, lambda way: [way._replace(compiled=True)], start, what)

    return find


calls: list[str] = []
broken: list[Pair] = []


@pytest.fixture(autouse=True)
def nothing_yet() -> None:
    calls.clear()
    broken.clear()


def test_a_settled_way_is_tried_itself_also_where_another_plain_one_is_faster(
    found: trials.Once[[str], Pair],
) -> None:
    """Such as oneDNN's products with compiled random bits, where PyTorch's own products are faster today."""
    settled = Pair("slow", True)
    with trials.session({"this": str(settled), "that": "a way of another version"}) as session:
        for _ in range(2):
            assert found("this") == (settled, None)
            assert found("that") == (Pair("medium", True), None)
        assert session.choices == {"this": str(settled), "that": str(Pair("medium", True))}
    assert calls == ["this", "that"]


def test_a_settled_way_that_fails_is_named(found: trials.Once[[str], Pair]) -> None:
    broken.append(Pair("slow", True))
    with trials.session({"this": str(broken[0])}) as session:
        way, failed = found("this")
        assert (way, failed) == (Pair("medium", True), f"{broken[0]} failed: RuntimeError: no compiler")
        found("this")
    assert calls == ["this"]
    assert session.choices == {"this": str(way)}


@pytest.mark.parametrize("settled", [{}, {"this": str(Pair("slow"))}])
def test_a_session_records_the_way_that_runs_in_place_of_the_found_one(
    found: trials.Once[[str], Pair], settled: dict[str, str]
) -> None:
    with trials.session(settled) as session:
        way, _ = found("this")
        assert session.choices == {"this": str(way)}
        found.record(Pair("medium"), "it failed", "this")
        assert session.choices == {"this": str(Pair("medium"))}
    assert trials.Choice(Pair("medium"), "it failed", "this") in session.found.values()


def test_what_is_settled_does_not_outlast_the_session(found: trials.Once[[str], Pair]) -> None:
    usual, settled = Pair("medium", True), Pair("slow")
    assert found("before") == (usual, None)
    with trials.session({"this": str(settled), "before": str(settled)}):
        assert found("this") == found("before") == (settled, None)
    for _ in range(2):
        assert found("this") == found("before") == (usual, None)
    assert calls == ["before", "this", "before", "this"]
    found.cache_clear()
    found("this")
    assert len(calls) == 5


def test_a_session_records_what_it_asks_for_alone(found: trials.Once[[str], Pair]) -> None:
    for name in ("this", "that"):
        found(name)
    with trials.session({}) as session:
        found("that")
    assert (calls, [*session.choices]) == (["this", "that"], ["that"])
