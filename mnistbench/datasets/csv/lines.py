"""Lines of a CSV file, a block of the file at a time, so that a file may be larger than memory."""

from __future__ import annotations

import codecs
import itertools
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from mnistbench.datasets.content import blocks
from mnistbench.datasets.formats import FIRST_BYTES, refuse_other
from mnistbench.exceptions import DataError

LONGEST_LINE = 1 << 22
"""Largest number of bytes of a line. A row of 256 x 256 pixels, as ``numpy.savetxt`` writes them, takes 1.6 million."""

MOST_EMPTY = 1 << 25
"""Largest number of bytes of empty rows in a row: those of Excel, but not gigabytes of line ends in a gzip file."""

EMPTY = b' \t\r\n\f\v,;|"'
"""Bytes of which an empty row consists: separators and nothing between them."""


class Row(NamedTuple):
    """A row that is not empty, without its line end, and the number of its line; the first line is 1."""

    line: int
    text: bytes


def read_rows(file: BinaryIO, name: str, separator: bytes | None = None) -> Iterator[list[Row]]:
    """Yield the rows of a CSV file in lists of a block each, without empty rows. No list is empty.

    Lines may end in LF, CRLF or CR. A byte-order mark is left out.

    Args:
        file: File at its beginning, plain or gzip.
        name: Name of the file, for messages.
        separator: Separator of the cells, if a row of empty cells between others is refused: where rows are counted,
            it must not be left out.

    Raises:
        DataError: If the content is of another kind, is no UTF-8 text, has too long a line, or no row at all.
        OSError: If the file cannot be read.
    """
    found, empty = False, 0
    lines = _whole_lines(file, name)
    for line, text in lines if separator is None else _without_gaps(lines, separator, name):
        if not text.isascii() or b"\0" in text:
            _require_text(text, line, name)
        empty = 0 if text.strip(EMPTY) else empty + len(text)
        if empty > MOST_EMPTY:
            raise DataError(f"{name}: line {line}: megabytes of empty rows; delete them")
        if not empty:
            yield [Row(number, row) for number, row in enumerate(text.splitlines(), line) if row.strip(EMPTY)]
            found = True
    if not found:
        raise DataError(f"{name}: the file is empty")


def _without_gaps(lines: Iterator[tuple[int, bytes]], separator: bytes, name: str) -> Iterator[tuple[int, bytes]]:
    """Yield the same parts; raise a DataError at a row after one of empty cells, unless that begins the file."""
    started, gap = False, 0
    for line, text in lines:
        for number, row in enumerate(text.splitlines(), line):
            if row.strip(EMPTY):
                if gap:
                    raise DataError(f"{name}: line {gap}: a row of empty cells between others; fill or delete it")
                started = True
            elif started and separator in row:
                gap = gap or number
        yield line, text


def _whole_lines(file: BinaryIO, name: str) -> Iterator[tuple[int, bytes]]:
    """Yield the content in parts that end with a line's end, each with the number of its first line."""
    content = blocks(file, name)
    rest = b""
    for block in content:
        rest += block
        if len(rest) >= FIRST_BYTES:
            break
    refuse_other(rest, name, "a CSV file")
    line, rest = 1, rest.removeprefix(codecs.BOM_UTF8)
    for block in itertools.chain([b""], content):
        rest += block
        # A CR at the end may be the first half of a CRLF.
        end = max(rest.rfind(b"\n"), rest.rfind(b"\r", 0, -1)) + 1
        if end:
            part, rest = rest[:end], rest[end:]
            yield line, part
            line += part.count(b"\n") + part.count(b"\r") - part.count(b"\r\n")
        if len(rest) > LONGEST_LINE:
            raise DataError(f"{name}: line {line}: longer than {LONGEST_LINE:,} bytes, which no row of pixels is")
    if rest:
        yield line, rest


def _require_text(text: bytes, line: int, name: str) -> None:
    """Raise a DataError that names the first line that is not UTF-8 text without NUL bytes."""
    try:
        text.decode()
        bad = text.find(b"\0")  # other programs take it for the end of a cell
    except UnicodeDecodeError as error:
        bad = error.start
    if bad >= 0:
        number = line + len(text[: bad + 1].splitlines()) - 1
        raise DataError(f"{name}: line {number}: not UTF-8 text; save it as CSV in UTF-8")
