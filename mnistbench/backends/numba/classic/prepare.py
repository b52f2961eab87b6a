"""The preparation of each thread's packed images: order, share out, pack. Runs once, on all threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from mnistbench.backends.numba.classic.ordering import order_lot
from mnistbench.backends.numba.classic.packing import Packed, count_chunks, pack
from mnistbench.backends.numba.pixels import fraction_used
from mnistbench.backends.numba.simd import Bytes, Ints

Result = TypeVar("Result")

LOT = 65_536
"""Approximate number of images that are ordered together. Lots bound the memory and run in parallel."""

ORDER_BELOW = 0.85
"""Fraction of non-zero pixels below which images are ordered. Ordering pays off after 260 iterations at 0.80."""


def _on_threads(threads: int, function: Callable[[int, int], Result], bounds: Sequence[int]) -> list[Result]:
    """Call function(first, last) for neighbouring ``bounds`` on ``threads`` threads; return the results in order."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, bounds[:-1], bounds[1:]))


def order_images(images: Bytes, image_shape: tuple[int, int], lanes: int, threads: int) -> Ints:
    """Order the images in groups of ``lanes`` similar ones; return indices, the same for any number of threads."""
    lots = -(-len(images) // LOT)
    # All groups but the last one are full.
    bounds = [lot * len(images) // lots // (2 * lanes) * 2 * lanes for lot in range(lots)] + [len(images)]
    order = np.empty(len(images), np.int64)
    height, width = image_shape

    def order_one(first: int, last: int) -> None:
        order[first:last] = first + order_lot(images[first:last], height, width, lanes)

    _on_threads(threads, order_one, bounds)
    return order


def share_out(counts: Ints, threads: int) -> list[int]:
    """Divide pairs of ``counts`` chunks into equal work, at least one pair per thread; return the threads' bounds.

    The fixed work of a pair equals that of about 20 chunks.
    """
    work = np.concatenate([[0], np.cumsum(counts + 20)])
    bounds = [int(np.searchsorted(work, thread * work[-1] / threads)) for thread in range(threads)] + [len(counts)]
    for thread in range(1, threads):
        bounds[thread] = min(max(bounds[thread], bounds[thread - 1] + 1), len(counts) - (threads - thread))
    return bounds


def prepare(
    images: Bytes, labels: Ints, image_shape: tuple[int, int], lanes: int, threads: int, block_pairs: int
) -> list[Packed]:
    """Pack the images for each thread, of which there is at most one per pair; blocks have at most ``block_pairs``."""
    if fraction_used(images) < ORDER_BELOW:
        order = order_images(images, image_shape, lanes, threads)
    else:
        order = np.arange(len(images))
    size = 2 * lanes

    def count(first: int, last: int) -> Ints:
        return count_chunks(images, order[first * size : last * size], lanes)

    def pack_pairs(first: int, last: int) -> Packed:
        return pack(images, labels, order[first * size : last * size], lanes, -(-(last - first) // block_pairs))

    pairs = -(-len(images) // size)
    counted = _on_threads(threads, count, [thread * pairs // threads for thread in range(threads + 1)])
    return _on_threads(threads, pack_pairs, share_out(np.concatenate(counted), threads))
