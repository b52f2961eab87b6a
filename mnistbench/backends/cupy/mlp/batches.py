"""Mini-batches, gathered and augmented on the device."""

from __future__ import annotations

from typing import Any, NamedTuple

import cupy as cp
import numpy as np

from mnistbench.backends.cupy.mlp.kernels import Kernels
from mnistbench.datasets import Dataset
from mnistbench.exceptions import BackendUnavailable
from mnistbench.reference import counter, mlp
from mnistbench.reference.augmentation import tables
from mnistbench.task.workload import Workload

Key = tuple[np.uint32, np.uint32]


class Batch(NamedTuple):
    """An iteration's inputs and the images' indices in the training set."""

    X: Any  # (m, pixels)
    order: Any  # (m,) uint32


class Batches:
    """Hold the images as bytes, the order of an epoch, and the inputs of a batch.

    In a full batch without augmentation, the inputs are computed once and the bytes are freed.

    Raises:
        BackendUnavailable: the elastic distortion of an image needs more than ``shared_bytes`` of shared memory.
    """

    def __init__(self, name: str, workload: Workload, dataset: Dataset, kernels: Kernels, shared_bytes: int) -> None:
        self.workload, self._kernels = workload, kernels
        self._pixels = workload.network.inputs
        self._epoch = -1
        self._keys: dict[int, Key] = {}
        self._images = cp.asarray(np.ascontiguousarray(dataset.train.images))
        self._order = cp.asarray(np.arange(workload.images, dtype=np.uint32))
        self._X = cp.empty((workload.batch_size, self._pixels), workload.dtype)
        if workload.recipe.augmentation:
            self._prepare_augmentation(name, dataset.image_shape, shared_bytes)
        elif not self.are_gathered:
            self._gather(Batch(self._X, self._order))
            del self._images

    @property
    def are_gathered(self) -> bool:
        """Whether every iteration computes its inputs from bytes."""
        recipe = self.workload.recipe
        return recipe.batch_size is not None or bool(recipe.augmentation)

    def _prepare_augmentation(self, name: str, image_shape: tuple[int, int], shared_bytes: int) -> None:
        self._image_shape = image_shape
        self._table = tables(self.workload.recipe.augmentation, image_shape)
        arrays = (self._table.cosines, self._table.sines, self._table.smooth_rows, self._table.smooth_columns)
        self._table_arrays = [cp.asarray(np.ascontiguousarray(array)) for array in arrays]
        self._needed_bytes = 4 * 4 * self._pixels if self._table.bend else 0
        if self._needed_bytes > shared_bytes:
            reason = (
                f"the elastic distortion of {self._pixels:,} pixels needs {self._needed_bytes // 1024} KiB of a "
                f"block's shared memory, of which this GPU has {shared_bytes // 1024}"
            )
            raise BackendUnavailable(name, reason, "use smaller images, or no elastic distortion")
        self._kernels.allow_shared("augment", self._needed_bytes)

    def load(self, iteration: int) -> Batch:
        """Return the batch of an iteration; it overwrites the one before."""
        workload = self.workload
        epoch, number = divmod(iteration, workload.iterations_per_epoch)
        if epoch != self._epoch:
            self._begin(epoch)
        order = self._order[number * workload.batch_size : (number + 1) * workload.batch_size]
        batch = Batch(self._X[: len(order)], order)
        if workload.recipe.augmentation:
            self._augment(batch)
        elif self.are_gathered:
            self._gather(batch)
        return batch

    def key(self, purpose: int) -> Key:
        """Return the key of a purpose in the epoch of the batch loaded last."""
        if purpose not in self._keys:
            first, second = counter.key(self.workload.seed, purpose, self._epoch)
            self._keys[purpose] = np.uint32(first), np.uint32(second)
        return self._keys[purpose]

    def _begin(self, epoch: int) -> None:
        self._epoch, self._keys = epoch, {}
        if self.workload.recipe.batch_size is not None:
            order = mlp.epoch_order(self.workload.seed, epoch, self.workload.images)
            self._order.set(order.astype(np.uint32))

    def _gather(self, batch: Batch) -> None:
        self._kernels.by_block("gather", len(batch.order), batch.X, self._images, batch.order, self._pixels)

    def _augment(self, batch: Batch) -> None:
        sizes = (*self._image_shape, *self.key(counter.PLACE), *self.key(counter.ELASTIC))
        limits = self._table.shift, self._table.bend
        arguments = (batch.X, self._images, batch.order, *sizes, *limits, *self._table_arrays)
        self._kernels.by_block("augment", len(batch.order), *arguments, shared_bytes=self._needed_bytes)
