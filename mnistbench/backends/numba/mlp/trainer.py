"""The trainer of any multilayer perceptron; :mod:`mnistbench.backends.numba.mlp.kernels` does the work."""

from __future__ import annotations

from collections.abc import Generator
from itertools import pairwise
from typing import Any

import llvmlite
import numba
import numpy as np
from numpy.typing import NDArray

from mnistbench.backends.base import Description, Metrics, Sums, Trainer
from mnistbench.backends.numba.mlp.kernels import (
    GIVEN,
    GROUP,
    HITS,
    INPUTS,
    LISTS,
    LOSS,
    OWN_ROWS,
    SCORES,
    SHAPE_COLUMNS,
    UNITS,
    WIDTH,
    Data,
    Net,
    Room,
    run,
)
from mnistbench.backends.numba.mlp.plans import Planner, images_of
from mnistbench.backends.numba.mlp.products import FOUR
from mnistbench.backends.numba.mlp.split import run_split
from mnistbench.backends.numba.mlp.updates import rule_of
from mnistbench.backends.numba.mlp.warp import keys, scratch, warp, warp_images
from mnistbench.backends.numba.pixels import fraction_used
from mnistbench.backends.numba.simd.host import CACHE_LINE, aligned, host
from mnistbench.backends.numba.simd.shares import DONE, make_control
from mnistbench.backends.numba.simd.workers import crew, run_workers
from mnistbench.datasets import Dataset
from mnistbench.reference import counter, mlp
from mnistbench.reference.parameters import Parameters
from mnistbench.task.recipe import ACTIVATIONS
from mnistbench.task.workload import Workload

BLOCK = 256
"""Largest number of images in a block; its values, some 2 MB for 800 units in float32, fit the caches."""

AUGMENTED = 8192
"""Largest number of images that are augmented at once, 6.4 MB, unless a batch is larger."""

SUMS = 12_288
"""Number of sums of gradients in an item, about: 48 kB in float32, still in a cache when the optimizer reads them."""

DENSE_FROM = 0.6
"""Fraction of non-zero pixels from which on the first layer skips none: in four images, hardly a pixel is zero in
all."""


def largest_tile(registers: int) -> int:
    """Return the vectors of a tile whose accumulators for four rows, and four operands, fill the registers."""
    return 6 if registers == 32 else 2


def tile_of(vectors: int, registers: int) -> int:
    """Choose how many vectors of units to compute together, each with accumulators for four images.

    Minimizes padding and the number of tiles, since each tile walks the lists.
    """
    return min(range(1, largest_tile(registers) + 1), key=lambda size: (-(-vectors // size) * (size + 0.5), -size))


def odd_lines(size: int) -> int:
    """Return a size in bytes that is an odd number of cache lines, at least ``size``."""
    return (-(-size // CACHE_LINE) | 1) * CACHE_LINE


def inner_tile_of(sizes: tuple[int, ...], lanes: int, registers: int) -> int:
    """Choose the vectors of a tile in products of the layers after the first, the rest being computed singly.

    Minimizes the time of the forward pass and the gradients, whose columns are a layer's units, and of the backward
    pass, whose columns are the units before it. A tile takes half a vector's time more, and so does a single vector.
    The first layer's tile for one thread is chosen if it is nearly as fast, since products are compiled for each size.
    The choice must not depend on the number of threads: the order of sums depends on it.
    """
    columns = [-(-units // lanes) for before, after in pairwise(sizes[1:]) for units in (before, after, after)]

    def cost(size: int) -> float:
        return sum(count // size * (size + 0.5) + count % size * 1.5 for count in columns)

    best = min(range(2, largest_tile(registers) + 1), key=lambda size: (cost(size), -size))
    first = tile_of(-(-sizes[1] // lanes), registers)
    return first if cost(first) <= 1.1 * cost(best) else best


def list_items(shape: NDArray[np.int64], shares: int, lanes: int) -> NDArray[np.int64]:
    """Return ``Net.items``: each share's weights, some SUMS of them an item; padded by items without inputs.

    A share of the first layer is some units, for all inputs; of the others it is some inputs, for all units.
    """
    found: list[list[tuple[int, int, int]]] = [[] for _ in range(shares)]
    for layer, (inputs, _, width, *_) in enumerate(shape.tolist()):
        step = max(lanes, len(FOUR)) if layer else len(FOUR)
        steps, own = -(-inputs // step), width if layer else width // shares
        size = step * max(SUMS // (step * own), 1)
        for share, items in enumerate(found):
            low, high = (steps * (share + i) // shares * step if layer else steps * i * step for i in range(2))
            items += [(layer, first, min(first + size, high)) for first in range(low, high, size)]
    count = max(map(len, found))
    return np.array([items + [(0, 0, 0)] * (count - len(items)) for items in found], np.int64)


class NumbaMlpTrainer(Trainer):
    """Trainer that holds the images as bytes, and parameters and moments as vectors in the kernels' layout."""

    def __init__(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int) -> None:
        super().__init__(workload)
        machine = host()
        lanes = machine.vector_bytes // workload.itemsize
        sizes, recipe, dtype = workload.network.sizes, workload.recipe, workload.dtype
        vectors = -(-sizes[1] // lanes)
        self._threads = min(threads, vectors, workload.batch_size)
        self._share, held = dataset.share, len(dataset.train)
        self._most = max(min(held, workload.batch_size), 1)  # images of a batch here
        tile = tile_of(-(-vectors // self._threads), machine.registers)
        self._block = -(-min(BLOCK, self._most) // 4) * 4
        shape, total, values, own, transposed = self._shape(lanes, tile * lanes)
        images = np.ascontiguousarray(dataset.train.images)
        pixels = images.shape[1]
        image_shape = dataset.image_shape if pixels == dataset.pixels else (1, pixels)
        rates = recipe.dropout_rates(len(workload.network.hidden))
        hidden = len(rates)
        dense = fraction_used(images) >= DENSE_FROM
        self._net = Net(
            lanes=(None,) * lanes,
            tile=(None,) * tile,
            inner=(None,) * inner_tile_of(sizes, lanes, machine.registers),
            shape=shape,
            tiles=int(shape[0, WIDTH]) // self._threads // (tile * lanes),
            lists=0 if dense else -(-(-(-int(shape[0, INPUTS]) // 4) // self._threads) // LISTS),
            items=list_items(shape, self._threads, lanes),
            activation=ACTIVATIONS.index(workload.network.activation),
            dense=dense,
            parameters=aligned((total,), dtype),
            v=aligned((total if recipe.optimizer.moments > 0 else lanes,), dtype),
            s=aligned((total if recipe.optimizer.moments > 1 else lanes,), dtype),
            transposed=aligned((transposed,), dtype),
            gradients=aligned((total,), dtype),
            sums=aligned((0,), dtype),
            rule=rule_of(workload),
            keys=np.zeros((hidden, 2), np.uint32),
            below=np.array([counter.drop_below(rate) if rate else -1 for rate in rates], np.int64),
            scales=np.array([1 / (1 - rate) for rate in rates], dtype),
        )
        self._images = images
        self._augments = bool(recipe.augmentation)
        order = np.arange(len(images))
        self._data = Data(
            images=np.empty((max(AUGMENTED, self._most), pixels), np.uint8) if self._augments else images,
            rows=order.copy() if self._augments else order,
            labels=dataset.train.labels,
            order=order,
            first=0 if self._share is None else self._share.first,
            values=(np.arange(256, dtype=dtype) / np.dtype(dtype).type(255)),
        )
        self._warp = warp(recipe.augmentation, image_shape)
        self._warp_rooms = np.stack([scratch(image_shape)] * self._threads)
        self._room = self._make_room(values, own)
        self._bounds = self._starts = np.append(np.arange(0, workload.images, workload.batch_size), workload.images)
        if self._share is not None:  # of a batch it has some images only, in each epoch others
            self._bounds = np.minimum(self._starts, held)
        self._epoch, self._iteration = -1, 0
        self.reset(parameters)

    def _shape(self, lanes: int, unit: int) -> tuple[NDArray[np.int64], int, int, int, int]:
        """Return the kernels' table of layers, and the lengths of vectors of parameters, values, own ones, transposes.

        Each thread's units of the first layer are padded to a multiple of ``unit``, those of other layers to whole
        vectors, and inputs to the rows of a tile too. Padding is zero and stays zero.
        """
        workload, sizes = self.workload, self.workload.network.sizes
        shape = np.zeros((len(sizes) - 1, SHAPE_COLUMNS), np.int64)
        total = values = own = transposed = before = given = 0
        for layer, (inputs, units) in enumerate(pairwise((-(-sizes[0] // 4) * 4, *sizes[1:]))):
            step = self._threads * unit if layer == 0 else lanes
            width = -(-units // step) * step
            rows = len(FOUR) if layer == 0 else max(lanes, len(FOUR))
            biases = total + -(-inputs // rows) * rows * width
            row = odd_lines(width * workload.itemsize) // workload.itemsize
            shape[layer] = inputs, units, width, total, biases, values, row, transposed, own, given
            given += (inputs + 1) * units
            total = biases + width
            values += self._block * row
            own += GROUP * row
            transposed += width * before
            before = row
        return shape, total, values, own, max(transposed, 1)

    def _make_room(self, values: int, own: int) -> Room:
        dtype, threads, block = self.workload.dtype, self._threads, self._block
        pixels, widths = int(self._net.shape[0, INPUTS]), self._net.shape[:, WIDTH]
        lanes, tile = len(self._net.lanes), len(self._net.tile) * len(self._net.lanes)
        rows = len(FOUR) * int(widths[0]) // threads, max(lanes, len(FOUR)) * int(widths[1:].max(initial=0))
        size = max(own, SUMS, block * tile, max(self.workload.network.sizes) + 1, *rows)
        sparse, dense = (0, 1) if self._net.dense else (1, 0)
        return Room(
            inks=np.zeros((2, block, pixels), np.uint8),
            # Indices are valid from the start, since a thread that is late may read a list while another writes it.
            pixels=np.zeros((2 * sparse, block // 4, pixels), np.uint16 if pixels < 2**16 else np.uint32),
            grays=np.empty((2 * sparse, block // 4, pixels, 4), dtype),
            counts=np.zeros((2, block // 4), np.int64),
            inputs=aligned((2 * dense, block, pixels), dtype),
            images=np.zeros((sparse * pixels // 4, block + 4), np.uint16),
            values=np.empty((sparse * pixels // 4, block + 4, 4), dtype),
            used=np.zeros(sparse * pixels // 4, np.int64),
            A=aligned((values,), dtype),
            D=aligned((values,), dtype),
            dZ=aligned((values,), dtype),
            own=aligned((threads, OWN_ROWS, size), dtype),
            scores=np.zeros((self._most, SCORES)),
        )

    def advance(self, iterations: int) -> Metrics:
        """Run ``iterations`` (at least 1) iterations, epoch by epoch; Ctrl-C ends after the one in progress."""
        done = 0
        while done < iterations:
            done += self._run(iterations - done, learn=True)
        images = images_of(self.workload, self._iteration - 1)
        loss, hits = self._scores(images) / images
        return Metrics(loss=float(loss), accuracy=float(hits))

    def split(self, iterations: int) -> Generator[Sums, None, None]:
        """Run iterations in two parts; the sums are those of ``Net.sums``."""
        if not len(self._net.sums):
            inputs, units, given = self._net.shape[-1, [INPUTS, UNITS, GIVEN]].tolist()
            self._net = self._net._replace(sums=aligned((given + (inputs + 1) * units,), self.workload.dtype))
        start, control = self._iteration, make_control(self._threads)
        augment = self._augment if self._augments else None
        ahead = range(start, start + iterations)
        planner = Planner(self.workload, ahead, self._block, self._bounds, self._begin, augment)
        unknown = np.full(2, np.nan)

        def work(thread: int) -> None:
            run_split(thread, self._threads, planner.plans, planner.numbers, self._net, self._data, self._room, control)

        with crew(self._threads, work, control) as lead:
            try:
                for done in range(iterations + 1):
                    images = planner.next_part()
                    lead()
                    self._iteration = start + done
                    if done < iterations:
                        yield Sums(self._net.sums, self._scores(images) if done == iterations - 1 else unknown)
            finally:
                self._iteration = start + int(control[DONE])

    def _scores(self, images: int) -> NDArray[np.float64]:
        """Return the sums of losses and hits (2,) of the batch's first ``images`` images."""
        return np.array([self._room.scores[:images, place].sum() for place in (LOSS, HITS)])

    def reset(self, parameters: Parameters) -> None:
        self._set_parameters(parameters)
        self._net.v[:] = 0
        self._net.s[:] = 0
        self._iteration = 0

    def moments(self) -> list[Parameters]:
        return [self._from_layout(vector) for vector in self._moments()]

    def restore(self, state: mlp.State) -> None:
        self._set_parameters(state.parameters)
        for vector, moment in zip(self._moments(), state.moments, strict=True):
            self._to_layout(moment, vector)
        self._iteration = state.iteration

    def _moments(self) -> list[NDArray[Any]]:
        return [self._net.v, self._net.s][: self.workload.recipe.optimizer.moments]

    def parameters(self) -> Parameters:
        return self._from_layout(self._net.parameters)

    def gradients(self) -> Parameters:
        self._run(1, learn=False)
        images = self._net.gradients.dtype.type(images_of(self.workload, self._iteration))
        mean = self._from_layout(self._net.gradients / images)
        return mlp.with_penalty(mean, self.parameters(), self.workload.recipe.l2, self.workload.images)

    def mean_gradients(self, sums: Sums) -> Parameters:
        means = sums.gradients / self._net.sums.dtype.type(images_of(self.workload, self._iteration))
        weights, biases = [], []
        for (rows, units, given), inputs in zip(
            self._net.shape[:, [INPUTS, UNITS, GIVEN]].tolist(), self.workload.network.sizes, strict=False
        ):
            biases_at = given + rows * units
            weights.append(means[given:biases_at].reshape(rows, units)[:inputs].T.copy())
            biases.append(means[biases_at : biases_at + units, None].copy())
        mean = Parameters(weights, biases)
        return mlp.with_penalty(mean, self.parameters(), self.workload.recipe.l2, self.workload.images)

    def describe(self) -> Description:
        tile, inner = len(self._net.tile), len(self._net.inner)
        used = fraction_used(self._images)
        return Description(
            device="CPU",
            threads=self._threads,
            versions={"numba": numba.__version__, "llvmlite": llvmlite.__version__, "numpy": np.__version__},
            kernel=f"{host().name}, {tile} vectors of units at a time in the first layer, {inner} in others; "
            "a share of three stages a batch for each thread",
            skips=None if self._net.dense else f"pixels that are zero, in the first layer: {1 - used:.0%} of them",
            bytes_read=self.workload.image_bytes * len(self._images) // self.workload.images,
        )

    def _run(self, iterations: int, learn: bool) -> int:
        """Run up to ``iterations`` iterations of the current epoch, and return their number."""
        workload = self.workload
        epoch, first = divmod(self._iteration, workload.iterations_per_epoch)
        count = min(iterations, workload.iterations_per_epoch - first)
        self._begin(epoch)
        if self._augments:
            count = self._augment(first, count)
        bias_corrections = workload.recipe.optimizer.bias_corrections
        numbers = [
            (workload.rate(i), *bias_corrections(i + 1)) for i in range(self._iteration, self._iteration + count)
        ]
        control = make_control(self._threads)
        table = np.array(numbers, workload.dtype)

        def work(thread: int) -> None:
            run(thread, self._threads, first, self._bounds, learn, table, self._net, self._data, self._room, control)

        try:
            run_workers(self._threads, work, control)
        finally:
            if learn:
                self._iteration += int(control[DONE] >> 1)
        return count

    def _augment(self, first: int, count: int) -> int:
        """Augment the images of up to ``count`` batches of the epoch from ``first`` on; return their number."""
        begin, data = self._bounds[first], self._data
        fitting = np.searchsorted(self._bounds[first + 1 : first + count + 1], begin + len(data.images), "right")
        end = self._bounds[first + fitting]
        data.rows[begin:end] = np.arange(end - begin)
        places = data.order[begin:end]

        def work(thread: int) -> None:
            warp_images(
                thread, self._threads, self._warp, self._warp_keys, self._images, data.first, places, self._warp_rooms,
                data.images,
            )  # fmt: skip

        run_workers(self._threads, work, make_control(self._threads))
        return int(fitting)

    def _begin(self, epoch: int) -> None:
        """Set the epoch's order of the images and its keys of dropout and augmentation."""
        if epoch == self._epoch:
            return
        seed, self._epoch = self.workload.seed, -1  # until all is set
        if self.workload.recipe.batch_size is not None:
            order = mlp.epoch_order(seed, epoch, self.workload.images)
            if self._share is not None:
                held = (order >= self._share.first) & (order < self._share.last)
                self._bounds[1:] = np.cumsum(held)[self._starts[1:] - 1]
                order = order[held] - self._share.first
            self._data.order[:] = order
        for layer in range(len(self._net.keys)):
            self._net.keys[layer] = counter.key(seed, counter.DROPOUT + layer, epoch)
        self._warp_keys = keys(seed, epoch)
        self._epoch = epoch

    def _set_parameters(self, parameters: Parameters) -> None:
        self._to_layout(parameters, self._net.parameters)
        before = 0
        for (_, units, _, _, _, _, row, at, *_), W in zip(self._net.shape.tolist(), parameters.weights, strict=True):
            transposed = self._net.transposed[at : at + units * before]
            transposed.reshape(units, before)[:, : W.shape[1]] = W[:, :before]
            before = row

    def _to_layout(self, parameters: Parameters, vector: NDArray[Any]) -> None:
        """Write parameters or moments to a vector; padding becomes zero."""
        vector[:] = 0
        for (_, units, width, weights, biases, *_), (W, b) in zip(
            self._net.shape.tolist(), parameters.layers(), strict=True
        ):
            padded = np.zeros(((biases - weights) // width, width), vector.dtype)
            padded[: W.shape[1], :units] = W.T
            parts = self._threads if weights == 0 else 1
            vector[weights:biases] = padded.reshape(len(padded), parts, -1).swapaxes(0, 1).reshape(-1)
            vector[biases : biases + units] = b[:, 0]

    def _from_layout(self, vector: NDArray[Any]) -> Parameters:
        """Return copies of the parameters, or gradients, in a vector in the layout of :meth:`_to_layout`."""
        weights, biases = [], []
        table = zip(self._net.shape.tolist(), self.workload.network.sizes, strict=False)
        for (_, units, width, first, last, *_), inputs in table:
            parts = self._threads if first == 0 else 1
            padded = vector[first:last].reshape(parts, (last - first) // width, -1).swapaxes(0, 1).reshape(-1, width)
            weights.append(padded[:inputs, :units].T.copy())
            biases.append(vector[last : last + units, None].copy())
        return Parameters(weights, biases)
