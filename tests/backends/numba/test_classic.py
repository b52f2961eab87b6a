"""The Numba backend on the classic: odd shapes, threads, failures, preparation, vectors, disk cache."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import mnistbench
from mnistbench.backends.base import Backend, Trainer
from mnistbench.backends.numba import NumbaBackend, simd
from mnistbench.backends.numba.classic import kernels, layout, ordering, prepare, trainer
from mnistbench.backends.numba.simd import inner, shares, vector
from mnistbench.backends.numba.simd.cache import SOURCES, compiler, entry_point, kernel, known
from mnistbench.backends.numba.simd.host import CACHE_LINE, Host, aligned
from mnistbench.backends.numpy import NumpyBackend
from mnistbench.datasets import Dataset, Split
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import DType, Network, Workload
from tests.support.builders import assert_close, identical

DTYPES: tuple[DType, ...] = ("float32", "float64")

# Largest difference from the float64 reference, relative to the largest value of the array. Logits of this network
# reach 100, so that their last bits alone change probabilities by some 50 units in the last place.
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


def strokes(images: int, height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """Black images (images, height * width) with a bright rectangle each."""
    rng = np.random.default_rng(seed)
    made = np.zeros((images, height, width), np.uint8)
    for image in made:
        top, left = rng.integers(height), rng.integers(width)
        part = image[top : top + 1 + height // 2, left : left + 1 + width // 3]
        part[:] = rng.integers(1, 256, part.shape)
    return made.reshape(images, -1)


def noise(images: int, pixels: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (images, pixels), np.uint8)


def make(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    hidden: int,
    classes: int,
    dtype: DType = "float64",
    threads: int | None = None,
    shape: tuple[int, int] | None = None,
    backend: type[Backend] = NumbaBackend,
) -> tuple[Trainer, Parameters]:
    """Start a trainer on these images; return it and its initial parameters."""
    network = Network((images.shape[1], hidden, classes))
    workload = Workload(network, images=len(labels), dtype=dtype)
    split = Split(images, labels)
    dataset = Dataset("test", shape or (1, images.shape[1]), classes, split, split, None)
    parameters = Parameters.initial(network, seed=len(labels))
    return backend().start(workload, dataset, parameters, threads), parameters


def some(threads: int | None = None, dtype: DType = "float64", count: int = 3000) -> tuple[Trainer, Parameters]:
    """Start a trainer on enough images for several blocks and threads."""
    labels = np.random.default_rng(3).integers(0, 10, count)
    return make(strokes(count, 12, 12, 1), labels, 10, 10, dtype, threads, shape=(12, 12))


def check(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    hidden: int,
    classes: int,
    dtype: DType,
    threads: int | None = None,
    shape: tuple[int, int] | None = None,
    iterations: int = 3,
) -> Trainer:
    """Compare gradients, metrics and parameters with those of the float64 reference along some iterations."""
    tolerance = TOLERANCE[dtype]
    own, start = make(images, labels, hidden, classes, dtype, threads, shape)
    reference, _ = make(images, labels, hidden, classes, shape=shape, backend=NumpyBackend)
    assert identical(own.parameters(), start.astype(dtype))
    for _ in range(iterations):
        assert_close(own.gradients(), reference.gradients(), tolerance)
        metrics, expected = own.advance(1), reference.advance(1)
        assert metrics.loss == pytest.approx(expected.loss, rel=tolerance, abs=tolerance)
        if dtype == "float64":
            assert metrics.accuracy == expected.accuracy
        assert_close(own.parameters(), reference.parameters(), tolerance)
    assert all(array.dtype == dtype for _, array in own.parameters().named())
    return own


# Sizes are padded to tiles. These cover whole, partial and several tiles, with few combinations to compile.
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("images", "pixels", "hidden", "classes"),
    [
        (1, 1, 9, 9),
        (1, 784, 10, 10),
        (2, 7, 10, 10),
        (15, 16, 9, 10),
        (16, 3, 10, 9),
        (17, 64, 19, 10),
        (31, 65, 10, 20),
        (33, 10, 30, 29),
        (100, 2, 10, 10),
        (1500, 30, 20, 10),
        (65, 5, 10, 290),
        (40, 5, 289, 10),
    ],
)
def test_follows_the_reference(images: int, pixels: int, hidden: int, classes: int, dtype: DType) -> None:
    labels = np.random.default_rng(images).integers(0, classes, images)
    check(strokes(images, 1, pixels, images), labels, hidden, classes, dtype)


@pytest.mark.parametrize(("hidden", "classes"), [(1, 2), (2, 1), (1, 1)])
def test_smallest_networks(hidden: int, classes: int) -> None:
    check(strokes(50, 4, 4, 0), np.arange(50) % classes, hidden, classes, "float64", shape=(4, 4))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_follows_the_reference_on_any_images(data: st.DataObject) -> None:
    """The fraction of non-zero pixels goes from none to all."""
    images, pixels, threads, thirds = (
        data.draw(st.integers(*bounds)) for bounds in ((1, 200), (1, 90), (1, 4), (0, 3))
    )
    seed, classes = data.draw(st.integers(0, 10)), data.draw(st.integers(1, 10))
    made = noise(images, pixels, seed)
    made[np.random.default_rng(seed).random(made.shape) >= thirds / 3] = 0
    labels = np.random.default_rng(seed).integers(0, classes, images)
    check(made, labels, data.draw(st.sampled_from([9, 10, 20])), 10, "float64", threads, iterations=2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_black_images_skip_everything_and_dense_ones_nothing(dtype: DType) -> None:
    black = check(np.zeros((70, 30), np.uint8), np.arange(70) % 10, 10, 10, dtype)
    assert "100%" in (black.describe().skips or "")
    dense = check(np.maximum(noise(300, 50, 0), 1), np.arange(300) % 10, 10, 10, dtype)
    assert dense.describe().skips is None


def test_labels_beyond_a_byte() -> None:
    labels = np.array([0, 255, 256, 65_535, 511])
    check(strokes(5, 2, 3, 2), labels, 10, 65_540, "float64", shape=(2, 3), iterations=1)


def test_more_pixels_than_two_bytes_count() -> None:
    images = np.zeros((20, 70_000), np.uint8)
    images[:, [0, 65_535, 65_536, 69_999]] = noise(20, 4, 1)
    check(images, np.arange(20) % 10, 10, 10, "float64", iterations=2)


# Repeatable.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [1, 2, 3, 4, 8])
def test_the_same_bits_for_any_threads_and_division_of_iterations(dtype: DType, threads: int) -> None:
    whole, _ = some(1, dtype)
    expected = whole.advance(24)
    for parts in ([1] * 24, [5, 19], [24]):
        own, _ = some(threads, dtype)
        assert [own.advance(part) for part in parts][-1] == expected
        assert identical(own.parameters(), whole.parameters())
        assert identical(own.gradients(), whole.gradients())


def test_threads_beyond_what_tasks_can_feed() -> None:
    own, _ = some(64, count=40)
    description = own.describe()
    assert description.threads == 2  # of three pairs of groups
    assert "2 tasks an iteration, for up to 2 threads" in description.kernel
    own.advance(3)


# What can go wrong.


def test_a_worker_that_fails_ends_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    own, _ = some(3)

    def fail_in_the_second(thread: int, *arguments: Any) -> None:
        if thread == 1:
            raise MemoryError("no room")
        run(thread, *arguments)

    run = kernels.run
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "run", fail_in_the_second)
        with pytest.raises(MemoryError, match="no room"):
            own.advance(1_000_000_000)
    assert_whole_iterations(own)


def assert_whole_iterations(own: Trainer) -> None:
    """Require that a trainer of :func:`some` ended after whole iterations, and goes on from there."""
    other, _ = some(1)
    while not identical(own.parameters(), other.parameters()):
        assert other.advance(1).loss > 0.1, "no iteration has ended so"
    assert own.advance(1) == other.advance(1)
    assert identical(own.parameters(), other.parameters())


def test_a_thread_that_cannot_start_ends_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    own, _ = some(3)
    start = threading.Thread.start
    started = []

    def fail_at_the_third(self: threading.Thread) -> None:
        started.append(self)
        if len(started) == 3:
            raise RuntimeError("can't start new thread")
        start(self)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail_at_the_third)
        with pytest.raises(RuntimeError, match="can't start"):
            own.advance(1_000_000_000)
    assert_whole_iterations(own)


# Preparation.


@pytest.mark.parametrize("images", [1, 7, 100, 1030, 1999])
def test_ordering_is_a_permutation_for_any_number_of_threads(images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "LOT", 1200)  # the last has two lots
    made = strokes(images, 9, 11, 4)
    order = prepare.order_images(made, (9, 11), 8, 1)
    np.testing.assert_array_equal(np.sort(order), np.arange(images))
    np.testing.assert_array_equal(prepare.order_images(made, (9, 11), 8, 3), order)


def test_similar_images_come_together() -> None:
    made = np.zeros((4 * ordering.LEAF, 64), np.uint8)
    made[0::2, :32] = 200
    made[1::2, 32:] = 200
    order = prepare.order_images(made, (8, 8), 8, 1)
    kinds = (made[order, 0] > 0).reshape(-1, 8)
    assert (kinds.all(axis=1) | ~kinds.any(axis=1)).all()


@given(st.integers(1, 3000), st.integers(2, 16), st.integers(1, 40), st.integers(0, 9))
def test_tasks_are_whole_blocks_and_become_smaller(pairs: int, shares: int, block_pairs: int, seed: int) -> None:
    costs = np.random.default_rng(seed).integers(20, 1000, pairs)
    blocks, tasks = prepare.cut_tasks(costs, block_pairs, shares)
    assert (blocks[0], blocks[-1], tasks[0], tasks[-1]) == (0, pairs, 0, len(blocks) - 1)
    assert (np.diff(tasks) > 0).all()
    assert ((np.diff(blocks) > 0) & (np.diff(blocks) <= block_pairs)).all()
    work = np.add.reduceat(costs, blocks[tasks[:-1]])
    assert work.sum() == costs.sum()
    assert work.max() <= costs.sum() / shares + costs.max()


def test_half_of_the_classics_work_is_in_large_tasks() -> None:
    blocks, tasks = prepare.cut_tasks(np.full(1282, 100), layout.BLOCK_PAIRS, 8)
    np.testing.assert_allclose(np.diff(blocks[tasks]), np.repeat([72, 48, 24, 16], 8), atol=1)
    assert np.diff(blocks).max() <= 25


@pytest.mark.parametrize(
    ("units", "largest", "size"), [(1, 12, 2), (10, 12, 10), (9, 12, 10), (11, 12, 12), (10, 6, 6)]
)
def test_tiles_of_few_units(units: int, largest: int, size: int) -> None:
    assert layout.tile_size(units, largest) == size


@pytest.mark.parametrize("units", [20, 32, 64, 100, 128, 1000])
@pytest.mark.parametrize("largest", [6, 12])
def test_tiles_of_many_units_are_large_and_waste_little(units: int, largest: int) -> None:
    size = layout.tile_size(units, largest)
    assert size % 2 == 0
    assert 2 * largest / 3 <= size <= largest
    assert -(-units // size) * size <= units * 1.21


def test_layout_there_and_back() -> None:
    network = Network((9, 23, 17))
    parameters = Parameters.initial(network, 0)
    for host in (Host("a", 64, 32), Host("b", 16, 16)):
        tile = layout.choose_tile(host, network, "float64")
        sizes = layout.choose_sizes(network, tile, "float64")
        array = aligned((sizes.total,), "float64")
        layout.to_layout(parameters, tile, sizes, array)
        assert array.ctypes.data % CACHE_LINE == 0
        assert identical(layout.from_layout(array, tile, sizes, network), parameters)


# Vectors, one operation at a time.


def apply(function: Callable[..., None], dtype: DType, *arguments: Any, size: int = 64) -> NDArray[Any]:
    """Compile and call a function with an output array and the arguments, and return the array."""
    out = np.zeros(size, dtype)
    numba.njit(function)(out, *arguments)
    return out


LANES = (0.0,) * 8
THREE = (0.0,) * 3


@pytest.mark.parametrize("dtype", DTYPES)
def test_exp_is_exact_to_a_few_units_and_right_at_extremes(dtype: DType) -> None:
    extremes = [np.nan, -np.inf, -1e30, -1000]
    x = np.concatenate([extremes, -np.geomspace(1e-8, 80, 498), [-0.0, 0.0]]).astype(dtype)

    def body(out: Any, x: Any, lanes: Any) -> None:
        for i in range(0, x.size, len(lanes)):
            vector.store(out, i, 0, vector.exp(vector.load(vector.zero(lanes, out), x, i)))

    found = apply(body, dtype, x, LANES, size=x.size)
    np.testing.assert_allclose(found[4:], np.exp(x[4:].astype(np.float64)), rtol=4 * float(np.finfo(dtype).eps))
    assert found[-2:].tolist() == [1, 1]
    assert np.isnan(found[0])
    assert (found[1:4] >= 0).all()
    assert (found[1:4] <= 2 * np.finfo(dtype).tiny).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 2, 3, 8, 9, 20])
def test_lane_sums_leave_what_follows(dtype: DType, count: int) -> None:
    values = np.arange(count * 8, dtype=dtype).reshape(count, 8)

    def body(out: Any, values: Any, tile: Any, lanes: Any) -> None:
        out[:] = 1
        like = vector.zero(lanes, out)
        vector.add_lane_sums(out, 2, vector.loads(tile, like, values, 0, len(lanes)))

    found = apply(body, dtype, values, (0.0,) * count, LANES)
    expected = np.ones(64)
    expected[2 : 2 + count] += values.sum(axis=1)
    np.testing.assert_array_equal(found, expected)


def test_halves_and_parts() -> None:
    values = np.arange(48.0)

    def body(out: Any, values: Any, tile: Any, lanes: Any) -> None:
        wide = vector.loads(tile, vector.zero(lanes + lanes, out), values, 0, 16)
        swapped = vector.join(vector.high(wide), vector.low(wide))
        vector.store(out, 0, 16, vector.tail((0.0,), swapped))
        vector.store(out, 32, 16, vector.head((0.0, 0.0), wide))

    found = apply(body, "float64", values, THREE, LANES)
    swapped = values.reshape(3, 2, 8)[:, ::-1].reshape(3, 16)
    np.testing.assert_array_equal(found, np.concatenate([swapped[1], swapped[2], values[:32]]))


def test_outer_product() -> None:
    values = np.arange(64.0)

    def body(out: Any, values: Any, tile: Any, lanes: Any) -> None:
        like = vector.zero(lanes, out)
        xs = (vector.splat(like, 2), vector.load(like, values, 8))
        acc = vector.fma_loads(vector.repeat(tile + tile, vector.splat(like, 1)), xs, values, 16, 8)
        vector.store(out, 0, 8, acc)

    found = apply(body, "float64", values, THREE, LANES)
    v = values.reshape(8, 8)
    np.testing.assert_array_equal(found[:48].reshape(6, 8), 1 + np.concatenate([2 * v[2:5], v[1] * v[2:5]]))


@pytest.mark.parametrize("lanes", [1, 2, 4, 16])
def test_transpose(lanes: int) -> None:
    values = np.arange(float(lanes**2))

    def body(out: Any, values: Any, lanes: Any) -> None:
        square = vector.loads(lanes, vector.zero(lanes, out), values, 0, len(lanes))
        vector.store(out, 0, len(lanes), vector.transpose(square))

    found = apply(body, "float64", values, (0.0,) * lanes, size=lanes**2)
    np.testing.assert_array_equal(found.reshape(lanes, lanes), values.reshape(lanes, lanes).T)


def test_selections() -> None:
    values = np.array([1.0, -1, 0, np.nan, 5, -5, np.inf, -np.inf])
    keys = np.arange(8, dtype=np.int32) % 3

    def body(out: Any, values: Any, keys: Any, lanes: Any) -> None:
        x = vector.load(vector.zero(lanes, out), values, 0)
        one = vector.splat(x, 1)
        vector.store(out, 0, 0, vector.where_positive(x, one))
        vector.store(out, 8, 0, vector.where_equal(keys, 0, 2, one, x))
        vector.store(out, 16, 0, vector.maximum(x, one))

    found = apply(body, "float64", values, keys, LANES)
    np.testing.assert_array_equal(found[:8], [1, 0, 0, 0, 1, 0, 1, 0])
    np.testing.assert_array_equal(found[8:16], np.where(keys == 2, 1, values))
    np.testing.assert_array_equal(found[16:24], [1, 1, 1, 1, 5, 1, np.inf, 1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_bytes_are_unsigned(dtype: DType) -> None:
    values = np.array([0, 1, 127, 128, 200, 254, 255, 3], np.uint8)

    def body(out: Any, values: Any, lanes: Any) -> None:
        vector.store(out, 0, 0, vector.load(vector.zero(lanes, out), values, 0))

    np.testing.assert_array_equal(apply(body, dtype, values, LANES)[:8], values)


@pytest.mark.parametrize("integer", [np.uint8, np.uint16])
def test_some_of_a_few_integers_is_not_zero(integer: type) -> None:
    values: NDArray[Any] = np.array([0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 128], integer)

    def body(out: Any, values: Any, four: Any) -> None:
        for i in range(9):
            out[i] = vector.some(four, values, i)

    expected = [values[i : i + 4].any() for i in range(9)]
    np.testing.assert_array_equal(apply(body, "float64", values, (None,) * 4)[:9], expected)


# Compiling.


def test_numba_knows_its_private_options() -> None:
    """Kernels compile without them too, but for a multiple of the time."""
    private = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "_nrt": False}
    assert known(private | {"no_such_option": True}) == private


def test_a_kernel_is_optimized_in_its_entry_point_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """It compiles too where Numba's private parts are others, but for longer."""

    @kernel
    def square(x: Any) -> Any:
        return x * x

    @kernel
    def fourth(x: Any) -> Any:
        return square(square(x))

    @entry_point
    def eighth(x: Any) -> Any:
        return square(fourth(x))

    assert eighth(2.0) == 256
    (lowered,), (optimized,) = (function.overloads.values() for function in (fourth, eighth))  # type: ignore[attr-defined]
    call_of_square = re.compile("call i32 @[^(]*square")
    assert call_of_square.search(lowered.library.get_llvm_str())
    assert not call_of_square.search(optimized.library.get_llvm_str())

    monkeypatch.setattr(inner, "HOOKS", ("no_such_method",))
    assert compiler() == {}
    monkeypatch.setitem(sys.modules, inner.__name__, None)
    monkeypatch.delattr(simd, "inner")
    assert compiler() == {}


@entry_point
def _item_of(word: int) -> int:
    return shares.item_of(word)


def test_a_kernel_called_from_python_is_an_error_and_no_crash() -> None:
    for _ in range(2):
        with pytest.raises(TypeError, match="item_of can be called by compiled code only"):
            shares.item_of(7)
        assert _item_of(7) == 3  # which compiles it for this type


# The disk cache, in separate processes.

INNER = "from mnistbench.backends.numba.simd.cache import kernel\n\n@kernel\ndef factor():\n    return 2\n"
OUTER = """
from mnistbench.backends.numba.simd.cache import entry_point
from mnistbench.backends.numba.inner import factor
from mnistbench.reference.mlp import LEAK
from mnistbench.task.recipe import OPTIMIZERS

ADAM = OPTIMIZERS.index("adam")

@entry_point
def outer():
    return factor(), LEAK, ADAM
"""
PROGRAM = """
from mnistbench.backends.numba.outer import outer
print(*outer(), sum(outer.stats.cache_hits.values()))
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Copy the package to a folder, and add two modules beside its kernels: one calls the other's kernel."""
    source = Path(mnistbench.__file__).parent
    shutil.copytree(source, tmp_path / "mnistbench", ignore=shutil.ignore_patterns("__pycache__", "*.gz"))
    folder = tmp_path / "mnistbench" / "backends" / "numba"
    (folder / "inner.py").write_text(INNER)
    (folder / "outer.py").write_text(OUTER)
    return tmp_path


def run_program(folder: Path, environment: dict[str, str]) -> str:
    """Run PROGRAM in a folder; return what it prints: the constants, and 1 if the machine code was in the cache."""
    environment = {**os.environ, "PYTHONPATH": str(folder), **environment}
    command = [sys.executable, "-W", "error", "-c", PROGRAM]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


EDITS = [
    ("backends/numba/inner.py", "return 2", "return 3", "3 0.01 4"),
    ("reference/mlp.py", "LEAK = 0.01", "LEAK = 0.5", "3 0.5 4"),
    ("task/recipe.py", '"rmsprop", "adam"', '"rmsprop", "lion", "adam"', "3 0.5 5"),
]


def test_the_cache_is_used_and_notices_an_edit_of_any_file_that_machine_code_comes_from(package: Path) -> None:
    environment = {"NUMBA_CACHE_DIR": str(package / "cache")}
    assert run_program(package, environment) == "2 0.01 4 0"
    assert run_program(package, environment) == "2 0.01 4 1"
    for file, before, after, constants in EDITS:
        path = package / "mnistbench" / file
        text = path.read_text()
        assert text.count(before) == 1
        path.write_text(text.replace(before, after))
        assert run_program(package, environment) == f"{constants} 0"
    assert run_program(package, environment) == f"{constants} 1"


def test_modules_of_kernels_import_nothing_that_the_cache_does_not_digest() -> None:
    folder = Path(layout.__file__).parents[1]
    seen = set()
    for path in folder.rglob("*.py"):
        text = path.read_text()
        if re.search(r"import .*\b(kernel|reassociating_kernel|entry_point|intrinsic)\b", text):
            seen |= set(re.findall(r"^(?:from|import) mnistbench\.?(\S*)", text, re.MULTILINE))
    assert {"reference.mlp", "task.recipe"} < seen
    assert all(module.startswith(tuple(source.replace("/", ".") for source in SOURCES)) for module in seen)


def test_without_a_writable_cache_kernels_are_compiled(package: Path) -> None:
    blocked = package / "blocked"
    blocked.write_text("a file where a folder is wanted")
    (package / "mnistbench/backends/numba/__pycache__").write_text("another one")
    environment = {
        "NUMBA_CACHE_DIR": str(blocked / "x"),
        "HOME": str(blocked),
        "XDG_CACHE_HOME": str(blocked),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    assert run_program(package, environment) == "2 0.01 4 0"


def test_a_package_that_cannot_be_written_uses_the_users_cache(package: Path) -> None:
    (package / "mnistbench/backends/numba/__pycache__").write_text("a file where a folder is wanted")
    environment = {"XDG_CACHE_HOME": str(package / "user"), "PYTHONDONTWRITEBYTECODE": "1"}
    assert run_program(package, environment) == "2 0.01 4 0"
    if sys.platform.startswith("linux"):
        assert run_program(package, environment) == "2 0.01 4 1"


def test_a_damaged_cache_is_replaced(package: Path) -> None:
    environment = {"NUMBA_CACHE_DIR": str(package / "cache")}
    assert run_program(package, environment) == "2 0.01 4 0"
    for path in (package / "cache").rglob("*.nb?"):
        path.write_bytes(b"damaged")
    assert run_program(package, environment) == "2 0.01 4 0"
    assert run_program(package, environment) == "2 0.01 4 1"
