"""Which images share a group: similar ones, so that their zero pixels coincide.

A chunk of (pixel, group) can be skipped when the pixel is zero in every image of the group: 32 % of MNIST's chunks
are left, 53 % in any order. The order of the images changes nothing but the order of the sums over images.

Two steps, each linear in the images. The first halves the set again and again, at the median along the direction
in which the images differ most, until similar images lie together in *leaves*. The second builds the groups of a
leaf one image at a time, each time the one that adds the fewest new pixels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mnistbench.backends.numba.simd.cache import entry_point, kernel, reassociating_kernel
from mnistbench.backends.numba.simd.vector import count_bits

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAF = 512
"""Images among which groups are built. 256, 512, 1024: 0.321, 0.319, 0.318 of the chunks; time doubles each."""

_CELLS = 7
"""Images are compared by their ink in at most 7 x 7 cells: 4 x 4 pixels each for MNIST."""

_POWER_ITERATIONS = 2
"""Towards the principal direction of a part. More do not find better groups."""


@kernel
def _ink(images: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float32]:
    """The square root of the number of non-zero pixels in each cell of each image: (images, cells)."""
    side = (max(height, width) + _CELLS - 1) // _CELLS
    rows, columns = (height + side - 1) // side, (width + side - 1) // side
    ink = np.zeros((len(images), rows * columns), np.float32)
    for i in range(len(images)):
        for y in range(height):
            for column in range(columns):
                count = 0
                for x in range(column * side, min(column * side + side, width)):
                    count += images[i, y * width + x] != 0
                ink[i, y // side * columns + column] += np.float32(count)
        for cell in range(rows * columns):
            ink[i, cell] = math.sqrt(ink[i, cell])
    return ink


@kernel
def _select(values: NDArray[np.float32], items: NDArray[np.int64], first: int, last: int, middle: int) -> None:
    """Permute values[first:last], and items with them, so that none before ``middle`` is larger than one after.

    Hoare's selection. Values that do not compare, such as NaN, end it early.
    """
    low, high = first, last - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                items[i], items[j] = items[j], items[i]
                i += 1
                j -= 1
        if middle <= j:
            high = j
        elif middle >= i:
            low = i
        else:
            return


@reassociating_kernel
def _along(row: NDArray[np.float32], direction: NDArray[np.float32]) -> np.float32:
    """The product of two vectors."""
    along = np.float32(0)
    for c in range(len(row)):
        along += row[c] * direction[c]
    return along


@kernel
def _project(
    ink: NDArray[np.float32], items: NDArray[np.int64], first: int, last: int, values: NDArray[np.float32]
) -> None:
    """values[i] := the ink of image items[i] along the principal direction of items[first:last].

    Power iteration: multiplying by the covariance again and again turns any vector towards that direction. It
    begins with the cell that varies most.
    """
    cells = ink.shape[1]
    count = np.float32(last - first)
    mean = np.zeros(cells, np.float32)
    square = np.zeros(cells, np.float32)
    for i in range(first, last):
        row = ink[items[i]]
        for c in range(cells):
            mean[c] += row[c]
            square[c] += row[c] * row[c]
    start = 0
    for c in range(cells):
        mean[c] /= count
        square[c] = square[c] / count - mean[c] * mean[c]  # the variance
        if square[c] > square[start]:
            start = c
    direction = np.zeros(cells, np.float32)
    direction[start] = 1
    product = np.empty(cells, np.float32)
    for _ in range(_POWER_ITERATIONS):
        offset = _along(mean, direction)
        for c in range(cells):
            product[c] = 0
        for i in range(first, last):
            row = ink[items[i]]
            along = _along(row, direction) - offset
            for c in range(cells):
                product[c] += along * (row[c] - mean[c])
        length = math.sqrt(_along(product, product))
        if length > 0:
            for c in range(cells):
                direction[c] = product[c] / length
    for i in range(first, last):
        values[i] = _along(ink[items[i]], direction)


@kernel
def _split(ink: NDArray[np.float32], items: NDArray[np.int64]) -> None:
    """Permute ``items`` so that every LEAF of them, from the first one, are similar."""
    values = np.empty(len(items), np.float32)
    todo = np.empty((64, 2), np.int64)  # a stack: each halving adds one entry, and 2**64 images are enough
    todo[0, 0], todo[0, 1] = 0, len(items)
    height = 1
    while height > 0:
        height -= 1
        first, last = todo[height, 0], todo[height, 1]
        if last - first > LEAF:
            middle = first + max((last - first) // 2 // LEAF, 1) * LEAF  # all leaves but the last one are full
            _project(ink, items, first, last, values)
            _select(values, items, first, last, middle)
            todo[height, 0], todo[height, 1] = first, middle
            todo[height + 1, 0], todo[height + 1, 1] = middle, last
            height += 2


@kernel
def _used_pixels(images: NDArray[np.uint8], items: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A bit for each pixel of images[items], set where it is not zero."""
    pixels = images.shape[1]
    used = np.zeros((len(items), (pixels + 63) // 64), np.uint64)
    for i in range(len(items)):
        row = images[items[i]]
        for p in range(pixels):
            used[i, p >> 6] |= np.uint64(row[p] != 0) << np.uint64(p & 63)
    return used


@kernel
def _new_pixels(used: NDArray[np.uint64], union: NDArray[np.uint64]) -> np.uint64:
    """How many bits of ``used`` are not in ``union``."""
    count = np.uint64(0)
    for word in range(len(used)):
        count += count_bits(used[word] & ~union[word])
    return count


@kernel
def _build_groups(images: NDArray[np.uint8], items: NDArray[np.int64], group: int) -> None:
    """Permute ``items`` so that every ``group`` of them, from the first one, share most of their pixels."""
    used = _used_pixels(images, items)
    left = np.arange(len(items))
    remaining = len(items)
    chosen = np.empty(len(items), np.int64)
    union = np.zeros(used.shape[1], np.uint64)
    for place in range(len(items)):
        best = 0
        # A second group starts with what is nearest to the first, since two groups are computed together.
        if place % (2 * group) != 0:
            fewest = np.uint64(64 * len(union) + 1)
            for k in range(remaining):
                count = _new_pixels(used[left[k]], union)
                if count < fewest:
                    fewest, best = count, k
        item = left[best]
        for word in range(len(union)):
            union[word] = used[item, word] | (np.uint64(0) if place % group == 0 else union[word])
        chosen[place] = items[item]
        remaining -= 1
        left[best] = left[remaining]
    for place in range(len(items)):
        items[place] = chosen[place]


@entry_point
def order_lot(
    images: NDArray[np.uint8], height: int, width: int, group: int, first: int, order: NDArray[np.int64]
) -> None:
    """Order images[first : first + len(order)] so that every ``group`` of them are alike; numbers to ``order``."""
    items = np.arange(len(order))
    lot = images[first : first + len(order)]
    _split(_ink(lot, height, width), items)
    for leaf in range(0, len(items), LEAF):
        _build_groups(lot, items[leaf : leaf + LEAF], group)
    for i in range(len(order)):
        order[i] = first + items[i]
