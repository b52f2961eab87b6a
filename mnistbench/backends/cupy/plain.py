"""CuPy's array operations: what a library with NumPy's functions for a GPU gives, one kernel launch for each.

The data and the parameters stay on the GPU; what an iteration costs is the launches, and reading the images, widened
to the workload's dtype, from memory in each of the two large matrix products.
"""

from __future__ import annotations

from functools import partial

import cupy as cp

from mnistbench.backends.base import Description, Metrics, Trainer
from mnistbench.backends.cupy.arrays import ArrayTrainer, forward
from mnistbench.backends.cupy.device import CudaBackend, Stopwatch, described, refusal
from mnistbench.datasets import Dataset
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Workload

KERNEL = "CuPy array operations, cuBLAS products"


class PlainTrainer(ArrayTrainer):
    """The arrays on the current CUDA device; leaving it returns their memory to the device.

    Args:
        name: of the backend.
    """

    def __init__(
        self, name: str, workload: Workload, dataset: Dataset, parameters: Parameters, kernel: str = KERNEL
    ) -> None:
        self._stopwatch, self._refusal = Stopwatch(), partial(refusal, name, workload)
        self._kernel = kernel
        super().__init__(cp, cp.asnumpy, workload, dataset, parameters)

    def advance(self, iterations: int) -> Metrics:
        with self._refusal(), self._stopwatch.measure(iterations):
            return super().advance(iterations)

    def gradients(self) -> Parameters:
        with self._refusal():
            return super().gradients()

    def _repeat(self, iterations: int) -> None:
        for _ in range(iterations):
            self._backward(*forward(cp, self._arrays, self._X))

    def describe(self) -> Description:
        # W1 X and dZ1 Xᵀ read X.
        return described(self._stopwatch, self._repeat, kernel=self._kernel, bytes_read=2 * self._X.nbytes)

    def close(self) -> None:
        super().close()
        cp.get_default_memory_pool().free_all_blocks()


class CupyPlainBackend(CudaBackend):
    """CuPy's array operations on the current CUDA device."""

    name = "cupy-plain"

    def _load(self, workload: Workload, dataset: Dataset, parameters: Parameters) -> Trainer:
        return PlainTrainer(self.name, workload, dataset, parameters)
