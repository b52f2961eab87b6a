"""The states of a training run that are compared, and the iterations at which they are taken."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np

from mnistbench import reference
from mnistbench.reference import mlp
from mnistbench.reference.parameters import Array, Parameters
from mnistbench.task.workload import Workload


@dataclass(frozen=True)
class State:
    """Training after ``iteration`` updates, with the results of the next iteration's forward pass on its m images.

    Attributes:
        iteration: Number of updates made.
        parameters: Parameters after these updates.
        loss, accuracy: Mean cross-entropy and fraction of correct predictions, over the m images.
        margins: (m,) differences between an image's two largest logits; inf with one class.
        logit_size: Mean over images of the largest absolute logit.
        largest_logit: Largest absolute logit of all images.
    """

    iteration: int
    parameters: Parameters
    loss: float
    accuracy: float
    margins: Array
    logit_size: float
    largest_logit: float

    @classmethod
    def of(cls, iteration: int, parameters: Parameters, logits: Array, Y: reference.Labels) -> State:
        """Return the state with these logits (classes, m) of the next iteration's images, whose labels are Y (m,)."""
        return cls(
            iteration,
            parameters,
            reference.cross_entropy(logits, Y),
            reference.get_accuracy(reference.get_predictions(logits), Y),
            margins(logits),
            float(np.abs(logits).max(axis=0).mean()),
            float(np.abs(logits).max()),
        )


def last_checkpoint(iterations: int, most: float) -> int:
    """Return the last checkpoint of a training of ``iterations`` after at most ``most`` of them, at least 1."""
    return max((stop for stop in checkpoints(iterations) if stop <= most), default=0) or 1


def checkpoints(iterations: int) -> list[int]:
    """Return 0, 1, 2, 5, 10, 20, 50, ... below ``iterations``, and ``iterations`` itself."""
    series = [digit * 10**power for power in range(len(str(iterations))) for digit in (1, 2, 5)]
    return [0, *(k for k in series if k < iterations), iterations]


def along(
    workload: Workload, batches: Callable[[int], mlp.Batch], parameters: Parameters, stops: Collection[int]
) -> Iterator[State]:
    """Train from ``parameters`` in the workload's dtype and yield the state at each iteration in ``stops``."""
    state = mlp.State.start(parameters, workload.recipe.optimizer)
    for iteration in range(workload.iterations + 1):
        step = mlp.iterate(workload, batches, state)
        if iteration in stops:
            yield State.of(iteration, state.parameters, step.Zs[-1], step.batch.Y)
        state = step.after


def margins(logits: Array) -> Array:
    """Compute the difference between the two largest logits of each column; inf with one row."""
    if logits.shape[0] == 1:
        return np.full(logits.shape[1], np.inf)
    second, first = np.partition(logits, -2, axis=0)[-2:]
    found: Array = first - second
    return found
