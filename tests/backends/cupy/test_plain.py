"""CuPy's array operations, on a stand-in for CuPy without a GPU; tests that need a GPU are skipped without one."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import mnistbench.backends as registry
from mnistbench.agreement import Trajectory, check, verify
from mnistbench.backends import Arithmetic, Availability, Backend, Trainer
from mnistbench.datasets import Dataset
from mnistbench.exceptions import BackendUnavailable
from mnistbench.task.workload import DType
from tests.support import builders
from tests.support.builders import identical
from tests.support.cuda.host import Array, StandIn
from tests.support.paths import ROOT


@pytest.fixture
def arrays(cupy: StandIn) -> Backend:
    plain: Any = importlib.import_module("mnistbench.backends.cupy.plain")
    found: Backend = plain.CupyPlainBackend()
    return found


def started(backend: Backend, dtype: DType, data: Dataset | None = None) -> Trainer:
    """Start on ``data``, by default 37 images of 13 pixels in 5 classes."""
    data = data or builders.dataset(37, 13, 5)
    task = builders.workload(data, dtype=dtype)
    return backend.start(task, data, builders.initial(task))


@pytest.mark.parametrize(
    ("images", "pixels", "hidden", "classes", "labels"),
    [(37, 13, 7, 5, 5), (1, 13, 7, 5, 5), (37, 1, 7, 5, 5), (37, 13, 1, 5, 5), (37, 13, 7, 1, 1), (41, 784, 10, 10, 8)],
)
def test_the_array_operations_agree_with_the_reference(
    arrays: Backend, dtype: DType, images: int, pixels: int, hidden: int, classes: int, labels: int
) -> None:
    data = builders.dataset(images, pixels, classes, labels=labels)
    task = builders.workload(data, hidden, iterations=20)
    found = check(arrays, task.with_dtype(dtype), data, Trajectory(task, data))
    assert found.passed, found.summary()


@pytest.mark.parametrize("iterations", [1, 2, 50])
def test_advance_copies_to_the_host_once(arrays: Backend, cupy: StandIn, dtype: DType, iterations: int) -> None:
    with started(arrays, dtype) as trainer:
        before = cupy.copies
        trainer.advance(iterations)
        assert cupy.copies == before + 1


def test_parameters_and_gradients_on_the_host_are_numpy_arrays(arrays: Backend, cupy: StandIn, dtype: DType) -> None:
    with started(arrays, dtype) as trainer:
        for handed_out in (trainer.parameters(), trainer.gradients()):
            assert {type(array) for array in handed_out.arrays()} == {np.ndarray}
        assert cupy.copies == 8


def test_the_units_that_cublas_takes_are_declared(arrays: Backend, dtype: DType) -> None:
    with started(arrays, dtype) as trainer:
        assert trainer.describe().arithmetic == Arithmetic(bits=64 if dtype == "float64" else None)


def test_a_closed_trainer_holds_no_arrays(arrays: Backend, dtype: DType) -> None:
    with started(arrays, dtype) as trainer:
        assert any(isinstance(value, Array) for value in vars(trainer).values())
    assert not any(isinstance(value, (Array, list)) for value in vars(trainer).values())


# On a GPU, or without one


@pytest.fixture
def gpu() -> Backend:
    """The backend on a real GPU."""
    return registry.get_backend("cupy")


@pytest.fixture
def no_gpu() -> Availability:
    """The reason why there is no GPU."""
    found = registry.availability("cupy")
    if found.usable:
        pytest.skip(f"there is a GPU: {found.device}")
    return found


@pytest.mark.gpu
def test_agrees_on_the_gpu(gpu: Backend, dtype: DType) -> None:
    (found,) = verify(["cupy"], [dtype], workload="smoke")
    assert found.passed, found.summary()


@pytest.mark.gpu
def test_the_gpu_repeats_itself_bit_for_bit(gpu: Backend, dtype: DType, small_dataset: Dataset) -> None:
    runs = []
    for _ in range(2):
        with started(gpu, dtype, small_dataset) as trainer:
            runs.append((trainer.advance(50), trainer.parameters()))
    assert runs[0][0] == runs[1][0]
    assert identical(runs[0][1], runs[1][1])


@pytest.mark.gpu
def test_the_gpu_describes_itself(gpu: Backend, dtype: DType) -> None:
    with started(gpu, dtype) as trainer:
        description = trainer.describe()
    assert description.device == gpu.availability().device
    assert {"cupy", "cuda", "cuda driver"} <= set(description.versions)


@pytest.mark.gpu
def test_too_many_images_for_the_gpu_are_refused_with_a_way_out(gpu: Backend, small_dataset: Dataset) -> None:
    cupy: Any = pytest.importorskip("cupy")
    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    pool.set_limit(size=2**20)
    try:
        with pytest.raises(
            BackendUnavailable, match="300 images in float64 do not fit into the GPU's memory"
        ) as caught:
            started(gpu, "float64", small_dataset)
    finally:
        pool.set_limit(size=0)
    assert caught.value.fix == "use fewer images (--train-size)"
    assert "GiB are free" in str(caught.value)
    with started(gpu, "float64", small_dataset) as trainer:  # nothing is left broken
        trainer.advance(1)


def test_without_a_gpu_the_reason_and_the_fix_are_named(no_gpu: Availability) -> None:
    with pytest.raises(BackendUnavailable) as caught:
        registry.get_backend("cupy")
    assert no_gpu.reason
    assert no_gpu.fix
    assert str(caught.value) == f"backend cupy is unavailable: {no_gpu.reason}; {no_gpu.fix}"
    assert str(caught.value).isprintable()
    if no_gpu.version is None:  # CuPy itself is missing
        assert "cupy" in no_gpu.reason
        assert "pip install 'mnistbench[cuda12]'" in no_gpu.fix
    assert "NVIDIA GPU" in no_gpu.fix


def test_pytest_refuses_a_backend_that_was_asked_for_and_cannot_run(no_gpu: Availability) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--backend", "cupy", "tests/test_files.py"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert "backend cupy is unavailable" in run.stderr
    assert "passed" not in run.stdout
