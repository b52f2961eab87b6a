"""Images for a trained network, in the order of their source, with labels where it has them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnistbench.datasets import Split, load_data, read_unlabelled
from mnistbench.datasets.npz import is_npz
from mnistbench.exceptions import DataError, ModelError, UnlabelledData
from mnistbench.reference.parameters import Model


@dataclass(frozen=True, eq=False)
class Inputs:
    """Images to predict.

    Attributes:
        images: (m, pixels) uint8, m at least 1.
        labels: (m,), or None if the source has none.
        image_shape: (height, width).
        source: Origin in words.
        which: What the images are: "test images" or "images".
        notes: What was understood of the source, a line each.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    image_shape: tuple[int, int]
    source: str
    which: str = "images"
    notes: tuple[str, ...] = ()

    @property
    def labelled(self) -> Split:
        """Images and labels.

        Raises:
            DataError: If there are no labels.
        """
        if self.labels is None:
            raise DataError(f"{self.source}: has no labels to compare with; mnistbench predict takes it")
        return Split(self.images, self.labels)

    def require_fit(self, model: Model, name: Path) -> None:
        """Raise a ModelError unless the model that was read from the file ``name`` takes such images."""
        if self.image_shape != model.image_shape:
            raise ModelError(
                f"{name}: takes images of {model.image_shape}, but those of {self.source} are {self.image_shape}"
            )


def read_inputs(source: Path | None, labels: bool = True) -> Inputs:
    """Read the test images of the embedded MNIST or of another data set; or all images of one without test images.

    Args:
        source: What :func:`mnistbench.load_data` takes, or a file without labels.
        labels: Whether labels are wanted, if there are any. A file is read faster without.

    Raises:
        DataError: If the source cannot be read.
    """
    file = source if source is not None and source.is_file() and not is_npz(source) else None
    if file and not labels:
        return _unlabelled(file)
    try:
        dataset = load_data(source, dev_size=0)
    except UnlabelledData:
        if file is None:
            raise
        return _unlabelled(file)
    if dataset.test is not None:
        return Inputs(
            dataset.test.images, dataset.test.labels, dataset.image_shape, dataset.source, "test images", dataset.notes
        )
    order = np.argsort(np.random.default_rng(0).permutation(len(dataset.train)))  # load_data has shuffled them
    train = dataset.train
    return Inputs(train.images[order], train.labels[order], dataset.image_shape, dataset.source, notes=dataset.notes)


def _unlabelled(file: Path) -> Inputs:
    images, image_shape = read_unlabelled(file)
    return Inputs(images, None, image_shape, str(file))
