"""The costs of a workload on a backend, and the one clock that measures them."""

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
        compile: Work once per process before the first iteration: compiling kernels, creating a device context.
        tuning: Trying ways to compute to find the fastest, without what the fastest compiled.
        first_call: Extra time of the first iteration: what it compiles, and memory that it touches first. A difference
            of two times, so noise may make it negative.
        train: Running the iterations.
    """

    import_: float = 0.0
    load: float = 0.0
    compile: float = 0.0
    tuning: float = 0.0
    first_call: float = 0.0
    train: float = 0.0

    @property
    def total(self) -> float:
        """Sum of the costs: the time until the model is trained."""
        return sum(self.as_dict().values())

    def as_dict(self) -> dict[str, float]:
        """Return the costs, keyed as in tables and files."""
        return {name.rstrip("_"): seconds for name, seconds in asdict(self).items()}


def timed(function: Callable[[], T]) -> tuple[T, float]:
    """Call ``function``; return its result and the seconds it took."""
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start
