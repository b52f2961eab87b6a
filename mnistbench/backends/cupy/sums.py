"""What ranks exchange of the classic: sums of gradients in one vector on the host, which any MPI can send."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnistbench.backends.base import Sums
from mnistbench.reference.parameters import Parameters


def sums_of(gradients: Parameters, images: int, of: int, scores: Sequence[float]) -> Sums:
    """Return a rank's part of the mean gradients over ``of`` images, from those over its own ``images``.

    Args:
        scores: mean loss and fraction of hits of its images.
    """
    arrays = gradients.arrays()
    fraction = arrays[0].dtype.type(images / of)
    vector = np.concatenate([array.ravel() for array in arrays]) * fraction
    return Sums(vector, images * np.asarray(scores, np.float64))


def mean_of(vector: NDArray[Any], like: Parameters) -> Parameters:
    """Return the gradients of which :func:`sums_of` makes a vector; they have the shapes of ``like``."""
    arrays = like.arrays()
    parts = np.split(vector, [*accumulate(array.size for array in arrays)][:-1])
    return Parameters.from_arrays(part.reshape(array.shape) for part, array in zip(parts, arrays, strict=True))
