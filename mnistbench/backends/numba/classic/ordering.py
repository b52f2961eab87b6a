"""An order of the images that puts similar ones into a group, so that their zero pixels coincide and can be skipped.

Two steps, each linear in the number of images: bisect the set at the median along its principal direction until
*leaves* of similar images are left; then build each leaf's groups greedily, always adding the image with the fewest new
pixels. README.md has the numbers. NumPy does all but the loop of the second step, since compiling takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnistbench.backends.numba.simd import Bytes, Ints, Singles
from mnistbench.backends.numba.simd.cache import entry_point, kernel
from mnistbench.backends.numba.simd.vector import count_bits
from mnistbench.backends.similarity import ink_of, principal_projections

Bits = NDArray[np.uint64]
Map = Callable[[Callable[[Any], Any], list[Any]], list[Any]]
"""Function that applies another to each item of a list, on several threads."""

LEAF = 512
"""Number of images in a leaf."""

_PART = 4096
"""Number of images whose pixels are counted at a time, in some 3 MB."""


def order_lot(images: Bytes, height: int, width: int, group: int, on_threads: Map) -> Ints:
    """Return the indices of the images, ordered into groups of ``group`` similar ones.

    Args:
        on_threads: Function that maps a function over a list. What it returns does not depend on how.
    """
    parts = [images[first : first + _PART] for first in range(0, len(images), _PART)]
    ink = np.concatenate(on_threads(lambda part: ink_of(part, height, width), parts))
    used = np.concatenate(on_threads(used_pixels, parts))
    leaves = [np.arange(len(images))]
    while max(map(len, leaves)) > LEAF:
        leaves = [half for halves in on_threads(lambda items: halve(ink, items), leaves) for half in halves]
    return np.concatenate(on_threads(lambda items: items[order_leaf(used[items], group)], leaves))


def used_pixels(images: Bytes) -> Bits:
    """Return one bit for each pixel of each image, set where it is not zero, as (images, words)."""
    bits = np.packbits(images != 0, axis=1)
    padded = np.zeros((len(images), -(-bits.shape[1] // 8) * 8), np.uint8)
    padded[:, : bits.shape[1]] = bits
    return padded.view(np.uint64)


def halve(ink: Singles, items: Ints) -> list[Ints]:
    """Divide images at the median of their ink's projections on its principal direction, unless they are a leaf."""
    if len(items) <= LEAF:
        return [items]
    middle = max(len(items) // 2 // LEAF, 1) * LEAF  # all leaves but the last one are full
    order = np.argpartition(principal_projections(ink[items]), middle)
    return [items[order[:middle]], items[order[middle:]]]


def order_leaf(used: Bits, group: int) -> Ints:
    """Order images so that each run of ``group`` of them, from the first on, shares most of its pixels."""
    left, chosen = np.arange(len(used)), np.empty(len(used), np.int64)
    _build_groups(used, group, left, np.empty(used.shape[1], np.uint64), chosen)
    return chosen


@kernel
def _new_pixels(used: Bits, image: int, union: Bits) -> int:
    """Count the pixels of an image that are not in ``union``."""
    count = np.uint64(0)
    for word in range(len(union)):
        count += count_bits(used[image, word] & ~union[word])
    return np.int64(count)  # type: ignore[return-value]


@entry_point
def _build_groups(used: Bits, group: int, left: Ints, union: Bits, chosen: Ints) -> None:
    """Fill ``chosen`` with the images of ``left`` in order; ``union`` holds the pixels that the group at hand uses."""
    for place in range(len(chosen)):
        remaining = len(chosen) - place
        best = 0
        # A pair's second group starts with the image nearest to its first, since both are computed together.
        if place % (2 * group) != 0:
            fewest = 64 * len(union) + 1
            for k in range(remaining):
                count = _new_pixels(used, left[k], union)
                if count < fewest:
                    fewest, best = count, k
        image = left[best]
        for word in range(len(union)):
            union[word] = used[image, word] | (np.uint64(0) if place % group == 0 else union[word])
        chosen[place] = image
        left[best] = left[remaining - 1]
