"""How a trained network does on labelled images: accuracy of each class, confusion matrix, worst mistakes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnistbench.datasets import Split
from mnistbench.reference import evaluation
from mnistbench.reference.parameters import Model
from mnistbench.timing.statistics import wilson

LEVEL = 0.95
"""Confidence level of the intervals."""

OTHER = "other"
"""Name of all labels that a network has no output for."""


@dataclass(frozen=True)
class Share:
    """Images that are classified correctly.

    Attributes:
        right, of: Number of those, and of all.
    """

    right: int
    of: int

    @property
    def accuracy(self) -> float | None:
        """Fraction that is right; None without images."""
        return self.right / self.of if self.of else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's interval for the probability that another such image is right; None without images."""
        if not self.of:
            return None
        low, high = wilson(self.right / self.of, self.of, LEVEL)
        return max(0.0, low), min(1.0, high)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "accuracy": self.accuracy, "interval": self.interval and list(self.interval)}


@dataclass(frozen=True)
class Mistake:
    """An image whose most probable class is not its label.

    Attributes:
        image: Place of the image in its source, counted from 0.
        label, predicted: Its class, and the most probable one.
        probability: Probability of that.
        of_label: Probability of the label.
    """

    image: int
    label: int
    predicted: int
    probability: float
    of_label: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Predictions of labelled images, compared with the labels.

    Attributes:
        confusion: (classes, classes): number of images with the row's label that were predicted as the column's class.
            The last class stands for all labels that the network has no output for, if there are any.
        mistakes: All mistakes, the most confident first.
        names: Names of the classes.
    """

    confusion: NDArray[np.int64]
    mistakes: list[Mistake]
    names: tuple[str, ...]

    @property
    def all(self) -> Share:
        """All images."""
        return Share(int(self.confusion.trace()), int(self.confusion.sum()))

    @property
    def classes(self) -> list[Share]:
        """Images of each class."""
        pairs = zip(self.confusion.diagonal(), self.confusion.sum(axis=1), strict=True)
        return [Share(int(right), int(of)) for right, of in pairs]

    def most_often_as(self, label: int) -> tuple[int, int] | None:
        """Return the other class that images of a class are predicted as most often, and how often; None if never."""
        others = self.confusion[label].copy()
        others[label] = 0
        taken = int(others.argmax())
        return (taken, int(others[taken])) if others[taken] else None


def evaluate(model: Model, images: Split) -> Evaluation:
    """Predict labelled images and compare; a label that the network has no output for is never right."""
    found, predicted = evaluation.probabilities(model.parameters, images.images, model.activation)
    outputs, labels = found.shape[1], images.labels
    rows = np.minimum(labels, outputs)
    classes = outputs + int((labels >= outputs).any())
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (rows, predicted), 1)
    wrong = np.flatnonzero(predicted != labels)
    confident = wrong[np.argsort(-found[wrong, predicted[wrong]], kind="stable")]
    known = np.pad(found, ((0, 0), (0, 1)))
    mistakes = [
        Mistake(int(i), int(labels[i]), int(predicted[i]), float(known[i, predicted[i]]), float(known[i, rows[i]]))
        for i in confident
    ]
    names = (*(model.named(label) for label in range(outputs)), OTHER)
    return Evaluation(confusion, mistakes, names[:classes])
