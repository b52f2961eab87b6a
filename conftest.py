"""Options of tests and benchmarks that choose backends, dtypes and threads, and the number of test workers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

import mnistbench.backends as registry
from mnistbench import threads
from mnistbench.exceptions import MnistbenchError
from mnistbench.task.workload import DTYPES

_TESTS = Path(__file__).parent / "tests"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("mnistbench")
    group.addoption("--backend", action="append", metavar="NAME", help="only this backend; repeat for more")
    group.addoption("--dtype", action="append", choices=DTYPES, help="only this dtype; repeat for both")
    group.addoption("--threads", type=int, metavar="N", help="number of CPU threads (default: OMP_NUM_THREADS, or all)")
    group.addoption("--all-options", action="store_true", help="test every option of training and more combinations")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run the tests in one worker per CPU, unless ``-n`` or ``-s`` says otherwise.

    Benchmarks run in one process, since they measure times.
    """
    option = config.option
    if not config.pluginmanager.hasplugin("xdist") or hasattr(config, "workerinput"):
        return
    if option.numprocesses is not None or option.dist != "no" or option.tx or option.capture == "no":
        return
    paths = [config.invocation_params.dir / argument for argument in config.args]
    if paths and all("::" not in str(path) and path.resolve().is_relative_to(_TESTS) for path in paths):
        option.numprocesses, option.dist = "auto", "worksteal"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Count the CPUs that this process may use; xdist would count the cores of the whole machine."""
    return threads.usable_cpus()


def pytest_configure(config: pytest.Config) -> None:
    # Before anything imports NumPy: thread pools take their size when they are loaded.
    try:
        threads.limit(config.getoption("--threads"))
        for name in config.getoption("--backend") or []:
            registry.get_backend(name)
    except MnistbenchError as error:
        raise pytest.UsageError(str(error)) from error


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    # A test that parametrizes its own backends or dtypes is left alone.
    chosen = {name for mark in metafunc.definition.iter_markers("parametrize") for name in _names(mark.args[0])}
    if "backend_name" in set(metafunc.fixturenames) - chosen:
        named = metafunc.config.getoption("--backend")
        metafunc.parametrize("backend_name", named or registry.list_backends())
    if "dtype" in set(metafunc.fixturenames) - chosen:
        metafunc.parametrize("dtype", metafunc.config.getoption("--dtype") or DTYPES)


def _names(argument: str | Sequence[str]) -> list[str]:
    """Return the names in the first argument of ``parametrize``."""
    return [name.strip() for name in argument.split(",")] if isinstance(argument, str) else list(argument)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test of a backend that cannot run here; not while collecting, since finding out loads its library."""
    name = item.callspec.params.get("backend_name") if hasattr(item, "callspec") else None
    if name in registry.list_backends() and not (found := registry.availability(name)).usable:
        pytest.skip(f"{name} is unavailable: {found.reason}")
