"""Trainers of a rank's share of the images: ``torch.distributed`` adds up the gradients before each update."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch

from mnistbench.backends.base import Metrics
from mnistbench.backends.torch import device, group
from mnistbench.backends.torch.classic import TorchTrainer, summing
from mnistbench.backends.torch.mlp import TorchMlpTrainer
from mnistbench.datasets import Dataset
from mnistbench.reference import mlp
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Workload


def _flat(arrays: list[Any]) -> Any:
    return torch.cat([array.reshape(-1) for array in arrays])


def _parts(vector: Any, like: list[Any]) -> list[Any]:
    """Return views of a vector that :func:`_flat` has made of arrays with the shapes of ``like``."""
    ends = [0, *accumulate(array.numel() for array in like)]
    return [vector[a:b].view(array.shape) for (a, b), array in zip(pairwise(ends), like, strict=True)]


class SharedTrainer(TorchTrainer):
    """The classic: hold the parameter arrays in one vector, and update it at once."""

    def _prepare(self) -> None:
        workload, like = self.workload, self._arrays
        self._vector = _flat(like)
        self._arrays = _parts(self._vector, like)
        sizes = len(self._labels), workload.network, workload.dtype, self._threads
        self._step = summing(*sizes, self._way, self._Y)

    def _summed(self) -> tuple[Any, Any]:
        """Compute the sums of the gradients over the images of all ranks, and this rank's Z2."""
        *sums, Z2 = self._step(*self._arrays, self._X, self._Y)
        return group.add(_flat(sums)), Z2

    def _iterate(self, iterations: int) -> Any:
        for _ in range(iterations):
            vector, Z2 = self._summed()
            self._vector.sub_(vector, alpha=self.workload.learning_rate / self.workload.images)
        return Z2

    def advance(self, iterations: int) -> Metrics:
        with self._computing():
            loss, hits = group.scores(self._iterate(iterations).T, self._labels)
        return Metrics(loss / self.workload.images, hits / self.workload.images)

    def gradients(self) -> Parameters:
        with self._computing():
            vector, _Z2 = self._summed()
            return device.on_host(_parts(vector / self.workload.images, self._arrays))

    def close(self) -> None:
        del self._vector
        super().close()


class SharedMlpTrainer(TorchMlpTrainer):
    """Any multilayer perceptron: of a batch, take the images that this rank holds, of which there may be none."""

    def __init__(self, workload: Workload, dataset: Dataset, *arguments: Any) -> None:
        assert dataset.share is not None, "a rank has one"
        self._share = dataset.share
        super().__init__(workload, dataset, *arguments)

    def _enter(self, epoch: int) -> None:
        """Copy the epoch's order of this rank's images, and its key schedules to the device."""
        workload, share = self.workload, self._share
        order = np.arange(workload.images)
        if workload.recipe.batch_size is not None:
            order = mlp.epoch_order(workload.seed, epoch, workload.images)
        own = np.flatnonzero((order >= share.first) & (order < share.last))
        starts = workload.batch_size * np.arange(workload.iterations_per_epoch + 1)
        self._ends = np.searchsorted(own, starts).tolist()
        self._enter_order(epoch, order[own])

    def _taken(self, iteration: int) -> tuple[Any, int]:
        epoch, batch = divmod(iteration, self.workload.iterations_per_epoch)
        if epoch != self._epoch:
            self._enter(epoch)
        self._of = self.workload.images_of(iteration)
        begin, end = self._ends[batch : batch + 2]
        return self._order[begin:end], end - begin

    def _held(self, places: Any) -> Any:
        return places - self._share.first

    def _summed(self, places: Any, m: int, of: int) -> tuple[list[Any], list[Any], Any, Any]:
        arrays = [*self._weights, *self._biases]
        if m:
            dW, db, Z, labels = super()._summed(places, m, of)
        else:
            dW, db = [torch.zeros_like(W) for W in self._weights], [torch.zeros_like(b) for b in self._biases]
            Z, labels = self._classes[:0], self._labels[:0]
        parts = _parts(group.add(_flat([*dW, *db])), arrays)
        return parts[: len(dW)], parts[len(dW) :], Z, labels

    def _repeat(self, iterations: int) -> None:
        """Do this rank's work alone: others may repeat another number of iterations."""
        places, m = self._taken(self._iteration)
        for _ in range(iterations if m else 0):
            super()._summed(places, m, self._of)

    def advance(self, iterations: int) -> Metrics:
        with self._computing():
            loss, hits = group.scores(*self._trained(iterations))
        return Metrics(loss / self._of, hits / self._of)
