"""The batches of any multilayer perceptron in JAX: all of one size, with an epoch's last one padded.

A rank takes the images of a batch that it holds, padded to a size that suffices for all ranks and batches of the epoch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mnistbench.backends.jax import device, random
from mnistbench.reference import mlp
from mnistbench.task.recipe import Schedule
from mnistbench.task.share import Share
from mnistbench.task.workload import Workload


class Task(NamedTuple):
    """The static part of a program: the workload without what is an argument, and (height, width).

    Attributes:
        size: number of images that a rank takes at a time, padding included; None for a process by itself.
    """

    workload: Workload
    image_shape: tuple[int, int]
    size: int | None = None

    @classmethod
    def of(cls, workload: Workload, image_shape: tuple[int, int], size: int | None = None) -> Task:
        """Keep only what the programs depend on, so that workloads share them: the shape only for augmentation."""
        if not workload.recipe.augmentation:
            image_shape = 1, workload.network.inputs
        recipe = replace(workload.recipe, initializer="uniform", schedule=Schedule())
        return cls(
            replace(workload, name="custom", iterations=1, learning_rate=1.0, seed=0, recipe=recipe), image_shape, size
        )


class Data(NamedTuple):
    """The constant inputs of a program."""

    images: Any  # (m, n) uint8
    labels: Any  # (m,) int32; -1 for padding
    levels: Any  # (256,), the values of a byte in [0, 1]
    seed: Any  # (2,) uint32, the lowest word first
    first: Any = None  # (1,) int32, place of a rank's first image; None for a process by itself
    order: Any = None  # (m,) int32, the epoch's order; of a rank's images, padded by -1; None in a full batch


class Batch(NamedTuple):
    """The inputs of an iteration."""

    X: Any  # (m, n)
    labels: Any  # (m,), -1 for padding
    count: Any  # number of images without padding, of all ranks
    masks: list[Any]  # (units, m) for each hidden layer, or None


def order_of(share: Share, workload: Workload, epoch: int) -> tuple[NDArray[np.int64], int]:
    """Return a rank's places in the order of an epoch, padded by -1, and the number of them in each batch.

    The number is the same on all ranks. Few different ones occur, so that few programs are compiled.
    """
    order = mlp.epoch_order(workload.seed, epoch, workload.images)
    batches = np.arange(workload.images) // workload.batch_size
    starts = [Share(rank, share.ranks, workload.images).first for rank in range(share.ranks)]
    owners = np.searchsorted(starts, order, side="right") - 1
    counts = np.bincount(batches * share.ranks + owners, minlength=workload.iterations_per_epoch * share.ranks)
    step = max(4, workload.batch_size // share.ranks // 4)
    size = min(workload.batch_size, -(-int(counts.max()) // step) * step)
    own = np.flatnonzero(owners == share.rank)
    begins = np.searchsorted(batches[own], np.arange(workload.iterations_per_epoch))
    found = np.full((workload.iterations_per_epoch, size), -1)
    found[batches[own], np.arange(len(own)) - begins[batches[own]]] = order[own]
    return found.ravel(), size


def next_batch(task: Task, data: Data, whole: Any, iteration: Any) -> Batch:
    """Compute the batch of an iteration; ``whole`` is X if every iteration's is the same, else None."""
    workload, recipe = task.workload, task.workload.recipe
    epoch, batch = jnp.divmod(iteration, workload.iterations_per_epoch)
    places, held, labels, count = (_taken if task.size is None else _taken_by_a_rank)(task, data, batch)
    X = whole
    if X is None:
        images = data.images if recipe.batch_size is None else data.images[held]
        if change := recipe.augmentation:
            images = random.augmented(images, places, task.image_shape, change, data.seed, epoch)
        X = device.widened(images, data.levels)
    rates = recipe.dropout_rates(len(workload.network.hidden))
    masks = [
        random.kept(data.seed, epoch, layer, places, units, rate).astype(workload.dtype) * (1 / (1 - rate))
        if rate
        else None
        for layer, (units, rate) in enumerate(zip(workload.network.hidden, rates, strict=True))
    ]
    return Batch(X, labels, count, masks)


def _taken(task: Task, data: Data, batch: Any) -> tuple[Any, Any, Any, Any]:
    """Return the places of a batch's images, their rows, their labels, and their number without padding."""
    workload = task.workload
    if workload.recipe.batch_size is None:
        places = jnp.arange(workload.images, dtype="int32")
        return places, places, data.labels, workload.images
    taken = batch * workload.batch_size + jnp.arange(workload.batch_size, dtype="int32")
    places = data.order[jnp.minimum(taken, workload.images - 1)]
    labels = jnp.where(taken < workload.images, data.labels[places], -1)
    return places, places, labels, (taken < workload.images).sum().astype(workload.dtype)


def _taken_by_a_rank(task: Task, data: Data, batch: Any) -> tuple[Any, Any, Any, Any]:
    """Return the same of the images that a rank holds; the number is that of all ranks' images."""
    workload = task.workload
    own = jnp.arange(task.size, dtype="int32")
    if workload.recipe.batch_size is None:
        return data.first + own, own, data.labels, workload.images
    places = data.order[batch * task.size + own]
    held = jnp.maximum(places - data.first, 0)
    labels = jnp.where(places < 0, -1, data.labels[held])
    count = jnp.minimum(workload.batch_size, workload.images - batch * workload.batch_size)
    return data.first + held, held, labels, count.astype(workload.dtype)


def whole_set(task: Task, data: Data) -> Any:
    """Compute X of all images if every iteration uses it; else return None."""
    recipe = task.workload.recipe
    fixed = recipe.batch_size is None and not recipe.augmentation
    return device.widened(data.images, data.levels) if fixed else None
