"""Stratified k-fold cross-validation: every labelled image is predicted once, by a network that was not trained on it.

Kohavi, "A study of cross-validation and bootstrap for accuracy estimation and model selection", IJCAI 1995.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mnistbench.datasets import DEV_SIZE, Dataset, Split
from mnistbench.exceptions import OptionError
from mnistbench.task.workload import Workload
from mnistbench.training.loop import Callback, train
from mnistbench.training.result import Progress, TrainingResult


@dataclass(frozen=True)
class CrossValidation:
    """Results of a cross-validation.

    Attributes:
        results: the result of each fold; its ``test_accuracy`` is that of the fold's images, which were held out.
    """

    results: list[TrainingResult]

    @property
    def accuracies(self) -> list[float]:
        """The accuracy of each fold."""
        return [result.test_accuracy or 0.0 for result in self.results]

    @property
    def mean(self) -> float:
        """The mean of the folds' accuracies."""
        return statistics.fmean(self.accuracies)

    @property
    def deviation(self) -> float:
        """The standard deviation of the folds' accuracies."""
        return statistics.stdev(self.accuracies)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% confidence interval of the mean accuracy, by Student's t with corrected variance.

        Any two trainings share most of their images, so that 1 / k times the folds' variance would be too small; the
        factor is 1 / k + 1 / (k - 1) (Nadeau and Bengio, "Inference for the generalization error", Machine Learning
        52, 2003).
        """
        from scipy.stats import t  # which takes a quarter of a second to load

        k = len(self.results)
        reach = float(t.ppf(0.975, k - 1)) * self.deviation * math.sqrt(1 / k + 1 / (k - 1))
        return self.mean - reach, self.mean + reach


def fold_of_each(labels: NDArray[np.int64], folds: int, seed: int = 0) -> NDArray[np.int64]:
    """The fold, from 0, of every image: each class, shuffled by the seed, is dealt to the folds in turn.

    The next class goes on where the last one ended, so that neither the folds nor the images of a class in them differ
    by more than one.

    Raises:
        OptionError: fewer than 2 folds, or more than images.
    """
    if not 2 <= folds <= len(labels):
        raise OptionError(f"folds {folds}: give from 2 to as many as there are images, {len(labels)}")
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    found = np.empty(len(labels), np.int64)
    found[shuffled[np.argsort(labels[shuffled], kind="stable")]] = np.arange(len(labels)) % folds
    return found


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
    """Train ``folds`` times, each time on all folds but one, which then tests the result.

    Args:
        dataset: data set whose labelled images, train and dev, are put into folds. Its test images are not used.
        workload: what to compute, for as many epochs as it has; its number of images is replaced by that of the folds
            trained on.
        backend: a name that :func:`mnistbench.list_backends` lists.
        folds: number of folds, at least 2.
        threads: number of CPU threads; all that the process may use by default.
        patience: stop after this many epochs without a lower dev loss, as in :func:`mnistbench.train`.
        dev_size: with patience, number of the images trained on that are held out for it; the fold that tests is no
            judge of when to stop.
        callback: called with the fold, from 0, and each progress.

    Raises:
        as :func:`mnistbench.train`.
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
                callback=_reporting(callback, fold),
            )
        )
    return CrossValidation(results)


def _reporting(callback: Callable[[int, Progress], None] | None, fold: int) -> Callback | None:
    return callback and (lambda progress, parameters: callback(fold, progress))


def _joined(first: Split, second: Split) -> Split:
    return Split(np.concatenate([first.images, second.images]), np.concatenate([first.labels, second.labels]))


def _on(workload: Workload, images: int) -> Workload:
    """The workload on ``images`` images, for as many epochs."""
    epochs = workload.iterations / workload.iterations_per_epoch
    found = replace(workload, images=images)
    return replace(found, iterations=max(1, round(epochs * found.iterations_per_epoch)))
