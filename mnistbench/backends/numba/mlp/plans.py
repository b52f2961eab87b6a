"""What :func:`~mnistbench.backends.numba.mlp.split.run_split` is to do next, part by part."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mnistbench.backends.numba.mlp.split import PLAN
from mnistbench.backends.numba.simd import Ints
from mnistbench.task.workload import Workload


class Planner:
    """Parts of some iterations: the step of one, but for the first part, and the sums of the next, but for the last.

    Attributes:
        plans: (2 * PLAN,) plans of even and of odd parts, counted from 1.
        numbers: (2, 4) fields of Rates for their steps.
    """

    def __init__(
        self,
        workload: Workload,
        iterations: range,
        block: int,
        bounds: Ints,
        begin: Callable[[int], None],
        augment: Callable[[int, int], int] | None,
    ) -> None:
        """Plan ``iterations``.

        Args:
            block: Largest number of images in a block.
            bounds: (batches + 1,) bounds of the rank's images of each batch in the epoch's order.
            begin: Sets that order, and ``bounds``, for an epoch.
            augment: Called with a batch of the epoch and the number of those to come; augments the images of as many
                as fit, and returns their number. None without augmentation.
        """
        self._workload, self._iterations, self._block, self._bounds = workload, iterations, block, bounds
        self._begin, self._augment = begin, augment
        self._part = self._phase = self._half = self._augmented = 0
        self._gathered = False
        self.plans = np.zeros(2 * PLAN, np.int64)
        self.numbers: NDArray[np.floating] = np.zeros((2, 4), workload.dtype)

    def next_part(self) -> int:
        """Write the plan of the next part, and return the number of the rank's images in its batch."""
        iteration = self._iterations.start + self._part
        steps, computes = iteration > self._iterations.start, iteration < self._iterations.stop
        self._part += 1
        if steps:
            self.numbers[self._part & 1] = self._rates(iteration - 1)
        phase, half, gathers = self._phase, self._half, not self._gathered
        begin, end, follows, until = self._batch(iteration) if computes else (0, 0, 0, 0)
        blocks = max(-(-(end - begin) // self._block), 1)
        self._phase, self._half = phase + steps + gathers + 3 * blocks, (half + blocks) & 1
        at = (self._part & 1) * PLAN
        self.plans[at : at + PLAN] = steps, computes, phase, half, gathers, begin, end, follows, until
        return end - begin

    def _batch(self, iteration: int) -> tuple[int, int, int, int]:
        """Return the bounds of an iteration's images, and of those to be gathered for the next."""
        per_epoch = self._workload.iterations_per_epoch
        epoch, batch = divmod(iteration, per_epoch)
        left = min(self._iterations.stop - iteration, per_epoch - batch)
        self._begin(epoch)
        if self._augment is not None and iteration >= self._augmented:
            self._augmented = iteration + self._augment(batch, left)
        begin, end = self._bounds[batch : batch + 2].tolist()
        self._gathered = left > 1 and (self._augment is None or iteration + 1 < self._augmented)
        if not self._gathered:
            return begin, end, end, end
        images = int(self._bounds[batch + 2]) - end
        return begin, end, end, end + images // max(-(-images // self._block), 1)

    def _rates(self, iteration: int) -> tuple[float, ...]:
        """Return the fields of Rates of an iteration."""
        workload = self._workload
        mean = 1 / np.dtype(workload.dtype).type(images_of(workload, iteration))
        return workload.rate(iteration), *workload.recipe.optimizer.bias_corrections(iteration + 1), float(mean)


def images_of(workload: Workload, iteration: int) -> int:
    """Return the number of images of an iteration, of all ranks: an epoch's last batch may be smaller."""
    before = iteration % workload.iterations_per_epoch * workload.batch_size
    return min(workload.batch_size, workload.images - before)
