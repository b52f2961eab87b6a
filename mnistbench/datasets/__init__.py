"""Sources of images: the embedded MNIST, a folder of IDX files, a Kaggle CSV file."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mnistbench.datasets.content import printable
from mnistbench.datasets.copies import enlarged
from mnistbench.datasets.csv import IMAGE_SHAPE as KAGGLE_IMAGE_SHAPE
from mnistbench.datasets.csv import read_csv
from mnistbench.datasets.dataset import Dataset, Split, likely_shape
from mnistbench.datasets.idx import read_folder
from mnistbench.exceptions import DataError, OptionError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = [
    "DEV_SIZE",
    "EMBEDDED",
    "EMBEDDED_TRAIN_SIZE",
    "LABELLED",
    "Dataset",
    "Split",
    "likely_shape",
    "load_data",
    "load_images",
]

EMBEDDED = "MNIST (embedded)"

LABELLED = 60_000
"""Number of images of the embedded MNIST outside its test set."""

# The tutorial has 42,000 labelled images and holds out 1,000 of them.
DEV_SIZE = 1_000
EMBEDDED_TRAIN_SIZE = 41_000


@dataclass(frozen=True, eq=False)
class _Source:
    """Content of a source: images (m, pixels) and labels (m,) before the split, and the test set."""

    image_shape: tuple[int, int]
    images: NDArray[np.uint8]
    labels: NDArray[np.integer]
    test: Split | None


def load_data(
    source: str | Path | None = None, seed: int = 0, train_size: int | None = None, dev_size: int | None = None
) -> Dataset:
    """Load a data set and split it.

    The labelled images are shuffled by ``numpy.random.default_rng(seed).permutation``; the first ``dev_size``
    become dev, the next ``train_size`` train. The test set keeps its order.

    Args:
        source: None for the embedded MNIST (60,000 labelled and 10,000 test images); a folder with the four IDX files
            of a similar data set, of any image size; or a CSV file from Kaggle's digit-recognizer, which has no test
            set. Files may be compressed by gzip.
        seed: Seed for the order of the labelled images, 0 or a positive whole number.
        train_size: Number of training images; by default all that dev leaves, but at most 41,000 of the embedded MNIST.
        dev_size: Number of dev images, by default 1,000.

    Raises:
        DataError: If the source cannot be read, is malformed, or is too small for the sizes; the message names the
            file and the place in it.
        OptionError: If the seed is not 0 or a positive whole number.
    """
    name = EMBEDDED if source is None else printable(source)
    dev_size = DEV_SIZE if dev_size is None else dev_size
    if not isinstance(seed, int) or seed < 0:
        raise OptionError(f"seed {seed}: must be 0 or a positive whole number")
    if not isinstance(dev_size, int) or dev_size < 0:
        raise DataError(f"{name}: dev size {dev_size}: must be 0 or a positive whole number")
    if train_size is not None and (not isinstance(train_size, int) or train_size < 1):
        raise DataError(f"{name}: train size {train_size}: must be a positive whole number")
    try:
        data = _read_idx_folder(files(__name__).joinpath("mnist")) if source is None else _read(Path(source))
    except OSError as error:
        file = name if error.filename is None else printable(error.filename)
        raise DataError(f"{file}: cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise DataError(f"{name}: does not fit into the memory of this machine") from error
    if data.labels.min() == data.labels.max():
        raise DataError(f"{name}: all training labels are {data.labels[0]}; there is nothing to tell apart")
    images, left = len(data.labels), len(data.labels) - dev_size
    if left < 1:
        raise DataError(f"{name}: dev size {dev_size}: leaves none of the {images} images to train on; give less")
    if train_size is None:
        train_size = min(left, EMBEDDED_TRAIN_SIZE) if source is None else left
    if train_size > left:
        raise DataError(
            f"{name}: train size {train_size}: only {left} of the {images} images are left after {dev_size} for dev"
        )
    return _split(name, data, seed, train_size, dev_size)


def load_images(count: int, seed: int = 0) -> Dataset:
    """Load the embedded MNIST with exactly ``count`` training images, such as a preset's.

    Up to 60,000 they are MNIST's own, and dev has 1,000 of the others, or all if there are fewer. Above 60,000,
    :func:`mnistbench.datasets.copies.enlarged` adds shifted copies to 59,000 of them.

    Raises:
        DataError: If ``count`` is less than 1.
        OptionError: If the seed is not 0 or a positive whole number.
    """
    if count <= LABELLED:
        return load_data(seed=seed, train_size=count, dev_size=min(DEV_SIZE, LABELLED - count))
    return enlarged(load_data(seed=seed, train_size=LABELLED - DEV_SIZE), count, seed)


def _read(path: Path) -> _Source:
    if path.is_dir():
        return _read_idx_folder(path)
    if path.is_file():
        images, labels = read_csv(path)
        return _Source(KAGGLE_IMAGE_SHAPE, images, labels, test=None)
    if path.exists():
        raise DataError(f"{printable(path)}: neither a file nor a folder")
    raise DataError(f"{printable(path)}: no such file or folder")


def _read_idx_folder(folder: Traversable) -> _Source:
    content = read_folder(folder)
    _, height, width = content.train_images.shape
    pixels = height * width
    return _Source(
        (height, width),
        content.train_images.reshape(-1, pixels),
        content.train_labels,
        Split(content.test_images.reshape(-1, pixels).copy(), content.test_labels.astype(np.int64)),
    )


def _split(name: str, data: _Source, seed: int, train_size: int, dev_size: int) -> Dataset:
    """Shuffle and split. Indexing by rows copies, so nothing keeps the whole source in memory."""
    order = np.random.default_rng(seed).permutation(len(data.labels))
    largest = max(int(labels.max()) for labels in (data.labels, *([data.test.labels] if data.test else [])))

    def take(rows: NDArray[np.int64]) -> Split:
        return Split(data.images[rows], data.labels[rows].astype(np.int64, copy=False))

    return Dataset(
        source=name,
        image_shape=data.image_shape,
        classes=largest + 1,
        train=take(order[dev_size : dev_size + train_size]),
        dev=take(order[:dev_size]),
        test=data.test,
    )
