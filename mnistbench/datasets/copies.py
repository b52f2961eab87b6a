"""More images than a data set has: its own, and copies of them shifted by up to two pixels.

For measuring with many images: with plain repetitions, a backend that looks for equal images would find more of them
than in real data. A shifted digit keeps its numbers of zero and other pixels, except those that leave the picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mnistbench.datasets.dataset import Dataset, Split
from mnistbench.datasets.source import share_of
from mnistbench.exceptions import OptionError
from mnistbench.task.share import Share

REACH = 2
"""Largest shift of a copy, in pixels, in each direction."""


def enlarged(dataset: Dataset, count: int, seed: int = 0, rank: int = 0, ranks: int = 1) -> Dataset:
    """Return the data set with exactly ``count`` training images: its own first, then shifted copies of them.

    Each pass over the training images takes them in another random order and shifts all of them by the same number of
    rows and columns, up to :data:`REACH` each. It draws one of the 24 shifts other than (0, 0), and none again before
    all have been drawn. Pixels shifted over the border are lost, and the pixels left behind are 0. Dev and test stay
    unchanged. A note says how many are copies.

    Args:
        dataset: Data set with all of its training images.
        count: Number of training images of all ranks.
        seed: Seed for the orders and shifts.
        rank: Number of the rank whose share of the training images is made, without those of others.
        ranks: Number of ranks.

    Raises:
        OptionError: If ``count`` is less than the number of training images, the seed is negative, or there is no such
            rank.
        DataError: If there are more ranks than images.
    """
    own = len(dataset.train)
    if count < own:
        raise OptionError(f"{count} images: {dataset.source} has {own} to train on already; load fewer")
    if seed < 0:
        raise OptionError(f"seed {seed}: must be 0 or a positive whole number")
    share = share_of(rank, ranks, count, dataset.source)
    if count > own:
        note = f"{own:,} of its images to train on, and {count - own:,} copies of them, shifted by up to {REACH} pixels"
        dataset = replace(dataset, train=_with_copies(dataset, share, seed), notes=(*dataset.notes, note))
    elif ranks > 1:
        dataset = dataset.part(share)
    if ranks == 1:
        return dataset
    return replace(dataset if rank == 0 else dataset.training_only(), share=share)


def _with_copies(dataset: Dataset, share: Share, seed: int) -> Split:
    """Return a share of the images and copies of a data set; all orders and shifts are drawn up to the share's last."""
    own = len(dataset.train)
    images = np.empty((share.held, dataset.pixels), np.uint8)
    labels = np.empty(share.held, np.int64)
    rng = np.random.default_rng(seed)
    moves = _moves(rng)
    for first in range(0, share.last, own):
        chosen, move = (rng.permutation(own), next(moves)) if first else (np.arange(own), (0, 0))
        low, high = max(first, share.first), min(first + own, share.last)
        if low < high:
            chosen, place = chosen[low - first : high - first], slice(low - share.first, high - share.first)
            pictures = dataset.train.images[chosen].reshape(-1, *dataset.image_shape)
            images[place] = moved(pictures, *move).reshape(-1, dataset.pixels)
            labels[place] = dataset.train.labels[chosen]
    return Split(images, labels)


def _moves(rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    """Yield every shift but (0, 0) in a random order, again and again."""
    reach = range(-REACH, REACH + 1)
    pairs = [(down, right) for down in reach for right in reach if (down, right) != (0, 0)]
    while True:
        for i in rng.permutation(len(pairs)):
            yield pairs[i]


def moved(images: NDArray[np.uint8], down: int, right: int) -> NDArray[np.uint8]:
    """Shift images (m, height, width) down and right, or up and left by negative numbers; pixels left behind are 0."""
    result = np.zeros_like(images)
    _, height, width = images.shape

    def overlap(by: int, size: int) -> tuple[slice, slice]:
        """Return the slices of the destination and of the source along one axis."""
        by = max(-size, min(size, by))
        return slice(max(0, by), size + min(0, by)), slice(max(0, -by), size - max(0, by))

    (to_rows, from_rows), (to_columns, from_columns) = overlap(down, height), overlap(right, width)
    result[:, to_rows, to_columns] = images[:, from_rows, from_columns]
    return result
