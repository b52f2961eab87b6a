"""The CSV file of Kaggle's digit-recognizer competition: a label and 784 pixels per row.

Lines are counted here and their cells parsed by pandas, whose own line and column numbers are unreliable: it skips
blank lines, makes extra fields an index and renames repeated columns silently. It is imported on first use, since that
takes longer than loading the embedded data set.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import math
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnistbench.datasets.content import decompressed, printable
from mnistbench.exceptions import DataError

IMAGE_SHAPE = (28, 28)
COLUMNS = ("label", *(f"pixel{pixel}" for pixel in range(math.prod(IMAGE_SHAPE))))

# The network has an output for each class: a typing error in one label must not ask for a billion of them.
LARGEST_LABEL = 65_535
LARGEST = np.array([LARGEST_LABEL] + [255] * (len(COLUMNS) - 1), np.float64)

# Lines parsed at a time; as float64 they take 13 MB, while a whole train.csv takes 264 MB.
CHUNK_LINES = 2_048

OTHER_FORMATS = {
    b"PK\x03\x04": "a zip archive; unpack it, and give the train.csv in it",
    b"\0\0": "an IDX file, by its first bytes; give the folder that holds all four of them",
}

Line = tuple[int, bytes]


def read_csv(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read a file whose header is exactly ``label,pixel0,...,pixel783``, plain or gzip.

    Cells are whole numbers, which may be written as floats (``5.0``): labels from 0 to 65,535, pixels from 0 to 255.
    Lines may end in LF, CRLF or CR; blank lines are skipped.

    Returns:
        Images (m, 784) and labels (m,), in the order of the file; m is at least 1.

    Raises:
        DataError: If the file is malformed; the message names the line (the header is line 1) and column.
        OSError: If the file cannot be read.
    """
    name = printable(path)
    (header_line, header), *rows = text_lines(decompressed(path.read_bytes(), name, sys.maxsize), name)
    check_header(header, f"{name}: line {header_line}")
    if not rows:
        raise DataError(f"{name}: has a header, but no rows")
    for line, row in rows:
        fields = row.count(b",") + 1
        if fields != len(COLUMNS):
            raise DataError(f"{name}: line {line}: {fields} fields, but the header has {len(COLUMNS)}")
    images = np.empty((len(rows), len(COLUMNS) - 1), np.uint8)
    labels = np.empty(len(rows), np.int64)
    for start in range(0, len(rows), CHUNK_LINES):
        chunk = rows[start : start + CHUNK_LINES]
        values = parse_rows([row for _, row in chunk])
        check_values(values, chunk, name)
        labels[start : start + len(chunk)] = values[:, 0]
        images[start : start + len(chunk)] = values[:, 1:]
    return images, labels


def text_lines(content: bytes, name: str) -> list[Line]:
    """Split into lines; return those that are not blank, each with its number."""
    for magic, kind in OTHER_FORMATS.items():
        if content.startswith(magic):
            raise DataError(f"{name}: not a CSV file but {kind}")
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        content.decode()
        bad = content.find(b"\0")  # pandas may take it for the end of a cell
    except UnicodeDecodeError as error:
        bad = error.start
    if bad >= 0:
        line = len(content[: bad + 1].splitlines())
        raise DataError(f"{name}: line {line}: not UTF-8 text; save it as CSV in UTF-8")
    lines = [(line, row) for line, row in enumerate(content.splitlines(), 1) if row.strip()]
    if not lines:
        raise DataError(f"{name}: the file is empty")
    return lines


def check_header(header: bytes, where: str) -> None:
    """Raise a DataError that names the first column that is missing, extra or out of place."""
    names = header.decode().split(",")
    if names == list(COLUMNS):
        return
    place, (found, expected) = next(
        (place, pair) for place, pair in enumerate(itertools.zip_longest(names, COLUMNS), 1) if pair[0] != pair[1]
    )
    if expected is not None and expected not in names:
        problem = f"column {expected!r} is missing"
    elif found not in COLUMNS or found in names[: place - 1]:
        problem = f"column {place}, {shown(found)}, is one too many"
    else:
        problem = f"column {place} is {found!r}, not {expected!r}"
    raise DataError(f"{where}: {problem}; the header must be {COLUMNS[0]},{COLUMNS[1]},...,{COLUMNS[-1]}")


def parse_rows(rows: list[bytes]) -> NDArray[np.float64]:
    """Parse rows of ``len(COLUMNS)`` fields into an array (rows, fields), with NaN for cells that are not numbers."""
    import pandas as pd

    try:
        text = io.BytesIO(b"\n".join(rows))
        return pd.read_csv(text, header=None, dtype=np.float64, quoting=csv.QUOTE_NONE, na_filter=False).to_numpy()
    except ValueError:  # some cell is not a number; pandas does not say which
        return np.array([[parse_cell(cell) for cell in row.split(b",")] for row in rows])


def parse_cell(cell: bytes) -> float:
    """Parse a cell; NaN if it is not a number. Underscores, which Python allows, are refused."""
    try:
        return math.nan if b"_" in cell else float(cell)
    except ValueError:
        return math.nan


def check_values(values: NDArray[np.float64], lines: list[Line], name: str) -> None:
    """Raise a DataError that names the first cell that is not a whole number from 0 to the largest allowed."""
    good = (values >= 0) & (values <= LARGEST) & (values == np.floor(values))
    if good.all():
        return
    row, column = (int(index) for index in np.argwhere(~good)[0])
    line, text = lines[row]
    cell = text.split(b",")[column].decode()
    found = shown(cell) if cell.strip() else "an empty cell"
    raise DataError(
        f"{name}: line {line}, column {COLUMNS[column]!r}: {found}, not a whole number from 0 to {LARGEST[column]:.0f}"
    )


def shown(text: str) -> str:
    """Quote a cell for a message; of a long one, the beginning."""
    return repr(text if len(text) <= 40 else text[:37] + "...")
