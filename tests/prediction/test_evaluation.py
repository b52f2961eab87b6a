"""Evaluation of a trained network: every number, from predictions counted by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from mnistbench.datasets import Split
from mnistbench.prediction.evaluation import Share, evaluate
from mnistbench.reference import evaluation
from mnistbench.reference.parameters import Model, Parameters


def identity(classes: int, gain: float = 1.0) -> Model:
    """A network whose logits are its pixels / 255, times ``gain``: the brightest pixel is the class."""
    eye = np.eye(classes)
    zeros = np.zeros((classes, 1))
    return Model(Parameters([eye, gain * eye], [zeros, zeros]), (1, classes), "relu")


def pixels(*brightest: tuple[int, int]) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """Return images of three pixels, each with one of a place and a brightness."""
    images = np.zeros((len(brightest), 3), np.uint8)
    for row, (place, brightness) in enumerate(brightest):
        images[row, place] = brightness
    return images


def test_every_number() -> None:
    images = pixels((0, 255), (0, 100), (1, 255), (2, 51), (2, 255), (2, 102))
    found = evaluate(identity(3), Split(images, np.array([0, 0, 1, 2, 1, 0])))
    assert found.confusion.tolist() == [[2, 0, 1], [0, 1, 1], [0, 0, 1]]
    assert (found.all, found.classes) == (Share(4, 6), [Share(2, 3), Share(1, 2), Share(1, 1)])
    assert [(m.image, m.label, m.predicted) for m in found.mistakes] == [(4, 1, 2), (5, 0, 2)], "most confident first"
    for mistake, logit in zip(found.mistakes, (1.0, 0.4), strict=True):
        assert mistake.probability == pytest.approx(np.exp(logit) / (np.exp(logit) + 2))
        assert mistake.of_label == pytest.approx(1 / (np.exp(logit) + 2))
    assert [found.most_often_as(label) for label in range(3)] == [(2, 1), (2, 1), None]
    json.dumps(found.all.as_dict())


def test_labels_without_an_output_are_never_right_and_outputs_without_images_have_no_accuracy() -> None:
    found = evaluate(identity(3), Split(pixels((0, 255), (2, 255)), np.array([0, 4])))
    assert found.confusion.shape == (4, 4)
    assert found.names == ("0", "1", "2", "other")
    assert found.classes == [Share(1, 1), Share(0, 0), Share(0, 0), Share(0, 1)]
    assert [share.accuracy for share in found.classes] == [1, None, None, 0]
    assert found.classes[1].interval is None
    assert [(m.image, m.label, m.predicted, m.of_label) for m in found.mistakes] == [(1, 4, 2, 0.0)]


def test_a_typing_error_in_a_label_takes_no_memory() -> None:
    found = evaluate(identity(3), Split(pixels((0, 255), (2, 255)), np.array([0, 60_000])))
    assert found.confusion.tolist() == [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]
    assert found.mistakes[0].label == 60_000


@given(st.integers(1, 20_000).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_the_interval_is_wilsons(counts: tuple[int, int]) -> None:
    right, of = counts
    expected = binomtest(right, of).proportion_ci(0.95, method="wilson")
    assert Share(right, of).interval == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_probabilities_are_the_softmax_of_the_logits_in_float64() -> None:
    model = identity(3, gain=200.0)
    images = np.random.default_rng(0).integers(0, 256, (9_000, 3)).astype(np.uint8)
    found, predicted = evaluation.probabilities(model.parameters, images, model.activation)
    assert np.array_equal(predicted, evaluation.predict(model.parameters, images, model.activation))
    logits = images / 255 * 200
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(found, expected / expected.sum(axis=1, keepdims=True), atol=1e-12)
    single = Parameters([W.astype(np.float32) for W in model.parameters.weights], model.parameters.biases)
    assert evaluation.probabilities(single, images[:5])[0].dtype == np.float64
