"""The source and macros of ``kernel/mlp.cu``, its constants, and parameters in one flat array. Needs no CuPy."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnistbench.reference import counter
from mnistbench.reference.mlp import LEAK
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Network, Workload


def source() -> str:
    """Return the CUDA source, with its name for the compiler's messages."""
    file = resources.files("mnistbench.backends.cupy") / "kernel" / "mlp.cu"
    return f'#line 1 "{file.name}"\n{file.read_text(encoding="utf-8")}'


def macros(workload: Workload, threads: int) -> dict[str, str]:
    """Return the macros that the source is compiled with, for blocks of ``threads`` threads."""
    return {
        "REAL": {"float32": "float", "float64": "double"}[workload.dtype],
        "THREADS": str(threads),
        "ACTIVATION": workload.network.activation.upper().replace("-", "_"),
        "LEAK": repr(LEAK),
        "OPTIMIZER": workload.recipe.optimizer.name.upper(),
    }


def step_constants(workload: Workload, iteration: int) -> tuple[float, ...]:
    """Return the constants of an iteration's update, which are a ``Step``'s from ``penalty`` to ``shrink``."""
    optimizer, rate = workload.recipe.optimizer, workload.rate(iteration)
    shrink = 1 - rate * optimizer.weight_decay
    penalty = workload.recipe.l2 / workload.images
    if optimizer.name in ("adam", "adamw"):
        first, second = optimizer.bias_corrections(iteration + 1)
        rate, keep, keep_square = rate * first, optimizer.beta1, optimizer.beta2
    else:
        second, keep, keep_square = 1.0, optimizer.momentum, optimizer.rho
    return penalty, rate, keep, 1 - keep, keep_square, 1 - keep_square, second, optimizer.epsilon, shrink


def packed_steps(workload: Workload, iteration: int, firsts: Sequence[int]) -> NDArray[np.uint32]:
    """Return the ``Step`` and the keys of k iterations from ``iteration`` on, (k, words).

    Args:
        firsts: indices in the epoch's order of the first images of their batches.
    """
    iterations = range(iteration, iteration + len(firsts))
    hidden = len(workload.network.hidden)
    purposes = np.array([counter.PLACE, counter.ELASTIC, *range(counter.DROPOUT, counter.DROPOUT + hidden)])
    epochs = np.array(iterations)[:, None] // workload.iterations_per_epoch
    step = np.dtype([("constants", workload.dtype, 9), ("first", "uint32")], align=True)  # as in C
    table = np.zeros(len(firsts), [("step", step), ("keys", "uint32", (len(purposes), 2))])
    table["step"]["constants"] = [step_constants(workload, one) for one in iterations]
    table["step"]["first"] = firsts
    table["keys"] = np.stack(counter.keys(workload.seed, purposes, epochs), axis=-1)
    return table.view(np.uint32).reshape(len(firsts), -1)


class Flat:
    """Positions of a network's parameters in a flat array: all weights, then all biases.

    Attributes:
        weights: number of weights.
        length: number of parameters.
    """

    def __init__(self, network: Network) -> None:
        pairs = list(pairwise(network.sizes))
        self._shapes = [*((outputs, inputs) for inputs, outputs in pairs), *((outputs,) for _, outputs in pairs)]
        self._ends = list(accumulate(int(np.prod(shape)) for shape in self._shapes))
        self.weights, self.length = self._ends[len(pairs) - 1], self._ends[-1]

    def views(self, values: Any) -> tuple[list[Any], list[Any]]:
        """Return views of weights (outputs, inputs) and biases (outputs,) in a flat array of any library."""
        begins = [0, *self._ends]
        arrays = [
            values[begin:end].reshape(shape)
            for begin, end, shape in zip(begins, self._ends, self._shapes, strict=False)
        ]
        layers = len(arrays) // 2
        return arrays[:layers], arrays[layers:]

    def pack(self, parameters: Parameters, dtype: str) -> NDArray[Any]:
        """Copy parameters into a flat array."""
        arrays = [*parameters.weights, *parameters.biases]
        return np.concatenate([array.ravel() for array in arrays]).astype(dtype)

    def unpack(self, values: NDArray[Any]) -> Parameters:
        """Reverse :meth:`pack`; return copies."""
        weights, biases = self.views(values)
        return Parameters([W.copy() for W in weights], [b[:, None].copy() for b in biases])
