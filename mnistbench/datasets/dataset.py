"""A data set in memory: images and labels, split into train, dev and test."""

from __future__ import annotations

import hashlib
import math
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnistbench.datasets import digest
from mnistbench.exceptions import DataError
from mnistbench.task.share import Share
from mnistbench.task.workload import Network


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels, checked in what costs no pass over the pixels.

    Attributes:
        images: (m, pixels) uint8, one image per row, C-contiguous.
        labels: (m,) int64, at least 0.

    Raises:
        DataError: If an array has another dtype, shape or order; :meth:`Dataset.from_arrays` takes others.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        _require_array("images", self.images, np.uint8, 2)
        _require_array("labels", self.labels, np.int64, 1)
        if len(self.images) != len(self.labels):
            raise DataError(f"{len(self.images)} images, but {len(self.labels)} labels; give one label an image")
        if len(self.labels) and (low := self.labels.min()) < 0:
            raise DataError(f"labels: the smallest is {low}; number the classes from 0")

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
        notes: What was understood of the source, a line each.
        class_names: Names of the classes in their order, or none if they are numbers.
        share: Share of the training images that ``train`` holds; None if it holds all.

    Raises:
        DataError: If the splits are no images of this shape, or have labels beyond the classes.
    """

    source: str
    image_shape: tuple[int, int]
    classes: int
    train: Split
    dev: Split
    test: Split | None
    _: KW_ONLY
    notes: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    share: Share | None = None

    def __post_init__(self) -> None:
        if self.share is not None and len(self.train) != self.share.held:
            raise DataError(f"{self.source}: {len(self.train)} training images, but its share has {self.share.held}")
        for name, split in (("train", self.train), ("dev", self.dev), ("test", self.test)):
            if split is not None:
                self._require(split, f"{self.source}: {name}")

    def _require(self, split: Split, name: str) -> None:
        """Raise a DataError unless a split has images of this shape, and labels of these classes."""
        height, width = self.image_shape
        found = split.images.shape[1]
        if found != height * width:
            raise DataError(f"{name}: {found} pixels an image, but {height} x {width} are {height * width}")
        if len(split) and (high := split.labels.max()) >= self.classes:
            raise DataError(f"{name}: label {high}, but the labels of {self.classes} classes are below that")

    @classmethod
    def from_arrays(
        cls,
        images: Any,
        labels: Any,
        test_images: Any = None,
        test_labels: Any = None,
        *,
        seed: int = 0,
        train_size: int | None = None,
        dev_size: int | None = None,
        source: str = "arrays",
    ) -> Dataset:
        """Make a data set of arrays in memory, and split it as :func:`mnistbench.datasets.load_data` does.

        Args:
            images: Images (m, height, width), (m, height, width, 1) or, of square pictures, (m, pixels): an array, a
                DataFrame or lists of whole numbers from 0 to 255, of any dtype.
            labels: Labels (m,) from 0, or texts, of which each becomes a class in alphabetical order; texts of digits
                count as numbers.
            test_images: Images of the test set, if there is one.
            test_labels: Labels of the test set.
            seed: Seed for the order of the labelled images.
            train_size: Number of training images; by default all that dev leaves.
            dev_size: Number of dev images, by default 1,000, or a tenth of fewer than 10,000.
            source: Name of the data set.

        Raises:
            DataError: If the arrays do not belong together, a value is another than these, or its meaning in doubt.
            OptionError: If the seed is not 0 or a positive whole number.
        """
        from mnistbench.datasets.arrays import from_arrays
        from mnistbench.datasets.source import Sizes, split

        sizes = Sizes(seed, train_size, dev_size)
        sizes.check(source)
        return split(source, from_arrays(images, labels, test_images, test_labels, source), sizes)

    @property
    def pixels(self) -> int:
        """Number of pixels of an image."""
        return self.image_shape[0] * self.image_shape[1]

    @property
    def images(self) -> int:
        """Number of training images, of all ranks."""
        return len(self.train) if self.share is None else self.share.images

    def network(self, *hidden: int) -> Network:
        """Return the network for these images and classes with hidden layers of these sizes."""
        return Network((self.pixels, *hidden, self.classes))

    def part(self, share: Share) -> Dataset:
        """Return the data set of a rank: a copy of its training images, so that nothing keeps those of others.

        Raises:
            DataError: If ``share`` is not of as many images as the data set has, all of them.
        """
        if self.share is not None or share.images != len(self.train):
            raise DataError(f"{self.source}: a share of {share.images} images cannot be taken of {len(self.train)}")
        rows = slice(share.first, share.last)
        return replace(self, train=Split(self.train.images[rows].copy(), self.train.labels[rows].copy()), share=share)

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
        """SHA-256 of the images and labels held, in their order, as 64 hexadecimal digits; computed on first use.

        For train, dev and test in turn (test only if there is one), the hash covers the ASCII line "NAME M HEIGHT
        WIDTH" with a line feed, such as "train 41000 28 28"; the images, one byte per pixel, row by row; and the
        labels, as 8-byte little-endian integers. It does not cover ``source`` and ``classes``.
        """
        found = hashlib.sha256()
        for name, split in (("train", self.train), ("dev", self.dev), ("test", self.test)):
            if split is not None:
                height, width = self.image_shape
                found.update(f"{name} {len(split)} {height} {width}\n".encode())
                found.update(np.ascontiguousarray(split.images).data)
                found.update(np.ascontiguousarray(split.labels, "<i8").data)
        return found.hexdigest()

    def digest_part(self) -> int:
        """Return what the images held add to :func:`mnistbench.datasets.combined_digest`, that of all ranks' images.

        A rank adds its share of the training images, and rank 0 dev and test, however many ranks hold copies of them.
        """
        first = 0 if self.share is None else self.share.first
        total = digest.of_split("train", self.image_shape, self.train, first)
        if self.share is None or self.share.rank == 0:
            total += digest.of_split("dev", self.image_shape, self.dev)
            total += 0 if self.test is None else digest.of_split("test", self.image_shape, self.test)
        return total % digest.MODULUS


def likely_shape(pixels: int) -> tuple[int, int]:
    """Return (height, width) of images with ``pixels`` pixels: a square if possible, else a single row."""
    side = math.isqrt(pixels)
    return (side, side) if side * side == pixels else (1, pixels)


def _require_array(name: str, array: object, dtype: type[np.generic], dimensions: int) -> None:
    """Raise a DataError unless an array is one of NumPy's with this dtype and number of dimensions, C-contiguous."""
    cure = "; Dataset.from_arrays takes other arrays"
    if not isinstance(array, np.ndarray):
        raise DataError(f"{name}: {type(array).__name__}, not an array of NumPy{cure}")
    if array.dtype != dtype or not array.dtype.isnative:
        raise DataError(f"{name}: elements of type {array.dtype}, not {np.dtype(dtype)}{cure}")
    if array.ndim != dimensions:
        wanted = {1: "(m,)", 2: "(m, pixels)"}[dimensions]
        raise DataError(f"{name}: shape {array.shape}, not {wanted}{cure}")
    if not array.flags.c_contiguous:
        raise DataError(f"{name}: not C-contiguous; give numpy.ascontiguousarray({name}){cure}")
