"""Content of a data file in blocks, decompressed if it is gzip, and its name in messages."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO

from mnistbench.exceptions import DataError

GZIP_MAGIC = b"\x1f\x8b"
GZIP_FORMAT = 31  # zlib's wbits for a gzip header and trailer, whose checksum and size it verifies

BLOCK = 1 << 18
"""Largest number of bytes read, and unpacked, at a time."""

DEFLATE_RATIO = 1_032
"""Largest ratio of deflate, the compression in gzip and zip files: 258 bytes from two bits."""


def blocks(file: BinaryIO, name: str) -> Iterator[bytes]:
    """Yield the content of a file in blocks of 1 to :data:`BLOCK` bytes, decompressed if it starts as gzip data does.

    Nothing is unpacked before it is asked for. Checksums are verified for all gzip members that are unpacked to their
    end.

    Args:
        file: File at its beginning: plain, or gzip with any number of members.
        name: Name of the file, for the message.

    Raises:
        DataError: If the gzip data is damaged, ends early, or is followed by something else.
        OSError: If the file cannot be read.
    """
    first = file.read(BLOCK)
    if first.startswith(GZIP_MAGIC):
        yield from _unpacked(file, first, name)
        return
    while first:
        yield first
        first = file.read(BLOCK)


def _unpacked(file: BinaryIO, rest: bytes, name: str) -> Iterator[bytes]:
    position = 0  # of the first byte of ``rest`` in the file
    while rest:
        start = position
        if not rest.startswith(GZIP_MAGIC):
            raise DataError(f"{name}: byte {start}: what follows the gzip data is not gzip data")
        member = zlib.decompressobj(GZIP_FORMAT)
        while not member.eof:
            try:
                part = member.decompress(rest, BLOCK)
            except zlib.error as error:
                raise DataError(
                    f"{name}: damaged gzip data from byte {start} on ({error}); get the file again"
                ) from error
            if part:
                yield part
            left = member.unused_data if member.eof else member.unconsumed_tail
            position += len(rest) - len(left)
            rest = left
            if not rest and not member.eof:
                rest = file.read(BLOCK)
                if not rest:
                    raise DataError(f"{name}: ends at byte {position}, before its gzip data does; get the file again")
        while True:  # zeros may pad a gzip file
            kept = rest.lstrip(b"\0")
            position += len(rest) - len(kept)
            rest = kept if len(kept) > 1 else kept + file.read(BLOCK)
            if len(rest) == len(kept) or rest[:1] != b"\0":
                break


def printable(name: object) -> str:
    """Return a file name for a message, on one line: quoted and escaped if it is not printable."""
    text = str(name)
    return text if text.isprintable() else repr(text)


def shown(text: str) -> str:
    """Quote a cell or a name for a message; of a long one, the beginning."""
    return repr(text if len(text) <= 40 else text[:37] + "...")


def brief(error: BaseException) -> str:
    """Return the beginning of another library's message, for one of ours."""
    text = " ".join(str(error).split()) or type(error).__name__
    return printable(text if len(text) <= 100 else text[:97] + "...")


def listed(names: list[str], most: int = 6) -> str:
    """Return the first names of a list for a message, on one line."""
    return ", ".join([*map(printable, names[:most]), *(["..."] if len(names) > most else [])])
