"""The embedded MNIST, as far as rows are compared with it."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnistbench.measurement.bound import pixels_in_use
from mnistbench.task.workload import Workload

TEST_IMAGES = 10_000
"""Images of the test set, of which an error is a whole number."""

LEAST_ERROR = 9e-4
"""Test error that no network falls below: that of an ensemble of convolutional networks (An, Lee, Park, Yang and So,
"An ensemble of simple convolutional neural network models for MNIST digit recognition", 2020)."""

_PIXELS = 784

_MOST = 60_000
"""Largest number of training images that are loaded; more would be shifted copies."""


class Embedded(NamedTuple):
    """Data set of the embedded MNIST.

    Attributes:
        sha256: Digest of the data set.
        pixels: Pixels in use of its training images.
    """

    sha256: str
    pixels: NDArray[np.int64]


def is_embedded(workload: Workload) -> bool:
    """Whether a workload is of no other images than MNIST's."""
    return workload.network.inputs == _PIXELS and workload.images <= _MOST


@lru_cache(maxsize=64)
def embedded(images: int, seed: int) -> Embedded:
    """Load the data set with this number of training images and this seed."""
    from mnistbench.datasets import load_images

    dataset = load_images(images, seed)
    return Embedded(dataset.sha256, pixels_in_use(dataset))


def not_of_images(name: str, share: float, images: int) -> str | None:
    """Describe in words that a share is no whole number of images, or return None."""
    if abs(share * images - round(share * images)) <= 1e-6:
        return None
    return f"{name} is {share:.6g}, which is no whole number of {images:,} images"
