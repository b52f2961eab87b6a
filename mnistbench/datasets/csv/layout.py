"""Which column of a CSV file holds what: understood from its first row, and refused where that is in doubt."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnistbench.datasets.content import listed, shown
from mnistbench.datasets.source import LARGEST_LABEL
from mnistbench.exceptions import DataError

SEPARATORS = (",", ";", "\t", "|", " ")
"""Characters that may separate cells; the first of those that are most frequent in the first row does."""

MOST_COLUMNS = 66_000
"""Largest number of columns: those of pictures of 256 x 256 pixels, and some more. Names of millions take seconds."""

LARGEST_PIXEL = 255

LABEL_NAMES = frozenset({"label", "labels", "class", "target", "y"})
INDEX_NAME = re.compile(r"(unnamed: ?\d+|id|index|imageid|image_id|row)", re.IGNORECASE)
ID_NAME = re.compile(r"(image_?)?id", re.IGNORECASE)
ACROSS = frozenset({"x", "col", "column", "c"})
DOWN = frozenset({"y", "row", "r"})
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, eq=False)
class Layout:
    """Meaning of the columns.

    Attributes:
        separator: Character between cells.
        names: Names in the header, or None if the first row is an image already.
        columns: Number of columns.
        label: Column of the label, from 0, or None if there is none.
        pixels: Columns of the pixels in the order of the picture, row by row.
        image_shape: (height, width).
        ignored: Columns without meaning, such as an index.
    """

    separator: str
    names: tuple[str, ...] | None
    columns: int
    label: int | None
    pixels: NDArray[np.intp]
    image_shape: tuple[int, int]
    ignored: tuple[int, ...]

    def place(self, column: int) -> str:
        """Name a column for a message: by its name if it has one, otherwise by its number from 1."""
        return shown(self.names[column]) if self.names and self.names[column].strip() else str(column + 1)

    @property
    def ids(self) -> int | None:
        """Column of the pictures' ids, which predictions are written under, or None."""
        return next((column for column in self.ignored if self.names and ID_NAME.fullmatch(self.names[column])), None)

    @property
    def largest(self) -> NDArray[np.float64]:
        """Largest number allowed in each column."""
        found = np.full(self.columns, np.inf)
        found[self.pixels] = LARGEST_PIXEL
        if self.label is not None:
            found[self.label] = LARGEST_LABEL
        return found

    @property
    def summary(self) -> str:
        """What was understood, on one line: "label in the last column, 784 pixels, 28 x 28, no header"."""
        height, width = self.image_shape
        parts = ["no labels" if self.label is None else f"label in {self._ordinal(self.label)}"]
        parts += [f"{len(self.pixels)} pixels, {height} x {width}"]
        if not self._in_order():
            parts += ["ordered by the numbers in their names"]
        parts += [f"{self._ordinal(column)} ignored" for column in self.ignored]
        names = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "spaces"}
        parts += [f"separated by {names[self.separator]}"] if self.separator != "," else []
        return ", ".join([*parts, "with a header" if self.names else "no header"])

    def _in_order(self) -> bool:
        return bool((np.diff(self.pixels) > 0).all())

    def _ordinal(self, column: int) -> str:
        name = f" ({self.place(column)})" if self.names and self.names[column].strip() else ""
        place = {0: "the first column", self.columns - 1: "the last column"}.get(column, f"column {column + 1}")
        return place + name


def understand(row: bytes, where: str) -> list[Layout]:
    """Return the layouts that the first row allows: one, or two if only the values tell where the label is.

    Args:
        row: First row that is not empty, in UTF-8.
        where: File and line, for messages.

    Returns:
        One layout, or two: the label first, the label last.

    Raises:
        DataError: If the columns are no pixels of a picture and at most one label, or if that is in doubt.
    """
    text = row.decode()
    separator = max(SEPARATORS[:-1], key=text.count)
    separator = separator if separator in text else SEPARATORS[-1]
    columns = text.count(separator) + 1
    if columns > MOST_COLUMNS:
        raise DataError(f"{where}: {columns:,} columns, which is no table of pictures")
    try:
        cells = next(csv.reader([text], delimiter=separator))
    except csv.Error as error:
        raise DataError(f"{where}: no row of a CSV file ({error})") from error
    names = tuple(cell.strip() for cell in cells) if is_header(cells, where) else None
    ignored = _index_columns(cells, bool(names))
    left = [column for column in range(len(cells)) if column not in ignored]
    labels = [column for column in left if names and names[column].casefold() in LABEL_NAMES]
    if len(labels) > 1:
        several = listed([shown(cells[column]) for column in labels])
        raise DataError(f"{where}: {several} could each be the label; leave one of these columns")
    candidates: list[int | None] = [*labels] or _unnamed_label(left, names)
    found = []
    for label in candidates:
        beside = [column for column in left if column != label]
        pixels, shape = _picture(beside, names, label, where)
        found.append(Layout(separator, names, len(cells), label, pixels, shape, ignored))
    return found


def is_header(cells: Sequence[str], where: str) -> bool:
    """Return whether a row holds names in place of numbers.

    Numbers are names if they count the columns, as pandas writes them, or if all differ and a text is among them.
    """
    filled = [cell.strip() for cell in cells if cell.strip()]
    numbers = [cell for cell in filled if NUMBER.fullmatch(cell)]
    if 2 * len(numbers) < len(filled):
        return True
    counted = numbers in ([str(i + first) for i in range(len(numbers))] for first in (0, 1))
    if not counted:
        return len(numbers) < len(filled) and len({*numbers}) == len(numbers)
    if len(numbers) == len(cells) <= LARGEST_PIXEL:
        raise DataError(f"{where}: may be a header or an image; name the columns label,pixel0,pixel1,...")
    return True


def _index_columns(cells: Sequence[str], named: bool) -> tuple[int, ...]:
    """Return the columns to ignore: an index by its name, the only one without a name, and a separator at the end."""
    empty = [column for column, cell in enumerate(cells) if not cell.strip()]
    if not named:
        return (len(cells) - 1,) if empty == [len(cells) - 1] else ()
    index = [column for column, cell in enumerate(cells) if INDEX_NAME.fullmatch(cell.strip())]
    return tuple(sorted({*index, *(empty if len(empty) == 1 else [])}))


def _unnamed_label(left: list[int], names: tuple[str, ...] | None) -> list[int | None]:
    """Return the columns that may hold the label where no name says so; None stands for no label at all."""
    if not _is_square(len(left) - 1):
        return [None]
    if names:
        odd = [column for column in left if not re.search(r"\d", names[column])]
        if len(odd) == 1:
            return [*odd]
    return [left[0], left[-1]]


def _picture(
    columns: list[int], names: tuple[str, ...] | None, label: int | None, where: str
) -> tuple[NDArray[np.intp], tuple[int, int]]:
    """Return the columns of the pixels, row by row, and the shape (height, width) of the picture."""
    order, shape = np.array(columns, np.intp), (math.isqrt(len(columns)),) * 2
    if names:
        own = [names[column] for column in columns]
        for name, times in Counter(filter(None, own)).most_common(1):
            if times > 1:
                raise DataError(f"{where}: {times} columns are called {shown(name)}; give each its own name")
        grid = _grid(own)
        if grid is not None:
            return order[np.lexsort(grid.T[::-1])], (len({*grid[:, 0]}), len({*grid[:, 1]}))
        numbers = _numbers(own, where, square=_is_square(len(columns)))
        if numbers is not None:
            order = order[np.argsort(numbers)]
    if not _is_square(len(columns)):
        beside = (
            "" if label is None else f" beside the label, {shown(names[label]) if names else f'column {label + 1}'}"
        )
        raise DataError(
            f"{where}: {len(columns)} columns{beside}, which make no square picture; "
            "give a label and, for pictures of 28 x 28, 784 pixels a row"
        )
    return order, shape


def _grid(names: list[str]) -> NDArray[np.int64] | None:
    """Return the rows and columns in names such as "1x1" to "28x28" or "pixel_0_0", if these are complete.

    The row comes first, unless words say otherwise: "x0_y0", "col0row0".
    """
    matches = [re.fullmatch(r"(\D*)(\d{1,6})(\D+)(\d{1,6})(\D*)", name, re.ASCII) for name in names]
    parts = [match.groups() for match in matches if match]
    if not parts or len(parts) < len(names) or len({part[::2] for part in parts}) > 1:
        return None
    grid = np.array([(int(first), int(second)) for _, first, _, second, _ in parts])
    before, _, between, _, _ = parts[0]
    first, second = ((re.findall("[a-z]+", text.casefold()) or [""])[-1] for text in (before, between))
    if first in ACROSS and second in DOWN:
        grid = grid[:, ::-1]
    height, width = (np.unique(axis) for axis in grid.T)
    complete = len(np.unique(grid, axis=0)) == len(names) == len(height) * len(width)
    if not complete or min(len(height), len(width)) < 2:
        return None
    return grid if all(axis[-1] - axis[0] == len(axis) - 1 for axis in (height, width)) else None


def _numbers(names: list[str], where: str, square: bool) -> NDArray[np.int64] | None:
    """Return the numbers in names such as "pixel0" to "pixel783", if all names have one after the same word."""
    matches = [re.fullmatch(r"(\D*)(\d{1,9})(\D*)", name, re.ASCII) for name in names]
    parts = [match.groups() for match in matches if match]
    if not parts or len(parts) < len(names) or len({(before, after) for before, _, after in parts}) > 1:
        return None
    numbers = np.array([int(number) for _, number, _ in parts])
    first = min(int(numbers.min()), 1)
    missing = np.setdiff1d(np.arange(first, first + len(numbers)), numbers)
    if not len(missing):
        return numbers
    before, _, after = parts[0]
    name = shown(f"{before}{missing[0]}{after}")
    beside = "" if square else f", and {len(names)} columns of pixels make no square picture"
    raise DataError(f"{where}: column {name} is missing{beside}; give each pixel a column")


def _is_square(count: int) -> bool:
    return count >= 4 and math.isqrt(count) ** 2 == count
