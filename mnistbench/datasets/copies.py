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
from mnistbench.exceptions import OptionError

REACH = 2
"""Largest shift of a copy, in pixels, in each direction."""


def enlarged(dataset: Dataset, count: int, seed: int = 0) -> Dataset:
    """Return the data set with exactly ``count`` training images: its own first, then shifted copies of them.

    Each pass over the training images takes them in another random order and shifts all of them by the same number of
    rows and columns, up to :data:`REACH` each. It draws one of the 24 shifts other than (0, 0), and none again before
    all have been drawn. Pixels shifted over the border are lost, and the pixels left behind are 0. Dev and test stay
    unchanged.

    Raises:
        OptionError: If ``count`` is less than the number of training images, or the seed is negative.
    """
    own = len(dataset.train)
    if count < own:
        raise OptionError(f"{count} images: {dataset.source} has {own} to train on already; load fewer")
    if seed < 0:
        raise OptionError(f"seed {seed}: must be 0 or a positive whole number")
    if count == own:
        return dataset
    images = np.empty((count, dataset.pixels), np.uint8)
    labels = np.empty(count, np.int64)
    images[:own], labels[:own] = dataset.train.images, dataset.train.labels
    rng = np.random.default_rng(seed)
    moves = _moves(rng)
    for first in range(own, count, own):
        chosen = rng.permutation(own)[: count - first]
        part = slice(first, first + len(chosen))
        pictures = dataset.train.images[chosen].reshape(-1, *dataset.image_shape)
        images[part] = moved(pictures, *next(moves)).reshape(-1, dataset.pixels)
        labels[part] = dataset.train.labels[chosen]
    return replace(dataset, train=Split(images, labels))


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
