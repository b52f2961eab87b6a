"""What the tests share: small data, and the settings of hypothesis."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from numba.core.event import Event, Listener, register

import mnistbench.backends as registry
from mnistbench import files, machine
from mnistbench.backends import Backend
from mnistbench.datasets import Dataset, load_data
from mnistbench.machine import limits
from mnistbench.machine.rates import Level, Limits
from mnistbench.threads import usable_cpus
from tests.support.cuda import host
from tests.support.cuda.host import StandIn

# How long an example takes depends on what else runs on the machine, and no test asserts a time.
settings.register_profile("mnistbench", deadline=None)
settings.load_profile("mnistbench")


COMPILING = {"numba", "numba-plain", "cupy", "cupy-plain", "jax", "torch"}
"""Backends that compile, as folders and parameters of tests name them."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave a compiling backend's tests alone where quick ones are wanted: importing them loads its library."""
    return (config.option.markexpr == "quick" and collection_path.name in COMPILING) or None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what compiles, and as ``quick`` what no marker says is not."""
    for item in items:
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        named = {value for value in parameters if isinstance(value, str)}
        if COMPILING & {item.path.parent.name, *named}:
            item.add_marker("compiles")
        if not {mark.name for mark in item.iter_markers()} & {
            "compiles",
            "process",
            "sanitizer",
            "gpu",
            "slow",
            "browser",
        }:
            item.add_marker("quick")


_breaches: list[str] = []
"""What the test in progress did that a quick one does not do."""


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart() -> None:
    """Watch for what quick tests do not do: let Numba compile, and start an interpreter."""

    machine.gpu_name()  # where there is a GPU, the first call starts an interpreter

    def notice(event: str, arguments: tuple[object, ...]) -> None:
        if event == "subprocess.Popen" and arguments[0] == sys.executable:
            _breaches.append("starts a process")

    class Compilation(Listener):  # type: ignore[misc]
        def on_start(self, event: Event) -> None:
            _breaches.append(f"compiles {event.data['dispatcher'].py_func.__name__}")

        def on_end(self, event: Event) -> None:
            """Nothing more to notice."""

    sys.addaudithook(notice)
    register("numba:compile", Compilation())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail a test that is marked quick and is not."""
    yield
    if _breaches and item.get_closest_marker("quick"):
        pytest.fail(f"is marked quick, but {_breaches[0]}: mark it with 'compiles' or 'process'")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    _breaches.clear()
    if item.get_closest_marker("gpu") and not (found := registry.availability("cupy")).usable:
        pytest.skip(f"cupy is unavailable: {found.reason}")


@pytest.fixture(scope="session")
def small_dataset() -> Dataset:
    """300 training and 50 dev images of the embedded MNIST, and its test set."""
    return load_data(train_size=300, dev_size=50)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is measured and compiled once for all workers leaves nothing in the user's cache folder."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MNISTBENCH_CACHE_DIR", str(shared / "cache"))
        patch.setattr(host, "folder", shared / "kernels")
        for threads in {1, usable_cpus()}:
            store_limits(threads)
        # A pytest that a test starts is no worker: pytest-benchmark would measure nothing.
        patch.delenv("PYTEST_XDIST_WORKER", raising=False)
        yield


def store_limits(threads: int) -> None:
    """Store limits that no honest backend exceeds, since measuring them takes seconds in every process."""
    rates = {"float32": 1e14, "float64": 1e14}
    found = Limits(rates, (Level("memory", None, 1e14),), threads=threads, product=rates, blas=None, gpu=None)
    path = limits.file_for(threads)
    files.write_text(path, json.dumps({"key": limits._key(threads), "limits": found.as_dict()}))


MLP = tuple(f"mlp.{name}" for name in ("kernels", "steps", "batches", "products", "trainer", "captured", "ways"))


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A stand-in under CuPy's name, for modules that are then imported anew."""
    found = StandIn()
    for name, module in (("cupy", found), ("cupy.cuda", found.cuda)):
        monkeypatch.setitem(sys.modules, name, module)
    names = ("device", "plain", "classic.trainer", *MLP, "backend")
    modules = [f"mnistbench.backends.cupy.{name}" for name in names]
    for name in modules:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield found
    for name in modules:
        sys.modules.pop(name, None)


@pytest.fixture
def cupy_backend(cupy: StandIn, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """CuPy's backend on the stand-in, in blocks of few threads, which the CPU runs in turn, without trials."""
    monkeypatch.setattr(importlib.import_module("mnistbench.backends.cupy.mlp.kernels"), "THREADS", 8)
    ways: Any = importlib.import_module("mnistbench.backends.cupy.mlp.ways")
    monkeypatch.setattr(ways, "fastest_way", lambda *_: (ways.MlpTrainer.way, None))
    found: Backend = importlib.import_module("mnistbench.backends.cupy.backend").CupyBackend()
    return found
