"""Results: what was measured is what is read back, and what is not validated is no result."""

from __future__ import annotations

import json
import math
import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnistbench.agreement import Agreement, Check, Trajectory
from mnistbench.backends import Metrics
from mnistbench.backends.numpy import NumpyTrainer
from mnistbench.datasets import Dataset, Split
from mnistbench.exceptions import MnistbenchError
from mnistbench.machine import limits
from mnistbench.machine.rates import GpuLimits, Level, Limits
from mnistbench.results import storage
from mnistbench.task.presets import preset
from mnistbench.task.workload import DTYPES, DType, Workload
from mnistbench.timing import statistics
from mnistbench.timing.clock import Costs, timed
from mnistbench.training.cold import ColdStart

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
GOOD = (Check("W1", 0, 0.0, 0.0), Check("W1", 10, 0.5, 3e-8))


def row(
    backend: str = "numpy",
    dtype: DType = "float64",
    samples: tuple[float, ...] = (0.5, 0.4, 0.6),
    checks: tuple[Check, ...] = GOOD,
    **description: Any,
) -> dict[str, Any]:
    """A row as a benchmark makes it."""
    found = {"device": "CPU", "threads": 2, "kernel": "BLAS", "skips": None, "versions": {"numpy": "2.0"}}
    history = [Metrics(0, 2.5, 0.125), Metrics(10, 1.5, 0.75)]
    return storage.row(
        TRAJECTORY.workload.with_dtype(dtype),
        found | description,
        ColdStart(Costs(0.1, 0.2, 0.3, 0.4), 0.05, 10**8),
        samples,
        Agreement(backend, dtype, [*checks], history),
        TRAJECTORY,
        {"loss": 1.5, "train_accuracy": 0.75, "dev_accuracy": 0.5, "test_accuracy": None},
    )


def document(*rows: dict[str, Any], samples: tuple[float, ...] = (0.5, 0.4, 0.6), day: int = 1) -> dict[str, Any]:
    """What pytest-benchmark writes of them."""
    return {
        "machine_info": {"name": "Some CPU, 2 CPUs"},
        "commit_info": {"id": "0123456789abcdef", "dirty": False},
        "datetime": f"2025-03-{day:02}T12:00:00+00:00",
        "benchmarks": [
            {"name": f"test_training[{r.get('backend')}]", "extra_info": r, "stats": {"data": [*samples]}} for r in rows
        ],
    }


def test_what_is_stored_is_what_is_read(tmp_path: Path) -> None:
    own = row()
    path = storage.store(tmp_path, "classic_0123456", document(own))
    (found,) = storage.load(tmp_path).to_dict("records")
    unchanged = set(own) - {"workload", "agreement"}
    assert {key: found[key] for key in unchanged} == {key: own[key] for key in unchanged}
    middle = statistics.median([0.5, 0.4, 0.6])
    assert (found["median"], found["low"], found["high"]) == (middle.value, middle.low, middle.high)
    assert (found["level"], found["noisy"]) == (middle.level, True)
    assert (found["workload"], found["dtype"], found["images"], found["iterations"]) == ("classic", "float64", 30, 10)
    assert found["accuracy"] == 0.75
    assert found["agreement"] == [{"iteration": 0, "error": 0.0}, {"iteration": 10, "error": 3e-8}]
    assert found["tolerance"] == TRAJECTORY.drift(10, "float64")
    assert found["history"][1] == {"iteration": 10, "loss": 1.5, "accuracy": 0.75}
    assert (found["machine"], found["commit"], found["dirty"]) == ("Some CPU, 2 CPUs", "0123456789abcdef", False)
    assert found["file"] == path.name
    assert json.loads(path.read_text(encoding="utf-8")) == document(own)


def test_the_numbers_of_a_row() -> None:
    found = row(samples=(0.5, 0.25, 1.0))
    workload = TRAJECTORY.workload
    assert found["costs"] == {"import": 0.1, "load": 0.2, "compile": 0.3, "train": 0.5}
    assert found["flops_per_second"] == workload.dense_flops * 10 / 0.5
    assert found["peak_flops_per_second"] == 2 * PEAK
    assert found["fraction_of_peak"] == found["flops_per_second"] / (2 * PEAK)
    assert found["image_bytes_per_second"] == found["bytes_per_second"] == 30 * 12 * 10 / 0.5
    assert found["bytes_read"] == 30 * 12
    assert found["fraction_of_bandwidth"] == 30 * 12 * 10 / 0.5 / 8e9
    assert Limits.from_dict(json.loads(json.dumps(found["limits"]))) == small(2)
    assert (found["compile_cached"], found["peak_memory_bytes"]) == (0.05, 10**8)
    assert found["data_sha256"] == TRAJECTORY.dataset.sha256
    assert found["workload"]["dtype"] == "float64"
    assert (found["validated"], found["problem"]) == (True, None)
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("error", [1.5, math.inf, math.nan])
def test_a_disagreement_is_no_result(error: float) -> None:
    found = row(checks=(*GOOD, Check("db1", 5, error, error)))
    assert found["validated"] is False
    assert found["problem"].startswith("disagrees with the reference: db1 after 5 updates")
    assert found["agreement"]["passed"] is False


def test_nothing_compared_is_no_result() -> None:
    assert row(checks=())["validated"] is False


def test_a_rate_above_the_peak_is_a_measuring_error() -> None:
    flops = TRAJECTORY.workload.dense_flops * 10
    just, beyond = flops / (2 * PEAK) * 1.01, flops / (2 * PEAK) * 0.99
    assert row(samples=(just,))["validated"] is True
    found = row(samples=(beyond,))
    assert found["validated"] is False
    assert "above the machine's peak" in found["problem"]
    # One thread can do half as much.
    assert row(samples=(just,), threads=1)["validated"] is False


def test_a_rate_above_the_peak_is_right_where_work_is_skipped() -> None:
    found = row(samples=(1e-9,), skips="pixels that are 0 in all images")
    assert (found["validated"], found["problem"]) == (True, None)
    assert row(samples=(1e-9,), skips="zeros", checks=(Check("W1", 0, 2.0, 0.0),))["validated"] is False


def test_what_a_backend_reads_is_what_it_says() -> None:
    found = row(samples=(0.5,), bytes_read=5 << 20)
    assert found["bytes_read"] == 5 << 20
    assert found["bytes_per_second"] == (5 << 20) * 10 / 0.5
    assert found["fraction_of_bandwidth"] == found["bytes_per_second"] / 1e9  # memory's: more than the cache holds
    assert row(bytes_read=0)["fraction_of_bandwidth"] == 0


def test_reading_faster_than_the_machine_can_is_a_measuring_error() -> None:
    """Of 6 MiB read in an iteration, half come from where they lie: 1 MiB from the cache, 2 from memory."""
    least = 10 * ((1 << 20) / 8e9 + (2 << 20) / 1e9)
    read = 6 << 20
    assert row(samples=(least * 1.01,), bytes_read=read)["validated"] is True
    found = row(samples=(least * 0.99,), bytes_read=read)
    assert found["validated"] is False
    assert re.fullmatch(r"reading \d+ GB/s is above the \d+ that .* can give, and nothing is skipped", found["problem"])
    assert found["fraction_of_bandwidth"] > 1
    assert row(samples=(least * 0.99,), skips="zeros", bytes_read=read)["validated"] is True
    # A seventh more bytes need more time.
    assert row(samples=(least * 1.01,), bytes_read=7 << 20)["validated"] is False


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
    assert row(samples=(1.0,), bytes_read=bytes_read)["validated"] is True
    assert calls == [False]
    found = row(samples=(seconds,), bytes_read=bytes_read)
    assert calls == [False, False, True]
    assert (found["validated"], found["problem"]) == (True, None)
    assert found["limits"] == good.as_dict()
    assert found["peak_flops_per_second"] == 2e6 * PEAK


def test_without_the_sizes_of_the_caches_no_reading_is_too_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "limits", lambda threads, again: small(threads, peak=1e30, levels=LEVELS[1:]))
    found = row(samples=(1e-9,), bytes_read=6 << 20)
    assert (found["validated"], found["fraction_of_bandwidth"]) == (True, found["bytes_per_second"] / 1e9)


class Idle(NumpyTrainer):
    """Its iterations take no time, since there are none."""

    skipped: str | None = None

    def advance(self, iterations: int) -> Metrics:
        return Metrics(iterations - 1, 1.5, 0.75)

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "skips": self.skipped}


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
        found = storage.row(
            classic,
            trainer.describe(),
            ColdStart(Costs(0.1, 0.2, 0.3, 0.4), 0.05, None),
            samples,
            Agreement("idle", "float32", [*GOOD]),
            TRAJECTORY,
            {"loss": 1.5, "train_accuracy": 0.75, "dev_accuracy": 0.5, "test_accuracy": None},
        )
        problems.append(found["problem"])
    assert "and nothing is skipped" in problems[0]
    assert problems[1] is None


def test_another_device_has_no_limits_of_the_host() -> None:
    found = row(samples=(1e-9,), device="Some GPU")
    limited = ("peak_flops_per_second", "fraction_of_peak", "fraction_of_bandwidth", "problem")
    assert [found[name] for name in limited] == [None] * 4
    assert found["limits"]["threads"] == 2


def test_a_gpu_has_its_own_limits_which_its_other_units_may_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "limits", lambda threads, again: small(threads, gpu=GPU))
    found = row(samples=(1e-6,), device="Some GPU", bytes_read=2 << 20)
    assert found["peak_flops_per_second"] == PEAK
    assert found["fraction_of_peak"] == found["flops_per_second"] / PEAK > 1
    assert found["fraction_of_bandwidth"] == found["bytes_per_second"] / 1e9 > 1
    assert found["validated"] is True
    assert row(samples=(1e-6,), device="Another GPU")["fraction_of_peak"] is None


def test_an_unknown_peak_rejects_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "limits", lambda threads, again: small(threads, multiply_add={}))
    found = row()
    assert (found["peak_flops_per_second"], found["fraction_of_peak"], found["validated"]) == (None, None, True)


def test_rows_without_limits_are_read_beside_those_with(tmp_path: Path) -> None:
    """As they were stored before there were any."""
    new = ("bytes_read", "bytes_per_second", "fraction_of_bandwidth", "limits")
    old = {name: value for name, value in row("numba").items() if name not in new}
    storage.store(tmp_path, "classic_a", document(old, samples=(2.0,)))
    (alone,) = storage.load(tmp_path).to_dict("records")
    assert not set(new) & set(alone)
    storage.store(tmp_path, "classic_b", document(row(), samples=(8.0,), day=2))
    numpy, numba = storage.latest(storage.load(tmp_path), "classic").to_dict("records")
    assert numba["speedup"] == 4
    assert math.isnan(numba["fraction_of_bandwidth"])
    assert numpy["limits"]["threads"] == 2


def test_files_are_numbered(tmp_path: Path) -> None:
    folder = tmp_path / "machine"
    names = [storage.store(folder, "smoke_0123456", document()).name for _ in range(3)]
    assert names == [f"000{k}_smoke_0123456.json" for k in (1, 2, 3)]
    (folder / names[0]).unlink()
    (folder / "0041_classic_abcdef0.json").write_text("{}")
    (folder / "notes.json").write_text("{}")
    assert storage.store(folder, "classic_0123456", document()).name == "0042_classic_0123456.json"


def test_nothing_stored_is_an_empty_table(tmp_path: Path) -> None:
    rows = storage.load(tmp_path / "nowhere")
    assert rows.empty
    assert storage.latest(rows, "classic").empty


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"benchmarks": 5}',
        json.dumps({"benchmarks": [{"extra_info": {"schema": storage.SCHEMA}}]}),
        json.dumps(document({"schema": storage.SCHEMA})),
        json.dumps({**document(row()), "machine_info": {}}),
        json.dumps(document(row(), samples=())),
        json.dumps(document(row()))[:-40],
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
    storage.store(tmp_path, "classic_0123456", document({"note": "mine"}, row()))
    assert storage.load(tmp_path)["backend"].tolist() == ["numpy"]


def test_the_latest_of_each_backend_and_dtype_counts(tmp_path: Path) -> None:
    storage.store(tmp_path, "classic_a", document(row(), row("numba"), row("numba", "float32"), samples=(8.0,)))
    storage.store(tmp_path, "classic_b", document(row("numba"), samples=(2.0,), day=2))
    storage.store(tmp_path, "classic_c", document(row("numba"), samples=(4.0,), day=3))
    found = storage.latest(storage.load(tmp_path), "classic")
    medians = {(r["backend"], r["dtype"]): r["median"] for r in found.to_dict("records")}
    assert medians == {("numpy", "float64"): 8.0, ("numba", "float32"): 8.0, ("numba", "float64"): 4.0}
    assert found.attrs["images"] == 30
    assert [*found.index] == [0, 1, 2]
    assert storage.latest(storage.load(tmp_path), "smoke").empty


def test_threads_and_devices_are_kept_apart(tmp_path: Path) -> None:
    one, two = row("numpy", threads=1), row("numpy", threads=2)
    storage.store(tmp_path, "classic_a", document(row("numba", threads=1), one, samples=(8.0,)))
    storage.store(tmp_path, "classic_b", document(two, row("cupy", "float32", device="Some GPU"), samples=(4.0,)))
    found = storage.latest(storage.load(tmp_path), "classic").to_dict("records")
    assert [(r["backend"], r["threads"], r["speedup"]) for r in found] == [
        ("numpy", 1, 1.0),
        ("numpy", 2, 1.0),
        ("numba", 1, 1.0),
        ("cupy", 2, 1.0),
    ]


def test_a_later_run_that_is_no_result_replaces_an_earlier_one(tmp_path: Path) -> None:
    storage.store(tmp_path, "classic_a", document(row()))
    storage.store(tmp_path, "classic_b", document(row(checks=()), day=2))
    (found,) = storage.latest(storage.load(tmp_path), "classic").to_dict("records")
    assert found["validated"] is False


def test_the_speedup_is_over_numpy_in_float64(tmp_path: Path) -> None:
    storage.store(tmp_path, "classic_a", document(row(), samples=(12.0,)))
    storage.store(tmp_path, "classic_b", document(row("numba", "float32"), row("numba"), samples=(3.0,)))
    found = storage.latest(storage.load(tmp_path), "classic")
    speedups = {(r["backend"], r["dtype"]): r["speedup"] for r in found.to_dict("records")}
    assert speedups == {("numpy", "float64"): 1.0, ("numba", "float32"): 4.0, ("numba", "float64"): 4.0}


@pytest.mark.parametrize("baseline", [row("numpy", "float32"), row(checks=())])
def test_without_a_valid_baseline_there_is_no_speedup(tmp_path: Path, baseline: dict[str, Any]) -> None:
    storage.store(tmp_path, "classic_a", document(baseline, row("numba")))
    assert storage.latest(storage.load(tmp_path), "classic")["speedup"].isna().all()


def sized(images: int, hidden: int = 4, threads: int = 2, **fields: Any) -> dict[str, Any]:
    """A row of the scaling benchmark."""
    found = row("numba", "float32") | {"hidden": hidden, "allowed_threads": threads, "axes": ["images"], **fields}
    return found | {"workload": {**found["workload"], "name": storage.SCALING, "images": images}}


def test_scaling_rows_are_apart_from_all_others(tmp_path: Path) -> None:
    storage.store(tmp_path, "scaling_a", document(row("numba", "float32"), sized(10), sized(20), samples=(4.0,)))
    storage.store(tmp_path, "scaling_b", document(sized(10), sized(10, hidden=8), sized(10, threads=1), samples=(2.0,)))
    rows = storage.load(tmp_path)
    (classic,) = storage.latest(rows, "classic").to_dict("records")
    assert (classic["images"], classic["median"]) == (30, 4.0)
    found = storage.scaling(rows).to_dict("records")
    assert [(r["images"], r["hidden"], r["allowed_threads"], r["median"]) for r in found] == [
        (20, 4, 2, 4.0),
        (10, 4, 2, 2.0),
        (10, 8, 2, 2.0),
        (10, 4, 1, 2.0),
    ]
    assert found[0]["axes"] == ["images"]


def test_without_scaling_rows_there_are_none(tmp_path: Path) -> None:
    assert storage.scaling(storage.load(tmp_path)).empty
    storage.store(tmp_path, "classic_a", document(row()))
    assert storage.scaling(storage.load(tmp_path)).empty


@pytest.mark.parametrize("commit", [{}, {"time": None}, {"time": "2025-02-01T10:00:00+00:00"}])
def test_the_date_of_a_commit_is_read_where_it_is_known(tmp_path: Path, commit: dict[str, Any]) -> None:
    content = document(row())
    content["commit_info"] |= commit
    storage.store(tmp_path, "classic_a", content)
    assert storage.load(tmp_path)["commit_date"].tolist() == [commit.get("time")]


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=20))
def test_every_round_is_kept(samples: list[float]) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(limits, "limits", lambda threads, again: small(threads, peak=math.inf))
        storage.store(Path(folder), "classic_a", document(row(samples=tuple(samples)), samples=tuple(samples)))
        (found,) = storage.load(Path(folder)).to_dict("records")
    assert found["samples"] == samples
    assert found["costs"]["train"] == found["median"]
