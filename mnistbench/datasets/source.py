"""Content of a source before the split, and the split: of all images, or of one rank's share of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnistbench.datasets.content import listed
from mnistbench.datasets.dataset import Dataset, Split
from mnistbench.datasets.images import Held, Images, Places
from mnistbench.exceptions import DataError, OptionError
from mnistbench.task.share import Share

DEV_SIZE = 1_000
"""Default number of dev images: the tutorial has 42,000 labelled images and holds out 1,000 of them. Of fewer than ten
times as many, a tenth is held out."""

# The network has an output for each class: a typing error in one label must not ask for a billion of them.
LARGEST_LABEL = 65_535


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images, not read yet or in memory, and their labels.

    Attributes:
        images: m images.
        labels: (m,) whole numbers, at least 0.
    """

    images: Images
    labels: NDArray[np.integer]

    def held(self) -> Labelled:
        """Return the same with the images in memory."""
        return Labelled(Held(self.images.read()), self.labels)

    def split(self) -> Split:
        """Return all of them as a split, in their order."""
        return Split(self.images.read(), self.labels.astype(np.int64, copy=False))

    def take(self, *selections: Places) -> list[Split]:
        """Return copies of some of them, a split for each selection, so that nothing keeps the others in memory."""
        images = self.images.take(*selections)
        labels = (self.labels[places].astype(np.int64, copy=False) for places in selections)
        return [Split(*both) for both in zip(images, labels, strict=True)]


@dataclass(frozen=True, eq=False)
class Source:
    """Content of a source.

    Attributes:
        image_shape: (height, width).
        labelled: Images to train on.
        test: Test set, or None.
        notes: What was understood of the source, a line each.
        class_names: Names of the classes in their order, or none if they are numbers.
        unlabelled: File of further images, without labels, that belongs to the source; None if there is none.
    """

    image_shape: tuple[int, int]
    labelled: Labelled
    test: Labelled | None
    notes: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    unlabelled: Path | None = None

    def held(self) -> Source:
        """Return the same with all images in memory.

        Raises:
            DataError: If what is read is malformed.
            OSError: If a file cannot be read.
        """
        return replace(self, labelled=self.labelled.held(), test=self.test and self.test.held())


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


def share_of(rank: int, ranks: int, images: int, name: str) -> Share:
    """Return a rank's share of the training images of a data set called ``name``.

    Raises:
        OptionError: If there is no such rank.
        DataError: If there are more ranks than images.
    """
    if not 0 <= rank < ranks:
        raise OptionError(f"rank {rank} of {ranks}: the ranks are numbered from 0; there is at least one")
    if ranks > images:
        raise DataError(f"{name}: {ranks} ranks, but only {images} images to train on; start fewer ranks")
    return Share(rank, ranks, images)


def split(name: str, data: Source, sizes: Sizes, most: int | None = None, *, rank: int = 0, ranks: int = 1) -> Dataset:
    """Shuffle and split the content of a source, or only a rank's share of it.

    Args:
        name: Name of the source.
        data: Its content.
        sizes: Sizes of train and dev, and the seed.
        most: Largest number of training images unless ``sizes`` says otherwise.
        rank: Number of the rank that holds its share of train and, if it is rank 0, dev and test.
        ranks: Number of ranks.

    Raises:
        DataError: If the source is too small for the sizes or ranks, or has only one class; or if what is read of it
            now is malformed.
        OptionError: If there is no such rank.
        OSError: If a file cannot be read.
    """
    labels = data.labelled.labels
    if labels.min() == labels.max():
        raise DataError(f"{name}: all training labels are {labels[0]}; there is nothing to tell apart")
    train_size, dev_size = _train_and_dev(name, len(labels), sizes, most)
    share = share_of(rank, ranks, train_size, name)
    order = np.random.default_rng(sizes.seed).permutation(len(labels))
    everything = (labels, *([data.test.labels] if data.test else []))
    classes = max(len(data.class_names), *(int(found.max()) + 1 for found in everything))
    train, dev = data.labelled.take(
        order[dev_size + share.first : dev_size + share.last], order[: dev_size if rank == 0 else 0]
    )
    return Dataset(
        source=name,
        image_shape=data.image_shape,
        classes=classes,
        train=train,
        dev=dev,
        test=data.test.split() if data.test and rank == 0 else None,
        notes=(*data.notes, *_without_images(labels, classes)),
        class_names=data.class_names,
        share=share if ranks > 1 else None,
    )


def _train_and_dev(name: str, images: int, sizes: Sizes, most: int | None) -> tuple[int, int]:
    """Return the numbers of images of train and dev, of ``images`` in all."""
    dev_size = min(DEV_SIZE, images // 10) if sizes.dev_size is None else sizes.dev_size
    left = images - dev_size
    if left < 1:
        raise DataError(f"{name}: dev size {dev_size}: leaves none of the {images} images to train on; give less")
    train_size = min(left, most or left) if sizes.train_size is None else sizes.train_size
    if train_size > left:
        raise DataError(
            f"{name}: train size {train_size}: only {left} of the {images} images are left after {dev_size} for dev"
        )
    return train_size, dev_size


def _without_images(labels: NDArray[np.integer], classes: int) -> list[str]:
    """Return a note that names the classes below the largest that no labelled image has."""
    missing = np.flatnonzero(np.bincount(labels, minlength=classes) == 0)
    if not len(missing):
        return []
    first = [str(label) for label in missing[:7].tolist()]
    return [f"no image is labelled {listed(first)}; the network has an output for each all the same"]
