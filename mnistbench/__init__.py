"""One small neural network, trained on MNIST by interchangeable backends: the same numbers, honestly timed.

>>> import mnistbench
>>> dataset = mnistbench.load_data()
>>> result = mnistbench.train(dataset, backend="numba", iterations=500)
>>> result.accuracy, result.dev_accuracy, result.costs.train  # doctest: +SKIP
(0.857, 0.851, 0.96)

Importing this package loads no array library. Each public name below is imported on first use, so that a program
can still set thread limits (:mod:`mnistbench.threads`) and measure what an import costs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnistbench.agreement import verify as verify
    from mnistbench.backends import get_backend as get_backend
    from mnistbench.backends import list_backends as list_backends
    from mnistbench.comparison import compare as compare
    from mnistbench.datasets import Dataset as Dataset
    from mnistbench.datasets import Split as Split
    from mnistbench.datasets import load_data as load_data
    from mnistbench.datasets import load_images as load_images
    from mnistbench.exceptions import MnistbenchError as MnistbenchError
    from mnistbench.ranks import Team as Team
    from mnistbench.ranks import on_ranks as on_ranks
    from mnistbench.reference.parameters import Parameters as Parameters
    from mnistbench.reference.parameters import load_model as load_model
    from mnistbench.reference.parameters import save_model as save_model
    from mnistbench.task.presets import preset as preset
    from mnistbench.task.recipe import Augmentation as Augmentation
    from mnistbench.task.recipe import Optimizer as Optimizer
    from mnistbench.task.recipe import Recipe as Recipe
    from mnistbench.task.recipe import Schedule as Schedule
    from mnistbench.task.workload import Network as Network
    from mnistbench.task.workload import Workload as Workload
    from mnistbench.training.crossval import cross_validate as cross_validate
    from mnistbench.training.loop import train as train
    from mnistbench.training.result import Progress as Progress
    from mnistbench.training.result import TrainingResult as TrainingResult


__version__ = "0.1.0"

_MODULES = {
    "agreement": "verify",
    "backends": "get_backend list_backends",
    "comparison": "compare",
    "datasets": "Dataset Split load_data load_images",
    "exceptions": "MnistbenchError",
    "ranks": "Team on_ranks",
    "reference.parameters": "Parameters load_model save_model",
    "task.presets": "preset",
    "task.recipe": "Augmentation Optimizer Recipe Schedule",
    "task.workload": "Network Workload",
    "training.crossval": "cross_validate",
    "training.loop": "train",
    "training.result": "Progress TrainingResult",
}
_HOME = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = [*_HOME, "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'mnistbench' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"mnistbench.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
