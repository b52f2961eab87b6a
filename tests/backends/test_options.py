"""Every backend with every option: it agrees with the reference, or names the backends that implement the option."""

from __future__ import annotations

import pytest

import mnistbench.backends as registry
from mnistbench.exceptions import UnsupportedWorkload
from mnistbench.task.workload import DType, Workload
from tests.support import builders, options

COMPILE_EACH = ("jax",)
"""Backends that compile each workload for seconds: without --all-options they run combinations only, in one dtype."""

ALONE = options.alone()
COMBINED = options.combined(rounds=1)


def agrees_or_refuses(name: str, task: Workload) -> None:
    backend = registry.get_backend(name)
    if (option := backend.unsupported(task)) is None:
        options.assert_agrees(backend, task)
        return
    with pytest.raises(UnsupportedWorkload) as caught:
        backend.start(task, options.DATA, builders.initial(task))
    others = [
        other for other in registry.list_backends(usable=True) if registry.get_backend(other).unsupported(task) is None
    ]
    assert "numpy" in others
    assert str(caught.value) == f"backend {name} does not implement {option}; use --backend {' or '.join(others)}"


@pytest.mark.parametrize("case", ALONE)
def test_each_value_of_each_option_alone(
    backend_name: str, dtype: DType, case: str, request: pytest.FixtureRequest
) -> None:
    if backend_name in COMPILE_EACH and not request.config.getoption("--all-options"):
        pytest.skip("compiles each; --all-options runs it")
    agrees_or_refuses(backend_name, ALONE[case].with_dtype(dtype))


@pytest.mark.parametrize("place", range(len(COMBINED)))
def test_combinations_with_every_value(
    backend_name: str, dtype: DType, place: int, request: pytest.FixtureRequest
) -> None:
    everything = request.config.getoption("--all-options")
    if backend_name in (*COMPILE_EACH, "numba") and not everything and (dtype == "float64") == place % 2:
        pytest.skip("compiles for seconds; the other dtype runs it")
    agrees_or_refuses(backend_name, COMBINED[place].with_dtype(dtype))


@pytest.mark.parametrize("seed", range(1, 7))
def test_more_combinations(backend_name: str, dtype: DType, seed: int, request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--all-options"):
        pytest.skip("--all-options runs it")
    for task in options.combined(rounds=1, seed=seed):
        agrees_or_refuses(backend_name, task.with_dtype(dtype))
