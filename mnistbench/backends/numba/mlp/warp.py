"""The augmentation of :mod:`mnistbench.reference.augmentation` in compiled code.

Images are augmented before the iterations that train on them, by an entry point of its own: who trains without
augmentation does not wait until it is compiled.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnistbench.backends.numba.mlp.random import threefry
from mnistbench.backends.numba.simd import Bytes, Ints
from mnistbench.backends.numba.simd.cache import entry_point, kernel
from mnistbench.backends.numba.simd.vector import fma_loads, head, repeat, splat, store, tail, zero
from mnistbench.reference import augmentation, counter
from mnistbench.reference.augmentation import ANGLE_BITS, BEND_BITS, FIELD_BITS, TURN_BITS
from mnistbench.task.recipe import Augmentation

u32, i32, f32 = np.uint32, np.int32, np.float32


class Warp(NamedTuple):
    """The fields of :class:`mnistbench.reference.augmentation.Tables` and more, for one image shape.

    Attributes:
        smooth_rows: (padded height, height); padding is 0.
        smooth_columns: (width, padded width); padding is 0.
        lanes: Tuple as long as the vectors of the smoothing.
    """

    height: int
    width: int
    shift: int
    bend: int
    cosines: NDArray[np.int32]
    sines: NDArray[np.int32]
    smooth_rows: NDArray[np.float32]
    smooth_columns: NDArray[np.float32]
    lanes: Any


def warp(change: Augmentation, image_shape: tuple[int, int]) -> Warp:
    """Compute an augmentation's tables in the kernels' layout."""
    table = augmentation.tables(change, image_shape)
    height, width = image_shape
    rows = np.ascontiguousarray(np.pad(table.smooth_rows, ((0, _padding(height, 4)), (0, 0))), np.float32)
    columns = np.ascontiguousarray(np.pad(table.smooth_columns, ((0, 0), (0, _padding(width, 32)))), np.float32)
    places = table.shift, table.bend, table.cosines, table.sines
    return Warp(height, width, *places, rows, columns, (None,) * 16)


def scratch(image_shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return scratch memory for a field, its half-smoothed form and two smoothed fields."""
    height, width = image_shape
    return np.zeros((4, height + _padding(height, 4), width + _padding(width, 32)), np.float32)


def keys(seed: int, epoch: int) -> NDArray[np.uint32]:
    """Return an epoch's keys, (2, 2): for the transformations of whole images, and for the elastic fields."""
    return np.array([counter.key(seed, purpose, epoch) for purpose in (counter.PLACE, counter.ELASTIC)], np.uint32)


def _padding(size: int, step: int) -> int:
    return -size % step


@kernel
def _product(table: Warp, left: Any, inner: int, right: Any, out: Any) -> None:
    """Compute out := left[:, :inner] right[:inner], four rows and 32 columns at a time.

    The values are integers in float32, small enough that sums are exact in any order.
    """
    like = zero(table.lanes, out)
    flat, width, row_width = out.reshape(-1), out.shape[1], right.shape[1]
    factors, values = left.reshape(-1), right.reshape(-1)
    left_width = left.shape[1]
    for row in range(0, out.shape[0], 4):
        for column in range(0, width, 32):
            acc = repeat((0, 0, 0, 0, 0, 0, 0, 0), like)
            for i in range(inner):
                at = row * left_width + i
                first, second = splat(like, factors[at]), splat(like, factors[at + left_width])
                at += 2 * left_width
                third, fourth = splat(like, factors[at]), splat(like, factors[at + left_width])
                acc = fma_loads(acc, (first, second, third, fourth), values, i * row_width + column, 16)
            at = row * width + column
            store(flat, at, 16, head((0, 0), acc))
            store(flat, at + width, 16, head((0, 0), tail((0, 0), acc)))
            store(flat, at + 2 * width, 16, tail((0, 0, 0, 0), head((0, 0, 0, 0, 0, 0), acc)))
            store(flat, at + 3 * width, 16, tail((0, 0, 0, 0, 0, 0), acc))


@kernel
def _smoothed_fields(table: Warp, key0: Any, key1: Any, image: Any, room: Any) -> None:
    """Compute the smoothed fields of both directions in room[2] and room[3]."""
    height, width = table.height, table.width
    for row in range(height):
        for column in range(width):
            down, right = threefry(key0, key1, image, u32(row * width + column))
            room[0, row, column] = f32(i32(2) * i32(down >> u32(24)) - i32(255))
            room[2, row, column] = f32(i32(2) * i32(right >> u32(24)) - i32(255))
    _product(table, table.smooth_rows, height, room[2], room[1])
    _product(table, room[1], width, table.smooth_columns, room[3])
    _product(table, table.smooth_rows, height, room[0], room[1])
    _product(table, room[1], width, table.smooth_columns, room[2])


@kernel
def _value(image: Any, row: Any, column: Any, height: int, width: int) -> Any:
    """Return a pixel of an image (height * width,) as int32; 0 outside."""
    if row < 0 or row >= height or column < 0 or column >= width:
        return i32(0)
    return i32(image[row * width + column])


@kernel
def warped(table: Warp, keys: NDArray[np.uint32], image: Any, place: int, room: Any, out: NDArray[np.uint8]) -> None:
    """Augment an image (pixels,), whose index in the training set is ``place``, into ``out`` (pixels,)."""
    height, width = table.height, table.width
    shifts, angle = threefry(keys[0, 0], keys[0, 1], u32(place), u32(0))
    choices = 2 * table.shift + 1
    down = ((np.int64(shifts >> u32(16)) * choices) >> 16) - table.shift
    right = ((np.int64(shifts & u32(0xFFFF)) * choices) >> 16) - table.shift
    chosen = angle >> u32(32 - ANGLE_BITS)
    cosine, sine = np.int64(table.cosines[chosen]), np.int64(table.sines[chosen])
    if table.bend > 0:
        _smoothed_fields(table, keys[1, 0], keys[1, 1], u32(place), room)
    half, bits = 1 << (TURN_BITS - 8), TURN_BITS - 7
    for row in range(height):
        y = 2 * row - (height - 1)
        for column in range(width):
            x = 2 * column - (width - 1)
            source_row = ((cosine * y - sine * x + half) >> bits) + 128 * (height - 1) + 256 * down
            source_column = ((sine * y + cosine * x + half) >> bits) + 128 * (width - 1) + 256 * right
            if table.bend > 0:
                source_row += ((np.int64(room[2, row, column]) >> FIELD_BITS) * table.bend) >> BEND_BITS
                source_column += ((np.int64(room[3, row, column]) >> FIELD_BITS) * table.bend) >> BEND_BITS
            top, left = source_row >> 8, source_column >> 8
            lower, rest = source_row & 255, source_column & 255
            above = _value(image, top, left, height, width) * (256 - rest)
            above += _value(image, top, left + 1, height, width) * rest
            below = _value(image, top + 1, left, height, width) * (256 - rest)
            below += _value(image, top + 1, left + 1, height, width) * rest
            out[row * width + column] = (above * (256 - lower) + below * lower + (1 << 15)) >> 16


@entry_point
def warp_images(
    thread: int,
    threads: int,
    table: Warp,
    keys: NDArray[np.uint32],
    images: Bytes,
    first: int,
    places: Ints,
    rooms: NDArray[np.float32],
    out: Bytes,
) -> None:
    """Augment one thread's share of the images at ``places``, indices of training images, into the rows of ``out``.

    Args:
        keys: Keys of the epoch, from :func:`keys`.
        first: Place of training image 0 among those of all ranks.
        rooms: (threads, ...) scratch memory of each thread, from :func:`scratch`.
    """
    for i in range(len(places) * thread // threads, len(places) * (thread + 1) // threads):
        warped(table, keys, images[places[i]], first + places[i], rooms[thread], out[i])
