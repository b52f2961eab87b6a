"""Any multilayer perceptron with every option in JAX: gradients by ``jax.grad``, an epoch in one compiled loop.

Images are rows; activations and logits are columns. The host computes an epoch's order and, in float64, learning rates
and Adam's bias corrections.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mnistbench.backends.base import Arithmetic, Description, Metrics
from mnistbench.backends.jax import device, group
from mnistbench.backends.jax.batches import Batch, Data, Task, next_batch, order_of, whole_set
from mnistbench.backends.jax.device import matmul
from mnistbench.backends.jax.trainer import DeviceTrainer
from mnistbench.datasets import Dataset
from mnistbench.reference import mlp
from mnistbench.reference.mlp import LEAK
from mnistbench.reference.parameters import Parameters
from mnistbench.task.recipe import Activation, Optimizer
from mnistbench.task.workload import Workload

# Largest number of iterations per call of the compiled loop on a CPU: the length of the table of learning rates.
_ITERATIONS = 512


class State(NamedTuple):
    """The state of training."""

    arrays: list[Any]  # W1, b1, W2, b2, ...
    moments: list[list[Any]]  # for each of the optimizer's moments, arrays of the same shapes


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


def objective(arrays: list[Any], batch: Batch, workload: Workload, penalty: bool = True) -> tuple[Any, tuple[Any, Any]]:
    """Compute the objective, mean cross-entropy plus L2 penalty; and, as auxiliary values, the former and the hits.

    Of a rank's images it is their part of the mean over those of all ranks, ``penalty`` left out.
    """
    Z = logits(arrays, batch.X, workload.network.activation, batch.masks)
    one_hot = batch.labels == jnp.arange(Z.shape[0])[:, None]
    loss = -jnp.where(one_hot, jax.nn.log_softmax(Z, axis=0), 0).sum() / batch.count
    hits = (Z.argmax(axis=0) == batch.labels).sum(dtype="int32")
    if not (l2 := workload.recipe.l2) or not penalty:
        return loss, (loss, hits)
    return loss + l2 / (2 * workload.images) * sum((W * W).sum() for W in arrays[::2]), (loss, hits)


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


def backward(task: Task, arrays: list[Any], batch: Batch) -> tuple[list[Any], tuple[Any, Any]]:
    """Compute the gradients of the objective, of the images of all ranks; and a rank's part of the loss and hits."""
    workload, alone = task.workload, task.size is None
    found, metrics = jax.grad(objective, has_aux=True)(arrays, batch, workload, alone)
    if alone:
        return found, metrics
    found = group.added(found)
    if l2 := workload.recipe.l2:
        found[::2] = [dW + l2 / workload.images * W for dW, W in zip(found[::2], arrays[::2], strict=True)]
    return found, metrics


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
    whole, optimizer = whole_set(task, data), task.workload.recipe.optimizer

    def iterate(i: Any, before: tuple[State, Any]) -> tuple[State, Any]:
        (arrays, moments), _ = before
        batch = next_batch(task, data, whole, first + i)
        gradients, metrics = backward(task, arrays, batch)
        after = [
            moved(optimizer, place % 2 == 0, scalars[i], p, g, own)
            for place, (p, g, *own) in enumerate(zip(arrays, gradients, *moments, strict=True))
        ]
        arrays, *moments = map(list, zip(*after, strict=True))
        return State(arrays, moments), metrics

    state, metrics = device.looped(length, count, iterate, done)
    return state, metrics if task.size is None else group.total(*metrics)


def gradients(task: Task, iteration: Any, state: State, data: Data) -> Any:
    """Compute the gradients of an iteration's objective."""
    batch = next_batch(task, data, whole_set(task, data), iteration)
    return backward(task, state.arrays, batch)[0]


class Programs(NamedTuple):
    """The functions above, compiled."""

    train: Callable[..., Any]
    gradients: Callable[..., Any]


@cache
def _programs(task: Task, length: int | None, mesh: Any) -> Programs:
    """Compile the functions for a task and a length of the loop; ``mesh`` is that of all ranks, or None."""
    functions = partial(train, task, length), partial(gradients, task)
    if mesh is None:
        return Programs(*map(jax.jit, functions))
    data = Data(group.EACH, group.EACH, group.ALL, group.ALL, group.EACH, group.EACH)
    places = (*(group.ALL,) * 4, data), (group.ALL, group.ALL, data)
    return Programs(*map(group.program, functions, places))


class JaxMlpTrainer(DeviceTrainer):
    """Hold the images as bytes, the labels, and the state of training."""

    def __init__(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int) -> None:
        super().__init__(workload, threads, share=dataset.share)
        self._length, self._shape = device.loop_length(workload), dataset.image_shape
        self._epoch, self._iteration = -1, 0
        self._state: State
        words, share = [workload.seed & 0xFFFFFFFF, workload.seed >> 32 & 0xFFFFFFFF], dataset.share
        self._programs = self._programs_of(self._most if share else None)
        padding = self._most - len(dataset.train)
        with self._computing():
            self._data = Data(
                self._parted(np.pad(dataset.train.images, ((0, padding), (0, 0))), "uint8"),
                self._parted(np.pad(dataset.train.labels, (0, padding), constant_values=-1), "int32"),
                self._placed(self._levels(), workload.dtype),
                self._placed(np.array(words), "uint32"),
                share and self._parted(np.array([share.first]), "int32"),
            )
            self._zeros = self._placed(np.zeros(()), workload.dtype), self._placed(np.zeros(()), "int32")
            self.reset(parameters)
            jax.block_until_ready((self._data, self._state))

    def _programs_of(self, size: int | None) -> Programs:
        return _programs(Task.of(self.workload, self._shape, size), self._length, self._share and group.mesh())

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
            if self._share is None:
                order = mlp.epoch_order(workload.seed, epoch, workload.images)
            else:
                order, size = order_of(self._share, workload, epoch)
                self._programs = self._programs_of(size)
            self._data, self._epoch = self._data._replace(order=self._parted(order, "int32")), epoch
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
            moments = range(self.workload.recipe.optimizer.moments)
            zeros = [[self._placed(np.zeros(array.shape), self.workload.dtype) for array in arrays] for _ in moments]
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
