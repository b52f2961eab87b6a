"""Any multilayer perceptron with its iteration captured as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NoReturn

import cupy as cp
import numpy as np

from mnistbench.backends.cupy.mlp.products import Products
from mnistbench.backends.cupy.mlp.trainer import MlpTrainer
from mnistbench.datasets import Dataset
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Workload


class CapturedTrainer(MlpTrainer):
    """Launch an iteration of :class:`MlpTrainer` as one CUDA graph.

    One graph has the operations of a whole batch, another those of an epoch's smaller last batch.

    Raises:
        Exception: an operation cannot be captured; CuPy, CUDA and cuBLAS raise errors of their own.
        RuntimeError: an operation takes memory, or a graph computes other bits than its operations.
    """

    way = "CUDA graph of an iteration"

    def __init__(
        self, name: str, workload: Workload, dataset: Dataset, parameters: Parameters, failed: str | None = None
    ) -> None:
        super().__init__(name, workload, dataset, parameters, failed)
        self._products = Products(workload.dtype)
        self._graphs: dict[int, Any] = {}  # by the number of images
        for m, iterations in self._samples().items():
            self._graphs[m] = self._proved_graph(m, iterations, parameters)
        self.reset(parameters)
        cp.cuda.get_current_stream().synchronize()

    def _product(self, a: Any, b: Any, out: Any) -> None:
        self._products(a, b, out)

    def _samples(self) -> dict[int, tuple[int, int]]:
        """Return, by number of images, two iterations with as many: the first one of epoch 0, the last one of epoch 1.

        They differ in all that changes in a training: the batch, the keys of random words and the rate.
        """
        workload, per_epoch = self.workload, self.workload.iterations_per_epoch
        whole = workload.images // workload.batch_size  # batches in an epoch
        samples = {workload.batch_size: (0, per_epoch + whole - 1)}
        if whole < per_epoch:
            samples[workload.images_of(whole)] = (whole, per_epoch + whole)
        return samples

    def _proved_graph(self, m: int, iterations: tuple[int, int], parameters: Parameters) -> Any:
        """Capture an iteration of m images, and compare launches of the graph with launches of its operations."""

        def launch_operations(iteration: int) -> None:
            # Nothing may be loaded for the first time in a capture, so each kernel is launched before, also this one's.
            self._batches.steps.take()
            self._iterate(m, self._batches.steps.row(iteration))

        wanted = [*self._bits_of(launch_operations, iterations, parameters)]
        graph = self._captured(m)
        found = self._bits_of(lambda _: graph.launch(), iterations, parameters)
        if any(own != bits for own, bits in zip(found, wanted, strict=True)):
            raise RuntimeError("a launch of the graph computes other bits than its operations")
        return graph

    def _captured(self, m: int) -> Any:
        stream = cp.cuda.Stream(non_blocking=True)  # the default stream cannot be captured
        with stream, cp.cuda.using_allocator(_refuse):
            stream.begin_capture()
            try:
                self._iterate(m, self._batches.steps.take())
            except BaseException:
                with suppress(RuntimeError):
                    stream.end_capture()
                raise
            return stream.end_capture()

    def _bits_of(
        self, run: Callable[[int], object], iterations: tuple[int, int], parameters: Parameters
    ) -> Iterator[bytes]:
        """Yield parameters, moments and metrics as bytes after each of the iterations that ``run`` computes.

        What an iteration computes is overwritten before, so an operation that is left out is noticed.
        """
        self.reset(parameters)
        for iteration in iterations:
            self._batches.begin(iteration)
            self._batches.invalidate()
            for array in (self._sums, self._metrics, *self._Zs, *self._As):
                array.fill(np.nan)
            self._batches.steps.follow(iteration)
            run(iteration)
            yield b"".join(cp.asnumpy(array).tobytes() for array in (self._values, self._moments, self._metrics))

    def _run(self, iterations: int) -> int:
        for _ in range(iterations):
            m = self._batches.begin(self._iteration)
            self._batches.steps.follow(self._iteration)
            self._graphs[m].launch()
            self._iteration += 1
        return m

    def close(self) -> None:
        del self._graphs, self._products
        super().close()


def _refuse(size: int) -> NoReturn:
    """Refuse memory to a capture: launches of the graph would write to it when others have it."""
    raise RuntimeError(f"an operation takes {size:,} bytes of memory, so it cannot be captured")
