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
from mnistbench.task.share import Share
from mnistbench.task.workload import Workload

Key = tuple[np.uint32, np.uint32]


class Batch(NamedTuple):
    """An iteration's inputs, and the images' indices: in the training set, and among those that are held."""

    X: Any  # (m, pixels)
    order: Any  # (m,) uint32
    rows: Any  # (m,) uint32


class Batches:
    """Hold the images as bytes, the order of an epoch, and the inputs of a batch: all images, or a rank's share.

    In a full batch without augmentation, the inputs are computed once and the bytes are freed.

    Attributes:
        most: most images of a batch.

    Raises:
        BackendUnavailable: the elastic distortion of an image needs more than ``shared_bytes`` of shared memory.
    """

    def __init__(self, name: str, workload: Workload, dataset: Dataset, kernels: Kernels, shared_bytes: int) -> None:
        self.workload, self._kernels = workload, kernels
        self._pixels = workload.network.inputs
        self._epoch = -1
        self._keys: dict[int, Key] = {}
        self._images = cp.asarray(np.ascontiguousarray(dataset.train.images))
        held = len(dataset.train)
        self._share = dataset.share or Share(0, 1, workload.images)
        self._rows = cp.asarray(np.arange(held, dtype=np.uint32))
        self._order = (
            self._rows if dataset.share is None else cp.asarray(self._first + np.arange(held, dtype=np.uint32))
        )
        self._ends = [0, held]  # of the batches in the order
        self.most = min(workload.batch_size, held)
        self._X = cp.empty((self.most, self._pixels), workload.dtype)
        if workload.recipe.augmentation:
            self._prepare_augmentation(name, dataset.image_shape, shared_bytes)
        elif not self.are_gathered:
            self._gather(Batch(self._X, self._order, self._rows))
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

    @property
    def _first(self) -> np.uint32:
        """Place of the first image that is held."""
        return np.uint32(self._share.first)

    def _span(self, iteration: int) -> slice:
        """Return which part of the epoch's order an iteration takes."""
        epoch, number = divmod(iteration, self.workload.iterations_per_epoch)
        if epoch != self._epoch:
            self._begin(epoch)
        return slice(*self._ends[number : number + 2])

    def count(self, iteration: int) -> int:
        """Return the number of an iteration's images."""
        span = self._span(iteration)
        return int(span.stop - span.start)

    def load(self, iteration: int) -> Batch:
        """Return the batch of an iteration; it overwrites the one before."""
        workload, span = self.workload, self._span(iteration)
        order = self._order[span]
        batch = Batch(self._X[: len(order)], order, self._rows[span])
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
        workload, share = self.workload, self._share
        if workload.recipe.batch_size is None:
            return
        order = mlp.epoch_order(workload.seed, epoch, workload.images)
        own = np.flatnonzero((order >= share.first) & (order < share.last))
        starts = workload.batch_size * np.arange(workload.iterations_per_epoch + 1)
        self._ends = np.searchsorted(own, starts).tolist()
        self._order.set(order[own].astype(np.uint32))
        if self._rows is not self._order:
            self._rows.set(order[own].astype(np.uint32) - self._first)

    def _gather(self, batch: Batch) -> None:
        self._kernels.by_block("gather", len(batch.order), batch.X, self._images, batch.rows, self._pixels)

    def _augment(self, batch: Batch) -> None:
        sizes = (*self._image_shape, *self.key(counter.PLACE), *self.key(counter.ELASTIC))
        limits = self._table.shift, self._table.bend
        arguments = (batch.X, self._images, batch.order, self._first, *sizes, *limits, *self._table_arrays)
        self._kernels.by_block("augment", len(batch.order), *arguments, shared_bytes=self._needed_bytes)
