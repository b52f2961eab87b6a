"""The scaling benchmark on several ranks: jobs with a time limit, whose errors are one line, and what is stored."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import psutil
import pytest

pytest.importorskip("pytest_benchmark")

from benchmarks.sharing import Job, LeftOut, run
from mnistbench import report
from mnistbench.exceptions import MnistbenchError
from mnistbench.results import storage
from tests.support.benchmarks import benchmarks, stored

JOB = Job("numpy", "float32", 1_000, 10, 2, 1, ("ranks",), 2, False)

HAS_MPI = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")


def launcher(tmp_path: Path, script: str) -> list[str]:
    """A launcher that does what ``script`` says in place of starting ranks."""
    path = tmp_path / "launcher.py"
    path.write_text(script, encoding="utf-8")
    return [sys.executable, str(path)]


@pytest.mark.process
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            "import sys; print('mnistbench: rank 1: out of ink', file=sys.stderr); print('BAD TERMINATION'); exit(2)",
            "rank 1: out of ink",
        ),
        ("raise SystemExit('no such host')", "the job ended with 1: no such host"),
        ("exit(3)", "the job ended with 3: it said nothing"),
        ("", "the job ended with 0: it said nothing"),
    ],
)
def test_a_job_that_fails_is_one_line(script: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(MnistbenchError) as caught:
        run(JOB, launcher(tmp_path, script), 30.0)
    assert (str(caught.value), isinstance(caught.value, LeftOut)) == (reason, False)


def test_without_a_launcher_a_case_is_left_out() -> None:
    with pytest.raises(LeftOut, match=r"no-such-mpiexec is missing: pip install 'mnistbench\[mpi\]'"):
        run(JOB, ["no-such-mpiexec"], 1.0)


@pytest.mark.process
def test_a_job_that_takes_too_long_is_ended_with_all_its_ranks(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    forever = "import time; time.sleep(600)"
    script = (
        "import os, pathlib, subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {forever!r}])\n"
        f"pathlib.Path({str(pids)!r}).write_text(f'{{os.getpid()}} {{child.pid}}')\n"
        "time.sleep(600)\n"
    )
    begun = time.monotonic()
    with pytest.raises(MnistbenchError, match=r"^the job took more than 3 s, and was ended$"):
        run(JOB, launcher(tmp_path, script), 3.0)
    assert time.monotonic() - begun < 30
    assert not any(map(runs, pids.read_text().split()))


def runs(pid: str) -> bool:
    """Whether a process runs: one that has ended may wait for its parent to ask."""
    try:
        return bool(psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.process
@pytest.mark.skipif(HAS_MPI is None, reason="mpiexec is missing")
def test_ranks_are_measured_stored_and_drawn(tmp_path: Path) -> None:
    pytest.importorskip("mpi4py")
    folder = tmp_path / "results"
    options = ["--ranks", "2,1", "--most-images", 1_000, "--rounds", 2, "--threads", 1]
    options += ["--backend", "numpy", "--backend", "numba-plain", "--dtype", "float32", "--share-cores"]
    found = benchmarks(*options, "--results", folder, what="test_scaling.py", timeout=120)
    assert found.returncode == 0, found.stdout + found.stderr
    (path,) = stored(folder)
    rows = storage.load(path.parent)
    assert [(row.workload.images, len(row.ranks.threads)) for row in rows if row.ranks] == [(1_000, 1), (1_000, 2)]
    assert [row.size and row.size.axes for row in rows] == [("ranks", "weak"), ("ranks",)]
    assert all(row.validated and len(row.samples) == 2 for row in rows), [row.problem for row in rows]
    assert all(row.proof is not None and row.proof.complete is False for row in rows), "as all of the scaling"
    assert {one.name for one in path.parent.iterdir()} == {path.name, "scaling-ranks.svg"}
    assert report.stale(folder) == []
    assert "2 cases: backend numba-plain cannot share a workload among ranks" in found.stdout
    assert "of 2 ranks" in found.stdout


@pytest.mark.process
@pytest.mark.parametrize(
    ("options", "wanted"),
    [(["--ranks", "1,x"], "--ranks"), (["--ranks", "0"], "--ranks"), (["--ranks", "2"], "is for benchmarks/test_scal")],
)
def test_usage_errors(options: list[str], wanted: str, tmp_path: Path) -> None:
    found = benchmarks("--backend", "numpy", *options, "--results", tmp_path, timeout=60)
    assert found.returncode == pytest.ExitCode.USAGE_ERROR
    assert wanted in found.stderr
    assert "Traceback" not in found.stderr
