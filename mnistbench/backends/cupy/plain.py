"""CuPy's array operations: what a library with NumPy's functions for a GPU gives, one kernel launch for each.

The data and the parameters stay on the GPU; what an iteration costs is the launches, and reading the images, widened
to the workload's dtype, from memory in each of the two large matrix products.
"""

from __future__ import annotations

from typing import Any

import cupy as cp

from mnistbench.backends.base import Metrics, Trainer
from mnistbench.backends.cupy.arrays import ArrayTrainer
from mnistbench.backends.cupy.device import CudaBackend, Stopwatch, facts
from mnistbench.datasets import Dataset
from mnistbench.network import Parameters
from mnistbench.workload import Workload

KERNEL = "CuPy array operations, cuBLAS products"


class PlainTrainer(ArrayTrainer):
    """The arrays on the current CUDA device; leaving it returns their memory to the device."""

    def __init__(self, workload: Workload, dataset: Dataset, parameters: Parameters, kernel: str = KERNEL) -> None:
        self._stopwatch = Stopwatch()
        super().__init__(cp, cp.asnumpy, {"kernel": kernel, "skips": None}, workload, dataset, parameters)

    def advance(self, iterations: int) -> Metrics:
        with self._stopwatch.measure(iterations):
            return super().advance(iterations)

    def describe(self) -> dict[str, Any]:
        return {**facts(self._stopwatch), **super().describe()}

    def close(self) -> None:
        super().close()
        cp.get_default_memory_pool().free_all_blocks()


class CupyPlainBackend(CudaBackend):
    """CuPy's array operations on the current CUDA device."""

    name = "cupy-plain"

    def _load(self, workload: Workload, dataset: Dataset, parameters: Parameters) -> Trainer:
        return PlainTrainer(workload, dataset, parameters)
