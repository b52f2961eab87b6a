"""Content of a source before the split, and the split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnistbench.datasets.content import listed
from mnistbench.datasets.dataset import Dataset, Split
from mnistbench.exceptions import DataError, OptionError

DEV_SIZE = 1_000
"""Default number of dev images: the tutorial has 42,000 labelled images and holds out 1,000 of them. Of fewer than ten
times as many, a tenth is held out."""

# The network has an output for each class: a typing error in one label must not ask for a billion of them.
LARGEST_LABEL = 65_535


@dataclass(frozen=True, eq=False)
class Source:
    """Content of a source.

    Attributes:
        image_shape: (height, width).
        images: (m, pixels) uint8.
        labels: (m,) whole numbers, at least 0.
        test: Test set, or None.
        notes: What was understood of the source, a line each.
        class_names: Names of the classes in their order, or none if they are numbers.
        unlabelled: File of further images, without labels, that belongs to the source; None if there is none.
    """

    image_shape: tuple[int, int]
    images: NDArray[np.uint8]
    labels: NDArray[np.integer]
    test: Split | None
    notes: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    unlabelled: Path | None = None


@dataclass(frozen=True)
class Sizes:
    """How a source is split, as :func:`mnistbench.datasets.load_data` describes it; None is the default."""

    seed: int = 0
    train_size: int | None = None
    dev_size: int | None = None

    def check(self, name: str) -> None:
        """Raise an error if the seed or a size cannot be one, whatever the source ``name`` holds."""
        if not _whole(self.seed) or self.seed < 0:
            raise OptionError(f"seed {self.seed}: must be 0 or a positive whole number")
        if self.dev_size is not None and (not _whole(self.dev_size) or self.dev_size < 0):
            raise DataError(f"{name}: dev size {self.dev_size}: must be 0 or a positive whole number")
        if self.train_size is not None and (not _whole(self.train_size) or self.train_size < 1):
            raise DataError(f"{name}: train size {self.train_size}: must be a positive whole number")


def _whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def split(name: str, data: Source, sizes: Sizes, most: int | None = None) -> Dataset:
    """Shuffle and split the content of a source.

    Args:
        name: Name of the source.
        data: Its content.
        sizes: Sizes of train and dev, and the seed.
        most: Largest number of training images unless ``sizes`` says otherwise.

    Raises:
        DataError: If the source is too small for the sizes, or has only one class.
    """
    if data.labels.min() == data.labels.max():
        raise DataError(f"{name}: all training labels are {data.labels[0]}; there is nothing to tell apart")
    images = len(data.labels)
    dev_size = min(DEV_SIZE, images // 10) if sizes.dev_size is None else sizes.dev_size
    left = images - dev_size
    if left < 1:
        raise DataError(f"{name}: dev size {dev_size}: leaves none of the {images} images to train on; give less")
    train_size = min(left, most or left) if sizes.train_size is None else sizes.train_size
    if train_size > left:
        raise DataError(
            f"{name}: train size {train_size}: only {left} of the {images} images are left after {dev_size} for dev"
        )
    order = np.random.default_rng(sizes.seed).permutation(images)
    everything = (data.labels, *([data.test.labels] if data.test else []))
    classes = max(len(data.class_names), *(int(labels.max()) + 1 for labels in everything))

    def take(rows: NDArray[np.int64]) -> Split:
        """Copy rows, so that nothing keeps the whole source in memory."""
        return Split(np.ascontiguousarray(data.images[rows]), data.labels[rows].astype(np.int64, copy=False))

    return Dataset(
        source=name,
        image_shape=data.image_shape,
        classes=classes,
        train=take(order[dev_size : dev_size + train_size]),
        dev=take(order[:dev_size]),
        test=data.test,
        notes=(*data.notes, *_without_images(data.labels, classes)),
        class_names=data.class_names,
    )


def _without_images(labels: NDArray[np.integer], classes: int) -> list[str]:
    """Return a note that names the classes below the largest that no labelled image has."""
    missing = np.flatnonzero(np.bincount(labels, minlength=classes) == 0)
    if not len(missing):
        return []
    first = [str(label) for label in missing[:7].tolist()]
    return [f"no image is labelled {listed(first)}; the network has an output for each all the same"]
