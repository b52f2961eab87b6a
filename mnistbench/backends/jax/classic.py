"""The classic in JAX: gradients by ``jax.grad``, all iterations in one compiled loop.

Images are rows; activations and logits are columns. An iteration takes all images at once or, by ``lax.scan``, blocks
of some 2,000, whichever a trial finds faster. README.md beside this file has timings.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mnistbench.backends.base import Description, Metrics
from mnistbench.backends.jax import device
from mnistbench.backends.jax.device import DeviceTrainer, matmul
from mnistbench.backends.trials import Trials, trial_of
from mnistbench.datasets import Dataset
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import DType, Network, Workload

# Approximate number of images in a block; and bytes of images up to which there is one block and no trial.
_BLOCK = 2048
_SMALL = 8 * 2**20


def _logits(arrays: Any, images: Any) -> Any:
    """Compute the logits Z2 (c, m) of images (m, n)."""
    W1, b1, W2, b2 = arrays
    return matmul(W2, jax.nn.relu(matmul(W1, images.T) + b1)) + b2


def _loss_and_hits(arrays: Any, images: Any, labels: Any) -> tuple[Any, Any]:
    """Compute the sum of the cross-entropies and the number of hits; images labelled -1 are padding."""
    Z2 = _logits(arrays, images)
    one_hot = labels == jnp.arange(Z2.shape[0])[:, None]
    loss = -jnp.where(one_hot, jax.nn.log_softmax(Z2, axis=0), 0).sum()
    return loss, (Z2.argmax(axis=0) == labels).sum()


def _backward(arrays: Any, blocks: Any, labels: Any, count: Any) -> Any:
    """Compute ((loss, hits), gradients) of the mean over ``count`` images in blocks (k, m, n)."""
    of_block = jax.value_and_grad(_loss_and_hits, has_aux=True)

    def add(sums: Any, block: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, sums, of_block(arrays, *block)), None

    zero = jax.tree.map(jnp.zeros_like, jax.eval_shape(of_block, arrays, blocks[0], labels[0]))
    ((loss, hits), gradients), _ = jax.lax.scan(add, zero, (blocks, labels))
    return (loss / count, hits), [gradient / count for gradient in gradients]


def _train(iterations: Any, arrays: Any, blocks: Any, labels: Any, count: Any, rate: Any) -> tuple[Any, Any, Any]:
    """Compute the parameters after ``iterations`` iterations, and the last one's loss and hits."""

    def iterate(_: Any, state: Any) -> Any:
        (loss, hits), gradients = _backward(state[0], blocks, labels, count)
        return [array - rate * gradient for array, gradient in zip(state[0], gradients, strict=True)], loss, hits

    start = arrays, jnp.zeros_like(rate), jnp.zeros((), int)
    moved, loss, hits = jax.lax.fori_loop(0, iterations, iterate, start)
    return moved, loss, hits


def _gradients(arrays: Any, blocks: Any, labels: Any, count: Any) -> Any:
    return _backward(arrays, blocks, labels, count)[1]


class _Programs(NamedTuple):
    """The functions above, compiled."""

    train: Callable[..., Any]
    gradients: Callable[..., Any]
    widen: Callable[..., Any]


@cache
def _programs(alone: bool) -> _Programs:
    functions = (_train, _gradients, device.widened)
    return _Programs(*(device.compiled(function, alone) for function in functions))


class JaxTrainer(DeviceTrainer):
    """Hold the images in the workload's dtype in padded blocks (k, block, n), labels (k, block), and parameters."""

    def __init__(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int, block: int) -> None:
        super().__init__(workload, threads)
        self._programs = _programs(device.alone(threads))
        images, labels = dataset.train.images, dataset.train.labels
        self._count = len(labels)
        self._shape = -(-self._count // block), block
        self._arrays: list[Any]
        filled = ((0, self._shape[0] * block - self._count),)
        with self._computing():
            self._blocks = self._widened(np.pad(images, (*filled, (0, 0))).reshape(*self._shape, -1))
            self._labels = self._placed(np.pad(labels, filled, constant_values=-1).reshape(self._shape), "int32")
            self.reset(parameters)
            jax.block_until_ready((self._blocks, self._labels, self._arrays))

    def _widened(self, images: NDArray[np.uint8]) -> Any:
        return self._programs.widen(self._placed(images, "uint8"), self._levels())

    def advance(self, iterations: int) -> Metrics:
        rate, data = self._scalar(self.workload.learning_rate), (self._blocks, self._labels, self._scalar(self._count))
        with self._computing():
            done = self._programs.train(iterations, self._arrays, *data, rate)
            self._arrays, loss, hits = jax.block_until_ready(done)
        return Metrics(float(loss), int(hits) / self._count)

    def reset(self, parameters: Parameters) -> None:
        with self._computing():
            self._arrays = [self._placed(array, self.workload.dtype) for _, array in parameters.named()]

    def parameters(self) -> Parameters:
        return device.on_host(self._arrays)

    def gradients(self) -> Parameters:
        with self._computing():
            data = self._blocks, self._labels, self._scalar(self._count)
            return device.on_host(self._programs.gradients(self._arrays, *data))

    def describe(self) -> Description:
        blocks, images = self._shape
        at_once = f"{images:,} images at a time" if blocks > 1 else "all images at once"
        # W1 X and dZ1 Xᵀ read X.
        return self._described(f"one compiled loop, {at_once}", bytes_read=2 * self._blocks.nbytes)

    def close(self) -> None:
        del self._blocks, self._labels, self._arrays


@cache
def fastest_block(images: int, network: Network, dtype: DType, threads: int) -> int:
    """Return the number of images to take at a time, by a trial on white images once per process.

    Images that fit the caches are taken at once; the trial then only compiles.
    """
    workload, dataset, parameters = trial_of(Workload(network, images, dtype=dtype))

    sizes = [images]
    if workload.image_bytes * workload.itemsize > _SMALL and images > _BLOCK:
        sizes.append(-(-images // round(images / _BLOCK)))  # so that the last block is nearly full
    what = f"{device.NAME}, {images} images, {network}, {dtype}, {threads} threads"
    trials: Trials[int] = Trials(lambda block: JaxTrainer(workload, dataset, parameters, threads, block), what)
    for block in sizes:
        trials.run(block)
    return trials.fastest
