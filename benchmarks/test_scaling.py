"""How an iteration's cost grows with images and hidden units, and falls with threads.

``pytest benchmarks/test_scaling.py``: collected only where it is named. One of the three is varied at a time; beyond
59,000 images, copies moved by a pixel or two are added. A case starts a backend and compares it with the reference
along the first iterations, in parameters, loss, accuracy and predictions; what it is compared in is in its row.
Gradients are compared where the classic workload is. Then rounds of as many iterations as take about half a second
are timed, and the trainer is compared once more. A backend's cases go from small to large, and those that would take
longer than a budget, as the ones before show, are left out; the summary says which, and why.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import mnistbench.backends as registry
from mnistbench import results, training
from mnistbench.agreement import Agreement, Trajectory, check_trainer
from mnistbench.datasets import Dataset
from mnistbench.datasets.copies import load_images
from mnistbench.measurement import machine
from mnistbench.measurement.clock import Costs, timed
from mnistbench.measurement.cold import ColdStart
from mnistbench.threads import resolve
from mnistbench.workload import DType, Workload, preset

IMAGES = (1_000, 10_000, 41_000, 100_000, 1_000_000)
HIDDEN = (10, 32, 64, 128, 256, 512)

# Iterations that are compared; a comparison runs about twice as many.
_COMPARED = 5
_COMPARING = 2 * (_COMPARED + 1)

_ROUNDS = 5
_ROUND_SECONDS = 0.5
_MOST_ITERATIONS = 1_000

# Idle threads of OpenBLAS spin for some tens of milliseconds after the comparison.
_SETTLE = 0.3

# Bytes of each value of the images in the reference, and how often a backend holds them while it loads.
_REFERENCE_BYTES = 8
_COPIES = 2


@dataclass(frozen=True)
class Case:
    """One size, and the axes of the charts that it is on."""

    images: int
    hidden: int
    threads: int
    axes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.images}-images-{self.hidden}-hidden-{self.threads}-threads"


def cases(most_images: int, threads: int) -> list[Case]:
    """Every size once, small ones first: along each axis the other two are those of the classic, or near to it."""
    classic = preset("classic")
    base = max(images for images in IMAGES if images <= min(most_images, classic.images))
    hidden = classic.network.hidden[0]
    found: dict[tuple[int, int, int], list[str]] = {}
    for images in IMAGES:
        if images <= most_images:
            found.setdefault((images, hidden, threads), []).append("images")
    for units in HIDDEN:
        found.setdefault((base, units, threads), []).append("hidden")
    for count in thread_counts(threads):
        found.setdefault((base, hidden, count), []).append("threads")
    return sorted((Case(*sizes, tuple(axes)) for sizes, axes in found.items()), key=_size)


def _size(case: Case) -> tuple[int, int, int]:
    return (case.images, case.hidden, -case.threads)


def thread_counts(most: int) -> list[int]:
    """1, 2, 4, ... and ``most``."""
    return sorted({*(2**k for k in range(most.bit_length()) if 2**k <= most), most})


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    config = metafunc.config
    found = cases(config.getoption("--most-images"), resolve(config.getoption("--threads")))
    # As a fixture of the module, so that all backends run a size before the next: data and reference are made once.
    metafunc.parametrize("case", found, ids=str, indirect=True, scope="module")


@pytest.fixture(scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def paces() -> dict[tuple[str, str, int], Pace]:
    """What each backend, dtype and number of threads took last."""
    return {}


@dataclass(frozen=True)
class Pace:
    """Seconds that a case took besides its timed rounds, and per iteration; and its operations per iteration."""

    beside: float
    iteration: float
    flops: int

    def predict(self, workload: Workload, rounds: int) -> float:
        """Seconds of a case of another size: all is taken to grow as the operations do."""
        growth = workload.dense_flops / self.flops
        return growth * self.beside + rounds * max(_ROUND_SECONDS, growth * self.iteration)


@lru_cache(maxsize=1)
def dataset(images: int) -> Dataset:
    return load_images(images)


@lru_cache(maxsize=1)
def trajectory(images: int, hidden: int) -> Trajectory:
    """The reference's first iterations, without its images."""
    data = dataset(images)
    task = Workload(data.network(hidden), images, _COMPARED, dtype="float64", name=results.SCALING)
    found = Trajectory(task, data)
    found.free_images()
    return found


def test_scaling(
    benchmark: BenchmarkFixture,
    backend_name: str,
    dtype: DType,
    case: Case,
    paces: dict[tuple[str, str, int], Pace],
    pytestconfig: pytest.Config,
) -> None:
    began = time.perf_counter()
    rounds = pytestconfig.getoption("--rounds") or _ROUNDS
    network = replace(preset("classic").network, sizes=(784, case.hidden, 10))
    workload = Workload(network, case.images, _COMPARED, dtype=dtype, name=results.SCALING)
    pace = paces.get((backend_name, dtype, case.threads))
    for reason in reasons(backend_name, case, workload, pace, rounds, pytestconfig.getoption("--budget")):
        pytest.skip(reason)
    reference = trajectory(case.images, case.hidden)
    began = time.perf_counter()
    backend = registry.get(backend_name)
    backend.warm_up(workload, case.threads)
    trainer, loading = timed(
        lambda: backend.start(workload, reference.dataset, reference.fresh(), case.threads)
    )
    with trainer:
        if (effective := trainer.describe()["threads"]) != case.threads and case.axes == ("threads",):
            pytest.skip(f"{backend_name} runs on {effective} threads where {case.threads} are asked for")
        agreement = check_trainer(trainer, Agreement(backend_name, dtype), reference, gradients=False)
        iteration = _settle(trainer)
        iterations = round_length(iteration)
        paces[backend_name, dtype, case.threads] = Pace(time.perf_counter() - began, iteration, workload.dense_flops)
        name = f"{results.SCALING}-{case}-{backend_name}-{dtype}-{iterations}-iterations"
        benchmark.name, benchmark.fullname = name, f"benchmarks/test_scaling.py::{name}"
        benchmark.group = f"{case}-{dtype}"
        benchmark.pedantic(  # type: ignore[no-untyped-call]
            trainer.advance, setup=lambda: trainer.reset(reference.initial), args=(iterations,), rounds=rounds
        )
        if benchmark.stats:
            timed_task = replace(workload, iterations=iterations)
            benchmark.extra_info.update(
                _row(timed_task, trainer, loading, benchmark.stats.stats.data, agreement, reference, case)
            )
    assert agreement.passed, agreement.summary()
