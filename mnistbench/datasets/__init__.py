"""Sources of images: the embedded MNIST, folders, CSV files, Keras' ``mnist.npz``, arrays in memory.

A rank of several loads its share of the training images, without holding those of others.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from mnistbench.datasets.content import printable
from mnistbench.datasets.copies import enlarged
from mnistbench.datasets.csv import Table, read_csv
from mnistbench.datasets.dataset import Dataset, Split, likely_shape
from mnistbench.datasets.digest import combined_digest
from mnistbench.datasets.emnist import NOTE, is_emnist, upright
from mnistbench.datasets.folders import read_folder, read_idx_folder, read_labelled_csv
from mnistbench.datasets.idx import is_idx, read_idx
from mnistbench.datasets.npz import is_npz, read_npz
from mnistbench.datasets.source import DEV_SIZE, Sizes, Source, split
from mnistbench.exceptions import DataError

__all__ = [
    "DEV_SIZE",
    "EMBEDDED",
    "EMBEDDED_TRAIN_SIZE",
    "LABELLED",
    "Dataset",
    "Split",
    "Table",
    "combined_digest",
    "likely_shape",
    "load_data",
    "load_images",
    "read_file",
    "read_source",
]

EMBEDDED = "MNIST (embedded)"

LABELLED = 60_000
"""Number of images of the embedded MNIST outside its test set."""

EMBEDDED_TRAIN_SIZE = 41_000
"""Number of images that the tutorial trains on."""


def load_data(
    source: str | Path | None = None,
    seed: int = 0,
    train_size: int | None = None,
    dev_size: int | None = None,
    *,
    rank: int = 0,
    ranks: int = 1,
) -> Dataset:
    """Load a data set and split it.

    The labelled images are shuffled by ``numpy.random.default_rng(seed).permutation``; the first ``dev_size``
    become dev, the next ``train_size`` train. The test set keeps its order.

    Args:
        source: None for the embedded MNIST (60,000 labelled and 10,000 test images); a folder with the four IDX files
            of a similar data set, of any image size, or with ``train.csv``; a CSV file, which has no test set; or an
            ``.npz`` file of x_train, y_train, x_test and y_test. Files may be compressed by gzip.
        seed: Seed for the order of the labelled images, 0 or a positive whole number.
        train_size: Number of training images; by default all that dev leaves, but at most 41,000 of the embedded MNIST.
        dev_size: Number of dev images, by default 1,000, or a tenth of fewer than 10,000.
        rank: Number of this rank, from 0. ``train`` has its :class:`mnistbench.task.share.Share` of the images that one
            process would train on; rank 0 alone has dev and test.
        ranks: Number of ranks that share the training images. Other images are read, if at all, a block at a time.

    Returns:
        The data set; its ``notes`` say what was understood of the source.

    Raises:
        UnlabelledData: If the source has no labels.
        DataError: If the source cannot be read, is malformed, or is too small for the sizes or the ranks; the message
            names the file and the place in it.
        OptionError: If the seed is not 0 or a positive whole number, or there is no such rank.
    """
    name = EMBEDDED if source is None else printable(source)
    sizes = Sizes(seed, train_size, dev_size)
    sizes.check(name)
    most = EMBEDDED_TRAIN_SIZE if source is None else None
    with _reading(name):
        return split(name, _read(source, held=ranks == 1), sizes, most, rank=rank, ranks=ranks)


def load_images(count: int, seed: int = 0, *, rank: int = 0, ranks: int = 1) -> Dataset:
    """Load the embedded MNIST with exactly ``count`` training images, such as a preset's.

    Up to 60,000 they are MNIST's own, and dev has 1,000 of the others, or all if there are fewer. Above 60,000,
    :func:`mnistbench.datasets.copies.enlarged` adds shifted copies to 59,000 of them.

    Args:
        count: Number of training images of all ranks.
        seed: Seed for the order of MNIST's images, and for the copies.
        rank: Number of this rank, as :func:`load_data` describes it.
        ranks: Number of ranks that share the training images.

    Raises:
        DataError: If ``count`` is less than 1, or than the number of ranks.
        OptionError: If the seed is not 0 or a positive whole number, or there is no such rank.
    """
    if count <= LABELLED:
        dev_size = min(DEV_SIZE, LABELLED - count)
        return load_data(seed=seed, train_size=count, dev_size=dev_size, rank=rank, ranks=ranks)
    return enlarged(load_data(seed=seed, train_size=LABELLED - DEV_SIZE), count, seed, rank, ranks)


def read_source(source: str | Path | None) -> Source | Table:
    """Read a data set in its order, unsplit: what :func:`load_data` takes, and what :func:`read_file` takes.

    Returns:
        A table for a CSV file or one IDX file, otherwise a source.

    Raises:
        DataError: If it cannot be read, is malformed, or its meaning in doubt.
    """
    name = EMBEDDED if source is None else printable(source)
    with _reading(name):
        if source is not None and Path(source).is_file() and not is_npz(Path(source)):
            return read_file(source)
        return _read(source).held()


def read_file(path: str | Path) -> Table:
    """Read the images of a CSV file, such as Kaggle's ``test.csv``, or of an IDX file, with labels if it has them.

    Returns:
        The images in the order of the file.

    Raises:
        DataError: If the file cannot be read, is malformed, or its meaning in doubt; the message names the file and
            the place in it.
    """
    file, name = Path(path), printable(path)
    with _reading(name):
        _require_file(file, name)
        if not is_idx(file):
            return read_csv(file)
        images = read_idx(file, 3)
        _, height, width = images.shape
        shape, understood = (height, width), f"{height} x {width} pixels, no labels"
        images = images.reshape(-1, height * width)
        if is_emnist(file.name):
            images, shape = upright(images, shape)
            understood += f"; {NOTE}"
        return Table(images, None, shape, understood)


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Turn what the system says while a source is read into a DataError that names the file."""
    try:
        yield
    except OSError as error:
        file = name if error.filename is None else printable(error.filename)
        raise DataError(f"{file}: cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise DataError(f"{name}: does not fit into the memory of this machine") from error


def _require_file(path: Path, name: str) -> None:
    if path.is_dir():
        raise DataError(f"{name}: a folder; give a file in it")
    if not path.exists():
        raise DataError(f"{name}: no such file or folder")
    if not path.is_file():
        raise DataError(f"{name}: neither a file nor a folder")


def _read(source: str | Path | None, held: bool = True) -> Source:
    if source is None:
        return read_idx_folder(files(__name__).joinpath("mnist"))
    path = Path(source)
    if path.is_dir():
        return read_folder(path, held)
    _require_file(path, printable(path))
    return read_npz(path) if is_npz(path) else read_labelled_csv(path, held)
