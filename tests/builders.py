"""Small data sets, workloads and comparisons that several test modules build on."""

from __future__ import annotations

import numpy as np

from mnistbench.datasets import Dataset, Split
from mnistbench.network import Parameters
from mnistbench.workload import DType, Workload


def split(rng: np.random.Generator, images: int, pixels: int, labels: int, ink: float) -> Split:
    """Random images of which a fraction ``ink`` of the pixels is not 0, with labels below ``labels``."""
    values = rng.integers(1, 256, (images, pixels), dtype=np.uint8)
    values[rng.random(values.shape) >= ink] = 0
    return Split(values, rng.integers(0, labels, images))


def dataset(
    images: int, pixels: int, classes: int, *, ink: float = 0.2, labels: int | None = None, seed: int = 0, rows: int = 1
) -> Dataset:
    """A data set of so many training images and 23 of dev; only the first ``labels`` classes occur in it."""
    rng = np.random.default_rng(seed)
    train, dev = (split(rng, count, pixels, labels or classes, ink) for count in (images, 23))
    return Dataset("random images", (rows, pixels // rows), classes, train, dev, None)


def workload(
    data: Dataset, hidden: int = 7, *, iterations: int = 12, learning_rate: float = 0.1, dtype: DType = "float64"
) -> Workload:
    """The workload that trains a network of that many hidden units on all training images of ``data``."""
    return Workload(data.network(hidden), len(data.train), iterations, learning_rate, dtype)


def initial(task: Workload) -> Parameters:
    """The workload's initial parameters in its dtype."""
    return Parameters.initial(task.network, task.seed, task.recipe.initializer).astype(task.dtype)


def identical(left: Parameters, right: Parameters) -> bool:
    """Whether all arrays are equal bit for bit, dtypes and shapes included."""
    pairs = list(zip(left.named(), right.named(), strict=True))
    return all(
        (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()) and name == other
        for (name, a), (other, b) in pairs
    )
