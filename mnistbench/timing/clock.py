"""The four costs of a workload on a backend, and the one clock that measures them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass
class Costs:
    """Seconds of each phase, timed separately.

    Attributes:
        import_: Importing the backend's module and libraries; close to 0 if the process had already loaded them.
        load: Moving data and parameters to the device, in the backend's layout.
        compile: Extra time of the first call: compiling kernels, creating a device context.
        train: Running the iterations.
    """

    import_: float = 0.0
    load: float = 0.0
    compile: float = 0.0
    train: float = 0.0

    @property
    def total(self) -> float:
        """Sum of the four costs: the time until the model is trained."""
        return self.import_ + self.load + self.compile + self.train

    def as_dict(self) -> dict[str, float]:
        """Return the costs, keyed as in tables and files."""
        return {name.rstrip("_"): seconds for name, seconds in asdict(self).items()}


def timed(function: Callable[[], T]) -> tuple[T, float]:
    """Call ``function``; return its result and the seconds it took."""
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start
