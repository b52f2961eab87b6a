"""Enlarged data sets: their own images first, then shifted copies, and never the same picture twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnistbench.datasets import Dataset, Split, load_data, load_images
from mnistbench.datasets.copies import enlarged, moved
from mnistbench.exceptions import OptionError
from tests.support import builders


def spots(count: int) -> Dataset:
    """Return different pictures of 9 x 9 pixels with ink in the middle 3 x 3, labelled by their number."""
    pictures = np.zeros((count, 9, 9), np.uint8)
    pictures[:, 3:6, 3:6] = np.random.default_rng(0).integers(1, 256, (count, 3, 3))
    train = Split(pictures.reshape(count, 81), np.arange(count))
    return Dataset("spots", (9, 9), count, train, train, None)


@pytest.mark.parametrize("count", [7, 8, 13, 14, 50, 7 * 25])
def test_the_own_images_come_first_and_the_rest_are_moved_copies(count: int) -> None:
    data = spots(7)
    found = enlarged(data, count)
    assert len(found.train) == len(found.train.images) == count
    assert np.array_equal(found.train.images[:7], data.train.images)
    assert (str(found.train.images.dtype), str(found.train.labels.dtype)) == ("uint8", "int64")
    assert found.train.images.flags.c_contiguous
    pictures = found.train.images.reshape(-1, 9, 9)
    for picture, label in zip(pictures, found.train.labels, strict=True):
        rows, columns = np.nonzero(picture)
        ink = picture[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert np.array_equal(ink, data.train.images.reshape(-1, 9, 9)[label][3:6, 3:6])
        assert {abs(rows.min() - 3), abs(columns.min() - 3)} <= {0, 1, 2}
    assert len(np.unique(found.train.images, axis=0)) == count, "up to 25 times the images all differ"
    assert (found.dev, found.test, found.image_shape, found.classes) == (data.dev, data.test, (9, 9), 7)


def test_a_note_says_what_are_copies() -> None:
    data = spots(7)
    assert data.notes == enlarged(data, 7).notes == ()
    note = "7 of its images to train on, and 1,993 copies of them, shifted by up to 2 pixels"
    assert enlarged(data, 2_000).notes == (note,)


def test_every_pass_has_every_image_once() -> None:
    labels = enlarged(spots(7), 7 * 30).train.labels.reshape(30, 7)
    assert all(sorted(part) == list(range(7)) for part in labels.tolist())
    assert len({tuple(part) for part in labels.tolist()}) > 20


def test_the_seed_decides() -> None:
    data = spots(7)
    one, same, other = (enlarged(data, 60, seed).train.images for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert enlarged(data, 7) is data
    assert enlarged(data, 200, 1).sha256 == "9bdadf5f69fea9aeba32d3bfa93bc6564748ecdd58593dfa588e32c12e4c8ded"


@pytest.mark.parametrize(
    ("count", "seed", "said"), [(6, 0, "6 images: spots has 7"), (0, 0, "0 images"), (9, -1, "seed -1")]
)
def test_what_cannot_be_is_refused(count: int, seed: int, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        enlarged(spots(7), count, seed)


@given(st.integers(-6, 6), st.integers(-6, 6))
def test_what_moves_out_is_lost_and_what_moves_in_is_0(down: int, right: int) -> None:
    images = np.arange(1, 41, dtype=np.uint8).reshape(2, 4, 5)
    found = moved(images, down, right)
    for m, i, j in np.ndindex(2, 4, 5):
        inside = 0 <= i - down < 4 and 0 <= j - right < 5
        assert found[m, i, j] == (images[m, i - down, j - right] if inside else 0)


def test_images_that_are_no_squares_are_moved_within_their_shape() -> None:
    data = builders.dataset(3, 8, 2)  # of 1 by 8 pixels: those moved up or down are empty
    found = enlarged(data, 3 * 25).train.images
    assert len(found) == 75
    assert (found[3:].sum(axis=1) == 0).sum() >= 3 * 20


@pytest.mark.slow
def test_mnist_is_enlarged_beyond_its_own_number() -> None:
    data, more = load_data(train_size=59_000), load_images(60_010)
    assert np.array_equal(more.train.images[:59_000], data.train.images)
    copies = more.train.images[59_000:].reshape(-1, 28, 28)
    assert len(copies) == 1_010
    # Digits have a margin of four pixels, so that moved ones lose next to nothing.
    assert copies.any(axis=(1, 2)).all()
    assert more.dev.images.shape == (1_000, 784)
    few, own = load_images(300), load_data(train_size=300)
    assert np.array_equal(few.train.images, own.train.images)


@pytest.mark.parametrize(("count", "dev"), [(300, 1_000), (59_000, 1_000), (59_990, 10), (60_000, 0)])
def test_all_of_mnists_own_images_can_be_trained_on(count: int, dev: int) -> None:
    found = load_images(count, seed=3)
    assert (len(found.train), len(found.dev)) == (count, dev)
    order = load_data(seed=3, train_size=100)
    if dev == 1_000:
        assert np.array_equal(found.train.images[:100], order.train.images)
    if count == 60_000:
        assert np.bincount(found.train.labels).tolist()[:2] == [5_923, 6_742]
