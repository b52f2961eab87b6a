"""Scores of parameters at the end of a run."""

from __future__ import annotations

from dataclasses import dataclass

from mnistbench.datasets import Dataset
from mnistbench.reference.evaluation import score
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Workload


@dataclass(frozen=True)
class FinalScores:
    """Scores of the same parameters on every split, without dropout and augmentation.

    Attributes:
        loss: Mean cross-entropy of the training images.
        train_accuracy, dev_accuracy, test_accuracy: Fraction of a split's images that are classified correctly; None
            if it has no images.
    """

    loss: float
    train_accuracy: float
    dev_accuracy: float | None
    test_accuracy: float | None


def final_scores(parameters: Parameters, workload: Workload, dataset: Dataset) -> FinalScores:
    """Score parameters on every split; the host computes, whatever trained them."""
    train = score(parameters, dataset.train, workload.network.activation)
    dev, test = (
        score(parameters, split, workload.network.activation).accuracy if split else None
        for split in (dataset.dev, dataset.test)
    )
    return FinalScores(train.loss, train.accuracy, dev, test)
