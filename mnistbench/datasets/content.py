"""Content of a data file, decompressed if it is gzip, and its name in messages."""

from __future__ import annotations

import zlib

from mnistbench.exceptions import DataError

GZIP_MAGIC = b"\x1f\x8b"
GZIP_FORMAT = 31  # zlib's wbits for a gzip header and trailer, whose checksum and size it verifies


def decompressed(content: bytes, file: str, limit: int) -> bytes:
    """Return the first ``limit`` bytes of a file, decompressed if ``content`` starts with gzip's magic bytes.

    Memory never exceeds ``limit`` by much: a small file that would decompress to more is not decompressed further.
    Checksums are verified for all members that are decompressed to their end.

    Args:
        content: Content of the file, plain or gzip with any number of members.
        file: Name of the file, for the message.
        limit: Number of bytes, at least 1.

    Raises:
        DataError: If the gzip data is damaged, ends early, or is followed by something else.
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
    """Return a file name for a message, on one line: quoted and escaped if it is not printable."""
    text = str(name)
    return text if text.isprintable() else repr(text)
