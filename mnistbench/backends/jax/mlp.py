"""Any multilayer perceptron with every option in JAX: gradients by ``jax.grad``, an epoch in one compiled loop.

Images are rows; activations and logits are columns. All batches have one size: an epoch's last one is padded. The host
computes an epoch's order and, in float64, learning rates and Adam's bias corrections.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mnistbench.backends.base import Arithmetic, Description, Metrics
from mnistbench.backends.jax import device, random
from mnistbench.backends.jax.device import DeviceTrainer, matmul
from mnistbench.datasets import Dataset
from mnistbench.reference import mlp
from mnistbench.reference.mlp import LEAK
from mnistbench.reference.parameters import Parameters
from mnistbench.task.recipe import Activation, Optimizer, Schedule
from mnistbench.task.workload import Workload

# Largest number of iterations per call of the compiled loop on a CPU: the length of the table of learning rates.
_ITERATIONS = 512


class Task(NamedTuple):
    """The static part of a program: the workload without what is an argument, and (height, width)."""

    workload: Workload
    image_shape: tuple[int, int]


class Data(NamedTuple):
    """The constant inputs of a program."""

    images: Any  # (m, n) uint8
    labels: Any  # (m,) int32
    levels: Any  # (256,), the values of a byte in [0, 1]
    seed: Any  # (2,) uint32, the lowest word first
    order: Any = None  # (m,) int32, the epoch's order; None in a full batch


class State(NamedTuple):
    """The state of training."""

    arrays: list[Any]  # W1, b1, W2, b2, ...
    moments: list[list[Any]]  # for each of the optimizer's moments, arrays of the same shapes


class Batch(NamedTuple):
    """The inputs of an iteration."""

    X: Any  # (m, n)
    labels: Any  # (m,), -1 for padding
    count: Any  # number of images without padding
    masks: list[Any]  # (units, m) for each hidden layer, or None


def activate(Z: Any, activation: Activation) -> Any:
    """Compute f(Z), elementwise."""
    if activation == "leaky-relu":
        return jnp.where(Z > 0, Z, LEAK * Z)
    return {"relu": jax.nn.relu, "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid}[activation](Z)


def logits(arrays: list[Any], X: Any, activation: Activation, masks: list[Any]) -> Any:
    """Compute Z_L (c, m) of images X (m, n)."""
    A = X.T
    for W, b, mask in zip(arrays[:-2:2], arrays[1:-2:2], masks, strict=True):
        A = activate(matmul(W, A) + b, activation)
        if mask is not None:
            A = A * mask
    return matmul(arrays[-2], A) + arrays[-1]


def objective(arrays: list[Any], batch: Batch, workload: Workload) -> tuple[Any, tuple[Any, Any]]:
    """Compute the objective, mean cross-entropy plus L2 penalty; and, as auxiliary values, the former and the hits."""
    Z = logits(arrays, batch.X, workload.network.activation, batch.masks)
    one_hot = batch.labels == jnp.arange(Z.shape[0])[:, None]
    loss = -jnp.where(one_hot, jax.nn.log_softmax(Z, axis=0), 0).sum() / batch.count
    hits = (Z.argmax(axis=0) == batch.labels).sum(dtype="int32")
    if not (l2 := workload.recipe.l2):
        return loss, (loss, hits)
    return loss + l2 / (2 * workload.images) * sum((W * W).sum() for W in arrays[::2]), (loss, hits)


def next_batch(task: Task, data: Data, whole: Any, iteration: Any) -> Batch:
    """Compute the batch of an iteration; ``whole`` is X if every iteration's is the same, else None."""
    workload, recipe = task.workload, task.workload.recipe
    epoch, batch = jnp.divmod(iteration, workload.iterations_per_epoch)
    if recipe.batch_size is None:
        places, labels, count = jnp.arange(workload.images, dtype="int32"), data.labels, workload.images
    else:
        taken = batch * workload.batch_size + jnp.arange(workload.batch_size, dtype="int32")
        places = data.order[jnp.minimum(taken, workload.images - 1)]
        labels = jnp.where(taken < workload.images, data.labels[places], -1)
        count = (taken < workload.images).sum().astype(workload.dtype)
    X = whole
    if X is None:
        images = data.images if recipe.batch_size is None else data.images[places]
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


def whole_set(task: Task, data: Data) -> Any:
    """Compute X of all images if every iteration uses it; else return None."""
    recipe = task.workload.recipe
    fixed = recipe.batch_size is None and not recipe.augmentation
    return device.widened(data.images, data.levels) if fixed else None


def moved(optimizer: Optimizer, is_weight: bool, scalars: Any, p: Any, g: Any, moments: list[Any]) -> tuple[Any, ...]:
    """Update one array and its moments by the formulas of :func:`mnistbench.reference.mlp.update`."""
    rate, step, correction = scalars
    if optimizer.name == "gd":
        return (p - rate * g,)
    if optimizer.name in ("momentum", "nesterov"):
        v = optimizer.momentum * moments[0] + g
        return p - rate * (v if optimizer.name == "momentum" else g + optimizer.momentum * v), v
    if optimizer.name == "rmsprop":
        s = optimizer.rho * moments[0] + (1 - optimizer.rho) * (g * g)
        return p - rate * g / (jnp.sqrt(s) + optimizer.epsilon), s
    if optimizer.name == "adamw" and is_weight:
        p = p * (1 - rate * optimizer.weight_decay)
    v = optimizer.beta1 * moments[0] + (1 - optimizer.beta1) * g
    s = optimizer.beta2 * moments[1] + (1 - optimizer.beta2) * (g * g)
    return p - step * v / (jnp.sqrt(s) * correction + optimizer.epsilon), v, s


def train(
    task: Task, length: int | None, count: Any, first: Any, scalars: Any, done: tuple[State, Any], data: Data
) -> tuple[State, Any]:
    """Run ``count`` iterations of one epoch from number ``first``; return the state, and the last one's (loss, hits).

    Args:
        length: largest ``count``, as :func:`mnistbench.backends.jax.device.looped` takes it.
        scalars: (iterations, 3): learning rate, learning rate corrected for Adam's first moment, and the correction of
            the second.
        done: the state, and the loss and hits where there is no iteration.
    """
    whole, recipe = whole_set(task, data), task.workload.recipe

    def iterate(i: Any, before: tuple[State, Any]) -> tuple[State, Any]:
        (arrays, moments), _ = before
        batch = next_batch(task, data, whole, first + i)
        gradients, metrics = jax.grad(objective, has_aux=True)(arrays, batch, task.workload)
        after = [
            moved(recipe.optimizer, place % 2 == 0, scalars[i], p, g, own)
            for place, (p, g, *own) in enumerate(zip(arrays, gradients, *moments, strict=True))
        ]
        arrays, *moments = map(list, zip(*after, strict=True))
        return State(arrays, moments), metrics

    return device.looped(length, count, iterate, done)  # type: ignore[no-any-return]


def gradients(task: Task, iteration: Any, state: State, data: Data) -> Any:
    """Compute the gradients of an iteration's objective."""
    batch = next_batch(task, data, whole_set(task, data), iteration)
    return jax.grad(objective, has_aux=True)(state.arrays, batch, task.workload)[0]


class Programs(NamedTuple):
    """The functions above, compiled."""

    train: Callable[..., Any]
    gradients: Callable[..., Any]


@cache
def _programs(task: Task, length: int | None) -> Programs:
    return Programs(jax.jit(partial(train, task, length)), jax.jit(partial(gradients, task)))


def _task(workload: Workload, image_shape: tuple[int, int]) -> Task:
    """Keep only what the programs depend on, so that workloads share them: the image shape only for augmentation."""
    if not workload.recipe.augmentation:
        image_shape = 1, workload.network.inputs
    recipe = replace(workload.recipe, initializer="uniform", schedule=Schedule())
    return Task(replace(workload, name="custom", iterations=1, learning_rate=1.0, seed=0, recipe=recipe), image_shape)


class JaxMlpTrainer(DeviceTrainer):
    """Hold the images as bytes, the labels, and the state of training."""

    def __init__(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int) -> None:
        super().__init__(workload, threads)
        self._length = device.loop_length(workload)
        self._programs = _programs(_task(workload, dataset.image_shape), self._length)
        self._epoch, self._iteration = -1, 0
        self._state: State
        words = [workload.seed & 0xFFFFFFFF, workload.seed >> 32 & 0xFFFFFFFF]
        with self._computing():
            self._data = Data(
                self._placed(dataset.train.images, "uint8"),
                self._placed(dataset.train.labels, "int32"),
                self._placed(self._levels(), workload.dtype),
                self._placed(np.array(words), "uint32"),
            )
            self._zeros = self._placed(np.zeros(()), workload.dtype), self._placed(np.zeros(()), "int32")
            self.reset(parameters)
            jax.block_until_ready((self._data, self._state))

    def advance(self, iterations: int) -> Metrics:
        end, metrics = self._iteration + iterations, self._zeros
        with self._computing():
            while self._iteration < end:
                count = min(self._length or _ITERATIONS, end - self._iteration, self._enter_epoch())
                scalars = self._scalars(self._iteration, count)
                done = self._state, metrics
                self._state, metrics = self._programs.train(count, self._iteration, scalars, done, self._data)
                self._iteration += count
            loss, hits = jax.block_until_ready((metrics, self._state))[0]
        workload = self.workload
        batch = (self._iteration - 1) % workload.iterations_per_epoch
        images = min(workload.batch_size, workload.images - batch * workload.batch_size)
        return Metrics(float(loss), int(hits) / images)

    def _enter_epoch(self) -> int:
        """Copy the order of the next iteration's epoch to the device; return the number of iterations left in it."""
        workload, per_epoch = self.workload, self.workload.iterations_per_epoch
        if workload.recipe.batch_size is None:
            return _ITERATIONS
        epoch, batch = divmod(self._iteration, per_epoch)
        if epoch != self._epoch:
            order = mlp.epoch_order(workload.seed, epoch, workload.images)
            self._data, self._epoch = self._data._replace(order=self._placed(order, "int32")), epoch
        return per_epoch - batch

    def _scalars(self, first: int, count: int) -> NDArray[Any]:
        """Return the argument ``scalars`` of :func:`train`."""
        found = np.zeros((self._length or _ITERATIONS, 3))
        for row, iteration in enumerate(range(first, first + count)):
            rate = self.workload.rate(iteration)
            corrections = self.workload.recipe.optimizer.bias_corrections(iteration + 1)
            found[row] = rate, rate * corrections[0], corrections[1]
        return found.astype(self.workload.dtype)

    def reset(self, parameters: Parameters) -> None:
        with self._computing():
            arrays = [self._placed(array, self.workload.dtype) for _, array in parameters.named()]
            zeros = [[jnp.zeros_like(array) for array in arrays] for _ in range(self.workload.recipe.optimizer.moments)]
            self._state = State(arrays, zeros)
        self._iteration = 0

    def moments(self) -> list[Parameters]:
        return [device.on_host(arrays) for arrays in self._state.moments]

    def restore(self, state: mlp.State) -> None:
        with self._computing():
            arrays, *moments = (
                [self._placed(array, self.workload.dtype) for array in values.arrays()]
                for values in (state.parameters, *state.moments)
            )
            self._state = State(arrays, moments)
        self._iteration = state.iteration

    def parameters(self) -> Parameters:
        return device.on_host(self._state.arrays)

    def gradients(self) -> Parameters:
        with self._computing():
            self._enter_epoch()
            return device.on_host(self._programs.gradients(self._iteration, self._state, self._data))

    def _repeat(self, iterations: int) -> None:
        left = self._enter_epoch()
        for count in device.calls(iterations, min(self._length or _ITERATIONS, left)):
            scalars, done = self._scalars(self._iteration, count), (self._state, self._zeros)
            done = self._programs.train(count, self._iteration, scalars, done, self._data)
        jax.block_until_ready(done)

    def describe(self) -> Description:
        workload = self.workload
        kernel = f"one compiled loop, {workload.batch_size:,} images at a time"
        # The bytes, and X by W1 X and by dZ1 Xᵀ; padding counts too.
        bytes_read = workload.batch_size * workload.network.inputs * (1 + 2 * workload.itemsize)
        return self._described(kernel, bytes_read, Arithmetic.of(self.workload.dtype))

    def close(self) -> None:
        del self._data, self._state


def compile_mlp(workload: Workload, threads: int) -> None:
    """Compile the loop for a workload, on blank images."""
    dataset = Dataset.blank(workload.network, workload.images)
    with JaxMlpTrainer(workload, dataset, Parameters.initial(workload.network, 0), threads) as trainer:
        trainer.advance(1)
