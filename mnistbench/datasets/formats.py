"""Files that are no data set, told by their first bytes, with what to do about each."""

from __future__ import annotations

import re

from mnistbench.exceptions import DataError

FIRST_BYTES = 512
"""Number of bytes by which a format is told."""

_AGAIN = "download the data set itself"
_AS_CSV = "save it as CSV"
_AS_NPZ = "save its arrays x_train, y_train, x_test and y_test by numpy.savez"
_UNPACK = "unpack it"

# Pattern at the beginning of a file, what the file is, and the cure. The first that matches counts.
_FORMATS = (
    (
        rb"(?i:\s*(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+html|html|head|body|script)\b)",
        "a web page",
        f"{_AGAIN}, after signing in if that is asked for",
    ),
    (rb"\s*(?:\xef\xbb\xbf)?\s*<[?!]", "an XML file", _AGAIN),
    (rb"version https://git-lfs\.", "a Git LFS pointer", "run 'git lfs pull' in the repository it comes from"),
    (rb"\x80[\x02-\x05][^,;\t ]", "a pickle, which can run any program when it is read", f"{_AS_NPZ}, or {_AS_CSV}"),
    (rb"\x93NUMPY", "a single NumPy array", _AS_NPZ),
    (rb"\0\0", "an IDX file, by its first bytes", "give the folder that holds all four of them"),
    (rb"\x89HDF\r\n", "an HDF5 file", _AS_NPZ),
    (rb"MATLAB 5\.0 MAT-file", "a MATLAB file", _AS_NPZ),
    (rb"PAR1\x15", "a Parquet file", _AS_CSV),
    (rb"ARROW1\0", "an Arrow file", _AS_CSV),
    (rb"SQLite format 3\0", "an SQLite file", "save its table as CSV"),
    (rb"(?i:(?:\s*%[^\n]*\n)*\s*@relation\b)", "an ARFF file", _AS_CSV),
    (rb"PK(?:\x03\x04|\x05\x06)", "a zip archive", _UNPACK),
    (rb"\xd0\xcf\x11\xe0", "an old Excel or Word file", _AS_CSV),
    (rb"\x1f\x8b", "gzip data within gzip data", "unpack it once with gunzip"),
    (rb"BZh[1-9]1AY", "a bzip2 file", _UNPACK),
    (rb"\xfd7zXZ\0", "an xz file", _UNPACK),
    (rb"\x28\xb5\x2f\xfd", "a Zstandard file", _UNPACK),
    (rb"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    (rb"Rar!\x1a", "a RAR archive", _UNPACK),
    (rb"(?s:.{257})ustar", "a tar archive", _UNPACK),
    (
        rb"\x89PNG|\xff\xd8\xff|GIF8[79]a|BM(?s:.{4})\0{4}|II\*\0|MM\0\*",
        "a picture",
        "give Dataset.from_arrays an array of the pixels of all pictures",
    ),
    (rb"%PDF-", "a PDF file", _AGAIN),
    (rb"\xff\xfe|\xfe\xff", "a text in UTF-16", f"{_AS_CSV} in UTF-8"),
    (rb"\s*(?:\{\s*\"|\[\s*[\[{\"])", "a JSON file", _AS_CSV),
)


def refuse_other(first: bytes, name: str, wanted: str) -> None:
    """Raise a DataError if a file is of a kind that is no data set.

    Args:
        first: Beginning of its content, :data:`FIRST_BYTES` bytes if it has them.
        name: Name of the file, for the message.
        wanted: What it was taken for: "a CSV file".
    """
    for pattern, kind, cure in _FORMATS:
        if re.match(pattern, first[:FIRST_BYTES]):
            raise DataError(f"{name}: not {wanted} but {kind}; {cure}")
