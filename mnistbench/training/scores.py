"""Scores of a trainer's parameters at the end of a run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mnistbench.backends import Metrics, Trainer
from mnistbench.datasets import Dataset, Split
from mnistbench.reference.evaluation import score
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


def final_scores(trainer: Trainer, workload: Workload, dataset: Dataset) -> tuple[FinalScores, Metrics]:
    """Score the trainer's current parameters; run one more iteration, and return its metrics too.

    If an iteration takes all training images unchanged, its own forward pass scores them, otherwise the host does.
    """
    dev, test = (_accuracy(trainer, split) for split in (dataset.dev, dataset.test))
    parameters, recipe = trainer.parameters(), workload.recipe
    metrics = trainer.advance(1)
    loss, train = metrics.loss, metrics.accuracy
    if recipe.batch_size is not None or any(recipe.dropout) or recipe.augmentation:
        loss, train = score(parameters, dataset.train, workload.network.activation)
    return FinalScores(loss, train, dev, test), metrics


def _accuracy(trainer: Trainer, split: Split | None) -> float | None:
    return float(np.mean(trainer.predict(split.images) == split.labels)) if split else None
