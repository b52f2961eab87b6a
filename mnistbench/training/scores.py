"""Scores of parameters at the end of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mnistbench.datasets import Dataset
from mnistbench.reference.evaluation import Score, score
from mnistbench.reference.parameters import Parameters
from mnistbench.task.recipe import Activation
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


def final_scores(
    parameters: Parameters,
    workload: Workload,
    dataset: Dataset,
    scored: Callable[[Parameters, Activation], Score] | None = None,
) -> FinalScores:
    """Score parameters on every split; the host computes, whatever trained them.

    Args:
        scored: Function that scores parameters on all training images, if the data set has only a share of them.
    """
    activation = workload.network.activation
    train = scored(parameters, activation) if scored else score(parameters, dataset.train, activation)
    dev, test = (
        score(parameters, split, activation).accuracy if split else None for split in (dataset.dev, dataset.test)
    )
    return FinalScores(train.loss, train.accuracy, dev, test)
