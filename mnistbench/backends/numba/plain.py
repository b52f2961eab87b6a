"""A plain ``@njit`` program: the reference's equations as loops, compiled, on all threads.

Each thread takes an equal share of the images and does the forward and backward pass of one image at a time. NumPy
takes the step. Nothing is tuned by hand, but the compiler may reorder sums (``reassoc``); otherwise it could not
vectorize sums of products.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import config, njit, prange, set_num_threads, threading_layer

from mnistbench.backends.base import Availability, Backend, Description, Metrics, Trainer
from mnistbench.datasets import Dataset
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Workload
from mnistbench.threads import resolve

# Unlike fastmath=True, these flags keep NaN and infinity, which show that a run diverges.
_REORDER = {"reassoc", "contract", "nsz"}

# Images whose gradients and losses are added before they join the sums of all. Adding 20,000 images one by one came to
# 0.88 of a gradient's tolerance in float32 for one seed of nine, and to 0.69 of the loss's in float64 for one of five.
_PART = 1024

# Only one thread at a time may enter Numba's thread pool; otherwise its "workqueue" layer ends the process.
_POOL = threading.Lock()


def _on_disk(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return ``njit`` with a disk cache, or without it if no folder can be written."""

    def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return njit(cache=True, **options)(function)  # type: ignore[no-any-return]
        except RuntimeError:
            return njit(**options)(function)  # type: ignore[no-any-return]

    return compiled


class _Layers(NamedTuple):
    """The parameters, or one thread's sums of their gradients: W1 (h, n), b1 (h,), W2 (c, h), b2 (c,)."""

    W1: Any
    b1: Any
    W2: Any
    b2: Any


@_on_disk(fastmath=_REORDER, error_model="numpy")
def _forward(x, params, z1, z2):  # type: ignore[no-untyped-def]
    """Compute one image's Z1 = W1 X + b1 in z1 (h,) and Z2 = W2 ReLU(Z1) + b2 in z2 (c,)."""
    for j in range(z1.size):
        total = params.b1[j]
        for p in range(x.size):
            total += params.W1[j, p] * x[p]
        z1[j] = total
    for k in range(z2.size):
        total = params.b2[k]
        for j in range(z1.size):
            total += params.W2[k, j] * max(z1[j], z1.dtype.type(0))
        z2[k] = total


@_on_disk(fastmath=_REORDER, error_model="numpy")
def _backward(x, y, params, z1, z2, dz2, sums):  # type: ignore[no-untyped-def]
    """Add one image's gradients to the sums, and return its loss."""
    largest = z2.max()
    exp_sum = z2.dtype.type(0)
    for k in range(z2.size):
        dz2[k] = math.exp(z2[k] - largest)
        exp_sum += dz2[k]
    for k in range(z2.size):  # dZ2 = softmax(Z2) - Y
        dz2[k] = dz2[k] / exp_sum - z2.dtype.type(k == y)
        sums.b2[k] += dz2[k]
        for j in range(z1.size):
            sums.W2[k, j] += dz2[k] * max(z1[j], z1.dtype.type(0))
    for j in range(z1.size):  # dZ1 = W2ᵀ dZ2 * (Z1 > 0)
        if z1[j] > 0:
            dz1 = z1.dtype.type(0)
            for k in range(z2.size):
                dz1 += params.W2[k, j] * dz2[k]
            sums.b1[j] += dz1
            for p in range(x.size):
                sums.W1[j, p] += dz1 * x[p]
    return math.log(exp_sum) - (z2[y] - largest)


@_on_disk(error_model="numpy")
def _apart(size, like):  # type: ignore[no-untyped-def]
    """Return an array with padding around it, so that runs are reproducible.

    LLVM compiles a loop twice and runs the scalar version, which sums in another order, if an array that it writes
    begins just behind one that it reads. Whether small arrays do depends on the allocator.
    """
    return np.empty(size + 512, like.dtype)[256:-256]


@_on_disk(error_model="numpy")
def _add(sums, part):  # type: ignore[no-untyped-def]
    """Add the sums of a part of the images to the others, and set them to 0."""
    sums.W1[:] += part.W1
    sums.b1[:] += part.b1
    sums.W2[:] += part.W2
    sums.b2[:] += part.b2
    part.W1[:] = 0
    part.b1[:] = 0
    part.W2[:] = 0
    part.b2[:] = 0


@_on_disk(error_model="numpy")
def _sum_slice(t, threads, X, Y, params, all_sums, all_parts, totals):  # type: ignore[no-untyped-def]
    """Add the gradients of thread t's share of the images to its sums, and write their loss and hits to totals[t]."""
    sums = _Layers(all_sums.W1[t], all_sums.b1[t], all_sums.W2[t], all_sums.b2[t])
    part = _Layers(all_parts.W1[t], all_parts.b1[t], all_parts.W2[t], all_parts.b2[t])
    scale = params.b1.dtype.type(1 / 255)
    x = _apart(X.shape[1], params.b1)
    z1 = _apart(params.b1.size, params.b1)
    z2 = _apart(params.b2.size, params.b1)
    dz2 = _apart(params.b2.size, params.b1)
    loss = 0.0
    part_loss = 0.0
    hits = 0
    begin = Y.size * t // threads
    end = Y.size * (t + 1) // threads
    for i in range(begin, end):
        for p in range(x.size):
            x[p] = X[i, p] * scale
        _forward(x, params, z1, z2)
        part_loss += _backward(x, Y[i], params, z1, z2, dz2, part)
        hits += np.argmax(z2) == Y[i]
        if (i + 1 - begin) % _PART == 0 or i + 1 == end:
            _add(sums, part)
            loss += part_loss
            part_loss = 0.0
    totals[t, 0] = loss
    totals[t, 1] = hits


@_on_disk(parallel=True, error_model="numpy")
def _sum_gradients(X, Y, params, all_sums, all_parts, totals):  # type: ignore[no-untyped-def]
    threads = totals.shape[0]
    for t in prange(threads):
        _sum_slice(t, threads, X, Y, params, all_sums, all_parts, totals)


class NumbaPlainTrainer(Trainer):
    """Trainer that holds the images (m, n) as bytes, one contiguous row each."""

    def __init__(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int) -> None:
        super().__init__(workload)
        self._threads = min(threads, int(config.NUMBA_NUM_THREADS))
        self._X = np.ascontiguousarray(dataset.train.images)
        self._Y = dataset.train.labels
        n, (h,), c = workload.network.inputs, workload.network.hidden, workload.network.outputs
        shapes = _Layers((h, n), (h,), (c, h), (c,))
        self._params = _Layers(*(np.empty(shape, workload.dtype) for shape in shapes))
        self._sums, self._parts = (
            _Layers(*(np.zeros((self._threads, *shape), workload.dtype) for shape in shapes)) for _ in range(2)
        )
        self._totals = np.empty((self._threads, 2))
        self.reset(parameters)

    def _sum_gradients(self) -> None:
        for sums in self._sums:
            sums[:] = 0
        with _POOL:
            set_num_threads(self._threads)
            _sum_gradients(self._X, self._Y, self._params, self._sums, self._parts, self._totals)

    def advance(self, iterations: int) -> Metrics:
        dtype = np.dtype(self.workload.dtype).type
        step = dtype(self.workload.learning_rate / self._Y.size)
        for _ in range(iterations):
            self._sum_gradients()
            for values, sums in zip(self._params, self._sums, strict=True):
                for of_thread in sums:  # W := W - alpha dW, in order of the threads
                    values -= step * of_thread
        loss, hits = self._totals.sum(axis=0) / self._Y.size
        return Metrics(loss=float(loss), accuracy=float(hits))

    def reset(self, parameters: Parameters) -> None:
        self._params.W1[:], self._params.W2[:] = parameters.weights
        self._params.b1[:], self._params.b2[:] = (bias[:, 0] for bias in parameters.biases)

    def parameters(self) -> Parameters:
        return _as_parameters(_Layers(*(array.copy() for array in self._params)))

    def gradients(self) -> Parameters:
        self._sum_gradients()
        dtype = np.dtype(self.workload.dtype).type
        return _as_parameters(_Layers(*(sums.sum(axis=0) / dtype(self._Y.size) for sums in self._sums)))

    def describe(self) -> Description:
        return Description(
            device="CPU",
            threads=self._threads,
            versions={"numba": numba.__version__, "numpy": np.__version__},
            kernel=f"loops over images, {_threading_layer()} threads",
            skips="hidden units with Z1 <= 0 in the backward pass, whose gradient is 0",
            bytes_read=self._X.nbytes,  # the backward pass reuses the forward pass's scaled image
        )


def _threading_layer() -> str:
    """Return the thread pool that Numba has chosen, which it does at the first parallel call."""
    try:
        return str(threading_layer())
    except ValueError:
        return "no"


def _as_parameters(layers: _Layers) -> Parameters:
    return Parameters([layers.W1, layers.W2], [layers.b1[:, None], layers.b2[:, None]])


class NumbaPlainBackend(Backend):
    """A plain parallel program in Numba."""

    name = "numba-plain"

    def availability(self) -> Availability:
        return Availability(usable=True, version=numba.__version__, device="CPU")

    def load(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> Trainer:
        return NumbaPlainTrainer(workload, dataset, parameters, resolve(threads))
