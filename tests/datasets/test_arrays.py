"""Arrays in memory: every form of the same images gives the same data set, and every other is refused with the cure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mnistbench.datasets import Dataset, Split
from mnistbench.exceptions import DataError, OptionError
from tests.support.data_files import one_line

RNG = np.random.default_rng(5)
IMAGES: NDArray[np.uint8] = RNG.integers(0, 256, (40, 6, 6), dtype=np.uint8)
LABELS = np.arange(40) % 4
ROWS = IMAGES.reshape(40, 36)

FORMS: dict[str, Callable[[], Any]] = {
    "uint8": lambda: IMAGES,
    "rows": lambda: ROWS,
    "int16": lambda: IMAGES.astype(np.int16),
    "uint64": lambda: IMAGES.astype(np.uint64),
    "whole floats": lambda: IMAGES.astype(np.float32),
    "whole halves": lambda: IMAGES.astype(np.float16),
    "another byte order": lambda: IMAGES.astype(">f8"),
    "columns of memory": lambda: np.asfortranarray(IMAGES),
    "every second": lambda: np.repeat(IMAGES, 2, axis=0)[::2],
    "one channel last": lambda: IMAGES[..., np.newaxis],
    "one channel first": lambda: IMAGES[:, np.newaxis],
    "lists": lambda: IMAGES.tolist(),
    "DataFrame": lambda: pd.DataFrame(ROWS),
    "DataFrame of mixed columns": lambda: pd.DataFrame(ROWS).astype({0: float, 5: "int64"}),
    "objects": lambda: IMAGES.astype(object),
}
NAMED: dict[str, Callable[[], Any]] = {
    "int64": lambda: LABELS,
    "uint8": lambda: LABELS.astype(np.uint8),
    "bool or more": lambda: LABELS.astype(">i2"),
    "whole floats": lambda: LABELS.astype(float),
    "column": lambda: LABELS[:, np.newaxis],
    "list": lambda: LABELS.tolist(),
    "Series": lambda: pd.Series(LABELS, index=range(5, 45)),
    "texts of digits": lambda: LABELS.astype(str),
    "bytes of digits": lambda: LABELS.astype("S1"),
    "categories, as OpenML's": lambda: pd.Series(LABELS.astype(str)).astype("category"),
}


def refusal(*arrays: Any, **options: Any) -> str:
    """Return the line with which arrays are refused."""
    with pytest.raises(DataError) as caught:
        Dataset.from_arrays(*arrays, **{"dev_size": 5, **options})
    return one_line(caught.value)


def assert_same(found: Dataset, seed: int = 0) -> None:
    order = np.random.default_rng(seed).permutation(40)
    for split, places in ((found.dev, order[:5]), (found.train, order[5:])):
        assert np.array_equal(split.images, ROWS[places])
        assert np.array_equal(split.labels, LABELS[places])
    assert (found.image_shape, found.classes, found.class_names) == ((6, 6), 4, ())


@pytest.mark.parametrize("form", FORMS)
def test_images_in_any_form(form: str) -> None:
    assert_same(Dataset.from_arrays(FORMS[form](), LABELS, dev_size=5))


@pytest.mark.parametrize("form", NAMED)
def test_labels_in_any_form(form: str) -> None:
    assert_same(Dataset.from_arrays(IMAGES, NAMED[form](), dev_size=5))


def test_the_arrays_given_are_neither_changed_nor_kept() -> None:
    images, labels = IMAGES.copy(), LABELS.copy()
    data = Dataset.from_arrays(images, labels, images, labels, seed=3, dev_size=5)
    assert_same(data, seed=3)
    images[:], labels[:] = 0, 0
    assert_same(data, seed=3)
    assert data.test is not None
    assert np.array_equal(data.test.images, ROWS)
    assert np.array_equal(data.test.labels, LABELS)


def test_texts_become_classes_in_their_order() -> None:
    words = np.array(["pear", "apple", "fig"])[LABELS % 3]
    data = Dataset.from_arrays(IMAGES, words, IMAGES[:2], ["fig", "kiwi"], dev_size=0, source="fruit")
    assert (data.source, data.classes, data.class_names) == ("fruit", 4, ("apple", "fig", "kiwi", "pear"))
    order = np.random.default_rng(0).permutation(40)
    assert [data.class_names[label] for label in data.train.labels] == words[order].tolist()
    assert data.test is not None
    assert data.test.labels.tolist() == [1, 2]
    assert data.notes == ("no image is labelled 2; the network has an output for each all the same",)


@pytest.mark.parametrize("swapped", [False, True])
def test_texts_of_labels_and_test_labels_are_judged_together(swapped: bool) -> None:
    """Digits among other texts are texts."""
    some, others = np.array(["0", "1", "x"])[LABELS % 3], ["0", "1"]
    given = (IMAGES[:2], others, IMAGES, some) if swapped else (IMAGES, some, IMAGES[:2], others)
    data = Dataset.from_arrays(*given, dev_size=0)
    assert data.class_names == ("0", "1", "x")
    assert data.test is not None
    assert data.test.labels.tolist() == ((LABELS % 3).tolist() if swapped else [0, 1])
    digits = Dataset.from_arrays(IMAGES, LABELS.astype(str), IMAGES[:2], [3, 1], dev_size=0)
    assert digits.class_names == ()
    assert digits.train.labels.dtype == np.int64


def test_sizes_and_seed_are_those_of_load_data() -> None:
    data = Dataset.from_arrays(IMAGES, LABELS, seed=1, train_size=10, dev_size=7)
    assert (len(data.train), len(data.dev), data.test) == (10, 7, None)
    assert len(Dataset.from_arrays(IMAGES, LABELS).dev) == 4
    assert "train size 36: only 35" in refusal(IMAGES, LABELS, train_size=36)
    with pytest.raises(OptionError, match="seed -1"):
        Dataset.from_arrays(IMAGES, LABELS, seed=-1)


SCALED = ROWS / 255
NOT_A_NUMBER = np.where(np.arange(36) == 4, np.nan, ROWS.astype(float))


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (SCALED, "images: float64 from 0 to 1, not whole numbers from 0 to 255; multiply by 255 and round"),
        (SCALED.astype(np.float32) * 2 - 1, "undo the normalization"),
        ((SCALED - SCALED.mean()) / SCALED.std(), "undo the normalization"),
        (ROWS + 0.5, "not whole numbers from 0 to 255; scale them to 0 to 255 and round"),
        (np.minimum(ROWS + 0.5, 255), "not whole numbers from 0 to 255; round them"),
        (ROWS.astype(np.int16) - 128, "int16 from -128 to 127"),
        (ROWS.astype(np.uint16) * 257, "uint16 from"),
        (ROWS > 127, "elements of type bool; give whole numbers from 0 to 255"),
        ((ROWS > 127).astype(np.uint8), "all pixels are 0 or 1, not from 0 to 255; multiply by 255 if 1 is white"),
        ((ROWS > 127).astype(float), "all pixels are 0 or 1"),
        (NOT_A_NUMBER, "image 0 has a pixel that is NaN or infinite"),
        (np.where(np.arange(40)[:, np.newaxis] == 7, np.inf, ROWS), "image 7 has a pixel that is NaN or infinite"),
        (ROWS.T, "images: shape (36, 40) for 40 labels: images in columns; give images.T"),
        (np.moveaxis(IMAGES, 0, -1), "shape (6, 6, 40) for 40 labels: images in columns; give numpy.moveaxis"),
        (ROWS[:39], "39 images, but 40 labels"),
        (ROWS[:, :35], "shape (40, 35): 35 columns, which make no square picture"),
        (np.column_stack([LABELS, ROWS]), "37 columns, which make no square picture; give (m, height, width), without"),
        (np.repeat(IMAGES[..., np.newaxis], 3, axis=3), "pictures in colours; give gray ones"),
        (ROWS[0], "shape (36,): give images of shape"),
        (IMAGES[:, :, :0], "shape (40, 6, 0): give images of shape"),
        (ROWS.astype(complex), "elements of type complex128, not numbers"),
        (ROWS.astype(str), "elements of type <U3; give whole numbers"),
        ([[1, 2], [3]], "cannot be made an array"),
        (object(), "elements of type object, not numbers"),
        (pd.DataFrame(ROWS).astype(object).mask(ROWS[0, 0] == ROWS, pd.NA), "elements of type object, not numbers"),
    ],
)
def test_images_that_are_refused(images: Any, expected: str) -> None:
    assert expected in refusal(images, LABELS)
    test = refusal(IMAGES, LABELS, images, LABELS)
    assert expected.replace("images: ", "test_images: ", 1) in test
    assert "test_images" in test


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (LABELS - 1, "label 0 is -1; number the classes from 0"),
        (LABELS * 30_000, "label 3 is 90000, above 65535"),
        (np.where(LABELS == 2, np.nan, LABELS), "label 2 is nan, not a whole number"),
        (LABELS + 0.5, "label 0 is 0.5, not a whole number"),
        (np.eye(4)[LABELS], "shape (40, 4): give one label an image, (m,); of one-hot rows labels.argmax(1)"),
        (LABELS[:39], "40 images, but 39 labels"),
        (np.zeros((40, 1, 1)), "shape (40, 1, 1): give one label for each image"),
        ([], "shape (0,): give one label for each image"),
        (7, "shape (): give one label for each image"),
        ([None, *LABELS[1:]], "elements of type object, not numbers"),
        (["", *"abc" * 13], "a label is empty"),
        (np.full(40, 3), "all training labels are 3"),
    ],
)
def test_labels_that_are_refused(labels: Any, expected: str) -> None:
    assert expected in refusal(IMAGES, labels)


def test_halves_of_a_test_set_are_refused() -> None:
    assert "test_labels are missing" in refusal(IMAGES, LABELS, IMAGES)
    assert "test_images are missing" in refusal(IMAGES, LABELS, None, LABELS)
    assert "images of 6 x 5 pixels, but those to train on have 6 x 6" in refusal(
        IMAGES, LABELS, IMAGES[:, :, :5], LABELS
    )
    assert "numbers in one of labels and test_labels, texts in the other" in refusal(
        IMAGES, LABELS, IMAGES, LABELS.astype(str).astype(object) + "!"
    )


@given(st.data())
def test_whatever_is_given_is_read_or_refused(data: st.DataObject) -> None:
    """Values of any kind and shape raise nothing but the project's own errors."""
    kinds = st.sampled_from(
        ["?", "b", "B", "h", "H", "i", "I", "q", "Q", "e", "f", "d", "g", "F", "M8[s]", "m8[s]", "S2", "O", "V4"]
    )

    def drawn() -> Any:
        shape = data.draw(st.lists(st.integers(0, 5), max_size=5).map(tuple))
        count = int(np.prod(shape))
        raw = data.draw(st.binary(min_size=32, max_size=32))
        kind = data.draw(kinds)
        if kind == "O":
            return np.array([None, 1, "x", 2.5, 2**70][: max(1, len(shape))], dtype=object)
        dtype = np.dtype(kind)
        return np.resize(np.frombuffer(raw, dtype), (count,)).reshape(shape)

    with np.errstate(all="ignore"):
        try:
            found = Dataset.from_arrays(drawn(), drawn(), dev_size=0)
            assert found.train.images.dtype == np.uint8
        except DataError as error:
            one_line(error)


VALID = Split(ROWS, LABELS)


@pytest.mark.parametrize(
    ("images", "labels", "expected"),
    [
        (SCALED, LABELS, "images: elements of type float64, not uint8; Dataset.from_arrays takes other arrays"),
        (IMAGES, LABELS, "images: shape (40, 6, 6), not (m, pixels)"),
        (np.asfortranarray(ROWS), LABELS, "images: not C-contiguous; give numpy.ascontiguousarray(images)"),
        (ROWS.tolist(), LABELS, "images: list, not an array of NumPy"),
        (ROWS, LABELS.astype(np.int32), "labels: elements of type int32, not int64"),
        (ROWS, LABELS.astype(">i8"), "labels: elements of type >i8, not int64"),
        (ROWS, LABELS[:, np.newaxis], "labels: shape (40, 1), not (m,)"),
        (ROWS, np.repeat(LABELS, 2)[::2], "labels: not C-contiguous"),
        (ROWS, LABELS[:39], "40 images, but 39 labels"),
        (ROWS, LABELS - 1, "labels: the smallest is -1"),
    ],
)
def test_a_split_takes_only_what_is_computed_with(images: Any, labels: Any, expected: str) -> None:
    with pytest.raises(DataError) as caught:
        Split(images, labels)
    assert expected in one_line(caught.value)


def test_a_data_set_takes_only_splits_that_fit() -> None:
    nothing = Split(ROWS[:0], LABELS[:0])
    assert Dataset("d", (6, 6), 4, VALID, nothing, None).classes == 4
    with pytest.raises(DataError, match="d: train: 36 pixels an image, but 6 x 5 are 30"):
        Dataset("d", (6, 5), 4, VALID, nothing, None)
    with pytest.raises(DataError, match="d: test: label 3, but the labels of 3 classes are below that"):
        Dataset("d", (6, 6), 3, nothing, nothing, VALID)
