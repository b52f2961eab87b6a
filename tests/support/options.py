"""Small tasks with every option of training: each value alone, and all of them in random combinations."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

import numpy as np

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
"""For each option its values, under a name."""


def task(dtype: DType = "float64", seed: int = 0, *, learning_rate: float = 0.05, **options: Any) -> Workload:
    """Nine iterations of one hidden layer of 7, unless the options say otherwise."""
    hidden, activation = options.pop("hidden", (7,)), options.pop("activation", "relu")
    network = Network((DATA.pixels, *hidden, DATA.classes), activation)
    return Workload(network, len(DATA.train), 9, learning_rate, dtype, seed, recipe=Recipe(**options))


def alone() -> dict[str, Workload]:
    """A task for each value of each option, all others being the classic's."""
    return {
        f"{option} {name}": task(**{option: value})
        for option, values in VALUES.items()
        for name, value in values.items()
    }


def combined(rounds: int, seed: int = 0) -> list[Workload]:
    """Tasks in which every option has some value, drawn so that in each round every value occurs."""
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
