"""Bounds on the rounding error of gradients, propagated layer by layer from the magnitudes of their terms.

Names are those of :mod:`mnistbench.reference.mlp`. ``A_size`` is the magnitude that rounding errors of ``A`` are
relative to: the error is at most ``k * eps * A_size``. The same holds for every name that ends in ``_size``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mnistbench import reference
from mnistbench.reference import mlp
from mnistbench.reference.parameters import Array, Parameters
from mnistbench.task.recipe import Activation
from mnistbench.task.workload import Workload

K = 32.0
"""The factor k: about four times the worst error seen on MNIST, 7 eps, by sequential sums over 4,000 images."""

_SLACK = 2.0
"""Factor for the slack: a backend in which an undecided unit switches uses up all of that unit's, and honest ones
should have half of their tolerance in hand. Without the factor, NumPy in another order came to 0.99 on "deep"."""

_CANCEL = 1 / 8
"""Fraction of the worst-case bound allowed for a sum of many rounding errors, most of which cancel."""


@dataclass(frozen=True)
class _Hidden:
    """Output and derivative of a hidden layer, or the input images; all arrays are (units, m) and include dropout.

    Attributes:
        A: Activations.
        A_size: Magnitude of A as a term of the next layer's Z; covers the error of A and the rounding of that sum.
        A_moves: Part of A's error that comes from the error of Z.
        slope, slope_size: Derivative f'(Z) and the magnitude of its error.
        jump: Change of f'(Z) if Z has the other sign in another computation; 0 where the sign is certain.
    """

    A: Array
    A_size: Array
    A_moves: Array
    slope: Array
    slope_size: Array
    jump: Array


class _Sums(NamedTuple):
    """Bounds on a gradient array, summed over images.

    Attributes:
        size: Error by rounding, in units of ``k * eps``.
        slack: Change by units whose pre-activation may have the other sign, in the gradient's own units.
    """

    size: Array
    slack: Array


def tolerances(
    workload: Workload, parameters: Parameters, batch: mlp.Batch, dtype: str, growth: float
) -> tuple[Parameters, Parameters]:
    """Compute the float64 gradients of a batch and the tolerance for a computation in ``dtype``.

    Args:
        growth: Factor on :data:`K`.

    Returns:
        The gradients and their tolerances, both at the same parameters and of the same shapes.
    """
    eps = float(np.finfo(dtype).eps)
    m = batch.Y.size
    activation = workload.network.activation
    Zs, As = found = mlp.forward(parameters, batch.X, activation, batch.masks)
    expected = mlp.gradients(workload, parameters, batch, found)
    hidden, output_size = _forward(parameters, Zs, As, batch.masks, activation, K * eps)
    weights, biases = _backward(parameters, As[-1], output_size, hidden, batch, dtype)

    def tolerance(gradient: Array, sums: _Sums, penalty: Array | float = 0.0) -> Array:
        allowed: Array = growth * K * eps * (sums.size / m + penalty + np.abs(gradient)) + _SLACK * sums.slack / m
        return allowed

    penalties = [workload.recipe.l2 / workload.images * np.abs(W) for W in parameters.weights]
    return expected, Parameters(
        [tolerance(*values) for values in zip(expected.weights, weights, penalties, strict=True)],
        [tolerance(*values) for values in zip(expected.biases, biases, strict=True)],
    )


def _forward(
    parameters: Parameters,
    Zs: list[Array],
    As: list[Array],
    masks: list[Array] | None,
    activation: Activation,
    k: float,
) -> tuple[list[_Hidden], Array]:
    """Compute the bounds of the images and each hidden layer, and Z_size of the output."""
    X = As[0]
    found = [_Hidden(X, X, X, X, X, X)]
    for layer, (W, b) in enumerate(parameters.layers()):
        Z_size = np.abs(W) @ found[-1].A_size + np.abs(b)
        if layer == len(Zs) - 1:
            break
        terms = Z_size if layer == 0 else np.abs(W) @ np.abs(As[layer]) + np.abs(b)
        found.append(_hidden(Zs[layer], Z_size, terms, masks[layer] if masks else None, activation, k))
    return found, Z_size


def _hidden(Z: Array, Z_size: Array, terms: Array, mask: Array | None, activation: Activation, k: float) -> _Hidden:
    """Compute the bounds of a hidden layer. ``terms`` is the part of Z_size from the sum Z itself, whose terms may
    cancel; the rest comes from errors of the layer before."""
    A = mlp.activate(Z, activation)
    slope = np.asarray(mlp.derivative(Z, activation), Z.dtype)
    A_size, A_moves = slope * (terms + _CANCEL * (Z_size - terms)), slope * Z_size * _CANCEL
    slope_size = jump = np.zeros_like(Z)
    if activation in ("relu", "leaky-relu"):
        other_side = 1.0 if activation == "relu" else 1 - mlp.LEAK
        jump = other_side * (np.abs(Z) <= k * Z_size)
    else:  # f and f' are rounded too: tanh' = 1 - A A, sigmoid' = A - A A
        A_size = A_size + np.abs(A)
        bend, first = (2 * A, 1.0) if activation == "tanh" else (1 - 2 * A, A)
        slope_size = np.abs(bend) * A_moves + first + A * A
    hidden = (A, A_size, A_moves, slope, slope_size, jump)
    return _Hidden(*(hidden if mask is None else (values * mask for values in hidden)))


def _backward(
    parameters: Parameters, A: Array, Z_size: Array, hidden: list[_Hidden], batch: mlp.Batch, dtype: str
) -> tuple[list[_Sums], list[_Sums]]:
    """Compute the bounds of the gradients of every layer's weights and biases, from the output's A and Z_size.

    The output's dZ = A - Y is the difference of two values up to 1, each with its own rounding error; an error of Z
    moves A by A (1 - A) times as much.
    """
    limits = np.finfo(dtype)
    ideal = reference.one_hot(batch.Y, A.shape[0])
    dZ, slack = A - ideal, np.zeros_like(A)
    dZ_size = A + ideal + A * (1 - A) * Z_size.max(axis=0) * _CANCEL
    dZ_size += float(limits.tiny) / float(limits.eps)  # probabilities below tiny underflow to 0
    weights: list[_Sums] = []
    biases: list[_Sums] = []
    for layer in reversed(range(len(hidden))):
        below, W = hidden[layer], parameters.weights[layer]
        # The images are exact and not negative, so they need no copies, which would be large.
        A, A_size = (np.abs(below.A), np.abs(below.A) + below.A_moves) if layer > 0 else (below.A, below.A)
        weights.insert(0, _Sums(dZ_size @ A_size.T, slack @ A.T))
        biases.insert(0, _Sums(dZ_size.sum(axis=1, keepdims=True), slack.sum(axis=1, keepdims=True)))
        if layer > 0:
            dA = W.T @ dZ
            dZ_size = (np.abs(W).T @ dZ_size) * below.slope + np.abs(dA) * below.slope_size
            slack = (np.abs(W).T @ slack) * np.maximum(below.slope, below.jump) + np.abs(dA) * below.jump
            dZ = dA * below.slope
    return weights, biases
