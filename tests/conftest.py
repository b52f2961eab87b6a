"""What the tests share: small data, and the settings of hypothesis."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from mnistbench.backends import Backend
from mnistbench.datasets import Dataset, load_data
from tests.support.cuda.host import StandIn

# How long an example takes depends on what else runs on the machine, and no test asserts a time.
settings.register_profile("mnistbench", deadline=None)
settings.load_profile("mnistbench")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: trains the whole classic workload; leave out with -m 'not slow'")


@pytest.fixture(scope="session")
def small_dataset() -> Dataset:
    """300 training and 50 dev images of the embedded MNIST, and its test set."""
    return load_data(train_size=300, dev_size=50)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The machine's limits are measured anew, once, and leave nothing in the user's cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MNISTBENCH_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A stand-in under CuPy's name, for modules that are then imported anew."""
    found = StandIn()
    for name, module in (("cupy", found), ("cupy.cuda", found.cuda)):
        monkeypatch.setitem(sys.modules, name, module)
    names = ("device", "plain", "classic.trainer", "mlp.kernels", "mlp.batches", "mlp.trainer", "backend")
    modules = [f"mnistbench.backends.cupy.{name}" for name in names]
    for name in modules:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield found
    for name in modules:
        sys.modules.pop(name, None)


@pytest.fixture
def cupy_backend(cupy: StandIn, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """CuPy's backend on the stand-in, in blocks of few threads: each of them is one of the CPU's."""
    monkeypatch.setattr(importlib.import_module("mnistbench.backends.cupy.mlp.kernels"), "THREADS", 8)
    found: Backend = importlib.import_module("mnistbench.backends.cupy.backend").CupyBackend()
    return found
