"""The Numba backend on mlps: random decisions bit for bit, products, blocks, threads, dense and sparse images."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mnistbench.backends.base import Trainer
from mnistbench.backends.numba import NumbaBackend
from mnistbench.backends.numba.mlp import kernels as mlp_kernels
from mnistbench.backends.numba.mlp import products, random, updates, warp
from mnistbench.backends.numba.mlp import trainer as mlp_trainer
from mnistbench.backends.numba.simd.cache import entry_point
from mnistbench.backends.numba.simd.host import Host, aligned, host
from mnistbench.datasets import Dataset, Split
from mnistbench.reference import augmentation, counter
from mnistbench.task.recipe import Augmentation, Optimizer, Recipe, Schedule
from mnistbench.task.workload import DType, Network, Workload
from tests.support import options
from tests.support.builders import identical, initial, split
from tests.support.paths import ROOT

HEIGHT, WIDTH, CLASSES = 9, 11, 5

EVERYTHING = Recipe(
    "xavier",
    l2=0.5,
    dropout=(0.3, 0.1),
    optimizer=Optimizer("nesterov"),
    batch_size=16,
    schedule=Schedule("cosine"),
    augmentation=Augmentation(1, 10.0, 20.0, 2.0),
)


def data(images: int = 70, ink: float = 0.25) -> Dataset:
    rng = np.random.default_rng(1)
    train, dev = (split(rng, count, HEIGHT * WIDTH, CLASSES, ink) for count in (images, 23))
    return Dataset("random images", (HEIGHT, WIDTH), CLASSES, train, dev, None)


def task(dataset: Dataset, hidden: tuple[int, ...], recipe: Recipe, dtype: DType = "float64") -> Workload:
    network = Network((HEIGHT * WIDTH, *hidden, CLASSES), "tanh")
    return Workload(network, len(dataset.train), 20, 0.05, dtype, 3, recipe=recipe)


def assert_agrees(dataset: Dataset, workload: Workload, threads: int = 2) -> None:
    options.assert_agrees(NumbaBackend(), workload, dataset, threads)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_follows_the_reference_on_any_number_of_threads(threads: int, dtype: DType) -> None:
    dataset = data()
    assert_agrees(dataset, task(dataset, (7, 6), EVERYTHING, dtype), threads)


@pytest.mark.parametrize("hidden", [(), (1,), (50,), (49, 3, 8)], ids=str)
def test_depths_and_widths(hidden: tuple[int, ...]) -> None:
    dataset = data()
    assert_agrees(dataset, task(dataset, hidden, replace(EVERYTHING, dropout=(0.2,))))


@pytest.mark.parametrize("ink", [0.0, 0.25, 1.0])
def test_zeros_are_skipped_unless_they_are_few(ink: float) -> None:
    dataset = data(ink=ink)
    workload = task(dataset, (7, 6), replace(EVERYTHING, augmentation=Augmentation(1)))
    assert_agrees(dataset, workload)
    described = NumbaBackend().start(workload, dataset, initial(workload), 2).describe()
    assert (described.skips is None) == (ink == 1.0)


@pytest.mark.parametrize("ink", [0.25, 1.0])
@pytest.mark.parametrize("batch_size", [None, 33, 70, 500])
def test_batches_in_several_blocks(monkeypatch: pytest.MonkeyPatch, batch_size: int | None, ink: float) -> None:
    monkeypatch.setattr(mlp_trainer, "BLOCK", 14)
    dataset = data(ink=ink)
    assert_agrees(dataset, task(dataset, (7, 6), replace(EVERYTHING, batch_size=batch_size)))


@pytest.mark.parametrize("ink", [0.25, 1.0])
def test_nothing_is_written_beyond_an_array(ink: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors are those of SSE and NEON: two float64, fewer than the rows of a tile."""
    beyond: list[NDArray[Any]] = []

    def guarded(shape: tuple[int, ...], dtype: DType) -> NDArray[Any]:
        size = math.prod(shape)
        whole = aligned((size + 256,), dtype)
        whole[size:] = np.nan
        beyond.append(whole[size:])
        return whole[:size].reshape(shape)

    monkeypatch.setattr(mlp_trainer, "aligned", guarded)
    monkeypatch.setattr(mlp_trainer, "host", lambda: Host("SSE", 16, 16))
    dataset = data(ink=ink)
    assert_agrees(dataset, task(dataset, (10, 6), EVERYTHING))
    assert len(beyond) >= 8
    assert all(np.isnan(values).all() for values in beyond)


def test_a_batch_of_one() -> None:
    dataset = data(6)
    assert_agrees(dataset, task(dataset, (7,), replace(EVERYTHING, batch_size=1, dropout=())))


def test_the_same_bits_for_any_division_of_iterations_and_after_a_reset() -> None:
    dataset = data()
    workload = task(dataset, (7, 6), EVERYTHING, "float32")
    start = initial(workload)
    one, other = (NumbaBackend().start(workload, dataset, start, 2) for _ in range(2))
    kept = one.parameters()
    one.advance(13)
    assert identical(kept, start)
    assert identical(start, initial(workload))
    for iterations in (1, 5, 4, 3):
        other.gradients()
        other.advance(iterations)
    assert identical(one.parameters(), other.parameters())
    one.reset(start)
    assert identical(one.parameters(), start)
    one.advance(13)
    assert identical(one.parameters(), other.parameters())


@pytest.mark.parametrize("ink", [0.25, 1.0])
def test_the_same_bits_for_any_number_of_threads(ink: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlp_trainer, "tile_of", lambda *_: 2)  # compiled once for all
    dataset = data(ink=ink)
    workload = task(dataset, (70, 33, 6), replace(EVERYTHING, dropout=(0.2,), batch_size=23), "float32")
    one, *others = (NumbaBackend().start(workload, dataset, initial(workload), threads) for threads in (1, 2, 3, 4, 8))
    expected = one.advance(13)
    for other in others:
        assert other.advance(13) == expected
        assert identical(other.parameters(), one.parameters())
        assert identical(other.gradients(), one.gradients())


@pytest.mark.parametrize("hidden", [(70, 33), (500, 150), (16, 160)], ids=str)
def test_products_do_not_depend_on_the_number_of_threads(hidden: tuple[int, ...]) -> None:
    dataset = data()
    workload = task(dataset, hidden, Recipe(batch_size=16), "float32")
    tiles = set()
    for threads in range(1, 9):
        own = NumbaBackend().start(workload, dataset, initial(workload), threads)
        assert isinstance(own, mlp_trainer.NumbaMlpTrainer)
        tiles.add(len(own._net.inner))
    assert len(tiles) == 1


@given(st.integers(1, 300), st.lists(st.integers(1, 70), min_size=1, max_size=3), st.integers(1, 9))
def test_items_are_each_weight_once(inputs: int, units: list[int], shares: int) -> None:
    lanes, fours = 8, -(-inputs // 4) * 4
    sizes = [fours, *units]
    shape = np.zeros((len(units), mlp_kernels.SHAPE_COLUMNS), np.int64)
    widths = [-(-units[0] // (shares * lanes)) * shares * lanes, *(-(-count // lanes) * lanes for count in units[1:])]
    for column, values in ((mlp_kernels.INPUTS, sizes[:-1]), (mlp_kernels.UNITS, units), (mlp_kernels.WIDTH, widths)):
        shape[:, column] = values
    counts = [np.zeros((shares if layer == 0 else 1, -(-rows // 8) * 8), int) for layer, rows in enumerate(sizes[:-1])]
    for share, items in enumerate(mlp_trainer.list_items(shape, shares, lanes)):
        for layer, low, high in items:
            counts[layer][share if layer == 0 else 0, low:high] += 1
    assert (counts[0][:, :fours] == 1).all()
    assert all((count == 1).all() for count in counts[1:])


def test_nan_is_not_hidden() -> None:
    dataset = data()
    workload = task(dataset, (7, 6), Recipe(batch_size=16))
    start = initial(workload)
    start.weights[0][0, 5] = math.nan
    own = NumbaBackend().start(workload, dataset, start, 2)
    assert math.isnan(own.advance(len(dataset.train) // 16).loss)
    assert not own.parameters().is_finite()


def trainings() -> dict[str, Workload]:
    return {"classic": Workload(data().network(7), 70), "everything": task(data(), (7, 6), EVERYTHING, "float32")}


@pytest.mark.parametrize("name", trainings())
def test_an_interrupt_ends_between_iterations(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    workload = trainings()[name]
    own, again = (NumbaBackend().start(workload, data(), initial(workload), 2) for _ in range(2))
    join = threading.Thread.join
    before = 2 if name == "everything" else 0  # the threads that augment
    joined: list[bool] = []

    def interrupt(self: threading.Thread, timeout: float | None = None) -> None:
        joined.append(True)
        if len(joined) == before + 1:
            time.sleep(0.05)
            raise KeyboardInterrupt
        join(self, timeout)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "join", interrupt)
        with pytest.raises(KeyboardInterrupt):
            own.advance(1_000_000_000)
    while not identical(own.parameters(), again.parameters()):  # it ended after some whole number of iterations
        again.advance(1)
    assert own.advance(1) == again.advance(1)
    assert identical(own.parameters(), again.parameters())


def assert_whole_iterations(own: Trainer, workload: Workload, dataset: Dataset) -> None:
    """Require that a trainer ended in an epoch, after the iterations that it counts, and goes on from there."""
    assert isinstance(own, mlp_trainer.NumbaMlpTrainer)
    assert 0 < own._iteration < workload.iterations_per_epoch
    other = NumbaBackend().start(workload, dataset, initial(workload), 1)
    other.advance(own._iteration)
    assert identical(own.parameters(), other.parameters())
    assert own.advance(1) == other.advance(1)
    assert identical(own.parameters(), other.parameters())


@pytest.mark.parametrize(
    ("where", "error"), [("start", MemoryError), ("run", MemoryError), ("join", KeyboardInterrupt)]
)
def test_failures_and_interrupts_in_an_epoch_end_between_iterations(
    where: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Try several moments, since in most of an iteration no parameters move."""
    dataset = data(20_000)  # an epoch takes longer than the pauses
    recipe = replace(EVERYTHING, augmentation=Augmentation(), schedule=Schedule())  # a rate that does not end at 0
    workload = task(dataset, (70, 6), recipe, "float32")
    own = NumbaBackend().start(workload, dataset, initial(workload), 3)
    run, start, join = mlp_kernels.run, threading.Thread.start, threading.Thread.join
    calls: list[str] = []

    def fail_at(call: int, pause: float) -> None:
        calls.append(where)
        if len(calls) == call:
            time.sleep(pause)
            raise error

    for pause in np.linspace(0.002, 0.01, 9):

        def run_or_fail(thread: int, *arguments: Any, pause: float = pause) -> None:
            if thread == 2:
                fail_at(1, pause)
            run(thread, *arguments)

        def start_or_fail(self: threading.Thread, pause: float = pause) -> None:
            fail_at(3, pause)
            start(self)

        def join_or_fail(self: threading.Thread, timeout: float | None = None, pause: float = pause) -> None:
            fail_at(1, pause)
            join(self, timeout)

        calls.clear()
        own.reset(initial(workload))
        with monkeypatch.context() as patch:
            if where == "run":
                patch.setattr(mlp_trainer, "run", run_or_fail)
            else:
                patch.setattr(threading.Thread, where, start_or_fail if where == "start" else join_or_fail)
            with pytest.raises(error):
                own.advance(1_000_000_000)
        assert_whole_iterations(own, workload, dataset)


@pytest.mark.parametrize("hidden", [(70,), (70, 6)], ids=str)
@pytest.mark.parametrize("ink", [0.25, 1.0])
def test_one_thread_does_the_shares_of_all_that_are_away(
    ink: float, hidden: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thread after thread runs alone: the first does everything, the others find nothing to do."""
    dataset = data(ink=ink)
    workload = task(dataset, hidden, replace(EVERYTHING, dropout=EVERYTHING.dropout[: len(hidden)]), "float32")
    monkeypatch.setattr(mlp_trainer, "tile_of", lambda *_: 1)  # compiled once for all
    monkeypatch.setattr(mlp_trainer, "BLOCK", 8)
    alone = NumbaBackend().start(workload, dataset, initial(workload), 1)
    expected = alone.advance(7)
    for order in ((0, 1, 2), (2, 0, 1)):

        def in_turn(threads: int, work: Any, control: Any, order: tuple[int, ...] = order) -> None:
            for thread in order:
                if thread < threads:
                    work(thread)

        monkeypatch.setattr(mlp_trainer, "run_workers", in_turn)
        own = NumbaBackend().start(workload, dataset, initial(workload), 3)
        assert own.advance(7) == expected
        assert identical(own.parameters(), alone.parameters())


WARMED_UP = """
import sys
from mnistbench.backends.numba import NumbaBackend
from mnistbench.backends.numba.classic import kernels, ordering
from mnistbench.backends.numba.mlp import kernels as mlp_kernels
from tests.backends.numba.test_mlp import data, of_another_tile, trainings
from tests.support.builders import initial

def compiled():
    return [[*function.signatures] for function in (ordering._build_groups, kernels.run, mlp_kernels.run)]

workload = {**trainings(), "another tile": of_another_tile()}[sys.argv[1]]
NumbaBackend().warm_up(workload, 2)
before = compiled()
NumbaBackend().start(workload, data(), initial(workload), 2).advance(3)
print(any(before), compiled() == before)
"""


def of_another_tile() -> Workload:
    """Hidden units of which two threads compute other tiles than one does."""
    machine = host()
    tiles = [mlp_trainer.tile_of(vectors, machine.registers) for vectors in range(13)]
    vectors = next(vectors for vectors in range(2, 13) if tiles[vectors] != tiles[-(-vectors // 2)])
    return task(data(), (vectors * machine.vector_bytes // 8,), replace(EVERYTHING, dropout=()))


@pytest.mark.parametrize("name", [*trainings(), "another tile"])
def test_nothing_is_compiled_after_warming_up(name: str) -> None:
    """In a new process, since others may have compiled what this one does not."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WARMED_UP, name]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "True True\n", done.stderr


# Random decisions.


@entry_point
def _keep_all(
    key: NDArray[np.uint32], places: NDArray[np.int64], first: int, last: int, below: int, kept: NDArray[Any]
) -> None:
    for i in range(len(places)):
        random.keep(key, places[i], first, last, below, kept.dtype.type(1), kept[i])


@pytest.mark.parametrize("rate", [0.01, 0.5, 1 - 2**-40])
@pytest.mark.parametrize(("first", "last"), [(0, 11), (4, 9)])
def test_dropout_equals_the_reference(first: int, last: int, rate: float) -> None:
    places = np.array([0, 5, 69_999])
    kept = np.empty((3, last - first + 1))
    key = np.array(counter.key(9, counter.DROPOUT + 1, 4), np.uint32)
    _keep_all(key, places, first, last, counter.drop_below(rate), kept)
    expected = counter.kept(9, 4, 1, places, last, rate).T[:, first:]
    np.testing.assert_array_equal(kept[:, : last - first] == 1, expected)


@entry_point
def _warp_all(
    table: warp.Warp, keys: NDArray[np.uint32], images: Any, places: Any, room: Any, out: NDArray[np.uint8]
) -> None:
    for i in range(len(places)):
        warp.warped(table, keys, images[i], places[i], room, out[i])


@pytest.mark.parametrize("shape", [(28, 28), (9, 11), (1, 40), (33, 7)], ids=str)
@pytest.mark.parametrize(
    "change",
    [Augmentation(2), Augmentation(rotate=30), Augmentation(elastic_alpha=34), Augmentation(3, 180, 500, 0.5)],
    ids=str,
)
def test_augmented_images_equal_the_reference(shape: tuple[int, int], change: Augmentation) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, shape[0] * shape[1]), np.uint8)
    places = rng.integers(0, 60_000, 20)
    out = np.empty_like(images)
    _warp_all(warp.warp(change, shape), warp.keys(5, 2), images, places, warp.scratch(shape), out)
    np.testing.assert_array_equal(out, augmentation.augmented(images, places, shape, change, 5, 2))


# Products.

LANES, TILE = (None,) * 4, (None,) * 2


@entry_point
def _multiply(left: Any, row: int, step: int, right: Any, out: Any, rows: int, inner: int, adds: int) -> None:
    vectors = out.shape[1] // 4
    products.multiply(
        LANES, TILE, left, 3, row, step, right, 0, right.shape[1], out, 0, out.shape[1], rows, inner, vectors, adds
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("inner", [0, 1, 5, products.DEPTH, products.DEPTH + 1, 3 * products.DEPTH])
@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
def test_products_of_parts_of_matrices(dtype: DType, inner: int, adds: bool, transposed: bool) -> None:
    rng = np.random.default_rng(0)
    left, right, out = (rng.random(shape).astype(dtype) for shape in ((8, inner), (inner, 20), (8, 20)))
    stored = np.append(np.zeros(3, dtype), (left.T if transposed else left).reshape(-1))
    expected = left @ right + (out if adds else 0)
    _multiply(stored, *((1, 8) if transposed else (inner, 1)), right, out, 8, inner, int(adds))
    np.testing.assert_allclose(out, expected, rtol=1e-5 if dtype == "float32" else 1e-13)


def test_one_minus_a_decay_is_rounded_once_from_float64() -> None:
    rule = updates.rule_of(task(data(), (7,), Recipe(optimizer=Optimizer("adam")), "float32"))
    assert (rule.take, rule.take_square) == (np.float32(1 - 0.9), np.float32(1 - 0.999))
    assert rule.take_square != np.float32(1) - rule.keep_square


def test_few_tiles_and_little_padding() -> None:
    assert [mlp_trainer.tile_of(vectors, 32) for vectors in (1, 25)] == [1, 5]
    assert all(mlp_trainer.tile_of(vectors, 16) <= 2 for vectors in range(1, 50))


def test_tiles_of_the_other_layers() -> None:
    assert mlp_trainer.tile_of(50, 32) == mlp_trainer.inner_tile_of((784, 800, 10), 16, 32) == 5
    assert mlp_trainer.inner_tile_of((784, 500, 150, 10), 16, 32) == 4  # 5 would be faster by a twentieth
    assert mlp_trainer.inner_tile_of((784, 16, 500, 160), 16, 32) == 5  # 1 would be much slower


def test_more_pixels_than_two_bytes_count() -> None:
    rng = np.random.default_rng(0)
    images = np.zeros((8, 70_000), np.uint8)
    images[np.arange(8), rng.integers(65_536, 70_000, 8)] = 200
    both = Split(images, rng.integers(0, CLASSES, 8))
    dataset = Dataset("wide images", (1, 70_000), CLASSES, both, both, None)
    workload = Workload(Network((70_000, 3, CLASSES)), 8, 5, 0.1, "float64", recipe=Recipe(batch_size=3))
    assert_agrees(dataset, workload)
