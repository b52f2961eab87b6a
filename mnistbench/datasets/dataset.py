"""A data set in memory: images and labels, split into train, dev and test."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mnistbench.task.workload import Network


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels.

    Attributes:
        images: (m, pixels) uint8, one row an image, C-contiguous.
        labels: (m,) int64, whole numbers from 0.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set split into train, dev and test.

    Attributes:
        source: origin in words: "MNIST (embedded)", a file, a folder.
        image_shape: (height, width); their product is the number of pixels.
        classes: number of classes, one more than the largest label of the whole source.
        train, dev, test: disjoint; ``dev`` may have no images, and ``test`` is None where the source has none.
    """

    source: str
    image_shape: tuple[int, int]
    classes: int
    train: Split
    dev: Split
    test: Split | None

    @property
    def pixels(self) -> int:
        """Pixels of an image."""
        return self.image_shape[0] * self.image_shape[1]

    def network(self, *hidden: int) -> Network:
        """The network for these images and classes with the given hidden layers."""
        return Network((self.pixels, *hidden, self.classes))

    @classmethod
    def blank(cls, network: Network, images: int, image_shape: tuple[int, int] | None = None) -> Dataset:
        """Return ``images`` white images of class 0 that suit a network, to try a backend on.

        Args:
            image_shape: (height, width); by default :func:`likely_shape`.
        """
        white = Split(np.full((images, network.inputs), 255, np.uint8), np.zeros(images, np.int64))
        shape = image_shape or likely_shape(network.inputs)
        return cls("white images", shape, network.outputs, white, white, None)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the images and labels in their order, as 64 hexadecimal digits; computed on first use.

        Hashed are, for train, dev and test in turn (test only if there is one): the ASCII line "NAME M HEIGHT
        WIDTH" with a line feed, such as "train 41000 28 28"; the images, one byte a pixel, row by row; the
        labels, as 8-byte little-endian integers. Neither ``source`` nor ``classes`` takes part.
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
    """Return (height, width) of images of that many pixels: a square if it can be one, else a single row."""
    side = math.isqrt(pixels)
    return (side, side) if side * side == pixels else (1, pixels)
