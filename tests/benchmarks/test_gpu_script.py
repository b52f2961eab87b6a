"""``benchmarks/gpu.sh``, with programs that only note how they are called for Python and compute-sanitizer."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(shutil.which("bash") is None or shutil.which("realpath") is None, reason="needs bash"),
]


def run(folder: Path, *arguments: str, fails: str = "nothing") -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """The script from inside ``folder``, and the calls it made; those with the words ``fails`` fail."""
    for name in ("python", "compute-sanitizer", "nvidia-smi"):
        program = folder / name
        program.write_text(
            f'#!/bin/sh\necho "$(basename $0) $*" | tr "\\n" " " >> {folder}/calls\necho >> {folder}/calls\n'
            f'case "$*" in *"{fails}"*) echo "no GPU" >&2; exit 1;; esac\n'
        )
        program.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(folder / "python"), "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    command = ["bash", str(ROOT / "benchmarks" / "gpu.sh"), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return done, (folder / "calls").read_text().splitlines()


def test_results_go_to_the_folder_named_from_where_it_is_called(tmp_path: Path) -> None:
    done, calls = run(tmp_path, "new/results")
    assert done.returncode == 0, done.stderr
    stored = [call for call in calls if "--results" in call]
    assert len(stored) == 4
    assert all(f"--results {tmp_path}/new/results" in call for call in stored)
    assert f"--results {ROOT / 'results'}" in run(tmp_path)[1][-1]


def test_the_sanitizer_counts_what_kernels_do_and_not_what_cupy_asks_the_driver(tmp_path: Path) -> None:
    checks = [call for call in run(tmp_path)[1] if call.startswith("compute-sanitizer")]
    assert [call.split()[2] for call in checks] == ["memcheck", "racecheck", "synccheck"]
    assert all("--report-api-errors no --error-exitcode 9" in call for call in checks)


def test_networks_beyond_the_classic_are_measured_on_the_backends_that_compute_them(tmp_path: Path) -> None:
    calls = [call for call in run(tmp_path)[1] if "--workload" in call]
    assert ["--workload wide --backend cupy --results" in call for call in calls] == [True, False]
    assert ["--workload deep --backend cupy --results" in call for call in calls] == [False, True]


def test_a_part_that_fails_is_named_and_stops_nothing(tmp_path: Path) -> None:
    done, calls = run(tmp_path, fails="-m mnistbench verify")
    assert done.returncode == 1
    assert "== FAILED: agreement" in done.stdout
    assert "benchmarks/test_scaling.py" in calls[-1]


def test_without_a_gpu_one_line_says_so(tmp_path: Path) -> None:
    done, calls = run(tmp_path, fails="-c import mnistbench.backends")
    assert done.returncode == 2
    assert done.stderr == "no GPU\n"
    assert len(calls) == 1
