"""Work that no trainer can leave out, whatever it declares."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mnistbench.datasets import Dataset
from mnistbench.task.workload import Workload

_ZERO_SLOPES = ("relu", "tanh", "sigmoid")
"""Activations whose units may have a derivative of 0, and then no gradient; the latter two where they round to 1."""


def least_flops(workload: Workload, dataset: Dataset) -> float | None:
    """Count the floating-point operations of an average iteration that no training leaves out; None if unknown.

    They are the multiply-adds of the first layer with a pixel that is not 0, each counted as two: one for each unit
    forward, and one backward unless a unit's gradient may be 0. Augmentation changes the pixels, and dropout leaves
    units out, so neither is counted.
    """
    return least_flops_of(workload, pixels_in_use(dataset))


def pixels_in_use(dataset: Dataset) -> NDArray[np.int64]:
    """Count the pixels of each training image that are not 0, in ascending order."""
    return np.sort(np.count_nonzero(dataset.train.images, axis=1))


def least_flops_of(workload: Workload, pixels: NDArray[np.int64]) -> float | None:
    """Return :func:`least_flops` of a data set whose :func:`pixels_in_use` are known."""
    recipe = workload.recipe
    if recipe.augmentation or any(recipe.dropout):
        return None
    epochs, begun = divmod(workload.iterations, workload.iterations_per_epoch)
    least = epochs * pixels.sum() + pixels[: begun * workload.batch_size].sum()  # of a begun epoch, the emptiest images
    forward = least / workload.iterations * workload.network.sizes[1]
    backward = 0 if workload.network.hidden and workload.network.activation in _ZERO_SLOPES else forward
    return 2.0 * float(forward + backward)
