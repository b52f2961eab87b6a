"""Archives and what unpacks to gigabytes: the header decides, nothing else is unpacked, and no pickle is read."""

from __future__ import annotations

import gzip
import io
import os
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib import format as npy

from mnistbench.datasets import load_data
from tests.support import kinds
from tests.support.data_files import HEADER, refusal

SIZE = 1 << 26
"""Number of bytes that a bomb unpacks to; 5 GB take as little to refuse, and minutes to write."""


def bomb(first: bytes, filling: bytes) -> bytes:
    """Return gzip data of ``first`` and then many times ``filling``."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    piece = filling * ((1 << 20) // len(filling))
    return b"".join([packer.compress(first), *(packer.compress(piece) for _ in range(SIZE >> 20)), packer.flush()])


def npy_header(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    """Return the beginning of an array in NumPy's format."""
    content = io.BytesIO()
    npy.write_array_header_1_0(content, {"descr": dtype, "fortran_order": False, "shape": shape})
    return content.getvalue()


def archive(method: int = zipfile.ZIP_DEFLATED, **members: bytes) -> bytes:
    """Return an ``.npz`` file of these members."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as found:
        for name, member in members.items():
            found.writestr(f"{name}.npy", member)
    return content.getvalue()


def stored(array: Any) -> bytes:
    content = io.BytesIO()
    npy.write_array(content, np.asarray(array))
    return content.getvalue()


Y = stored(kinds.LABELS)
ZEROS = bytes(SIZE)

HEAD = npy_header((60, 28, 28))
LONG = npy_header((60, SIZE // 60, 1)) + ZEROS[: SIZE // 60 * 60]

BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "a line": (lambda: bomb(b"label,", b"0,"), "line 1: longer than"),
    "a row": (lambda: bomb(HEADER.encode() + b"\n", b"0"), "line 2: longer than"),
    "line ends": (lambda: bomb(b"", b"\n"), "megabytes of empty rows"),
    "separators": (lambda: bomb(HEADER.encode() + b"\n", b"," * 784 + b"\r\n"), "megabytes of empty rows"),
    "nothing": (lambda: bomb(b"x,", b"\0"), "line 1: longer than"),
    "other images": (lambda: archive(x_train=HEAD + ZEROS, y_train=Y), "its header asks for 47,040"),
    "other labels": (
        lambda: archive(x_train=HEAD + bytes(47_040), y_train=npy_header((SIZE,)) + ZEROS),
        f"y_train: {SIZE} labels, but 60 images",
    ),
    "larger test images": (
        lambda: archive(x_train=HEAD + bytes(47_040), y_train=Y, x_test=LONG, y_test=Y),
        "x_test: images of 1118481 x 1 pixels, but those to train on have 28 x 28",
    ),
    "a row in zip": (
        lambda: kinds.zipped({"train.csv": HEADER.encode() + b"\n" + b"0" * SIZE}),
        "line 2: longer than",
    ),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_what_is_not_wanted_is_not_unpacked(kind: str, tmp_path: Path) -> None:
    write, expected = BOMBS[kind]
    (tmp_path / "bomb").write_bytes(write())
    tracemalloc.start()
    try:
        assert expected in refusal(tmp_path / "bomb")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 24


@pytest.mark.parametrize(
    ("images", "labels", "expected"),
    [
        (npy_header((60, 28, 28), "|O"), Y, "x_train: an array of objects, a pickle"),
        (npy_header((60, 28, 28), "<M8[s]"), Y, "x_train: elements of type datetime64[s], not numbers"),
        (npy_header((60, 28, 28), "|V0"), Y, "x_train: elements of type |V0, not numbers"),
        (npy_header((60, 28, 28), "<U0"), Y, "x_train: shape (60, 28, 28): no element"),
        (npy_header((60, 0, 28)), Y, "x_train: shape (60, 0, 28): no element"),
        (npy_header(()) + b"1", Y, "x_train: shape (): no element"),
        (npy_header((60, 28, 28)) + bytes(47_039), Y, "x_train: 47,039 bytes, but its header asks for 47,040"),
        (npy_header((60, 2**62, 2**62)), Y, "x_train: 0 bytes, but its header asks for more than any file has"),
        (npy_header((60, 28, 27)) + bytes(45_360), stored(kinds.LABELS[1:]), "y_train: 59 labels, but 60 images"),
        (npy_header((60, 784, 1, 1, 1)) + bytes(47_040), Y, "shape (60, 784, 1, 1, 1): give images"),
        (stored(kinds.TRAIN.images), npy_header((60,), "<U1") + b"\xff" * 240, "y_train: texts that are not Unicode"),
        (npy_header((60, 28, 28)).replace(b"|u1", b"\\O1"), Y, "x_train: not an array in NumPy's format"),
        (b"\x93NUMPY\x09\0", Y, "x_train: not an array in NumPy's format"),
        (npy_header((60, 28, 28))[:40], Y, "x_train: not an array in NumPy's format"),
        (b"", Y, "x_train: not an array in NumPy's format"),
        (stored(kinds.TRAIN.images), stored(np.eye(10)[kinds.LABELS]), "of one-hot rows labels.argmax(1)"),
        (stored(kinds.TRAIN.images), stored(np.zeros((60, 1, 1))), "give one label for each image"),
    ],
)
def test_arrays_that_are_refused(images: bytes, labels: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / "m.npz").write_bytes(archive(x_train=images, y_train=labels))
    assert expected in refusal(tmp_path / "m.npz")


def test_no_pickle_is_read(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    np.savez(tmp_path / "m.npz", x_train=kinds.TRAIN.images, y_train=np.array([Trap()], dtype=object))
    np.save(tmp_path / "m.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    for name in ("m.npz", "m.npy"):
        refusal(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compression(method: int, tmp_path: Path) -> None:
    (tmp_path / "m.npz").write_bytes(archive(method, x_train=stored(kinds.TRAIN.images), y_train=Y))
    if method == zipfile.ZIP_STORED:
        assert len(load_data(tmp_path / "m.npz", dev_size=0).train) == 60
    else:
        assert "compressed in another way than by deflate; unpack it" in refusal(tmp_path / "m.npz")


def test_an_archive_is_damaged_or_empty(tmp_path: Path) -> None:
    content = bytearray(archive(x_train=stored(kinds.TRAIN.images), y_train=Y))
    content[len(content) // 2] ^= 1
    for kind, damaged in {"bit": bytes(content), "cut": bytes(content[:-30]), "empty": zipfile_of_nothing()}.items():
        (tmp_path / kind).write_bytes(damaged)
    assert "a zip archive that cannot be read" in refusal(tmp_path / "bit")
    assert "a zip archive that cannot be read" in refusal(tmp_path / "cut")
    assert "a zip archive of no files" in refusal(tmp_path / "empty")


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        (8, 1, "x_train: an encrypted zip archive; unpack it"),
        (8, 0x20, "compressed patched data"),
        (6, 99, "zip file version 9.9"),
        (10, 77, "compressed in another way than by deflate"),
        (46, 0xFF, "'utf-8' codec can't decode"),
    ],
)
def test_a_member_that_python_cannot_read(place: int, value: int, expected: str, tmp_path: Path) -> None:
    content = bytearray(archive(x_train=stored(kinds.TRAIN.images), y_train=Y))
    directory = content.index(b"PK\x01\x02")
    content[directory + place] = value
    if place == 46:
        content[directory + 9] = 8  # says that names are UTF-8
    (tmp_path / "m.npz").write_bytes(content)
    assert expected in refusal(tmp_path / "m.npz")


def test_a_member_that_ends_with_the_archive(tmp_path: Path) -> None:
    content = bytearray(kinds.zipped({"train.csv": kinds.KAGGLE}, zipfile.ZIP_STORED))
    directory = content.index(b"PK\x01\x02")
    content[directory + 22], content[directory + 26] = 9, 9  # compressed and unpacked size: megabytes
    (tmp_path / "m.zip").write_bytes(content)
    assert "a zip archive that cannot be read (EOFError)" in refusal(tmp_path / "m.zip")


def zipfile_of_nothing() -> bytes:
    content = io.BytesIO()
    zipfile.ZipFile(content, "w").close()
    return content.getvalue()


def test_what_macos_adds_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(kinds.zipped({"train.csv": kinds.KAGGLE, "__MACOSX/._train.csv": b"x"}))
    assert len(load_data(tmp_path / "a.zip", dev_size=0).train) == 60


def test_gzip_within_a_zip_archive(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(kinds.zipped({"train.csv.gz": gzip.compress(kinds.KAGGLE)}))
    assert len(load_data(tmp_path / "a.zip", dev_size=0).train) == 60
