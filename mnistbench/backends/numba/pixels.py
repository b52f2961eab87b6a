"""How many of the pixels are not zero: what the kernels have to do depends on it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SAMPLE = 1000
"""Images from which that fraction is estimated, evenly spread."""


def fraction_used(images: NDArray[np.uint8]) -> float:
    """The fraction of pixels that are not zero, from a sample of the images."""
    return float(np.mean(images[:: max(1, len(images) // _SAMPLE)] != 0))
