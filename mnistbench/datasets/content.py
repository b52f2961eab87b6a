"""The content of a data file: its bytes, decompressed where they are gzip, and its name in a message."""

from __future__ import annotations

import zlib

from mnistbench.exceptions import DataError

__all__ = ["decompressed", "printable"]

GZIP_MAGIC = b"\x1f\x8b"
GZIP_FORMAT = 31  # zlib's wbits for a gzip header and trailer, whose checksum and size it verifies


def decompressed(content: bytes, file: str, limit: int) -> bytes:
    """The first ``limit`` bytes of a file, after gzip if ``content`` starts with its magic bytes.

    Memory follows the bytes that are there, and never exceeds ``limit`` by much: a small file that would
    decompress to more is not decompressed further. What is decompressed to its end is verified to its end.

    Args:
        content: the file as it is stored, gzip (of any number of members) or plain.
        file: its name, for the message.
        limit: at least 1.

    Raises:
        DataError: the gzip data is damaged, ends early, or is followed by something else.
    """
    if not content.startswith(GZIP_MAGIC):
        return content[:limit]
    parts = []
    rest = content
    while rest:
        start = len(content) - len(rest)
        if not rest.startswith(GZIP_MAGIC):
            raise DataError(f"{file}: byte {start}: what follows the gzip data is not gzip data")
        member = zlib.decompressobj(GZIP_FORMAT)
        try:
            part = member.decompress(rest, limit)
        except zlib.error as error:
            raise DataError(f"{file}: damaged gzip data from byte {start} on ({error}); get the file again") from error
        parts.append(part)
        limit -= len(part)
        if limit == 0:
            break
        if not member.eof:
            raise DataError(f"{file}: ends at byte {len(content)}, before its gzip data does; get the file again")
        rest = member.unused_data.lstrip(b"\0")  # zeros may pad a gzip file
    return b"".join(parts)


def printable(name: object) -> str:
    """A file name, or a piece of a file, as one line of a message: quoted and escaped if it has to be."""
    text = str(name)
    return text if text.isprintable() else repr(text)
