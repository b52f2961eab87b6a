"""The digest of images whose parts add up: the same for any shares, another for any other images."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mnistbench.datasets import Dataset, Split, combined_digest
from mnistbench.task.share import Share
from tests.support import builders

DATA = builders.dataset(30, 6, 10, rows=2)
TESTED = replace(DATA, test=builders.dataset(4, 6, 10, seed=1).train)


def digest(data: Dataset) -> str:
    return combined_digest([data.digest_part()])


@given(st.integers(1, 30))
def test_parts_of_any_number_of_ranks_add_up(ranks: int) -> None:
    """Dev and test count once, even where every rank has a copy of them."""
    for data in (DATA, TESTED):
        parts = [data.part(Share(rank, ranks, 30)).digest_part() for rank in range(ranks)]
        assert combined_digest(parts) == combined_digest(parts[::-1]) == digest(data)


def test_it_is_the_sum_of_the_images_hashes() -> None:
    total = 0
    for name, split in (("train", TESTED.train), ("dev", TESTED.dev), ("test", TESTED.test)):
        assert split is not None
        for place, (image, label) in enumerate(zip(split.images, split.labels, strict=True)):
            item = name.encode() + b" 2 3\n" + np.array([place, label], "<i8").tobytes() + image.tobytes()
            total += int.from_bytes(hashlib.sha256(item).digest(), "little")
    assert digest(TESTED) == f"{total % 2**256:064x}"


@given(st.data())
def test_any_other_images_have_another_digest(data: st.DataObject) -> None:
    images, labels = DATA.train.images.copy(), DATA.train.labels.copy()
    place = data.draw(st.integers(0, 29))
    change = data.draw(st.sampled_from(["pixel", "label", "order"]))
    if change == "pixel":
        images[place, data.draw(st.integers(0, 5))] ^= data.draw(st.integers(1, 255))
    elif change == "label":
        labels[place] = (labels[place] + data.draw(st.integers(1, 9))) % 10
    else:
        other = data.draw(st.integers(0, 29).filter(lambda found: found != place))
        images[[place, other]], labels[[place, other]] = images[[other, place]], labels[[other, place]]
        images[place, 0] = images[other, 0] ^ 1  # should the two be equal
    assert digest(replace(DATA, train=Split(images, labels))) != digest(DATA)


def test_other_splits_and_shapes_have_another_digest() -> None:
    fewer = Split(DATA.train.images[:-1].copy(), DATA.train.labels[:-1].copy())
    twice = Split(np.repeat(DATA.train.images[:1], 2, axis=0), np.repeat(DATA.train.labels[:1], 2))
    variants = [
        DATA,
        TESTED,
        replace(TESTED, dev=TESTED.train, train=TESTED.dev),
        replace(DATA, test=DATA.dev),
        replace(DATA, image_shape=(3, 2)),
        replace(DATA, train=fewer),
        replace(DATA, train=twice),
        DATA.training_only(),
    ]
    assert len({digest(variant) for variant in variants}) == len(variants)
    assert digest(replace(DATA, source="elsewhere", classes=12)) == digest(DATA)


def test_sums_wrap_at_256_bits() -> None:
    assert combined_digest([2**256 - 1, 3]) == f"{2:064x}"
    assert combined_digest([]) == "0" * 64
