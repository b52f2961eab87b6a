"""The persistent CUDA kernel, run on a CPU: CUDA threads are coroutines there (see ``cuda/emulation.h``).

The very source that CuPy compiles for a GPU trains small shapes here.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mnistbench import reference
from mnistbench.backends.cupy.classic import epochs, layout
from mnistbench.backends.cupy.classic.dealing import deal
from mnistbench.datasets import load_data
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import DTYPES, DType, Network, Workload
from tests.support.cuda import digits as model
from tests.support.cuda import host
from tests.support.cuda.devices import CLASSIC, HOPPER, TURING, VERSIONS, macros
from tests.support.cuda.host import needs_compiler

RATE = 0.1

# A device small enough to emulate: two blocks, with registers for 64 threads (32 in float64).
_SMALL = layout.Device(
    multiprocessors=2, shared_bytes=1 << 20, l2_bytes=1 << 20, registers=host.REGISTERS, compute_capability=80
)


@dataclass(frozen=True)
class Shape:
    """Sizes of a task; ``resident`` and ``chunk`` in tiles, None for all of a block's images.

    Images of each of the ``kinds`` use pixels of their own, so that blocks leave others out.
    """

    images: int
    pixels: int
    hidden: int
    classes: int
    resident: int | None = None
    chunk: int | None = None
    kinds: int = 1

    def plan(
        self, dtype: DType, digits: int, shares: NDArray[np.int64] | None = None, with_epochs: bool = False
    ) -> layout.Plan:
        workload = Workload(Network((self.pixels, self.hidden, self.classes)), self.images, dtype=dtype)
        plan = layout.plan(workload, self.pixels, _SMALL, digits, shares, with_epochs)
        assert isinstance(plan, layout.Plan)
        chunk = plan.chunk if self.chunk is None else 8 * self.chunk
        cells = plan.resident_cells if self.resident is None else 8 * self.resident * plan.quads
        shared = layout.working_bytes(plan, chunk) + 16 * cells
        return replace(plan, resident_cells=cells, chunk=chunk, shared_bytes=shared)

    def data(self) -> tuple[NDArray[np.uint8], NDArray[np.int64], Parameters]:
        rng = np.random.default_rng(self.images)
        images = rng.integers(0, 256, (self.images, self.pixels), dtype=np.uint8)
        images[rng.random(images.shape) < 0.6] = 0
        kind = rng.integers(0, self.kinds, (self.images, 1))
        images[np.arange(self.pixels) * self.kinds // self.pixels != kind] = 0
        labels = rng.integers(0, self.classes, self.images)
        return images, labels, Parameters.initial(Network((self.pixels, self.hidden, self.classes)), 1)


class Kernel:
    """The kernel with one task's arrays on the host."""

    def __init__(self, shape: Shape, dtype: DType, digits: int, with_epochs: bool = False) -> None:
        images, labels, self.initial = shape.data()
        self._kept = np.arange(shape.pixels)
        dealt = deal(images, (1, shape.pixels), self._kept, layout.blocks_of(shape.images, _SMALL))
        self.plan = shape.plan(dtype, digits, dealt.shares, with_epochs)
        self.source = layout.source(self.plan.matrix_units)
        self._shares, self._places = layout.pack_shares(self.plan, dealt.quads)
        parts = []
        for share, own in zip(self._shares, dealt.quads, strict=True):
            rows = dealt.order[share["first_image"] :][: share["images"]]
            parts.append(layout.pack_images(np, images[rows], self._kept, own, share["quads"], self.plan.matrix_units))
        # What the kernel reads behind the images must not count.
        self._images = np.concatenate([*parts, np.full((self.plan.slack, 16), 255, np.uint8)])
        self.images, self.labels = images[dealt.order], labels[dealt.order].astype(np.uint8)
        values = layout.pack_parameters(self.plan, self.initial, self._kept)
        self._epoch, self._exchanged = epochs.FIRST, epochs.with_epoch(self.plan, values, epochs.FIRST)
        self.values = self._exchanged[:, 0]
        self.partials = self._partials(dealt.quads)

    def run(
        self, iterations: int, gradients: NDArray[Any] | None = None, runner: str = "run.cpp"
    ) -> tuple[float, float]:
        """Train; return the loss and accuracy of the last iteration."""
        plan = self.plan
        kernel = host.Persistent(self.source, macros(plan))
        kernel.runner, kernel.max_dynamic_shared_size_bytes = runner, plan.shared_bytes
        metrics, arrivals = np.full((plan.blocks, 2), np.nan), np.zeros(1, np.uint32)
        target = np.uintp(0) if gradients is None else gradients
        images, all_quads, quads, count, resident, chunk = map(
            np.int32, (plan.images, plan.all_quads, plan.quads, iterations, plan.resident_cells, plan.chunk)
        )
        inputs = (self._images, self.labels, self._shares.view(np.uint8), self._places, self._exchanged)
        arrays = (*inputs, target, self.partials, metrics, arrivals)
        rate, epoch = np.dtype(plan.dtype).type(RATE), np.uint32(self._epoch)
        numbers = (images, all_quads, quads, count, rate, resident, chunk, epoch)
        kernel((plan.blocks,), (plan.threads,), [*arrays, *numbers], plan.shared_bytes)
        self._epoch += iterations
        loss, hits = metrics.sum(axis=0) / plan.images
        return float(loss), float(hits)

    def library(self, runner: str) -> ctypes.CDLL:
        """Return the library that :meth:`run` has run the kernel by."""
        return host.library(self.source, macros(self.plan), runner)

    def _partials(self, quads: list[NDArray[np.intp]]) -> NDArray[Any]:
        """Return the gradient sums before the first launch: zero for what a block never sends, the others unknown."""
        plan = self.plan
        sent = epochs.unsent(plan, quads) != epochs.LASTING
        partials = np.zeros((plan.blocks, plan.length, plan.words), plan.dtype)
        partials[sent, 0] = np.nan
        if plan.epochs:
            partials.view(np.uint32)[..., 1] = epochs.unsent(plan, quads)
        return partials

    def parameters(self) -> Parameters:
        return layout.unpack_parameters(self.plan, self.values, self._kept, self.initial)

    def gradients(self) -> Parameters:
        result = np.full_like(self.values, np.nan)
        self.run(1, result)
        return layout.unpack_parameters(self.plan, result, self._kept, self.initial)


SHAPES = {
    "resident": Shape(100, 30, 10, 10),
    "streamed": Shape(203, 31, 9, 10, resident=1),
    "chunks": Shape(203, 50, 10, 10, resident=3, chunk=2),
    "passes": Shape(80, 9, 22, 3, resident=0, chunk=1),
    "kinds": Shape(203, 70, 10, 10, resident=2, chunk=3, kinds=2),
    "few": Shape(1, 1, 1, 1),
    "odd": Shape(9, 5, 3, 17, resident=0),
}


@needs_compiler
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", SHAPES)
def test_the_trajectory_equals_the_references(name: str, version: str, request: pytest.FixtureRequest) -> None:
    shape, (dtype, digits) = SHAPES[name], VERSIONS[version]
    if digits == 3 and name in ("few", "odd") and not request.config.getoption("--all-options"):
        pytest.skip("--all-options runs it")
    if dtype == "float64" and shape.classes > 16:
        pytest.skip("falls back to array operations")
    kernel = Kernel(shape, dtype, digits)
    images, labels, initial = shape.data()
    X, arrays = reference.scale_images(images), _arrays(initial)
    eps = float(np.finfo(dtype).eps)
    for iterations in (1, 2):
        for _ in range(iterations):
            Z1, A1, Z2, A2 = reference.forward_prop(*arrays, X)
            gradients = reference.backward_prop(Z1, A1, Z2, A2, arrays[0], arrays[2], X, labels)
            arrays = reference.update_params(*arrays, *gradients, RATE)
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
def test_a_launch_repeats_bit_for_bit(version: str) -> None:
    runs = []
    for _ in range(2):
        kernel = Kernel(SHAPES["streamed"], *VERSIONS[version])
        runs.append((kernel.run(2), kernel.values.tobytes()))
    assert runs[0] == runs[1]


@needs_compiler
@pytest.mark.parametrize("version", ["float32", "matrix units"])
def test_one_weight_a_hundred_times_the_others_costs_them_no_precision(version: str) -> None:
    shape = SHAPES["resident"]
    kernel = Kernel(shape, *VERSIONS[version])
    images, labels, initial = shape.data()
    initial.weights[0][0, 0] = 100
    kernel.values[:] = layout.pack_parameters(kernel.plan, initial, np.arange(shape.pixels))
    X, arrays = reference.scale_images(images), _arrays(initial)
    Z1, A1, Z2, A2 = reference.forward_prop(*arrays, X)
    expected = reference.backward_prop(Z1, A1, Z2, A2, arrays[0], arrays[2], X, labels)
    for own, wanted in zip(_arrays(kernel.gradients()), expected, strict=True):
        np.testing.assert_allclose(own, wanted, rtol=0, atol=4 * np.finfo(np.float32).eps * np.abs(wanted).max())


@needs_compiler
@pytest.mark.parametrize(("digits", "largest"), [(3, 128 / 129), (3, 1.0), (4, 1.0)])
@pytest.mark.parametrize("sign", [1, -1])
def test_products_are_those_of_the_rounded_factors_exactly(digits: int, largest: float, sign: int) -> None:
    """Class 0 has all of the probability, so dZ2 is 1 there, -1 at the label, and 0 else or if they are the same.

    Then dW2 shows Z1 where it is positive: for one image of each label, all bits of it. The largest factors are those
    just below a number.
    """
    kernel = Kernel(Shape(32, 50, 10, 10), "float32", digits)
    W1, b1, W2, b2 = _arrays(kernel.initial.astype("float32"))
    below = np.nextafter(np.float32(largest), np.float32(0))
    W1[0, 0], W1[1, 1], W2[0, 2], W2[5, 2] = below, -below, below, -below
    b1[3], b2[1:] = -128 / model.RESOLUTION[digits], -1_000
    own = Parameters([sign * W1, W2], [sign * b1, b2])
    kernel.values[:] = layout.pack_parameters(kernel.plan, own, np.arange(50))
    pixels = np.column_stack([kernel.images, np.full(32, 255)]).astype(np.int64)
    scale = model.scale_above(float(below), digits)
    assert (scale > 1) == (digits == 3 and largest == 1)
    factors = model.as_integers(sign * np.column_stack([W1, b1]), scale, digits)
    Z1 = model.product(factors, pixels.T, digits) * model.result_scale(scale, digits)
    scales = np.array([[model.scale_above(2 * float(most), digits)] for most in np.abs(W2).max(axis=0)])
    for first in range(0, 32, 9):
        images = np.arange(first, min(first + 9, 32))
        kernel.labels[:] = 0
        kernel.labels[images] = labels = 1 + np.arange(images.size)
        found = kernel.gradients()
        np.testing.assert_array_equal(-32 * found.weights[1][labels], np.maximum(Z1[:, images], 0).T)
        dZ1 = np.where(Z1 > 0, W2[:1].T - W2[kernel.labels].T, np.float32(0))
        product = model.product(model.as_integers(dZ1, scales, digits), pixels, digits)
        expected = product * model.result_scale(scales, digits) / np.float32(32)
        np.testing.assert_array_equal(np.column_stack([found.weights[0], found.biases[0]]), expected)


@needs_compiler
@pytest.mark.parametrize("version", VERSIONS)
def test_the_first_of_equal_classes_is_predicted(version: str) -> None:
    shape = SHAPES["resident"]
    kernel = Kernel(shape, *VERSIONS[version])
    kernel.values[:] = 0
    loss, accuracy = kernel.run(1)
    assert loss == pytest.approx(np.log(10))
    assert accuracy == np.mean(shape.data()[1] == 0) > 0


@needs_compiler
@pytest.mark.parametrize(
    ("version", "bad"),
    [("float32", np.nan), ("three digits", np.nan), ("matrix units", np.nan), ("matrix units", np.inf)],
)
@pytest.mark.parametrize("where", ["W1", "W2"])
def test_a_parameter_that_is_not_finite_shows_in_the_loss(version: str, bad: float, where: str) -> None:
    kernel = Kernel(SHAPES["streamed"], *VERSIONS[version])
    kernel.values[0 if where == "W1" else kernel.plan.weight_values] = bad
    loss, _ = kernel.run(1)
    assert not np.isfinite(loss)
    assert not kernel.parameters().is_finite()


# Several chunks, two passes, resident and streamed images, fewer columns to update than threads: all barriers count.
RACING = Shape(200, 15, 12, 3, resident=1, chunk=2)
# The version with matrix units has all barriers; the other lacks number 7.
CASES = [(0, 0), (3, 0), (3, 3), *((4, barrier) for barrier in range(11))]


def sanitized(
    plan: layout.Plan,
    sanitizer: str,
    *,
    source: str = "",
    left_out: int = 0,
    too_few: int = 0,
    ordered: bool = False,
    **environment: str,
) -> str:
    """Run the kernel under a sanitizer, without one of its barriers or with shared memory ``too_few`` bytes too small.

    With ``ordered``, epochs that threads wait for order what they do; another ``source`` may have planted faults.
    Return its messages; the program must fail if and only if something was taken away.
    """
    numbers = (plan.blocks, plan.shared_bytes - too_few, plan.images, plan.quads, plan.resident_cells, plan.chunk)
    source = source or layout.source(plan.matrix_units)
    program = host.build_sanitized(source, macros(plan), sanitizer)
    command = [program, *numbers, left_out, int(ordered)]
    run = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=120, env=os.environ | environment
    )
    assert (run.returncode != 0) == bool(left_out or too_few), run.stderr[-2000:]
    return run.stderr


@pytest.mark.sanitizer
@needs_compiler
@pytest.mark.parametrize(("digits", "left_out"), CASES)
def test_only_a_missing_barrier_makes_a_race(digits: int, left_out: int, request: pytest.FixtureRequest) -> None:
    if digits == 3 and not request.config.getoption("--all-options"):
        pytest.skip("--all-options runs it")
    plan = RACING.plan("float32", digits)
    assert plan.passes == 2
    messages = sanitized(plan, "thread", left_out=left_out, TSAN_OPTIONS=f"halt_on_error={int(left_out > 0)}")
    assert ("data race" in messages) == bool(left_out)


@pytest.mark.sanitizer
@needs_compiler
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("shape", [RACING, SHAPES["few"]])
def test_every_access_is_inside_an_array_and_aligned(
    version: str, shape: Shape, request: pytest.FixtureRequest
) -> None:
    usual = {
        "float32": [RACING],
        "float64": [SHAPES["few"]],
        "matrix units": [RACING, SHAPES["few"]],
        "three digits": [],
    }
    if shape not in usual[version] and not request.config.getoption("--all-options"):
        pytest.skip("--all-options runs it")
    plan = shape.plan(*VERSIONS[version])
    for too_few in (0, plan.shared_bytes // 4 // 16 * 16):
        # The widest red zones, so that an address beyond an array's end is in no other array.
        wide = "redzone=2048:max_redzone=2048"
        messages = sanitized(plan, "address,undefined", too_few=too_few, ASAN_OPTIONS=wide)
        assert ("heap-buffer-overflow" in messages) == (too_few > 0)


# The plan


def test_the_classic_stays_on_the_chip() -> None:
    plan = layout.plan(CLASSIC, 717, HOPPER)
    assert isinstance(plan, layout.Plan)
    assert plan.matrix_units
    assert (plan.blocks, plan.threads, plan.units, plan.passes) == (132, 384, 10, 1)
    assert plan.chunk == 80  # all of a block's images at once
    assert 0.7 <= plan.resident_share < 0.75
    assert plan.shared_bytes <= HOPPER.shared_bytes


def test_dealt_by_similarity_all_images_of_the_classic_stay_in_shared_memory() -> None:
    train = load_data().train.images
    kept = np.flatnonzero(train.any(axis=0))
    assert kept.size == 710
    dealt = deal(train, (28, 28), kept, 132)
    plan = layout.plan(CLASSIC, kept.size, HOPPER, shares=dealt.shares)
    assert isinstance(plan, layout.Plan)
    assert plan.blocks == 132
    assert plan.resident_share == 1
    assert plan.stored_share < 0.67
    assert max(images * quads for images, quads in plan.shares) < 0.71 * 320 * plan.all_quads


def test_many_images_go_through_the_cache_in_chunks() -> None:
    plan = layout.plan(replace(CLASSIC, images=8_000_000), 717, HOPPER)
    assert isinstance(plan, layout.Plan)
    assert plan.chunk >= 8
    assert plan.blocks * plan.chunk * plan.quads * 16 <= HOPPER.l2_bytes // 2


@pytest.mark.parametrize(("version", "device"), [("float64", HOPPER), ("float32", TURING), ("matrix units", HOPPER)])
def test_matrix_units_need_float32_and_a_new_enough_gpu(version: str, device: layout.Device) -> None:
    computed_in, digits = VERSIONS[version]
    plan = layout.plan(CLASSIC.with_dtype(computed_in), 717, device)
    assert isinstance(plan, layout.Plan)
    assert plan.digits == digits
    assert ("integer matrix units" in str(plan)) == plan.matrix_units


@pytest.mark.parametrize(("computed_in", "device"), [("float64", HOPPER), ("float32", TURING)])
def test_digits_without_such_matrix_units_are_refused(computed_in: DType, device: layout.Device) -> None:
    found = layout.plan(CLASSIC.with_dtype(computed_in), 717, device, 3)
    assert found == f"the device has no matrix units that compute {computed_in} in integers"


COMPUTED = "that a block's threads compute"


@pytest.mark.parametrize(
    ("sizes", "computed_in", "device", "reason"),
    [
        ((784, 10, 33), "float32", HOPPER, "33 classes are more than the 32 that a thread's registers hold in float32"),
        ((784, 10, 17), "float64", HOPPER, "17 classes are more than the 16 that a thread's registers hold in float64"),
        ((784, 383, 10), "float32", HOPPER, f"383 hidden units are more than the 382 {COMPUTED} in float32"),
        ((784, 255, 10), "float64", HOPPER, f"255 hidden units are more than the 254 {COMPUTED} in float64"),
        ((30_000, 10, 10), "float32", HOPPER, "the weights of 30000 pixels do not fit into 227 KiB of shared memory"),
        ((784, 10, 10), "float32", replace(HOPPER, cooperative=False), "the device has no cooperative launch"),
        ((784, 10, 10), "float64", replace(TURING, compute_capability=61), "compute capability 6.1 is below 7.0"),
    ],
)
def test_a_workload_that_does_not_suit_the_kernel_is_refused_with_a_reason(
    sizes: tuple[int, ...], computed_in: DType, device: layout.Device, reason: str
) -> None:
    assert layout.plan(Workload(Network(sizes), 1_000, dtype=computed_in), sizes[0], device) == reason


@pytest.mark.parametrize(("computed_in", "hidden"), [("float32", 382), ("float64", 254)])
def test_a_block_has_a_thread_for_each_hidden_unit(computed_in: DType, hidden: int) -> None:
    plan = layout.plan(Workload(Network((784, hidden, 10)), 1_000, dtype=computed_in), 784, HOPPER)
    assert isinstance(plan, layout.Plan)
    assert plan.units * plan.passes == hidden


@settings(max_examples=200)
@given(
    images=st.integers(1, 10_000_000),
    pixels=st.integers(0, 5_000),
    hidden=st.integers(1, 254),
    classes=st.integers(1, 16),
    computed_in=st.sampled_from(DTYPES),
    device=st.sampled_from([HOPPER, TURING]),
    three=st.booleans(),
)
def test_every_plan_fits_its_device(
    images: int, pixels: int, hidden: int, classes: int, computed_in: DType, device: layout.Device, three: bool
) -> None:
    digits = 3 if three and layout.uses_matrix_units(computed_in, device) else None
    workload = Workload(Network((pixels + 1, hidden, classes)), images, dtype=computed_in)
    plan = layout.plan(workload, pixels, device, digits)
    if isinstance(plan, str):
        assert "do not fit" in plan
        return
    assert plan.shared_bytes == layout.working_bytes(plan, plan.chunk) + plan.resident_cells * 16
    assert plan.shared_bytes <= device.shared_bytes
    assert plan.chunk % 8 == 0
    assert plan.chunk >= 8
    assert plan.units * plan.passes >= hidden
    assert plan.digits != 3 or plan.units % 8 == 2
    assert plan.blocks <= device.multiprocessors
    assert sum(images for images, _ in plan.shares) == plan.images
    assert min(images for images, _ in plan.shares) > 0
    # 32-bit sums of a chunk's images, or of all pixels, cannot overflow.
    assert max(plan.chunk, plan.quads) * 4 * 255 * 128 < 2**31


def test_parameters_survive_packing() -> None:
    shape = Shape(5, 13, 22, 3)
    plan = shape.plan("float64", 0)
    initial, kept = shape.data()[2], np.array([0, 2, 3, 11])
    packed = layout.pack_parameters(plan, initial, kept)
    assert packed.shape == (plan.length,)
    (W1, W2), (b1, b2) = initial.weights, initial.biases
    others = Parameters([W1 + 1, W2 + 1], [b1 + 1, b2 + 1])
    back = layout.unpack_parameters(plan, packed, kept, others)
    expected = W1 + 1
    expected[:, kept] = W1[:, kept]
    for own, wanted in zip(_arrays(back), (expected, b1, W2, b2), strict=True):
        np.testing.assert_array_equal(own, wanted)


def test_images_are_packed_by_groups_of_four_and_quads() -> None:
    images = np.arange(1, 16, dtype=np.uint8).reshape(3, 5)
    blocks = layout.pack_images(np, images, np.arange(5), np.array([0, 1]), 2, False)
    assert blocks.reshape(-1, 4, 4)[:2].tolist() == [
        [[1, 2, 3, 4], [6, 7, 8, 9], [11, 12, 13, 14], [0, 0, 0, 0]],
        [[5, 255, 0, 0], [10, 255, 0, 0], [15, 255, 0, 0], [0, 0, 0, 0]],
    ]


def test_images_for_matrix_units_are_packed_by_pairs_and_octets() -> None:
    images = np.arange(32 * 39).reshape(32, 39).astype(np.uint8)
    kept, places = np.arange(39)[::-1].copy(), np.array([0, 1, 2, 3, 4, 6, 7, 8, 9])
    cells = layout.pack_images(np, images, kept, places, 10, True).reshape(4, 4, 5, 2, 2, 4)
    for image in range(32):
        row = [*images[image, ::-1], 255]
        stored = [*(row[4 * quad : 4 * quad + 4] for quad in places), [0, 0, 0, 0]]
        for place, pixels in enumerate(stored):
            assert cells[image % 8 // 2, image // 8, place // 2, place % 2, image % 2].tolist() == pixels


@needs_compiler
@pytest.mark.parametrize(
    ("digits", "pixels", "hidden"),
    [(4, 710, 10), (4, 783, 10), (4, 33, 6), (4, 716, 2), (3, 710, 10), (3, 33, 10)],
)
def test_the_products_loads_meet_no_bank_twice(digits: int, pixels: int, hidden: int) -> None:
    kernel = Kernel(Shape(70, pixels, hidden, 10), "float32", digits)
    kernel.run(1, runner="run_banks.cpp")
    library = kernel.library("run_banks.cpp")
    for size in (8, 16):
        assert library.loads(size) > 0
        assert library.most_words_of_a_bank(size) == 1
