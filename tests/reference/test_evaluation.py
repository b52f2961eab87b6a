"""Scores on the host are those of the equations, in parts of any size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mnistbench import reference
from mnistbench.reference import evaluation, mlp
from mnistbench.reference.parameters import Parameters
from mnistbench.task.recipe import ACTIVATIONS
from mnistbench.task.workload import Network
from tests.support import builders


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("at_once", [1, 7, 40, 8_192])
def test_scores_and_predictions(activation: Any, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "_IMAGES", at_once)
    data = builders.dataset(40, 12, 4).train
    parameters = Parameters.initial(Network((12, 6, 5, 4)), 1)
    Zs, As = mlp.forward(parameters, reference.scale_images(data.images, "float64"), activation)
    found = evaluation.score(parameters, data, activation)
    labels = reference.get_predictions(As[-1])
    assert found.loss == pytest.approx(reference.cross_entropy(Zs[-1], data.labels), rel=1e-12)
    assert found.accuracy == np.mean(labels == data.labels)
    assert np.array_equal(evaluation.predict(parameters, data.images, activation), labels)


def test_no_images_have_no_predictions() -> None:
    parameters = Parameters.initial(Network((12, 6, 4)), 1)
    assert evaluation.predict(parameters, np.empty((0, 12), np.uint8)).shape == (0,)


def test_parameters_that_overflow_have_a_loss_that_shows_it() -> None:
    parameters = Parameters.initial(Network((12, 6, 4)), 1).astype("float32")
    for weights in parameters.weights:
        weights *= 1e30
    assert not np.isfinite(evaluation.score(parameters, builders.dataset(40, 12, 4).train).loss)
