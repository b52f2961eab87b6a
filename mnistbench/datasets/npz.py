"""Keras' ``mnist.npz``: the arrays x_train, y_train, x_test and y_test in a zip archive.

The header of an array decides what of it is unpacked. Arrays of objects would be pickles, which can run any program
when they are read, and are refused.
"""

from __future__ import annotations

import math
import sys
import tokenize
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mnistbench.datasets.archives import archive, is_zip, require_readable
from mnistbench.datasets.arrays import CHUNK, as_labels, as_pictures, checked, numbered, require_same_shape
from mnistbench.datasets.content import listed, printable
from mnistbench.datasets.images import Images, Places
from mnistbench.datasets.source import Labelled, Source
from mnistbench.exceptions import DataError

LONGEST_HEADER = 10_000
"""Largest number of characters of an array's header."""


@dataclass(frozen=True)
class _Member:
    """An array in the archive, of which the header is read.

    Attributes:
        info: Its place in the archive.
        name: Its name in messages: "mnist.npz: x_train".
        shape: Sizes; those of an array in Fortran order are turned round.
        dtype: Type of an element.
        fortran: Whether the elements are stored in columns.
        start: Number of bytes before the first element.
    """

    info: zipfile.ZipInfo
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    start: int


@dataclass(frozen=True, eq=False)
class NpzImages(Images):
    """Images in an archive. All are unpacked and checked, whichever are asked for.

    Attributes:
        path: Archive.
        member: Their array.
    """

    path: Path
    member: _Member

    @property
    def shape(self) -> tuple[int, int]:
        """Number of images, and number of pixels of each."""
        count, *sizes = self.member.shape
        return count, math.prod(sizes)

    def parts(self, places: Places) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield images some at a time; of an array in Fortran order, which has none of them in one piece, all."""
        first = 0
        with self.path.open("rb") as file, archive(file, printable(self.path)) as found:
            for part in checked(_parts(found, self.member), self.member.name):
                yield first, part
                first += len(part)


def is_npz(path: Path) -> bool:
    """Return whether a file is a zip archive of NumPy's arrays.

    Raises:
        DataError: If it is a zip archive that is damaged.
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        if not is_zip(file):
            return False
        with archive(file, printable(path)) as found:
            return any(name.endswith(".npy") for name in found.namelist())


def read_npz(path: Path) -> Source:
    """Read the labels y_train and, if there is a test set, y_test; x_train and x_test are read when they are taken.

    Raises:
        DataError: If an array is missing, of objects, or does not belong to the others, or labels are malformed.
        OSError: If the file cannot be read.
    """
    name = printable(path)
    with path.open("rb") as file, archive(file, name) as found:
        members = {info.filename.removesuffix(".npy").casefold(): info for info in found.infolist()}
        test = "x_test" in members or "y_test" in members
        wanted = ("x_train", "y_train", *(("x_test", "y_test") if test else ()))
        missing = [key for key in wanted if key not in members]
        if missing:
            inside = listed([info.filename.removesuffix(".npy") for info in members.values()])
            raise DataError(f"{name}: has no array {missing[0]}, only {inside}; save {', '.join(wanted)}")
        heads = {key: _header(found, members[key], f"{name}: {key}") for key in wanted}
        for images, labels in zip(wanted[::2], wanted[1::2], strict=True):
            if heads[images].shape[0] != heads[labels].shape[0]:
                counts = f"{heads[labels].shape[0]} labels, but {heads[images].shape[0]} images"
                raise DataError(f"{name}: {labels}: {counts} in {images}; give one label an image")
        tested = _labels(found, heads["y_test"]) if test else None
        targets, tested, names = numbered(_labels(found, heads["y_train"]), tested, name)

        shapes = {images: _picture_shape(heads[images]) for images in wanted[::2]}
        require_same_shape(shapes[wanted[-2]], shapes["x_train"], f"{name}: x_test")
    _, height, width = shapes["x_train"]
    split = None if tested is None else Labelled(NpzImages(path, heads["x_test"]), tested)
    return Source((height, width), Labelled(NpzImages(path, heads["x_train"]), targets), split, class_names=names)


def _header(found: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> _Member:
    """Read the header of an array, and check that the archive can hold as many elements as it says."""
    require_readable(info, name)
    with found.open(info) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a damaged header is evaluated as Python, of which the parser may complain
        try:
            version = npy.read_magic(file)
            read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
            shape, fortran, dtype = read(file, max_header_size=LONGEST_HEADER)
        except (ValueError, KeyError, SyntaxError, TypeError, RecursionError, tokenize.TokenError) as error:
            raise DataError(f"{name}: not an array in NumPy's format; save it again by numpy.savez") from error
        start = file.tell()
    if dtype.hasobject:
        raise DataError(
            f"{name}: an array of objects, a pickle, which can run any program when it is read; save numbers instead"
        )
    if dtype.kind not in "biufU":
        raise DataError(f"{name}: elements of type {dtype}, not numbers; save numbers instead")
    if not shape or not dtype.itemsize or any(size < 1 for size in shape):
        raise DataError(f"{name}: shape {shape}: no element; save images of shape (m, height, width) and labels (m,)")
    size, held = math.prod(shape) * dtype.itemsize, info.file_size - start
    if size != held:
        asked = f"{size:,}" if size < 1 << 63 else "more than any file has"
        raise DataError(f"{name}: {held:,} bytes, but its header asks for {asked}; get the file again")
    return _Member(info, name, shape, dtype, fortran, start)


def _elements(file: IO[bytes], member: _Member, shape: tuple[int, ...]) -> NDArray[Any]:
    """Read the next elements of an array into a new one."""
    array = np.empty(shape, member.dtype)
    view = memoryview(array.reshape(-1).view(np.uint8).data)
    while view:
        taken = file.readinto(view)  # type: ignore[attr-defined]
        if not taken:
            raise DataError(f"{member.name}: ends early; get the file again")
        view = view[taken:]
    return array


def _whole(found: zipfile.ZipFile, member: _Member) -> NDArray[Any]:
    """Read a whole array."""
    with found.open(member.info) as file:
        file.read(member.start)
        if member.fortran:
            return _elements(file, member, member.shape[::-1]).T
        return _elements(file, member, member.shape)


def _labels(found: zipfile.ZipFile, member: _Member) -> NDArray[Any]:
    if len(member.shape) > 2:
        raise DataError(f"{member.name}: shape {member.shape}: give one label for each image, (m,)")
    labels = _whole(found, member)
    if member.dtype.kind == "U":  # turning other numbers into text is an error of the interpreter
        codes = np.ascontiguousarray(labels).reshape(-1).view(f"{member.dtype.byteorder}u4")
        if codes.max() > sys.maxunicode:
            raise DataError(f"{member.name}: texts that are not Unicode; get the file again")
    return as_labels(labels, member.name)


def _picture_shape(member: _Member) -> tuple[int, ...]:
    """Return the shape (m, height, width) of images, of which nothing is read."""
    empty = np.broadcast_to(np.zeros((), member.dtype), member.shape)  # one element in memory
    return as_pictures(empty, member.name, member.shape[0]).shape


def _parts(found: zipfile.ZipFile, member: _Member) -> Iterator[NDArray[Any]]:
    """Yield the images some at a time; of an array in Fortran order, which has none of them in one piece, all."""
    if member.fortran:
        yield _whole(found, member)
        return
    with found.open(member.info) as file:
        file.read(member.start)
        for first in range(0, member.shape[0], CHUNK):
            yield _elements(file, member, (min(CHUNK, member.shape[0] - first), *member.shape[1:]))
