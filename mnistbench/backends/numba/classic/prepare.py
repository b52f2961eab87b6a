"""From a data set to every thread's packed images: order, share out, pack. Runs once, on all threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnistbench.backends.numba.classic.ordering import order_lot
from mnistbench.backends.numba.classic.packing import Packed, count_chunks, pack
from mnistbench.backends.numba.pixels import fraction_used

LOT = 65_536
"""Images ordered together, about. More are ordered lot by lot: that bounds the memory, and gives threads work."""

ORDER_BELOW = 0.85
"""The fraction of pixels that are not zero below which similar images are put together.

Measured with the classic's images, their digits grown pixel by pixel: ordering takes 90 ms, and saves that in 130
iterations at 0.32 to 0.57, in 190 at 0.69, in 260 at 0.80, in 640 at 0.88, and in 3,000 at 0.97.
"""


def _on_threads(threads: int, function: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]) -> list[Any]:
    """function(*a) for each of the argument tuples, on so many threads, in order."""
    with ThreadPoolExecutor(threads) as pool:
        return [future.result() for future in [pool.submit(function, *a) for a in arguments]]


def order_images(
    images: NDArray[np.uint8], image_shape: tuple[int, int], lanes: int, threads: int
) -> NDArray[np.int64]:
    """The images' numbers, similar ones together, in groups of ``lanes``. Does not depend on ``threads``."""
    lots = -(-len(images) // LOT)
    # All groups but the last one are full.
    bounds = [lot * len(images) // lots // (2 * lanes) * 2 * lanes for lot in range(lots)] + [len(images)]
    order = np.empty(len(images), np.int64)
    height, width = image_shape
    _on_threads(
        threads,
        order_lot,
        ((images, height, width, lanes, first, order[first:last]) for first, last in pairwise(bounds)),
    )
    return order


def share_out(counts: NDArray[np.int64], threads: int) -> list[int]:
    """Bounds of the threads' pairs, from the chunks of each pair: equal work, and at least a pair for each.

    A pair's work besides its chunks is about that of 20 chunks.
    """
    work = np.concatenate([[0], np.cumsum(counts + 20)])
    bounds = [int(np.searchsorted(work, thread * work[-1] / threads)) for thread in range(threads)] + [len(counts)]
    for thread in range(1, threads):
        bounds[thread] = min(max(bounds[thread], bounds[thread - 1] + 1), len(counts) - (threads - thread))
    return bounds


def prepare(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    image_shape: tuple[int, int],
    lanes: int,
    threads: int,
    block_pairs: int,
) -> list[Packed]:
    """Pack the images for each thread.

    Args:
        images: (m, pixels).
        labels: (m,).
        image_shape: (height, width).
        lanes: images in a group.
        threads: at most one for each pair of groups.
        block_pairs: the most pairs that a block may have.
    """
    if fraction_used(images) < ORDER_BELOW:
        order = order_images(images, image_shape, lanes, threads)
    else:
        order = np.arange(len(images))
    counts = np.empty(-(-len(images) // (2 * lanes)), np.int64)
    even = [thread * len(counts) // threads for thread in range(threads + 1)]
    _on_threads(
        threads,
        count_chunks,
        ((images, order, lanes, first, counts[first:last]) for first, last in pairwise(even)),
    )
    bounds = share_out(counts, threads)
    pixel_numbers = np.empty(0, np.uint16 if images.shape[1] < 2**16 else np.uint32)
    return _on_threads(
        threads,
        pack,
        (
            (
                images,
                labels,
                order[first * 2 * lanes : last * 2 * lanes],
                lanes,
                -(-(last - first) // block_pairs),
                pixel_numbers,
            )
            for first, last in pairwise(bounds)
        ),
    )
