"""Data sets as a whole: the embedded MNIST, splits, sizes, the hash, and paths that lead nowhere."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import re
import struct
import subprocess
import sys
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnistbench.datasets import DEV_SIZE, EMBEDDED, EMBEDDED_TRAIN_SIZE, Dataset, Split, load_data
from mnistbench.datasets.folders import FILE_NAMES
from mnistbench.datasets.idx import read_idx
from mnistbench.exceptions import DataError, OptionError
from tests.support.builders import idx
from tests.support.data_files import arrays, refusal, write_folder

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = FILE_NAMES
EMBEDDED_FOLDER = files("mnistbench.datasets").joinpath("mnist")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "small")


# The embedded data set


def test_embedded_is_split_as_documented() -> None:
    train_images, train_labels, test_images, test_labels = (
        read_idx(EMBEDDED_FOLDER.joinpath(f"{name}.gz"), dimensions) for name, dimensions in FILE_NAMES.items()
    )
    data = load_data(seed=3)
    order = np.random.default_rng(3).permutation(60_000)
    assert (data.source, data.image_shape, data.classes, data.pixels) == (EMBEDDED, (28, 28), 10, 784)
    assert data.network(10).sizes == (784, 10, 10)
    assert (len(data.dev), len(data.train)) == (DEV_SIZE, EMBEDDED_TRAIN_SIZE) == (1_000, 41_000)
    for split, rows in ((data.dev, order[:1_000]), (data.train, order[1_000:42_000])):
        assert np.array_equal(split.images, train_images.reshape(-1, 784)[rows])
        assert np.array_equal(split.labels, train_labels[rows])
    assert data.test is not None
    assert np.array_equal(data.test.images, test_images.reshape(-1, 784))
    assert np.array_equal(data.test.labels, test_labels)
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
def test_pandas_is_not_imported() -> None:
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

    data = replace(load_data(folder, dev_size=2), classes=4)
    assert data.test is not None
    variants: list[Dataset] = [data, replace(data, image_shape=(3, 2)), replace(data, test=None)]
    for flips in ((1, 0), (0, 1)):
        splits = {"train": data.train, "dev": data.dev, "test": data.test}
        variants += [replace(data, **{name: changed(split, *flips)}) for name, split in splits.items()]  # type: ignore[arg-type]
    assert len({variant.sha256 for variant in variants}) == len(variants)
    assert replace(data, source="elsewhere").sha256 == data.sha256


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
    assert (len(load_data(folder).train), len(load_data(folder).dev)) == (11, 1)
    assert "only 10 of the 12 images are left after 2 for dev" in refusal(folder, dev_size=2, train_size=11)


@pytest.mark.parametrize("seed", [-1, 0.5])
def test_seed_must_be_a_whole_number(folder: Path, seed: Any) -> None:
    with pytest.raises(OptionError, match=f"^seed {seed}: "):
        load_data(folder, seed)


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
    monkeypatch.setattr(Path, "open", Mock(side_effect=denied))
    assert refusal(folder if inside else file) == f"{denied.filename}: cannot be read: Permission denied"


def test_out_of_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "open", Mock(side_effect=MemoryError))
    assert "does not fit into the memory" in refusal(folder)
