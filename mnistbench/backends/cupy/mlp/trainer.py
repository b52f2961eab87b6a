"""Any multilayer perceptron with every option: cuBLAS products, CuPy reductions, and kernels for all else.

The equations are those of :mod:`mnistbench.reference.mlp`, with images in rows.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import cupy as cp
import numpy as np
from numpy.typing import NDArray

from mnistbench.backends.base import Arithmetic, Description, Metrics, Sums, Trainer
from mnistbench.backends.cupy.device import Stopwatch, described, properties, refusal
from mnistbench.backends.cupy.mlp import flat
from mnistbench.backends.cupy.mlp.batches import Batches
from mnistbench.backends.cupy.mlp.kernels import Kernels
from mnistbench.datasets import Dataset
from mnistbench.reference import counter
from mnistbench.reference.mlp import State
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Workload


class MlpTrainer(Trainer):
    """Hold batches, labels, each layer's Z and A (m, units), and flat arrays of parameters, gradients and moments.

    Attributes:
        way: how iterations are launched, in words.
    """

    way: ClassVar[str] = "operations launched one by one"

    def __init__(
        self, name: str, workload: Workload, dataset: Dataset, parameters: Parameters, failed: str | None = None
    ) -> None:
        if dataset.share is None:
            workload = replace(workload, images=len(dataset.train))  # fewer in a warm-up
        super().__init__(workload)
        self._stopwatch, self._refusal = Stopwatch(), partial(refusal, name, workload)
        self._failed = failed
        self._kernels = Kernels(workload)
        self._batches = Batches(name, workload, dataset, self._kernels, properties().shared_bytes)
        self._labels = cp.asarray(dataset.train.labels.astype(np.int32))
        images, hidden = self._batches.most, workload.network.hidden
        self._Zs = [cp.empty((images, units), workload.dtype) for units in workload.network.sizes[1:]]
        self._As = [cp.empty((images, units), workload.dtype) for units in hidden]
        self._metrics = cp.empty(2 * images, "float64")
        self._flat = flat.Flat(workload.network)
        self._values, self._sums = (cp.empty(self._flat.length, workload.dtype) for _ in range(2))
        self._moments = cp.empty((workload.recipe.optimizer.moments, self._flat.length), workload.dtype)
        self._Ws, self._bs = self._flat.views(self._values)
        self._dWs, self._dbs = self._flat.views(self._sums)
        self.reset(parameters)
        cp.cuda.get_current_stream().synchronize()  # the data is on the device when start returns

    def _product(self, a: Any, b: Any, out: Any) -> None:
        """Compute out = a @ b."""
        cp.matmul(a, b, out=out)

    def _forward(self, As: list[Any], Zs: list[Any], step: Any) -> None:
        """Compute A_1, ..., A_L-1 and Z_L without its bias from A_0 = X, the inputs of a step.

        Each hidden layer's Z is replaced by the factor of the backward pass, f'(Z) times the mask.
        """
        rates = self.workload.recipe.dropout_rates(len(Zs) - 1)
        for layer, (W, Z) in enumerate(zip(self._Ws, Zs, strict=True)):
            self._product(As[layer], W.T, out=Z)
            if layer == len(Zs) - 1:
                return
            images, units = Z.shape
            dropout = (np.uint64(counter.drop_below(rates[layer])), 1 / (1 - rates[layer]))
            arguments = (Z, As[layer + 1], self._bs[layer], self._batches.places, step, layer, images, units, *dropout)
            self._kernels.by_element("activate", images * ((units + 1) // 2), *arguments)

    def _backward(self, m: int, step: Any) -> None:
        """Compute the metrics of a step's m images and the sums of their gradients."""
        X, classes = self._batches.load(m, step), self.workload.network.outputs
        Zs, As = [Z[:m] for Z in self._Zs], [X, *(A[:m] for A in self._As)]
        self._forward(As, Zs, step)
        arguments = (Zs[-1], self._bs[-1], self._labels, self._batches.held, step, self._metrics, m, classes)
        self._kernels.by_element("output_errors", m, *arguments)
        dZ = Zs[-1]
        for layer in reversed(range(len(Zs))):
            self._product(dZ.T, As[layer], out=self._dWs[layer])
            dZ.sum(axis=0, out=self._dbs[layer])
            if layer > 0:
                dA = As[layer]  # reuse the memory: these activations are no longer needed
                self._product(dZ, self._Ws[layer], out=dA)
                dA *= Zs[layer - 1]
                dZ = dA

    def _update(self, m: int, step: Any) -> None:
        """Update the parameters by the sums of the gradients of a step's m images."""
        length, weights = self._flat.length, self._flat.weights
        arguments = (self._values, self._sums, self._moments, step, length, weights, m)
        self._kernels.by_element("update", length, *arguments)

    def _iterate(self, m: int, step: Any) -> None:
        self._backward(m, step)
        self._update(m, step)

    def _run(self, iterations: int) -> int:
        """Launch iterations; return the number of the last one's images."""
        for _ in range(iterations):
            m, step = self._begin()
            self._iterate(m, step)
            self._iteration += 1
        return m

    def _begin(self) -> tuple[int, Any]:
        """Return the number of the next iteration's images, and its step."""
        m = self._batches.begin(self._iteration)
        return m, self._batches.steps.row(self._iteration)

    def advance(self, iterations: int) -> Metrics:
        with self._refusal():
            with self._stopwatch.measure(iterations):
                m = self._run(iterations)
            loss, hits = self._scores(m) / m
        return Metrics(loss=float(loss), accuracy=float(hits))

    def _scores(self, m: int) -> NDArray[np.float64]:
        """Return the sums of losses and hits over the m images of the last iteration."""
        return cp.asnumpy(self._metrics[: 2 * m].reshape(2, m).sum(axis=1))  # type: ignore[no-any-return]

    def split(self, iterations: int) -> Generator[Sums]:
        for _ in range(iterations):
            with self._refusal():
                sums = self._own_sums()
            yield sums
            with self._refusal():
                self._sums.set(sums.gradients)
                _, step = self._begin()
                self._update(self.workload.images_of(self._iteration), step)
                self._iteration += 1

    def _own_sums(self) -> Sums:
        """Compute the sums of the next iteration over a rank's images, of which there may be none, on the host."""
        m, step = self._begin()
        if not m:
            return Sums(np.zeros(self._flat.length, self.workload.dtype), np.zeros(2))
        self._backward(m, step)
        return Sums(cp.asnumpy(self._sums), self._scores(m))

    def mean_gradients(self, sums: Sums) -> Parameters:
        with self._refusal():
            self._sums.set(sums.gradients)
            return self._mean(self.workload.images_of(self._iteration))

    def reset(self, parameters: Parameters) -> None:
        self._values.set(self._flat.pack(parameters, self.workload.dtype))
        self._moments.fill(0)
        self._iteration = 0

    def moments(self) -> list[Parameters]:
        return [self._flat.unpack(values) for values in cp.asnumpy(self._moments)]

    def restore(self, state: State) -> None:
        self._values.set(self._flat.pack(state.parameters, self.workload.dtype))
        packed = [self._flat.pack(moment, self.workload.dtype) for moment in state.moments]
        self._moments.set(np.array(packed, self.workload.dtype).reshape(self._moments.shape))
        self._iteration = state.iteration

    def parameters(self) -> Parameters:
        return self._flat.unpack(cp.asnumpy(self._values))

    def gradients(self) -> Parameters:
        with self._refusal():
            m, step = self._begin()
            self._backward(m, step)
            return self._mean(m)

    def _mean(self, m: int) -> Parameters:
        """Return the gradients of the next iteration from their sums over its m images."""
        length, weights = self._flat.length, self._flat.weights
        penalty, *_ = flat.step_constants(self.workload, self._iteration)
        self._kernels.by_element("gradients", length, self._sums, self._values, length, weights, m, penalty)
        return self._flat.unpack(cp.asnumpy(self._sums))

    def _repeat(self, iterations: int) -> None:
        m, step = self._begin()
        for _ in range(iterations if m else 0):
            self._backward(m, step)

    def describe(self) -> Description:
        workload = self.workload
        X_bytes = workload.image_bytes * workload.itemsize
        return described(
            self._stopwatch,
            self._repeat,
            kernel=f"{self.way}: cuBLAS products, kernels for what is random or elementwise",
            # W1 X and dZ1 Xᵀ read X; a gathered X is computed from bytes first.
            bytes_read=2 * X_bytes + (workload.image_bytes if self._batches.are_gathered else 0),
            arithmetic=Arithmetic.of(workload.dtype),
            failed=self._failed,
        )

    def close(self) -> None:
        for name in ("batches", "labels", "Zs", "As", "metrics", "values", "sums", "moments", "Ws", "bs", "dWs", "dbs"):
            delattr(self, f"_{name}")
        cp.get_default_memory_pool().free_all_blocks()
