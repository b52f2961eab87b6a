"""The CuPy backend. Its array operations are also run on NumPy arrays; what needs a GPU says so and is skipped."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

import mnistbench.backends as registry
from mnistbench.agreement import Trajectory, check, verify
from mnistbench.backends import Availability, Backend, Description, Trainer
from mnistbench.datasets import Dataset
from mnistbench.exceptions import BackendUnavailable
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import DType, Workload
from tests.support import builders
from tests.support.builders import identical
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from mnistbench.backends.cupy.arrays import ArrayTrainer


def load_arrays() -> ModuleType:
    """mnistbench.backends.cupy.arrays by its file: the package that it is in can be imported only where CuPy is."""
    file = Path(str(registry.__file__)).with_name("cupy") / "arrays.py"
    spec = importlib.util.spec_from_file_location("arrays_without_cupy", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


array_operations = load_arrays()
if not TYPE_CHECKING:
    ArrayTrainer = array_operations.ArrayTrainer


class Device(np.ndarray[Any, Any]):
    """An array that, like one on a GPU, becomes a Python or a NumPy value only where that is asked for."""

    def _refuse(self, *arguments: Any) -> Any:
        raise AssertionError("an array left the device unasked")

    def __getitem__(self, key: Any) -> Any:
        return np.asarray(super().__getitem__(key)).view(Device)  # of one element, too

    __bool__ = __float__ = __int__ = __index__ = __complex__ = __iter__ = item = tolist = _refuse


class Library(ModuleType):
    """The functions of NumPy that ArrayTrainer uses, on arrays of a device, and a count of the copies to the host."""

    def __init__(self) -> None:
        super().__init__("device")
        self.copies = 0
        self.exp, self.log, self.maximum = np.exp, np.log, np.maximum

    def array(self, value: NDArray[Any], dtype: str) -> Device:
        return np.array(value, dtype).view(Device)

    def asarray(self, value: NDArray[Any]) -> Device:
        return np.array(value).view(Device)

    def arange(self, stop: int) -> Device:
        return np.arange(stop).view(Device)

    def stack(self, values: list[Any]) -> Device:
        return np.stack(values).view(Device)

    def to_host(self, value: Any) -> NDArray[Any]:
        assert isinstance(value, Device)
        self.copies += 1
        return np.array(value)


class Described(ArrayTrainer):
    def describe(self) -> Description:
        return Description("none", 1, {})


class ArrayBackend(Backend):
    """ArrayTrainer on the arrays of :class:`Library`."""

    name = "arrays"

    def __init__(self) -> None:
        self.library = Library()

    def load(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> Trainer:
        return Described(self.library, self.library.to_host, workload, dataset, parameters)


@pytest.fixture
def arrays() -> ArrayBackend:
    return ArrayBackend()


def started(backend: Backend, dtype: DType, data: Dataset | None = None) -> Trainer:
    """A trainer on ``data``, or on 37 images of 13 pixels in 5 classes."""
    data = data or builders.dataset(37, 13, 5)
    task = builders.workload(data, dtype=dtype)
    return backend.start(task, data, builders.initial(task))


@pytest.mark.parametrize(
    ("images", "pixels", "hidden", "classes", "labels"),
    [(37, 13, 7, 5, 5), (1, 13, 7, 5, 5), (37, 1, 7, 5, 5), (37, 13, 1, 5, 5), (37, 13, 7, 1, 1), (41, 784, 10, 10, 8)],
)
def test_the_array_operations_agree_with_the_reference(
    arrays: ArrayBackend, dtype: DType, images: int, pixels: int, hidden: int, classes: int, labels: int
) -> None:
    data = builders.dataset(images, pixels, classes, labels=labels)
    task = builders.workload(data, hidden, iterations=20)
    found = check(arrays, task.with_dtype(dtype), data, Trajectory(task, data))
    assert found.passed, found.summary()
    assert len(found.history) > 10


def test_the_array_operations_run_on_numpy_itself(dtype: DType) -> None:
    data = builders.dataset(37, 13, 5)
    task = builders.workload(data, dtype=dtype)
    plain, other = Described(np, np.array, task, data, builders.initial(task)), started(ArrayBackend(), dtype)
    assert plain.advance(5) == other.advance(5)
    assert identical(plain.parameters(), other.parameters())


@pytest.mark.parametrize("iterations", [1, 2, 50])
def test_advance_copies_to_the_host_once(arrays: ArrayBackend, dtype: DType, iterations: int) -> None:
    with started(arrays, dtype) as trainer:
        before = arrays.library.copies
        trainer.advance(iterations)
        assert arrays.library.copies == before + 1


def test_what_comes_to_the_host_are_plain_arrays(arrays: ArrayBackend, dtype: DType) -> None:
    with started(arrays, dtype) as trainer:
        for handed_out in (trainer.parameters(), trainer.gradients()):
            assert {type(array) for _, array in handed_out.named()} == {np.ndarray}
        assert arrays.library.copies >= 8


def test_a_closed_trainer_holds_no_arrays(arrays: ArrayBackend, dtype: DType) -> None:
    with started(arrays, dtype) as trainer:
        assert any(isinstance(value, Device) for value in vars(trainer).values())
    kept = [value for value in vars(trainer).values() if isinstance(value, (Device, list))]
    assert kept == []


# On a GPU, or without one


@pytest.fixture
def gpu() -> Backend:
    """The backend on a real GPU."""
    return registry.get_backend("cupy")


@pytest.fixture
def no_gpu() -> Availability:
    """Why there is none."""
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
        said = trainer.describe()
    assert said.device == gpu.availability().device
    assert {"cupy", "cuda", "cuda driver"} <= set(said.versions)


@pytest.mark.gpu
def test_what_does_not_fit_into_the_gpu_is_refused_with_a_way_out(gpu: Backend, small_dataset: Dataset) -> None:
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
