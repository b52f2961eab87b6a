"""The reference's formulas of any multilayer perceptron in PyTorch: forward and backward pass, images in rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import leaky_relu_

from mnistbench.backends.torch import device
from mnistbench.reference.mlp import LEAK
from mnistbench.task.recipe import Activation
from mnistbench.task.workload import DType


def has_onednn(dtype: DType) -> bool:
    """Whether oneDNN's products are available: PyTorch is built with them on x86 and some ARM CPUs."""
    on_cpu = device.device().type == "cpu" and torch.backends.mkldnn.is_available()
    return on_cpu and dtype == "float32" and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def onednn(X: Any, W: Any, b: Any = None) -> Any:
    """Compute X Wᵀ + b in float32 on a CPU."""
    return torch.ops.mkldnn._linear_pointwise(X, W, b, "none", [], "")


class Formulas:
    """Forward and backward pass, with X Wᵀ + b by ``linear``."""

    def __init__(self, activation: Activation, linear: Callable[..., Any]) -> None:
        self._linear = linear
        ops = torch.ops.aten
        # The activation in place; and its derivative times an error, from the activation's result.
        self._activate, self._passed_back = {
            "relu": (torch.relu_, lambda error, A: ops.threshold_backward(error, A, 0)),
            "leaky-relu": (
                lambda Z: leaky_relu_(Z, LEAK),
                lambda error, A: ops.leaky_relu_backward(error, A, LEAK, True),
            ),
            "tanh": (torch.tanh_, ops.tanh_backward),
            "sigmoid": (torch.sigmoid_, ops.sigmoid_backward),
        }[activation]

    def forward(self, weights: list[Any], biases: list[Any], X: Any, masks: list[Any]) -> tuple[list[Any], list[Any]]:
        """Compute f(Z_1), ..., f(Z_L-1), Z_L without masks, and A_0, ..., A_L-1 with masks."""
        found, As = [], [X]
        for W, b, mask in zip(weights[:-1], biases[:-1], masks, strict=True):
            found.append(self._activate(self._linear(As[-1], W, b)))
            As.append(found[-1] if mask is None else found[-1] * mask)
        found.append(self._linear(As[-1], weights[-1], biases[-1]))
        return found, As

    def backward(
        self, weights: list[Any], found: list[Any], As: list[Any], Y: Any, masks: list[Any], m: int
    ) -> tuple[list[Any], list[Any]]:
        """Compute the gradients of weights and biases for one-hot Y (., c) from the results of :meth:`forward`.

        They are sums over the images, divided by ``m``.
        """
        dZ = torch.softmax(found[-1], 1).sub_(Y).div_(m)
        dW, db = [self._linear(dZ.T, As[-1].T)], [dZ.sum(0)]
        for layer in reversed(range(len(masks))):
            dA = self._linear(dZ, weights[layer + 1].T)
            if masks[layer] is not None:
                dA.mul_(masks[layer])
            dZ = self._passed_back(dA, found[layer])
            dW.insert(0, self._linear(dZ.T, As[layer].T))
            db.insert(0, dZ.sum(0))
        return dW, db
