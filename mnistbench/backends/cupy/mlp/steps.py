"""The constants of iterations in device memory, where the kernels read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import cupy as cp

from mnistbench.backends.cupy.mlp import flat
from mnistbench.backends.cupy.mlp.kernels import Kernels
from mnistbench.task.workload import Workload


class Steps:
    """Hold the Steps of successive iterations in a table, and the current one in a buffer of its own.

    ``kernel/mlp.cu`` defines a Step. Kernels that are launched for one iteration read its row of the table. Those that
    are captured for all iterations read the current one, to which :meth:`take` copies the next row.

    Attributes:
        capacity: most iterations in the table.
        current: buffer of the current step, in words.
    """

    capacity: ClassVar[int] = 256

    def __init__(self, workload: Workload, kernels: Kernels) -> None:
        self._workload, self._kernels = workload, kernels
        self._words = flat.packed_steps(workload, 0, [0]).size
        self._table = cp.empty((self.capacity, self._words), "uint32")
        self._held = range(0)  # iterations in the table
        self.current, self._counts = (cp.empty(self._words, "uint32") for _ in range(2))
        self._next: int | None = None  # iteration of the row that is copied next

    def hold(self, iteration: int, firsts: Sequence[int]) -> None:
        """Make the table hold the iterations from ``iteration`` on whose batches begin at ``firsts`` in the order."""
        self._table[: len(firsts)].set(flat.packed_steps(self._workload, iteration, firsts))
        self._held, self._next = range(iteration, iteration + len(firsts)), None

    def __contains__(self, iteration: int) -> bool:
        return iteration in self._held

    def row(self, iteration: int) -> Any:
        """Return the row of an iteration that the table holds."""
        return self._table[iteration - self._held.start]

    def follow(self, iteration: int) -> None:
        """Make sure that the next :meth:`take` that runs copies the row of ``iteration``, which the table holds."""
        if iteration != self._next:
            self._counts.fill(iteration - self._held.start)
        self._next = iteration + 1

    def take(self) -> Any:
        """Copy the next row to the current step, by a kernel that can be captured; return the current step."""
        self._kernels.by_element("take_step", self._words, self.current, self._table, self._counts, self._words)
        return self.current
