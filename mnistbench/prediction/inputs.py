"""Images for a trained network, in the order of their source, with labels where it has them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnistbench.datasets import EMBEDDED, Split, Table, read_file, read_source
from mnistbench.datasets.content import listed, printable, shown
from mnistbench.exceptions import DataError, ModelError
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
        ids: Name of the column of ids, and its m texts; None if the source has none.
        class_names: Names of the classes in the order of ``labels``, or none if they are numbers.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    image_shape: tuple[int, int]
    source: str
    which: str = "images"
    notes: tuple[str, ...] = ()
    ids: tuple[str, tuple[str, ...]] | None = None
    class_names: tuple[str, ...] = ()

    @property
    def labelled(self) -> Split:
        """Images and labels.

        Raises:
            DataError: If there are no labels.
        """
        if self.labels is None:
            raise DataError(f"{self.source}: has no labels to compare with; mnistbench predict takes it")
        return Split(self.images, self.labels)

    def named(self, label: int) -> str:
        """Return the name of a class; its number if it has none."""
        return self.class_names[label] if label < len(self.class_names) else str(label)

    def fitted(self, model: Model, name: Path) -> Inputs:
        """Return the same with labels in the order of a model's classes, of which those without an output come last.

        Labels of which no one is a class of the model are left out, and a note says so.

        Args:
            model: Model.
            name: File that it was read from.

        Raises:
            ModelError: If it takes images of another shape.
        """
        if self.image_shape != model.image_shape:
            raise ModelError(
                f"{name}: takes images of {model.image_shape}, but those of {self.source} are {self.image_shape}"
            )
        if self.labels is None or self.class_names == model.class_names:
            return self
        known = model.class_names or _numbers(model.parameters.network.outputs)
        own = self.class_names or _numbers(int(self.labels.max()) + 1)
        present = {own[label] for label in np.unique(self.labels).tolist()}
        if not present & {*known}:
            note = f"no label ({_first(own)}) is a class of {name} ({_first(known)}); labels are not compared"
            return replace(self, labels=None, class_names=(), notes=(*self.notes, note))
        names = [*known, *(label for label in own if label not in known)]
        places = {label: place for place, label in enumerate(names)}
        numbers = np.array([places[label] for label in own])
        note = f"labels are matched with the classes of {name} by their names"
        if other := sorted(present - {*known}):
            note += f"; it has no class {_first(tuple(other))}"
        return replace(self, labels=numbers[self.labels], class_names=tuple(names), notes=(*self.notes, note))


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


def _first(names: tuple[str, ...]) -> str:
    return listed([shown(name) for name in names[:4]], 3)


def read_inputs(source: Path | None, needs_labels: bool = False) -> Inputs:
    """Read the test images of the embedded MNIST or of another data set; or all images of one without test images.

    Args:
        source: What :func:`mnistbench.datasets.read_source` takes.
        needs_labels: Whether the images must have labels. Otherwise those of a folder whose test set has none, such as
            Kaggle's, are its test set.

    Raises:
        DataError: If the source cannot be read, or lacks the labels that it must have.
    """
    name = EMBEDDED if source is None else printable(source)
    found = read_source(source)
    if isinstance(found, Table):
        inputs = _of_table(found, name)
        if needs_labels:
            inputs.labelled  # noqa: B018 - raises an error without labels
        return inputs
    if found.unlabelled and not needs_labels:
        return _of_table(read_file(found.unlabelled), printable(found.unlabelled))
    split, which = (found.labelled.split(), "images") if found.test is None else (found.test.split(), "test images")
    return Inputs(
        split.images, split.labels, found.image_shape, name, which, found.notes, class_names=found.class_names
    )


def _of_table(table: Table, name: str) -> Inputs:
    return Inputs(table.images, table.labels, table.image_shape, name, notes=(table.understood,), ids=table.ids)
