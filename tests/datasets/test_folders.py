"""Which files of a folder are read, and what is said of a folder in which none or too many can be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mnistbench.datasets import folders, idx, load_data
from mnistbench.datasets.folders import FILE_NAMES
from mnistbench.exceptions import DataError
from tests.support import kinds
from tests.support.builders import idx as idx_bytes
from tests.support.data_files import arrays, compressed_bytes, refusal, write_folder

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = FILE_NAMES


def write(folder: Path, rename: Callable[[str], str] = str) -> Path:
    """Write four small IDX files under other names, in gzip."""
    for name, array in arrays().items():
        path = folder / rename(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(compressed_bytes(idx_bytes(array)))
    return folder


@pytest.mark.parametrize(
    "spelling",
    [
        "{} (1).gz",
        "{}(1).gz",
        "{}.gz (2)",
        "{}.GZ",
        "emnist-mnist-{}.gz",
        "emnist_letters_{}",
        "EMNIST-Balanced-{}",
        "any.thing-{}",
        "{0}/{0}",
        "{0}.gz/{0}.gz",
    ],
)
def test_spellings_of_the_four_names(spelling: str, tmp_path: Path) -> None:
    data = load_data(write(tmp_path, spelling.format), dev_size=0)
    assert data.test is not None
    axes = (0, 2, 1) if "emnist" in spelling.casefold() else (0, 1, 2)
    expected = arrays()[TEST_IMAGES].transpose(axes)
    assert data.image_shape == expected.shape[1:]
    assert np.array_equal(data.test.images.reshape(expected.shape), expected)


def test_files_without_a_number_come_first(tmp_path: Path) -> None:
    write_folder(tmp_path / "small")
    for name in FILE_NAMES:
        (tmp_path / "small" / f"{name} (1).gz").write_bytes(b"not read")
    assert load_data(tmp_path / "small", dev_size=0).notes == ()
    (tmp_path / "small" / TRAIN_IMAGES).rename(tmp_path / "small" / f"{TRAIN_IMAGES} (2)")
    assert f"{TRAIN_IMAGES} (1).gz: byte 0: not an IDX file" in refusal(tmp_path / "small")


@pytest.mark.parametrize("missing", ["train-images", "test-labels"])
def test_emnist_lacks_a_file(missing: str, tmp_path: Path) -> None:
    write(tmp_path, lambda name: f"emnist-digits-{name.replace('t10k', 'test')}.gz")
    (file,) = tmp_path.glob(f"*{missing}*")
    file.unlink()
    assert f"has no file {file.name.removesuffix('.gz')} (nor {file.name}" in refusal(tmp_path)


def test_classes_without_an_image_are_said(tmp_path: Path) -> None:
    write_folder(tmp_path / "letters")
    (tmp_path / "letters" / TRAIN_LABELS).write_bytes(idx_bytes(np.arange(12) % 3 + 1))
    (tmp_path / "letters" / TEST_LABELS).write_bytes(idx_bytes(np.full(4, 20)))
    data = load_data(tmp_path / "letters", dev_size=0)
    assert data.classes == 21
    assert data.notes == (
        "no image is labelled 0, 4, 5, 6, 7, 8, ...; the network has an output for each all the same",
    )


@pytest.mark.parametrize("place", ["raw", "MNIST/raw", "a/b/c"])
def test_the_only_folder_below_is_read(place: str, tmp_path: Path) -> None:
    write(tmp_path / place)
    write(tmp_path / ".trash")
    (tmp_path / "other" / "deeper").mkdir(parents=True)
    assert load_data(tmp_path, dev_size=0).notes == (f"read from {tmp_path / place}",)
    write(tmp_path / "other")
    assert f"holds several data sets (other, {place}); give the folder" in refusal(tmp_path).replace(
        f"({place}, other)", f"(other, {place})"
    )


def test_the_search_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a" / "b" / "c" / "d")
    assert "has no file train-images" in refusal(tmp_path)
    monkeypatch.setattr(folders, "MOST_FOLDERS", 5)
    for number in range(9):
        (tmp_path / "x" / str(number)).mkdir(parents=True)
    write(tmp_path / "x" / "9")
    assert "has no file train-images" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"train.csv": kinds.KAGGLE, "train2.csv": b""}, "holds train.csv, train2.csv; give one of the files"),
        ({"train.csv": kinds.KAGGLE, "test.csv": b"1,1\n"}, "test.csv: line 1: 2 columns, which make no square"),
        ({"train.csv": kinds.KAGGLE, "test.csv": b"1,1,3,4\n"}, "test.csv: images of 2 x 2 pixels, but those in"),
        ({"train.csv": kinds.UNLABELLED}, "train.csv: has no labels"),
        ({"mnist.npz": b"", "b.csv": b""}, "it holds b.csv, mnist.npz; give the file itself"),
        ({}, "has no file train-images-idx3-ubyte (nor train-images-idx3-ubyte.gz, nor train-images.idx3-ubyte)"),
    ],
)
def test_folders_of_other_files(files: dict[str, bytes], expected: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert expected in refusal(tmp_path)


def test_large_plain_files_are_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mapped arrays are the same, may be written to, and leave the file alone."""
    folder = write_folder(tmp_path / "small")
    usual = load_data(folder, dev_size=2)
    monkeypatch.setattr(idx, "MAPPED", 20)
    content = (folder / TEST_IMAGES).read_bytes()
    mapped = idx.open_idx(folder / TEST_IMAGES, 3).read()
    assert np.array_equal(mapped, arrays()[TEST_IMAGES])
    assert mapped.base is not None
    mapped[:] = 0
    assert (folder / TEST_IMAGES).read_bytes() == content
    assert load_data(folder, dev_size=2).sha256 == usual.sha256
    (folder / TEST_IMAGES).write_bytes(content[:-1])
    with pytest.raises(DataError, match="ends at byte 39"):
        load_data(folder, dev_size=2)
