"""Counter-based random numbers: Threefry as published, and dropout masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnistbench.reference import counter

ONES = 0xFFFFFFFF
seeds = st.integers(0, 2**64 - 1)

# From Random123's kat_vectors, "threefry2x32 20": key, counter, words.
KNOWN = [
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((ONES, ONES), (ONES, ONES), (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
]


@pytest.mark.parametrize(("key", "place", "words"), KNOWN)
def test_the_published_words(key: tuple[int, int], place: tuple[int, int], words: tuple[int, int]) -> None:
    found = counter.threefry(key, place)
    assert tuple(map(int, found)) == words
    assert {word.dtype for word in found} == {np.dtype(np.uint32)}


def test_arrays_of_counters_are_that_many_single_ones() -> None:
    rows, columns = np.arange(5)[:, None], np.arange(2**32 - 3, 2**32)
    first, second = counter.threefry((7, 9), (rows, columns))
    assert first.shape == second.shape == (5, 3)
    for i, j in np.ndindex(5, 3):
        assert (first[i, j], second[i, j]) == counter.threefry((7, 9), (i, int(columns[j])))


@given(seeds, st.integers(0, 50), st.integers(0, 2**32 - 1))
def test_keys_are_two_words_that_differ_with_all_that_they_are_of(seed: int, purpose: int, epoch: int) -> None:
    own = counter.key(seed, purpose, epoch)
    assert all(0 <= word < 2**32 for word in own)
    others = [(seed ^ 1, purpose, epoch), (seed ^ 2**40, purpose, epoch), (seed, purpose + 1, epoch)]
    assert own not in [counter.key(*other) for other in [*others, (seed, purpose, epoch ^ 1)]]
    assert own == counter.key(seed + 2**64, purpose, epoch)


@pytest.mark.parametrize("rate", [0.0, 1e-12, 0.1, 0.5, 0.8, 1 - 1e-12])
@pytest.mark.parametrize("units", [500, 501])
def test_the_fraction_that_dropout_keeps(rate: float, units: int) -> None:
    kept = counter.kept(1, 0, 0, np.arange(400), units, rate)
    assert kept.shape == (units, 400)
    assert kept.dtype == np.bool_
    deviation = np.sqrt(rate * (1 - rate) / kept.size)
    assert abs(kept.mean() - (1 - rate)) <= 5 * deviation + 1e-9
    # For every unit, and for every image.
    for axis, others in ((0, units), (1, 400)):
        assert np.abs(kept.mean(axis=axis) - (1 - rate)).max() <= 5 * np.sqrt(rate * (1 - rate) / others) + 1e-9


@given(seeds, st.integers(1, 9), st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=9), st.floats(0, 0.99))
def test_a_mask_is_of_the_image_and_the_unit_only(seed: int, units: int, images: list[int], rate: float) -> None:
    places = np.array(images)
    whole = counter.kept(seed, 4, 1, places, units, rate)
    for column, place in enumerate(images):
        alone = counter.kept(seed, 4, 1, np.array([place]), units + 3, rate)
        assert (alone[:units, 0] == whole[:, column]).all()


def test_masks_differ_with_layer_epoch_and_seed() -> None:
    places = np.arange(20)
    masks = [counter.kept(*own, places, 30, 0.5) for own in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0))]
    for i, mask in enumerate(masks):
        for other in masks[:i]:
            assert 0.35 < (mask == other).mean() < 0.65
