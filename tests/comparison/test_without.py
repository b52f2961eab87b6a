"""A comparison without cold starts, without a network, and without what is not loaded when its first round begins."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mnistbench import machine, threads
from mnistbench.cli import app
from mnistbench.results import storage
from tests.support.benchmarks import ONE_THREAD
from tests.support.paths import ROOT

# Fails whatever reaches for a network, and from the first round on imports of packages that are not loaded.
SITE = """
import sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        raise RuntimeError(f"no network: {event} {arguments}")

sys.addaudithook(refuse)

class Missing:
    def find_spec(self, name, path=None, target=None):
        if "." not in name and name not in sys.stdlib_module_names:
            raise ImportError(f"{name} is missing on this machine")

def first_round():
    sys.meta_path.insert(0, Missing())
"""

PROGRAM = """
import sys
import {site}
from mnistbench.measurement import Measurement
round = Measurement.round
def begun(self, *arguments):
    if Measurement.round is begun:
        Measurement.round = round
        {site}.first_round()
    return round(self, *arguments)
Measurement.round = begun
"""


def run(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    (folder / "alone.py").write_text(SITE)
    environment = os.environ | ONE_THREAD | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "COLUMNS": "200"}
    environment |= {"MNISTBENCH_CACHE_DIR": str(folder / "cache")}
    command = [sys.executable, "-c", PROGRAM.format(site="alone") + program]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.process
def test_compare_needs_nothing_that_is_missing_when_its_rounds_begin(tmp_path: Path) -> None:
    options = ["compare", "numpy", "--workload", "smoke", "--rounds", "2", "--no-cold"]
    results = tmp_path / "results"
    program = f"from mnistbench.cli import main\nsys.argv[1:] = {[*options, '--results', str(results)]}\nmain()\n"
    found = run(tmp_path, program)
    assert found.returncode == 0, found.stdout + found.stderr
    (row,) = storage.load(results / machine.folder_name())
    assert row.validated, row.problem
    assert (row.cold, [*row.costs], row.limits is not None) == (None, ["train"], True)
    if platform.machine() == "x86_64":  # where Numba measures the peak
        assert row.limits is not None
        assert row.limits.multiply_add
    (path,) = (results / machine.folder_name()).glob("0001_*.json")
    assert json.loads(path.read_text())["options"]["cold_starts"] is False
    drawn = [path.name for path in (results / machine.folder_name()).glob("*.svg")]
    assert "smoke-training-time.svg" in drawn
    assert "smoke-cold-start.svg" not in drawn
    assert "In a new process" not in (results / "README.md").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--no-cold"], "--no-cold has no effect without --results"),
        (["--no-cold", "--results", "here", "--against", "main"], "--results has no effect with --against"),
        (["--no-cold", "--against", "main"], "--no-cold has no effect with --against"),
    ],
)
def test_no_cold_is_refused_where_nothing_is_stored(
    options: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "limit", threads.resolve)
    found: Any = CliRunner().invoke(app, ["compare", "numpy", "--workload", "smoke", *options])
    assert found.exit_code == 2
    assert said in found.stderr
