"""The classic in PyTorch: eager in-place operations or a function compiled by ``torch.compile``; a CUDA graph on a GPU.

The gradients are the reference's formulas. A trial finds the fastest of two orders of the images in memory, compiled or
not; README.md beside this file has timings.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mnistbench.backends.base import Description, Metrics
from mnistbench.backends.torch import device
from mnistbench.backends.torch.device import DeviceTrainer
from mnistbench.backends.trials import trial_of
from mnistbench.datasets import Dataset
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import DType, Network, Workload

# Bytes of images up to which nothing is compiled: an iteration takes about a millisecond, compiling takes seconds.
_SMALL = 16 * 2**20


class Way(NamedTuple):
    """How an iteration is computed.

    Attributes:
        rows: whether an image's pixels are contiguous in memory, with X (n, m) a view; else X is C-contiguous.
        compiled: whether one compiled function computes it; else eager operations.
    """

    rows: bool
    compiled: bool

    def __str__(self) -> str:
        how = "compiled" if self.compiled else "operations in place"
        return f"{how}, images in {'rows' if self.rows else 'columns'}"


def _backward(W1: Any, b1: Any, W2: Any, b2: Any, X: Any, Y: Any) -> tuple[Any, ...]:
    """Compute dW1, db1, dW2, db2 and Z2 (c, m) for X (n, m) and one-hot Y (c, m)."""
    m = X.shape[1]
    A1 = torch.relu(W1 @ X + b1)
    Z2 = W2 @ A1 + b2
    dZ2 = torch.softmax(Z2, 0) - Y
    dZ1 = (W2.T @ dZ2) * (A1 > 0)
    dW2, db2 = dZ2 @ A1.T / m, dZ2.sum(1, keepdim=True) / m
    return dZ1 @ X.T / m, dZ1.sum(1, keepdim=True) / m, dW2, db2, Z2


def _iterate(W1: Any, b1: Any, W2: Any, b2: Any, X: Any, Y: Any, rate: float) -> Any:
    """Update the parameters in place; return Z2 from before. This function is compiled."""
    dW1, db1, dW2, db2, Z2 = _backward(W1, b1, W2, b2, X, Y)
    W1.sub_(dW1, alpha=rate)
    b1.sub_(db1, alpha=rate)
    W2.sub_(dW2, alpha=rate)
    b2.sub_(db2, alpha=rate)
    return Z2


class _InPlace:
    """The same by eager operations, with memory allocated for the (., m) results."""

    def __init__(self, network: Network, Y: Any) -> None:
        self._Z2, self._dZ2 = torch.empty_like(Y), torch.empty_like(Y)
        self._A1, self._dZ1 = (Y.new_empty((network.hidden[0], Y.shape[1])) for _ in range(2))

    def __call__(self, W1: Any, b1: Any, W2: Any, b2: Any, X: Any, Y: Any, rate: float) -> Any:
        step = rate / X.shape[1]
        A1 = torch.addmm(b1, W1, X, out=self._A1).relu_()
        Z2 = torch.addmm(b2, W2, A1, out=self._Z2)
        dZ2 = torch.softmax(Z2, 0, out=self._dZ2).sub_(Y)
        dZ1 = torch.mm(W2.T, dZ2, out=self._dZ1).mul_(A1 > 0)
        W1.sub_(dZ1 @ X.T, alpha=step)
        b1.sub_(dZ1.sum(1, keepdim=True), alpha=step)
        W2.sub_(dZ2 @ A1.T, alpha=step)
        b2.sub_(dZ2.sum(1, keepdim=True), alpha=step)
        return Z2


@cache
def _compiled(images: int, network: Network, dtype: DType, threads: int, rows: bool) -> Callable[..., Any]:
    """Compile :func:`_iterate` for these sizes."""
    return device.compiled(_iterate)


class TorchTrainer(DeviceTrainer):
    """Hold X (n, m) in one of two memory orders, Y one-hot (c, m), and the parameter arrays."""

    def __init__(
        self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int, way: Way, remark: str = ""
    ) -> None:
        super().__init__(workload, threads)
        self._way, self._remark = way, remark
        self._arrays: Any
        network, labels = workload.network, dataset.train.labels
        with self._computing():
            self._X = self._widened(dataset.train.images, way.rows)
            self._labels = self._placed(labels, "int64")
            classes = torch.arange(network.outputs, device=self._device)[:, None]
            self._Y = (self._labels == classes).to(self._dtype)
            shapes = [(network.hidden[0], network.inputs), (network.outputs, network.hidden[0])]
            shapes = [shapes[0], (shapes[0][0], 1), shapes[1], (shapes[1][0], 1)]
            self._arrays = [torch.zeros(shape, dtype=self._dtype, device=self._device) for shape in shapes]
            if way.compiled:
                self._step = _compiled(len(labels), network, workload.dtype, threads, way.rows)
            else:
                self._step = _InPlace(network, self._Y)
            self._graph = self._captured() if self._device.type == "cuda" else None
        self.reset(parameters)

    def _widened(self, images: NDArray[np.uint8], rows: bool) -> Any:
        """Return X (n, m) of images (m, n), which are copied as bytes."""
        X = self._placed(images, "uint8")
        X = device.widened(X if rows else X.T.contiguous(), self._dtype)
        return X.T if rows else X

    def _iterate(self) -> Any:
        return self._step(*self._arrays, self._X, self._Y, self.workload.learning_rate)

    def _captured(self) -> Any:
        """Capture an iteration as a CUDA graph, after a warm-up that loads libraries and kernels."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._iterate()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._Z2 = self._iterate()
        return graph

    def advance(self, iterations: int) -> Metrics:
        with self._computing():
            for _ in range(iterations):
                if self._graph:
                    self._graph.replay()
                else:
                    self._Z2 = self._iterate()
            loss = torch.nn.functional.cross_entropy(self._Z2.T.double(), self._labels).item()
            hits = (self._Z2.argmax(0) == self._labels).sum().item()
        return Metrics(loss, hits / len(self._labels))

    def reset(self, parameters: Parameters) -> None:
        with self._computing():
            for array, (_, value) in zip(self._arrays, parameters.named(), strict=True):
                array.copy_(torch.from_numpy(np.array(value, self.workload.dtype)))

    def parameters(self) -> Parameters:
        return device.on_host(self._arrays)

    def gradients(self) -> Parameters:
        W1, b1, W2, b2 = self._arrays
        with self._computing():
            *gradients, _Z2 = _backward(W1, b1, W2, b2, self._X, self._Y)
            return device.on_host(gradients)

    def describe(self) -> Description:
        kernel = ("CUDA graph: " if self._graph else "") + str(self._way) + self._remark
        return self._described(kernel, bytes_read=2 * self._X.nbytes)  # by W1 X and by dZ1 Xᵀ

    def close(self) -> None:
        del self._X, self._labels, self._Y, self._arrays, self._step, self._graph
        self._Z2 = None
        super().close()


@cache
def fastest(images: int, network: Network, dtype: DType, threads: int) -> tuple[Way, str]:
    """Return the fastest way, by a trial on white images once per process, and a remark on ways that failed."""
    workload, dataset, parameters = trial_of(Workload(network, images, dtype=dtype))
    small = workload.image_bytes * workload.itemsize <= _SMALL
    plain, compiled = ([Way(rows, is_compiled) for rows in (False, True)] for is_compiled in (False, True))
    return device.fastest(
        plain[:1] if small else plain,
        lambda _: [] if small else compiled,
        lambda way: TorchTrainer(workload, dataset, parameters, threads, way),
        f"{images} images, {network}, {dtype}, {threads} threads",
    )
