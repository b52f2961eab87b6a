"""pytest-benchmark's own options: what they compare with, and which are refused."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("pytest_benchmark")

from benchmarks import flags
from mnistbench import machine
from mnistbench.results import storage
from tests.support.benchmarks import ONE_CASE, benchmarks, stored

ROUNDS = "the number of rounds is that of --rounds"


def config(*arguments: str, **changes: Any) -> Any:
    """The part of pytest's configuration that is read."""
    option = {"benchmark_compare": [], "benchmark_compare_fail": None, "benchmark_histogram": [], **changes}
    return SimpleNamespace(invocation_params=SimpleNamespace(args=arguments), option=SimpleNamespace(**option))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (config("--benchmark-min-rounds=5"), f"--benchmark-min-rounds: has no effect on these benchmarks; {ROUNDS}"),
        (config("--benchmark-max-time", "3"), f"--benchmark-max-time: has no effect on these benchmarks; {ROUNDS}"),
        (config("--benchmark-warmup=on"), "--benchmark-warmup: has no effect"),
        (config("--benchmark-disable"), "a run without measurements is 'mnistbench verify'"),
        (config("--benchmark-timer=time.process_time"), "rows are seconds of time.perf_counter"),
        (config(numprocesses=2), "-n: benchmarks run one after the other"),
        (config(tx=["popen"]), "-n: benchmarks run one after the other"),
        (config(benchmark_compare_fail=["min:5%"]), "--benchmark-compare-fail: needs --benchmark-compare"),
    ],
)
def test_what_has_no_effect_is_refused(found: Any, message: str) -> None:
    with pytest.raises(pytest.UsageError) as caught:
        flags.refuse(found)
    assert message in str(caught.value)


def test_what_the_environment_asks_for_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "-x --benchmark-disable")
    with pytest.raises(pytest.UsageError, match="--benchmark-disable: has no effect"):
        flags.refuse(config())


def test_what_has_an_effect_is_not() -> None:
    flags.refuse(
        config("--benchmark-sort=name", "--rounds=3", benchmark_compare=True, benchmark_compare_fail=["min:5%"])
    )


def test_a_histogram_needs_pygal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(pytest.UsageError, match=r"needs pygal; pip install 'pytest-benchmark\[histogram\]'$"):
        flags.refuse(config(benchmark_histogram=["prefix"]))


def test_differences_are_named() -> None:
    then: dict[str, Any] = {"kernel": "6.1", "gpu": None, "versions": {"numpy": "1", "python": "3.11"}}
    now: dict[str, Any] = {"kernel": "6.1", "gpu": "A", "versions": {"numpy": "2", "python": "3.11"}}
    assert [*flags.differences(then, now)] == ["gpu was None, and is A", "numpy was 1, and is 2"]


# Whole sessions


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results with a run of one case."""
    folder = tmp_path_factory.mktemp("project") / "results"
    found = benchmarks(*ONE_CASE, "--rounds", 2, "--results", folder)
    assert found.returncode == 0, found.stdout + found.stderr
    return folder


@pytest.fixture
def results(measured: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(measured, tmp_path / "results")


def change(results: Path, name: str, **changes: Any) -> None:
    """Store the first run again, with changes."""
    document = json.loads(stored(results)[0].read_text(encoding="utf-8"))
    storage.store(results / machine.folder_name(), name, document | changes)


@pytest.mark.process
def test_a_row_is_compared_with_the_last_run_that_has_it(results: Path) -> None:
    """With a run of another workload stored last, of other versions of libraries."""
    document = json.loads(stored(results)[0].read_text(encoding="utf-8"))
    document["machine_info"]["versions"]["numpy"] = "0.9"
    change(results, "smoke_older", machine_info=document["machine_info"])
    for one in document["benchmarks"]:
        one["fullname"] = one["fullname"].replace("smoke", "classic")
    change(results, "classic_last", benchmarks=document["benchmarks"])
    options = ["--rounds", 1, "--results", results, "--benchmark-compare", "--benchmark-compare-fail=median:100000%"]
    found = benchmarks(*ONE_CASE, *options, "--benchmark-columns=median", "--benchmark-sort=name")
    assert found.returncode == 0, found.stdout + found.stderr
    table = [line.split() for line in found.stdout.splitlines() if line.startswith("smoke-numpy-float64-1-threads")]
    assert [line[1] for line in table] == ["(0002_smoke_o)", "(NOW)"]
    assert "Name (time in" in found.stdout
    assert "StdDev" not in found.stdout
    assert "0002_smoke_older.json: numpy was 0.9, and is " in found.stdout
    assert "INTERNALERROR" not in found.stdout + found.stderr


@pytest.mark.process
def test_a_row_that_no_run_has_is_named(results: Path) -> None:
    """And the one that a run has fails, since that was a million times as fast."""
    document = json.loads(stored(results)[0].read_text(encoding="utf-8"))
    for name in ("min", "max", "mean", "median", "stddev", "q1", "q3", "iqr", "ld15iqr", "hd15iqr", "total"):
        document["benchmarks"][0]["stats"][name] /= 1e6
    change(results, "smoke_fast", benchmarks=document["benchmarks"])
    gate = ["--benchmark-compare", "--benchmark-compare-fail", "median:5%"]
    found = benchmarks(*ONE_CASE, "--dtype", "float32", "--rounds", 1, "--results", results, *gate)
    assert found.returncode == pytest.ExitCode.TESTS_FAILED, found.stdout + found.stderr
    assert "no stored run has smoke-numpy-float32-1-threads" in found.stdout
    assert "Performance has regressed" in found.stderr
    assert "Traceback" not in found.stdout + found.stderr
    assert len(storage.load(stored(results)[0].parent)) == 4, "what fails is stored too"


@pytest.mark.process
@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--benchmark-compare"], "has any of these rows"),
        (["--benchmark-compare=0007"], "no run 0007 of this machine is stored in "),
        (["-n", "2"], "-n: benchmarks run one after the other"),
    ],
)
def test_what_compares_nothing_is_an_error(results: Path, options: list[str], wanted: str) -> None:
    if "-n" in options:
        pytest.importorskip("xdist")
    found = benchmarks(*ONE_CASE[:-4], "--dtype", "float32", "--results", results, *options)
    assert found.returncode == pytest.ExitCode.USAGE_ERROR, found.stdout + found.stderr
    (line,) = found.stderr.strip().splitlines()
    assert wanted in line
    assert len(stored(results)) == 1, "nothing was measured"


@pytest.mark.process
def test_without_the_same_number_of_threads_nothing_is_compared(results: Path) -> None:
    """Which only the started backend knows."""
    document = json.loads(stored(results)[0].read_text(encoding="utf-8"))
    for one in document["benchmarks"]:
        one["fullname"] = one["fullname"].replace("1-threads", "64-threads")
    stored(results)[0].write_text(json.dumps(document), encoding="utf-8")
    gate = ["--benchmark-compare", "--benchmark-compare-fail", "median:5%"]
    found = benchmarks(*ONE_CASE, "--rounds", 1, "--results", results, *gate)
    assert found.returncode == pytest.ExitCode.USAGE_ERROR, found.stdout + found.stderr
    assert "ERROR: --benchmark-compare: no run stored in " in found.stdout
    assert "Traceback" not in found.stdout + found.stderr


@pytest.mark.process
def test_a_run_of_another_machine_is_not_compared_with(results: Path, tmp_path: Path) -> None:
    (path,) = stored(results)
    document = json.loads(path.read_text(encoding="utf-8"))
    document["machine_info"]["model"] += " of another generation"
    other = tmp_path / "other.json"
    other.write_text(json.dumps(document), encoding="utf-8")
    found = benchmarks(*ONE_CASE, "--rounds", 1, "--results", results, f"--benchmark-compare={other}")
    assert found.returncode == pytest.ExitCode.USAGE_ERROR, found.stdout + found.stderr
    assert "no run" in found.stderr
    assert "of this machine is stored" in found.stderr


@pytest.mark.process
def test_a_round_is_profiled(results: Path) -> None:
    found = benchmarks(*ONE_CASE, "--rounds", 1, "--results", results, "--benchmark-cprofile=tottime")
    assert found.returncode == 0, found.stdout + found.stderr
    assert "cProfile (time in s)" in found.stdout


@pytest.mark.process
@pytest.mark.skipif(importlib.util.find_spec("pygal") is None, reason="needs pygal")
def test_a_histogram_is_drawn(results: Path, tmp_path: Path) -> None:
    options = ["--rounds", 2, "--results", results, f"--benchmark-histogram={tmp_path / 'drawn'}"]
    found = benchmarks(*ONE_CASE, *options)
    assert found.returncode == 0, found.stdout + found.stderr
    assert list(tmp_path.glob("drawn*.svg"))
