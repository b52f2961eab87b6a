"""The optimizers' formulas (:func:`mnistbench.reference.mlp.update`) for a run of neighbouring parameters."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from mnistbench.backends.numba.simd.cache import kernel
from mnistbench.reference import Array
from mnistbench.task.recipe import OPTIMIZERS
from mnistbench.task.workload import Workload

_GD, _MOMENTUM, _NESTEROV, _RMSPROP, _ADAM, _ADAMW = map(
    OPTIMIZERS.index, ("gd", "momentum", "nesterov", "rmsprop", "adam", "adamw")
)


class Rule(NamedTuple):
    """What an update needs to know; all but the first in the workload's dtype.

    Attributes:
        optimizer: its place among OPTIMIZERS.
        l2: lambda / n.
        keep, take: how much of the first moment stays, momentum, rho, or beta1, and 1 less that, of which float32 would
            lose half the digits: 1 - 0.999 is off by 1e-5.
        keep_square, take_square: the same of the second, beta2.
        epsilon: what is added to a divisor.
        decay: how much of the learning rate a weight is shrunk by.
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
    """One iteration's numbers: the learning rate, Adam's two corrections, and 1 over the number of images."""

    rate: Any
    first: Any
    second: Any
    mean: Any


@kernel
def move(
    rule: Rule,
    rates: Rates,
    is_weight: bool,
    p: Array,
    v: Array,
    s: Array,
    at: int,
    count: int,
    sums: Array,
    sums_at: int,
) -> None:
    """Move parameters ``at`` to ``at + count`` of p, with the moments v and s there.

    Args:
        sums: from ``sums_at`` on, the sums over images whose mean is the gradient.
    """
    one = p.dtype.type(1)
    p, v, s = p[at : at + count], v[at : at + count], s[at : at + count]
    g = sums[sums_at : sums_at + count]
    l2 = rule.l2 if is_weight else p.dtype.type(0)
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
        shrunk = one - rates.rate * rule.decay if rule.optimizer == _ADAMW and is_weight else one
        step = rates.rate * rates.first
        for i in range(count):
            gradient = g[i] * rates.mean + l2 * p[i]
            v[i] = rule.keep * v[i] + rule.take * gradient
            s[i] = rule.keep_square * s[i] + rule.take_square * (gradient * gradient)
            p[i] = p[i] * shrunk - step * v[i] / (math.sqrt(s[i]) * rates.second + rule.epsilon)


def rule_of(workload: Workload) -> Rule:
    """The rule of a workload's recipe."""
    recipe, optimizer = workload.recipe, workload.recipe.optimizer
    keep = {"momentum": optimizer.momentum, "nesterov": optimizer.momentum, "rmsprop": optimizer.rho}
    first = keep.get(optimizer.name, optimizer.beta1)
    values = (
        recipe.l2 / workload.images,
        first,
        1 - first,
        optimizer.beta2,
        1 - optimizer.beta2,
        optimizer.epsilon,
        optimizer.weight_decay,
    )
    return Rule(OPTIMIZERS.index(optimizer.name), *(np.dtype(workload.dtype).type(value) for value in values))
