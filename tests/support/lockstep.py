"""Several ranks in one thread: trainers on the parts of a data set, advanced in lockstep, their sums added by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mnistbench.backends import Backend
from mnistbench.backends.base import Description, Metrics, Sums, Trainer
from mnistbench.datasets import Dataset
from mnistbench.reference.mlp import State
from mnistbench.reference.parameters import Parameters
from mnistbench.task.share import Share
from mnistbench.task.workload import Workload
from tests.support.builders import identical


def add_up(found: Sequence[Sums]) -> Any:
    """Add the ranks' sums of gradients in their order, for all of them, and return the sums of their scores."""
    total = found[0].gradients.copy()
    for other in found[1:]:
        total += other.gradients
    for sums in found:
        sums.gradients[:] = total
    return np.sum([sums.scores for sums in found], axis=0)


class LockstepTrainer(Trainer):
    """One trainer for each rank; all must have the same bits at any time."""

    def __init__(self, workload: Workload, ranks: list[Trainer]) -> None:
        super().__init__(workload)
        self.ranks, self.done = ranks, 0

    def advance(self, iterations: int) -> Metrics:
        for found in zip(*(rank.split(iterations) for rank in self.ranks), strict=True):
            scores = add_up(found)
        self.done += iterations
        batch = (self.done - 1) % self.workload.iterations_per_epoch * self.workload.batch_size
        loss, accuracy = scores / min(self.workload.batch_size, self.workload.images - batch)
        return Metrics(float(loss), float(accuracy))

    def reset(self, parameters: Parameters) -> None:
        self.done = 0
        for rank in self.ranks:
            rank.reset(parameters)

    def parameters(self) -> Parameters:
        first, *others = [rank.parameters() for rank in self.ranks]
        assert all(identical(first, other) for other in others), "ranks have other bits"
        return first

    def gradients(self) -> Parameters:
        parts = [rank.split(1) for rank in self.ranks]
        found = [next(part) for part in parts]
        add_up(found)
        first, *others = [rank.mean_gradients(sums) for rank, sums in zip(self.ranks, found, strict=True)]
        assert all(identical(first, other) for other in others), "ranks have other gradients"
        for part in parts:
            part.close()
        return first

    def moments(self) -> list[Parameters]:
        first, *others = [rank.moments() for rank in self.ranks]
        assert all(all(map(identical, first, other)) for other in others), "ranks have other moments"
        return first

    def restore(self, state: State) -> None:
        self.done = state.iteration
        for rank in self.ranks:
            rank.restore(state)

    def describe(self) -> Description:
        return self.ranks[0].describe()

    def close(self) -> None:
        for rank in self.ranks:
            rank.close()


class Lockstep(Backend):
    """A backend whose workloads ``count`` ranks of another backend share."""

    name = "lockstep"

    def __init__(self, inner: Backend, count: int) -> None:
        self._inner, self._count = inner, count

    def unsupported(self, workload: Workload) -> str | None:
        return self._inner.unsupported(workload)

    def load(
        self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None
    ) -> LockstepTrainer:
        shares = [Share(rank, self._count, len(dataset.train)) for rank in range(self._count)]
        return LockstepTrainer(
            workload, [self._inner.start(workload, dataset.part(share), parameters, threads) for share in shares]
        )
