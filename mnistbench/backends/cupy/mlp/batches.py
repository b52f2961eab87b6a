"""Mini-batches, gathered and augmented on the device."""

from __future__ import annotations

from typing import Any

import cupy as cp
import numpy as np
from numpy.typing import NDArray

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
        places: (images,) uint32, the indices in the training set of an epoch's images, in the order of its batches.
        held: (images,) uint32, their indices among the images that are held.
        steps: constants of iterations.

    Raises:
        BackendUnavailable: the elastic distortion of an image needs more than ``shared_bytes`` of shared memory.
    """

    def __init__(self, name: str, workload: Workload, dataset: Dataset, kernels: Kernels, shared_bytes: int) -> None:
        self.workload, self._kernels = workload, kernels
        self._pixels = workload.network.inputs
        self._epoch = -1
        self._images = cp.asarray(np.ascontiguousarray(dataset.train.images))
        images = np.arange(len(dataset.train), dtype=np.uint32)
        self._share = dataset.share or Share(0, 1, workload.images)
        self.held = cp.asarray(images)
        self.places = self.held if dataset.share is None else cp.asarray(self._first_held + images)
        self._ends = [0, len(images)]  # of the batches in the order
        self.steps = Steps(workload, kernels)
        self.most = min(workload.batch_size, len(images))
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
    def _first_held(self) -> np.uint32:
        """Index in the training set of the first image that is held."""
        return np.uint32(self._share.first)

    def begin(self, iteration: int) -> int:
        """Bring the order and the constants of an iteration to the device; return the number m of its images."""
        epoch, number = divmod(iteration, self.workload.iterations_per_epoch)
        shuffled = self.workload.recipe.batch_size is not None
        places = self._shuffled(epoch) if shuffled and epoch != self._epoch else None
        if iteration not in self.steps:
            firsts = self._ends[number:-1] if shuffled else [0] * self.steps.capacity
            self.steps.hold(iteration, firsts[: self.steps.capacity])
        if places is not None:  # after what the host computes for the steps: a copy waits for the device
            self._send(places)
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

    def invalidate(self) -> None:
        """Overwrite what each iteration computes: inputs by NaN, the current step by 0, whose index is a valid one."""
        if self.are_gathered:
            self._X.fill(np.nan)
        self.steps.current.fill(0)

    def _shuffled(self, epoch: int) -> NDArray[np.uint32]:
        """Return the indices in the training set of an epoch's images, in the order of its batches."""
        self._epoch = epoch
        workload, share = self.workload, self._share
        order = mlp.epoch_order(workload.seed, epoch, workload.images)
        own = np.flatnonzero((order >= share.first) & (order < share.last))
        starts = workload.batch_size * np.arange(workload.iterations_per_epoch + 1)
        self._ends = np.searchsorted(own, starts).tolist()
        return order[own].astype(np.uint32)

    def _send(self, places: NDArray[np.uint32]) -> None:
        self.places.set(places)
        if self.held is not self.places:
            self.held.set(places - self._first_held)

    def _gather(self, X: Any, step: Any) -> None:
        self._kernels.by_block("gather", len(X), X, self._images, self.held, step, self._pixels)

    def _augment(self, X: Any, step: Any) -> None:
        sizes = *self._image_shape, self._table.shift, self._table.bend
        arguments = (X, self._images, self.places, step, self._first_held, *sizes, *self._table_arrays)
        self._kernels.by_block("augment", len(X), *arguments, shared_bytes=self._needed_bytes)
