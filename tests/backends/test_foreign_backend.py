"""Backends of other packages: the one in ``examples/``, installed as by a user, and some that cannot run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mnistbench.results import storage
from tests.support import example
from tests.support.example import python
from tests.support.paths import ROOT

pytestmark = pytest.mark.process

pytest.importorskip("hatchling")


OTHERS = """
from mnistbench.backends import Availability
from mnistbench_blocks import BlocksBackend

class AsleepBackend(BlocksBackend):
    name = "asleep"

    def availability(self):
        return Availability(usable=False, version="1", reason="the abacus is in its box", fix="take it out")
"""
ENTRY_POINTS = """[mnistbench.backends]
asleep = others:AsleepBackend
broken = others.missing:Backend
numpy = others:AsleepBackend
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the example with pip into a folder, beside backends that cannot run, are broken or take a used name."""
    target = example.install(tmp_path_factory)
    (target / "others.py").write_text(OTHERS)
    info = target / "others-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return target


def test_they_are_listed_after_this_packages_own(site: Path) -> None:
    run = python(site, "-m", "mnistbench", "backends")
    assert run.returncode == 0, run.stderr
    rows = {line.split()[0]: line.split()[1:] for line in run.stdout.splitlines()}
    assert set(list(rows)[-3:]) == {"blocks", "asleep", "broken"}
    assert rows["blocks"] == ["yes", "CPU"]
    assert (rows["asleep"][0], rows["broken"][0]) == ("no", "no")
    assert rows["numpy"][-1] == "CPU"  # a name of this package cannot be taken


def test_it_agrees_with_the_reference(site: Path) -> None:
    run = python(site, "-m", "mnistbench", "verify", "--backend", "blocks", "--workload", "smoke", "--json")
    assert run.returncode == 0, run.stdout + run.stderr
    outcomes = json.loads(run.stdout)
    assert [(outcome["backend"], outcome["dtype"], outcome["passed"]) for outcome in outcomes] == [
        ("blocks", "float32", True),
        ("blocks", "float64", True),
    ]


def test_it_is_measured_and_drawn(site: Path, tmp_path: Path) -> None:
    options = ["--backend", "blocks", "--workload", "smoke", "--dtype", "float64", "--rounds", 1, "--results", tmp_path]
    run = python(
        site, "-m", "pytest", ROOT / "benchmarks", "-p", "no:cacheprovider", "-p", "tests.support.small", *options
    )
    assert run.returncode == 0, run.stdout + run.stderr
    (stored,) = tmp_path.glob("*/0001_smoke_*.json")
    rows = storage.load(stored.parent)
    assert [(row.backend, row.dtype) for row in rows] == [("blocks", "float64")]
    assert all(row.validated for row in rows)
    assert list(stored.parent.glob("smoke-*.svg"))


def test_it_trains_in_several_blocks_the_last_of_them_not_full(site: Path) -> None:
    options = ["--iterations", 20, "--train-size", 2345, "--dev-size", 50, "--dtype", "float64", "--json"]
    runs = [python(site, "-m", "mnistbench", "train", "--backend", name, *options) for name in ("blocks", "numpy")]
    assert [run.returncode for run in runs] == [0, 0], runs[0].stderr
    blocks, numpy = (json.loads(run.stdout) for run in runs)
    assert (blocks["backend"], blocks["description"]["kernel"]) == ("blocks", "BLAS, 1,000 images at a time")
    assert blocks["loss"] == pytest.approx(numpy["loss"], abs=1e-12)
    assert blocks["train_accuracy"] == pytest.approx(numpy["train_accuracy"], abs=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["asleep"], "backend asleep is unavailable: the abacus is in its box; take it out\n"),
        (["broken"], "backend broken is unavailable: No module named 'others.missing'"),
        (["blocks", "--hidden", "4,4"], "backend blocks does not implement 2 hidden layers; use --backend numpy or "),
    ],
)
def test_a_backend_that_cannot_do_it_is_one_line(site: Path, options: list[str], message: str) -> None:
    run = python(site, "-m", "mnistbench", "train", "--backend", *options)
    assert run.returncode == 2
    assert run.stderr.startswith(f"mnistbench: {message}")
    assert len(run.stderr.splitlines()) == 1
    assert run.stdout == ""


def test_it_is_short() -> None:
    text = (ROOT / "examples" / "mnistbench_blocks" / "mnistbench_blocks.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 45
