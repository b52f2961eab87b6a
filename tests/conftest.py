"""What the tests share: small data, and the settings of hypothesis."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from mnistbench.datasets import Dataset, load_data

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
