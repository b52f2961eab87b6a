"""The trainer of the classic, which runs the kernels on worker threads."""

from __future__ import annotations

import llvmlite
import numba
import numpy as np

from mnistbench.backends.base import Description, Metrics, Trainer
from mnistbench.backends.numba.classic import layout
from mnistbench.backends.numba.classic.kernels import HITS, LOSS, SPILL, run
from mnistbench.backends.numba.classic.prepare import prepare
from mnistbench.backends.numba.simd import sync
from mnistbench.backends.numba.simd.host import CACHE_LINE, aligned, host
from mnistbench.backends.numba.simd.workers import run_workers
from mnistbench.datasets import Dataset
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Workload


class NumbaTrainer(Trainer):
    """Trainer that holds each thread's packed images and one vector of parameters in the kernels' layout."""

    def __init__(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int) -> None:
        super().__init__(workload)
        self._host = host()
        self._tile = layout.choose_tile(self._host, workload.network, workload.dtype)
        self._sizes = sizes = layout.choose_sizes(workload.network, self._tile, workload.dtype)
        self._images = len(dataset.train)
        lanes = len(self._tile.lanes)
        # Each thread needs at least one pair.
        self._threads = min(threads, -(-self._images // (2 * lanes)))
        images = np.ascontiguousarray(dataset.train.images)
        shape = dataset.image_shape if images.shape[1] == dataset.pixels else (1, images.shape[1])
        self._packed = prepare(images, dataset.train.labels, shape, lanes, self._threads, sizes.pairs)
        self._parameters = aligned((sizes.total,), workload.dtype)
        # add_lane_sums adds whole vectors of up to 2 * lanes values.
        row = -(-(sizes.total + 2 * lanes) // CACHE_LINE) * CACHE_LINE
        self._gradients = aligned((self._threads, row), workload.dtype)
        block = (self._threads, sizes.pairs * 2 * lanes)
        self._Z1 = aligned((block[0], block[1] * sizes.hidden), workload.dtype)
        self._Z2 = aligned((block[0], block[1] * sizes.classes), workload.dtype)
        self._scores = aligned((self._threads, SPILL + 4 * lanes), "float64")
        self.reset(parameters)

    def advance(self, iterations: int) -> Metrics:
        """Run ``iterations`` (at least 1) iterations; Ctrl-C ends after the one in progress."""
        self._run(iterations, learn=True)
        loss, hits = self._scores[:, LOSS].sum() / self._images, self._scores[:, HITS].sum() / self._images
        return Metrics(loss=float(loss), accuracy=float(hits))

    def reset(self, parameters: Parameters) -> None:
        layout.to_layout(parameters, self._tile, self._sizes, self._parameters)

    def parameters(self) -> Parameters:
        return layout.from_layout(self._parameters, self._tile, self._sizes, self.workload.network)

    def gradients(self) -> Parameters:
        self._run(1, learn=False)
        total = self._gradients[0, : self._sizes.total].copy()
        for row in self._gradients[1:]:
            total += row[: self._sizes.total]
        total[: self._sizes.b1] /= 255 * self._images
        total[self._sizes.b1 :] /= self._images
        return layout.from_layout(total, self._tile, self._sizes, self.workload.network)

    def describe(self) -> Description:
        lanes, pixels = len(self._tile.lanes), self.workload.network.inputs
        chunks = sum(len(packed.chunk) for packed in self._packed) / lanes
        skipped = 1 - chunks / (-(-self._images // lanes) * pixels)
        stored = sum(array.nbytes for packed in self._packed for array in packed)
        return Description(
            device="CPU",
            threads=self._threads,
            versions={"numba": numba.__version__, "llvmlite": llvmlite.__version__, "numpy": np.__version__},
            kernel=f"{self._host.name}, {lanes} images in a vector, {len(self._tile.hidden)} hidden units at a time; "
            "threads meet at a spinning barrier that yields the core",
            skips=f"chunks of a pixel of {lanes} images that are all zero: {skipped:.0%} of them"
            if skipped > 0
            else None,
            # Each pass over the images reads its own half of the stored data, once for each tile of hidden units.
            bytes_read=stored * (self._sizes.hidden // len(self._tile.hidden)),
        )

    def _run(self, iterations: int, learn: bool) -> None:
        control = np.zeros(sync.CONTROL_SIZE, np.int64)
        steps = np.array([1 / 255, 1]) * (self.workload.learning_rate / self._images)
        steps = steps.astype(self.workload.dtype)

        def work(thread: int) -> None:
            run(
                thread,
                iterations,
                learn,
                self._tile,
                self._sizes,
                self._packed[thread],
                self._parameters,
                steps,
                self._gradients,
                self._Z1[thread],
                self._Z2[thread],
                self._scores[thread],
                control,
            )

        run_workers(self._threads, work, control)
