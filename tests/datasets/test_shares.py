"""A rank's share of every source is what one process would have loaded there, and takes a share's memory."""

from __future__ import annotations

import gzip
import io
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnistbench.datasets import Dataset, combined_digest, content, csv, idx, load_data, load_images, npz
from mnistbench.datasets.copies import enlarged
from mnistbench.datasets.folders import FILE_NAMES
from mnistbench.datasets.images import Held, Images
from mnistbench.exceptions import DataError, OptionError
from mnistbench.task.share import Share
from tests.support import builders, kinds
from tests.support.data_files import refusal, write_folder

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = FILE_NAMES


@contextmanager
def small_blocks() -> Iterator[None]:
    """Read files in blocks of few images, so that a small file has many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(content, "BLOCK", 4_000)
        patch.setattr(idx, "PART", 1_600)
        patch.setattr(npz, "CHUNK", 7)
        yield


def require_share(found: Dataset, whole: Dataset, rank: int, ranks: int) -> None:
    """Require that a rank has its share of the images of one process, and nothing else."""
    share = Share(rank, ranks, len(whole.train))
    expected = whole.part(share)
    assert found.share == (share if ranks > 1 else None)
    assert len(found.train) == share.held
    pairs = [(found.train, expected.train)]
    if rank == 0:
        assert (found.test is None) == (expected.test is None)
        pairs += [(found.dev, expected.dev), (found.test or found.dev, expected.test or found.dev)]
    else:
        assert len(found.dev) == 0
        assert found.test is None
    for split, wanted in pairs:
        assert np.array_equal(split.images, wanted.images)
        assert np.array_equal(split.labels, wanted.labels)
    for name in ("source", "image_shape", "classes", "notes", "class_names"):
        assert getattr(found, name) == getattr(whole, name)


def require_shares(load: Callable[..., Dataset], *numbers: int) -> None:
    """Require the shares of all ranks, for several numbers of ranks; of many ranks, those of some."""
    whole = load()
    for ranks in numbers:
        chosen = range(ranks) if ranks < 5 else (0, ranks // 2, ranks - 1)
        found = [load(rank=rank, ranks=ranks) for rank in chosen]
        for rank, data in zip(chosen, found, strict=True):
            require_share(data, whole, rank, ranks)
        if len(found) == ranks:
            assert combined_digest(data.digest_part() for data in found) == combined_digest([whole.digest_part()])


# Every source


@pytest.mark.parametrize("kind", kinds.ACCEPTED)
def test_every_kind_of_data(kind: str, tmp_path: Path) -> None:
    source = kinds.ACCEPTED[kind](tmp_path)

    def load(**ranks: int) -> Dataset:
        return load_data(source, seed=2, train_size=50, dev_size=7, **ranks)

    with small_blocks():
        require_shares(load, 1, 2, 3, 4, 50)
    assert "51 ranks, but only 50 images to train on; start fewer ranks" in refusal(
        source, train_size=50, dev_size=7, rank=50, ranks=51
    )


@pytest.mark.parametrize("kind", kinds.REFUSED)
def test_every_rank_refuses_what_one_process_does(kind: str, tmp_path: Path) -> None:
    source = kinds.REFUSED[kind](tmp_path)
    expected = refusal(source, dev_size=7)
    assert [refusal(source, dev_size=7, rank=rank, ranks=3) for rank in range(3)] == [expected] * 3


@pytest.mark.slow
def test_mnist() -> None:
    require_shares(load_data, 2)
    require_shares(lambda **ranks: load_images(60_010, 3, **ranks), 2)
    require_shares(lambda **ranks: load_images(300, 3, **ranks), 2)


@given(
    images=st.integers(2, 60),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    packed=st.booleans(),
    emnist=st.booleans(),
    seed=st.integers(0, 5),
    data=st.data(),
)
def test_any_folder_of_idx_files(
    images: int, shape: tuple[int, int], packed: bool, emnist: bool, seed: int, data: st.DataObject
) -> None:
    dev = data.draw(st.integers(0, images - 1), "dev")
    train = data.draw(st.integers(1, images - dev), "train")
    ranks = data.draw(st.integers(1, train), "ranks")
    rng = np.random.default_rng(seed)
    pictures, labels = rng.integers(0, 256, (images + 3, *shape)), np.arange(images + 3) % 3
    arrays = pictures[:images], labels[:images], pictures[images:], labels[images:]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(idx, "PART", 100)
        patch.setattr(content, "BLOCK", 256)
        for name, array in zip(FILE_NAMES, arrays, strict=True):
            written = gzip.compress(builders.idx(array), 1) if packed else builders.idx(array)
            (Path(folder) / f"{'emnist-' * emnist}{name}").write_bytes(written)
        require_shares(lambda **given: load_data(folder, seed, train, dev, **given), ranks)


@given(count=st.integers(1, 60), ranks=st.integers(1, 60), seed=st.integers(0, 3))
def test_any_number_of_copies(count: int, ranks: int, seed: int) -> None:
    data = builders.dataset(7, 12, 10, rows=3)
    count = max(count, 7)
    if ranks > count:
        with pytest.raises(DataError, match=f"random images: {ranks} ranks, but only {count} images to train on"):
            enlarged(data, count, seed, ranks - 1, ranks)
    else:
        require_shares(lambda **given: enlarged(data, count, seed, **given), ranks)


@pytest.mark.parametrize(("rank", "ranks"), [(2, 2), (-1, 2), (0, 0)])
def test_ranks_that_cannot_be(rank: int, ranks: int, tmp_path: Path) -> None:
    said = f"rank {rank} of {ranks}: the ranks are numbered from 0"
    with pytest.raises(OptionError, match=said):
        load_data(write_folder(tmp_path / "small"), rank=rank, ranks=ranks)
    with pytest.raises(OptionError, match=said):
        load_images(60_002, rank=rank, ranks=ranks)


# What is damaged, or changes


def test_test_images_are_read_by_rank_0_alone(tmp_path: Path) -> None:
    for name, written in kinds.GZIPPED.items():
        (tmp_path / name).write_bytes(written)
    damaged = bytearray(kinds.GZIPPED[TEST_IMAGES])
    damaged[-5] ^= 1  # in the checksum
    (tmp_path / TEST_IMAGES).write_bytes(damaged)
    with small_blocks():
        said = refusal(tmp_path)
        assert "damaged gzip data" in said
        assert refusal(tmp_path, rank=0, ranks=2) == said
        assert len(load_data(tmp_path, rank=1, ranks=2).train) == 27


def test_a_file_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "t.csv"
    table.write_bytes(kinds.KAGGLE)
    opened = csv.open_csv(table, held=False)
    table.write_bytes(kinds.KAGGLE[: kinds.KAGGLE[:-1].rindex(b"\n") + 1])
    with pytest.raises(DataError, match=r"t\.csv: had 60 rows, and now has 59; leave it alone while it is read"):
        opened.images.read()
    images = tmp_path / TRAIN_IMAGES
    images.write_bytes(kinds.FOUR[TRAIN_IMAGES])
    found = idx.IdxImages(idx.open_idx(images, 3))
    images.write_bytes(kinds.FOUR[TRAIN_IMAGES][:-1])
    with pytest.raises(DataError, match="ends at byte 47055, but its header asks for 60 images"):
        found.take(np.array([59, 3]))


# Taking some images of a source


@given(st.data())
def test_selections_are_taken_in_their_order(data: st.DataObject) -> None:
    count, pixels = data.draw(st.integers(1, 40), "count"), data.draw(st.integers(1, 3), "pixels")
    array = np.random.default_rng(0).integers(0, 256, (count, pixels), dtype=np.uint8)
    places = st.lists(st.integers(0, count - 1), unique=True).map(lambda chosen: np.array(chosen, np.int64))
    selections = data.draw(st.lists(places, min_size=1, max_size=3), "selections")
    together = data.draw(st.integers(1, count), "together")

    class InParts(Images):
        shape = (count, pixels)

        def parts(self, places: Any) -> Iterator[tuple[int, Any]]:
            for first in range(0, count, together):
                if ((first <= places) & (places < first + together)).any():
                    yield first, array[first : first + together]

    for images in (InParts(), Held(array)):
        for found, chosen in zip(images.take(*selections), selections, strict=True):
            assert np.array_equal(found, array[chosen])
            assert found.flags.c_contiguous
            assert found.base is None
        assert np.array_equal(images.read(), array)


# Memory

IMAGES = 6_000


def white_csv() -> bytes:
    """Return rows with other labels and the same pixels, and no header that would be a column more."""
    row = b",0" * 300 + b",255" * 484 + b"\n"
    return (
        b"label"
        + b"".join(b",pixel%d" % k for k in range(784))
        + b"\n"
        + b"".join(b"%d" % (k % 10) + row for k in range(IMAGES))
    )


def write_sources(folder: Path) -> dict[str, Path]:
    """Write the same number of images in each format that is read a block at a time."""
    images = np.random.default_rng(0).integers(0, 4, (IMAGES, 28, 28), dtype=np.uint8)
    labels = np.arange(IMAGES, dtype=np.uint8) % 10
    arrays = images, labels, images[:5], labels[:5]
    for name, pack in (("plain", bytes), ("packed", lambda held: gzip.compress(held, 1))):
        (folder / name).mkdir()
        for file, array in zip(FILE_NAMES, arrays, strict=True):
            (folder / name / file).write_bytes(pack(builders.idx(array)))
    buffer = io.BytesIO()
    np.savez(buffer, x_train=images, y_train=labels)
    (folder / "m.npz").write_bytes(buffer.getvalue())
    (folder / "m.csv").write_bytes(white_csv())
    return {name: folder / name for name in ("plain", "packed", "m.npz", "m.csv")}


@pytest.mark.slow
def test_a_rank_holds_its_share_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside its share, a rank needs a few blocks and the labels, here well below as much again."""
    monkeypatch.setattr(idx, "PART", 1 << 18)
    monkeypatch.setattr(npz, "CHUNK", 256)
    monkeypatch.setattr(content, "BLOCK", 1 << 15)
    held = IMAGES * 784 // 4
    for name, source in write_sources(tmp_path).items():
        load_data(source, train_size=5, dev_size=0)  # whatever modules it imports
        tracemalloc.start()
        data = load_data(source, dev_size=0, rank=1, ranks=4)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert data.train.images.nbytes == held
        assert held <= peak < 2 * held, name


def test_a_rank_makes_its_own_copies_alone() -> None:
    data = builders.dataset(50, 784, 10, rows=28)
    tracemalloc.start()
    enlarged(data, 20_000, 0, 3, 4)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 5_000 * 784 <= peak < 1.2 * 5_000 * 784
