"""The reference's own functions, on all images at once: float64 as they stand, or float32.

NumPy hands the matrix products to a BLAS library, which runs them on several threads; everything else is a pass
over an array on one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from mnistbench import reference
from mnistbench.backends.base import Availability, Backend, Metrics, Trainer
from mnistbench.datasets import Dataset
from mnistbench.network import Array, Parameters
from mnistbench.threads import resolve
from mnistbench.workload import Workload

# BLAS has one limit for the whole process: trainers that set it take turns, or one would restore another's.
_LIMIT = threading.Lock()


class NumpyTrainer(Trainer):
    """Holds X (n, m) in the workload's dtype and the four parameter arrays."""

    def __init__(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> None:
        self._workload = workload
        self._threads = threads
        self._blas = ThreadpoolController().select(user_api="blas")
        self._X = reference.scale_images(dataset.train.images, workload.dtype)
        self._Y = dataset.train.labels
        self._arrays: tuple[Array, Array, Array, Array]
        self._iteration = 0
        self.reset(parameters)

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """On the threads asked for. A diverging run shows in the loss; NumPy need not warn of it too."""
        with (
            _LIMIT if self._threads else nullcontext(),
            self._blas.limit(limits=self._threads),
            np.errstate(over="ignore", invalid="ignore"),
        ):
            yield

    def advance(self, iterations: int) -> Metrics:
        with self._computing():
            for _ in range(iterations):
                W1, _b1, W2, _b2 = self._arrays
                Z1, A1, Z2, A2 = reference.forward_prop(*self._arrays, self._X)
                gradients = reference.backward_prop(Z1, A1, Z2, A2, W1, W2, self._X, self._Y)
                self._arrays = reference.update_params(*self._arrays, *gradients, self._workload.learning_rate)
            self._iteration += iterations
            return Metrics(
                iteration=self._iteration - 1,
                loss=reference.cross_entropy(Z2, self._Y),
                accuracy=reference.get_accuracy(reference.get_predictions(A2), self._Y),
            )

    def reset(self, parameters: Parameters) -> None:
        own = parameters.astype(self._workload.dtype)
        self._arrays = own.weights[0], own.biases[0], own.weights[1], own.biases[1]
        self._iteration = 0

    def parameters(self) -> Parameters:
        W1, b1, W2, b2 = (array.copy() for array in self._arrays)
        return Parameters([W1, W2], [b1, b2])

    def gradients(self) -> Parameters:
        W1, _b1, W2, _b2 = self._arrays
        with self._computing():
            Z1, A1, Z2, A2 = reference.forward_prop(*self._arrays, self._X)
            dW1, db1, dW2, db2 = reference.backward_prop(Z1, A1, Z2, A2, W1, W2, self._X, self._Y)
        return Parameters([dW1, dW2], [db1, db2])

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        X = reference.scale_images(images, self._workload.dtype)
        with self._computing():
            return reference.make_predictions(X, *self._arrays)

    def describe(self) -> dict[str, Any]:
        with self._computing():
            pools = self._blas.info()
        # Others, such as SciPy's, compute nothing here.
        pools = [pool for pool in pools if "numpy" in pool["filepath"]] or pools
        kernels = [f"{pool['internal_api']} {pool['version']} {pool.get('architecture', '')}" for pool in pools]
        return {
            "device": "CPU",
            # Apple's Accelerate, which does not tell, uses what it likes.
            "threads": max((pool["num_threads"] for pool in pools), default=resolve(self._threads)),
            "versions": {"numpy": np.__version__},
            "kernel": f"BLAS {', '.join(kernels) or 'unknown'}".strip(),
            "skips": None,
            "bytes_read": 2 * self._X.nbytes,  # by W1 X and by dZ1 Xᵀ
        }


class NumpyBackend(Backend):
    """NumPy and the BLAS library it was built with."""

    name = "numpy"

    def availability(self) -> Availability:
        return Availability(usable=True, version=np.__version__, device="CPU")

    def start(
        self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None = None
    ) -> NumpyTrainer:
        self.require(workload)
        return NumpyTrainer(workload, dataset, parameters, None if threads is None else resolve(threads))
