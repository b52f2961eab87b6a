"""``pytest benchmarks/``: it measures, stores and draws, its files are pytest-benchmark's, and its gate can fail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mnistbench import machine, report
from mnistbench.results import storage
from tests.support.benchmarks import ONE_CASE, benchmarks, stored
from tests.support.paths import ROOT

pytestmark = pytest.mark.process

pytest.importorskip("pytest_benchmark")


PAGE = "<!-- results: begin, written by 'mnistbench charts' -->\nKept.\n<!-- results: end -->\n"
"""A project's README.md, which no run changes."""


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder of results after one run, and what the run printed."""
    folder = tmp_path_factory.mktemp("project") / "results"
    (folder.parent / "README.md").write_text(PAGE, encoding="utf-8")
    found = benchmarks(*ONE_CASE, "--rounds", 3, "--results", folder, "--report", folder.parent / "report.html")
    assert found.returncode == 0, found.stdout + found.stderr
    return folder, found.stdout


def test_a_run_is_stored_and_drawn(measured: tuple[Path, str]) -> None:
    folder, printed = measured
    (path,) = stored(folder)
    assert path.name.startswith("0001_smoke_")
    (row,) = storage.load(path.parent)
    assert (row.backend, row.dtype, row.workload.name, row.problem) == ("numpy", "float64", "smoke", None)
    assert len(row.samples) == 3
    assert all(value > 0 for value in vars(row.final).values())
    assert report.stale(folder) == [folder.parent / "README.md"]
    assert (folder.parent / "README.md").read_text(encoding="utf-8") == PAGE
    assert list(path.parent.glob("smoke-*.svg"))
    assert "smoke workload" in printed
    assert f"wrote {path}" in printed
    page = folder.parent / "report.html"
    assert f"wrote {page}" in printed
    assert path.name in page.read_text(encoding="utf-8")
    assert "1 of 1  numpy-float64: begins\n1 of 1  numpy-float64: " in printed
    assert json.loads(path.read_text(encoding="utf-8"))["finished"] is True


def test_beyond_the_classic_who_cannot_is_left_out_and_errors_are_drawn(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    only = ["--workload", "smoke-deep", "--dtype", "float32", "--threads", "1", "--rounds", 2, "--results", folder]
    found = benchmarks(*only, "--plain", "-k", "numpy or plain")
    assert found.returncode == 0, found.stdout + found.stderr
    assert "numba-plain does not implement 2 hidden layers" in found.stdout
    (row,) = storage.load(stored(folder)[0].parent)
    assert (row.backend, row.workload.name, row.problem) == ("numpy", "smoke-deep", None)
    assert [iteration for iteration, _ in row.errors] == [0, 1, 2, 5, 10]
    assert list(stored(folder)[0].parent.glob("smoke-deep-error-over-time.svg"))
    assert report.stale(folder) == []
    named = benchmarks(*only, "--backend", "numba-plain")
    assert named.returncode != 0
    assert "backend numba-plain does not implement 2 hidden layers; use --backend" in named.stderr


def test_the_stored_file_names_no_path_of_this_machine(measured: tuple[Path, str]) -> None:
    text = stored(measured[0])[0].read_text(encoding="utf-8")
    for private in (str(ROOT), str(Path.home()), sys.prefix, str(measured[0])):
        assert len(private) < 2 or json.dumps(private)[1:-1] not in text


def test_the_file_is_one_of_pytest_benchmark(measured: tuple[Path, str], tmp_path: Path) -> None:
    (path,) = stored(measured[0])
    command = [sys.executable, "-m", "pytest_benchmark", "compare", str(path)]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert "smoke-numpy-float64" in found.stdout


def test_the_gate_can_fail(measured: tuple[Path, str], tmp_path: Path) -> None:
    """Against an earlier run that was, it says, a million times as fast."""
    folder = tmp_path / "results" / machine.folder_name()
    document = json.loads(stored(measured[0])[0].read_text(encoding="utf-8"))
    stats = document["benchmarks"][0]["stats"]
    stats["data"] = [value / 1e6 for value in stats["data"]]
    for name in ("min", "max", "mean", "median", "stddev", "q1", "q3", "iqr", "ld15iqr", "hd15iqr", "total"):
        stats[name] /= 1e6
    earlier = storage.store(folder, "smoke_earlier", document)
    gate = ["--benchmark-compare", "0001", "--benchmark-compare-fail", "median:5%"]
    found = benchmarks(*ONE_CASE, "--rounds", 1, "--results", tmp_path / "results", *gate)
    assert found.returncode != 0, found.stdout
    assert "Performance has regressed" in found.stdout + found.stderr
    assert json.loads(earlier.read_text(encoding="utf-8")) == document, "it is never written again"


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--backend", "abacus"], "backend 'abacus' does not exist"),
        (["--rounds", "0"], "--rounds: at least 1 is needed"),
        (["--rounds", "-1"], "--rounds: at least 1 is needed"),
        (["--threads", "0"], "0 threads"),
        (["--workload", "huge"], "--workload"),
        (["--dtype", "float16"], "--dtype"),
        (["--most-images", "999"], "--most-images: at least 1000 are needed"),
        (["--results", str(ROOT / "pyproject.toml" / "below")], "--results: "),
        (["--report", str(ROOT)], "--report: "),
    ],
)
def test_usage_errors(options: list[str], wanted: str, tmp_path: Path) -> None:
    # A case that takes seconds, should it ever run.
    found = benchmarks(*ONE_CASE, "--rounds", 1, "--results", tmp_path, *options)
    assert found.returncode == pytest.ExitCode.USAGE_ERROR
    assert wanted in found.stderr
    assert "Traceback" not in found.stdout + found.stderr
    assert list(tmp_path.rglob("*.json")) == []


# How the cost grows


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder of results after a run of the smallest sizes, of which the budget allows some, and what it printed."""
    folder = tmp_path_factory.mktemp("project") / "results"
    options = ["--most-images", 1_000, "--rounds", 2, "--backend", "numpy", "--dtype", "float64", "--threads", 1]
    found = benchmarks(*options, "--results", folder, what="test_scaling.py")
    assert found.returncode == 0, found.stdout + found.stderr
    return folder, found.stdout


def test_the_scaling_is_measured_stored_and_drawn(scaled: tuple[Path, str]) -> None:
    folder, printed = scaled
    (path,) = stored(folder)
    assert path.name.startswith("0001_scaling_")
    rows = storage.load(path.parent)
    assert storage.scaling(rows) == rows
    sizes = [row.size for row in rows if row.size]
    assert [size.hidden for size in sizes] == [10, 32, 64, 128, 256, 512]
    assert [size.axes for size in sizes] == [("images", "hidden", "threads"), *[("hidden",)] * 5]
    assert all(size.compared.startswith("5 iterations") for size in sizes)
    assert {row.workload.images for row in rows} == {1_000}
    assert all(row.validated for row in rows), [row.problem for row in rows]
    assert {(row.agreement.trajectory[-1][0], len(row.samples)) for row in rows} == {(5, 2)}
    assert {path.name for path in path.parent.iterdir()} == {path.name, "scaling-hidden.svg"}
    assert report.stale(folder) == []
    assert "1,000 images 512 hidden   1 thread" in printed
    assert "left out" not in printed


def test_the_scaling_is_measured_only_where_it_is_named(tmp_path: Path) -> None:
    options = ["--collect-only", "-q", "-p", "no:benchmark"]
    everything = benchmarks(*ONE_CASE, "--results", tmp_path, *options[:2], what="")
    assert "test_training.py::" in everything.stdout
    assert "test_scaling.py::" not in everything.stdout


def test_cases_beyond_the_budget_are_named(tmp_path: Path) -> None:
    options = ["--most-images", 10_000, "--rounds", 1, "--backend", "numpy", "--dtype", "float32", "--threads", 1]
    found = benchmarks(*options, "--budget", 0, "--results", tmp_path / "results", what="test_scaling.py")
    assert found.returncode == 0, found.stdout + found.stderr
    (path,) = stored(tmp_path / "results")
    assert [row.workload.images for row in storage.load(path.parent)] == [1_000], "of the first case nothing was known"
    left_out = [line for line in found.stdout.splitlines() if "--budget" in line and line.startswith("10000-")]
    assert len(left_out) == 6
    assert left_out[-1].startswith("10000-images-512-hidden-1-threads-numpy-float32: would take about ")
