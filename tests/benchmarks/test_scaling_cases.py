"""The scaling benchmark's own logic: which cases there are, and which are left out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

pytest.importorskip("pytest_benchmark")

import mnistbench.backends as registry
from benchmarks import sizes
from benchmarks import test_scaling as benchmark
from mnistbench.backends.numpy import NumpyBackend
from mnistbench.exceptions import OptionError
from mnistbench.task.workload import Network, Workload

GIB = 2**30


def workload(images: int = 41_000, hidden: int = 10) -> Workload:
    return Workload(Network((784, hidden, 10)), images, dtype="float64")


def test_every_size_is_one_case_from_small_to_large() -> None:
    cases = sizes.cases(1_000_000, 8)
    assert len(cases) == len(set(cases)) == 5 + 5 + 3
    by_axis = {axis: [case for case in cases if axis in case.axes] for axis in ("images", "hidden", "threads")}
    assert [case.images for case in by_axis["images"]] == [1_000, 10_000, 41_000, 100_000, 1_000_000]
    assert [case.hidden for case in by_axis["hidden"]] == [10, 32, 64, 128, 256, 512]
    assert sorted(case.threads for case in by_axis["threads"]) == [1, 2, 4, 8]
    for axis, members in by_axis.items():
        others = {"images", "hidden", "threads"} - {axis}
        assert len({tuple(getattr(case, name) for name in sorted(others)) for case in members}) == 1
    (shared,) = (case for case in cases if len(case.axes) == 3)
    assert (shared.images, shared.hidden, shared.threads) == (41_000, 10, 8)
    operations = [case.images for case in cases]
    assert operations == sorted(operations)


@pytest.mark.parametrize(("most", "base"), [(1_000, 1_000), (9_999, 1_000), (10_000, 10_000), (99_999, 41_000)])
def test_with_fewer_images_the_other_axes_have_fewer_too(most: int, base: int) -> None:
    cases = sizes.cases(most, 1)
    assert max(case.images for case in cases) == base
    assert {case.images for case in cases if "hidden" in case.axes} == {base}
    assert [case.threads for case in cases if "threads" in case.axes] == [1]


def test_ranks_have_strong_and_weak_cases() -> None:
    found = sizes.cases_of_ranks(1_000_000, 3, [1, 2, 4])
    strong = [(case.images, case.ranks) for case in found if "ranks" in case.axes]
    weak = [(case.images, case.ranks) for case in found if "weak" in case.axes]
    assert strong == [(images, count) for images in (41_000, 1_000_000) for count in (1, 2, 4)]
    assert weak == [(41_000 * count, count) for count in (1, 2, 4)]
    assert len(found) == len({str(case) for case in found}) == 3 + 3 + 2
    assert {(case.hidden, case.threads) for case in found} == {(10, 3)}


def test_fewer_images_have_fewer_weak_cases() -> None:
    found = sizes.cases_of_ranks(100_000, 1, [1, 2, 4])
    assert [(case.images, case.ranks) for case in found if "weak" in case.axes] == [(41_000, 1), (82_000, 2)]
    assert {case.images for case in found if "ranks" in case.axes} == {41_000, 100_000}


@pytest.mark.parametrize(
    ("most", "counts"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 2, 4, 8]), (12, [1, 2, 4, 8, 12])]
)
def test_threads_double(most: int, counts: list[int]) -> None:
    assert sizes.thread_counts(most) == counts


def test_a_case_is_expected_to_grow_as_its_operations() -> None:
    pace = benchmark.Pace(0.1, workload(10_000).dense_flops)
    # An iteration of a second: 18 of the comparisons, 5 rounds, and 2 repeated.
    assert pace.predict(workload(100_000), rounds=5) == pytest.approx(18 + 5 + 2)
    # Short iterations fill rounds of half a second.
    assert pace.predict(workload(100), rounds=5) == pytest.approx(18 * 0.001 + 7 * 0.5)


def test_what_takes_too_long_is_left_out_with_the_reason() -> None:
    pace = benchmark.Pace(0.1, workload(10_000).dense_flops)
    assert benchmark.too_long(None, workload(10**9), 5, 60) is None
    assert benchmark.too_long(pace, workload(100_000), 5, 30) is None
    assert benchmark.too_long(pace, workload(100_000), 5, 24) == (
        "would take about 25.0 s, more than the 24 s of a case (--budget)"
    )


def test_what_does_not_fit_the_memory_is_left_out_with_the_reason() -> None:
    million = workload(1_000_000)
    assert benchmark.too_large(million, 64 * GIB) is None
    # The images in float64 are 5.8 GiB.
    reason = benchmark.too_large(million, 10 * GIB)
    assert reason is not None
    assert reason.endswith("and 10 GiB are free")
    assert benchmark.too_large(workload(41_000), 2 * GIB) is None


def test_what_a_backend_refuses_is_left_out_in_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(NumpyBackend):
        def load(self, *arguments: Any) -> Any:
            raise OptionError(f"{arguments[-1]} threads: never")

    monkeypatch.setattr(registry, "get_backend", lambda name: Refusing())
    config: Any = SimpleNamespace(getoption={"--rounds": 1, "--budget": 60}.get)
    case = sizes.Case(1_000, 10, 3, ("threads",))
    fixture: Any = Mock()
    with pytest.raises(pytest.skip.Exception, match="3 threads: never"):
        benchmark.test_scaling(fixture, "numpy", "float64", case, {}, fixture, fixture, config)


@pytest.mark.parametrize(
    ("seconds", "iterations"), [(10.0, 1), (0.5, 1), (0.25, 2), (0.2, 2), (0.1, 5), (0.003, 100), (1e-6, 1_000)]
)
def test_a_round_is_about_half_a_second(seconds: float, iterations: int) -> None:
    assert sizes.round_length(seconds) == iterations
