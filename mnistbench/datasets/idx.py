"""IDX files, the format in which MNIST was published, and folders of four such files.

An IDX file has a header and then the elements, row-major. Numbers in the header are big-endian::

    byte 0, 1   zero
    byte 2      type of an element; 0x08 is an unsigned byte
    byte 3      number of dimensions d
    byte 4 ...  d sizes of 4 bytes each

Source: "The MNIST database of handwritten digits", Y. LeCun, C. Cortes, C. J. C. Burges.
"""

from __future__ import annotations

import math
import struct
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mnistbench.datasets.content import decompressed, printable
from mnistbench.exceptions import DataError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

# The usual names, in the order of IdxFolder's fields, and the number of dimensions of each array.
FILE_NAMES = {
    "train-images-idx3-ubyte": 3,
    "train-labels-idx1-ubyte": 1,
    "t10k-images-idx3-ubyte": 3,
    "t10k-labels-idx1-ubyte": 1,
}

ELEMENT_TYPES = {
    0x08: "unsigned bytes",
    0x09: "signed bytes",
    0x0B: "16-bit integers",
    0x0C: "32-bit integers",
    0x0D: "32-bit floats",
    0x0E: "64-bit floats",
}
UNSIGNED_BYTE = 0x08


@dataclass(frozen=True, eq=False)
class IdxFolder:
    """Content of the four files: images (m, height, width) and labels (m,), all uint8, read-only views."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.uint8]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.uint8]


def read_folder(folder: Traversable) -> IdxFolder:
    """Read the four files of a folder, each plain or gzip, whatever its name ends in.

    A file may be called ``train-images-idx3-ubyte`` or ``train-images.idx3-ubyte``, with or without ``.gz``. If there
    are several, the first in the order plain, plain ``.gz``, dotted, dotted ``.gz`` is read.

    Raises:
        DataError: If a file is missing or malformed, or two of them do not belong together.
        OSError: If a file cannot be read.
    """
    files = [find_file(folder, name) for name in FILE_NAMES]
    train_images, train_labels, test_images, test_labels = map(read_idx, files, FILE_NAMES.values())
    names = [printable(file) for file in files]
    for images, labels, (images_name, labels_name) in (
        (train_images, train_labels, names[:2]),
        (test_images, test_labels, names[2:]),
    ):
        if len(images) != len(labels):
            raise DataError(f"{labels_name}: {len(labels)} labels, but {images_name} holds {len(images)} images")
    if test_images.shape[1:] != train_images.shape[1:]:
        raise DataError(
            f"{names[2]}: images of {_size(test_images)} pixels, but those in {names[0]} have {_size(train_images)}"
        )
    return IdxFolder(train_images, train_labels, test_images, test_labels)


def find_file(folder: Traversable, name: str) -> Traversable:
    """Return the file of a folder whose name is one of the spellings of ``name``."""
    dotted = name.replace("-idx", ".idx")
    spellings = [folder.joinpath(spelling) for spelling in (name, f"{name}.gz", dotted, f"{dotted}.gz")]
    for file in spellings:
        if file.is_file():
            return file
    for file in spellings:
        if file.is_dir():
            raise DataError(f"{printable(file)}: a folder, where a file should be")
    raise DataError(
        f"{printable(folder)}: has no file {name} (nor {name}.gz, nor {dotted}); "
        f"a data set folder holds {', '.join(FILE_NAMES)}"
    )


def read_idx(file: Traversable, dimensions: int) -> NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes, plain or gzip.

    Args:
        file: Path, or resource of a package.
        dimensions: 3 for images (m, height, width), 1 for labels (m,).

    Returns:
        Read-only array of the shape in the header, in which no size is 0.

    Raises:
        DataError: If the file is malformed; the message names the byte, counted after decompression.
        OSError: If the file cannot be read.
    """
    name = printable(file)
    stored = file.read_bytes()
    header_bytes = 4 + 4 * dimensions
    header = decompressed(stored, name, header_bytes)
    shape = parse_header(header, name, dimensions)
    # Nothing is allocated from the header's sizes until that many elements are found.
    end = header_bytes + math.prod(shape)
    content = decompressed(stored, name, min(end + 1, sys.maxsize))
    if len(content) < end:
        raise DataError(f"{name}: ends at byte {len(content)}, but its header asks for {_elements(shape)}, {end} bytes")
    if len(content) > end:
        raise DataError(f"{name}: goes on at byte {end}, where its header says that it ends ({_elements(shape)})")
    return np.frombuffer(content, np.uint8, offset=header_bytes).reshape(shape)


def parse_header(header: bytes, name: str, dimensions: int) -> tuple[int, ...]:
    """Return the sizes in an IDX header of unsigned bytes with this number of dimensions."""
    if not header:
        raise DataError(f"{name}: the file is empty")
    expected = bytes([0, 0, UNSIGNED_BYTE, dimensions])
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
        raise DataError(f"{name}: byte {4 + 4 * shape.index(0)}: a size of 0: the file holds {_elements(shape)}")
    return shape


def _elements(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} labels" if len(shape) == 1 else f"{shape[0]} images of {shape[1]} x {shape[2]} pixels"


def _size(images: NDArray[np.uint8]) -> str:
    return f"{images.shape[1]} x {images.shape[2]}"
