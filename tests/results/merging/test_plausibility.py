"""Runs, rows and trainings that are not believed."""

from __future__ import annotations

import copy
import json
import math
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

from mnistbench import charts
from mnistbench.agreement import tolerance
from mnistbench.machine.identity import Machine
from mnistbench.results import storage
from mnistbench.results.merging import Refused
from mnistbench.results.merging.limits import too_fast
from mnistbench.task.presets import PRESETS
from mnistbench.task.workload import Workload
from tests.support.merging import (
    AMD,
    EARLIER,
    ERRORS,
    INTEL,
    RESULTS,
    ROW,
    RUN,
    STATS,
    Change,
    counts,
    few,
    merged,
    put,
    refusal,
    theirs,
    without,
)

LIES: list[tuple[Change, str]] = [
    # The run.
    (without("machine_info"), "machine_info is missing"),
    (without("machine_info", "memory_gib"), "memory_gib of machine_info is missing"),
    (put("extra")(1), "field 'extra' is unknown; if a later version wrote it, update mnistbench"),
    (put("machine_info", "name")("n" * 121), "machine_info, name is 'nnn"),
    (put("machine_info", "memory_gib")(-1), "machine_info, memory_gib is -1, and not a number from 0 to"),
    (put("machine_info", "usable_cpus")(True), "machine_info, usable_cpus is true"),
    (put("commit_info", "id")("main"), "commit_info, id is 'main', and not a commit of 7 to 64 hexadecimal digits"),
    (put("commit_info", "id")("494D741"), "commit_info, id is"),
    (put("commit_info", "id")("../../etc"), "commit_info, id is"),
    (put("commit_info", "dirty")(0), "commit_info, dirty is 0, and not true or false"),
    (put("commit_info", "time")("yesterday"), "commit_info, time is 'yesterday'"),
    (put("commit_info", "time")("2026-12-24T12:00:00+00:00"), "its commit, of 2026-12-24T12:00:00+00:00, is younger"),
    (put("datetime")("2126-11-27T17:36:55+00:00"), "its date 2126-11-27T17:36:55+00:00 is in the future"),
    (put("datetime")("2026-11-27T17:36:55"), "datetime is '2026-11-27T17:36:55'"),
    (put("datetime")("2026-11-27T17:36:55-08:00"), "and not in UTC"),
    (put("datetime")("2026-13-27T17:36:55+00:00"), "datetime is '2026-13"),
    (put("datetime")("\u0662026-11-27T17:36:55+00:00"), "datetime is"),
    (put("benchmarks")([]), "benchmarks has 0 values"),
    (put("benchmarks")({}), "benchmarks is an object, and not a list"),
    # The form of a row.
    (put("benchmarks", 0)(None), "is null, and not an object"),
    (put(*ROW, "schema")(2), "extra_info, schema is 2, and not 1"),
    (put(*ROW, "schema")(True), "extra_info, schema is true, and not 1"),
    (put(*ROW, "backend")("a backend"), "extra_info, backend is 'a backend', and not a name"),
    (put(*ROW, "backend")("../numba"), "extra_info, backend is"),
    (put(*ROW, "threads")(2.0), "extra_info, threads is 2, and not a whole number from 1"),
    (put(*ROW, "threads")(0), "extra_info, threads is 0"),
    (put(*ROW, "kernel")("k" * 1001), "extra_info, kernel is"),
    (put(*ROW, "kernel")(None), "extra_info, kernel is null, and not a text"),
    (put(*ROW, "versions")({"v" + str(i): "1" for i in range(65)}), "has 65 fields, more than 64"),
    (put(*ROW, "gpu")({"throttled": 1}), "extra_info, gpu, throttled is 1, and not a text"),
    (put(*ROW, "gpu")({"clock": {}}), "is an object"),
    (put(*ROW, "costs", "load")("fast"), "extra_info, costs, load is 'fast'"),
    (put(*ROW, "costs", "magic")(1.0), "field 'magic' of extra_info, costs is unknown"),
    (put(*ROW, "data_sha256")("x" * 64), "extra_info, data_sha256 is"),
    (put(*ROW, "workload", "dtype")("float16"), "dtype is 'float16', and not float32 or float64"),
    (put(*ROW, "workload", "network")([784]), "network has 1 value, and not 2 to 64"),
    (put(*ROW, "workload", "iterations")(2**31), "iterations is 2147483648, and not a whole number"),
    (put(*ROW, "workload", "iterations")(10**19), "iterations is"),
    (put(*ROW, "workload", "learning_rate")(0), "learning_rate is 0"),
    (put(*ROW, "workload", "name")("a/b"), "workload, name is 'a/b'"),
    (put(*ROW, "limits", "levels")([]), "levels has 0 values"),
    (put(*ROW, "limits", "multiply_add", "float32")(1e30), "multiply_add, float32 is 1e+30"),
    (put(*ROW, "proof", "checks", 0)("magic"), "proof, checks 1 is 'magic'"),
    (put(*ROW, "proof", "seeds", 0)("xyz"), "proof, seeds 1 is 'xyz'"),
    (put(*ROW, "final", "loss")(-1), "final, loss is -1"),
    (put(*ROW, "final", "test_accuracy")(1.5), "final, test_accuracy is 1.5"),
    (put(*ROW, "final", "train_accuracy")(None), "final, train_accuracy is null, and not a number"),
    (put(*ROW, "final", "loss")(None), "final, train_accuracy is 0.8"),
    (put(*ROW, "energy")({"counter": "mine"}), "joules of extra_info, energy is missing"),
    (put(*STATS, "data", 0)(0), "stats, data 1 is 0"),
    (put(*STATS, "data", 0)(-1.0), "stats, data 1 is -1"),
    (put(*STATS, "data")([]), "stats, data has 0 values"),
    (without(*STATS, "median"), "median of stats is missing"),
    # What follows from the rest.
    (put(*ROW, "validated")(False), "validated is false, and problem is null"),
    (put(*ROW, "problem")("wrong"), "validated is true, and problem is 'wrong'"),
    (put(*ROW, "dense_flops")(1), "dense_flops is 1, where the rest of the row gives 1310360000"),
    (put(*ROW, "flops_per_second")(1e12), "flops_per_second is 1e+12, where the rest of the row gives 6.2"),
    (put(*ROW, "fraction_of_peak")(0.5), "fraction_of_peak is 0.5"),
    (put(*ROW, "costs", "train")(1.0), "costs, train is 1, where the rounds give 10.4719"),
    (put(*ROW, "costs", "load")(1e-3), "load is 0.001, where the new processes give 0.19"),
    (put(*ROW, "peak_memory_bytes")(1), "peak_memory_bytes is 1, where the new processes give 230191104"),
    (put(*ROW, "processes")([7, 7]), "15 timings of processes with [7, 7] rounds"),
    (put(*ROW, "processes")([15]), "watched is of 5 processes, where 1 ran"),
    (put(*ROW, "timed")(500), "timed is 500, of 500 iterations"),
    (put(*ROW, "timed")(50), "is 10.5 s, where its clock gives 21.0 s"),
    (put(*ROW, "proof", "seeds")(["1"]), "proof, seeds is of 1 rounds, where 15 were timed"),
    (put(*ROW, "proof", "advance", 3)(0.5), "round 4 is"),
    (put(*ROW, "proof", "cpu")([100.0] * 15), "declares 2 threads, and spent 48 CPU seconds a second"),
    (put(*ROW, "cold", "empty", 0, "iterations")(501), "a new process trained 501 of 500 iterations"),
    (without(*ROW, "cold", "empty", 0, "costs", "import"), "import of extra_info, cold, empty 1, costs is missing"),
    (without(*ROW, "costs", "compile"), "costs are import, load, tuning, first_call, train: some of a new process"),
    (put(*ROW, "hidden")(10), "hidden is 10, where the rest of the row gives null"),
    (put(*STATS, "rounds")(14), "stats, rounds is 14, where the rounds give 15"),
    (put(*STATS, "median")(10.0), "stats, median is 10, where the rounds give 10.4719"),
    (put(*STATS, "total")(157.0), "stats, total is 157"),
    (put(*STATS, "stddev")(0.0), "stats, stddev is 0"),
    (put(*STATS, "q1")(5.0), "stats, q1 is 5, outside of the rounds"),
    # Agreement, task, machine.
    (put(*ROW, "agreement", "passed")(False), "validated is true, and agreement, passed is false"),
    (put(*ROW, "agreement", "tolerance")(1e-9), "passed is true, and the error after 1 iteration is 5×10⁻⁸ of 10⁻⁹"),
    (put(*ROW, "agreement", "tolerance")(1.0), "agreement, tolerance is 1.0, more than"),
    (put(*ROW, "agreement", "summary")("fine"), "does not name the worst comparison"),
    (put(*ROW, "agreement", "summary")("W1 after 0 updates: 1.5 of its tolerance"), "its summary says"),
    (put(*ROW, "agreement", "summary")("W1 after 0 updates: nan of its tolerance"), "its summary says"),
    (put(*ROW, "agreement", "trajectory")([]), "trajectory is empty"),
    (put(*ROW, "agreement", "trajectory", 0, "iteration")(501), "iterations out of order"),
    (put(*ROW, "workload", "learning_rate")(0.2), "workload is named classic, and is not that preset"),
    (put(*ROW, "data_sha256")("0" * 64), "data_sha256 is not that of 41,000 images of MNIST with seed 0"),
    (put(*ROW, "agreement", "summary")("W1 after 0 updates: -1 of its tolerance"), "its summary says"),
    (without(*ROW, "agreement", "trajectory", -1), "agreement, trajectory ends after 200 of 500 iterations"),
    (put(*ROW, "final", "loss")(0.01), "final, loss is 0.01, and with a train_accuracy of 0.8"),
    (
        put(*ROW, "final", "train_accuracy")(0.85001),
        "final, train_accuracy is 0.85001, which is no whole number of 41,000",
    ),
    (
        put(*ROW, "final", "test_accuracy")(0.85001),
        "final, test_accuracy is 0.85001, which is no whole number of 10,000",
    ),
    (put(*ROW, "final", "test_accuracy")(1.0), "final, test_accuracy is 1, which no network reaches"),
    (put(*ROW, "errors")([{"iteration": 500, "error": 0.5}]), "errors end at 0.5, where final, test_accuracy is 0.8"),
    (put(*ROW, "errors")([{"iteration": 400, "error": 0.1}]), "errors ends after 400 of 500 iterations"),
    (
        put(*ROW, "errors")([{"iteration": 500, "error": 0.14307}]),
        "errors is 0.14307, which is no whole number of 10,000",
    ),
    (put(*ROW, "workload", "name")("scaling"), "workload is named scaling, and the row has no size"),
    (put(*ROW, "device")("Some GPU"), "and the machine has no GPU"),
    (put(*ROW, "peak_memory_bytes")(25 << 30), "peak_memory_bytes is 25 GiB, and the machine has 24 GiB"),
    (
        put(*ROW, "cold", "kernels", 0, "peak_memory")(25 << 30),
        "peak_memory of a new process is 25 GiB, and the machine",
    ),
    (put(*ROW, "cold", "empty", 0, "baseline_memory")(2**33), "a new process began with 8 GiB, above its peak of"),
    (put(*ROW, "costs", "load")(-1.0), "costs, load is -1, and not a number from 0"),
    (put(*ROW, "cold", "empty", 0, "costs", "import")(-1.0), "costs, import is -1, and not a number from 0"),
    (put(*ROW, "compile_cached")(-1.0), "compile_cached is -1, and not a number from 0"),
    (put(*STATS, "data")([1.0] * 1_001), "stats, data has 1,001 values, and not 1 to 1,000"),
    (put(*ROW, "limits", "threads")(1), "limits are of 1 thread, and the row is of 2"),
]


RANKS: dict[str, Any] = {"threads": [1, 1], "hosts": 1, "library": "MPI 4", "transport": "shared memory"}
RANKS |= {"exchange": 0.1, "shared_cores": False}
LIES += [
    (put(*ROW, "ranks")(RANKS | {"threads": [1, 2]}), "ranks have 3 threads, and the row has 2"),
    (put(*ROW, "ranks")(RANKS | {"hosts": 3}), "ranks are 2, on 3 hosts"),
    (put(*ROW, "ranks")(RANKS | {"threads": []}), "extra_info, ranks, threads has 0 values"),
    (put(*ROW, "ranks")(RANKS | {"exchange": -1}), "extra_info, ranks, exchange is -1"),
    (put(*ROW, "ranks")({}), "threads of extra_info, ranks is missing"),
    # Texts and numbers of no form.
    (put(*ROW, "kernel")("\x1b[2J"), r"extra_info, kernel is '\x1b[2J', which is not printable"),
    (put(*ROW, "gpu")({"clock": "\ud800"}), r"extra_info, gpu, 'clock' is '\ud800', which is not printable"),
    (put(*ROW, "gpu")({"clock": math.nan}), "extra_info, gpu, 'clock' is nan, and not a number of JSON"),
    (put("benchmarks", 0, "options")({"a": ["\u202e"]}), r"options, 'a', 1 is '\u202e', which is not printable"),
    (put("benchmarks", 0, "params")({"\n": 1}), r"a name in params is '\n', which is not printable"),
    (put("benchmarks", 0, "options")({"a": math.inf}), "options, 'a' is inf, and not a number of JSON"),
    (put(*STATS, "data", 0)(math.nan), "stats, data 1 is nan, and not a number"),
    (put(*STATS, "max")(math.inf), "stats, max is inf, and not a number"),
]


@pytest.mark.parametrize(("change", "reason"), LIES, ids=[reason for _, reason in LIES])
def test_a_row_that_is_not_believed(tmp_path: Path, change: Change, reason: str) -> None:
    document = few(RUN, 1)
    change(document)
    assert reason in refusal(tmp_path, document)


def faster(document: dict[str, Any], times: float) -> dict[str, Any]:
    """The first row several times as fast, in every number that follows from the seconds; the rest of it, and it."""
    entry = document["benchmarks"][0]
    row: dict[str, Any] = entry["extra_info"]
    stats = entry["stats"]
    for name in ("min", "max", "mean", "median", "total", "stddev", "q1", "q3", "ld15iqr", "hd15iqr", "iqr"):
        stats[name] /= times
    stats["ops"] *= times
    stats["data"] = [seconds / times for seconds in stats["data"]]
    for name in ("advance", "whole", "cpu"):
        row["proof"][name] = [seconds / times for seconds in row["proof"][name]]
    row["costs"]["train"] /= times
    for name in ("flops_per_second", "fraction_of_peak", "bytes_per_second", "fraction_of_bandwidth"):
        row[name] *= times
    return row


def test_a_rate_above_the_limits_that_the_machine_states(tmp_path: Path) -> None:
    document = few(RUN, 1)
    row = faster(document, 10)
    assert "is above the machine's peak of 538 GFLOP/s, and nothing is skipped" in refusal(tmp_path, document)
    row["skips"] = "almost everything"
    row["limits"]["multiply_add"]["float32"] /= 10
    row["fraction_of_peak"] *= 10
    assert "counting only what cannot be skipped" in refusal(tmp_path, document)


@pytest.mark.parametrize("limits", [None, {}, {"float64": 1e11}], ids=str)
@pytest.mark.parametrize("times", [1, 1_000])
def test_a_result_without_limits(tmp_path: Path, limits: dict[str, float] | None, times: float) -> None:
    document = few(RUN, 1)
    row = faster(document, times)
    row["fraction_of_peak"] = None
    if limits is None:
        row |= {"limits": None, "fraction_of_bandwidth": None}
        assert refusal(tmp_path, document) == "limits are missing, which a result has"
    else:
        row["limits"]["multiply_add"] = limits
        assert refusal(tmp_path, document).startswith("limits, multiply_add has no float32")


def test_a_rate_that_no_machine_reaches_whatever_it_states(tmp_path: Path) -> None:
    document = few(RUN, 1)
    row = faster(document, 10_000)
    row["limits"]["multiply_add"]["float32"] *= 10_000
    row["fraction_of_peak"] /= 10_000
    row["skips"] = "almost everything"
    assert "FLOP/s at least is above the 8.00 TFLOP/s that its threads can reach" in refusal(tmp_path, document)
    row |= {"device": "Some GPU", "fraction_of_peak": None, "fraction_of_bandwidth": None}
    document["machine_info"]["gpu"] = "Some GPU"
    assert counts(merged(theirs(tmp_path, document), tmp_path / "gpu")) == (1, 0, 0)
    seconds = document["benchmarks"][0]["stats"]["data"]
    assert too_fast(PRESETS["classic"], min(seconds) / 1_000, "Some GPU", 1, Machine.named("")) is not None


def test_a_device_that_the_machine_does_not_state(tmp_path: Path) -> None:
    document = few(RUN, 1)
    row = document["benchmarks"][0]["extra_info"]
    document["machine_info"]["gpu"] = "Some GPU"
    assert counts(merged(theirs(tmp_path, document), tmp_path / "cpu")) == (1, 0, 0)
    row |= {"device": "Another GPU", "fraction_of_peak": None, "fraction_of_bandwidth": None}
    assert refusal(tmp_path, document) == "device is 'Another GPU', and the machine has 'Some GPU'"
    row["device"] = "Some GPU"
    gpu = {name: row["limits"][name] for name in ("multiply_add", "levels")} | {"launch_latency": 1e-5}
    row["limits"]["gpu"] = gpu | {"name": "Another GPU"}
    assert refusal(tmp_path, document) == "limits are of the GPU 'Another GPU', and the machine's is 'Some GPU'"


def test_honest_rows_that_look_odd(tmp_path: Path) -> None:
    """Many threads within a quota, ranks, a commit's time, a scaling row that compared more than it times."""
    document = few(RUN, 2)
    document["commit_info"]["time"] = "2026-11-27T16:35:08Z"  # as git writes it since version 2.45
    for entry, threads in zip(document["benchmarks"], (100, 2), strict=True):
        row = entry["extra_info"]
        row["threads"] = row["limits"]["threads"] = threads
    document["benchmarks"][1]["extra_info"]["ranks"] = RANKS
    assert counts(merged(theirs(tmp_path, document), tmp_path / "odd")) == (2, 0, 0)
    scaling = json.loads((RESULTS / INTEL / "0008_scaling_7d8539c.json").read_text(encoding="utf-8"))
    entries = [one for one in scaling["benchmarks"] if one["extra_info"]["workload"]["iterations"] == 1]
    agreement, workload = (entries[0]["extra_info"][name] for name in ("agreement", "workload"))
    task = Workload.from_description(workload | {"iterations": 5})
    agreement["tolerance"] = 1.9 * tolerance(task, 5, task.dtype)
    document = {**scaling, "benchmarks": entries[:1]}
    assert counts(merged(theirs(tmp_path, document), tmp_path / "scaling")) == (1, 0, 0)
    agreement["tolerance"] *= 2
    assert "more than" in refusal(tmp_path, document)


def test_a_rate_above_the_peak_that_an_earlier_row_states(tmp_path: Path) -> None:
    document = copy.deepcopy(EARLIER)
    row = document["benchmarks"][0]["extra_info"]
    row["peak_flops_per_second"] /= 20
    row["fraction_of_peak"] *= 20
    assert "is above the machine's peak of 22.2 GFLOP/s" in refusal(tmp_path, document)


def test_the_tolerance_of_a_network_that_is_no_classic_is_of_the_last_checkpoint(tmp_path: Path) -> None:
    document = few(json.loads((RESULTS / AMD / "0013_deep_494d741.json").read_text(encoding="utf-8")), 1)
    agreement = document["benchmarks"][0]["extra_info"]["agreement"]
    agreement["trajectory"][3]["error"] = 2 * agreement["tolerance"]
    assert counts(merged(theirs(tmp_path, document), tmp_path / "own")) == (1, 0, 0)
    agreement["trajectory"][-1]["error"] = 2 * agreement["tolerance"]
    assert counts(merged(theirs(tmp_path, document), tmp_path / "other")) == (0, 0, 1)


LIES_OF_ERRORS: list[tuple[Change, str]] = [
    (put("schema")(2), "schema is 2"),
    (put("workload", "name")("classic"), "workload, name is 'classic'"),
    (put("workload", "learning_rate")(1.0), "workload is named simard, and is not trained as that preset is"),
    (put("published", "test_error")(0.5), "published is not what is published of simard"),
    (put("mean_test_error")({}), "mean_test_error is not the mean of the trainings"),
    (put("runs", 0, "dtype")("float16"), "dtype is 'float16'"),
    (put("runs", 0, "seconds")(1.0), "curve has seconds out of order, or after the end"),
    (put("runs", 0, "costs", "train")(1.0), "costs, train is 1, where seconds is 88"),
    (put("runs", 0, "epochs")(19), "epochs is 19, where the preset has 20"),
    (put("runs", 0, "curve")([{"epoch": 1, "seconds": 1.0, "test_error": 0.0148}]), "a point for each of 20 epochs"),
    (put("runs", 0, "curve", -1, "test_error")(0.5), "where the curve ends at 0.5"),
    (put("runs", 0, "date")("2026-11-27T17:36:55Z"), "date is '2026-11-27T17:36:55Z', and not in UTC in the form"),
    (put("runs", 0, "device")("Magic GPU"), "device is 'Magic GPU', and the machine has no GPU"),
    (put("runs", 0, "data_sha256")("0" * 64), "data_sha256 is not that of 60,000 images of MNIST with seed 0"),
    (put("runs", 0, "loss")(1e300), "loss is 1e+300, and not a number from 0 to 10000"),
    (put("runs", 0, "loss")(0.0), "loss is 0, and with a train_accuracy of 0.999333 it is at least 0.000462"),
    (put("runs", 0, "train_accuracy")(0.99999), "train_accuracy is 0.99999, which is no whole number of 60,000"),
    (put("runs", 0, "curve", 3, "test_error")(0.0), "test_error is 0, and no network falls below 0.0009"),
    (put("runs", 0, "curve", 3, "test_error")(0.12345), "test_error is 0.12345, which is no whole number of 10,000"),
    (put("runs", 0, "date")("2126-11-27T17:36:55+00:00"), "in the future"),
    (put("runs", 0, "commit")("HEAD"), "commit is 'HEAD'"),
]


@pytest.mark.parametrize(("change", "reason"), LIES_OF_ERRORS, ids=[reason for _, reason in LIES_OF_ERRORS])
def test_a_training_that_is_not_believed(tmp_path: Path, change: Change, reason: str) -> None:
    document = copy.deepcopy(ERRORS)
    document["runs"] = document["runs"][:1]
    document["mean_test_error"] = {"numba float32": document["runs"][0]["test_error"]}
    change(document)
    assert reason in refusal(tmp_path, document, "errors_simard.json")


def test_a_training_in_no_time(tmp_path: Path) -> None:
    document = {**copy.deepcopy(ERRORS), "mean_test_error": {"numba float32": ERRORS["runs"][0]["test_error"]}}
    (run,) = document["runs"] = document["runs"][:1]
    for point in run["curve"]:
        point["seconds"] *= 2e-6 / run["seconds"]
    run["seconds"] = run["costs"]["train"] = 2e-6
    assert "FLOP/s at least is above the 8.00 TFLOP/s that its threads" in refusal(
        tmp_path, document, "errors_simard.json"
    )


@pytest.mark.slow
def test_charts_are_drawn_of_whatever_is_believed(tmp_path: Path) -> None:
    """Rows of years and of microseconds, with costs and memories at the ends of their ranges."""
    document = few(json.loads((RESULTS / INTEL / "0007_classic_4981b8e.json").read_text(encoding="utf-8")), 3)
    for place, times in ((0, 1e-5), (1, 1.0)):
        row = faster(document | {"benchmarks": document["benchmarks"][place:]}, times)
        for process in (one for kind in row["cold"].values() for one in kind):
            process["costs"] |= dict.fromkeys(("import", "load", "tuning"), 1e8 if times < 1 else 0.0)
            process |= {"baseline_memory": 1, "peak_memory": 1 if times < 1 else 24 << 30}
        row["costs"] |= dict.fromkeys(("import", "load", "tuning"), 1e8 if times < 1 else 0.0)
        row["peak_memory_bytes"] = 1 if times < 1 else 24 << 30
        for level in row["limits"]["levels"]:
            level["bytes_per_second"] = 1e18
        row["fraction_of_bandwidth"] = row["bytes_per_second"] / 1e18
    assert [one for one in merged(theirs(tmp_path, document), tmp_path / "own") if isinstance(one, Refused)] == []
    rows = storage.latest(storage.load(tmp_path / "own" / INTEL))
    figures = [draw(rows) for draw in charts.drawable(rows).values()]
    for figure in (*figures, charts.history(rows[:1]), charts.speedups(rows)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            charts.write(figure, tmp_path / "chart.svg", "digest")
        assert not re.search(r"\b(nan|inf)\b", (tmp_path / "chart.svg").read_text(encoding="utf-8"))
