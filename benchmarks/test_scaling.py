"""Benchmark of scaling: the time of an iteration over images, hidden units and threads, one varied at a time.

It runs only by name: ``pytest benchmarks/test_scaling.py``. Beyond 59,000 images, copies shifted by a pixel or two are
added. A case starts a backend, compares it with the reference along the first iterations (parameters, loss, accuracy
and predictions, no gradients), times rounds of about half a second, and repeats some of them. Each backend's cases go
from small to large. Those that would exceed a budget, judging by the case before, are skipped, and the summary
says why. Compiling is not timed.

With ``--ranks 1,2,4`` the number of ranks is varied instead: each case is a job of MPI, see
:mod:`benchmarks.sharing`.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import mnistbench.backends as registry
from benchmarks.progress import Progress
from benchmarks.recording import Recording, outcome, timings
from benchmarks.rounds import time_rounds
from benchmarks.sharing import Job, LeftOut, run
from benchmarks.sizes import (
    CHECKED,
    COMPARED,
    COMPARING,
    ROUND_SECONDS,
    Case,
    cases,
    cases_of_ranks,
    round_length,
    settle,
    trajectory,
)
from mnistbench import machine, words
from mnistbench.agreement import Agreement
from mnistbench.exceptions import MnistbenchError
from mnistbench.measurement import REPEATED, Measurement, Starts
from mnistbench.measurement.bound import least_flops
from mnistbench.results import storage
from mnistbench.results.row import Row, Size
from mnistbench.task.presets import preset
from mnistbench.task.workload import DType, Network, Workload
from mnistbench.threads import resolve, usable_cpus
from mnistbench.timing.clock import timed
from mnistbench.training.cold import ColdStart, Process

_ROUNDS = 5

# Seconds that a job of several ranks may take besides its iterations, and for the reference of an image.
_STARTING = 60.0
_OF_AN_IMAGE = 3e-4

# Bytes of an image's value in the reference, and number of copies that a backend holds while it loads.
_REFERENCE_BYTES = 8
_COPIES = 2


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    config = metafunc.config
    most, number, ranks = (config.getoption(name) for name in ("--most-images", "--threads", "--ranks"))
    if ranks is None:
        found = cases(most, resolve(number))
    else:
        found = cases_of_ranks(most, number or max(1, usable_cpus() // max(ranks)), ranks)
    # Scoped to the module, so that all backends run a size before the next: data and reference are made once.
    metafunc.parametrize("case", found, ids=str, indirect=True, scope="module")


@dataclass(frozen=True)
class Pace:
    """Speed of a case: seconds of an iteration, and its floating-point operations."""

    iteration: float
    flops: int

    def predict(self, workload: Workload, rounds: int) -> float:
        """Predict the seconds of a case of another size, proportional to its operations."""
        iteration = self.iteration * workload.dense_flops / self.flops
        return COMPARING * iteration + (rounds + REPEATED) * max(ROUND_SECONDS, iteration)


Paces = dict[tuple[str, str, int, int | None], Pace]


@pytest.fixture(scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def paces() -> Paces:
    """The last pace of each backend, dtype, and number of threads and ranks."""
    return {}


def too_long(pace: Pace | None, workload: Workload, rounds: int, budget: float) -> str | None:
    """Say why a case would exceed the budget, or return None."""
    expected = 0.0 if pace is None else pace.predict(workload, rounds)
    if expected <= budget:
        return None
    return f"would take about {words.seconds(expected)}, more than the {budget:g} s of a case (--budget)"


def too_large(workload: Workload, available: int) -> str | None:
    """Say why a case would not fit the memory, or return None."""
    # The reference's images in float64 and a backend's copies do not coexist; some eight arrays of each layer do.
    values = max(_REFERENCE_BYTES, _COPIES * workload.itemsize) * workload.network.inputs
    layers = 8 * _REFERENCE_BYTES * sum(workload.network.sizes[1:])
    needed = workload.images * (workload.network.inputs + values + layers)
    if needed <= available:
        return None
    return f"needs {words.size(needed)} to be compared and timed, and {words.size(available)} are free"


def test_scaling(
    benchmark: BenchmarkFixture,
    backend_name: str,
    dtype: DType,
    case: Case,
    paces: Paces,
    progress: Progress,
    recording: Recording,
    pytestconfig: pytest.Config,
) -> None:
    rounds, budget = pytestconfig.getoption("--rounds") or _ROUNDS, pytestconfig.getoption("--budget")
    inputs, _, outputs = preset("classic").network.sizes
    workload = Workload(Network((inputs, case.hidden, outputs)), case.images, COMPARED, dtype=dtype)
    pace = paces.get((backend_name, dtype, case.threads, case.ranks))
    leave_out(too_long(pace, workload, rounds, budget) or too_large(workload, machine.available_memory()))
    if case.axes == ("threads",) and registry.availability(backend_name).device != "CPU":
        leave_out("the host's threads do not compute")
    if case.ranks is not None:
        progress.phase(words.counted(case.ranks, "rank"))
        sharing = pytestconfig.getoption("--share-cores")
        job = Job(backend_name, dtype, case.images, case.hidden, case.ranks, case.threads, case.axes, rounds, sharing)
        limit = _STARTING + _OF_AN_IMAGE * case.images + 4 * budget
        found, iteration = run_job(benchmark, job, pytestconfig.getoption("--mpiexec"), limit)
        paces[backend_name, dtype, case.threads, case.ranks] = Pace(iteration, workload.dense_flops)
        name_benchmark(benchmark, case, found)
        progress.outcome(outcome(found))
        recording.store(benchmark, found)
        return
    progress.phase("reference")
    reference = trajectory(case.images, case.hidden)
    progress.phase("compiling")
    backend = registry.get_backend(backend_name)
    try:
        backend.warm_up(workload, case.threads)
        trainer, loading = timed(lambda: backend.start(workload, reference.dataset, reference.fresh(), case.threads))
    except MnistbenchError as refusal:  # of a number of threads, for example, or for lack of a device's memory
        pytest.skip(str(refusal))
    with trainer:
        effective = trainer.describe().threads
        if case.axes == ("threads",) and effective != case.threads:
            leave_out(f"uses {effective} threads where {case.threads} are asked for")
        progress.phase("comparing")
        measurement = Measurement(trainer, Agreement(backend_name, dtype), reference)
        measurement.compare(gradients=False)
        measurement.tie(COMPARED)
        iteration = settle(trainer)
        paces[backend_name, dtype, case.threads, case.ranks] = Pace(iteration, workload.dense_flops)
        task = replace(workload, iterations=round_length(iteration), name=storage.SCALING)
        progress.phase("rounds", 2 * rounds * task.iterations * iteration)
        starts = Starts(reference)
        time_rounds(benchmark, measurement, starts, rounds, task.iterations)
        progress.phase("repeating rounds", 0.0)
        measurement.confirm(starts, task.iterations, whole=False)
        description = trainer.describe()
        measurement.judge(description)
        found = Row.measured(
            task,
            description,
            ColdStart((Process({"load": loading}, 1, None, None),)),
            timings(benchmark),
            measurement.agreement,
            reference,
            None,
            problem=measurement.problem,
            size=Size(case.axes, case.hidden, case.threads, CHECKED),
            proof=measurement.proof(),
            least_flops=least_flops(task, reference.dataset),
        )
        name_benchmark(benchmark, case, found)
        progress.outcome(outcome(found))
        recording.store(benchmark, found)


def run_job(benchmark: BenchmarkFixture, job: Job, launcher: str, limit: float) -> tuple[Row, float]:
    """Run a case on several ranks, in a job of its own; return its row, and the seconds of an iteration."""
    done: list[tuple[dict[str, Any], list[float], float]] = []
    try:
        benchmark.pedantic(lambda: done.append(run(job, shlex.split(launcher), limit)))  # type: ignore[no-untyped-call]
    except LeftOut as reason:
        leave_out(str(reason))
    except MnistbenchError as error:
        pytest.fail(str(error), pytrace=False)
    record, samples, iteration = done[0]
    timings(benchmark)[:] = samples
    return Row.from_dict(record, samples), iteration


def name_benchmark(benchmark: BenchmarkFixture, case: Case, row: Row) -> None:
    """Name a case's benchmark: pytest-benchmark compares runs of the same name."""
    task = row.workload
    benchmark.name = f"{task.name}-{case}-{row.backend}-{task.dtype}-{task.iterations}-iterations"
    benchmark.fullname = f"benchmarks/test_scaling.py::{benchmark.name}"
    benchmark.group = f"{case}-{task.dtype}"


def leave_out(reason: str | None) -> None:
    """Skip the case if there is a reason, which the summary repeats."""
    if reason:
        pytest.skip(reason)
