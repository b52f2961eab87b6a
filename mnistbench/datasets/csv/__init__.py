"""CSV files of pictures: a row for each, with its pixels and, mostly, its label.

``layout.py`` understands the columns, ``lines.py`` reads the file in blocks, ``values.py`` parses and checks the cells.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnistbench.datasets.archives import opened
from mnistbench.datasets.content import printable
from mnistbench.datasets.csv.layout import Layout, understand
from mnistbench.datasets.csv.lines import Row, read_rows
from mnistbench.datasets.csv.values import pixel_columns, read_values
from mnistbench.datasets.emnist import NOTE, is_emnist, upright
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
    counted = layout.label is None and layout.separator != " "
    with closing(_rows(path, layout.separator.encode() if counted else None)) as blocks:
        found = _read(blocks, layout, name)
    if layout.names is None and is_emnist(path.name):
        images, shape = upright(found.images, found.image_shape)
        return replace(found, images=images, image_shape=shape, understood=f"{found.understood}; {NOTE}")
    return found


def _rows(path: Path, separator: bytes | None = None) -> Generator[list[Row], None, None]:
    with opened(path) as file:
        yield from read_rows(file, printable(path), separator)


def _read(blocks: Iterator[list[Row]], layout: Layout, name: str) -> Table:
    """Return the content. Memory grows with the rows, of which a block at a time is text."""
    images = np.empty((FIRST_ROWS, len(layout.pixels)), np.uint8)
    labels: list[NDArray[np.int64]] = []
    ids: list[str] = []
    pixels = pixel_columns(layout)
    count, brightest = 0, 0.0
    for number, block in enumerate(blocks):
        rows = block[1:] if layout.names and number == 0 else block
        if not rows:
            continue
        values = read_values(rows, layout, name)
        end = count + len(rows)
        if end > len(images):
            # In place where the system can move pages; no other array refers to it.
            images.resize((max(end, len(images) + len(images) // 4), images.shape[1]), refcheck=False)
        images[count:end] = found = values[:, pixels]
        brightest = max(brightest, found.max())
        if layout.label is not None:
            labels.append(values[:, layout.label].astype(np.int64))
        ids += _ids(rows, layout, name)
        count = end
    if not count:
        raise DataError(f"{name}: has a header, but no rows")
    if brightest == 1:
        raise DataError(f"{name}: all pixels are 0 or 1, not from 0 to 255; if 1 is white, multiply them by 255")
    images.resize((count, images.shape[1]), refcheck=False)
    targets = np.concatenate(labels) if labels else None
    column = layout.ids
    named = None if column is None or layout.names is None else (layout.names[column], tuple(ids))
    return Table(images, targets, layout.image_shape, layout.summary, named)


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
