"""The reference's operations on arrays that stay on the device.

``xp`` is the array library, CuPy for a GPU; any library with NumPy's functions will do, so that the same lines run
on NumPy arrays where there is no GPU. Nothing in :meth:`ArrayTrainer.advance` waits for the device or moves an
array to or from the host before the metrics at its end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mnistbench.backends.base import Metrics, Trainer
from mnistbench.datasets import Dataset
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Workload


def scale(xp: ModuleType, images: NDArray[np.uint8], dtype: DTypeLike) -> Any:
    """Images (m, n) uint8 to X (n, m): moved as bytes, widened on the device."""
    X = xp.asarray(images).T.astype(dtype)
    X /= 255
    return X


def forward(xp: ModuleType, arrays: Sequence[Any], X: Any) -> tuple[Any, Any, Any]:
    """Z1, A1, Z2 of X (n, m) under the arrays W1, b1, W2, b2."""
    W1, b1, W2, b2 = arrays
    Z1 = W1 @ X + b1
    A1 = xp.maximum(Z1, 0)
    Z2 = W2 @ A1 + b2
    return Z1, A1, Z2


class ArrayTrainer(Trainer):
    """Holds X (n, m), Y one-hot (c, m), and the four parameter arrays, all in the workload's dtype.

    Args:
        xp: the array library.
        to_host: copies one of its arrays to a NumPy array, once the device has finished it.
    """

    def __init__(
        self,
        xp: ModuleType,
        to_host: Callable[[Any], NDArray[Any]],
        workload: Workload,
        dataset: Dataset,
        parameters: Parameters,
    ) -> None:
        super().__init__(workload)
        self._xp, self._to_host = xp, to_host
        self._X = scale(xp, dataset.train.images, workload.dtype)
        self._labels = xp.asarray(dataset.train.labels)
        classes = xp.arange(workload.network.outputs)[:, None]
        self._one_hot = (self._labels[None, :] == classes).astype(workload.dtype)
        self.reset(parameters)
        self._to_host(self._X[:1, :1])  # the data is on the device when start returns

    def _backward(self, Z1: Any, A1: Any, Z2: Any) -> tuple[Any, Any, Any, Any]:
        m = self._labels.size
        exp_Z2 = self._xp.exp(Z2 - Z2.max(axis=0))
        dZ2 = exp_Z2 / exp_Z2.sum(axis=0) - self._one_hot
        dW2 = dZ2 @ A1.T / m
        db2 = dZ2.sum(axis=1, keepdims=True) / m
        dZ1 = (self._arrays[2].T @ dZ2) * (Z1 > 0)
        dW1 = dZ1 @ self._X.T / m
        db1 = dZ1.sum(axis=1, keepdims=True) / m
        return dW1, db1, dW2, db2

    def advance(self, iterations: int) -> Metrics:
        for _ in range(iterations):
            Z1, A1, Z2 = forward(self._xp, self._arrays, self._X)
            gradients = self._backward(Z1, A1, Z2)
            for array, gradient in zip(self._arrays, gradients, strict=True):
                array -= self.workload.learning_rate * gradient
        loss, accuracy = self._to_host(self._loss_and_accuracy(Z2))
        return Metrics(loss=float(loss), accuracy=float(accuracy))

    def _loss_and_accuracy(self, Z2: Any) -> Any:
        """The mean cross-entropy and the fraction of hits, as a float64 array (2,) on the device."""
        xp = self._xp
        shifted = Z2 - Z2.max(axis=0)
        losses = xp.log(xp.exp(shifted).sum(axis=0)) - (shifted * self._one_hot).sum(axis=0)
        hits = Z2.argmax(axis=0) == self._labels
        return xp.stack([losses.mean(dtype="float64"), hits.mean(dtype="float64")])

    def reset(self, parameters: Parameters) -> None:
        (W1, W2), (b1, b2) = parameters.weights, parameters.biases
        self._arrays = [self._xp.array(array, dtype=self.workload.dtype) for array in (W1, b1, W2, b2)]

    def parameters(self) -> Parameters:
        return Parameters.from_arrays(map(self._to_host, self._arrays))

    def gradients(self) -> Parameters:
        return Parameters.from_arrays(map(self._to_host, self._backward(*forward(self._xp, self._arrays, self._X))))

    def close(self) -> None:
        del self._X, self._labels, self._one_hot, self._arrays
