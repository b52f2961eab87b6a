"""CSV files of pictures: a row for each, with its pixels and, mostly, its label.

``layout.py`` understands the columns, ``lines.py`` reads the file in blocks, ``values.py`` parses and checks the cells.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnistbench.datasets.archives import opened
from mnistbench.datasets.content import printable
from mnistbench.datasets.csv.layout import Layout, understand
from mnistbench.datasets.csv.lines import Row, read_rows
from mnistbench.datasets.csv.values import pixel_columns, read_values
from mnistbench.datasets.emnist import NOTE, is_emnist, upright
from mnistbench.datasets.images import Held, Images, Places, Upright
from mnistbench.exceptions import DataError, UnlabelledData

FIRST_ROWS = 1 << 10
"""Number of rows that memory is asked for at first; then a quarter more each time."""

MOST_LABELS = 100
"""Largest number of different labels of a column that is told from a pixel by its values alone."""


@dataclass(frozen=True, eq=False)
class Table:
    """Content of a file of pictures.

    Attributes:
        images: (m, pixels) uint8, m at least 1.
        labels: (m,) int64, or None if the file has no labels.
        image_shape: (height, width).
        understood: What was understood of the file, on one line.
        ids: Name of the column of ids, and its m texts; None if there is no such column.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    image_shape: tuple[int, int]
    understood: str
    ids: tuple[str, tuple[str, ...]] | None = None


@dataclass(frozen=True, eq=False)
class Pictures:
    """Content of a file of pictures whose images may be read later; its attributes are those of :class:`Table`."""

    images: Images
    labels: NDArray[np.int64] | None
    image_shape: tuple[int, int]
    understood: str


def read_csv(path: Path, needs_labels: bool = False) -> Table:
    """Read a CSV file with a row for each picture, plain, gzip, or alone in a zip archive.

    Cells are whole numbers, which may be written as floats (``5.0``) and in quotes: labels from 0 to 65,535, pixels
    from 0 to 255. Blank lines and rows without a value are skipped; a row without a value that others follow is
    refused where no label stands beside the pictures, which are then told by their number.

    Args:
        path: File.
        needs_labels: Whether a file without labels is refused.

    Raises:
        UnlabelledData: If the file has no labels where they are needed.
        DataError: If the file is malformed or its meaning in doubt; the message names the line and column.
        OSError: If the file cannot be read.
    """
    layout = _layout(path, needs_labels)
    growing = _Growing(len(layout.pixels))
    _, labels, ids = _read(path, layout, growing.add)
    images, shape, understood = growing.images(), layout.image_shape, layout.summary
    if _is_turned(path, layout):
        images, shape = upright(images, shape)
        understood += f"; {NOTE}"
    column = layout.ids
    named = None if column is None or layout.names is None else (layout.names[column], ids)
    return Table(images, labels, shape, understood, named)


def open_csv(path: Path, needs_labels: bool = False, held: bool = True) -> Pictures:
    """Read what :func:`read_csv` does, and hold the images only if they are to be ``held``.

    Otherwise all of the file is read and checked, and rows whose images are taken are read again.
    """
    if held:
        table = read_csv(path, needs_labels)
        return Pictures(Held(table.images), table.labels, table.image_shape, table.understood)
    layout = _layout(path, needs_labels)
    count, labels, _ = _read(path, layout, lambda images: None)
    images, (height, width) = CsvImages(path, layout, count), layout.image_shape
    if _is_turned(path, layout):
        understood = f"{layout.summary}; {NOTE}"
        return Pictures(Upright(images, (height, width)), labels, (width, height), understood)
    return Pictures(images, labels, (height, width), layout.summary)


@dataclass(frozen=True, eq=False)
class CsvImages(Images):
    """Images of a CSV file that has been read and checked once; rows are read again when their images are taken.

    Attributes:
        path: File.
        layout: Meaning of the columns.
        count: Number of images.
    """

    path: Path
    layout: Layout
    count: int

    @property
    def shape(self) -> tuple[int, int]:
        """Number of images, and number of pixels of each."""
        return self.count, len(self.layout.pixels)

    def parts(self, places: Places) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield images some at a time; values are read only of the rows that are asked for."""
        name, pixels = printable(self.path), pixel_columns(self.layout)
        first = 0
        for rows in _images_rows(self.path, self.layout):
            low, high = np.searchsorted(places, (first, first + len(rows)))
            wanted = np.unique(places[low:high] - first)
            if len(wanted):
                part = np.empty((wanted[-1] + 1, self.shape[1]), np.uint8)
                part[wanted] = read_values([rows[place] for place in wanted], self.layout, name)[:, pixels]
                yield first, part
            first += len(rows)
        if first != self.count:
            raise DataError(f"{name}: had {self.count} rows, and now has {first}; leave it alone while it is read")


def _layout(path: Path, needs_labels: bool) -> Layout:
    """Return the meaning of the columns of a file, of which :func:`read_csv` describes the errors."""
    name = printable(path)
    with closing(_rows(path)) as blocks:
        first = next(blocks)
        line, text = first[0]
        layouts = understand(text, f"{name}: line {line}")
        if len(layouts) > 1:
            layout = _by_values(itertools.chain([first], blocks), layouts, name)
        else:
            (layout,) = layouts
    if needs_labels and layout.label is None:
        raise UnlabelledData(
            f"{name}: has no labels, only {len(layout.pixels)} pixels a row, as Kaggle's test.csv; train on a file "
            f"with labels, such as train.csv, and give this one to 'mnistbench predict MODEL --data {name}'"
        )
    return layout


def _is_turned(path: Path, layout: Layout) -> bool:
    """Return whether rows and columns of the pictures are exchanged."""
    return layout.names is None and is_emnist(path.name)


def _rows(path: Path, separator: bytes | None = None) -> Generator[list[Row], None, None]:
    with opened(path) as file:
        yield from read_rows(file, printable(path), separator)


def _images_rows(path: Path, layout: Layout) -> Iterator[list[Row]]:
    """Yield the rows of a block of the file at a time, without the header."""
    counted = layout.label is None and layout.separator != " "
    with closing(_rows(path, layout.separator.encode() if counted else None)) as blocks:
        for number, block in enumerate(blocks):
            rows = block[1:] if layout.names and number == 0 else block
            if rows:
                yield rows


def _read(
    path: Path, layout: Layout, keep: Callable[[NDArray[Any]], None]
) -> tuple[int, NDArray[np.int64] | None, tuple[str, ...]]:
    """Read and check a file, and give the images of a block at a time to ``keep``.

    Returns:
        Number of images; labels, or None if the file has none; ids.
    """
    name, pixels = printable(path), pixel_columns(layout)
    labels: list[NDArray[np.int64]] = []
    ids: list[str] = []
    count, brightest = 0, 0.0
    for rows in _images_rows(path, layout):
        values = read_values(rows, layout, name)
        found = values[:, pixels]
        keep(found)
        brightest = max(brightest, found.max())
        if layout.label is not None:
            labels.append(values[:, layout.label].astype(np.int64))
        ids += _ids(rows, layout, name)
        count += len(rows)
    if not count:
        raise DataError(f"{name}: has a header, but no rows")
    if brightest == 1:
        raise DataError(f"{name}: all pixels are 0 or 1, not from 0 to 255; if 1 is white, multiply them by 255")
    return count, np.concatenate(labels) if labels else None, tuple(ids)


class _Growing:
    """Images whose number is not known before the last is there. Memory grows with them."""

    def __init__(self, pixels: int) -> None:
        self._images = np.empty((FIRST_ROWS, pixels), np.uint8)
        self._count = 0

    def add(self, images: NDArray[Any]) -> None:
        """Append images (k, pixels) of any dtype."""
        end = self._count + len(images)
        if end > len(self._images):
            self._resize(max(end, len(self._images) + len(self._images) // 4))
        self._images[self._count : end] = images
        self._count = end

    def images(self) -> NDArray[np.uint8]:
        """Return all images, after which none can be added."""
        self._resize(self._count)
        return self._images

    def _resize(self, count: int) -> None:
        # In place where the system can move pages; no other array refers to it.
        self._images.resize((count, self._images.shape[1]), refcheck=False)


def _ids(rows: list[Row], layout: Layout, name: str) -> list[str]:
    """Return the ids of rows with the right number of cells, if they have any; refuse an empty one beside no label."""
    column, separator = layout.ids, layout.separator.encode()
    if column is None:
        return []
    found = [row.text.split(separator, column + 1)[column].strip(b' "').decode() for row in rows]
    if layout.label is None and "" in found:
        raise DataError(f"{name}: line {rows[found.index('')].line}: an empty id; give every row one, or none")
    return found


def _by_values(blocks: Iterator[list[Row]], layouts: list[Layout], name: str) -> Layout:
    """Return the layout whose label column is told by its values: a pixel at a corner hardly varies, labels do.

    The column that varies holds labels if these are few, and if the other one is mostly blank.

    Raises:
        DataError: If the values leave it in doubt.
    """
    counts: list[Counter[bytes]] = [Counter(), Counter()]
    layout = layouts[0]
    separator = layout.separator.encode()
    first, last = (found.label or 0 for found in layouts)
    behind = layout.columns - 1 - last
    skip = layout.names is not None
    for block in blocks:
        cells = [row.text for row in block[skip:] if row.text.count(separator) == layout.columns - 1]
        skip = False
        counts[0].update(text.split(separator, first + 1)[first].strip(b' "') for text in cells)
        counts[1].update(text.rsplit(separator, behind + 1)[-1 - behind].strip(b' "') for text in cells)
    shares = [_share(count) for count in counts]
    varies = int(shares[1] < shares[0])
    low, high = sorted(shares)
    place = layouts[varies].place((first, last)[varies])
    if len(counts[varies]) == counts[varies].total() > 1 and _is_corner(counts[1 - varies]):
        raise DataError(
            f"{name}: column {place} could be the label, but no two of its values are the same; if it numbers the "
            "rows, delete it, otherwise give the columns names, and call the label's 'label'"
        )
    # The largest of ten even classes has a tenth of the rows, that of two uneven ones perhaps nine tenths.
    apart = (high == 1 and low <= 0.9) or (high >= 0.8 and low <= 0.6)
    if apart and len(counts[varies]) <= MOST_LABELS and _is_corner(counts[1 - varies]):
        return layouts[varies]
    raise DataError(
        f"{name}: column {layouts[0].place(first)} or {layouts[1].place(last)} could be the label; "
        "give the columns names, and call the label's 'label'"
    )


def _share(count: Counter[bytes]) -> float:
    """Return the share of the most frequent value of a column, 0 without any."""
    return max(count.values(), default=0) / max(count.total(), 1)


def _is_corner(count: Counter[bytes]) -> bool:
    """Return whether the values of a column can be those of a pixel at a corner, and are not the labels 0 and 1."""
    try:
        values = {float(value): number for value, number in count.items()}
    except ValueError:
        return False
    usual = max(values, key=lambda value: values[value], default=-1.0)
    return usual in (0, 255) and {*values} != {0, 1}
