"""The package as others meet it: what importing it costs, its public names, and backends from other packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mnistbench

HEAVY = {"numpy", "numba", "cupy", "torch", "jax", "pandas", "matplotlib"}
LIGHT = [
    "mnistbench",
    "mnistbench.backends",
    "mnistbench.backends.base",
    "mnistbench.cli",
    "mnistbench.exceptions",
    "mnistbench.files",
    "mnistbench.machine.rates",
    "mnistbench.task.recipe",
    "mnistbench.threads",
    "mnistbench.task.workload",
]


def python(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter that finds this package, and ``path`` before it."""
    folders = [str(folder) for folder in (path, Path(mnistbench.__file__).parents[1]) if folder]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(folders), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=path, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.process
@pytest.mark.parametrize("module", LIGHT)
def test_importing_loads_no_array_library(module: str) -> None:
    program = f"import json, sys, {module}; print(json.dumps([name.partition('.')[0] for name in sys.modules]))"
    run = python("-c", program)
    assert run.returncode == 0, run.stderr
    loaded = set(json.loads(run.stdout))
    assert "mnistbench" in loaded
    assert loaded & HEAVY == set()


@pytest.mark.process
def test_the_list_of_backends_is_known_without_loading_any() -> None:
    program = (
        "import sys, mnistbench.backends as registry; print(*registry.list_backends()); print('numpy' in sys.modules);"
        "registry.get_backend('numpy'); print('numpy' in sys.modules, 'numba' in sys.modules)"
    )
    run = python("-c", program)
    assert run.stdout.splitlines()[0].split()[:4] == ["numpy", "numba", "numba-plain", "cupy"], run.stderr
    assert run.stdout.splitlines()[1:] == ["False", "True False"]


@pytest.mark.parametrize("name", mnistbench.__all__)
def test_every_public_name_resolves(name: str) -> None:
    value = getattr(mnistbench, name)
    assert value is getattr(mnistbench, name)
    assert name in dir(mnistbench)
    home = getattr(value, "__module__", "mnistbench")
    assert isinstance(value, str) or home.startswith("mnistbench")


@pytest.mark.process
def test_public_names_are_unique_and_can_be_imported_at_once() -> None:
    assert len(set(mnistbench.__all__)) == len(mnistbench.__all__)
    run = python("-c", "from mnistbench import *; print(load_data.__name__, Workload.__name__, get_backend.__name__)")
    assert run.stdout.split() == ["load_data", "Workload", "get_backend"], run.stderr


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'mnistbench' has no attribute 'lod_data'"):
        _ = mnistbench.lod_data


# A backend from another package

TINY = """
from mnistbench.backends.base import Availability, Backend, Description
from mnistbench.backends.numpy import NumpyTrainer


class TinyTrainer(NumpyTrainer):
    def describe(self):
        return Description("abacus", 1, {"tiny": "1"}, "beads")


class TinyBackend(Backend):
    name = "tiny"

    def load(self, workload, dataset, parameters, threads):
        return TinyTrainer(workload, dataset, parameters, threads)


class AsleepBackend(TinyBackend):
    name = "asleep"

    def availability(self):
        return Availability(usable=False, version="1", reason="the abacus is in its box", fix="take it out")
"""


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installed package of four backends: one works, one cannot run, one is broken, one has a name that is taken."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "tiny.py").write_text(TINY)
    info = folder / "tiny-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny\nVersion: 1\n")
    points = [
        "tiny = tiny:TinyBackend",
        "asleep = tiny:AsleepBackend",
        "broken = tiny.missing:Backend",
        "numpy = tiny:TinyBackend",
    ]
    (info / "entry_points.txt").write_text("\n".join(["[mnistbench.backends]", *points, ""]))
    return folder


@pytest.mark.process
def test_a_backend_of_another_package_is_listed(others: Path) -> None:
    run = python("-m", "mnistbench", "backends", path=others)
    assert run.returncode == 0, run.stderr
    rows = {line.split()[0]: line.split()[1:] for line in run.stdout.splitlines()}
    assert rows["tiny"] == ["yes", "CPU"]
    assert rows["broken"][0] == "no"
    assert rows["numpy"][-1] == "CPU"  # a name of this package cannot be taken
    assert rows["asleep"][0] == "no"
    assert set(list(rows)[-3:]) == {"tiny", "asleep", "broken"}  # after this package's own


@pytest.mark.process
def test_a_backend_of_another_package_trains(others: Path) -> None:
    options = ["--iterations", "3", "--train-size", "200", "--dev-size", "50", "--json"]
    records = []
    for backend in ("tiny", "numpy"):
        run = python("-m", "mnistbench", "train", "--backend", backend, *options, path=others)
        assert run.returncode == 0, run.stderr
        records.append(json.loads(run.stdout))
    tiny, numpy = records
    assert tiny["backend"] == "tiny"
    assert tiny["description"]["device"] == "abacus"
    assert tiny["loss"] == pytest.approx(numpy["loss"], rel=1e-5)
    assert tiny["train_accuracy"] == numpy["train_accuracy"]


@pytest.mark.process
def test_a_backend_of_another_package_is_compared(others: Path) -> None:
    program = "import mnistbench; print(*(a.passed for a in mnistbench.verify(['tiny'], workload='smoke')))"
    assert python("-c", program, path=others).stdout.split() == ["True", "True"]


@pytest.mark.process
def test_a_backend_of_another_package_that_cannot_run_is_one_line(others: Path) -> None:
    run = python("-m", "mnistbench", "train", "--backend", "asleep", path=others)
    assert run.returncode == 2
    assert run.stderr == "mnistbench: backend asleep is unavailable: the abacus is in its box; take it out\n"
    assert run.stdout == ""


def test_a_backend_of_another_package_does_the_classic_unless_it_says_more(others: Path) -> None:
    run = python("-m", "mnistbench", "train", "--backend", "tiny", "--hidden", "4,4", path=others)
    assert run.returncode == 2
    assert run.stderr.startswith("mnistbench: backend tiny does not implement 2 hidden layers; use --backend numpy or ")
    assert len(run.stderr.splitlines()) == 1


@pytest.mark.process
def test_a_broken_backend_of_another_package_is_one_line(others: Path) -> None:
    run = python("-m", "mnistbench", "train", "--backend", "broken", path=others)
    assert run.returncode == 2
    assert run.stderr.startswith("mnistbench: backend broken is unavailable: ")
    assert "tiny.missing" in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert run.stdout == ""
