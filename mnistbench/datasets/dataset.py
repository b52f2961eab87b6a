"""A data set in memory: images and labels, split into train, dev and test."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mnistbench.task.workload import Network


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels.

    Attributes:
        images: (m, pixels) uint8, one image per row, C-contiguous.
        labels: (m,) int64, at least 0.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set split into train, dev and test.

    Attributes:
        source: Origin in words: "MNIST (embedded)", a file, a folder.
        image_shape: (height, width).
        classes: Number of classes, one more than the largest label of the whole source.
        train, dev, test: Disjoint splits; ``dev`` may be empty, and ``test`` is None if the source has no test set.
    """

    source: str
    image_shape: tuple[int, int]
    classes: int
    train: Split
    dev: Split
    test: Split | None

    @property
    def pixels(self) -> int:
        """Number of pixels of an image."""
        return self.image_shape[0] * self.image_shape[1]

    def network(self, *hidden: int) -> Network:
        """Return the network for these images and classes with hidden layers of these sizes."""
        return Network((self.pixels, *hidden, self.classes))

    def training_only(self) -> Dataset:
        """Return the same data set without its dev and test images."""
        nothing = Split(self.train.images[:0], self.train.labels[:0])
        return replace(self, dev=nothing, test=None)

    @classmethod
    def blank(cls, network: Network, images: int, image_shape: tuple[int, int] | None = None) -> Dataset:
        """Return ``images`` white images of class 0 that suit a network; by default of :func:`likely_shape`."""
        white = Split(np.full((images, network.inputs), 255, np.uint8), np.zeros(images, np.int64))
        shape = image_shape or likely_shape(network.inputs)
        return cls("white images", shape, network.outputs, white, white, None)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the images and labels in their order, as 64 hexadecimal digits; computed on first use.

        For train, dev and test in turn (test only if there is one), the hash covers the ASCII line "NAME M HEIGHT
        WIDTH" with a line feed, such as "train 41000 28 28"; the images, one byte per pixel, row by row; and the
        labels, as 8-byte little-endian integers. It does not cover ``source`` and ``classes``.
        """
        digest = hashlib.sha256()
        for name, split in (("train", self.train), ("dev", self.dev), ("test", self.test)):
            if split is not None:
                height, width = self.image_shape
                digest.update(f"{name} {len(split)} {height} {width}\n".encode())
                digest.update(np.ascontiguousarray(split.images).data)
                digest.update(np.ascontiguousarray(split.labels, "<i8").data)
        return digest.hexdigest()


def likely_shape(pixels: int) -> tuple[int, int]:
    """Return (height, width) of images with ``pixels`` pixels: a square if possible, else a single row."""
    side = math.isqrt(pixels)
    return (side, side) if side * side == pixels else (1, pixels)
