"""Catalogue of options: small tasks with each value alone, and in random combinations."""

from __future__ import annotations

from functools import cache
from itertools import zip_longest
from typing import Any

import numpy as np

from mnistbench.agreement import Trajectory, check
from mnistbench.backends import Backend
from mnistbench.datasets import Dataset
from mnistbench.task.recipe import ACTIVATIONS, INITIALIZERS, OPTIMIZERS, Augmentation, Optimizer, Recipe, Schedule
from mnistbench.task.workload import DType, Network, Workload
from tests.support import builders

DATA = builders.dataset(37, 35, 5, ink=0.5, rows=5)
"""Images of 5 x 7 pixels. In batches of 16 the last one has 5."""

VALUES: dict[str, dict[str, Any]] = {
    "hidden": {"none": (), "two": (7, 6), "four, one of 1": (9, 1, 8, 3)},
    "activation": {name: name for name in ACTIVATIONS},
    "initializer": {name: name for name in INITIALIZERS},
    "l2": {"0.5": 0.5},
    "dropout": {"0.3": (0.3,), "nothing": (1e-12,), "almost everything": (0.9,)},
    "optimizer": {
        **{name: Optimizer(name) for name in OPTIMIZERS},
        "adamw, other constants": Optimizer("adamw", beta1=0.5, beta2=0.9, epsilon=1e-3, weight_decay=0.3),
    },
    "batch_size": {"16": 16, "1": 1, "all": 37, "more than all": 100},
    "schedule": {"cosine": Schedule("cosine"), "step": Schedule("step", every=1, factor=0.5)},
    "augmentation": {
        "shift": Augmentation(shift=2),
        "rotate": Augmentation(rotate=30.0),
        "elastic": Augmentation(elastic_alpha=30.0, elastic_sigma=1.5),
        "all": Augmentation(shift=1, rotate=180.0, elastic_alpha=12.0, elastic_sigma=0.7),
    },
}
"""Named values of each option."""

EVERYTHING: dict[str, Any] = {
    "learning_rate": 0.01,
    "hidden": (8, 6),
    "activation": "tanh",
    "initializer": "xavier",
    "l2": 0.5,
    "dropout": (0.3, 0.4),
    "optimizer": Optimizer("adam"),
    "batch_size": 16,
    "schedule": Schedule("step", every=1, factor=0.5),
    "augmentation": Augmentation(shift=2, rotate=20.0, elastic_alpha=20.0, elastic_sigma=1.5),
}
"""Options of a task that has all of them."""


def task(dtype: DType = "float64", seed: int = 0, *, learning_rate: float = 0.05, **options: Any) -> Workload:
    """Return a task of nine iterations, by default with one hidden layer of 7 units."""
    hidden, activation = options.pop("hidden", (7,)), options.pop("activation", "relu")
    network = Network((DATA.pixels, *hidden, DATA.classes), activation)
    return Workload(network, len(DATA.train), 9, learning_rate, dtype, seed, recipe=Recipe(**options))


def alone() -> dict[str, Workload]:
    """Return a task for each value of each option; the other options are the classic's."""
    tasks = {
        f"{option} {name}": task(**{option: value})
        for option, values in VALUES.items()
        for name, value in values.items()
    }
    # Rates for single layers need a network with that number of layers.
    return {**tasks, "dropout of one layer": task(hidden=(7, 6), dropout=(0.0, 0.5))}


def combined(rounds: int, seed: int = 0) -> list[Workload]:
    """Return random tasks with a value for every option; in each round every value occurs."""
    rng = np.random.default_rng(seed)
    tasks = []
    for _ in range(rounds):
        columns = {option: list(rng.permutation(len(values))) for option, values in VALUES.items()}
        for row in zip_longest(*columns.values()):
            chosen = [
                place if place is not None else rng.integers(len(v))
                for place, v in zip(row, VALUES.values(), strict=True)
            ]
            options = {o: list(v.values())[place] for (o, v), place in zip(VALUES.items(), chosen, strict=True)}
            tasks.append(task(seed=int(rng.integers(2**40)), learning_rate=0.01, **options))
    return tasks


def catalogue() -> dict[str, Workload]:
    """Return a task for each value of each option, and one round of combinations."""
    return {**alone(), **{f"combination {number}": task for number, task in enumerate(combined(rounds=1))}}


@cache
def trajectory(workload: Workload) -> Trajectory:
    """Compute the reference's trajectory on :data:`DATA`, once for all backends and dtypes."""
    return Trajectory(workload, DATA)


def assert_agrees(backend: Backend, workload: Workload, dataset: Dataset = DATA, threads: int | None = None) -> None:
    """Compare metrics, gradients, parameters and predictions with the reference along the whole training."""
    task = workload.with_dtype("float64")
    expected = trajectory(task) if dataset is DATA else Trajectory(task, dataset)
    found = check(backend, workload, dataset, expected, threads)
    assert found.passed, found.summary()
