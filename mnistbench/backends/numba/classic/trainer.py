"""The trainer of the classic, which runs the kernels on worker threads."""

from __future__ import annotations

from collections.abc import Generator

import llvmlite
import numba
import numpy as np
from numpy.typing import NDArray

from mnistbench.backends.base import Description, Metrics, Sums, Trainer
from mnistbench.backends.numba.classic import layout
from mnistbench.backends.numba.classic.kernels import HITS, LOSS, SPILL, Room, run
from mnistbench.backends.numba.classic.packing import NO_IMAGE
from mnistbench.backends.numba.classic.prepare import prepare
from mnistbench.backends.numba.classic.split import run_split
from mnistbench.backends.numba.simd import Ints
from mnistbench.backends.numba.simd.host import CACHE_LINE, aligned, host
from mnistbench.backends.numba.simd.tasks import ROWS, STATES, make_control, make_paces
from mnistbench.backends.numba.simd.workers import crew, run_workers
from mnistbench.datasets import Dataset
from mnistbench.reference.parameters import Array, Parameters
from mnistbench.task.workload import Workload

SLICES = 4
"""Number of slices of the parameters for each thread, in which they are updated."""


class NumbaTrainer(Trainer):
    """Trainer that holds the packed images and one vector of parameters in the kernels' layout."""

    def __init__(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int) -> None:
        super().__init__(workload)
        self._host = host()
        self._tile = layout.choose_tile(self._host, workload.network, workload.dtype)
        self._sizes = sizes = layout.choose_sizes(workload.network, self._tile, workload.dtype)
        self._held = len(dataset.train)
        self._images = self._held if dataset.share is None else dataset.share.images
        lanes = len(self._tile.lanes)
        images, labels = np.ascontiguousarray(dataset.train.images), dataset.train.labels
        if not self._held:  # a rank without images has one that adds nothing
            images, labels = np.zeros((1, images.shape[1]), np.uint8), np.full(1, NO_IMAGE)
        shape = dataset.image_shape if images.shape[1] == dataset.pixels else (1, images.shape[1])
        self._packed, costs = prepare(images, labels, shape, lanes, threads, sizes.pairs)
        self._most_threads = -(-int(costs.sum()) // int(costs.max()))  # more would wait for the largest task
        self._threads = min(threads, self._most_threads)
        self._tasks = len(costs)
        self._room = self._make_room(costs)
        self._parameters = np.zeros(self._slices * self._room.pieces.shape[1], workload.dtype)
        self.reset(parameters)

    def _make_room(self, costs: Ints) -> Room:
        sizes, threads, tasks, dtype = self._sizes, self._threads, self._tasks, self.workload.dtype
        lanes = len(self._tile.lanes)
        unit = 8 * lanes  # a step takes four vectors of a pair together
        slices = min(SLICES * threads, -(-sizes.total // unit))
        width = -(-sizes.total // (slices * unit)) * unit
        # add_lane_sums adds whole vectors of up to 2 * lanes values. Rows at a distance of a power of two would compete
        # for the same places of a cache.
        row = slices * width + 5 * CACHE_LINE // self.workload.itemsize
        self._slices, pair = slices, sizes.pairs * 2 * lanes
        step = self.workload.learning_rate / self._images
        return Room(
            steps=np.array([step / 255, step], dtype),
            gradients=aligned((tasks + threads, row), dtype),
            scores=aligned((tasks + threads, SPILL + 4 * lanes), "float64"),
            pieces=aligned((slices + threads, width), dtype),
            parameters=aligned((threads, row), dtype),
            Z1=aligned((threads, pair * sizes.hidden), dtype),
            Z2=aligned((threads, pair * sizes.classes), dtype),
            costs=np.append(costs, np.ones(slices, np.int64)),
            begun=np.zeros(tasks + slices, np.int64),
            paces=make_paces(threads),
        )

    def advance(self, iterations: int) -> Metrics:
        """Run ``iterations`` (at least 1) iterations; Ctrl-C ends after the one in progress."""
        self._run(iterations, learn=True)
        loss, hits = self._scores(self._rows) / self._images
        return Metrics(loss=float(loss), accuracy=float(hits))

    def split(self, iterations: int) -> Generator[Sums, None, None]:
        """Run iterations in two parts; the sums are those of :class:`Sizes`, without the division by 255 and m."""
        control = make_control(self._tasks, self._slices)
        spares = np.array([(self._tasks + i, self._slices + i) for i in range(self._threads)])
        vector = np.zeros_like(self._parameters)
        nothing = np.zeros(2 + self._room.pieces.shape[1], self.workload.dtype)
        nothing[:2] = -1
        sums, unknown = vector[: self._sizes.total], np.full(2, np.nan)

        def work(thread: int) -> None:
            run_split(
                thread, iterations, spares, self._tile, self._sizes, self._packed, self._room, self._parameters,
                nothing, vector, control,
            )  # fmt: skip

        with crew(self._threads, work, control) as lead:
            for iteration in range(iterations):
                lead()
                last = iteration == iterations - 1
                yield Sums(sums, self._scores(control[STATES : STATES + self._tasks] & ROWS) if last else unknown)
            lead()

    def reset(self, parameters: Parameters) -> None:
        layout.to_layout(parameters, self._tile, self._sizes, self._parameters)

    def parameters(self) -> Parameters:
        return layout.from_layout(self._parameters, self._tile, self._sizes, self.workload.network)

    def gradients(self) -> Parameters:
        self._run(1, learn=False)
        total = np.zeros(self._sizes.total, self.workload.dtype)
        for row in self._rows:
            total += self._room.gradients[row, : self._sizes.total]
        return self._means(total)

    def mean_gradients(self, sums: Sums) -> Parameters:
        return self._means(sums.gradients.copy())

    def _means(self, total: Array) -> Parameters:
        """Return the gradients from their sums over all images, which are overwritten."""
        total[: self._sizes.b1] /= 255 * self._images
        total[self._sizes.b1 :] /= self._images
        return layout.from_layout(total, self._tile, self._sizes, self.workload.network)

    def _scores(self, rows: Ints) -> NDArray[np.float64]:
        """Return the sums of losses and hits (2,) of the tasks that were published in some rows."""
        scores = self._room.scores[rows]
        return np.array([scores[:, LOSS].sum(), scores[:, HITS].sum()])

    def describe(self) -> Description:
        lanes, pixels = len(self._tile.lanes), self.workload.network.inputs
        chunks = len(self._packed.chunk) / lanes
        skipped = 1 - chunks / (-(-max(self._held, 1) // lanes) * pixels)
        stored = sum(array.nbytes for array in self._packed)
        return Description(
            device="CPU",
            threads=self._threads,
            versions={"numba": numba.__version__, "llvmlite": llvmlite.__version__, "numpy": np.__version__},
            kernel=f"{self._host.name}, {lanes} images in a vector, {len(self._tile.hidden)} hidden units at a time; "
            f"{self._tasks} tasks an iteration, for up to {self._most_threads} threads",
            skips=f"chunks of a pixel of {lanes} images that are all zero: {skipped:.0%} of them"
            if skipped > 0
            else None,
            # Each pass over the images reads its own half of the stored data, once for each tile of hidden units.
            bytes_read=stored * (self._sizes.hidden // len(self._tile.hidden)),
        )

    def _run(self, iterations: int, learn: bool) -> None:
        room, slices = self._room, self._slices
        control = make_control(self._tasks, slices)
        room.pieces[:slices] = self._parameters.reshape(slices, -1)

        def work(thread: int) -> None:
            run(thread, iterations, learn, self._tile, self._sizes, self._packed, room, control)

        try:
            run_workers(self._threads, work, control)
        finally:
            rows = control[STATES:] & ROWS
            self._rows = rows[: self._tasks]
            self._parameters[:] = room.pieces[rows[self._tasks :]].reshape(-1)
