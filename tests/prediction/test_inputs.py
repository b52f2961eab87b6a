"""Images to predict: in the order of their source, with labels and ids where it has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mnistbench.datasets import load_data
from mnistbench.exceptions import DataError, ModelError
from mnistbench.prediction.inputs import Inputs, read_inputs
from mnistbench.reference.parameters import Model, Parameters
from mnistbench.task.workload import Network
from tests.support import kinds
from tests.support.builders import idx
from tests.support.data_files import table

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (40, 784)).astype(np.uint8)
LABELS = RNG.permutation(np.arange(40) % 10)
NAMES = [f"pixel{k}" for k in range(784)]


def write_csv(path: Path, labels: bool) -> Path:
    rows = np.column_stack([LABELS, IMAGES]) if labels else IMAGES
    return table(path, rows.tolist(), ["label", *NAMES] if labels else NAMES)


def model(classes: int, names: Sequence[str] = ()) -> Model:
    return Model(Parameters.initial(Network((784, 4, classes)), 0), (28, 28), "relu", tuple(names))


@pytest.mark.parametrize("labels", [True, False])
def test_a_file_keeps_its_order_and_says_what_was_understood(tmp_path: Path, labels: bool) -> None:
    found = read_inputs(write_csv(tmp_path / "data.csv", labels))
    np.testing.assert_array_equal(found.images, IMAGES)
    assert (found.image_shape, found.ids) == ((28, 28), None)
    if labels:
        np.testing.assert_array_equal(found.labelled.labels, LABELS)
        assert found.notes == ("label in the first column ('label'), 784 pixels, 28 x 28, with a header",)
    else:
        assert found.notes == ("no labels, 784 pixels, 28 x 28, with a header",)
        with pytest.raises(DataError, match=r"data\.csv: has no labels to compare with"):
            assert found.labelled


@pytest.mark.parametrize("rows", [1, 3])
def test_one_class_or_one_row_is_enough(tmp_path: Path, rows: int) -> None:
    cells = [[7, *row] for row in IMAGES[:rows].tolist()]
    found = read_inputs(table(tmp_path / "sevens.csv", cells, ["label", *NAMES]), needs_labels=True)
    assert found.labelled.labels.tolist() == [7] * rows
    arrays = {"x_train": IMAGES[:rows].reshape(-1, 28, 28), "y_train": np.full(rows, 7)}
    (tmp_path / "sevens.npz").write_bytes(kinds.npz(**arrays))
    assert read_inputs(tmp_path / "sevens.npz").labelled.labels.tolist() == [7] * rows


@pytest.mark.parametrize("kind", ["", "emnist-"])
def test_a_single_file_of_images(tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"{kind}t10k-images-idx3-ubyte"
    images = kinds.TX.transpose(0, 2, 1) if kind else kinds.TX
    file.write_bytes(idx(images))
    found = read_inputs(file)
    np.testing.assert_array_equal(found.images, kinds.TEST.images)
    assert found.labels is None
    assert ("exchanged back" in found.notes[0]) == bool(kind)


def test_kaggles_folder_has_a_test_set_without_labels(tmp_path: Path) -> None:
    folder = kinds.ACCEPTED["Kaggle's folder with `train.csv` and `test.csv`"](tmp_path)
    table(folder / "test.csv", IMAGES.tolist(), NAMES)
    found = read_inputs(folder)
    assert (found.source, found.labels) == (str(folder / "test.csv"), None)
    np.testing.assert_array_equal(found.images, IMAGES)
    found = read_inputs(folder, needs_labels=True)
    assert (found.source, found.which) == (str(folder), "images")
    np.testing.assert_array_equal(found.images, kinds.TRAIN.images)
    np.testing.assert_array_equal(found.labelled.labels, kinds.TRAIN.labels)


@pytest.mark.parametrize("name", ["id", "ImageId", "image_id"])
@pytest.mark.parametrize("place", [0, 5, 784])
def test_ids_are_those_of_the_file(tmp_path: Path, name: str, place: int) -> None:
    ids = [f"{5000 + k}" if k else '"a b"' for k in range(40)]
    rows = [[*row[:place], one, *row[place:]] for row, one in zip(IMAGES.tolist(), ids, strict=True)]
    path = table(tmp_path / "test.csv", rows, [*NAMES[:place], name, *NAMES[place:]])
    found = read_inputs(path)
    assert found.ids == (name, ("a b", *ids[1:]))
    np.testing.assert_array_equal(found.images, IMAGES)
    rows[3][place] = " "
    with pytest.raises(DataError, match=r"test\.csv: line 5: an empty id"):
        read_inputs(table(path, rows, [*NAMES[:place], name, *NAMES[place:]]))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("header", [[], NAMES])
def test_a_row_of_empty_cells_between_images_is_refused(tmp_path: Path, header: list[str], separator: str) -> None:
    empty, rows = [""] * 784, IMAGES.tolist()
    for place in (1, 20, 39):
        path = table(tmp_path / "test.csv", [*rows[:place], empty, *rows[place:]], header, separator)
        with pytest.raises(DataError, match=rf"line {place + 1 + bool(header)}: a row of empty cells between others"):
            read_inputs(path)
    found = read_inputs(table(path, [[""], *rows, [""], empty, empty], header, separator))
    np.testing.assert_array_equal(found.images, IMAGES)


def test_the_embedded_images_are_the_test_images() -> None:
    found, test = read_inputs(None), load_data().test
    assert test
    assert (found.which, found.source) == ("test images", "MNIST (embedded)")
    np.testing.assert_array_equal(found.images, test.images)
    np.testing.assert_array_equal(found.labelled.labels, test.labels)


def test_what_does_not_exist_or_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        read_inputs(tmp_path / "nowhere")
    other = Model(Parameters.initial(Network((20, 4, 3)), 0), (4, 5), "relu")
    with pytest.raises(ModelError, match=r"^m\.npz: takes images of \(4, 5\), but those of .* are \(28, 28\)$"):
        read_inputs(write_csv(tmp_path / "data.csv", False)).fitted(other, Path("m.npz"))


@pytest.mark.parametrize(
    ("names", "known", "expected", "said"),
    [
        (("cat", "dog"), ("bird", "cat", "dog"), [1, 2], "by their names"),
        (("cat", "dog"), ("dog", "fish", "horse"), [3, 0], "by their names; it has no class 'cat'"),
        (("cat", "dog"), ("cat", "dog"), [0, 1], ""),
        ((), ("1", "0", "x"), [1, 0], "by their names"),
        (("0", "x"), (), [0, 3], "by their names; it has no class 'x'"),
        (("cat", "dog"), (), None, "no label ('cat', 'dog') is a class of m.npz ('0', '1', '2'); labels are not"),
        ((), ("bird", "cat", "dog"), None, "no label ('0', '1') is a class of m.npz"),
    ],
)
def test_labels_are_those_of_the_model(
    names: tuple[str, ...], known: tuple[str, ...], expected: list[int] | None, said: str
) -> None:
    """Each file numbers its own names."""
    own = Inputs(IMAGES[:2], np.array([0, 1]), (28, 28), "data.npz", class_names=names)
    found = own.fitted(model(len(known) or 3, known), Path("m.npz"))
    assert (None if found.labels is None else found.labels.tolist()) == expected
    assert said in "".join(found.notes)
    assert bool(said) == bool(found.notes)
    if found.labels is not None:
        assert [found.named(label) for label in found.labels.tolist()] == list(names or "01")
