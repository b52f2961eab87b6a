"""Benchmark of training: every backend and dtype, from fresh weights, with the reference's numbers or no result.

A case starts the backend once and compares it with the reference along the whole trajectory, which also warms up the
arrays to be timed. Each training starts from the same initial parameters, and the last one is compared again. The other
costs are measured in a new process. The kernels that it compiles are those that the case then uses.

A training that takes so long that fewer than six fit the seconds is timed in several parts, each of which counts as a
round: its seconds are scaled to all iterations. One that takes longer than the seconds ends at an earlier checkpoint of
the comparison. So a slow backend, too, has as many rounds as it takes to see noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import mnistbench.backends as registry
from benchmarks.progress import Progress
from benchmarks.recording import Recording, outcome, timings
from mnistbench import words
from mnistbench.agreement import Agreement, Trajectory, check_round, check_trainer, checkpoints
from mnistbench.datasets import Dataset, load_images
from mnistbench.results import storage
from mnistbench.results.row import Row, Timed
from mnistbench.task.presets import preset
from mnistbench.task.workload import DType, Workload
from mnistbench.timing.clock import timed
from mnistbench.training import cold
from mnistbench.training.scores import FinalScores, final_scores

# Without --rounds, as many trainings as fit the seconds, or a part of one; and at least six rounds, for an interval.
_SECONDS = 10.0
_MOST = 15
_FEWEST_ROUNDS = 6

# Idle threads of OpenBLAS spin for some tens of milliseconds; a round next to them was 40 % slow.
_SETTLE = 0.3


@pytest.fixture(scope="module")
def task(pytestconfig: pytest.Config) -> Workload:
    return preset(pytestconfig.getoption("--workload"))


@pytest.fixture(scope="module")
def dataset(task: Workload) -> Dataset:
    return load_images(task.images, task.seed)


@pytest.fixture(scope="module")
def trajectory(task: Workload, dataset: Dataset, progress: Progress) -> Trajectory:
    progress.phase("reference")
    found, seconds = timed(lambda: Trajectory(task, dataset))
    progress.reference_took(seconds)
    return found


def test_training(
    benchmark: BenchmarkFixture,
    backend_name: str,
    dtype: DType,
    task: Workload,
    dataset: Dataset,
    trajectory: Trajectory,
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
    start = cold.measure(backend_name, workload, threads, compiled)
    progress.phase("compiling")
    backend.warm_up(workload, threads)
    with backend.start(workload, dataset, trajectory.initial, threads) as trainer:
        progress.phase("comparing")
        scores: list[FinalScores] = []

        def scored(trainer: registry.Trainer) -> registry.Metrics:
            final, metrics = final_scores(trainer, workload, dataset)
            scores.append(final)
            return metrics

        agreement = check_trainer(trainer, Agreement(backend_name, dtype), trajectory, advance=scored)
        plan = Plan.make(_settle(trainer, workload), workload.iterations, pytestconfig.getoption("--rounds"))
        # pytest-benchmark compares runs of the same name.
        benchmark.name = storage.case_name(workload, backend_name, trainer.describe().threads)
        benchmark.fullname = storage.full_name(benchmark.name)
        benchmark.group = dtype
        metrics = benchmark.pedantic(  # type: ignore[no-untyped-call]
            trainer.advance,
            setup=prepared(plan, benchmark, partial(trainer.reset, trajectory.initial), progress),
            rounds=len(plan.rounds),
        )
        agreement.checks.extend(check_round(trainer.parameters(), metrics, dtype, trajectory, plan.iterations))
        samples = timings(benchmark)
        samples[:] = [took * workload.iterations / size for took, size in zip(samples, plan.rounds, strict=True)]
        progress.phase("limits of the machine", 0.0)
        final = scores[0] if scores else None
        row = Row.measured(workload, trainer.describe(), start, samples, agreement, trajectory, final, timed=plan.timed)
        progress.outcome(outcome(row))
        recording.store(benchmark, row)


@dataclass(frozen=True)
class Plan:
    """Rounds of a case.

    Attributes:
        trainings: Number of trainings, each from fresh weights.
        iterations: Number of iterations of each; one of the checkpoints at which backends are compared.
        parts: Number of rounds of a training.
    """

    trainings: int
    iterations: int
    parts: int

    @classmethod
    def make(cls, seconds: float, iterations: int, rounds: int | None) -> Plan:
        """Choose the rounds where a training of ``iterations`` takes ``seconds``.

        Args:
            rounds: Number of trainings asked for, each timed as a whole; None to choose.
        """
        if rounds is not None:
            return cls(rounds, iterations, 1)
        trainings = max(1, min(_MOST, int(_SECONDS / seconds)))
        parts = min(iterations, math.ceil(_FEWEST_ROUNDS / trainings))
        stops = [stop for stop in checkpoints(iterations) if stop >= parts]
        fitting = [stop for stop in stops if stop * seconds <= iterations * _SECONDS]
        return cls(trainings, max(fitting, default=stops[0]), parts)

    @property
    def rounds(self) -> list[int]:
        """Number of iterations of each round."""
        marks = [self.iterations * k // self.parts for k in range(self.parts + 1)]
        return [after - before for before, after in pairwise(marks)] * self.trainings

    @property
    def timed(self) -> Timed:
        """Iterations and parts for the row."""
        return Timed(self.iterations, self.parts)


def prepared(
    plan: Plan, benchmark: BenchmarkFixture, reset: Callable[[], None], progress: Progress
) -> Callable[[], tuple[tuple[int], dict[str, object]]]:
    """Return a function that prepares the next round, and returns its arguments."""
    sizes = plan.rounds

    def prepare() -> tuple[tuple[int], dict[str, object]]:
        done = timings(benchmark)
        took = f", {words.seconds(done[-1])}" if done else ""
        left = (len(sizes) - len(done)) * sum(done) / len(done) if done else None
        progress.phase(f"round {len(done) + 1} of {len(sizes)}{took}", left)
        if len(done) % plan.parts == 0:
            reset()
        return (sizes[len(done)],), {}

    return prepare


def _settle(trainer: registry.Trainer, workload: Workload) -> float:
    """Iterate until BLAS threads from the comparison are asleep; return the seconds of a round."""
    few = max(1, workload.iterations // 50)
    spent = seconds = 0.0
    while spent < _SETTLE:
        _, seconds = timed(lambda: trainer.advance(few))
        spent += seconds
    return seconds * workload.iterations / few
