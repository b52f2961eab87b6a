"""Benchmark of training: every backend and dtype, from fresh weights, with the reference's numbers or no result.

A case starts the backend once and measures it as :mod:`mnistbench.measurement` says: it is compared with the reference
along the whole trajectory, which also warms up the arrays to be timed, then timed from fresh weights, and some rounds
are repeated. The other costs are measured in a new process. The kernels that it compiles are those that the case uses.

Where fewer than six trainings fit the seconds, each ends at an earlier checkpoint of the comparison, and its time is
scaled to all iterations. So a slow backend, too, has as many rounds as it takes to see noise. What a backend does only
once after a reset is in each round, and scaling makes it longer, not shorter.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import mnistbench.backends as registry
from benchmarks.progress import Progress
from benchmarks.recording import Recording, outcome, timings
from benchmarks.rounds import time_rounds
from mnistbench import words
from mnistbench.agreement import Agreement, Trajectory, kept, last_checkpoint
from mnistbench.comparison import processes
from mnistbench.datasets import Dataset, load_images
from mnistbench.exceptions import MnistbenchError
from mnistbench.measurement import Measurement, Starts
from mnistbench.measurement.bound import least_flops
from mnistbench.results import storage
from mnistbench.results.row import Row
from mnistbench.task.presets import preset
from mnistbench.task.workload import DType, Workload
from mnistbench.timing.clock import timed
from mnistbench.timing.statistics import FEWEST
from mnistbench.training import cold
from mnistbench.training.scores import final_scores

# Without --rounds, as many rounds as fit the seconds; six are the fewest with an interval.
_SECONDS = 6.0
_MOST = 15

# Seconds for new processes of a case, after which none starts, and of a training in one, which is cut there.
_COLD = 2.0

# Idle threads of OpenBLAS spin for some tens of milliseconds; a round next to them was 40 % slow.
_SETTLE = 0.3


@pytest.fixture(scope="module")
def task(pytestconfig: pytest.Config) -> Workload:
    return preset(pytestconfig.getoption("--workload"))


@pytest.fixture(scope="module")
def dataset(task: Workload) -> Dataset:
    return load_images(task.images, task.seed)


@pytest.fixture(scope="module")
def starts(trajectory: Trajectory) -> Starts:
    return Starts(trajectory)


@pytest.fixture(scope="module")
def trajectory(task: Workload, dataset: Dataset, progress: Progress) -> Trajectory:
    progress.phase("reference")
    found, seconds = timed(lambda: kept.trajectory(task, dataset))
    progress.reference_took(seconds)
    return found


def test_training(
    benchmark: BenchmarkFixture,
    backend_name: str,
    dtype: DType,
    task: Workload,
    dataset: Dataset,
    trajectory: Trajectory,
    starts: Starts,
    progress: Progress,
    recording: Recording,
    compiled: Path,
    pytestconfig: pytest.Config,
) -> None:
    workload, threads = task.with_dtype(dtype), pytestconfig.getoption("--threads")
    backend = registry.get_backend(backend_name)
    if option := backend.unsupported(workload):  # a backend named by --backend is refused earlier
        pytest.skip(f"{backend_name} does not implement {option}")
    progress.phase("cold start")
    (start,) = cold.measure([(backend_name, workload)], threads, _COLD, compiled)
    if isinstance(start, MnistbenchError):
        raise start
    progress.phase("compiling")
    backend.warm_up(workload, threads)
    with backend.start(workload, dataset, trajectory.initial, threads) as trainer:
        progress.phase("comparing")
        measurement = Measurement(trainer, Agreement(backend_name, dtype), trajectory)
        measurement.compare()
        measurement.compare_elsewhere(partial(processes.start, backend_name, threads=threads, isolate=False))
        estimated = _settle(trainer, workload)
        rounds, iterations = plan(estimated, workload.iterations, pytestconfig.getoption("--rounds"))
        progress.phase("comparing one call", (2 + rounds) * estimated * iterations / workload.iterations)
        measurement.tie(iterations)
        # pytest-benchmark compares runs of the same name.
        description = trainer.describe()
        benchmark.name = storage.case_name(workload, backend_name, description.threads)
        benchmark.fullname = storage.full_name(benchmark.name)
        benchmark.group = dtype

        def show(done: list[float]) -> None:
            took = f", {words.seconds(done[-1])}" if done else ""
            each = sum(done) / len(done) if done else estimated * iterations / workload.iterations
            progress.phase(f"round {len(done) + 1} of {rounds}{took}", (rounds - len(done)) * each)

        time_rounds(benchmark, measurement, starts, rounds, iterations, show)
        progress.phase("repeating rounds", 0.0)
        measurement.confirm(starts, iterations)
        description = trainer.describe()
        measurement.judge(description)
        progress.phase("energy", 0.0)
        measurement.count_energy(iterations)
        samples = timings(benchmark)
        samples[:] = [took * workload.iterations / iterations for took in samples]
        progress.phase("limits of the machine", 0.0)
        end = measurement.agreement.states.get(workload.iterations)
        row = Row.measured(
            workload,
            description,
            start,
            samples,
            measurement.agreement,
            trajectory,
            None if end is None else final_scores(end, workload, dataset),
            problem=measurement.problem,
            timed=iterations,
            proof=measurement.proof(),
            least_flops=least_flops(workload, dataset),
            energy=measurement.energy,
        )
        progress.outcome(outcome(row))
        recording.store(benchmark, row)


def plan(seconds: float, iterations: int, rounds: int | None) -> tuple[int, int]:
    """Choose the number of rounds, and of iterations in each, where a training of ``iterations`` takes ``seconds``.

    Args:
        rounds: Number of rounds asked for, of a whole training each; None to choose.
    """
    if rounds is not None:
        return rounds, iterations
    stop = last_checkpoint(iterations, _SECONDS / FEWEST / seconds * iterations)
    return max(FEWEST, min(_MOST, int(_SECONDS / seconds * iterations / stop))), stop


def _settle(trainer: registry.Trainer, workload: Workload) -> float:
    """Iterate until BLAS threads from the comparison are asleep; return the seconds of a training, after its start."""
    few = max(1, workload.iterations // 50)
    trainer.advance(few)
    spent = seconds = 0.0
    while spent < _SETTLE:
        _, seconds = timed(lambda: trainer.advance(few))
        spent += seconds
    return seconds * workload.iterations / few
