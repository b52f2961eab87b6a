"""The counter-based random numbers of :mod:`mnistbench.reference.counter` and dropout's masks, in compiled code."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnistbench.backends.numba.simd import Array
from mnistbench.backends.numba.simd.cache import kernel
from mnistbench.reference.counter import PARITY

u32 = np.uint32
_PARITY = np.uint32(PARITY)


@kernel
def _rotated(y: Any, bits: Any) -> Any:
    return u32(u32(y << u32(bits)) | u32(y >> u32(32 - bits)))


@kernel
def _four_rounds(x: Any, y: Any, first: Any, second: Any, third: Any, fourth: Any) -> tuple[Any, Any]:
    x = u32(x + y)
    y = u32(_rotated(y, first) ^ x)
    x = u32(x + y)
    y = u32(_rotated(y, second) ^ x)
    x = u32(x + y)
    y = u32(_rotated(y, third) ^ x)
    x = u32(x + y)
    y = u32(_rotated(y, fourth) ^ x)
    return x, y


@kernel
def threefry(key0: Any, key1: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """Compute :func:`mnistbench.reference.counter.threefry` for one counter (x, y); all values are uint32."""
    key2 = u32(u32(key0 ^ key1) ^ _PARITY)
    x, y = u32(x + key0), u32(y + key1)
    x, y = _four_rounds(x, y, 13, 15, 26, 6)
    x, y = u32(x + key1), u32(y + u32(key2 + u32(1)))
    x, y = _four_rounds(x, y, 17, 29, 16, 24)
    x, y = u32(x + key2), u32(y + u32(key0 + u32(2)))
    x, y = _four_rounds(x, y, 13, 15, 26, 6)
    x, y = u32(x + key0), u32(y + u32(key1 + u32(3)))
    x, y = _four_rounds(x, y, 17, 29, 16, 24)
    x, y = u32(x + key1), u32(y + u32(key2 + u32(4)))
    x, y = _four_rounds(x, y, 13, 15, 26, 6)
    x, y = u32(x + key2), u32(y + u32(key0 + u32(5)))
    return x, y


@kernel
def keep(key: NDArray[np.uint32], place: int, first: int, last: int, below: int, scale: Any, kept: Array) -> None:
    """Write dropout's factors for units ``first`` (even) to ``last`` of one image: 0, or ``scale`` for a kept unit.

    Args:
        key: (2,) key of the layer's dropout in this epoch.
        place: Index of the image in the training set.
        below: A unit is dropped if its word is below this; see :func:`mnistbench.reference.counter.drop_below`.
        kept: (at least last - first + 1,) output.
    """
    key0, key1, image, limit = key[0], key[1], u32(place), u32(below)
    nothing = kept.dtype.type(0)
    for pair in range((last - first + 1) // 2):
        even, odd = threefry(key0, key1, image, u32(first // 2 + pair))
        kept[2 * pair] = scale if even >= limit else nothing
        kept[2 * pair + 1] = scale if odd >= limit else nothing
