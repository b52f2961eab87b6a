"""Matrix products in vector registers, by tiles of four rows and a few vectors of columns.

The order of a value's sum depends on the inner size and on its column, not on how rows are shared among threads.
"""

from __future__ import annotations

from typing import Any

from mnistbench.backends.numba.simd import Array
from mnistbench.backends.numba.simd.cache import kernel
from mnistbench.backends.numba.simd.vector import (
    fma,
    fma_loads,
    fma_splats,
    head,
    load,
    loads,
    repeat,
    splat,
    splats,
    store,
    tail,
    zero,
)

DEPTH = 128
"""Number of inner indices whose rows of a panel are used for all rows of the product before the next ones: 32 kB for
four vectors of 64 bytes, which fit an L1 cache of 48 kB."""

FOUR = (None,) * 4
"""The rows of a tile."""


@kernel
def store_four(lanes: Any, tile: Any, out: Array, at: int, row: int, acc: Any) -> None:
    """Store four tiles of vectors at out[at], out[at + row], ..."""
    size = len(lanes)
    second = tail(tile, acc)
    third = tail(tile, second)
    store(out, at, size, head(tile, acc))
    store(out, at + row, size, head(tile, second))
    store(out, at + 2 * row, size, head(tile, third))
    store(out, at + 3 * row, size, tail(tile, third))


@kernel
def load_four(lanes: Any, tile: Any, array: Array, at: int, row: int) -> Any:
    """Load what :func:`store_four` stored."""
    like, size = zero(lanes, array), len(lanes)
    first, second = loads(tile, like, array, at, size), loads(tile, like, array, at + row, size)
    third, fourth = loads(tile, like, array, at + 2 * row, size), loads(tile, like, array, at + 3 * row, size)
    return first + second + third + fourth


@kernel
def multiply(
    lanes: Any,
    tile: Any,
    left: Array,
    left_at: int,
    left_row: int,
    left_step: int,
    right: Array,
    right_at: int,
    right_row: int,
    out: Array,
    out_at: int,
    out_row: int,
    rows: int,
    inner: int,
    vectors: int,
    adds: int,
) -> None:
    """Compute out := left right, or out + left right if ``adds`` is not 0, for matrices inside of arrays.

    Args:
        left: Array that holds the left operand, (rows, inner).
        left_at: Index of its first element.
        left_row: Distance of its rows; ``left_step`` is that of its columns.
        right: Array that holds the right operand, (inner, vectors * lanes), with ``right_row`` between its rows.
        rows: A multiple of four.
    """
    size = len(lanes)
    whole = vectors // len(tile) * len(tile)
    for v in range(0, whole, len(tile)):
        panel(
            lanes, tile, left, left_at, left_row, left_step, right, right_at + v * size, right_row,
            out, out_at + v * size, out_row, rows, inner, adds,
        )  # fmt: skip
    for v in range(whole, vectors):
        column(
            lanes, left, left_at, left_row, left_step, right, right_at + v * size, right_row,
            out, out_at + v * size, out_row, rows, inner, adds,
        )  # fmt: skip


@kernel
def panel(
    lanes: Any,
    tile: Any,
    left: Array,
    left_at: int,
    left_row: int,
    left_step: int,
    right: Array,
    right_at: int,
    right_row: int,
    out: Array,
    out_at: int,
    out_row: int,
    rows: int,
    inner: int,
    adds: int,
) -> None:
    """Compute one tile's columns of :func:`multiply`."""
    like = zero(lanes, out)
    for first in range(0, max(inner, 1), DEPTH):
        last = min(first + DEPTH, inner)
        for r in range(0, rows, 4):
            if adds != 0 or first > 0:
                acc = load_four(lanes, tile, out, out_at + r * out_row, out_row)
            else:
                acc = repeat(tile + tile + tile + tile, like)
            at = left_at + r * left_row
            for k in range(first, last):
                factors = splats(FOUR, like, left, at + k * left_step, left_row)
                acc = fma_loads(acc, factors, right, right_at + k * right_row, len(lanes))
            store_four(lanes, tile, out, out_at + r * out_row, out_row, acc)


@kernel
def column(
    lanes: Any,
    left: Array,
    left_at: int,
    left_row: int,
    left_step: int,
    right: Array,
    right_at: int,
    right_row: int,
    out: Array,
    out_at: int,
    out_row: int,
    rows: int,
    inner: int,
    adds: int,
) -> None:
    """Compute one vector's columns of :func:`multiply`, as two sums, since four accumulators would wait for each other.

    One is of the even inner indices, the other of the odd ones.
    """
    like = zero(lanes, out)
    for r in range(0, rows, 4):
        odd = repeat(FOUR, like)
        even = load_four(lanes, (None,), out, out_at + r * out_row, out_row) if adds != 0 else odd
        at = left_at + r * left_row
        for k in range(1, inner, 2):
            even = fma_splats(
                even, load(like, right, right_at + (k - 1) * right_row), left, at + (k - 1) * left_step, left_row
            )
            odd = fma_splats(odd, load(like, right, right_at + k * right_row), left, at + k * left_step, left_row)
        if inner & 1:
            even = fma_splats(
                even,
                load(like, right, right_at + (inner - 1) * right_row),
                left,
                at + (inner - 1) * left_step,
                left_row,
            )
        store_four(lanes, (None,), out, out_at + r * out_row, out_row, fma(even, splat(like, 1), odd))
