"""The classic in JAX: gradients by ``jax.grad``, all iterations in one compiled loop.

Activations and logits are columns. An iteration takes all images at once or, by ``lax.scan``, blocks of some 2,000. A
trial finds which is faster, and on a GPU also how the images are stored (:mod:`mnistbench.backends.jax.storage`).
README.md beside this file has timings.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mnistbench.backends import trials
from mnistbench.backends.base import Arithmetic, Description, Metrics
from mnistbench.backends.jax import device, group
from mnistbench.backends.jax.device import matmul
from mnistbench.backends.jax.storage import STORAGES, Storage
from mnistbench.backends.jax.trainer import DeviceTrainer
from mnistbench.datasets import Dataset
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import DType, Network, Workload

# Approximate number of images in a block; and bytes of images up to which there is one block and no trial.
_BLOCK = 2048
_SMALL = 8 * 2**20


class Way(NamedTuple):
    """How an iteration is computed.

    Attributes:
        block: number of images to take at a time.
        storage: name of the way in which the images are stored.
    """

    block: int
    storage: str = "rows"

    def __str__(self) -> str:
        return f"{self.block:,} images at a time{STORAGES[self.storage].told}"


def _logits(storage: Storage, arrays: Any, images: Any) -> Any:
    """Compute the logits Z2 (c, m) of a block of images."""
    W1, b1, W2, b2 = arrays
    return matmul(W2, jax.nn.relu(storage.product(W1, images) + b1)) + b2


def _loss_and_hits(storage: Storage, arrays: Any, images: Any, labels: Any) -> tuple[Any, Any]:
    """Compute the sum of the cross-entropies and the number of hits; images labelled -1 are padding."""
    Z2 = _logits(storage, arrays, images)
    one_hot = labels == jnp.arange(Z2.shape[0])[:, None]
    loss = -jnp.where(one_hot, jax.nn.log_softmax(Z2, axis=0), 0).sum()
    return loss, (Z2.argmax(axis=0) == labels).sum()


def _backward(storage: Storage, arrays: Any, blocks: Any, labels: Any, count: Any) -> Any:
    """Compute ((loss, hits), gradients) of the mean over ``count`` images in blocks."""
    of_block = jax.value_and_grad(partial(_loss_and_hits, storage), has_aux=True)

    def add(sums: Any, block: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, sums, of_block(arrays, *block)), None

    zero = jax.tree.map(jnp.zeros_like, jax.eval_shape(of_block, arrays, blocks[0], labels[0]))
    ((loss, hits), gradients), _ = jax.lax.scan(add, zero, (blocks, labels))
    return (loss / count, hits), [gradient / count for gradient in gradients]


def _train(
    storage: Storage,
    length: int | None,
    among: bool,
    iterations: Any,
    arrays: Any,
    blocks: Any,
    labels: Any,
    count: Any,
    rate: Any,
    metrics: Any,
) -> tuple[Any, Any]:
    """Compute the parameters after ``iterations`` iterations, and the last one's loss and hits.

    Args:
        length: Largest number of iterations, as :func:`mnistbench.backends.jax.device.looped` takes it.
        among: Whether the blocks are a rank's part of the images.
        metrics: Loss and hits where there is no iteration.
    """

    def iterate(_: Any, state: Any) -> Any:
        metrics, gradients = _backward(storage, state[0], blocks, labels, count)
        if among:
            gradients = group.added(gradients)
        return [array - rate * gradient for array, gradient in zip(state[0], gradients, strict=True)], metrics

    arrays, metrics = device.looped(length, iterations, iterate, (arrays, metrics))
    return arrays, group.total(*metrics) if among else metrics


def _gradients(storage: Storage, among: bool, arrays: Any, blocks: Any, labels: Any, count: Any) -> Any:
    found = _backward(storage, arrays, blocks, labels, count)[1]
    return group.added(found) if among else found


class _Programs(NamedTuple):
    """The functions above, compiled."""

    train: Callable[..., Any]
    gradients: Callable[..., Any]
    stored: Callable[..., Any]


@cache
def _programs(storage: str, length: int | None, mesh: Any) -> _Programs:
    """Compile the functions for a storage and a length of the loop; ``mesh`` is that of all ranks, or None."""
    chosen, among = STORAGES[storage], mesh is not None
    functions = partial(_train, chosen, length, among), partial(_gradients, chosen, among)
    if not among:
        return _Programs(*map(jax.jit, (*functions, chosen.stored)))
    data = group.EACH, group.EACH, group.ALL
    places = (group.ALL, group.ALL, *data, group.ALL, group.ALL), (group.ALL, *data)
    train, gradients = map(group.program, functions, places)
    return _Programs(train, gradients, jax.jit(chosen.stored))


class JaxTrainer(DeviceTrainer):
    """Hold the images in padded blocks (k, block, n) or (k, n, block), labels (k, block), and parameters."""

    def __init__(
        self,
        workload: Workload,
        dataset: Dataset,
        parameters: Parameters,
        threads: int,
        way: Way,
        failed: str | None = None,
    ) -> None:
        super().__init__(workload, threads, failed, dataset.share)
        self._way, self._length = way, device.loop_length(workload)
        self._programs = _programs(way.storage, self._length, dataset.share and group.mesh())
        images, labels = dataset.train.images, dataset.train.labels
        self._shape = -(-self._most // way.block), way.block
        self._arrays: list[Any]
        filled = ((0, self._shape[0] * way.block - len(labels)),)
        with self._computing():
            self._blocks = self._stored(np.pad(images, (*filled, (0, 0))).reshape(*self._shape, -1))
            self._labels = self._parted(np.pad(labels, filled, constant_values=-1).reshape(self._shape), "int32")
            self._zeros = self._no_metrics()
            self.reset(parameters)
            self._bytes = sum(part.data.nbytes for part in self._blocks.addressable_shards)
            jax.block_until_ready((self._blocks, self._labels, self._arrays))

    def _stored(self, images: NDArray[np.uint8]) -> Any:
        found = self._programs.stored(jax.device_put(images, device.device().device), self._levels())
        return found if self._share is None else group.shared(found, group.EACH)

    def _data(self) -> tuple[Any, ...]:
        return self._blocks, self._labels, self._scalar(self.workload.images)

    def _trained(self, iterations: int) -> Any:
        """Queue iterations; return the parameters after them, and the last one's loss and hits."""
        rate, done = self._scalar(self.workload.learning_rate), (self._arrays, self._zeros)
        for count in device.calls(iterations, self._length):
            arrays, metrics = done
            done = self._programs.train(count, arrays, *self._data(), rate, metrics)
        return jax.block_until_ready(done)

    def advance(self, iterations: int) -> Metrics:
        with self._computing():
            self._arrays, (loss, hits) = self._trained(iterations)
        return Metrics(float(loss), int(hits) / self.workload.images)

    def reset(self, parameters: Parameters) -> None:
        with self._computing():
            self._arrays = [self._placed(array, self.workload.dtype) for _, array in parameters.named()]

    def parameters(self) -> Parameters:
        return device.on_host(self._arrays)

    def gradients(self) -> Parameters:
        with self._computing():
            return device.on_host(self._programs.gradients(self._arrays, *self._data()))

    def _repeat(self, iterations: int) -> None:
        self._trained(iterations)

    def describe(self) -> Description:
        blocks, images = self._shape
        at_once = f"{images:,} images at a time" if blocks > 1 else "all images at once"
        storage = STORAGES[self._way.storage]
        # W1 X and dZ1 Xᵀ read X.
        kernel = f"one compiled loop, {at_once}{storage.told}"
        return self._described(kernel, 2 * self._bytes, storage.arithmetic or Arithmetic.of(self.workload.dtype))

    def close(self) -> None:
        del self._blocks, self._labels, self._arrays


@trials.Once
def fastest(images: int, network: Network, dtype: DType, threads: int) -> trials.Choice[Way]:
    """Find the fastest way, by a trial on white images."""
    workload, dataset, parameters = trials.trial_of(Workload(network, images, dtype=dtype))
    plain, others = ways(workload, device.device().name != "CPU")
    return trials.fastest(
        plain,
        lambda _: others,
        lambda way: JaxTrainer(workload, dataset, parameters, threads, way),
        f"{device.NAME}, {images} images, {network}, {dtype}, {threads} threads",
    )


def ways(workload: Workload, on_gpu: bool) -> tuple[list[Way], list[Way]]:
    """Return the ways that are tried: those that must work, and those that may fail.

    Images that fit the caches are taken at once; the trial then only compiles. A CPU multiplies neither bytes with
    float32 numbers nor, in float32, numbers of 16 bits, so other storages would only add a conversion of all images.
    There columns are no faster than rows, see README.md.
    """
    images, plain, others = workload.images, [Way(workload.images)], []
    if workload.image_bytes * workload.itemsize > _SMALL and images > _BLOCK:
        plain.append(Way(-(-images // round(images / _BLOCK))))  # so that the last block is nearly full
        if on_gpu:
            names = ["columns", "bytes", "bytes in columns"]
            names += ["split", "split in columns"] if workload.dtype == "float32" else []
            others = [Way(images, name) for name in names]
    return plain, others
