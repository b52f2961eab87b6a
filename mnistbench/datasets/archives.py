"""Zip archives: an ``.npz`` is one, and a download of a single CSV file may be in one."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from mnistbench.datasets.content import DEFLATE_RATIO, brief, listed, printable
from mnistbench.exceptions import DataError

ZIP_MAGIC = b"PK\x03\x04"
EMPTY_ZIP_MAGIC = b"PK\x05\x06"


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading or, if it is a zip archive with one file in it, that file.

    Raises:
        DataError: If an archive is damaged, or holds several files or none.
        OSError: If the file cannot be read.
    """
    with path.open("rb") as file:
        if not is_zip(file):
            yield cast(BinaryIO, file)
            return
        with archive(file, printable(path)) as found, found.open(_only(found, printable(path))) as member:
            yield cast(BinaryIO, member)


def is_zip(file: BinaryIO) -> bool:
    """Return whether a file starts as a zip archive does; its position is 0 after that."""
    start = file.read(4)
    file.seek(0)
    return start in (ZIP_MAGIC, EMPTY_ZIP_MAGIC)


@contextmanager
def archive(file: BinaryIO, name: str) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive; whatever is wrong with it, then or while its files are read, is a DataError."""
    try:
        with zipfile.ZipFile(file) as found:
            yield found
    except (
        zipfile.BadZipFile,  # damaged, or checksums differ
        zlib.error,
        EOFError,  # a size beyond the end of the archive
        ValueError,  # names that are not UTF-8
        NotImplementedError,  # a version or compression that Python lacks
    ) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{name}: a zip archive that cannot be read ({brief(error)}); get the file again") from error


def require_readable(member: zipfile.ZipInfo, name: str) -> None:
    """Raise a DataError if a file in an archive cannot be unpacked a block at a time, or claims to hold too much."""
    if member.flag_bits & 1:
        raise DataError(f"{name}: an encrypted zip archive; unpack it")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{name}: compressed in another way than by deflate; unpack it")
    if member.file_size > DEFLATE_RATIO * (member.compress_size + 1):
        held = f"{member.compress_size:,} compressed bytes"
        raise DataError(f"{name}: {held} cannot hold {member.file_size:,} bytes; get the file again")


def _only(found: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """Return the only file in an archive, apart from what macOS adds to it."""
    members = [member for member in found.infolist() if not member.is_dir() and not _added(member.filename)]
    names = [member.filename for member in members]
    if "[Content_Types].xml" in names:
        raise DataError(f"{name}: not a CSV file but an Excel workbook or the like; save it as CSV")
    if any(part.endswith("data.pkl") for part in names):
        raise DataError(f"{name}: not a CSV file but a file of PyTorch, a pickle; save its arrays as .npz")
    if len(members) == 1:
        require_readable(members[0], name)
        return members[0]
    inside = f"{len(names)} files ({listed(names)})" if names else "no files"
    raise DataError(f"{name}: a zip archive of {inside}; unpack it, and give the CSV file or the folder in it")


def _added(filename: str) -> bool:
    return filename.startswith("__MACOSX/") or filename.endswith(".DS_Store")
