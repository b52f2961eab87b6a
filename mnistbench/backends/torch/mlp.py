"""Any multilayer perceptron with every option in PyTorch: eager operations and the optimizers of ``torch.optim``.

Images are rows. The gradients are the reference's formulas. A trial decides whether random bits are compiled by
``torch.compile``, and whether float32 products on a CPU are oneDNN's. README.md beside this file has timings.
"""

from __future__ import annotations

from itertools import chain, pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import linear

from mnistbench.backends.base import Arithmetic, Description, Metrics
from mnistbench.backends.torch import device, random
from mnistbench.backends.torch.device import DeviceTrainer
from mnistbench.backends.torch.formulas import Formulas, onednn
from mnistbench.datasets import Dataset
from mnistbench.reference import counter, mlp
from mnistbench.reference.parameters import Array, Parameters
from mnistbench.task.recipe import Optimizer
from mnistbench.task.workload import Workload


class Way(NamedTuple):
    """How an iteration is computed.

    Attributes:
        onednn: whether oneDNN computes the products; else the library that PyTorch chooses.
        compiled: whether a compiled function draws masks and augments images; else eager operations.
        captured: whether a CUDA graph of all its operations is launched.
    """

    onednn: bool = False
    compiled: bool = False
    captured: bool = False

    def __str__(self) -> str:
        products = "products of oneDNN" if self.onednn else "products of PyTorch's choice"
        graph, bits = "CUDA graph: " * self.captured, ", random bits compiled" * self.compiled
        return f"{graph}{products}{bits}"


def optimizer_of(optimizer: Optimizer, weights: list[Any], biases: list[Any]) -> Any:
    """Create PyTorch's optimizer; the learning rate is set before each step."""
    everything = [*weights, *biases]
    if optimizer.name == "rmsprop":
        return torch.optim.RMSprop(everything, alpha=optimizer.rho, eps=optimizer.epsilon)
    if optimizer.name in ("adam", "adamw"):
        constants = {"betas": (optimizer.beta1, optimizer.beta2), "eps": optimizer.epsilon, "fused": True}
        if optimizer.name == "adam":
            return torch.optim.Adam(everything, **constants)
        groups = [{"params": weights, "weight_decay": optimizer.weight_decay}, {"params": biases, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, **constants)
    momentum = 0.0 if optimizer.name == "gd" else optimizer.momentum
    nesterov = optimizer.name == "nesterov" and momentum > 0
    return torch.optim.SGD(everything, momentum=momentum, nesterov=nesterov, fused=True)


class TorchMlpTrainer(DeviceTrainer):
    """Hold the images as bytes, the labels, weights (o, i), biases (o,), and the optimizer."""

    def __init__(
        self,
        workload: Workload,
        dataset: Dataset,
        parameters: Parameters,
        threads: int,
        way: Way,
        failed: str | None = None,
    ) -> None:
        super().__init__(workload, threads, failed)
        self._way = way
        self._formulas = Formulas(workload.network.activation, onednn if way.onednn else linear)
        draw = random.Draw.of(workload, dataset.image_shape)
        self._drawn = (random.compiled(draw, threads) if way.compiled else draw.function()) if draw.words else None
        self._epoch, self._iteration = -1, 0
        self._of = 0  # number of a batch's images, those of other ranks included; 0 for a process by itself
        self._whole: Any = None
        hidden, sizes = len(workload.network.hidden), workload.network.sizes
        kind = {"dtype": self._dtype, "device": self._device}
        with self._computing():
            self._images = self._placed(dataset.train.images, "uint8")
            self._labels = self._placed(dataset.train.labels, "int64")
            self._schedules = self._placed(np.zeros((2 + hidden, 3)), "int32")
            self._classes = torch.eye(workload.network.outputs, **kind)
            self._weights = [torch.zeros(o, i, **kind) for i, o in pairwise(sizes)]
            self._biases = [torch.zeros(o, **kind) for o in sizes[1:]]
            self._optimizer = self._created_optimizer()
        self.reset(parameters)

    def _created_optimizer(self) -> Any:
        return optimizer_of(self.workload.recipe.optimizer, self._weights, self._biases)

    def _enter(self, epoch: int) -> None:
        """Copy the epoch's order, padded by its start to whole batches, and its key schedules to the device."""
        images, whole = self.workload.images, self.workload.recipe.batch_size is None
        order = np.arange(images) if whole else mlp.epoch_order(self.workload.seed, epoch, images)
        places = self.workload.iterations_per_epoch * self.workload.batch_size
        self._enter_order(epoch, np.resize(order, places))

    def _enter_order(self, epoch: int, order: NDArray[np.int64]) -> None:
        hidden = len(self.workload.network.hidden)
        purposes = [counter.PLACE, counter.ELASTIC, *range(counter.DROPOUT, counter.DROPOUT + hidden)]
        schedules = [random.schedule(self.workload.seed, purpose, epoch) for purpose in purposes]
        self._schedules.copy_(torch.tensor(schedules, dtype=torch.int32))
        self._order = self._placed(order, "int64")
        self._epoch = epoch

    def _taken(self, iteration: int) -> tuple[Any, int]:
        """Return the indices of an iteration's images, padded to a whole batch, and the number m without padding."""
        workload, size = self.workload, self.workload.batch_size
        epoch, batch = divmod(iteration, workload.iterations_per_epoch)
        if epoch != self._epoch:
            self._enter(epoch)
        return self._order[batch * size : (batch + 1) * size], min(size, workload.images - batch * size)

    def _batch(self, places: Any, m: int) -> tuple[Any, Any, list[Any]]:
        """Return X (m, n), the labels (m,), and for each hidden layer a mask (m, units) or None."""
        workload = self.workload
        whole = workload.recipe.batch_size is None
        held = self._held(places)
        X = self._images if whole else self._images[held]
        masks: list[Any] = [None] * len(workload.network.hidden)
        if self._drawn:
            X, masks = self._drawn(X, places.int(), self._schedules)
        if not whole or workload.recipe.augmentation:
            X = device.widened(X, self._dtype)
        elif self._whole is None:
            X = self._whole = device.widened(X, self._dtype)
        else:
            X = self._whole
        return X[:m], self._labels[held[:m]], [mask if mask is None else mask[:m] for mask in masks]

    def _held(self, places: Any) -> Any:
        """Return the rows of images and labels at places among all training images."""
        return places

    def _summed(self, places: Any, m: int, of: int) -> tuple[list[Any], list[Any], Any, Any]:
        """Compute sums of gradients over m images, divided by ``of``, of weights and biases; logits; and labels."""
        X, labels, masks = self._batch(places, m)
        found, As = self._formulas.forward(self._weights, self._biases, X, masks)
        dW, db = self._formulas.backward(self._weights, found, As, self._classes[labels], masks, of)
        return dW, db, found[-1], labels

    def _backward(self, places: Any, m: int) -> tuple[list[Any], list[Any], Any, Any]:
        """Compute a batch's gradients of weights and biases, its logits and its labels."""
        dW, db, Z, labels = self._summed(places, m, self._of or m)
        if l2 := self.workload.recipe.l2:
            for own, W in zip(dW, self._weights, strict=True):
                own.add_(W, alpha=l2 / self.workload.images)
        return dW, db, Z, labels

    def _iterate(self, places: Any, m: int) -> tuple[Any, Any]:
        """Update the parameters by a batch; return its logits from before, and its labels."""
        dW, db, Z, labels = self._backward(places, m)
        for own, gradient in zip((*self._weights, *self._biases), (*dW, *db), strict=True):
            own.grad = gradient
        self._optimizer.step()
        return Z, labels

    def _set_rate(self, rate: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = rate

    def _trained(self, iterations: int) -> tuple[Any, Any]:
        """Run iterations; return the last one's logits and labels."""
        for iteration in range(self._iteration, self._iteration + iterations):
            self._set_rate(self.workload.rate(iteration))
            Z, labels = self._iterate(*self._taken(iteration))
        self._iteration += iterations
        return Z, labels

    def advance(self, iterations: int) -> Metrics:
        with self._computing():
            Z, labels = self._trained(iterations)
            loss = torch.nn.functional.cross_entropy(Z.double(), labels).item()
            hits = (Z.argmax(1) == labels).sum().item()
        return Metrics(loss, hits / len(labels))

    def reset(self, parameters: Parameters) -> None:
        with self._computing():
            for own, value in zip(self._own(), parameters.arrays(), strict=True):
                own.copy_(self._like(own, value))
            self._forget()
        self._iteration = 0

    def moments(self) -> list[Parameters]:
        # PyTorch has none before the first iteration, nor of a momentum of 0.
        states = [(own, self._optimizer.state.get(own, {})) for own in self._own()]
        with self._computing():
            return [
                device.on_host(
                    torch.zeros_like(own) if state.get(name) is None else state[name] for own, state in states
                )
                for name in self._moment_names
            ]

    def restore(self, state: mlp.State) -> None:
        self.reset(state.parameters)
        self._iteration = state.iteration
        if not state.iteration:
            return
        adam = self.workload.recipe.optimizer.name in ("adam", "adamw")
        with self._computing():
            arrays = zip(*(moment.arrays() for moment in state.moments), strict=True)
            for own, values in zip(self._own(), arrays, strict=False):  # without moments, none
                kept = {name: self._like(own, value) for name, value in zip(self._moment_names, values, strict=True)}
                step = torch.tensor(float(state.iteration), dtype=torch.float32, device=self._device if adam else "cpu")
                self._remember(own, {"step": step, **kept})

    def _forget(self) -> None:
        """Reset the optimizer's state."""
        self._optimizer.state.clear()

    def _remember(self, own: Any, state: dict[str, Any]) -> None:
        """Set the optimizer's state of a parameter array."""
        self._optimizer.state[own] = state

    def _own(self) -> list[Any]:
        """Return W1, b1, W2, b2, ... on the device."""
        return [*chain(*zip(self._weights, self._biases, strict=True))]

    def _like(self, own: Any, value: Array) -> Any:
        """Copy an array of the host to the device, in the shape of ``own``."""
        return torch.from_numpy(np.array(value, self.workload.dtype)).reshape(own.shape).to(self._device)

    @property
    def _moment_names(self) -> list[str]:
        """Names of the moments in the state of PyTorch's optimizers."""
        return {
            "gd": [],
            "momentum": ["momentum_buffer"],
            "nesterov": ["momentum_buffer"],
            "rmsprop": ["square_avg"],
            "adam": ["exp_avg", "exp_avg_sq"],
            "adamw": ["exp_avg", "exp_avg_sq"],
        }[self.workload.recipe.optimizer.name]

    def parameters(self) -> Parameters:
        return device.on_host(self._own())

    def gradients(self) -> Parameters:
        with self._computing():
            dW, db, _Z, _labels = self._backward(*self._taken(self._iteration))
            return device.on_host(chain(*zip(dW, db, strict=True)))

    def _repeat(self, iterations: int) -> None:
        for _ in range(iterations):
            self._backward(*self._taken(self._iteration))

    def describe(self) -> Description:
        workload = self.workload
        fixed = workload.recipe.batch_size is None and not workload.recipe.augmentation
        # W X and dZ Xᵀ read X; unless X is fixed, its bytes are read first.
        each = 2 * workload.itemsize + (0 if fixed else 1)
        kernel = f"{self._way}, {workload.batch_size:,} images at a time"
        return self._described(kernel, each * workload.image_bytes, Arithmetic.of(self.workload.dtype))

    def close(self) -> None:
        del self._images, self._labels, self._weights, self._biases, self._optimizer, self._drawn
        self._order = self._whole = None
        super().close()
