"""The package in ``examples/``, installed as a user would, and used by every command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mnistbench
from mnistbench.results import storage
from tests.support.paths import ROOT

pytestmark = pytest.mark.process

pytest.importorskip("hatchling")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the example, built by the backend that its pyproject.toml names."""
    target = tmp_path_factory.mktemp("site")
    source = shutil.copytree(ROOT / "examples" / "mnistbench_blocks", tmp_path_factory.mktemp("example") / "source")
    options = ["--quiet", "--no-build-isolation", "--no-deps", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return target


def python(site: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter that finds the example and this package."""
    path = os.pathsep.join(map(str, (site, Path(mnistbench.__file__).parents[1])))
    environment = os.environ | {"PYTHONPATH": path, "COLUMNS": "200"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_it_is_listed_after_this_packages_own(site: Path) -> None:
    run = python(site, "-m", "mnistbench", "backends")
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1].split() == ["blocks", "yes", "CPU"]


def test_it_agrees_with_the_reference(site: Path) -> None:
    run = python(site, "-m", "mnistbench", "verify", "--backend", "blocks", "--workload", "smoke", "--json")
    assert run.returncode == 0, run.stdout + run.stderr
    outcomes = json.loads(run.stdout)
    assert [(outcome["backend"], outcome["dtype"], outcome["passed"]) for outcome in outcomes] == [
        ("blocks", "float32", True),
        ("blocks", "float64", True),
    ]


def test_it_is_measured_and_drawn(site: Path, tmp_path: Path) -> None:
    options = ["--backend", "blocks", "--workload", "smoke", "--rounds", 1, "--results", tmp_path]
    run = python(site, "-m", "pytest", ROOT / "benchmarks", "-p", "no:cacheprovider", *options)
    assert run.returncode == 0, run.stdout + run.stderr
    (stored,) = tmp_path.glob("*/0001_smoke_*.json")
    rows = storage.load(stored.parent)
    assert [(row.backend, row.dtype) for row in rows] == [("blocks", "float32"), ("blocks", "float64")]
    assert all(row.validated for row in rows)
    assert list(stored.parent.glob("smoke-*.svg"))


def test_it_works_in_blocks(site: Path) -> None:
    """More images than one block has, the last block not full: what the commands above may not meet."""
    program = (
        "import mnistbench; data = mnistbench.load_data(train_size=2345, dev_size=50);"
        "options = {'iterations': 20, 'dtype': 'float64'};"
        "found, wanted = (mnistbench.train(data, backend=name, **options) for name in ('blocks', 'numpy'));"
        "print(found.loss - wanted.loss, found.accuracy - wanted.accuracy, found.description.threads)"
    )
    run = python(site, "-c", program)
    assert run.returncode == 0, run.stderr
    loss, accuracy, _threads = map(float, run.stdout.split())
    assert loss == pytest.approx(0, abs=1e-12)
    assert accuracy == pytest.approx(0, abs=1e-12)


def test_it_is_short() -> None:
    text = (ROOT / "examples" / "mnistbench_blocks" / "mnistbench_blocks.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 45
