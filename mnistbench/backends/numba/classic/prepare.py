"""The preparation of the packed images: order, cut into tasks, pack. Runs once, on all threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import numpy as np

from mnistbench.backends.numba.classic.ordering import order_lot
from mnistbench.backends.numba.classic.packing import Block, Packed, count_chunks, join, pack_block
from mnistbench.backends.numba.pixels import fraction_used
from mnistbench.backends.numba.simd import Bytes, Ints

Result = TypeVar("Result")

LOT = 65_536
"""Approximate number of images that are ordered together, which bounds the memory."""

ORDER_BELOW = 0.85
"""Fraction of non-zero pixels below which images are ordered. Ordering pays off after 260 iterations at 0.80."""

PAIR_COST = 20
"""Fixed work of a pair, in chunks."""

SHARES = 8
"""Number of tasks of each size, on a machine of no more CPUs than that."""

SHARE_PAIRS = 32
"""Least number of pairs for each share: a task costs a row of sums, which must be little beside its images."""

FULL = 6 / 7
"""Usual size of a block, of the largest: pairs do not all cost the same."""


def _on_threads(threads: int, function: Callable[[int, int], Result], bounds: Sequence[int]) -> list[Result]:
    """Call function(first, last) for neighbouring ``bounds`` on ``threads`` threads; return the results in order."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, bounds[:-1], bounds[1:]))


def order_images(images: Bytes, image_shape: tuple[int, int], lanes: int, threads: int) -> Ints:
    """Order the images in groups of ``lanes`` similar ones; return indices, the same for any number of threads."""
    lots = -(-len(images) // LOT)
    # All groups but the last one are full.
    bounds = [lot * len(images) // lots // (2 * lanes) * 2 * lanes for lot in range(lots)] + [len(images)]
    height, width = image_shape
    with ThreadPoolExecutor(threads) as pool:
        return np.concatenate(
            [
                first + order_lot(images[first:last], height, width, lanes, lambda f, items: list(pool.map(f, items)))
                for first, last in pairwise(bounds)
            ]
        )


def cut_tasks(costs: Ints, most: int, shares: int) -> tuple[Ints, Ints]:
    """Cut pairs of images into tasks, large ones first, and tasks into equal blocks of at most ``most`` pairs.

    About half of the work is in ``shares`` equal tasks of whole blocks, a quarter in as many, and so on; what is left
    after tasks of one block is in as many again. So threads run out of tasks at about the same time, and most tasks are
    large.

    Args:
        costs: (pairs,) relative cost of each pair.

    Returns:
        Bounds of the blocks, in pairs, and bounds of the tasks, in blocks.
    """
    pairs, left = len(costs), 1.0
    block = max(1, round(FULL * most)) / pairs
    sizes: list[float] = []
    while blocks := round(left / (2 * shares) / block):
        sizes += [blocks * block] * shares
        left -= blocks * block * shares
    sizes += [left / shares] * shares
    work = np.concatenate([[0], np.cumsum(costs)]) / costs.sum()
    bounds = np.unique([0, *np.searchsorted(work, np.cumsum(sizes[:-1])).clip(0, pairs), pairs])
    counts = -(-np.diff(bounds) // most)
    cuts = [
        first + np.arange(n) * (last - first) // n for (first, last), n in zip(pairwise(bounds), counts, strict=True)
    ]
    return np.concatenate([*cuts, [pairs]]), np.concatenate([[0], np.cumsum(counts)])


def prepare(
    images: Bytes, labels: Ints, image_shape: tuple[int, int], lanes: int, threads: int, most: int
) -> tuple[Packed, Ints]:
    """Order, cut into tasks and pack the images, on some threads, whose number does not matter to the result.

    Returns:
        The packed images, and the relative cost of each task.
    """
    if fraction_used(images) < ORDER_BELOW:
        order = order_images(images, image_shape, lanes, threads)
    else:
        order = np.arange(len(images))
    size = 2 * lanes
    pairs = -(-len(images) // size)

    def count(first: int, last: int) -> Ints:
        return count_chunks(images, order[first * size : last * size], lanes)

    def pack_one(first: int, last: int) -> Block:
        return pack_block(images, labels, order, lanes, first, last)

    parts = min(threads, pairs)
    counts = np.concatenate(_on_threads(threads, count, [part * pairs // parts for part in range(parts + 1)]))
    costs = counts + PAIR_COST
    shares = max(2, min(max(SHARES, os.cpu_count() or 1), pairs // SHARE_PAIRS))
    block_pair, task_block = cut_tasks(costs, most, shares)
    packed = join(_on_threads(threads, pack_one, block_pair.tolist()), lanes, task_block)
    return packed, np.add.reduceat(costs, block_pair[task_block[:-1]])
