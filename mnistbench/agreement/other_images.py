"""Comparison with the reference on images that no data set has."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mnistbench import words
from mnistbench.agreement import Agreement, Trajectory, check_trainer
from mnistbench.backends import Trainer
from mnistbench.datasets import Dataset, Split
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Network, Workload

IMAGES, DEV, ITERATIONS = 300, 50, 10

MORE_CLASSES = 3
"""Classes beyond those of the workload."""


Start = Callable[[Workload, Dataset, Parameters], Trainer]
"""Function that starts a backend on a workload and a data set from initial parameters."""


def compare_other_images(start: Start, agreement: Agreement, workload: Workload, usual: Dataset) -> Agreement:
    """Compare a backend with the reference on random images with random labels, for a few iterations.

    Images are dense, sparse or bright, and there are more classes than the workload has; so what is right only for
    MNIST, whose border is empty, fails. Numbers come from the operating system, so nobody knows the images.

    Args:
        agreement: Agreement without checks, to which those on these images are added.
        workload: Workload whose recipe, hidden layers and dtype are used.
        usual: Its data set. The learning rate is as much smaller as the random images are brighter, so that training
            is as stable.
    """
    task = _task(workload)
    dataset = _dataset(task, usual.image_shape)
    rate = workload.learning_rate * min(1.0, _brightness(usual) / _brightness(dataset))
    task = replace(task, learning_rate=rate)
    trajectory = Trajectory(task, dataset)
    try:
        with start(task, dataset, trajectory.fresh()) as trainer:
            return check_trainer(trainer, agreement, trajectory)
    except Exception as error:  # a faulty backend may raise anything
        return replace(agreement, failure=words.exception(error))


def _task(workload: Workload) -> Workload:
    inputs, *hidden, outputs = workload.network.sizes
    network = Network((inputs, *hidden, outputs + MORE_CLASSES), workload.network.activation)
    size, recipe = workload.recipe.batch_size, workload.recipe
    if size is not None:
        recipe = replace(recipe, batch_size=min(size, IMAGES // 2))
    seed = secrets.randbits(32)
    return replace(workload, network=network, images=IMAGES, iterations=ITERATIONS, recipe=recipe, seed=seed)


def _dataset(task: Workload, image_shape: tuple[int, int]) -> Dataset:
    random = np.random.default_rng(task.seed)
    images: NDArray[np.uint8] = random.integers(0, 256, (IMAGES + DEV, task.network.inputs), np.uint8)
    images[1::3] *= random.random(images[1::3].shape) < 0.1
    images[2::3] |= 0xF0
    labels = random.integers(0, task.network.outputs, IMAGES + DEV)
    train, dev = (Split(images[part], labels[part]) for part in (slice(IMAGES), slice(IMAGES, None)))
    return Dataset("random images", image_shape, task.network.outputs, train, dev, None)


def _brightness(dataset: Dataset) -> float:
    """Return the mean square of the pixels, of 1,000 images at most."""
    return float(np.mean(np.square(dataset.train.images[:1000], dtype=np.float64)))
