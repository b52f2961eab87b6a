"""IDX files and folders of them: read as they were written, and anything malformed is refused in one line."""

from __future__ import annotations

import re
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from mnistbench.datasets import load_data
from mnistbench.datasets.folders import FILE_NAMES
from mnistbench.datasets.idx import read_idx
from mnistbench.exceptions import DataError
from tests.support.builders import idx
from tests.support.data_files import arrays, compressed_bytes, one_line, refusal, write_folder

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = FILE_NAMES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "small")


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("spelling", ["{}", "{}.gz", "dotted", "dotted.gz"])
def test_folder_with_any_spelling(tmp_path: Path, spelling: str, compressed: bool) -> None:
    for name, array in arrays().items():
        file = tmp_path / spelling.replace("dotted", name.replace("-idx", ".idx")).format(name)
        file.write_bytes(compressed_bytes(idx(array)) if compressed else idx(array))
    data = load_data(str(tmp_path), dev_size=2)
    assert (data.source, data.image_shape, data.classes) == (str(tmp_path), (2, 3), 3)
    assert (len(data.train), len(data.dev)) == (10, 2)
    assert data.test is not None
    assert np.array_equal(data.test.images.reshape(4, 2, 3), arrays()[TEST_IMAGES])
    assert np.array_equal(data.test.labels, arrays()[TEST_LABELS])


def test_folder_prefers_the_plain_file(folder: Path) -> None:
    (folder / f"{TRAIN_IMAGES}.gz").write_bytes(b"not read")
    (folder / "train-labels.idx1-ubyte").mkdir()
    load_data(folder, dev_size=2)


def test_folder_named_like_a_file(folder: Path) -> None:
    """Some archives unpack each file into a folder of its name, beside the dotted file."""
    (folder / TRAIN_IMAGES).rename(folder / "train-images.idx3-ubyte")
    (folder / TRAIN_IMAGES).mkdir()
    load_data(folder, dev_size=2)
    (folder / "train-images.idx3-ubyte").unlink()
    assert f"{TRAIN_IMAGES}: a folder, where a file should be" in refusal(folder)


@pytest.mark.parametrize("name", FILE_NAMES)
def test_folder_lacks_a_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert f"has no file {name} " in refusal(folder)


@pytest.mark.parametrize(("file", "labels"), [(TRAIN_LABELS, [9] + 11 * [1]), (TEST_LABELS, [9, 0, 0, 0])])
def test_classes_come_from_train_and_test(folder: Path, file: str, labels: list[int]) -> None:
    (folder / file).write_bytes(idx(np.array(labels)))
    assert load_data(folder, dev_size=2).classes == 10


def test_gzip_of_several_members_and_padding(folder: Path) -> None:
    content = idx(arrays()[TRAIN_IMAGES])
    parts = compressed_bytes(content[:5]) + compressed_bytes(b"") + compressed_bytes(content[5:]) + bytes(512)
    (folder / TRAIN_IMAGES).write_bytes(parts)
    assert np.array_equal(read_idx(folder / TRAIN_IMAGES, 3), arrays()[TRAIN_IMAGES])


SMALL = idx(arrays()[TRAIN_IMAGES])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the file is empty"),
        (compressed_bytes(b""), "the file is empty"),
        (b"\x89PNG\r\n", "not an IDX file but a picture; give Dataset.from_arrays"),
        (b"\x08\0\0\x03", "byte 0: not an IDX file: it starts with 08 00 00 03, not 00 00 08 03"),
        (compressed_bytes(compressed_bytes(SMALL)), "not an IDX file but gzip data within gzip data"),
        (b"<!DOCTYPE html>", "not an IDX file but a web page"),
        (b"\0\0\x08", "byte 0: not an IDX file: it starts with 00 00 08, not 00 00 08 03"),
        (SMALL[:7], "ends at byte 7, inside the header of 16 bytes"),
        (b"\0\0\x0d" + SMALL[3:], "byte 2: elements of type 0x0d (32-bit floats), not 0x08 (unsigned bytes)"),
        (b"\0\0\x07" + SMALL[3:], "byte 2: elements of type 0x07 (an unknown type)"),
        (idx(np.zeros(12)), "byte 3: 1 dimensions, but images have 3"),
        (idx(np.zeros((0, 2, 3))), "byte 4: a size of 0: the file holds 0 images of 2 x 3 pixels"),
        (idx(np.zeros((12, 2, 0))), "byte 12: a size of 0: the file holds 12 images of 2 x 0 pixels"),
        (SMALL[:-1], "ends at byte 87, but its header asks for 12 images of 2 x 3 pixels, 88 bytes"),
        (SMALL + b"\0", "goes on at byte 88, where its header says that it ends"),
        (compressed_bytes(SMALL[:-1]), "ends at byte 87, but its header asks for"),
        (compressed_bytes(SMALL + b"\0"), "goes on at byte 88"),
        (compressed_bytes(SMALL) + compressed_bytes(b"\0"), "goes on at byte 88"),
        (
            compressed_bytes(SMALL) + b"\0\0more",
            f"byte {len(compressed_bytes(SMALL)) + 2}: what follows the gzip data",
        ),
        (compressed_bytes(SMALL)[:-3], f"ends at byte {len(compressed_bytes(SMALL)) - 3}, before its gzip data does"),
        (compressed_bytes(SMALL)[:-8] + bytes(8), "damaged gzip data from byte 0 on"),
        (compressed_bytes(SMALL)[:10] + b"\xff" * 40, "damaged gzip data from byte 0 on"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "asks for 4294967295 images of 4294967295 x 4294967295 pixels"),
        (compressed_bytes(b"\0\0\x08\x03" + b"\xff" * 12), "asks for 4294967295 images"),
    ],
)
def test_damaged_images(folder: Path, content: bytes, expected: str) -> None:
    (folder / TRAIN_IMAGES).write_bytes(content)
    message = refusal(folder)
    assert message.startswith(f"{folder / TRAIN_IMAGES}: ")
    assert expected in message


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        (TRAIN_LABELS, SMALL, "byte 3: 3 dimensions, but labels have 1"),
        (TRAIN_LABELS, idx(np.zeros(0)), "byte 4: a size of 0: the file holds 0 labels"),
        (TRAIN_LABELS, idx(np.zeros(11)), "11 labels, but {images} holds 12 images"),
        (TEST_LABELS, idx(np.zeros(5)), "5 labels, but {test_images} holds 4 images"),
        (TEST_IMAGES, idx(np.zeros((4, 3, 2))), "images of 3 x 2 pixels, but those in {images} have 2 x 3"),
    ],
)
def test_files_that_do_not_belong_together(folder: Path, file: str, content: bytes, expected: str) -> None:
    (folder / file).write_bytes(content)
    message = refusal(folder)
    assert message.startswith(f"{folder / file}: ")
    assert expected.format(images=folder / TRAIN_IMAGES, test_images=folder / TEST_IMAGES) in message


def test_one_class_is_refused(folder: Path) -> None:
    (folder / TRAIN_LABELS).write_bytes(idx(np.full(12, 5)))
    assert "all training labels are 5" in refusal(folder, dev_size=2)


@pytest.mark.parametrize("compressed", [False, True])
def test_nothing_is_allocated_from_a_header(tmp_path: Path, compressed: bool) -> None:
    """Neither if the header asks for much, nor if gzip data unpacks to more than its header asks for."""
    asks = b"\0\0\x08\x03" + struct.pack(">3I", 2**20, 2**10, 2**10) + bytes(9)
    holds = b"\0\0\x08\x03" + struct.pack(">3I", 1, 3, 3) + bytes(2**25)
    for content in (asks, holds):
        file = tmp_path / TRAIN_IMAGES
        file.write_bytes(compressed_bytes(content, 1) if compressed else content[: 2**12])
        tracemalloc.start()
        with pytest.raises(DataError):
            read_idx(file, 3)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 2**21


IMAGES = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=5))
LABELS = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=1, max_side=20))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a path for tests that write one file many times."""
    return tmp_path_factory.mktemp("scratch") / "file"


@given(array=IMAGES | LABELS, compressed=st.booleans())
def test_idx_round_trip(scratch: Path, array: NDArray[np.uint8], compressed: bool) -> None:
    scratch.write_bytes(compressed_bytes(idx(array)) if compressed else idx(array))
    assert np.array_equal(read_idx(scratch, array.ndim), array)


@given(array=IMAGES | LABELS, compressed=st.booleans(), data=st.data())
def test_idx_truncated_anywhere(scratch: Path, array: NDArray[np.uint8], compressed: bool, data: st.DataObject) -> None:
    content = compressed_bytes(idx(array)) if compressed else idx(array)
    scratch.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(DataError, match=re.escape(str(scratch))):
        read_idx(scratch, array.ndim)


@given(array=IMAGES | LABELS, compressed=st.booleans(), data=st.data())
def test_idx_with_a_changed_byte(
    scratch: Path, array: NDArray[np.uint8], compressed: bool, data: st.DataObject
) -> None:
    """Damage is noticed, or the array is unchanged; only elements of an uncompressed file have no checksum."""
    content = bytearray(compressed_bytes(idx(array)) if compressed else idx(array))
    header = 4 + 4 * array.ndim
    position = data.draw(st.integers(0, (len(content) if compressed else header) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    scratch.write_bytes(content)
    try:
        assert np.array_equal(read_idx(scratch, array.ndim), array)
        assert compressed  # bytes such as the time in the header of gzip do not matter
    except DataError as error:
        one_line(error)


@given(st.sampled_from([b"", b"\0\0\x08\x03", b"\0\0\x08\x01", b"\x1f\x8b\x08"]), st.binary(max_size=60))
def test_any_bytes_raise_nothing_else(scratch: Path, start: bytes, content: bytes) -> None:
    scratch.write_bytes(start + content)
    for dimensions in (1, 3):
        try:
            assert idx(read_idx(scratch, dimensions)) == start + content
        except DataError as error:
            one_line(error)
    refusal(scratch)
