"""Data files that tests write, and the one line with which a file is refused."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mnistbench.datasets import EMBEDDED, load_data
from mnistbench.datasets.folders import FILE_NAMES
from mnistbench.exceptions import DataError
from tests.support.builders import idx

COLUMNS = ("label", *(f"pixel{pixel}" for pixel in range(784)))
"""Columns of Kaggle's train.csv."""

HEADER = ",".join(COLUMNS)

compressed_bytes = partial(gzip.compress, mtime=0)
"""Compress without the time of day, which would be part of a test's name."""


def one_line(error: DataError) -> str:
    """Return the message of an error, which must be one line."""
    message = str(error)
    assert message.isprintable()
    return message


def refusal(source: str | Path | None, **options: Any) -> str:
    """Return the message with which a source is refused, one line that names it."""
    with pytest.raises(DataError) as caught:
        load_data(source, **options)
    message = one_line(caught.value)
    assert str(EMBEDDED if source is None else source) in message
    return message


def arrays(train: int = 12, test: int = 4, shape: tuple[int, int] = (2, 3)) -> dict[str, NDArray[np.uint8]]:
    """Return four small arrays under the usual names, with different images and labels 0 to 2."""
    rng = np.random.default_rng(7)
    images = rng.integers(0, 256, (train + test, *shape), dtype=np.uint8)
    images[:, 0, 0] = np.arange(train + test)
    labels = np.arange(train + test, dtype=np.uint8) % 3
    return dict(zip(FILE_NAMES, (images[:train], labels[:train], images[train:], labels[train:]), strict=True))


def write_folder(path: Path) -> Path:
    """Write a small data set of IDX files: 12 labelled and 4 test images of 2 x 3 pixels."""
    path.mkdir()
    for name, array in arrays().items():
        (path / name).write_bytes(idx(array))
    return path


def csv_row(label: object = 0, **cells: object) -> str:
    """Return a row of Kaggle's train.csv, 0 except for the given cells."""
    return ",".join(str({"label": label, **cells}.get(column, 0)) for column in COLUMNS)


def csv_file(path: Path, *rows: str, header: str = HEADER, end: str = "\n") -> Path:
    """Write a CSV file of these lines."""
    path.write_bytes("".join(line + end for line in (header, *rows)).encode())
    return path


def table(path: Path, rows: Sequence[Sequence[object]], header: Sequence[str] = (), separator: str = ",") -> Path:
    """Write a CSV file of these cells, with a header if one is given."""
    lines = [*([header] if header else []), *rows]
    path.write_text("".join(separator.join(map(str, line)) + "\n" for line in lines), encoding="utf-8")
    return path
