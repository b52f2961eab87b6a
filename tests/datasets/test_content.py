"""Blocks of files: where they are cut changes nothing, neither the content nor the place that a message names."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnistbench.datasets import content
from mnistbench.datasets.content import blocks
from mnistbench.datasets.csv import read_csv
from mnistbench.exceptions import DataError
from tests.support.data_files import compressed_bytes

SIZES = st.sampled_from([2, 3, 4, 5, 16, 1 << 18])


def read(data: bytes, size: int) -> bytes:
    """Return the content of a file that is read in blocks of a size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(content, "BLOCK", size)
        found = [*blocks(io.BytesIO(data), "file")]
        assert all(0 < len(block) <= size for block in found)
        return b"".join(found)


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=4), st.integers(0, 9), SIZES)
def test_gzip_of_several_members_and_padding(parts: list[bytes], padding: int, size: int) -> None:
    packed = b"".join(compressed_bytes(part) + bytes(padding) for part in parts)
    assert read(packed, size) == b"".join(parts)
    assert read(b"x" + packed, size) == b"x" + packed
    cut = len(packed.rstrip(b"\0")) - 1
    with pytest.raises(DataError, match=f"file: ends at byte {cut}, before its gzip data does|is not gzip data"):
        read(packed[:cut], size)
    with pytest.raises(DataError, match=f"file: byte {len(packed)}: what follows the gzip data is not gzip data"):
        read(packed + b"\x1fmore", size)


@given(SIZES, st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())
def test_lines_are_counted_across_blocks(
    tmp_path_factory: pytest.TempPathFactory, size: int, end: str, packed: bool
) -> None:
    path: Path = tmp_path_factory.getbasetemp() / "lines.csv"
    rows = ["label,a,b,c,d", "1,2,3,4,5", "", *["0,9,9,9,9"] * 97, "2,3,4,x,6", "7,7,7,7,7", ""]
    text = end.join(rows).encode()
    path.write_bytes(compressed_bytes(text) if packed else text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(content, "BLOCK", size)
        with pytest.raises(DataError, match=re.escape("lines.csv: line 101, column 'c': 'x', not a whole number")):
            read_csv(path)
