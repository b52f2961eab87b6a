"""Results: what was measured is what is read back, and what is not validated is no result."""

from __future__ import annotations

import json
import math
import re
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnistbench.agreement import Agreement, Check, Trajectory
from mnistbench.backends import Arithmetic, Description, Metrics
from mnistbench.backends.base import Ranks
from mnistbench.backends.numpy import NumpyTrainer
from mnistbench.datasets import Dataset, Split
from mnistbench.exceptions import MnistbenchError
from mnistbench.machine import limits
from mnistbench.machine.rates import GpuLimits, Level, Limits
from mnistbench.measurement import Energy
from mnistbench.results import runs, storage
from mnistbench.results.row import SCHEMA, SHARED, Row, Size, Speedup
from mnistbench.task.presets import preset
from mnistbench.task.workload import DTYPES, DType, Workload
from mnistbench.timing.clock import timed
from mnistbench.training.cold import ColdStart, Process
from mnistbench.training.scores import FinalScores
from tests.support.paths import ROOT
from tests.support.rows import ORIGIN, document, sized

PEAK = 1e9
"""What a thread of the machine of these tests can do, in floating-point operations a second."""

LEVELS = (Level("L2", 1 << 20, 8e9), Level("memory", None, 1e9))
"""What all of it can read."""

GPU = GpuLimits({"float64": PEAK}, LEVELS, "Some GPU", 1e-5)


def small(threads: int, again: bool = False, peak: float = PEAK, **others: Any) -> Limits:
    """Its limits."""
    by_dtype: dict[str, float] = dict.fromkeys(DTYPES, peak * threads)
    return replace(Limits(by_dtype, LEVELS, threads, by_dtype, None, None), **others)


@pytest.fixture(autouse=True)
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "limits", small)


def trajectory() -> Trajectory:
    rng = np.random.default_rng(0)
    split = Split(rng.integers(0, 256, (30, 12), np.uint8), rng.permutation(np.arange(30) % 3))
    dataset = Dataset("noise", (3, 4), 3, split, split, None)
    return Trajectory(Workload(dataset.network(4), 30, 10, name="classic"), dataset)


TRAJECTORY = trajectory()
COSTS = {"import": 0.1, "load": 0.2, "compile": 0.3, "tuning": 0.0, "first_call": -0.01, "train": 0.4}
START = ColdStart((Process(COSTS, 10, 10**7, 10**8),), (Process(COSTS | {"compile": 0.05}, 10, None, None),))
GOOD = (Check("W1", 0, 0.0, 0.0), Check("W1", 10, 0.5, 3e-8))


def row(
    backend: str = "numpy",
    dtype: DType = "float64",
    samples: tuple[float, ...] = (0.5, 0.4, 0.6),
    checks: tuple[Check, ...] = GOOD,
    size: Size | None = None,
    interleaved: bool = False,
    timed: int | None = None,
    start: ColdStart | None = START,
    energy: Energy | None = None,
    **description: Any,
) -> Row:
    """A row as a benchmark makes it."""
    found = Description("CPU", 2, {"numpy": "2.0"}, "BLAS")
    return Row.measured(
        TRAJECTORY.workload.with_dtype(dtype),
        replace(found, **description),
        start,
        samples,
        Agreement(backend, dtype, [*checks], errors=[(0, 0.9), (10, 0.25)]),
        TRAJECTORY,
        FinalScores(1.5, 0.75, 0.5, None),
        size=size,
        interleaved=interleaved,
        timed=timed,
        energy=energy,
    )


ENERGY = Energy(0.5, 0.002, 60.0, 900, 40, "NVML")
ROW = row()


def test_a_row_may_lack_cold_starts() -> None:
    found = row(start=None)
    assert (found.costs, found.cold, found.compile_cached, found.peak_memory_bytes) == (
        {"train": 0.5},
        None,
        None,
        None,
    )


def test_what_later_versions_added_is_optional() -> None:
    record = ROW.as_dict()
    for name in ("failed", "arithmetic", "energy"):
        assert record.pop(name) is None
    assert Row.from_dict(record, ROW.samples) == ROW


@pytest.mark.parametrize(
    "own",
    [
        ROW,
        row(checks=(Check("W1", 0, 2.0, math.nan),), gpu={"throttled": "power cap"}, skips="zeros", bytes_read=7),
        row(size=sized(["images", "threads"]), interleaved=True, timed=6),
        row(failed="compiled failed: no compiler", arithmetic=Arithmetic(16, 3), energy=ENERGY, start=None),
    ],
    ids=["plain", "no result", "scaling", "all that is optional"],
)
def test_what_is_stored_is_what_is_read(tmp_path: Path, own: Row) -> None:
    path = storage.store(tmp_path, "classic_0123456", document(own))
    (found,) = storage.load(tmp_path)
    assert found == replace(own, origin=replace(ORIGIN, file=path.name))
    assert json.loads(path.read_text(encoding="utf-8")) == document(own)
    json.dumps(document(own), allow_nan=False)


def test_the_numbers_of_a_row() -> None:
    found = row(samples=(0.5, 0.25, 1.0))
    workload = TRAJECTORY.workload
    assert found.costs == {"import": 0.1, "load": 0.2, "compile": 0.3, "tuning": 0.0, "first_call": -0.01, "train": 0.5}
    assert row(size=sized(["images"])).costs == {"load": 0.2, "train": 0.5}
    assert found.speed.flops_per_second == workload.dense_flops * 10 / 0.5
    assert found.speed.fraction_of_peak(found.limits) == found.speed.flops_per_second / (2 * PEAK)
    assert found.speed.bytes_per_second == 30 * 12 * 10 / 0.5
    assert found.bytes_read == 30 * 12
    assert found.speed.fraction_of_bandwidth(found.limits) == 30 * 12 * 10 / 0.5 / 8e9
    assert found.limits == small(2)
    assert (found.compile_cached, found.peak_memory_bytes) == (0.05, 10**8)
    assert found.data_sha256 == TRAJECTORY.dataset.sha256
    assert found.agreement.trajectory == ((0, 0.0), (10, 3e-8))
    assert found.agreement.tolerance == TRAJECTORY.drift(10, "float64")
    assert (found.dtype, found.validated, found.problem, found.timing.noisy) == ("float64", True, None, True)
    rates = ("dense_flops", "flops_per_second", "fraction_of_peak", "bytes_per_second", "fraction_of_bandwidth")
    assert all(found.as_dict()[name] > 0 for name in rates), "for who reads the file"


def test_rows_of_earlier_versions_are_read() -> None:
    """Those that this project stores, and one of the first, which has no limits."""
    folders = [path for path in (ROOT / "results").iterdir() if path.is_dir()] + [Path(__file__).parent / "earlier"]
    rows = [row for folder in folders for row in storage.load(folder)]
    assert {row.limits is None for row in rows} == {True, False}
    for row in rows:
        again = Row.from_dict(json.loads(json.dumps(row.as_dict())), row.samples, row.origin)
        assert again == row


@pytest.mark.parametrize("error", [1.5, math.inf, math.nan])
def test_a_disagreement_is_no_result(error: float) -> None:
    found = row(checks=(*GOOD, Check("db1", 5, error, error)))
    assert found.validated is False
    assert str(found.problem).startswith("disagrees with the reference: db1 after 5 updates")
    assert found.agreement.passed is False


def test_a_rate_above_the_peak_is_a_measuring_error() -> None:
    flops = TRAJECTORY.workload.dense_flops * 10
    just, beyond = flops / (2 * PEAK) * 1.01, flops / (2 * PEAK) * 0.99
    assert row(samples=(just,)).validated is True
    found = row(samples=(beyond,))
    assert found.validated is False
    assert "above the machine's peak" in str(found.problem)
    # One thread can do half as much.
    assert row(samples=(just,), threads=1).validated is False


def test_a_rate_above_the_peak_is_right_where_work_is_skipped() -> None:
    found = row(samples=(1e-9,), skips="pixels that are 0 in all images")
    assert (found.validated, found.problem) == (True, None)
    assert row(samples=(1e-9,), skips="zeros", checks=(Check("W1", 0, 2.0, 0.0),)).validated is False


def test_what_a_backend_reads_is_what_it_says() -> None:
    found = row(samples=(0.5,), bytes_read=5 << 20)
    assert found.bytes_read == 5 << 20
    assert found.speed.bytes_per_second == (5 << 20) * 10 / 0.5
    assert (
        found.as_dict()["fraction_of_bandwidth"] == found.speed.bytes_per_second / 1e9
    )  # memory's: more than the cache holds
    assert row(bytes_read=0).as_dict()["fraction_of_bandwidth"] == 0


def test_reading_faster_than_the_machine_can_is_a_measuring_error() -> None:
    """Half of 6 MiB read in an iteration come from where they lie: 1 MiB from the cache, 2 from memory."""
    least = 10 * ((1 << 20) / 8e9 + (2 << 20) / 1e9)
    read = 6 << 20
    assert row(samples=(least * 1.01,), bytes_read=read).validated is True
    found = row(samples=(least * 0.99,), bytes_read=read)
    assert found.validated is False
    assert re.fullmatch(
        r"reading [\d.]+ GB/s is above the [\d.]+ GB/s that .* can give, and nothing is skipped", str(found.problem)
    )
    assert found.as_dict()["fraction_of_bandwidth"] > 1
    assert row(samples=(least * 0.99,), skips="zeros", bytes_read=read).validated is True
    # A seventh more bytes need more time.
    assert row(samples=(least * 1.01,), bytes_read=7 << 20).validated is False


@pytest.mark.parametrize(("seconds", "bytes_read"), [(1e-5, 360), (0.01, 6 << 20)])
def test_limits_of_a_bad_moment_are_measured_again(
    seconds: float, bytes_read: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a row is found too fast, for its arithmetic or its reading, and only then."""
    calls: list[bool] = []
    levels = tuple(Level(level.name, level.bytes, 1e6 * level.bytes_per_second) for level in LEVELS)
    good = small(2, peak=1e6 * PEAK, levels=levels)

    def measured(threads: int, again: bool) -> Limits:
        calls.append(again)
        return good if again else small(threads)

    monkeypatch.setattr(limits, "limits", measured)
    assert row(samples=(1.0,), bytes_read=bytes_read).validated is True
    assert calls == [False]
    found = row(samples=(seconds,), bytes_read=bytes_read)
    assert calls == [False, False, True]
    assert (found.validated, found.problem) == (True, None)
    assert found.limits == good


def test_without_the_sizes_of_the_caches_no_reading_is_too_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "limits", lambda threads, again: small(threads, peak=1e30, levels=LEVELS[1:]))
    found = row(samples=(1e-9,), bytes_read=6 << 20)
    assert (found.validated, found.as_dict()["fraction_of_bandwidth"]) == (True, found.speed.bytes_per_second / 1e9)
    monkeypatch.setattr(limits, "limits", lambda threads, again: small(threads, multiply_add={}))
    assert (row().as_dict()["fraction_of_peak"], row().validated) == (None, True)


class Idle(NumpyTrainer):
    """Its iterations take no time, since there are none."""

    skipped: str | None = None

    def advance(self, iterations: int) -> Metrics:
        return Metrics(1.5, 0.75)

    def describe(self) -> Description:
        return replace(super().describe(), skips=self.skipped)


@pytest.mark.parametrize("unknown", ["multiply_add", "levels", None])
def test_a_trainer_that_does_nothing_is_too_fast(unknown: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Either limit is enough to find it out, and what it says it skips excuses it: then agreement is what counts."""
    nothing: dict[str, Any] = {"multiply_add": {}, "levels": LEVELS[1:]}
    others = {} if unknown is None else {unknown: nothing[unknown]}
    monkeypatch.setattr(limits, "limits", lambda threads, again: small(threads, **others))
    classic = preset("classic")
    trainer = Idle(TRAJECTORY.workload, TRAJECTORY.dataset, TRAJECTORY.initial, 1)
    samples = [timed(lambda: trainer.advance(classic.iterations))[1] for _ in range(5)]
    problems = []
    for skipped in (None, "everything"):
        trainer.skipped = skipped
        found = Row.measured(
            classic,
            trainer.describe(),
            START,
            samples,
            Agreement("idle", "float32", [*GOOD]),
            TRAJECTORY,
            FinalScores(1.5, 0.75, 0.5, None),
        )
        problems.append(found.problem)
    assert "and nothing is skipped" in str(problems[0])
    assert problems[1] is None


def test_another_device_has_no_limits_of_the_host() -> None:
    found = row(samples=(1e-9,), device="Some GPU")
    assert [found.as_dict()[name] for name in ("fraction_of_peak", "fraction_of_bandwidth", "problem")] == [None] * 3
    assert found.limits == small(2)


def test_a_gpu_has_its_own_limits_which_its_other_units_may_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "limits", lambda threads, again: small(threads, gpu=GPU))
    found = row(samples=(1e-6,), device="Some GPU", bytes_read=2 << 20)
    assert found.as_dict()["fraction_of_peak"] == found.speed.flops_per_second / PEAK > 1
    assert found.as_dict()["fraction_of_bandwidth"] == found.speed.bytes_per_second / 1e9 > 1
    assert found.validated is True
    assert row(samples=(1e-6,), device="Another GPU").as_dict()["fraction_of_peak"] is None


def test_files_are_numbered(tmp_path: Path) -> None:
    folder = tmp_path / "machine"
    names = [storage.store(folder, "smoke_0123456", document()).name for _ in range(3)]
    assert names == [f"000{k}_smoke_0123456.json" for k in (1, 2, 3)]
    (folder / names[0]).unlink()
    (folder / "0041_classic_abcdef0.json").write_text("{}")
    (folder / "notes.json").write_text("{}")
    assert storage.store(folder, "classic_0123456", document()).name == "0042_classic_0123456.json"


def test_nothing_stored_is_no_rows(tmp_path: Path) -> None:
    assert storage.load(tmp_path / "nowhere") == storage.latest([]) == storage.scaling([]) == []


def entry(**changes: Any) -> str:
    """A document of one row with other fields."""
    found = document(ROW)
    found["benchmarks"][0]["extra_info"] |= changes
    return json.dumps(found)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"benchmarks": 5}',
        json.dumps({**document(ROW), "benchmarks": [{"extra_info": {"schema": SCHEMA}}]}),
        entry(validated=False),
        entry(problem="wrong"),
        entry(costs=None, workload={}),
        entry(workload=ROW.workload.describe() | {"images": -1}),
        entry(limits={"threads": 2}),
        json.dumps({**document(ROW), "machine_info": {}}),
        json.dumps({**document(ROW), "benchmarks": [{"extra_info": ROW.as_dict(), "stats": {"data": []}}]}),
        json.dumps(document(ROW))[:-40],
        b"\xff\xfe",
    ],
)
def test_a_damaged_file_is_named_in_one_line(tmp_path: Path, content: str | bytes) -> None:
    storage.store(tmp_path, "classic_0123456", document(row()))
    path = tmp_path / "0002_classic_0123456.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(MnistbenchError) as caught:
        storage.load(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{path}: not a file of measurements")
    assert message.isprintable()


def test_benchmarks_of_others_are_passed_over(tmp_path: Path) -> None:
    found = document(ROW)
    found["benchmarks"].insert(0, {"extra_info": {"note": "mine"}, "stats": {"data": [1.0]}})
    storage.store(tmp_path, "classic_0123456", found)
    assert [row.backend for row in storage.load(tmp_path)] == ["numpy"]


def lasting(seconds: float, *rows: Row) -> list[Row]:
    return [replace(row, samples=(seconds,)) for row in rows]


def test_the_latest_of_each_backend_and_dtype_counts() -> None:
    rows = [
        *lasting(8.0, row(), row("numba"), row("numba", "float32")),
        *lasting(2.0, row("numba")),
        *lasting(4.0, row("numba")),
    ]
    found = [(row.backend, row.dtype, row.timing.value) for row in storage.latest(rows)]
    assert found == [("numpy", "float64", 8.0), ("numba", "float32", 8.0), ("numba", "float64", 4.0)]
    (last,) = storage.latest([row(), row(checks=())])
    assert last.validated is False, "nothing was compared, and it is the latest"


def test_threads_and_devices_are_kept_apart() -> None:
    one, two = row("numpy", threads=1), row("numpy", threads=2)
    rows = [
        *lasting(8.0, row("numba", threads=1), one),
        *lasting(4.0, two, row("cupy", "float32", device="Some GPU")),
    ]
    found = [(row.backend, row.threads, row.speedup and row.speedup.value) for row in storage.latest(rows)]
    assert found == [("numpy", 1, 1.0), ("numpy", 2, 1.0), ("numba", 1, 1.0), ("cupy", 2, 1.0)]


def test_the_speedup_is_over_numpy_in_float64() -> None:
    rows = [*lasting(12.0, row()), *lasting(3.0, row("numba", "float32"), row("numba"))]
    assert [row.speedup for row in storage.latest(rows)] == [Speedup(1.0), Speedup(4.0), Speedup(4.0)]


def test_the_other_speedup_is_over_numpy_in_the_same_dtype() -> None:
    rows = [*lasting(12.0, row()), *lasting(6.0, row("numpy", "float32")), *lasting(3.0, row("numba", "float32"))]
    assert [row.in_dtype for row in storage.latest(rows)] == [Speedup(1.0), Speedup(1.0), Speedup(2.0)]
    assert [row.in_dtype for row in storage.latest([rows[0], rows[2]])] == [Speedup(1.0), None]


@pytest.mark.parametrize("baseline", [row("numpy", "float32"), row(checks=())])
def test_without_a_valid_baseline_there_is_no_speedup(baseline: Row) -> None:
    assert [row.speedup for row in storage.latest([baseline, row("numba")])] == [None, None]


def test_rows_of_the_same_rounds_have_an_interval_of_their_ratio() -> None:
    numpy = row(samples=(2.0, 2.2, 2.4, 2.6, 2.8, 3.0), interleaved=True)
    numba = row("numba", samples=(1.0, 1.1, 1.2, 1.3, 1.4, 1.5), interleaved=True)
    found = storage.latest([numpy, numba])[1].speedup
    assert found is not None
    assert (found.low, found.value, found.high) == pytest.approx((2, 2, 2))
    elsewhere = replace(numba, origin=replace(ORIGIN, file="another"))
    found = storage.latest([numpy, elsewhere])[1].speedup
    assert found == Speedup(2.0, across_runs=True)


def test_scaling_rows_are_apart_from_all_others() -> None:
    def of_size(seconds: float, images: int, hidden: int = 4, threads: int = 2) -> Row:
        task = replace(TRAJECTORY.workload, name=storage.SCALING, images=images)
        (found,) = lasting(seconds, row("numba", "float32", size=sized(["images"], hidden, threads)))
        return replace(found, workload=task)

    rows = [*lasting(4.0, row("numba", "float32")), of_size(4, 10), of_size(4, 20)]
    rows += [of_size(2, 10), of_size(2, 10, hidden=8), of_size(2, 10, threads=1)]
    assert storage.workloads(rows) == {"classic": rows[:1]}
    assert storage.scaling(rows) == rows[2:]
    assert storage.scaling(rows[:1]) == []


def among(count: int, hosts: int = 1, shared: bool = False) -> Ranks:
    return Ranks((1,) * count, hosts, "MPICH 5.0", "shared memory", 3e-5, shared)


def test_a_row_says_what_its_ranks_were() -> None:
    found = replace(row("numba", "float32"), ranks=among(2))
    record = json.loads(json.dumps(found.as_dict()))
    assert record["ranks"] == {
        "threads": [1, 1],
        "hosts": 1,
        "library": "MPICH 5.0",
        "transport": "shared memory",
        "exchange": 3e-5,
        "shared_cores": False,
    }
    assert Row.from_dict(record, found.samples, found.origin) == found
    earlier = {name: value for name, value in ROW.as_dict().items() if name != "ranks"}
    assert Row.from_dict(earlier, ROW.samples).ranks is None


@pytest.mark.parametrize(
    ("ranks", "allowed", "problem"),
    [(among(4, shared=True), False, SHARED), (among(4, shared=True), True, None), (among(2), False, None)],
)
def test_ranks_that_share_cores_are_no_result_unless_allowed(ranks: Ranks, allowed: bool, problem: str | None) -> None:
    task, description = TRAJECTORY.workload, Description("CPU", 4, {}, ranks=ranks)
    agreement = Agreement("numpy", "float64", [*GOOD])
    found = Row.measured(task, description, None, [1.0], agreement, TRAJECTORY, None, share_cores=allowed)
    assert found.problem == problem
    assert found.ranks == ranks, "the row says so in any case"


@pytest.mark.parametrize(("hosts", "times", "rejected"), [(1, 1.5, True), (2, 1.5, False), (2, 2.5, True)])
def test_several_hosts_may_reach_as_many_times_the_peak(hosts: int, times: float, rejected: bool) -> None:
    """Each rank has the one thread whose peak is known; two hosts have two such peaks."""
    task, description = TRAJECTORY.workload, Description("CPU", hosts, {}, bytes_read=1, ranks=among(hosts, hosts))
    seconds = task.dense_flops * task.iterations / (times * PEAK)
    agreement = Agreement("numpy", "float64", [*GOOD])
    found = Row.measured(task, description, None, [seconds], agreement, TRAJECTORY, None)
    assert (found.problem is not None) is rejected, found.problem
    assert found.as_dict()["fraction_of_peak"] == pytest.approx(times / hosts)
    assert found.limits is not None
    assert found.limits.threads == 1, "those of a host"


def test_rows_of_several_ranks_are_apart_from_those_of_one_process() -> None:
    alone = [*lasting(4.0, row("numpy")), *lasting(2.0, row("numba"))]
    shared = [replace(alone[0], ranks=ranks) for ranks in (among(2), among(1), among(2), among(2, hosts=2))]
    everything = [shared[0], *alone, *shared[1:]]
    assert storage.workloads(everything) == {"classic": alone}
    assert storage.of_ranks(everything) == shared[1:], "the last of each number of ranks, and of hosts"
    assert storage.of_ranks(alone) == []
    names = {storage.case_name(one.workload, one.backend, one.threads, one.ranks) for one in everything}
    assert len(names) == 4, "two numbers of ranks, and two backends in one process"


def test_a_size_is_one_for_each_number_of_ranks() -> None:
    task = replace(TRAJECTORY.workload, name=storage.SCALING)
    rows = [replace(row(size=sized(["ranks"])), workload=task, ranks=among(count)) for count in (1, 2, 4, 2)]
    assert storage.scaling(rows) == [rows[0], rows[2], rows[3]]
    assert storage.of_ranks(rows) == []


@pytest.mark.parametrize("commit", [{}, {"time": None}, {"time": "2025-02-01T10:00:00+00:00"}])
def test_the_date_of_a_commit_is_read_where_it_is_known(tmp_path: Path, commit: dict[str, Any]) -> None:
    content = document(ROW)
    content["commit_info"] |= commit
    storage.store(tmp_path, "classic_a", content)
    (found,) = storage.load(tmp_path)
    assert found.origin.commit_date == commit.get("time")


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=20))
def test_every_round_is_kept_as_pytest_benchmark_would(samples: list[float]) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(limits, "limits", lambda threads, again: small(threads, peak=1e30))
        written = runs.entry(row(samples=tuple(samples), interleaved=True))
        storage.store(Path(folder), "classic_a", document() | {"benchmarks": [written]})
        (found,) = storage.load(Path(folder))
    assert found.samples == tuple(samples)
    assert found.costs["train"] == found.timing.value == written["stats"]["median"]
    assert written["stats"]["rounds"] == len(samples)


def test_without_pytest_benchmark_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytest_benchmark.stats", None)
    with pytest.raises(MnistbenchError, match=r"needs pytest-benchmark: pip install 'mnistbench\[bench\]'$"):
        runs.Run(Path(), "classic", {})
