"""The reference's own functions in float64 or float32.

NumPy's BLAS library computes matrix products on several threads; all other operations run on one.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from mnistbench import reference
from mnistbench.backends.base import Availability, Backend, Description, Metrics, Sums, Trainer
from mnistbench.datasets import Dataset
from mnistbench.reference import Labels, mlp
from mnistbench.reference.parameters import Array, Parameters
from mnistbench.task.workload import Workload
from mnistbench.threads import resolve

# BLAS has one limit for the whole process, so trainers that set and restore it take turns.
_LIMIT = threading.Lock()


class _Blas:
    """NumPy's BLAS library: its number of threads and its description."""

    def __init__(self, threads: int | None) -> None:
        self._threads = threads
        self._controller = ThreadpoolController().select(user_api="blas")

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Set the number of threads, and silence warnings of overflow: a diverging run shows in the loss."""
        with (
            _LIMIT if self._threads else nullcontext(),
            self._controller.limit(limits=self._threads),
            np.errstate(over="ignore", invalid="ignore"),
        ):
            yield

    def describe(self, bytes_read: int) -> Description:
        """Describe a trainer whose iterations read ``bytes_read`` bytes of image data."""
        with self.computing():
            pools = self._controller.info()
        # Other BLAS libraries, such as SciPy's, are not used here.
        pools = [pool for pool in pools if "numpy" in pool["filepath"]] or pools
        kernels = [f"{pool['internal_api']} {pool['version']} {pool.get('architecture', '')}" for pool in pools]
        return Description(
            device="CPU",
            # Apple's Accelerate does not report its threads.
            threads=max((pool["num_threads"] for pool in pools), default=resolve(self._threads)),
            versions={"numpy": np.__version__},
            kernel=f"BLAS {', '.join(kernels) or 'unknown'}".strip(),
            bytes_read=bytes_read,
        )


class _BlasTrainer(Trainer):
    """Trainer with a limit of BLAS threads."""

    def __init__(self, workload: Workload, threads: int | None) -> None:
        super().__init__(workload)
        self._blas = _Blas(threads)

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        with self._blas.computing():
            return super().predict(images)


class NumpyTrainer(_BlasTrainer):
    """Hold X (n, m) in the workload's dtype and the four parameter arrays."""

    def __init__(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> None:
        super().__init__(workload, threads)
        self._X = reference.scale_images(dataset.train.images, workload.dtype)
        self._Y = dataset.train.labels
        self._fraction = len(self._Y) / workload.images  # of all images, those of this rank
        self._arrays: tuple[Array, Array, Array, Array]
        self.reset(parameters)

    def advance(self, iterations: int) -> Metrics:
        with self._blas.computing():
            for _ in range(iterations):
                W1, _b1, W2, _b2 = self._arrays
                Z1, A1, Z2, A2 = reference.forward_prop(*self._arrays, self._X)
                gradients = reference.backward_prop(Z1, A1, Z2, A2, W1, W2, self._X, self._Y)
                self._arrays = reference.update_params(*self._arrays, *gradients, self.workload.learning_rate)
            return Metrics(
                loss=reference.cross_entropy(Z2, self._Y),
                accuracy=reference.get_accuracy(reference.get_predictions(A2), self._Y),
            )

    def reset(self, parameters: Parameters) -> None:
        own = parameters.astype(self.workload.dtype)
        self._arrays = own.weights[0], own.biases[0], own.weights[1], own.biases[1]

    def parameters(self) -> Parameters:
        return Parameters.from_arrays(array.copy() for array in self._arrays)

    def gradients(self) -> Parameters:
        W1, _b1, W2, _b2 = self._arrays
        with self._blas.computing():
            Z1, A1, Z2, A2 = reference.forward_prop(*self._arrays, self._X)
            return Parameters.from_arrays(reference.backward_prop(Z1, A1, Z2, A2, W1, W2, self._X, self._Y))

    def split(self, iterations: int) -> Generator[Sums]:
        for _ in range(iterations):
            with self._blas.computing():
                sums = self._sums()
            yield sums
            with self._blas.computing():
                dW1, db1, dW2, db2 = _arrays(sums.gradients, self._arrays)
                self._arrays = reference.update_params(*self._arrays, dW1, db1, dW2, db2, self.workload.learning_rate)

    def _sums(self) -> Sums:
        """Compute the sums over this rank's images, of which there may be none."""
        if not len(self._Y):
            return Sums(_flat(self._arrays, 0.0), np.zeros(2))
        W1, _b1, W2, _b2 = self._arrays
        Z1, A1, Z2, A2 = reference.forward_prop(*self._arrays, self._X)
        own = reference.backward_prop(Z1, A1, Z2, A2, W1, W2, self._X, self._Y)
        return Sums(_flat(own, self._fraction), _scores(Z2, self._Y))

    def mean_gradients(self, sums: Sums) -> Parameters:
        return Parameters.from_arrays(_arrays(sums.gradients, self._arrays))

    def describe(self) -> Description:
        return self._blas.describe(bytes_read=2 * self._X.nbytes)  # by W1 X and by dZ1 Xᵀ


class NumpyMlpTrainer(_BlasTrainer):
    """Hold the images as bytes, and the state of training: parameters and moments in the workload's dtype."""

    def __init__(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> None:
        super().__init__(workload, threads)
        images = np.ascontiguousarray(dataset.train.images)
        self._fraction = len(images) / workload.images  # of all images, those of this rank
        self._batches = mlp.Batches(workload, images, dataset.train.labels, dataset.image_shape, dataset.share)
        self._state: mlp.State
        self.reset(parameters)

    def advance(self, iterations: int) -> Metrics:
        with self._blas.computing():
            for _ in range(iterations):
                step = mlp.iterate(self.workload, self._batches, self._state)
                self._state = step.after
            return Metrics(
                loss=reference.cross_entropy(step.Zs[-1], step.batch.Y),
                accuracy=reference.get_accuracy(reference.get_predictions(step.Zs[-1]), step.batch.Y),
            )

    def reset(self, parameters: Parameters) -> None:
        own = parameters.astype(self.workload.dtype)
        self._state = mlp.State.start(own, self.workload.recipe.optimizer)

    def moments(self) -> list[Parameters]:
        return [moment.astype(self.workload.dtype) for moment in self._state.moments]

    def restore(self, state: mlp.State) -> None:
        parameters, *moments = (values.astype(self.workload.dtype) for values in (state.parameters, *state.moments))
        self._state = mlp.State(state.iteration, parameters, moments)

    def parameters(self) -> Parameters:
        return self._state.parameters.astype(self.workload.dtype)

    def split(self, iterations: int) -> Generator[Sums]:
        for _ in range(iterations):
            with self._blas.computing():
                sums = self._sums(self._state)
            yield sums
            with self._blas.computing():
                self._state = mlp.update(self.workload, self._state, self.mean_gradients(sums))

    def _sums(self, state: mlp.State) -> Sums:
        """Compute the sums of an iteration over this rank's images, of which there may be none."""
        parameters, activation = state.parameters, self.workload.network.activation
        if not len(self._batches.places(state.iteration)):
            return Sums(_flat(parameters.arrays(), 0.0), np.zeros(2))
        batch = self._batches(state.iteration)
        Zs, As = mlp.forward(parameters, batch.X, activation, batch.masks)
        own = mlp.backward(parameters, Zs, As, batch.Y, activation, batch.masks)
        fraction = len(batch.Y) / self.workload.images_of(state.iteration)
        return Sums(_flat(own.arrays(), fraction), _scores(Zs[-1], batch.Y))

    def mean_gradients(self, sums: Sums) -> Parameters:
        parameters, workload = self._state.parameters, self.workload
        mean = Parameters.from_arrays(_arrays(sums.gradients, parameters.arrays()))
        return mlp.with_penalty(mean, parameters, workload.recipe.l2, workload.images)

    def gradients(self) -> Parameters:
        with self._blas.computing():
            batch = self._batches(self._state.iteration)
            return mlp.gradients(self.workload, self._state.parameters, batch)

    def describe(self) -> Description:
        read = self.workload.image_bytes * (1 + 2 * self.workload.itemsize)
        return self._blas.describe(bytes_read=round(self._fraction * read))


def _flat(arrays: Iterable[Array], factor: float) -> Array:
    """Return the values of arrays, multiplied by a factor, in one vector."""
    return np.concatenate([array.ravel() * array.dtype.type(factor) for array in arrays])


def _arrays(vector: Array, like: Iterable[Array]) -> list[Array]:
    """Return the arrays of which :func:`_flat` makes a vector; they have the shapes of ``like``."""
    shapes = [array.shape for array in like]
    parts = np.split(vector, np.cumsum([math.prod(shape) for shape in shapes])[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _scores(Z: Array, Y: Labels) -> NDArray[np.float64]:
    """Return the sum of the images' cross-entropies, and the number classified correctly."""
    hits = np.count_nonzero(reference.get_predictions(Z) == Y)
    return np.array([len(Y) * float(reference.cross_entropy(Z, Y)), hits], np.float64)


class NumpyBackend(Backend):
    """NumPy and the BLAS library it was built with."""

    name = "numpy"
    ranks = True

    def availability(self) -> Availability:
        return Availability(usable=True, version=np.__version__, device="CPU")

    def unsupported(self, workload: Workload) -> str | None:
        return None

    def load(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> Trainer:
        trainer = NumpyTrainer if workload.is_classic else NumpyMlpTrainer
        return trainer(workload, dataset, parameters, None if threads is None else resolve(threads))
