"""The persistent CUDA kernel, run on a CPU: every CUDA thread is a thread (see ``cuda/emulation.h``).

The very source that CuPy compiles for a GPU trains small shapes here, and builds for three generations of GPUs.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mnistbench import reference
from mnistbench.backends.cupy import layout
from mnistbench.network import Parameters
from mnistbench.workload import DType, Network, Workload

_CUDA = Path(__file__).parent / "cuda"

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to run the kernel on the CPU with")

# A device small enough to emulate: two blocks, with registers for 64 threads (32 in float64).
_SMALL = layout.Device(
    multiprocessors=2, shared_bytes=1 << 20, l2_bytes=1 << 20, registers=11_000, compute_capability=80
)


@dataclass(frozen=True)
class Shape:
    """A task: images, pixels, hidden units, classes; and how many tiles are resident and in a chunk, if not all."""

    images: int
    pixels: int
    hidden: int
    classes: int
    resident: int | None = None
    chunk: int | None = None

    def plan(self, dtype: DType, matrix_units: bool) -> layout.Plan:
        workload = Workload(Network((self.pixels, self.hidden, self.classes)), self.images, dtype=dtype)
        plan = layout.plan(workload, self.pixels, _SMALL, matrix_units)
        assert isinstance(plan, layout.Plan)
        resident = plan.resident_groups if self.resident is None else 8 * self.resident
        chunk = plan.chunk if self.chunk is None else 8 * self.chunk
        shared = layout.working_bytes(plan, chunk) + resident * plan.group_bytes
        return replace(plan, resident_groups=resident, chunk=chunk, shared_bytes=shared)

    def data(self) -> tuple[NDArray[np.uint8], NDArray[np.int64], Parameters]:
        rng = np.random.default_rng(self.images)
        images = rng.integers(0, 256, (self.images, self.pixels), dtype=np.uint8)
        images[rng.random(images.shape) < 0.6] = 0
        labels = rng.integers(0, self.classes, self.images)
        return images, labels, Parameters.initial(Network((self.pixels, self.hidden, self.classes)), 1)


@cache
def _library(folder: Path, matrix_units: bool, macros: tuple[tuple[str, str], ...]) -> Any:
    name = "_".join(["matrix" if matrix_units else "plain", *(value for _, value in macros)])
    return ctypes.CDLL(str(_build(folder / f"{name}.so", matrix_units, dict(macros), "-O1", "-shared", "-fPIC")))


def _build(path: Path, matrix_units: bool, macros: dict[str, str], *options: str) -> Path:
    """The kernel and what runs it, compiled for the host."""
    source = path.with_suffix(".cpp")
    source.write_text(layout.source(matrix_units) + (_CUDA / "run.cpp").read_text())
    command = ["g++", "-std=c++20", "-pthread", "-w", "-include", str(_CUDA / "emulation.h"), *options]
    defined = [f"-D{name}={value}" for name, value in macros.items()]
    subprocess.run([*command, *defined, str(source), "-o", str(path)], check=True)
    return path


class Kernel:
    """The kernel with one task's arrays."""

    def __init__(
        self, folder: Path, shape: Shape, dtype: DType, matrix_units: bool, learning_rate: float = 0.1
    ) -> None:
        self.plan = shape.plan(dtype, matrix_units)
        images, labels, self.initial = shape.data()
        self._kept = np.arange(shape.pixels)
        self._rate = learning_rate
        self._library = _library(folder, matrix_units, tuple(self.plan.macros.items()))
        self._images = _aligned(layout.pack_images(np, images, self.plan.quads))
        self._labels = labels.astype(np.uint8)
        self.values = _aligned(layout.pack_parameters(self.plan, self.initial, self._kept))

    def run(self, iterations: int, gradients: NDArray[Any] | None = None) -> tuple[float, float]:
        """Train; the loss and accuracy of the last iteration."""
        plan = self.plan
        partials = _aligned(np.full(plan.blocks * plan.length, np.nan, plan.dtype))
        metrics = np.full((plan.blocks, 2), np.nan)
        arrays = (self._images, self._labels, self.values, gradients, partials, metrics)
        pointers = [None if array is None else array.ctypes.data_as(ctypes.c_void_p) for array in arrays]
        self._library.run(
            plan.blocks, ctypes.c_size_t(plan.shared_bytes), *pointers, plan.images, plan.quads, iterations,
            ctypes.c_double(self._rate), plan.resident_groups, plan.chunk,
        )  # fmt: skip
        loss, hits = metrics.sum(axis=0) / plan.images
        return float(loss), float(hits)

    def parameters(self) -> Parameters:
        return layout.unpack_parameters(self.plan, self.values, self._kept, self.initial)

    def gradients(self) -> Parameters:
        result = _aligned(np.full_like(self.values, np.nan))
        self.run(1, result)
        return layout.unpack_parameters(self.plan, result, self._kept, self.initial)


def _aligned(array: NDArray[Any]) -> NDArray[Any]:
    """A flat copy at an address divisible by 16, as CUDA's are."""
    space = np.empty(array.nbytes + 16, np.uint8)
    start = -space.ctypes.data % 16
    copy = space[start : start + array.nbytes].view(array.dtype)
    copy[:] = array.ravel()
    return copy


SHAPES = {
    "resident": Shape(100, 30, 6, 10),
    "streamed": Shape(203, 30, 10, 10, resident=1),
    "chunks": Shape(203, 50, 6, 10, resident=3, chunk=2),
    "passes": Shape(140, 9, 22, 3, resident=0, chunk=1),
    "few": Shape(1, 1, 1, 1),
    "odd": Shape(9, 5, 3, 17, resident=0),
}
VERSIONS: dict[str, tuple[DType, bool]] = {
    "float32": ("float32", False),
    "float64": ("float64", False),
    "matrix units": ("float32", True),
}


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernel")


@needs_compiler
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", SHAPES)
def test_trajectory_is_the_references(built: Path, name: str, version: str) -> None:
    shape, (dtype, matrix_units) = SHAPES[name], VERSIONS[version]
    if dtype == "float64" and shape.classes > 16:
        pytest.skip("falls back to array operations")
    kernel = Kernel(built, shape, dtype, matrix_units)
    images, labels, initial = shape.data()
    X, arrays = reference.scale_images(images), _arrays(initial)
    eps = float(np.finfo(dtype).eps)
    for iterations in (1, 2):
        for _ in range(iterations):
            Z1, A1, Z2, A2 = reference.forward_prop(*arrays, X)
            gradients = reference.backward_prop(Z1, A1, Z2, A2, arrays[0], arrays[2], X, labels)
            arrays = reference.update_params(*arrays, *gradients, 0.1)
        loss, accuracy = kernel.run(iterations)
        assert loss == pytest.approx(reference.cross_entropy(Z2, labels), rel=20 * eps)
        assert accuracy == reference.get_accuracy(reference.get_predictions(A2), labels)
        for own, expected in zip(_arrays(kernel.parameters()), arrays, strict=True):
            np.testing.assert_allclose(own, expected, rtol=0, atol=4 * eps)
    Z1, A1, Z2, A2 = reference.forward_prop(*arrays, X)
    expected_gradients = reference.backward_prop(Z1, A1, Z2, A2, arrays[0], arrays[2], X, labels)
    values = kernel.values.copy()
    for own, expected in zip(_arrays(kernel.gradients()), expected_gradients, strict=True):
        np.testing.assert_allclose(own, expected, rtol=0, atol=4 * eps)
    np.testing.assert_array_equal(kernel.values, values)


def _arrays(parameters: Parameters) -> tuple[Any, Any, Any, Any]:
    (W1, W2), (b1, b2) = parameters.weights, parameters.biases
    return W1, b1, W2, b2


@needs_compiler
@pytest.mark.parametrize("version", VERSIONS)
def test_a_launch_repeats_bit_for_bit(built: Path, version: str) -> None:
    runs = []
    for _ in range(2):
        kernel = Kernel(built, SHAPES["streamed"], *VERSIONS[version])
        runs.append((kernel.run(2), kernel.values.tobytes()))
    assert runs[0] == runs[1]


@needs_compiler
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", [0, -4])
def test_what_is_not_finite_shows_in_the_loss(built: Path, version: str, bad: float, where: int) -> None:
    kernel = Kernel(built, SHAPES["streamed"], *VERSIONS[version])
    kernel.values[where if where == 0 else kernel.plan.weight_values] = bad
    loss, _ = kernel.run(1)
    assert not np.isfinite(loss)
    assert not kernel.parameters().is_finite()


@pytest.fixture(scope="session")
def race_detectors(built: Path) -> dict[bool, Path]:
    """Programs that run the kernel under ThreadSanitizer, of both versions."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ to run the kernel on the CPU with")
    probe = built / "probe.cpp"
    probe.write_text("int main() {}")
    command = ["g++", "-fsanitize=thread", str(probe), "-o", str(built / "probe")]
    if subprocess.run(command, capture_output=True).returncode or subprocess.run([str(built / "probe")]).returncode:
        pytest.skip("no ThreadSanitizer here")
    return {
        matrix_units: _build(
            built / f"races_{matrix_units}",
            matrix_units,
            RACING.plan("float32", matrix_units).macros,
            *("-O1", "-g", "-fsanitize=thread"),
        )
        for matrix_units in (False, True)
    }


# Several chunks, two passes, resident and streamed images, fewer columns to update than threads: all barriers count.
RACING = Shape(200, 15, 12, 3, resident=1, chunk=2)
BARRIERS = [(version, barrier) for version in (False, True) for barrier in range(12) if version or barrier != 8]


@needs_compiler
@pytest.mark.parametrize(("matrix_units", "left_out"), BARRIERS)
def test_only_a_missing_barrier_makes_a_race(
    race_detectors: dict[bool, Path], matrix_units: bool, left_out: int
) -> None:
    plan = RACING.plan("float32", matrix_units)
    assert plan.passes == 2
    numbers = (plan.blocks, plan.shared_bytes, plan.images, plan.quads, plan.resident_groups, plan.chunk, left_out)
    command = [str(race_detectors[matrix_units]), *map(str, numbers)]
    environment = {"TSAN_OPTIONS": f"exitcode=66 halt_on_error={int(left_out > 0)}"}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert run.returncode == (66 if left_out else 0), run.stderr[-2000:]
    assert ("data race" in run.stderr) == bool(left_out)
