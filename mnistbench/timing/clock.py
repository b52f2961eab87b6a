"""The four costs of a workload on a backend, and the one clock that measures them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass
class Costs:
    """Seconds, never mixed.

    Attributes:
        import_: loading the backend's module and libraries; close to 0 where the process had them already.
        load: moving data and parameters to the device, in the backend's layout.
        compile: the first call's extra cost: a device context, compiled kernels.
        train: the iterations.
    """

    import_: float = 0.0
    load: float = 0.0
    compile: float = 0.0
    train: float = 0.0

    @property
    def total(self) -> float:
        """Time to trained model: the sum."""
        return self.import_ + self.load + self.compile + self.train

    def as_dict(self) -> dict[str, float]:
        """The costs under the names of tables and files."""
        return {name.rstrip("_"): seconds for name, seconds in asdict(self).items()}


def timed(function: Callable[[], T]) -> tuple[T, float]:
    """Call the function; return its result and the seconds it took."""
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start
