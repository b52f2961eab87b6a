"""Cross-validation: folds are a stratified partition, and no network is tested on images it was trained on."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnistbench.datasets import Dataset
from mnistbench.exceptions import OptionError
from mnistbench.reference import evaluation
from mnistbench.task.recipe import Optimizer, Recipe
from mnistbench.task.workload import Workload
from mnistbench.training.crossval import CrossValidation, cross_validate, fold_of_each
from mnistbench.training.loop import train
from mnistbench.training.result import Progress, TrainingResult
from tests.support import builders

DATA = builders.dataset(40, 12, 3, ink=0.9)  # and 23 of dev
TASK = Workload(DATA.network(5), 40, 12, recipe=Recipe("he", optimizer=Optimizer("adam"), batch_size=10))


@given(st.lists(st.integers(0, 5), min_size=2, max_size=200), st.integers(2, 12), st.integers(0, 5))
def test_folds_are_a_stratified_partition(labels: list[int], folds: int, seed: int) -> None:
    Y = np.array(labels, np.int64)
    if folds > len(Y):
        with pytest.raises(OptionError, match=f"^folds {folds}: give from 2 to as many as there are images"):
            fold_of_each(Y, folds, seed)
        return
    found = fold_of_each(Y, folds, seed)
    assert found.shape == Y.shape
    sizes = np.bincount(found, minlength=folds)
    assert len(sizes) == folds, "every image is in one of the folds"
    assert sizes.max() - sizes.min() <= 1
    for label in set(labels):
        counts = np.bincount(found[label == Y], minlength=folds)
        assert counts.max() - counts.min() <= 1
    assert np.array_equal(found, fold_of_each(Y, folds, seed))


def test_the_seed_shuffles_within_classes() -> None:
    Y = np.arange(60) % 3
    assert any(not np.array_equal(fold_of_each(Y, 5, 0), fold_of_each(Y, 5, seed)) for seed in range(1, 4))


@pytest.mark.parametrize("folds", [1, 0, -1, 64])
def test_impossible_numbers_of_folds_are_refused(folds: int) -> None:
    with pytest.raises(OptionError, match=f"^folds {folds}: "):
        cross_validate(DATA, workload=TASK, backend="numpy", folds=folds, threads=1)


def test_each_fold_is_tested_by_a_network_trained_on_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def spied(dataset: Dataset, **options: Any) -> TrainingResult:
        seen.append(dataset)
        return train(dataset, **options)

    monkeypatch.setattr("mnistbench.training.crossval.train", spied)
    found = cross_validate(DATA, workload=TASK, backend="numpy", folds=4, threads=1)
    everything = np.concatenate([DATA.train.images, DATA.dev.images])
    tested = np.concatenate([part.test.images for part in seen if part.test])
    assert sorted(map(bytes, tested)) == sorted(map(bytes, everything))
    for part, result, accuracy in zip(seen, found.results, found.accuracies, strict=True):
        own, test = part.train, part.test
        assert test is not None
        assert len(own) + len(test) == 63
        assert not {bytes(image) for image in own.images} & {bytes(image) for image in test.images}
        assert accuracy == evaluation.score(result.parameters, test).accuracy
        # As many epochs as the workload has: 12 iterations are 3 of 40 images.
        assert (result.workload.images, result.workload.iterations) == (len(own), 15)


def test_patience_holds_out_images_of_the_other_folds() -> None:
    reports: list[tuple[int, Progress]] = []
    found = cross_validate(
        DATA,
        workload=replace(TASK, iterations=40),
        backend="numpy",
        folds=3,
        patience=1,
        dev_size=8,
        callback=lambda fold, progress: reports.append((fold, progress)),
    )
    assert [result.workload.images for result in found.results] == [34, 34, 34]
    assert all(result.dev_accuracy is not None for result in found.results)
    assert {fold for fold, _ in reports} == {0, 1, 2}
    with pytest.raises(OptionError, match="dev size 42: leaves none of the 42 images of 2 folds"):
        cross_validate(DATA, workload=TASK, backend="numpy", folds=3, threads=1, patience=1, dev_size=42)


def test_the_classic_is_cross_validated_in_iterations() -> None:
    found = cross_validate(DATA, workload=Workload(DATA.network(5), 40, 7), backend="numpy", folds=3)
    assert [result.iterations for result in found.results] == [7, 7, 7]
    assert all(result.dev_accuracy is None for result in found.results)


def test_mean_spread_and_interval() -> None:
    one = cross_validate(DATA, workload=TASK, backend="numpy", folds=2, threads=1).results[0]
    shares = [0.90, 0.92, 0.91, 0.95]
    found = CrossValidation([replace(one, test_accuracy=share) for share in shares])
    assert found.accuracies == shares
    assert found.mean == pytest.approx(0.92)
    assert found.deviation == pytest.approx(np.std(shares, ddof=1))
    # 3.182 is the 97.5 % quantile of Student's distribution with 3 degrees of freedom.
    reach = 3.182446 * found.deviation * math.sqrt(1 / 4 + 1 / 3)
    assert found.interval == pytest.approx((0.92 - reach, 0.92 + reach))
