"""Epochs beside the persistent kernel's parameters and gradient sums: ``kernel/exchange.cuh`` has what they are for.

Arrays have a last axis of :attr:`Plan.words`: values and, with epochs, their epochs' bits. Needs no CuPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnistbench.backends.cupy.classic.layout import Plan

FIRST = 1
"""Epoch of the first iteration. Sums that nobody has sent have the one before."""

LASTING = 0xFFFFFFFF
"""Epoch of what is zero and never written, as in the kernel; those of iterations are below."""


def with_epoch(plan: Plan, values: NDArray[Any], epoch: int) -> NDArray[Any]:
    """Return packed parameters (length,) as the kernel exchanges them, (length, words); ``epoch`` is that of all."""
    found = np.empty((plan.length, plan.words), plan.dtype)
    found[:, 0] = values
    if plan.epochs:
        found.view(np.uint32)[:, 1] = epoch
    return found


def unsent(plan: Plan, quads: Sequence[NDArray[np.intp]]) -> NDArray[np.uint32]:
    """Return the epochs of gradient sums before the first iteration, (blocks, length).

    Args:
        quads: numbers of the quads that each block stores. Sums of the others and of padding are never sent.
    """
    found = np.full((plan.blocks, plan.length), LASTING, np.uint32)
    found[:, plan.weight_values :][:, : plan.output_values] = FIRST - 1
    weights = found[:, : plan.weight_values].reshape(plan.blocks, plan.passes, plan.all_quads, -1)
    for block, stored in zip(weights, quads, strict=True):
        block[:, stored] = FIRST - 1
    return found
