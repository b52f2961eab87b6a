"""IDX files, the format in which MNIST was published.

An IDX file has a header and then the elements, row-major. Numbers in the header are big-endian::

    byte 0, 1   zero
    byte 2      type of an element; 0x08 is an unsigned byte
    byte 3      number of dimensions d
    byte 4 ...  d sizes of 4 bytes each

Source: "The MNIST database of handwritten digits", Y. LeCun, C. Cortes, C. J. C. Burges.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from mnistbench.datasets.content import DEFLATE_RATIO, GZIP_MAGIC, blocks, printable
from mnistbench.datasets.formats import FIRST_BYTES, refuse_other
from mnistbench.datasets.images import Images, Places
from mnistbench.exceptions import DataError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

ELEMENT_TYPES = {
    0x08: "unsigned bytes",
    0x09: "signed bytes",
    0x0B: "16-bit integers",
    0x0C: "32-bit integers",
    0x0D: "32-bit floats",
    0x0E: "64-bit floats",
}
UNSIGNED_BYTE = 0x08

MAPPED = 1 << 28
"""Number of bytes from which on a plain file is mapped into memory where all of it is asked for, not read."""

PART = 1 << 22
"""Number of bytes of images read at a time, or of a single larger image."""


@dataclass(frozen=True)
class IdxFile:
    """An IDX file of unsigned bytes of which the header is read.

    Attributes:
        file: Path, or resource of a package.
        name: Its name in messages.
        shape: (m, height, width) of images, (m,) of labels; no size is 0.
        packed: Whether the file is gzip.
    """

    file: Traversable
    name: str
    shape: tuple[int, ...]
    packed: bool

    @property
    def start(self) -> int:
        """Number of bytes of the header."""
        return 4 + 4 * len(self.shape)

    def read(self) -> NDArray[np.uint8]:
        """Return the elements in an array of their shape.

        A large plain file is mapped: a page of it takes memory once it is used, and writing changes the array alone.

        Raises:
            DataError: If the file is malformed; the message names the byte, counted after decompression.
            OSError: If the file cannot be read.
        """
        count = math.prod(self.shape)
        if not self.packed and count >= MAPPED and isinstance(self.file, Path):
            # Its size was compared with the header's.
            return np.memmap(self.file, np.uint8, "c", self.start, self.shape).view(np.ndarray)
        found = np.empty(count, np.uint8)
        for _ in self.fill(found):
            pass
        return found.reshape(self.shape)

    def fill(self, space: NDArray[np.uint8]) -> Iterator[int]:
        """Read all elements in their order into the same memory, again and again.

        Args:
            space: (k,) elements.

        Yields:
            Number of elements now in ``space``, from its beginning: k, except at the end of the file.

        Raises:
            DataError, OSError: As :meth:`read` does.
        """
        count, done, filled = math.prod(self.shape), 0, 0
        header = self.start
        with _opened(self.file) as file:
            for block in blocks(file, self.name):
                rest = np.frombuffer(block, np.uint8)[header:]
                header = max(0, header - len(block))
                done += len(rest)
                if done > count:
                    raise DataError(self._goes_on())
                while len(rest):
                    piece = rest[: len(space) - filled]
                    space[filled : filled + len(piece)] = piece
                    filled, rest = filled + len(piece), rest[len(piece) :]
                    if filled == len(space):
                        yield filled
                        filled = 0
        if done < count:
            raise DataError(self.ends(self.start + done))
        if filled:
            yield filled

    def check_size(self, stored: int) -> None:
        """Raise a DataError if a file of ``stored`` bytes cannot hold what its header asks for."""
        end = self.start + math.prod(self.shape)
        if self.packed and end > DEFLATE_RATIO * stored:
            raise DataError(
                f"{self.name}: its header asks for {elements(self.shape)}, {end} bytes, which {stored} bytes of gzip "
                "data cannot hold; get the file again"
            )
        if not self.packed and stored < end:
            raise DataError(self.ends(stored))
        if not self.packed and stored > end:
            raise DataError(self._goes_on())

    def ends(self, byte: int) -> str:
        """Say that the file ends too early, at a byte."""
        end = self.start + math.prod(self.shape)
        return f"{self.name}: ends at byte {byte}, but its header asks for {elements(self.shape)}, {end} bytes"

    def _goes_on(self) -> str:
        end = self.start + math.prod(self.shape)
        return f"{self.name}: goes on at byte {end}, where its header says that it ends ({elements(self.shape)})"


@dataclass(frozen=True, eq=False)
class IdxImages(Images):
    """Images of an IDX file; of a plain file, only blocks with images that are asked for are read.

    They are read, not mapped: a page of a mapped file counts as memory of every rank that has touched it.

    Attributes:
        source: The file.
    """

    source: IdxFile

    @property
    def shape(self) -> tuple[int, int]:
        """Number of images, and number of pixels of each."""
        count, height, width = self.source.shape
        return count, height * width

    def read(self) -> NDArray[np.uint8]:
        """Return all images, (m, pixels), as :meth:`IdxFile.read` does."""
        return self.source.read().reshape(self.shape)

    def parts(self, places: Places) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield images some at a time; of a gzip file all, so that its checksum is verified."""
        _, pixels = self.shape
        together = max(1, PART // pixels)
        return self._unpacked(together) if self.source.packed else self._seeking(places, together)

    def _unpacked(self, together: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        count, pixels = self.shape
        part, first = np.empty((min(count, together), pixels), np.uint8), 0
        for filled in self.source.fill(part.reshape(-1)):
            yield first, part[: filled // pixels]
            first += filled // pixels

    def _seeking(self, places: Places, together: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        _, pixels = self.shape
        with _opened(self.source.file) as file:
            while len(places):
                first = int(places[0])
                end = np.searchsorted(places, first + together)
                size = (int(places[end - 1]) + 1 - first) * pixels
                begin = file.seek(self.source.start + first * pixels)
                content = file.read(size)
                if len(content) < size:
                    raise DataError(self.source.ends(begin + len(content)))
                yield first, np.frombuffer(content, np.uint8).reshape(-1, pixels)
                places = places[end:]


def open_idx(file: Traversable, dimensions: int) -> IdxFile:
    """Read the header of an IDX file of unsigned bytes, plain or gzip, and compare it with the file's size.

    Args:
        file: Path, or resource of a package.
        dimensions: 3 for images (m, height, width), 1 for labels (m,).

    Raises:
        DataError: If the header is malformed, or asks for what the file cannot hold.
        OSError: If the file cannot be read.
    """
    name = printable(file)
    with _opened(file) as stream:
        packed = stream.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        stored = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        header = b""
        for block in blocks(stream, name):
            header += block
            if len(header) >= FIRST_BYTES:
                break
    found = IdxFile(file, name, parse_header(header, name, dimensions), packed)
    found.check_size(stored)
    return found


def read_idx(file: Traversable, dimensions: int) -> NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes, plain or gzip, as :func:`open_idx` and :meth:`IdxFile.read` describe it."""
    return open_idx(file, dimensions).read()


def is_idx(path: Path) -> bool:
    """Return whether a file, plain or gzip, starts as an IDX file does."""
    with path.open("rb") as file:
        return next(blocks(file, printable(path)), b"").startswith(b"\0\0")


def _opened(file: Traversable) -> BinaryIO:
    return cast(BinaryIO, file.open("rb"))


def parse_header(header: bytes, name: str, dimensions: int) -> tuple[int, ...]:
    """Return the sizes in an IDX header of unsigned bytes with this number of dimensions."""
    if not header:
        raise DataError(f"{name}: the file is empty")
    expected = bytes([0, 0, UNSIGNED_BYTE, dimensions])
    if not header.startswith(b"\0\0"):
        refuse_other(header, name, "an IDX file")
    if len(header) < 4 or not header.startswith(b"\0\0"):
        raise DataError(
            f"{name}: byte 0: not an IDX file: it starts with {header[:4].hex(' ')}, not {expected.hex(' ')}"
        )
    if header[2] != UNSIGNED_BYTE:
        kind = ELEMENT_TYPES.get(header[2], "an unknown type")
        raise DataError(f"{name}: byte 2: elements of type 0x{header[2]:02x} ({kind}), not 0x08 (unsigned bytes)")
    if header[3] != dimensions:
        meant = {1: "labels have 1", 3: "images have 3"}[dimensions]
        raise DataError(f"{name}: byte 3: {header[3]} dimensions, but {meant}")
    if len(header) < 4 + 4 * dimensions:
        raise DataError(f"{name}: ends at byte {len(header)}, inside the header of {4 + 4 * dimensions} bytes")
    shape = struct.unpack_from(f">{dimensions}I", header, 4)
    if 0 in shape:
        raise DataError(f"{name}: byte {4 + 4 * shape.index(0)}: a size of 0: the file holds {elements(shape)}")
    return shape


def elements(shape: tuple[int, ...]) -> str:
    """Say what a file of this shape holds."""
    return f"{shape[0]} labels" if len(shape) == 1 else f"{shape[0]} images of {shape[1]} x {shape[2]} pixels"
