"""An order of the images that puts similar ones into a group, so that their zero pixels coincide and can be skipped.

Two steps, each linear in the number of images: bisect the set at the median along its principal direction until
*leaves* of similar images are left; then build each leaf's groups greedily, always adding the image with the fewest new
pixels. README.md has the numbers.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnistbench.backends.numba.simd import Bytes, Ints, Singles
from mnistbench.backends.numba.simd.cache import entry_point, kernel, reassociating_kernel
from mnistbench.backends.numba.simd.vector import count_bits

LEAF = 512
"""Number of images in a leaf."""

_CELLS = 7
"""Images are compared by their ink in at most 7 x 7 cells: 4 x 4 pixels each for MNIST."""

_POWER_ITERATIONS = 2


class _Room(NamedTuple):
    """Scratch memory for the order of m images: kernels that allocate arrays take seconds longer to compile.

    Attributes:
        ink: (m, cells) square root of the number of non-zero pixels in each cell of each image.
        values: (m,) projections of the images.
        todo: Stack of (first, last). Each halving adds one entry, and 2**64 images are enough.
        mean, square, direction, product: (cells,) vectors of the power iteration.
        used: (LEAF, words) one bit for each pixel of each image of a leaf, set where it is not zero.
        left, chosen: (LEAF,) images of a leaf that are not in a group yet, and those that are, in order.
        union: (words,) bits of the pixels that a group uses.
    """

    ink: Singles
    values: Singles
    todo: Ints
    mean: Singles
    square: Singles
    direction: Singles
    product: Singles
    used: NDArray[np.uint64]
    left: Ints
    chosen: Ints
    union: NDArray[np.uint64]


def _cells(height: int, width: int) -> tuple[int, int, int]:
    """Return the side of a cell in pixels, and the number of rows and columns of cells."""
    side = -(-max(height, width) // _CELLS)
    return side, -(-height // side), -(-width // side)


def _make_room(images: int, height: int, width: int, pixels: int) -> _Room:
    _, rows, columns = _cells(height, width)
    words = -(-pixels // 64)
    mean, square, direction, product = np.empty((4, rows * columns), np.float32)
    return _Room(
        ink=np.zeros((images, rows * columns), np.float32),
        values=np.empty(images, np.float32),
        todo=np.empty((64, 2), np.int64),
        mean=mean,
        square=square,
        direction=direction,
        product=product,
        used=np.empty((LEAF, words), np.uint64),
        left=np.empty(LEAF, np.int64),
        chosen=np.empty(LEAF, np.int64),
        union=np.empty(words, np.uint64),
    )


@kernel
def _count_ink(images: Bytes, height: int, width: int, side: int, columns: int, ink: Singles) -> None:
    """Compute ``ink`` of :class:`_Room`, which is zero, for cells of ``side`` pixels in ``columns`` columns."""
    for i in range(len(images)):
        for y in range(height):
            for column in range(columns):
                count = 0
                for x in range(column * side, min(column * side + side, width)):
                    count += images[i, y * width + x] != 0
                ink[i, y // side * columns + column] += np.float32(count)
        for cell in range(ink.shape[1]):
            ink[i, cell] = math.sqrt(ink[i, cell])


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


@kernel
def _project(room: _Room, items: Ints, first: int, last: int) -> None:
    """Project the ink of each image items[i] on the principal direction of items[first:last], into values[i].

    Power iteration, starting with the cell of the largest variance. More iterations do not find better groups.
    """
    ink, values, mean, square = room.ink, room.values, room.mean, room.square
    direction, product = room.direction, room.product
    cells = ink.shape[1]
    count = np.float32(last - first)
    for c in range(cells):
        mean[c] = square[c] = direction[c] = 0
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
    direction[start] = 1
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
def _split(room: _Room, items: Ints) -> None:
    """Permute ``items`` so that each run of LEAF items, from the first on, is similar."""
    todo = room.todo
    todo[0, 0], todo[0, 1] = 0, len(items)
    height = 1
    while height > 0:
        height -= 1
        first, last = todo[height, 0], todo[height, 1]
        if last - first > LEAF:
            middle = first + max((last - first) // 2 // LEAF, 1) * LEAF  # all leaves but the last one are full
            _project(room, items, first, last)
            _select(room.values, items, first, last, middle)
            todo[height, 0], todo[height, 1] = first, middle
            todo[height + 1, 0], todo[height + 1, 1] = middle, last
            height += 2


@kernel
def _find_used(images: Bytes, items: Ints, used: NDArray[np.uint64]) -> None:
    """Compute ``used`` of :class:`_Room` for images[items]."""
    pixels = images.shape[1]
    for i in range(len(items)):
        for word in range(used.shape[1]):
            used[i, word] = 0
        row = images[items[i]]
        for p in range(pixels):
            used[i, p >> 6] |= np.uint64(row[p] != 0) << np.uint64(p & 63)


@kernel
def _new_pixels(used: NDArray[np.uint64], union: NDArray[np.uint64]) -> np.uint64:
    """Count the bits of ``used`` that are not in ``union``."""
    count = np.uint64(0)
    for word in range(len(used)):
        count += count_bits(used[word] & ~union[word])
    return count


@kernel
def _build_groups(room: _Room, images: Bytes, items: Ints, group: int) -> None:
    """Permute ``items`` so that each run of ``group`` items, from the first on, shares most of its pixels."""
    used, left, chosen, union = room.used, room.left, room.chosen, room.union
    _find_used(images, items, used)
    remaining = len(items)
    for k in range(remaining):
        left[k] = k
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


@entry_point
def _order(
    images: Bytes, height: int, width: int, side: int, columns: int, group: int, room: _Room, items: Ints
) -> None:
    """Permute ``items``, the indices of all images, into groups of similar images."""
    _count_ink(images, height, width, side, columns, room.ink)
    _split(room, items)
    for leaf in range(0, len(items), LEAF):
        _build_groups(room, images, items[leaf : leaf + LEAF], group)


def order_lot(images: Bytes, height: int, width: int, group: int) -> Ints:
    """Return the indices of the images, ordered into groups of similar ones."""
    items = np.arange(len(images))
    side, _, columns = _cells(height, width)
    room = _make_room(len(images), height, width, images.shape[1])
    _order(images, height, width, side, columns, group, room, items)
    return items
