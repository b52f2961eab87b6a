"""Data sets: files are read as they were written, and anything malformed is refused in one line."""

from __future__ import annotations

import codecs
import errno
import gzip
import hashlib
import os
import re
import struct
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from mnistbench.datasets import DEV_SIZE, EMBEDDED, EMBEDDED_TRAIN_SIZE, Dataset, Split, load_data
from mnistbench.datasets.csv import CHUNK_LINES, COLUMNS, read_csv
from mnistbench.datasets.idx import FILE_NAMES, read_folder, read_idx
from mnistbench.exceptions import DataError, OptionError
from tests.support.builders import idx

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = FILE_NAMES
EMBEDDED_FOLDER = files("mnistbench.datasets").joinpath("mnist")
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a small data set of IDX files: 12 labelled and 4 test images of 2 x 3 pixels."""
    path = tmp_path / "small"
    path.mkdir()
    for name, array in arrays().items():
        (path / name).write_bytes(idx(array))
    return path


def csv_row(label: object = 0, **cells: object) -> str:
    """Return a row of the CSV file, 0 except for the given cells."""
    return ",".join(str({"label": label, **cells}.get(column, 0)) for column in COLUMNS)


def csv_file(path: Path, *rows: str, header: str = HEADER, end: str = "\n") -> Path:
    path.write_bytes("".join(line + end for line in (header, *rows)).encode())
    return path


# The embedded data set


def test_embedded_is_split_as_documented() -> None:
    source = read_folder(EMBEDDED_FOLDER)
    data = load_data(seed=3)
    order = np.random.default_rng(3).permutation(60_000)
    assert (data.source, data.image_shape, data.classes, data.pixels) == (EMBEDDED, (28, 28), 10, 784)
    assert data.network(10).sizes == (784, 10, 10)
    assert (len(data.dev), len(data.train)) == (DEV_SIZE, EMBEDDED_TRAIN_SIZE) == (1_000, 41_000)
    for split, rows in ((data.dev, order[:1_000]), (data.train, order[1_000:42_000])):
        assert np.array_equal(split.images, source.train_images.reshape(-1, 784)[rows])
        assert np.array_equal(split.labels, source.train_labels[rows])
    assert data.test is not None
    assert np.array_equal(data.test.images, source.test_images.reshape(-1, 784))
    assert np.array_equal(data.test.labels, source.test_labels)
    for split in (data.train, data.dev, data.test):
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int64
        for array in (split.images, split.labels):
            assert array.flags.c_contiguous
            assert array.flags.writeable


def test_embedded_files_are_the_originals() -> None:
    table = dict(re.findall(r"\| (\S+-ubyte) \| ([0-9a-f]{64}) \|", (EMBEDDED_FOLDER / "README.md").read_text()))
    assert set(table) == set(FILE_NAMES)
    for name, digest in table.items():
        content = gzip.decompress(EMBEDDED_FOLDER.joinpath(f"{name}.gz").read_bytes())
        assert hashlib.sha256(content).hexdigest() == digest


def test_embedded_sizes() -> None:
    assert len(load_data(train_size=59_000).train) == 59_000
    small_dev = load_data(dev_size=10)
    assert (len(small_dev.dev), len(small_dev.train)) == (10, EMBEDDED_TRAIN_SIZE)
    large_dev = load_data(dev_size=30_000)
    assert (len(large_dev.dev), len(large_dev.train)) == (30_000, 30_000)
    assert "only 59000 of the 60000 images" in refusal(None, train_size=59_001)


@pytest.mark.process
def test_pandas_is_imported_for_csv_only() -> None:
    program = "import sys; from mnistbench.datasets import load_data; load_data(); print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# Splits and the hash


@given(st.integers(0, 2**64), st.integers(3, 40), st.integers(0, 39), st.integers(1, 39) | st.none())
def test_splits_are_disjoint_cover_and_follow_the_seed(
    tmp_path_factory: pytest.TempPathFactory, seed: int, images: int, dev: int, train: int | None
) -> None:
    path = tmp_path_factory.mktemp("split")
    for name, array in arrays(train=images).items():
        (path / name).write_bytes(idx(array))
    left = images - dev
    if left < 1 or (train or 1) > left:
        refusal(path, seed=seed, train_size=train, dev_size=dev)
        return
    data = load_data(path, seed, train, dev)
    train_numbers, dev_numbers = (split.images[:, 0].tolist() for split in (data.train, data.dev))
    assert len(dev_numbers) == dev
    assert len(train_numbers) == (left if train is None else train)
    assert len({*dev_numbers, *train_numbers}) == len(dev_numbers) + len(train_numbers)
    assert {*dev_numbers, *train_numbers} <= set(range(images))
    for split in (data.train, data.dev):  # an image keeps its label
        assert np.array_equal(split.labels, split.images[:, 0] % 3)
    again = load_data(path, seed, train, dev)
    assert again.sha256 == data.sha256


def test_seeds_shuffle_differently(folder: Path) -> None:
    assert len({load_data(folder, seed, dev_size=2).sha256 for seed in range(20)}) == 20


def test_sha256_is_of_what_it_says(folder: Path) -> None:
    data = load_data(folder, dev_size=2)
    assert data.test is not None
    expected = hashlib.sha256()
    for head, split in ((b"train 10 2 3\n", data.train), (b"dev 2 2 3\n", data.dev), (b"test 4 2 3\n", data.test)):
        expected.update(head + split.images.tobytes() + b"".join(struct.pack("<q", y) for y in split.labels))
    assert data.sha256 == expected.hexdigest()


def test_sha256_sees_every_part(folder: Path) -> None:
    def changed(split: Split, images: int, labels: int) -> Split:
        copy = Split(split.images.copy(), split.labels.copy())
        copy.images[-1, -1] ^= images
        copy.labels[-1] ^= labels
        return copy

    data = load_data(folder, dev_size=2)
    assert data.test is not None
    variants: list[Dataset] = [data, replace(data, image_shape=(3, 2)), replace(data, test=None)]
    for flips in ((1, 0), (0, 1)):
        splits = {"train": data.train, "dev": data.dev, "test": data.test}
        variants += [replace(data, **{name: changed(split, *flips)}) for name, split in splits.items()]  # type: ignore[arg-type]
    assert len({variant.sha256 for variant in variants}) == len(variants)
    columns_first = Split(np.asfortranarray(data.train.images), data.train.labels.astype(">i8"))
    assert replace(data, train=columns_first, source="elsewhere").sha256 == data.sha256


@pytest.mark.parametrize("size", [0, -1, 1.5])
def test_sizes_must_be_positive_whole_numbers(folder: Path, size: Any) -> None:
    assert f"train size {size}: must be a positive" in refusal(folder, dev_size=2, train_size=size)
    if size:
        assert f"dev size {size}: must be 0 or a positive" in refusal(folder, dev_size=size)


def test_without_dev_all_images_are_trained_on(folder: Path) -> None:
    data = load_data(folder, dev_size=0)
    assert (len(data.train), len(data.dev)) == (12, 0)
    assert data.dev.images.shape == (0, 6)
    assert (str(data.dev.images.dtype), str(data.dev.labels.dtype)) == ("uint8", "int64")
    assert data.sha256 != load_data(folder, dev_size=1).sha256


def test_sizes_must_fit(folder: Path) -> None:
    assert len(load_data(folder, dev_size=11).train) == 1
    for size in (12, 13):
        assert "leaves none of the 12 images" in refusal(folder, dev_size=size)
    assert "dev size 1000: leaves none" in refusal(folder)
    assert "only 10 of the 12 images are left after 2 for dev" in refusal(folder, dev_size=2, train_size=11)


@pytest.mark.parametrize("seed", [-1, 0.5])
def test_seed_must_be_a_whole_number(folder: Path, seed: Any) -> None:
    with pytest.raises(OptionError, match=f"^seed {seed}: "):
        load_data(folder, seed)


# IDX folders


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
        (b"\x89PNG\r\n", "byte 0: not an IDX file: it starts with 89 50 4e 47, not 00 00 08 03"),
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


# Kaggle's CSV


def test_csv(tmp_path: Path) -> None:
    rows = [csv_row(i % 4, pixel0=i, pixel783=255 - i, pixel30=7) for i in range(10)]
    data = load_data(csv_file(tmp_path / "train.csv", *rows), seed=1, dev_size=3)
    assert (data.source, data.image_shape, data.classes) == (str(tmp_path / "train.csv"), (28, 28), 4)
    assert data.test is None
    order = np.random.default_rng(1).permutation(10)
    for split, rows_of_file in ((data.dev, order[:3]), (data.train, order[3:])):
        assert np.array_equal(split.labels, rows_of_file % 4)
        assert np.array_equal(split.images[:, 0], rows_of_file)
        assert np.array_equal(split.images[:, 783], 255 - rows_of_file)
        assert np.array_equal(split.images[:, 30], np.full(len(split), 7))
        assert split.images.sum() == (255 + 7) * len(split)
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int64
        assert split.images.flags.c_contiguous
    assert len(load_data(tmp_path / "train.csv", train_size=2, dev_size=3).train) == 2


VALID = f"{HEADER}\n{csv_row(1, pixel0=200)}\n{csv_row(0, pixel2=3)}\n".encode()


@pytest.mark.parametrize(
    "content",
    [
        VALID,
        VALID.removesuffix(b"\n"),
        VALID.replace(b"\n", b"\r\n"),
        VALID.replace(b"\n", b"\r"),
        b"\n" + VALID.replace(b"\n", b"\n\n  \n") + b"\n\n",
        codecs.BOM_UTF8 + VALID,
        compressed_bytes(VALID),
        VALID.replace(b",200,", b",200.0,").replace(b",3,", b", 3. ,").replace(b"\n1,", b"\n+1e0,"),
    ],
    ids=["plain", "no last line end", "crlf", "cr", "blank lines", "bom", "gzip", "floats"],
)
def test_csv_variants(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "any.name").write_bytes(content)
    images, labels = read_csv(tmp_path / "any.name")
    assert labels.tolist() == [1, 0]
    expected = np.zeros((2, 784), np.uint8)
    expected[0, 0], expected[1, 2] = 200, 3
    assert np.array_equal(images, expected)


def test_csv_of_many_lines(tmp_path: Path) -> None:
    """Files are read in pieces, with the right line numbers in the last piece."""
    count = 2 * CHUNK_LINES + 3
    tail = ",0" * 782
    rows = [f"{i % 10},{i % 256},{i // 256}{tail}" for i in range(count)]
    images, labels = read_csv(csv_file(tmp_path / "train.csv", *rows))
    assert np.array_equal(labels, np.arange(count) % 10)
    assert np.array_equal(images[:, 0] + 256 * images[:, 1].astype(int), np.arange(count))
    for bad in ("256", "x"):
        rows[-2] = f"1,{bad},0{tail}"
        message = refusal(csv_file(tmp_path / "train.csv", *rows))
        assert f"line {count}, column 'pixel0': '{bad}', not" in message


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (",".join(COLUMNS[1:]), "column 'label' is missing"),
        (",".join(COLUMNS[:-1]), "column 'pixel783' is missing"),
        (HEADER.replace("pixel5,", ""), "column 'pixel5' is missing"),
        (HEADER.replace("pixel5,", "Pixel5,"), "column 'pixel5' is missing"),
        (HEADER.replace("pixel5,", "pixel4,"), "column 'pixel5' is missing"),
        (HEADER.replace("pixel5,", "pixel5,pixel5,"), "column 8, 'pixel5', is one too many"),
        (HEADER.replace("label", "id,label"), "column 1, 'id', is one too many"),
        (HEADER + ",", "column 786, '', is one too many"),
        (HEADER + ",pixel784", "column 786, 'pixel784', is one too many"),
        (HEADER + ",x" * 5_000, "column 786, 'x', is one too many"),
        (HEADER.replace("pixel0,pixel1,", "pixel1,pixel0,"), "column 2 is 'pixel1', not 'pixel0'"),
        (HEADER.replace("label,pixel0", "pixel0,label"), "column 1 is 'pixel0', not 'label'"),
        (HEADER.replace("label", "łabel\u2028" + "y" * 500), "column 'label' is missing"),
        (csv_row(), "column 'label' is missing"),
    ],
)
def test_csv_header(tmp_path: Path, header: str, expected: str) -> None:
    message = refusal(csv_file(tmp_path / "train.csv", csv_row(), header=header))
    assert f"train.csv: line 1: {expected}; the header must be label,pixel0,...,pixel783" in message


@pytest.mark.parametrize("column", ["label", "pixel0", "pixel783"])
@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("", "an empty cell"),
        (" ", "an empty cell"),
        ("\u2028", "an empty cell"),
        ("9" * 400, f"'{'9' * 37}...'"),
        *((cell, repr(cell)) for cell in ("-1", "1.5", "65536", "9" * 30, "1e400", "inf", "-Infinity", "nan", "NaN")),
        *((cell, repr(cell)) for cell in ("NA", "five", "True", "1_0", "0x10", '"5"', "5 6", "٣")),
    ],
)
def test_csv_cell(tmp_path: Path, column: str, cell: str, found: str) -> None:
    rows = [csv_row(1), "", csv_row(2), csv_row(**{column: cell}), csv_row(pixel5=999)]
    message = refusal(csv_file(tmp_path / "train.csv", *rows))
    largest = 65_535 if column == "label" else 255
    assert f"line 5, column '{column}': {found}, not a whole number from 0 to {largest}" in message


def test_csv_bounds(tmp_path: Path) -> None:
    rows = [csv_row(65_535, pixel9=255), csv_row(0)]
    data = load_data(csv_file(tmp_path / "train.csv", *rows), dev_size=1)
    assert data.classes == 65_536
    assert max(data.train.images.max(), data.dev.images.max()) == 255
    bad = csv_file(tmp_path / "train.csv", csv_row(pixel9=256), rows[1])
    assert "'256', not a whole number from 0 to 255" in refusal(bad)


@given(cell=st.text(st.characters(codec="utf-8", exclude_characters=",\r\n"), max_size=6) | st.floats().map(repr))
def test_csv_cell_is_a_number_or_refused(scratch: Path, cell: str) -> None:
    """A cell is read as Python reads it, or refused."""
    csv_file(scratch, csv_row(1), csv_row(pixel3=cell))
    try:
        value = int(read_csv(scratch)[0][1, 3])
    except DataError as error:
        message = one_line(error)
        assert ("line 3: not UTF-8 text" if "\0" in cell else "line 3, column 'pixel3'") in message
        assert not re.fullmatch(r"\d{1,2}|1\d\d|2[0-4]\d|25[0-5]", cell, re.ASCII)
    else:
        assert value == float(cell)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], "has a header, but no rows"),
        (["", " "], "has a header, but no rows"),
        ([csv_row(), csv_row() + ",0"], "line 3: 786 fields, but the header has 785"),
        ([csv_row() + ",", csv_row() + ","], "line 2: 786 fields"),
        ([csv_row(), "", csv_row()[:-2]], "line 4: 784 fields"),
        (["1"], "line 2: 1 fields"),
        ([csv_row(7), csv_row(7)], "all training labels are 7"),
        ([csv_row(1), csv_row(2)], "dev size 1000: leaves none of the 2 images"),
    ],
)
def test_csv_rows(tmp_path: Path, rows: list[str], expected: str) -> None:
    assert expected in refusal(csv_file(tmp_path / "train.csv", *rows))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the file is empty"),
        (b"\r\n \n", "the file is empty"),
        (codecs.BOM_UTF8, "the file is empty"),
        (compressed_bytes(b""), "the file is empty"),
        (compressed_bytes(VALID)[:-9], "before its gzip data does"),
        (compressed_bytes(VALID)[:-8] + bytes(8), "damaged gzip data"),
        (VALID.decode().encode("utf-16"), "line 1: not UTF-8 text"),
        (VALID.replace(b"\n", b"\r\n") + b"5,\xff", "line 4: not UTF-8 text"),
        (VALID.replace(b",3,", b",3\x003,"), "line 3: not UTF-8 text"),
        (b"PK\x03\x04rest", "not a CSV file but a zip archive"),
        (SMALL, "not a CSV file but an IDX file"),
        (compressed_bytes(SMALL), "not a CSV file but an IDX file"),
    ],
)
def test_csv_content(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "train.csv").write_bytes(content)
    assert expected in refusal(tmp_path / "train.csv")


# Paths


def test_nothing_there(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere") == f"{tmp_path / 'nowhere'}: no such file or folder"
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert refusal(tmp_path / "link").endswith("no such file or folder")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    refusal(tmp_path / "circle")
    refusal(tmp_path / ("long" * 100))


def test_folder_named_like_the_csv(tmp_path: Path) -> None:
    (tmp_path / "train.csv").mkdir()
    assert f"has no file {TRAIN_IMAGES} " in refusal(tmp_path / "train.csv")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_neither_a_file_nor_a_folder(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe").endswith("neither a file nor a folder")


@pytest.mark.parametrize("name", ["two\nlines", "nul\0", "\udcff"])
def test_unprintable_name_is_escaped(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="no such file or folder") as caught:
        load_data(tmp_path / name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("inside", [True, False])
def test_unreadable_file(folder: Path, monkeypatch: pytest.MonkeyPatch, inside: bool) -> None:
    file = folder / TEST_LABELS

    denied = PermissionError(errno.EACCES, "Permission denied", str(folder / TRAIN_IMAGES if inside else file))
    monkeypatch.setattr(Path, "read_bytes", Mock(side_effect=denied))
    assert refusal(folder if inside else file) == f"{denied.filename}: cannot be read: Permission denied"


def test_out_of_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_bytes", Mock(side_effect=MemoryError))
    assert "does not fit into the memory" in refusal(folder)
