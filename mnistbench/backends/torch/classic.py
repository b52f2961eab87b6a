"""The classic in PyTorch: eager in-place operations or a function compiled by ``torch.compile``; a CUDA graph on a GPU.

The gradients are the reference's formulas. A trial finds the fastest of two orders of the images in memory, compiled or
not, and on a GPU of three types in which they are stored (:mod:`mnistbench.backends.torch.storage`); README.md beside
this file has timings.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mnistbench.backends import trials
from mnistbench.backends.base import Arithmetic, Description, Metrics
from mnistbench.backends.torch import device
from mnistbench.backends.torch.device import DeviceTrainer
from mnistbench.backends.torch.storage import STORAGES
from mnistbench.datasets import Dataset
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import DType, Network, Workload

# Bytes of images up to which nothing is compiled: an iteration takes about a millisecond, compiling takes seconds.
_SMALL = 16 * 2**20

# Iterations in the longer of two CUDA graphs: launching one takes a few microseconds.
_AT_ONCE = 10


class Way(NamedTuple):
    """How an iteration is computed.

    Attributes:
        rows: whether an image's pixels are contiguous in memory, with X (n, m) a view; else X is C-contiguous.
        compiled: whether one compiled function computes it; else eager operations.
        storage: name of the type in which the images are stored.
    """

    rows: bool
    compiled: bool
    storage: str = "real"

    def __str__(self) -> str:
        how = "compiled" if self.compiled else "operations in place" if self.storage == "real" else "operations"
        return f"{how}, images in {'rows' if self.rows else 'columns'}{STORAGES[self.storage].told}"


Step = Callable[..., Any]
"""Function of W1, b1, W2, b2, X, Y and the rate: it updates the parameters in place and returns Z2 from before."""


def _backward(W1: Any, b1: Any, W2: Any, b2: Any, X: Any, Y: Any, m: int, storage: str) -> tuple[Any, ...]:
    """Compute dW1, db1, dW2, db2, sums over the images divided by ``m``, and Z2 for X (n, .) and one-hot Y (c, .)."""
    images = STORAGES[storage]
    A1 = torch.relu(images.forward(W1, X) + b1)
    Z2 = W2 @ A1 + b2
    dZ2 = torch.softmax(Z2, 0) - Y
    dZ1 = (W2.T @ dZ2) * (A1 > 0)
    dW2, db2 = dZ2 @ A1.T / m, dZ2.sum(1, keepdim=True) / m
    return images.backward(dZ1, X) / m, dZ1.sum(1, keepdim=True) / m, dW2, db2, Z2


def _functional(storage: str) -> Step:
    """Return a step for images stored in a type; it may be compiled."""

    def iterate(W1: Any, b1: Any, W2: Any, b2: Any, X: Any, Y: Any, rate: float) -> Any:
        dW1, db1, dW2, db2, Z2 = _backward(W1, b1, W2, b2, X, Y, X.shape[1], storage)
        W1.sub_(dW1, alpha=rate)
        b1.sub_(db1, alpha=rate)
        W2.sub_(dW2, alpha=rate)
        b2.sub_(db2, alpha=rate)
        return Z2

    return iterate


class _InPlace:
    """The same by eager operations, with memory allocated for the (., m) results."""

    def __init__(self, network: Network, Y: Any) -> None:
        self._Z2, self._dZ2 = torch.empty_like(Y), torch.empty_like(Y)
        self._A1, self._dZ1 = (Y.new_empty((network.hidden[0], Y.shape[1])) for _ in range(2))

    def sums(self, W1: Any, b1: Any, W2: Any, b2: Any, X: Any, Y: Any) -> tuple[Any, ...]:
        """Compute the sums of the gradients over the images, and Z2."""
        A1 = torch.addmm(b1, W1, X, out=self._A1).relu_()
        Z2 = torch.addmm(b2, W2, A1, out=self._Z2)
        dZ2 = torch.softmax(Z2, 0, out=self._dZ2).sub_(Y)
        dZ1 = torch.mm(W2.T, dZ2, out=self._dZ1).mul_(A1 > 0)
        return dZ1 @ X.T, dZ1.sum(1, keepdim=True), dZ2 @ A1.T, dZ2.sum(1, keepdim=True), Z2

    def __call__(self, W1: Any, b1: Any, W2: Any, b2: Any, X: Any, Y: Any, rate: float) -> Any:
        step = rate / X.shape[1]
        *sums, Z2 = self.sums(W1, b1, W2, b2, X, Y)
        for array, summed in zip((W1, b1, W2, b2), sums, strict=True):
            array.sub_(summed, alpha=step)
        return Z2


Summing = Callable[..., tuple[Any, ...]]
"""Function of W1, b1, W2, b2, X and Y that computes the sums of the gradients over the images, and Z2."""


def summing(images: int, network: Network, dtype: DType, threads: int, way: Way, Y: Any) -> Summing:
    """Return the part of an iteration before its update, for a rank's share of ``images`` images."""
    if way.compiled:
        return _compiled_sums(images, network, dtype, threads, way)
    return _InPlace(network, Y).sums if way.storage == "real" else _functional_sums(way.storage)


def _functional_sums(storage: str) -> Summing:
    def sums(W1: Any, b1: Any, W2: Any, b2: Any, X: Any, Y: Any) -> tuple[Any, ...]:
        return _backward(W1, b1, W2, b2, X, Y, 1, storage)

    return sums


@cache
def _compiled(images: int, network: Network, dtype: DType, threads: int, way: Way) -> Step:
    """Compile a step for these sizes."""
    return device.compiled(_functional(way.storage))


@cache
def _compiled_sums(images: int, network: Network, dtype: DType, threads: int, way: Way) -> Summing:
    """Compile the part of an iteration before its update for these sizes."""
    return device.compiled(_functional_sums(way.storage))


class TorchTrainer(DeviceTrainer):
    """Hold X (n, m) in one of two memory orders, Y one-hot (c, m), and the parameter arrays."""

    def __init__(
        self,
        workload: Workload,
        dataset: Dataset,
        parameters: Parameters,
        threads: int,
        way: Way,
        failed: str | None = None,
    ) -> None:
        super().__init__(workload, threads, failed)
        self._way = way
        self._arrays: Any
        self._graphs: dict[int, tuple[Callable[[], object], Any]] = {}
        network, labels = workload.network, dataset.train.labels
        with self._computing():
            self._X = self._stored(dataset.train.images, way)
            self._labels = self._placed(labels, "int64")
            classes = torch.arange(network.outputs, device=self._device)[:, None]
            self._Y = (self._labels == classes).to(self._dtype)
            shapes = [(network.hidden[0], network.inputs), (network.outputs, network.hidden[0])]
            shapes = [shapes[0], (shapes[0][0], 1), shapes[1], (shapes[1][0], 1)]
            self._arrays = [torch.zeros(shape, dtype=self._dtype, device=self._device) for shape in shapes]
            self._prepare()
        self.reset(parameters)

    def _prepare(self) -> None:
        """Compile and capture an iteration, as the way has it."""
        way, workload = self._way, self.workload
        if way.compiled:
            self._step = _compiled(len(self._labels), workload.network, workload.dtype, self._threads, way)
        else:
            self._step = _InPlace(workload.network, self._Y) if way.storage == "real" else _functional(way.storage)
        lengths = (_AT_ONCE, 1) if self._device.type == "cuda" else ()
        self._graphs = {length: device.captured(partial(self._iterate, length)) for length in lengths}

    def _stored(self, images: NDArray[np.uint8], way: Way) -> Any:
        """Return X (n, m) of images (m, n), which are copied as bytes."""
        X = self._placed(images, "uint8")
        X = STORAGES[way.storage].stored(X if way.rows else X.T.contiguous(), self._dtype)
        return X.T if way.rows else X

    def _iterate(self, iterations: int) -> Any:
        """Run iterations; return the last one's Z2."""
        for _ in range(iterations):
            Z2 = self._step(*self._arrays, self._X, self._Y, self.workload.learning_rate)
        return Z2

    def _trained(self, iterations: int) -> Any:
        """Run iterations by the CUDA graphs, if there are any; return the last one's Z2."""
        if not self._graphs:
            return self._iterate(iterations)
        for length, (replay, Z2) in self._graphs.items():
            for _ in range(iterations // length):
                replay()
                last = Z2
            iterations %= length
        return last

    def advance(self, iterations: int) -> Metrics:
        with self._computing():
            Z2 = self._trained(iterations)
            loss = torch.nn.functional.cross_entropy(Z2.T.double(), self._labels).item()
            hits = (Z2.argmax(0) == self._labels).sum().item()
        return Metrics(loss, hits / len(self._labels))

    def reset(self, parameters: Parameters) -> None:
        with self._computing():
            for array, (_, value) in zip(self._arrays, parameters.named(), strict=True):
                array.copy_(torch.from_numpy(np.array(value, self.workload.dtype)))

    def parameters(self) -> Parameters:
        return device.on_host(self._arrays)

    def _backward(self) -> tuple[Any, ...]:
        W1, b1, W2, b2 = self._arrays
        return _backward(W1, b1, W2, b2, self._X, self._Y, len(self._labels), self._way.storage)

    def gradients(self) -> Parameters:
        with self._computing():
            *gradients, _Z2 = self._backward()
            return device.on_host(gradients)

    def _repeat(self, iterations: int) -> None:
        for _ in range(iterations):
            self._backward()

    def describe(self) -> Description:
        kernel = ("CUDA graph: " if self._graphs else "") + str(self._way)
        products = STORAGES[self._way.storage].arithmetic or Arithmetic.of(self.workload.dtype)
        return self._described(kernel, 2 * self._X.nbytes, products)  # by W1 X and by dZ1 Xᵀ

    def close(self) -> None:
        del self._X, self._labels, self._Y, self._arrays, self._step, self._graphs
        super().close()


@trials.Once
def fastest(images: int, network: Network, dtype: DType, threads: int) -> trials.Choice[Way]:
    """Find the fastest way, by a trial on white images."""
    workload, dataset, parameters = trials.trial_of(Workload(network, images, dtype=dtype))
    plain, others = ways(dtype, workload.image_bytes * workload.itemsize <= _SMALL, device.device().type == "cuda")
    return trials.fastest(
        plain,
        lambda _: others,
        lambda way: TorchTrainer(workload, dataset, parameters, threads, way),
        f"{device.NAME}, {images} images, {network}, {dtype}, {threads} threads",
    )


def ways(dtype: DType, small: bool, on_gpu: bool) -> tuple[list[Way], list[Way]]:
    """Return the ways that are tried: those that must work, and those that may fail.

    A CPU multiplies neither bytes with float32 numbers nor, in float32, numbers of 16 bits, so other storages would
    only add a conversion of all images.
    """
    if small:
        return [Way(False, False)], []
    plain, others = ([Way(rows, compiled) for rows in (False, True)] for compiled in (False, True))
    if on_gpu:
        others += [Way(rows, True, "bytes") for rows in (False, True)]
        if dtype == "float32":
            others += [Way(rows, compiled, "split") for rows in (False, True) for compiled in (False, True)]
    return plain, others
