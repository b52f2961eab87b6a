"""The package's imports and public names."""

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


def python(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a new interpreter that finds this package."""
    environment = os.environ | {"PYTHONPATH": str(Path(mnistbench.__file__).parents[1])}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.process
@pytest.mark.parametrize("module", LIGHT)
def test_importing_loads_no_array_library(module: str) -> None:
    program = f"import json, sys, {module}; print(json.dumps([name.partition('.')[0] for name in sys.modules]))"
    run = python(program)
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
    run = python(program)
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
    run = python("from mnistbench import *; print(load_data.__name__, Workload.__name__, get_backend.__name__)")
    assert run.stdout.split() == ["load_data", "Workload", "get_backend"], run.stderr


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'mnistbench' has no attribute 'lod_data'"):
        _ = mnistbench.lod_data
