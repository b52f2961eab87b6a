"""The optimizers' formulas (:func:`mnistbench.reference.mlp.update`) for a contiguous range of parameters."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from mnistbench.backends.numba.simd import Array
from mnistbench.backends.numba.simd.cache import kernel
from mnistbench.task.recipe import OPTIMIZERS
from mnistbench.task.workload import Workload

_GD, _MOMENTUM, _NESTEROV, _RMSPROP, _ADAM, _ADAMW = map(
    OPTIMIZERS.index, ("gd", "momentum", "nesterov", "rmsprop", "adam", "adamw")
)


class Rule(NamedTuple):
    """An optimizer's constants; all but the first are in the workload's dtype.

    Attributes:
        optimizer: Index into OPTIMIZERS.
        l2: L2 coefficient, lambda / n.
        keep, take: Decay of the first moment (momentum, rho or beta1), and 1 - decay, rounded once from float64.
        keep_square, take_square: The same for the second moment (beta2).
        epsilon: Number added to the divisor.
        decay: Weight decay, per learning rate.
    """

    optimizer: int
    l2: Any
    keep: Any
    take: Any
    keep_square: Any
    take_square: Any
    epsilon: Any
    decay: Any


class Rates(NamedTuple):
    """One iteration's numbers: the learning rate, Adam's two bias corrections, and 1 / number of images."""

    rate: Any
    first: Any
    second: Any
    mean: Any


@kernel
def move(
    rule: Rule,
    rates: Rates,
    is_weight: int,
    p: Array,
    v: Array,
    s: Array,
    at: int,
    count: int,
    sums: Array,
    sums_at: int,
) -> None:
    """Update parameters p[at : at + count] and their moments v and s.

    The gradients are the means over images of the sums in sums[sums_at : sums_at + count]. ``is_weight`` is 1 for
    weights and 0 for biases: a literal True would be another type than False.
    """
    one = p.dtype.type(1)
    p, v, s = p[at : at + count], v[at : at + count], s[at : at + count]
    g = sums[sums_at : sums_at + count]
    l2 = rule.l2 if is_weight != 0 else p.dtype.type(0)
    if rule.optimizer == _GD:
        for i in range(count):
            p[i] -= rates.rate * (g[i] * rates.mean + l2 * p[i])
    elif rule.optimizer == _MOMENTUM:
        for i in range(count):
            v[i] = rule.keep * v[i] + (g[i] * rates.mean + l2 * p[i])
            p[i] -= rates.rate * v[i]
    elif rule.optimizer == _NESTEROV:
        for i in range(count):
            gradient = g[i] * rates.mean + l2 * p[i]
            v[i] = rule.keep * v[i] + gradient
            p[i] -= rates.rate * (gradient + rule.keep * v[i])
    elif rule.optimizer == _RMSPROP:
        for i in range(count):
            gradient = g[i] * rates.mean + l2 * p[i]
            v[i] = rule.keep * v[i] + rule.take * (gradient * gradient)
            p[i] -= rates.rate * gradient / (math.sqrt(v[i]) + rule.epsilon)
    else:
        shrunk = one - rates.rate * rule.decay if rule.optimizer == _ADAMW and is_weight != 0 else one
        step = rates.rate * rates.first
        for i in range(count):
            gradient = g[i] * rates.mean + l2 * p[i]
            v[i] = rule.keep * v[i] + rule.take * gradient
            s[i] = rule.keep_square * s[i] + rule.take_square * (gradient * gradient)
            p[i] = p[i] * shrunk - step * v[i] / (math.sqrt(s[i]) * rates.second + rule.epsilon)


def rule_of(workload: Workload) -> Rule:
    """Return the constants of a workload's optimizer."""
    recipe, optimizer = workload.recipe, workload.recipe.optimizer
    keep = {"momentum": optimizer.momentum, "nesterov": optimizer.momentum, "rmsprop": optimizer.rho}
    first = keep.get(optimizer.name, optimizer.beta1)
    moments = first, 1 - first, optimizer.beta2, 1 - optimizer.beta2
    values = recipe.l2 / workload.images, *moments, optimizer.epsilon, optimizer.weight_decay
    return Rule(OPTIMIZERS.index(optimizer.name), *(np.dtype(workload.dtype).type(value) for value in values))
