"""Images to predict: in the order of their source, with labels where it has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mnistbench.datasets import load_data
from mnistbench.exceptions import DataError, ModelError
from mnistbench.prediction.inputs import read_inputs
from mnistbench.reference.parameters import Model, Parameters
from mnistbench.task.workload import Network

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (40, 784)).astype(np.uint8)
LABELS = RNG.permutation(np.arange(40) % 10)


def write_csv(path: Path, labels: bool) -> Path:
    names = [*(["label"] if labels else []), *(f"pixel{k}" for k in range(784))]
    rows = np.column_stack([LABELS, IMAGES]) if labels else IMAGES
    path.write_text("\n".join([",".join(names), *(",".join(map(str, row)) for row in rows.tolist())]) + "\n")
    return path


@pytest.mark.parametrize(("labels", "wanted"), [(True, True), (True, False), (False, True), (False, False)])
def test_a_file_keeps_its_order(tmp_path: Path, labels: bool, wanted: bool) -> None:
    found = read_inputs(write_csv(tmp_path / "data.csv", labels), labels=wanted)
    np.testing.assert_array_equal(found.images, IMAGES)
    assert found.image_shape == (28, 28)
    if labels and wanted:
        np.testing.assert_array_equal(found.labelled.labels, LABELS)
    else:
        with pytest.raises(DataError, match=r"data\.csv: has no labels to compare with"):
            assert found.labelled


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
        read_inputs(write_csv(tmp_path / "data.csv", False)).require_fit(other, Path("m.npz"))
