"""Benchmark of training: every backend and dtype, from fresh weights, with the reference's numbers or no result.

A case starts the backend once and compares it with the reference along the whole trajectory, which also warms up the
arrays to be timed. Each round starts from the same initial parameters, and the last one is compared again. The other
costs are measured in a new process.
"""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import mnistbench.backends as registry
from mnistbench.agreement import Agreement, Trajectory, check_round, check_trainer
from mnistbench.datasets import Dataset, load_images
from mnistbench.results import storage
from mnistbench.results.row import Row
from mnistbench.task.presets import preset
from mnistbench.task.workload import DType, Workload
from mnistbench.timing.clock import timed
from mnistbench.training import cold
from mnistbench.training.scores import final_scores

# Number of rounds without --rounds: as many as fit the seconds, and at least two, whose difference shows noise.
_SECONDS = 10.0
_FEWEST, _MOST = 2, 15

# Idle threads of OpenBLAS spin for some tens of milliseconds; a round next to them was 40 % slow.
_SETTLE = 0.3


@pytest.fixture(scope="module")
def task(pytestconfig: pytest.Config) -> Workload:
    return preset(pytestconfig.getoption("--workload"))


@pytest.fixture(scope="module")
def dataset(task: Workload) -> Dataset:
    return load_images(task.images, task.seed)


@pytest.fixture(scope="module")
def trajectory(task: Workload, dataset: Dataset) -> Trajectory:
    return Trajectory(task, dataset)


def test_training(
    benchmark: BenchmarkFixture,
    backend_name: str,
    dtype: DType,
    task: Workload,
    dataset: Dataset,
    trajectory: Trajectory,
    pytestconfig: pytest.Config,
) -> None:
    workload, threads = task.with_dtype(dtype), pytestconfig.getoption("--threads")
    backend = registry.get_backend(backend_name)
    if option := backend.unsupported(workload):  # a backend named by --backend is refused earlier
        pytest.skip(f"{backend_name} does not implement {option}")
    start = cold.measure(backend_name, workload, threads)
    backend.warm_up(workload, threads)
    with backend.start(workload, dataset, trajectory.initial, threads) as trainer:
        agreement = check_trainer(trainer, Agreement(backend_name, dtype), trajectory)
        fitting = int(_SECONDS / _settle(trainer, workload))
        rounds = pytestconfig.getoption("--rounds") or max(_FEWEST, min(_MOST, fitting))
        # pytest-benchmark compares runs of the same name.
        benchmark.name = storage.case_name(workload, backend_name, trainer.describe().threads)
        benchmark.fullname = storage.full_name(benchmark.name)
        benchmark.group = dtype
        metrics = benchmark.pedantic(  # type: ignore[no-untyped-call]
            trainer.advance,
            setup=lambda: trainer.reset(trajectory.initial),
            args=(workload.iterations,),
            rounds=rounds,
        )
        agreement.checks.extend(check_round(trainer.parameters(), metrics, dtype, trajectory))
        final, _ = final_scores(trainer, workload, dataset)
        if benchmark.stats:
            samples = benchmark.stats.stats.data
            row = Row.measured(workload, trainer.describe(), start, samples, agreement, trajectory, final)
            benchmark.extra_info.update(row.as_dict())
            assert row.validated, row.problem
    assert agreement.passed, agreement.summary()


def _settle(trainer: registry.Trainer, workload: Workload) -> float:
    """Iterate until BLAS threads from the comparison are asleep; return the seconds of a round."""
    few = max(1, workload.iterations // 50)
    spent = seconds = 0.0
    while spent < _SETTLE:
        _, seconds = timed(lambda: trainer.advance(few))
        spent += seconds
    return seconds * workload.iterations / few
