"""Scores and predictions of parameters, computed on the host by :mod:`mnistbench.reference.mlp`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnistbench import reference
from mnistbench.datasets import Split
from mnistbench.reference import mlp
from mnistbench.reference.parameters import Array, Parameters
from mnistbench.task.recipe import Activation

_IMAGES = 8_192
"""Images computed at a time, which bounds the memory of a wide network's activations."""


class Score(NamedTuple):
    """Mean cross-entropy of images, and the fraction of them that are classified as their label says."""

    loss: float
    accuracy: float


def score(parameters: Parameters, split: Split, activation: Activation = "relu") -> Score:
    """Score the images of a split, at least one, without dropout and augmentation."""
    loss = right = 0.0
    for part, Z in _logits(parameters, split.images, activation):
        Y = split.labels[part]
        with np.errstate(over="ignore", invalid="ignore"):  # a diverging run shows in the loss
            loss += len(Y) * reference.cross_entropy(Z, Y)
        right += float(np.sum(reference.get_predictions(Z) == Y))
    return Score(loss / len(split), right / len(split))


def predict(parameters: Parameters, images: NDArray[np.uint8], activation: Activation = "relu") -> NDArray[np.int64]:
    """Return the most probable class of each image: (k,) integers for images (k, inputs)."""
    labels = np.empty(len(images), np.int64)
    for part, Z in _logits(parameters, images, activation):
        labels[part] = reference.get_predictions(Z)
    return labels


def probabilities(
    parameters: Parameters, images: NDArray[np.uint8], activation: Activation = "relu"
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the probability of each class for each image, and what :func:`predict` returns.

    Args:
        parameters: Parameters of the network.
        images: (k, inputs).
        activation: Activation of the hidden layers.

    Returns:
        Probabilities (k, classes), and classes (k,).
    """
    found = np.empty((len(images), parameters.network.outputs))
    labels = np.empty(len(images), np.int64)
    for part, Z in _logits(parameters, images, activation):
        found[part] = reference.softmax(Z.astype(np.float64)).T
        labels[part] = reference.get_predictions(Z)
    return found, labels


def _logits(parameters: Parameters, images: NDArray[np.uint8], activation: Activation) -> Iterator[tuple[slice, Array]]:
    """Yield a part of the images at a time: its slice, and its logits (classes, m)."""
    for first in range(0, len(images), _IMAGES):
        part = slice(first, first + _IMAGES)
        X = reference.scale_images(images[part], parameters.weights[0].dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            Zs, _ = mlp.forward(parameters, X, activation)
        yield part, Zs[-1]
