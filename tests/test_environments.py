"""Machines on which something is missing, switched off, too old or limited: each works, or one line says the cure."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mnistbench
from mnistbench.threads import usable_cpus
from tests.support.benchmarks import ONE_CASE, ONE_THREAD, benchmarks

NO_NUMBA = """raise ImportError("Numba needs NumPy 2.3 or less. Got NumPy 2.4.")"""


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mnistbench", *arguments],
        env={**os.environ, **ONE_THREAD, "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        encoding=environment.get("PYTHONIOENCODING"),
        check=False,
    )


RACE = ("compare", "numpy", "numpy", "--workload", "smoke", "--iterations", "5", "--rounds", "2")


@pytest.mark.process
def test_without_numba_all_others_are_measured(tmp_path: Path) -> None:
    """Numba refuses the version of NumPy, or its compiler is off."""
    (tmp_path / "numba.py").write_text(NO_NUMBA)
    paths = [str(tmp_path), str(Path(mnistbench.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    own_limits = {"MNISTBENCH_CACHE_DIR": str(tmp_path / "limits")}  # they are measured without Numba
    environment = own_limits | {"PYTHONPATH": os.pathsep.join(paths)}
    listed = command("backends", **environment).stdout
    assert listed.count("Numba needs NumPy 2.3 or less. Got NumPy 2.4.; pip install --upgrade numba") == 2
    done = command(*RACE, "--results", str(tmp_path / "results"), **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (tmp_path / "results").glob("*/0001_*.json")
    limits = json.loads(path.read_text(encoding="utf-8"))["benchmarks"][0]["extra_info"]["limits"]
    assert limits["multiply_add"] == {}
    assert [level["name"] for level in limits["levels"]] == ["memory"]
    done = command(*RACE, NUMBA_DISABLE_JIT="1", **own_limits)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.process
def test_where_numbas_compiler_is_off_its_backends_say_so() -> None:
    done = command("train", "--workload", "smoke", NUMBA_DISABLE_JIT="1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("is unavailable: NUMBA_DISABLE_JIT is set, and Numba compiles nothing; unset it\n")


@pytest.mark.process
def test_without_a_folder_for_caches_everything_runs(tmp_path: Path) -> None:
    """No folder can be written: neither the user's cache, nor Numba's beside the source."""
    source = Path(mnistbench.__file__).parent
    shutil.copytree(source, tmp_path / "mnistbench", ignore=shutil.ignore_patterns("__pycache__"))
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder is wanted")
    for folder in [tmp_path / "mnistbench", *(path for path in (tmp_path / "mnistbench").rglob("*") if path.is_dir())]:
        (folder / "__pycache__").write_text("a file where a folder is wanted")
    names = ("NUMBA_CACHE_DIR", "MNISTBENCH_CACHE_DIR", "HOME", "XDG_CACHE_HOME")
    environment = {name: str(blocked / "x") for name in names} | {"PYTHONDONTWRITEBYTECODE": "1"}
    options = ["--workload", "smoke", "--iterations", "3"]
    done = command("train", "--backend", "numba-plain", *options, PYTHONPATH=str(tmp_path), **environment)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.process
@pytest.mark.parametrize("encoding", ["cp1251", "ascii"])
def test_a_table_is_printed_in_any_encoding(encoding: str) -> None:
    options = ["--workload", "smoke", "--iterations", "5", "--rounds", "6"]
    done = command("compare", "numpy", "numpy", *options, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+x", done.stdout)


@pytest.mark.process
def test_a_table_of_benchmarks_is_printed_in_any_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "cp1251")
    done = benchmarks(*ONE_CASE, "--rounds", "1", "--results", tmp_path, encoding="cp1251")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1.00x" in done.stdout


# Threads


@pytest.mark.compiles
@pytest.mark.process
def test_all_contenders_have_the_threads_that_openmp_is_given() -> None:
    options = ["--workload", "smoke", "--iterations", "3", "--rounds", "1", "--json"]
    for wanted, number in (("1,2", 1), ("many", usable_cpus())):
        done = command("compare", "numpy", "numba", *options, OMP_NUM_THREADS=wanted, OPENBLAS_NUM_THREADS="1")
        assert done.returncode == 0, done.stderr
        contenders = json.loads(done.stdout)["contenders"]
        assert [contender["description"]["threads"] for contender in contenders] == [number, number]
