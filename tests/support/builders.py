"""Small data sets, workloads and comparisons that several test modules build on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from mnistbench.datasets import Dataset, Split
from mnistbench.reference.parameters import Parameters
from mnistbench.results import reproduction
from mnistbench.task.presets import PUBLISHED, preset
from mnistbench.task.workload import DType, Workload


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


def errors_document(name: str = "simard", seeds: int = 3, points: int = 20, seconds: float = 1.0) -> dict[str, Any]:
    """A stored file of test errors of a preset, as :mod:`mnistbench.results.reproduction` has it."""
    published = PUBLISHED[name]
    runs = []
    for seed in range(seeds):
        curve = [
            {"epoch": epoch, "seconds": seconds * epoch, "test_error": 0.01 + 0.05 / epoch + 0.001 * seed}
            for epoch in range(1, points + 1)
        ]
        runs.append(
            {
                "seed": seed,
                "test_error": curve[-1]["test_error"],
                "train_accuracy": 0.99,
                "loss": 0.01,
                "epochs": points,
                "seconds": seconds * points,
                "costs": {"import": 0.1, "load": 0.1, "compile": 0.1, "train": seconds * points},
                "backend": "numba",
                "dtype": "float32",
                "device": "CPU",
                "threads": 2,
                "kernel": "loops",
                "versions": {"numba": "1.2.3"},
                "commit": "0123456789abcdef",
                "dirty": False,
                "date": f"2025-03-0{seed + 1}T12:00:00+00:00",
                "data_sha256": "0",
                "curve": curve,
            }
        )
    return {
        "schema": reproduction.SCHEMA,
        "machine": {"name": "Some CPU, 2 CPUs"},
        "workload": {k: v for k, v in preset(name).describe().items() if k not in ("seed", "dtype")},
        "published": {"test_error": published.error, "source": published.source, "method": published.method},
        "mean_test_error": {"numba float32": 0.0135},
        "runs": runs,
    }


def store_errors(folder: Path, name: str = "simard", **shape: Any) -> Path:
    """Write such a file into a machine's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"errors_{name}.json"
    path.write_text(json.dumps(errors_document(name, **shape)), encoding="utf-8")
    return path


def assert_close(found: Parameters, expected: Parameters, tolerance: float) -> None:
    """Hold every array against the expected one, to ``tolerance`` times the largest value of that."""
    for (name, value), (_, wanted) in zip(found.named(), expected.named(), strict=True):
        assert value.shape == wanted.shape, name
        atol = tolerance * np.abs(wanted).max() + 1e-300
        np.testing.assert_allclose(value, wanted, rtol=0, atol=atol, err_msg=name)


def identical(left: Parameters, right: Parameters) -> bool:
    """Whether all arrays are equal bit for bit, dtypes and shapes included."""
    pairs = list(zip(left.named(), right.named(), strict=True))
    return all(
        (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()) and name == other
        for (name, a), (other, b) in pairs
    )
