"""Any multilayer perceptron with its iteration captured as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import cupy as cp

from mnistbench.backends.cupy.mlp.products import Products
from mnistbench.backends.cupy.mlp.trainer import MlpTrainer
from mnistbench.datasets import Dataset
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Workload


class CapturedTrainer(MlpTrainer):
    """The same with a launch of one graph in place of an iteration's operations.

    One graph has the operations of a whole batch, another those of an epoch's smaller last batch.

    Raises:
        Exception: what CuPy, CUDA or cuBLAS raise that cannot capture.
        RuntimeError: a graph computes other bits than its operations.
    """

    way = "CUDA graph of an iteration"

    def __init__(
        self, name: str, workload: Workload, dataset: Dataset, parameters: Parameters, failed: str | None = None
    ) -> None:
        super().__init__(name, workload, dataset, parameters, failed)
        self._products = Products(workload.dtype)
        self._graphs: dict[int, Any] = {}  # by the number of images
        # Later launches overwrite what their operations have allocated, so nothing else may get that memory.
        self._pool = cp.cuda.MemoryPool()
        for iteration in (0, self.workload.iterations_per_epoch - 1):
            m = self._batches.begin(iteration)
            if m not in self._graphs:
                self._graphs[m] = self._proved_graph(m, iteration, parameters)
        self.reset(parameters)
        cp.cuda.get_current_stream().synchronize()

    def _product(self, a: Any, b: Any, out: Any) -> None:
        self._products(a, b, out)

    def _proved_graph(self, m: int, iteration: int, parameters: Parameters) -> Any:
        """Capture an iteration of m images, and compare a launch of the graph with one of its operations."""

        def launch_operations() -> None:
            self._batches.steps.take()  # which loads its kernel
            self._iterate(m, self._batches.steps.row(iteration))

        wanted = self._bits_after(launch_operations, iteration, parameters)
        graph = self._captured(m)
        if self._bits_after(graph.launch, iteration, parameters) != wanted:
            raise RuntimeError("a launch of the graph computes other bits than its operations")
        return graph

    def _captured(self, m: int) -> Any:
        stream = cp.cuda.Stream(non_blocking=True)  # the default stream cannot be captured
        with stream, cp.cuda.using_allocator(self._pool.malloc):
            stream.begin_capture()
            try:
                self._iterate(m, self._batches.steps.take())
            except BaseException:
                with suppress(RuntimeError):
                    stream.end_capture()
                raise
            return stream.end_capture()

    def _bits_after(self, run: Callable[[], object], iteration: int, parameters: Parameters) -> bytes:
        """Return parameters, moments and metrics as bytes after ``run`` has computed an iteration from the start."""
        self.reset(parameters)
        self._batches.steps.follow(iteration)
        run()
        return b"".join(cp.asnumpy(array).tobytes() for array in (self._values, self._moments, self._metrics))

    def _run(self, iterations: int) -> int:
        for _ in range(iterations):
            m = self._batches.begin(self._iteration)
            self._batches.steps.follow(self._iteration)
            self._graphs[m].launch()
            self._iteration += 1
        return m

    def close(self) -> None:
        del self._graphs, self._products
        self._pool.free_all_blocks()
        super().close()
