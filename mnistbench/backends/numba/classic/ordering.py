"""An order of the images that puts similar ones into a group, so that their zero pixels coincide and can be skipped.

Two steps, each linear in the number of images: bisect the set at the median along its principal direction until
*leaves* of similar images are left; then build each leaf's groups greedily, always adding the image with the fewest new
pixels. README.md has the numbers.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mnistbench.backends.numba.simd import Bytes, Ints, Singles
from mnistbench.backends.numba.simd.cache import (
    allocating_entry_point,
    allocating_kernel,
    kernel,
    reassociating_kernel,
)
from mnistbench.backends.numba.simd.vector import count_bits

LEAF = 512
"""Number of images in a leaf."""

_CELLS = 7
"""Images are compared by their ink in at most 7 x 7 cells: 4 x 4 pixels each for MNIST."""

_POWER_ITERATIONS = 2


@allocating_kernel
def _ink(images: Bytes, height: int, width: int) -> Singles:
    """Compute the square root of the number of non-zero pixels in each cell of each image, (images, cells)."""
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
def _select(values: Singles, items: Ints, first: int, last: int, middle: int) -> None:
    """Partition values[first:last], and items alike, at ``middle`` by Hoare's quickselect. NaN ends it early."""
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
def _along(row: Singles, direction: Singles) -> np.float32:
    along = np.float32(0)
    for c in range(len(row)):
        along += row[c] * direction[c]
    return along


@allocating_kernel
def _project(ink: Singles, items: Ints, first: int, last: int, values: Singles) -> None:
    """Project the ink of each image items[i] on the principal direction of items[first:last], into values[i].

    Power iteration, starting with the cell of the largest variance. More iterations do not find better groups.
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


@allocating_kernel
def _split(ink: Singles, items: Ints) -> None:
    """Permute ``items`` so that each run of LEAF items, from the first on, is similar."""
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


@allocating_kernel
def _used_pixels(images: Bytes, items: Ints) -> NDArray[np.uint64]:
    """Return one bit for each pixel of images[items], set where it is not zero."""
    pixels = images.shape[1]
    used = np.zeros((len(items), (pixels + 63) // 64), np.uint64)
    for i in range(len(items)):
        row = images[items[i]]
        for p in range(pixels):
            used[i, p >> 6] |= np.uint64(row[p] != 0) << np.uint64(p & 63)
    return used


@kernel
def _new_pixels(used: NDArray[np.uint64], union: NDArray[np.uint64]) -> np.uint64:
    """Count the bits of ``used`` that are not in ``union``."""
    count = np.uint64(0)
    for word in range(len(used)):
        count += count_bits(used[word] & ~union[word])
    return count


@allocating_kernel
def _build_groups(images: Bytes, items: Ints, group: int) -> None:
    """Permute ``items`` so that each run of ``group`` items, from the first on, shares most of its pixels."""
    used = _used_pixels(images, items)
    left = np.arange(len(items))
    remaining = len(items)
    chosen = np.empty(len(items), np.int64)
    union = np.zeros(used.shape[1], np.uint64)
    for place in range(len(items)):
        best = 0
        # A pair's second group starts with the image nearest to its first, since both are computed together.
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


@allocating_entry_point
def order_lot(images: Bytes, height: int, width: int, group: int, first: int, order: Ints) -> None:
    """Order images[first : first + len(order)] into groups of similar ones; write indices to ``order``."""
    items = np.arange(len(order))
    lot = images[first : first + len(order)]
    _split(_ink(lot, height, width), items)
    for leaf in range(0, len(items), LEAF):
        _build_groups(lot, items[leaf : leaf + LEAF], group)
    for i in range(len(order)):
        order[i] = first + items[i]
