"""Small data sets, workloads and comparisons that several test modules build on."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnistbench.datasets import Dataset, Split
from mnistbench.reference.parameters import Parameters
from mnistbench.results import reproduction
from mnistbench.task.presets import PUBLISHED, preset
from mnistbench.task.workload import DType, Workload


def split(rng: np.random.Generator, images: int, pixels: int, labels: int, ink: float) -> Split:
    """Return random images with a fraction ``ink`` of nonzero pixels, and labels below ``labels``."""
    values = rng.integers(1, 256, (images, pixels), dtype=np.uint8)
    values[rng.random(values.shape) >= ink] = 0
    return Split(values, rng.integers(0, labels, images))


def dataset(
    images: int, pixels: int, classes: int, *, ink: float = 0.2, labels: int | None = None, seed: int = 0, rows: int = 1
) -> Dataset:
    """Return a data set of ``images`` training and 23 dev images, with labels below ``labels``, by default all."""
    rng = np.random.default_rng(seed)
    train, dev = (split(rng, count, pixels, labels or classes, ink) for count in (images, 23))
    return Dataset("random images", (rows, pixels // rows), classes, train, dev, None)


def workload(
    data: Dataset, hidden: int = 7, *, iterations: int = 12, learning_rate: float = 0.1, dtype: DType = "float64"
) -> Workload:
    """Return a workload with one hidden layer on all training images of ``data``."""
    return Workload(data.network(hidden), len(data.train), iterations, learning_rate, dtype)


def initial(task: Workload) -> Parameters:
    """Return the workload's initial parameters in its dtype."""
    return Parameters.initial(task.network, task.seed, task.recipe.initializer).astype(task.dtype)


def idx(array: NDArray[Any]) -> bytes:
    """Return an array as an IDX file of unsigned bytes."""
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def errors_document(name: str = "simard", seeds: int = 3, points: int = 20, seconds: float = 1.0) -> dict[str, Any]:
    """Return a stored file of a preset's test errors, as :mod:`mnistbench.results.reproduction` writes it."""
    published, total = PUBLISHED[name], seconds * points
    costs = {"import": 0.1, "load": 0.1, "compile": 0.1, "train": total}
    same = {"train_accuracy": 0.99, "loss": 0.01, "epochs": points, "seconds": total, "costs": costs}
    same |= {"backend": "numba", "dtype": "float32", "device": "CPU", "threads": 2, "kernel": "loops"}
    same |= {"versions": {"numba": "1.2.3"}, "commit": "0123456789abcdef", "dirty": False, "data_sha256": "0"}
    runs = []
    for seed in range(seeds):
        errors = [(epoch, 0.01 + 0.05 / epoch + 0.001 * seed) for epoch in range(1, points + 1)]
        curve = [{"epoch": epoch, "seconds": seconds * epoch, "test_error": error} for epoch, error in errors]
        own = {"seed": seed, "test_error": errors[-1][1], "date": f"2025-03-0{seed + 1}T12:00:00+00:00", "curve": curve}
        runs.append({**same, **own})
    return {
        "schema": reproduction.SCHEMA,
        "machine": {"name": "Some CPU, 2 CPUs"},
        "workload": {k: v for k, v in preset(name).describe().items() if k not in ("seed", "dtype")},
        "published": {"test_error": published.error, "source": published.source, "method": published.method},
        "mean_test_error": {"numba float32": 0.0135},
        "runs": runs,
    }


def store_errors(folder: Path, name: str = "simard", **shape: Any) -> Path:
    """Write a file of test errors into a machine's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"errors_{name}.json"
    path.write_text(json.dumps(errors_document(name, **shape)), encoding="utf-8")
    return path


def assert_close(found: Parameters, expected: Parameters, tolerance: float) -> None:
    """Compare every array with the expected one, to ``tolerance`` times its largest value."""
    for (name, value), (_, wanted) in zip(found.named(), expected.named(), strict=True):
        assert value.shape == wanted.shape, name
        atol = tolerance * np.abs(wanted).max() + 1e-300
        np.testing.assert_allclose(value, wanted, rtol=0, atol=atol, err_msg=name)


def identical(left: Parameters, right: Parameters) -> bool:
    """Return whether all arrays are equal bit for bit, dtypes and shapes included."""
    own, other = ([(a.dtype, a.shape, a.tobytes()) for a in parameters.arrays()] for parameters in (left, right))
    return own == other
