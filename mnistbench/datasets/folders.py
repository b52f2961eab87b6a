"""Folders of IDX files under MNIST's or EMNIST's names, and folders of CSV files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mnistbench.datasets.content import listed, printable
from mnistbench.datasets.csv import open_csv
from mnistbench.datasets.emnist import NOTE, is_emnist
from mnistbench.datasets.idx import IdxFile, IdxImages, open_idx
from mnistbench.datasets.images import Images, Upright
from mnistbench.datasets.source import Labelled, Source
from mnistbench.exceptions import DataError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

# MNIST's own names, and the number of dimensions of each array.
FILE_NAMES = {
    "train-images-idx3-ubyte": 3,
    "train-labels-idx1-ubyte": 1,
    "t10k-images-idx3-ubyte": 3,
    "t10k-labels-idx1-ubyte": 1,
}

_FOUR = ", ".join(FILE_NAMES)

# "emnist-digits-train-images-idx3-ubyte (1).gz": what stands before is the flavour, and a browser adds the number.
_IDX_NAME = re.compile(
    r"(?P<flavour>.*?)[-_.]?(?P<part>train|t10k|test)[-_](?P<kind>images|labels)(?P<dot>[-_.])idx[13][-_]ubyte"
    r"(?P<copy> ?\(\d+\))?(?P<gz>\.gz)?(?P<copy_of_gz> ?\(\d+\))?",
    re.IGNORECASE,
)
_CSV_NAME = re.compile(r"(?P<before>.*)train(?P<after>.*\.csv(\.gz|\.zip)?)", re.IGNORECASE)

DEEPEST = 3
"""Number of levels of folders below the given one that are searched."""

MOST_FOLDERS = 1_000
"""Number of folders that are searched."""


@dataclass
class _Flavour:
    """IDX files of one data set in a folder.

    Attributes:
        folder: The folder.
        name: What stands before MNIST's own names: "" or "emnist-digits".
        files: The best file for each of :data:`FILE_NAMES`, with its rank, the lower the better.
    """

    folder: Traversable
    name: str
    files: dict[str, tuple[tuple[object, ...], Traversable]] = field(default_factory=dict)

    def offer(self, usual: str, rank: tuple[object, ...], file: Traversable) -> None:
        """Take a file unless a better one is there."""
        if usual not in self.files or rank < self.files[usual][0]:
            self.files[usual] = (rank, file)


def read_folder(folder: Path, held: bool = True) -> Source:
    """Read a folder of IDX files or of CSV files, or the only folder of IDX files below it.

    Args:
        folder: Path.
        held: Whether images of CSV files are held in memory, as :func:`mnistbench.datasets.csv.open_csv` describes it.

    Raises:
        DataError: If it holds no data set or several, a file is missing or malformed, or two do not belong together.
        OSError: If a file cannot be read.
    """
    if any(_flavours(folder)):
        return read_idx_folder(folder)
    csv_files = [file for file in sorted(folder.iterdir()) if _CSV_NAME.fullmatch(file.name) and file.is_file()]
    if csv_files:
        return _read_csv_folder(folder, csv_files, held)
    below = [inner for inner in _folders_below(folder) if any(_flavours(inner))]
    if len(below) == 1:
        source = read_idx_folder(below[0])
        return replace(source, notes=(f"read from {printable(below[0])}", *source.notes))
    if below:
        inside = listed([str(inner.relative_to(folder)) for inner in below])
        raise DataError(f"{printable(folder)}: holds several data sets ({inside}); give the folder of one of them")
    raise _nothing_in(folder)


def read_idx_folder(folder: Traversable) -> Source:
    """Read the labels of the four files of a folder, each plain or gzip, whatever its name ends in, and their headers.

    Of several files under one of the names, such as ``train-images-idx3-ubyte``, with a dot before ``idx``, ending in
    ``.gz``, or with the ``(1)`` of a browser, the first in this order is read.

    Images are read when they are taken. EMNIST's pictures are turned upright.

    Args:
        folder: Path, or a package's folder.

    Raises:
        DataError: If a file is missing or malformed, two of them do not belong together, or there are several sets.
        OSError: If a file cannot be read.
    """
    files = _four(folder)
    train_images, train_labels, test_images, test_labels = opened = [
        open_idx(file, dimensions) for file, dimensions in zip(files, FILE_NAMES.values(), strict=True)
    ]
    _require_together(opened)
    names = [file.name for file in files]
    copies = [name for name in names if "(" in name]
    notes = [f"read from {listed(copies)}, for want of files without a number"] if copies else []
    _, height, width = train_images.shape
    shape = height, width
    images: list[Images] = [IdxImages(train_images), IdxImages(test_images)]
    if is_emnist(*names):
        notes.append(NOTE)
        images, shape = [Upright(stored, shape) for stored in images], (width, height)
    train, test = map(Labelled, images, (train_labels.read(), test_labels.read()))
    return Source(shape, train, test, tuple(notes))


def _require_together(files: list[IdxFile]) -> None:
    train_images, train_labels, test_images, test_labels = files
    for images, labels in ((train_images, train_labels), (test_images, test_labels)):
        if images.shape[0] != labels.shape[0]:
            raise DataError(
                f"{labels.name}: {labels.shape[0]} labels, but {images.name} holds {images.shape[0]} images"
            )
    own, other = (f"{images.shape[1]} x {images.shape[2]}" for images in (test_images, train_images))
    if own != other:
        raise DataError(f"{test_images.name}: images of {own} pixels, but those in {train_images.name} have {other}")


def _four(folder: Traversable) -> list[Traversable]:
    """Return the files of a folder in the order of :data:`FILE_NAMES`."""
    flavours = _flavours(folder)
    if len(flavours) > 1:
        names = listed([flavour.name or "MNIST's own names" for flavour in flavours])
        raise DataError(f"{printable(folder)}: holds several data sets ({names}); give a folder with the files of one")
    for flavour in flavours:
        for name in FILE_NAMES:
            if name not in flavour.files:
                _require_no_folder(folder, name)
                own = f"{flavour.name}-{name.replace('t10k', 'test')}" if flavour.name else name
                raise DataError(f"{printable(folder)}: {_missing(own)}; a data set folder holds {_FOUR}")
        return [flavour.files[name][1] for name in FILE_NAMES]
    raise _nothing_in(folder)


def _flavours(folder: Traversable) -> list[_Flavour]:
    """Return the data sets of which a folder has IDX files."""
    found: dict[str, _Flavour] = {}
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        match = _IDX_NAME.fullmatch(file.name)
        if not match:
            continue
        part = "train" if match["part"].casefold() == "train" else "t10k"
        usual = next(name for name in FILE_NAMES if name.startswith(f"{part}-{match['kind'].casefold()}"))
        copy = match["copy"] or match["copy_of_gz"] or ""
        rank = (len(copy), copy, match["dot"] == ".", bool(match["gz"]), file.name)
        flavour = match["flavour"].casefold()
        own = found.setdefault(flavour, _Flavour(folder, flavour))
        if file.is_file():
            own.offer(usual, (0, *rank), file)
        else:  # unpacked into a folder of its own name
            for inner in file.iterdir():
                if inner.name == file.name and inner.is_file():
                    own.offer(usual, (1, *rank), inner)
    return [found[flavour] for flavour in sorted(found)]


def _require_no_folder(folder: Traversable, name: str) -> None:
    """Raise a DataError if there is a folder in a missing file's place."""
    for end in ("", ".gz"):
        for spelling in (name, name.replace("-idx", ".idx")):
            place = folder.joinpath(spelling + end)
            if place.is_dir():
                raise DataError(f"{printable(place)}: a folder, where a file should be")


def _folders_below(folder: Path) -> Iterator[Path]:
    """Yield the folders below one, the nearest first, not hidden ones, not through links, and not endlessly many."""
    level, left = [folder], MOST_FOLDERS
    for _ in range(DEEPEST):
        inner: list[Path] = []
        for outer in level:
            try:
                inside = sorted(path for path in outer.iterdir() if not path.name.startswith("."))
                inner += [
                    path
                    for path in inside
                    if path.is_dir() and not path.is_symlink() and not _IDX_NAME.fullmatch(path.name)
                ]
            except PermissionError:
                continue
        yield from inner[:left]
        left -= len(inner)
        level = inner
        if left <= 0:
            return


def _read_csv_folder(folder: Path, files: list[Path], held: bool) -> Source:
    """Read the file of a folder with "train" in its name and, if it has labels, its twin with "test"."""
    if len(files) > 1:
        raise DataError(f"{printable(folder)}: holds {listed([file.name for file in files])}; give one of the files")
    (file,) = files
    match = _CSV_NAME.fullmatch(file.name)
    assert match
    source = read_labelled_csv(file, held)
    twins = [file.with_name(f"{match['before']}{word}{match['after']}") for word in ("test", "Test", "TEST")]
    twin = next((path for path in twins if path.is_file()), None)
    notes = [f"{file.name}: {source.notes[0]}"]
    if twin is None:
        return replace(source, notes=tuple(notes))
    table = open_csv(twin, held=held)
    if table.image_shape != source.image_shape:
        own, other = (f"{height} x {width}" for height, width in (table.image_shape, source.image_shape))
        raise DataError(f"{printable(twin)}: images of {own} pixels, but those in {printable(file)} have {other}")
    if table.labels is None:
        notes.append(f"{twin.name} has no labels and is no test set; 'predict' reads it")
        return replace(source, notes=tuple(notes), unlabelled=twin)
    notes.append(f"{twin.name}: {table.understood}")
    return replace(source, test=Labelled(table.images, table.labels), notes=tuple(notes))


def read_labelled_csv(path: Path, held: bool = True) -> Source:
    """Read a CSV file with labels.

    Args:
        path: File.
        held: Whether its images are held in memory, as :func:`mnistbench.datasets.csv.open_csv` describes it.

    Raises:
        UnlabelledData: If it has none.
        DataError: If the file is malformed or its meaning in doubt.
        OSError: If the file cannot be read.
    """
    table = open_csv(path, needs_labels=True, held=held)
    assert table.labels is not None
    return Source(table.image_shape, Labelled(table.images, table.labels), None, (table.understood,))


def _nothing_in(folder: Traversable) -> DataError:
    """Return the error of a folder without a data set, which names what else it holds."""
    names = sorted(file.name for file in folder.iterdir())
    single = [name for name in names if name.casefold().endswith((".csv", ".npz", ".csv.gz", ".zip"))]
    if single:
        cure = f"it holds {listed(single)}; give the file itself"
    else:
        cure = f"a data set folder holds {_FOUR}, or train.csv"
    return DataError(f"{printable(folder)}: {_missing(next(iter(FILE_NAMES)))}; {cure}")


def _missing(name: str) -> str:
    return f"has no file {name} (nor {name}.gz, nor {name.replace('-idx', '.idx')})"
