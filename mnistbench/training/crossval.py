"""Stratified k-fold cross-validation: every labelled image is predicted once, by a network that was not trained on it.

Kohavi, "A study of cross-validation and bootstrap for accuracy estimation and model selection", IJCAI 1995.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mnistbench.datasets import DEV_SIZE, Dataset, Split
from mnistbench.exceptions import OptionError
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Workload
from mnistbench.training.loop import train
from mnistbench.training.result import Progress, TrainingResult


@dataclass(frozen=True)
class CrossValidation:
    """Results of a cross-validation.

    Attributes:
        results: Result of each fold; its ``test_accuracy`` is the accuracy on the fold's images, which were held out.
    """

    results: list[TrainingResult]

    @property
    def accuracies(self) -> list[float]:
        """Accuracy on each fold."""
        return [result.test_accuracy or 0.0 for result in self.results]

    @property
    def mean(self) -> float:
        """Mean of the folds' accuracies."""
        return statistics.fmean(self.accuracies)

    @property
    def deviation(self) -> float:
        """Standard deviation of the folds' accuracies."""
        return statistics.stdev(self.accuracies)

    @property
    def interval(self) -> tuple[float, float]:
        """95% confidence interval of the mean accuracy, by Student's t with corrected variance.

        Any two runs share most of their training images, so 1 / k times the folds' variance would be too small; the
        factor is 1 / k + 1 / (k - 1) (Nadeau and Bengio, "Inference for the generalization error", Machine Learning
        52, 2003).
        """
        from scipy.stats import t  # takes a quarter of a second

        k = len(self.results)
        reach = float(t.ppf(0.975, k - 1)) * self.deviation * math.sqrt(1 / k + 1 / (k - 1))
        return self.mean - reach, self.mean + reach


def fold_of_each(labels: NDArray[np.int64], folds: int, seed: int = 0) -> NDArray[np.int64]:
    """Assign each image to a fold, counted from 0; each class, shuffled by the seed, is dealt to the folds in turn.

    The next class continues where the last one ended, so fold sizes differ by at most one, and so do the numbers of
    images of a class in each fold.

    Raises:
        OptionError: If ``folds`` is less than 2 or more than the number of images.
    """
    if not 2 <= folds <= len(labels):
        raise OptionError(f"folds {folds}: give from 2 to as many as there are images, {len(labels)}")
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    fold = np.empty(len(labels), np.int64)
    fold[shuffled[np.argsort(labels[shuffled], kind="stable")]] = np.arange(len(labels)) % folds
    return fold


def cross_validate(
    dataset: Dataset,
    *,
    workload: Workload,
    backend: str = "numba",
    folds: int = 5,
    threads: int | None = None,
    patience: int | None = None,
    dev_size: int = DEV_SIZE,
    callback: Callable[[int, Progress], None] | None = None,
) -> CrossValidation:
    """Train ``folds`` times, each time on all folds but one, and test on that one.

    Args:
        dataset: Data set whose train and dev images are split into folds. Its test images are not used.
        workload: Workload to train for its number of epochs, on as many images as the folds have.
        backend: Name that :func:`mnistbench.list_backends` lists.
        folds: Number of folds, at least 2.
        threads: Number of CPU threads; by default all that the process may use.
        patience: Stop after this many epochs without a lower dev loss, as in :func:`mnistbench.train`.
        dev_size: With ``patience``, number of images that are held out of those trained on; the fold that tests does
            not decide when to stop.
        callback: Called with the fold, counted from 0, and its progress.

    Raises:
        MnistbenchError: As :func:`mnistbench.train`.
    """
    labelled = _joined(dataset.train, dataset.dev)
    which = fold_of_each(labelled.labels, folds, workload.seed)
    held_out = dev_size if patience is not None else 0
    results = []
    for fold in range(folds):
        others = np.random.default_rng(workload.seed).permutation(np.flatnonzero(which != fold))
        if held_out >= len(others):
            raise OptionError(f"dev size {held_out}: leaves none of the {len(others)} images of {folds - 1} folds")
        own, dev, test = (
            Split(labelled.images[places], labelled.labels[places])
            for places in (others[held_out:], others[:held_out], np.flatnonzero(which == fold))
        )
        results.append(
            train(
                replace(dataset, train=own, dev=dev, test=test),
                workload=_on(workload, len(own)),
                backend=backend,
                threads=threads,
                patience=patience,
                callback=callback and partial(_report, callback, fold),
            )
        )
    return CrossValidation(results)


def _report(callback: Callable[[int, Progress], None], fold: int, progress: Progress, parameters: Parameters) -> None:
    callback(fold, progress)


def _joined(first: Split, second: Split) -> Split:
    return Split(np.concatenate([first.images, second.images]), np.concatenate([first.labels, second.labels]))


def _on(workload: Workload, images: int) -> Workload:
    """Return the workload on ``images`` images, for the same number of epochs."""
    epochs = workload.iterations / workload.iterations_per_epoch
    resized = replace(workload, images=images)
    return replace(resized, iterations=max(1, round(epochs * resized.iterations_per_epoch)))
