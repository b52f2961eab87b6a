"""Small tasks that have every option, and how a trainer is held against NumPy's along one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import mnistbench.backends as registry
from mnistbench.backends import Backend, Trainer
from mnistbench.backends.numpy import NumpyBackend
from mnistbench.datasets import Dataset
from mnistbench.reference.parameters import Parameters
from mnistbench.task.recipe import ACTIVATIONS, OPTIMIZERS, Activation, Augmentation, Optimizer, Recipe, Schedule
from mnistbench.task.workload import Network, Workload
from tests.support import builders

IMAGES, HEIGHT, WIDTH, CLASSES = 37, 5, 7, 5
ALL_CHANGES = Augmentation(shift=2, rotate=20, elastic_alpha=30, elastic_sigma=1.5)


def data(images: int = IMAGES) -> Dataset:
    """Images of 5 x 7 pixels."""
    return replace(builders.dataset(images, HEIGHT * WIDTH, CLASSES, ink=0.6), image_shape=(HEIGHT, WIDTH))


def task(hidden: tuple[int, ...] = (7, 6), activation: Activation = "relu", **options: Any) -> Workload:
    """Three epochs of three batches, the last of 5 images, unless the options say otherwise."""
    options = {"batch_size": 16, **options}
    network = Network((HEIGHT * WIDTH, *hidden, CLASSES), activation)
    return Workload(network, IMAGES, 9, learning_rate=0.05, dtype="float64", seed=3, recipe=Recipe(**options))


TASKS = {
    "two hidden layers": task(),
    "no hidden layer": task(()),
    "four hidden layers": task((9, 1, 8, 3), "tanh", initializer="xavier"),
    "all images": task(batch_size=None),
    "batches of one": task(batch_size=1),
    "batches larger than all": task(batch_size=100),
    "l2": task(l2=0.5),
    "dropout": task(dropout=(0.3,)),
    "dropout of one layer": task(dropout=(0.0, 0.5), batch_size=None),
    "cosine": task(schedule=Schedule("cosine")),
    "step": task(schedule=Schedule("step", every=1, factor=0.5)),
    "shift": task(augmentation=Augmentation(shift=2)),
    "rotate": task(augmentation=Augmentation(rotate=30), batch_size=None),
    "elastic": task(augmentation=Augmentation(elastic_alpha=30, elastic_sigma=1.0)),
    "all changes": task(augmentation=ALL_CHANGES),
    **{f"activation {name}": task(activation=name, dropout=(0.2, 0.4)) for name in ACTIVATIONS},
    **{f"optimizer {name}": task(optimizer=Optimizer(name), l2=0.1) for name in OPTIMIZERS},
    "everything": task(
        (8, 5, 6),
        "tanh",
        l2=0.2,
        dropout=(0.1, 0.2, 0.3),
        optimizer=Optimizer("adamw", weight_decay=0.1),
        schedule=Schedule("cosine"),
        augmentation=ALL_CHANGES,
    ),
    "another everything": task(
        (7,),
        "sigmoid",
        l2=0.2,
        dropout=(0.5,),
        optimizer=Optimizer("nesterov", momentum=0.8),
        schedule=Schedule("step", every=1, factor=0.3),
        augmentation=Augmentation(shift=1, elastic_alpha=10),
        batch_size=None,
    ),
}


def started(backend: Backend, workload: Workload, dataset: Dataset | None = None) -> Trainer:
    initial = Parameters.initial(workload.network, workload.seed, workload.recipe.initializer)
    return backend.start(workload, dataset or data(), initial)


def compare(backend: Backend, workload: Workload, dataset: Dataset) -> None:
    """Along three epochs: metrics, gradients, parameters and predictions are those of NumPy's trainer."""
    # Sums of some hundred terms, eleven steps.
    tolerance = {"float64": 1e-9, "float32": 1e-4}[workload.dtype]
    with started(backend, workload, dataset) as own, started(NumpyBackend(), workload, dataset) as other:
        for iterations in (1, 3, 5, 2):  # the last ones go beyond the workload
            close(own.gradients(), other.gradients(), tolerance)
            found, wanted = own.advance(iterations), other.advance(iterations)
            assert found.iteration == wanted.iteration
            assert found.loss == pytest.approx(wanted.loss, rel=tolerance)
            assert found.accuracy == wanted.accuracy
            close(own.parameters(), other.parameters(), tolerance)
        assert own.predict(dataset.dev.images).tolist() == other.predict(dataset.dev.images).tolist()


def close(own: Parameters, other: Parameters, tolerance: float) -> None:
    for (name, array), (_, wanted) in zip(own.named(), other.named(), strict=True):
        assert array.dtype == wanted.dtype, name
        np.testing.assert_allclose(
            array, wanted, rtol=0, atol=tolerance * max(1e-3, np.abs(wanted).max()), err_msg=name
        )


def on_gpu() -> Backend:
    """The backend on a real GPU; without one the test is skipped."""
    found = registry.availability("cupy")
    if not found.usable:
        pytest.skip(f"cupy is unavailable: {found.reason}")
    return registry.get("cupy")
