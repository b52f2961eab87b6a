"""EMNIST's pictures, which are stored with rows and columns exchanged (Cohen et al. 2017), turned upright."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NOTE = "EMNIST stores pictures with rows and columns exchanged; they are exchanged back"


def is_emnist(*names: str) -> bool:
    """Return whether one of these names of files is EMNIST's."""
    return any("emnist" in name.casefold() for name in names)


def upright(images: NDArray[np.uint8], image_shape: tuple[int, int]) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Exchange rows and columns of images (m, pixels) of the shape (height, width).

    Returns:
        New images (m, pixels), C-contiguous, and their shape (width, height).
    """
    height, width = image_shape
    turned = np.ascontiguousarray(images.reshape(-1, height, width).transpose(0, 2, 1))
    return turned.reshape(-1, height * width), (width, height)
