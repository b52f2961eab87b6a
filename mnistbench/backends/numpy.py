"""The reference's own functions, float64 as they stand, or float32: on all images at once, or, for what goes beyond the
classic, those of :mod:`mnistbench.reference.mlp` on each iteration's batch.

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
from mnistbench.reference import mlp
from mnistbench.reference.parameters import Array, Parameters
from mnistbench.task.workload import Workload
from mnistbench.threads import resolve

# BLAS has one limit for the whole process: trainers that set it take turns, or one would restore another's.
_LIMIT = threading.Lock()


# Images to predict at a time: bounds the memory that a wide network's activations need.
_PREDICT_IMAGES = 8_192


class _Blas:
    """NumPy's BLAS library: on how many threads it computes, and what it says of itself."""

    def __init__(self, threads: int | None) -> None:
        self._threads = threads
        self._controller = ThreadpoolController().select(user_api="blas")

    @contextmanager
    def computing(self) -> Iterator[None]:
        """On the threads asked for. A diverging run shows in the loss; NumPy need not warn of it too."""
        with (
            _LIMIT if self._threads else nullcontext(),
            self._controller.limit(limits=self._threads),
            np.errstate(over="ignore", invalid="ignore"),
        ):
            yield

    def describe(self) -> dict[str, Any]:
        """The fields of a trainer's description that do not depend on what it holds."""
        with self.computing():
            pools = self._controller.info()
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
        }


class NumpyTrainer(Trainer):
    """Holds X (n, m) in the workload's dtype and the four parameter arrays."""

    def __init__(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> None:
        self._workload = workload
        self._blas = _Blas(threads)
        self._X = reference.scale_images(dataset.train.images, workload.dtype)
        self._Y = dataset.train.labels
        self._arrays: tuple[Array, Array, Array, Array]
        self._iteration = 0
        self.reset(parameters)

    def advance(self, iterations: int) -> Metrics:
        with self._blas.computing():
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
        with self._blas.computing():
            Z1, A1, Z2, A2 = reference.forward_prop(*self._arrays, self._X)
            dW1, db1, dW2, db2 = reference.backward_prop(Z1, A1, Z2, A2, W1, W2, self._X, self._Y)
        return Parameters([dW1, dW2], [db1, db2])

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        X = reference.scale_images(images, self._workload.dtype)
        with self._blas.computing():
            return reference.make_predictions(X, *self._arrays)

    def describe(self) -> dict[str, Any]:
        return {**self._blas.describe(), "bytes_read": 2 * self._X.nbytes}  # by W1 X and by dZ1 Xᵀ


class NumpyMlpTrainer(Trainer):
    """Holds the images as bytes, and where training is: parameters and moments in the workload's dtype."""

    def __init__(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> None:
        self._workload = workload
        self._blas = _Blas(threads)
        images = np.ascontiguousarray(dataset.train.images)
        self._batches = mlp.Batches(workload, images, dataset.train.labels, dataset.image_shape)
        self._state: mlp.State
        self.reset(parameters)

    def advance(self, iterations: int) -> Metrics:
        with self._blas.computing():
            for _ in range(iterations):
                step = mlp.iterate(self._workload, self._batches, self._state)
                self._state = step.after
            return Metrics(
                iteration=self._state.iteration - 1,
                loss=reference.cross_entropy(step.Zs[-1], step.batch.Y),
                accuracy=reference.get_accuracy(reference.get_predictions(step.Zs[-1]), step.batch.Y),
            )

    def reset(self, parameters: Parameters) -> None:
        own = parameters.astype(self._workload.dtype)
        self._state = mlp.State.start(own, self._workload.recipe.optimizer)

    def parameters(self) -> Parameters:
        return self._state.parameters.astype(self._workload.dtype)

    def gradients(self) -> Parameters:
        with self._blas.computing():
            batch = self._batches(self._state.iteration)
            return mlp.gradients(self._workload, self._state.parameters, batch)

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        labels = np.empty(len(images), np.int64)
        with self._blas.computing():
            for first in range(0, len(images), _PREDICT_IMAGES):
                X = reference.scale_images(images[first : first + _PREDICT_IMAGES], self._workload.dtype)
                found = mlp.predict(self._state.parameters, X, self._workload.network.activation)
                labels[first : first + _PREDICT_IMAGES] = found
        return labels

    def describe(self) -> dict[str, Any]:
        image_bytes = self._workload.image_bytes
        return {**self._blas.describe(), "bytes_read": image_bytes * (1 + 2 * self._workload.itemsize)}


class NumpyBackend(Backend):
    """NumPy and the BLAS library it was built with."""

    name = "numpy"

    def availability(self) -> Availability:
        return Availability(usable=True, version=np.__version__, device="CPU")

    def missing(self, workload: Workload) -> str | None:
        return None

    def start(
        self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None = None
    ) -> Trainer:
        self.require(workload)
        number = None if threads is None else resolve(threads)
        if workload.beyond_classic:
            return NumpyMlpTrainer(workload, dataset, parameters, number)
        return NumpyTrainer(workload, dataset, parameters, number)
