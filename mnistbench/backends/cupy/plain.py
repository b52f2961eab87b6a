"""The reference's operations on CuPy arrays: one kernel launch each, products by cuBLAS.

The data and the parameters stay on the GPU; nothing waits for it before the metrics at the end of ``advance``.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Any

import cupy as cp
import numpy as np

from mnistbench.backends.base import Arithmetic, Description, Metrics, Sums, Trainer
from mnistbench.backends.cupy.device import CudaBackend, Stopwatch, described, refusal
from mnistbench.backends.cupy.sums import mean_of, sums_of
from mnistbench.datasets import Dataset
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Workload

KERNEL = "CuPy array operations, cuBLAS products"


class PlainTrainer(Trainer):
    """Hold X (n, m), Y one-hot (c, m) and the four parameter arrays in the workload's dtype on the current device."""

    def __init__(
        self, name: str, workload: Workload, dataset: Dataset, parameters: Parameters, kernel: str = KERNEL
    ) -> None:
        super().__init__(workload)
        self._stopwatch, self._refusal = Stopwatch(), partial(refusal, name, workload)
        self._kernel = kernel
        self._X = cp.asarray(dataset.train.images).T.astype(workload.dtype)  # moved as bytes, widened on the device
        self._X /= 255
        self._labels = cp.asarray(dataset.train.labels)
        classes = cp.arange(workload.network.outputs)[:, None]
        self._one_hot = (self._labels[None, :] == classes).astype(workload.dtype)
        self.reset(parameters)
        cp.cuda.get_current_stream().synchronize()  # the data is on the device when start returns

    def _forward(self) -> tuple[Any, Any, Any]:
        W1, b1, W2, b2 = self._arrays
        Z1 = W1 @ self._X + b1
        A1 = cp.maximum(Z1, 0)
        Z2 = W2 @ A1 + b2
        return Z1, A1, Z2

    def _backward(self, Z1: Any, A1: Any, Z2: Any) -> tuple[Any, Any, Any, Any]:
        m = self._labels.size
        exp_Z2 = cp.exp(Z2 - Z2.max(axis=0))
        dZ2 = exp_Z2 / exp_Z2.sum(axis=0) - self._one_hot
        dW2 = dZ2 @ A1.T / m
        db2 = dZ2.sum(axis=1, keepdims=True) / m
        dZ1 = (self._arrays[2].T @ dZ2) * (Z1 > 0)
        dW1 = dZ1 @ self._X.T / m
        db1 = dZ1.sum(axis=1, keepdims=True) / m
        return dW1, db1, dW2, db2

    def advance(self, iterations: int) -> Metrics:
        with self._refusal(), self._stopwatch.measure(iterations):
            for _ in range(iterations):
                Z1, A1, Z2 = self._forward()
                for array, gradient in zip(self._arrays, self._backward(Z1, A1, Z2), strict=True):
                    array -= self.workload.learning_rate * gradient
            loss, accuracy = cp.asnumpy(self._loss_and_accuracy(Z2))
        return Metrics(loss=float(loss), accuracy=float(accuracy))

    def _loss_and_accuracy(self, Z2: Any) -> Any:
        """Compute the mean cross-entropy and the fraction of hits, a float64 array (2,) on the device."""
        shifted = Z2 - Z2.max(axis=0)
        losses = cp.log(cp.exp(shifted).sum(axis=0)) - (shifted * self._one_hot).sum(axis=0)
        hits = Z2.argmax(axis=0) == self._labels
        return cp.stack([losses.mean(dtype="float64"), hits.mean(dtype="float64")])

    def reset(self, parameters: Parameters) -> None:
        self._arrays = [cp.array(array, dtype=self.workload.dtype) for array in parameters.arrays()]

    def parameters(self) -> Parameters:
        return Parameters.from_arrays(map(cp.asnumpy, self._arrays))

    def gradients(self) -> Parameters:
        with self._refusal():
            return Parameters.from_arrays(map(cp.asnumpy, self._backward(*self._forward())))

    def split(self, iterations: int) -> Generator[Sums]:
        for _ in range(iterations):
            with self._refusal():
                Z1, A1, Z2 = self._forward()
                own = Parameters.from_arrays(map(cp.asnumpy, self._backward(Z1, A1, Z2)))
                scores = cp.asnumpy(self._loss_and_accuracy(Z2))
            sums = sums_of(own, len(self._labels), self.workload.images, scores)
            yield sums
            rate = np.dtype(self.workload.dtype).type(self.workload.learning_rate)
            with self._refusal():
                for array, gradient in zip(self._arrays, mean_of(sums.gradients, own).arrays(), strict=True):
                    # The host multiplies, and the device subtracts: a product in a difference would round otherwise.
                    array -= cp.asarray(rate * gradient)

    def mean_gradients(self, sums: Sums) -> Parameters:
        return mean_of(sums.gradients, self.parameters())

    def _repeat(self, iterations: int) -> None:
        for _ in range(iterations):
            self._backward(*self._forward())

    def describe(self) -> Description:
        # W1 X and dZ1 Xᵀ read X.
        arithmetic = Arithmetic.of(self.workload.dtype)
        return described(self._stopwatch, self._repeat, self._kernel, 2 * self._X.nbytes, arithmetic=arithmetic)

    def close(self) -> None:
        del self._X, self._labels, self._one_hot, self._arrays
        cp.get_default_memory_pool().free_all_blocks()


class CupyPlainBackend(CudaBackend):
    """CuPy's array operations on the current CUDA device."""

    name = "cupy-plain"
    ranks = True

    def _load(self, workload: Workload, dataset: Dataset, parameters: Parameters) -> Trainer:
        return PlainTrainer(self.name, workload, dataset, parameters)
