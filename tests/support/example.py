"""The package in ``examples/``, installed as by a user, and interpreters that find it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mnistbench
from tests.support.benchmarks import ONE_THREAD
from tests.support.paths import ROOT


def install(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the example with pip into a new folder, and return that."""
    target = tmp_path_factory.mktemp("site")
    source = shutil.copytree(ROOT / "examples" / "mnistbench_blocks", tmp_path_factory.mktemp("example") / "source")
    options = ["--quiet", "--no-build-isolation", "--no-deps", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return target


def python(site: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a new interpreter that finds the example in ``site`` and this package."""
    path = os.pathsep.join(map(str, (site, Path(mnistbench.__file__).parents[1])))
    environment = os.environ | ONE_THREAD | {"PYTHONPATH": path, "COLUMNS": "200"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
