"""Values of the cells of a CSV file: whole numbers, checked, and told by their place if they are not."""

from __future__ import annotations

import math
import re

import numpy as np
from numpy.typing import NDArray

from mnistbench.datasets.content import shown
from mnistbench.datasets.csv.layout import LARGEST_PIXEL, Layout
from mnistbench.datasets.csv.lines import Row
from mnistbench.datasets.source import LARGEST_LABEL
from mnistbench.exceptions import DataError

MOST_DIGITS = 9
"""Largest number of digits of a cell that is read as an int32."""

Values = NDArray[np.int32] | NDArray[np.float64]


def read_values(rows: list[Row], layout: Layout, name: str) -> Values:
    """Return the values of rows, (rows, columns): labels and pixels are whole numbers within their limits.

    A value may be written as a float, ``5.0``, and in quotes. Columns that the layout ignores hold anything.

    Args:
        rows: Rows of the file, at least one.
        layout: Meaning of the columns.
        name: Name of the file, for messages.

    Raises:
        DataError: If a row has another number of cells than the first, or a cell another value; the message names the
            line and column.
    """
    separator = layout.separator.encode()
    texts = [row.text for row in rows]
    if any(b'"' in text for text in texts):
        # Only quotes around a whole cell; any other is left, and refused as no number.
        quoted = re.compile(rb'(?:^|(?<=%b))"([^"%b]*)"(?=%b|$)' % ((re.escape(separator),) * 3))
        texts = [quoted.sub(rb"\1", text) for text in texts]
    wanted = layout.columns - 1
    for (line, _), text in zip(rows, texts, strict=True):
        if text.count(separator) != wanted:
            start = "the header" if layout.names else "the first row"
            raise DataError(
                f"{name}: line {line}: {text.count(separator) + 1} fields, but {start} has {layout.columns}"
            )
    values: Values | None = _digits(texts, layout)
    if values is None:
        values = _floats(texts, layout)
    if not _fits(values, layout):
        _refuse_cell(values, texts, rows, layout, name)
    return values


def _digits(texts: list[bytes], layout: Layout) -> NDArray[np.int32] | None:
    """Parse cells that all are 1 to :data:`MOST_DIGITS` digits, or these and ``.0``; return None if one is not.

    The digits of all cells are added up place by place: units first, then the tens of the cells that have them.
    """
    text = b"\n".join([*texts, b""])
    if b"." in text:  # whole numbers as pandas writes floats
        separator = layout.separator.encode()
        text = text.replace(b".0" + separator, separator).replace(b".0\n", b"\n")
    content = np.frombuffer(text, np.uint8)
    digits = content - np.uint8(ord("0"))
    ends = np.flatnonzero(digits > 9)
    lengths = np.diff(ends, prepend=-1) - 1
    if len(ends) != len(texts) * layout.columns or lengths.min() < 1 or lengths.max() > MOST_DIGITS:
        return None
    values = digits[ends - 1].astype(np.int32)
    longer = np.flatnonzero(lengths > 1)
    for place in range(1, int(lengths.max())):
        values[longer] += digits[ends[longer] - 1 - place] * np.int32(10**place)
        longer = longer[lengths[longer] > place + 1]
    return values.reshape(len(texts), layout.columns)


def _floats(texts: list[bytes], layout: Layout) -> NDArray[np.float64]:
    """Parse cells as floats, with NaN for what is none, and 0 in the columns that the layout ignores."""
    used = [column for column in range(layout.columns) if column not in layout.ignored]
    values = np.zeros((len(texts), layout.columns))
    separator = layout.separator
    # loadtxt's idea of a number is wider than Python's outside of ASCII.
    if all(text.isascii() and b"_" not in text for text in texts):
        lines = [text.decode() for text in texts]
        try:
            values[:, used] = np.loadtxt(lines, delimiter=separator, comments=None, usecols=used, ndmin=2)
            return values
        except ValueError:  # some cell is not a number; the message would not say which, counted as here
            pass
    for row, text in enumerate(texts):
        cells = text.split(separator.encode())
        values[row, used] = [_number(cells[column]) for column in used]
    return values


def _number(cell: bytes) -> float:
    """Parse a cell; NaN if it is not a number. Underscores, which Python allows, are refused."""
    try:
        return math.nan if b"_" in cell else float(cell)
    except ValueError:
        return math.nan


def _fits(values: Values, layout: Layout) -> bool:
    """Return whether all values are allowed, quickly where they are int32, which are at least 0."""
    if values.dtype == np.int32:
        label = 0 if layout.label is None else values[:, layout.label].max()
        return bool(values[:, pixel_columns(layout)].max() <= LARGEST_PIXEL and label <= LARGEST_LABEL)
    return bool(_good(values, layout).all())


def _good(values: Values, layout: Layout) -> NDArray[np.bool_]:
    good: NDArray[np.bool_] = (values >= 0) & (values <= layout.largest) & (values == np.floor(values))
    return good


def pixel_columns(layout: Layout) -> slice | NDArray[np.intp]:
    """Return the index of the pixels' columns, a slice if they follow each other."""
    first, last = int(layout.pixels[0]), int(layout.pixels[-1])
    return slice(first, last + 1) if (np.diff(layout.pixels) == 1).all() else layout.pixels


def _refuse_cell(values: Values, texts: list[bytes], rows: list[Row], layout: Layout, name: str) -> None:
    """Raise a DataError that names the first cell that is not a whole number from 0 to the largest allowed."""
    row, column = (int(index) for index in np.argwhere(~_good(values, layout))[0])
    cell = texts[row].split(layout.separator.encode())[column].decode()
    found = shown(cell) if cell.strip() else "an empty cell"
    largest = LARGEST_LABEL if column == layout.label else LARGEST_PIXEL
    cure = ""
    pixels = values[:, layout.pixels]
    if column != layout.label and 0 < values[row, column] < 1 and (pixels <= 1).all() and (pixels >= 0).all():
        cure = "; the pixels are from 0 to 1: multiply them by 255 and round, or get the original file"
    raise DataError(
        f"{name}: line {rows[row].line}, column {layout.place(column)}: {found}, "
        f"not a whole number from 0 to {largest}{cure}"
    )
