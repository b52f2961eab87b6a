"""Mini-batches, gathered and augmented on the device."""

from __future__ import annotations

from typing import Any

import cupy as cp
import numpy as np

from mnistbench.backends.cupy.mlp.kernels import Kernels
from mnistbench.backends.cupy.mlp.steps import Steps
from mnistbench.datasets import Dataset
from mnistbench.exceptions import BackendUnavailable
from mnistbench.reference import mlp
from mnistbench.reference.augmentation import tables
from mnistbench.task.share import Share
from mnistbench.task.workload import Workload


class Batches:
    """Hold the images as bytes, the order of an epoch, and the inputs of a batch: all images, or a rank's share.

    In a full batch without augmentation, the inputs are computed once and the bytes are freed.

    Attributes:
        most: most images of a batch.
        order: (held,) uint32, the indices in the training set of an epoch's images, in their order.
        rows: (held,) uint32, their indices among the images that are held.
        steps: constants of iterations.

    Raises:
        BackendUnavailable: the elastic distortion of an image needs more than ``shared_bytes`` of shared memory.
    """

    def __init__(self, name: str, workload: Workload, dataset: Dataset, kernels: Kernels, shared_bytes: int) -> None:
        self.workload, self._kernels = workload, kernels
        self._pixels = workload.network.inputs
        self._epoch = -1
        self._images = cp.asarray(np.ascontiguousarray(dataset.train.images))
        held = len(dataset.train)
        self._share = dataset.share or Share(0, 1, workload.images)
        self.rows = cp.asarray(np.arange(held, dtype=np.uint32))
        self.order = self.rows if dataset.share is None else cp.asarray(self._first + np.arange(held, dtype=np.uint32))
        self._ends = [0, held]  # of the batches in the order
        self.steps = Steps(workload, kernels)
        self.most = min(workload.batch_size, held)
        self._X = cp.empty((self.most, self._pixels), workload.dtype)
        if workload.recipe.augmentation:
            self._prepare_augmentation(name, dataset.image_shape, shared_bytes)
        elif not self.are_gathered:
            self.begin(0)
            self._gather(self._X, self.steps.row(0))
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

    def begin(self, iteration: int) -> int:
        """Bring the order and the constants of an iteration to the device; return the number m of its images."""
        epoch, number = divmod(iteration, self.workload.iterations_per_epoch)
        shuffled = self.workload.recipe.batch_size is not None
        if shuffled and epoch != self._epoch:
            self._shuffle(epoch)
        if iteration not in self.steps:
            firsts = self._ends[number:-1] if shuffled else [0] * self.steps.rows
            self.steps.hold(iteration, firsts[: self.steps.rows])
        first, last = self._ends[number : number + 2]
        return last - first

    def load(self, m: int, step: Any) -> Any:
        """Return the inputs X (m, pixels) of the m images of a step, in memory that the next call overwrites."""
        X = self._X[:m]
        if self.workload.recipe.augmentation:
            self._augment(X, step)
        elif self.are_gathered:
            self._gather(X, step)
        return X

    def _shuffle(self, epoch: int) -> None:
        self._epoch = epoch
        workload, share = self.workload, self._share
        order = mlp.epoch_order(workload.seed, epoch, workload.images)
        own = np.flatnonzero((order >= share.first) & (order < share.last))
        starts = workload.batch_size * np.arange(workload.iterations_per_epoch + 1)
        self._ends = np.searchsorted(own, starts).tolist()
        self.order.set(order[own].astype(np.uint32))
        if self.rows is not self.order:
            self.rows.set(order[own].astype(np.uint32) - self._first)

    def _gather(self, X: Any, step: Any) -> None:
        self._kernels.by_block("gather", len(X), X, self._images, self.rows, step, self._pixels)

    def _augment(self, X: Any, step: Any) -> None:
        limits = self._table.shift, self._table.bend
        arguments = (X, self._images, self.order, step, self._first, *self._image_shape, *limits, *self._table_arrays)
        self._kernels.by_block("augment", len(X), *arguments, shared_bytes=self._needed_bytes)
