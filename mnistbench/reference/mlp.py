"""Any multilayer perceptron with every option, in NumPy. On the classic, every bit is that of the tutorial's module.

Each column is one image. For layers l = 1, ..., L, with A_0 = X the m images of a batch::

    Z_l = W_l A_{l-1} + b_l      A_l = f(Z_l) * M_l for l < L      A_L = softmax(Z_L)
    dZ_L = A_L - Y               dZ_l = W_{l+1}ᵀ dZ_{l+1} * M_l * f'(Z_l)
    dW_l = dZ_l A_{l-1}ᵀ / m + lambda / n W_l                      db_l = sum over images of dZ_l / m

f is the activation. M_l is the dropout mask, 0 or 1 / (1 - rate), or 1 without dropout. n is the number of all training
images, so lambda means the same with every batch size: the objective is the mean cross-entropy over all images plus
lambda / 2n times the sum of the squared weights.

An iteration takes the next batch in the epoch's order, augments its images, computes the gradients and updates the
parameters. :func:`epoch_order` draws the order on the host, for every backend. Dropout masks and distortions are
counter-based: functions of the seed, the epoch, the image and the unit (:mod:`mnistbench.reference.counter`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnistbench import reference
from mnistbench.reference import Array, Labels, counter
from mnistbench.reference.augmentation import augmented
from mnistbench.reference.parameters import Parameters
from mnistbench.task.recipe import Activation, Optimizer
from mnistbench.task.share import Share
from mnistbench.task.workload import Workload

LEAK = 0.01
"""Slope of leaky ReLU below 0 (Maas, Hannun and Ng 2013)."""


def activate(Z: Array, activation: Activation) -> Array:
    """Compute f(Z) elementwise."""
    if activation == "relu":
        return reference.ReLU(Z)
    if activation == "leaky-relu":
        return np.where(Z > 0, Z, LEAK * Z)
    if activation == "tanh":
        return np.tanh(Z)
    exp = np.exp(-np.abs(Z))  # sigmoid, 1 / (1 + exp(-Z)), without overflow
    return np.where(Z >= 0, 1 / (1 + exp), exp / (1 + exp))


def derivative(Z: Array, activation: Activation) -> Array | NDArray[np.bool_]:
    """Compute f'(Z) elementwise; at 0, ReLU and leaky ReLU have the slope of the negative side."""
    if activation == "relu":
        return reference.ReLU_deriv(Z)
    if activation == "leaky-relu":
        return np.where(Z > 0, Z.dtype.type(1), Z.dtype.type(LEAK))
    A = activate(Z, activation)
    return 1 - A * A if activation == "tanh" else A * (1 - A)


def forward(
    parameters: Parameters, X: Array, activation: Activation, masks: list[Array] | None = None
) -> tuple[list[Array], list[Array]]:
    """Compute Z_1, ..., Z_L and A_0, ..., A_L for X (n, m), with a mask (units, m) for each hidden layer or none."""
    Zs: list[Array] = []
    As: list[Array] = [X]
    last = len(parameters.weights) - 1
    for layer, (W, b) in enumerate(parameters.layers()):
        Zs.append(W @ As[-1] + b)
        A = activate(Zs[-1], activation) if layer < last else reference.softmax(Zs[-1])
        As.append(A * masks[layer] if masks and layer < last else A)
    return Zs, As


def backward(
    parameters: Parameters,
    Zs: list[Array],
    As: list[Array],
    Y: Labels,
    activation: Activation,
    masks: list[Array] | None = None,
) -> Parameters:
    """Compute the gradients of the mean cross-entropy for labels Y (m,) from the arrays of :func:`forward`."""
    m = Y.size
    dZ = As[-1] - reference.one_hot(Y, As[-1].shape[0]).astype(As[-1].dtype)
    weights: list[Array] = []
    biases: list[Array] = []
    for layer in reversed(range(len(Zs))):
        weights.insert(0, dZ @ As[layer].T / m)
        biases.insert(0, dZ.sum(axis=1, keepdims=True) / m)
        if layer > 0:
            dA = parameters.weights[layer].T @ dZ
            if masks:
                dA = dA * masks[layer - 1]
            dZ = dA * derivative(Zs[layer - 1], activation)
    return Parameters(weights, biases)


def with_penalty(gradients: Parameters, parameters: Parameters, l2: float, images: int) -> Parameters:
    """Add lambda / n times the weights to the weights' gradients."""
    if not l2:
        return gradients
    pairs = zip(gradients.weights, parameters.weights, strict=True)
    return Parameters([dW + l2 / images * W for dW, W in pairs], gradients.biases)


def epoch_order(seed: int, epoch: int, images: int) -> NDArray[np.int64]:
    """Return the order (images,) in which the batches of an epoch take the images."""
    return np.random.default_rng((epoch, seed)).permutation(images)


@dataclass(frozen=True)
class Batch:
    """Inputs of an iteration.

    Attributes:
        X: (n, m) in the workload's dtype.
        Y: (m,).
        masks: Dropout mask (units, m) of each hidden layer, with values 0 and 1 / (1 - rate); None without dropout.
    """

    X: Array
    Y: Labels
    masks: list[Array] | None


class Batches:
    """Batches of a workload by iteration, from its images (m, n), uint8, and labels (m,): all, or a rank's share."""

    def __init__(
        self,
        workload: Workload,
        images: NDArray[np.uint8],
        labels: Labels,
        image_shape: tuple[int, int],
        share: Share | None = None,
    ) -> None:
        self._workload, self._images, self._labels, self._shape = workload, images, labels, image_shape
        self._first = 0 if share is None else share.first
        self._order: tuple[int, NDArray[np.int64]] = -1, self._first + np.arange(len(labels))
        self._all: Array | None = None

    def places(self, iteration: int) -> NDArray[np.int64]:
        """Return the indices of an iteration's images in the whole training set, in the epoch's order.

        Of a share they are those of the batch's images that it holds.
        """
        workload = self._workload
        epoch, batch = divmod(iteration, workload.iterations_per_epoch)
        if workload.recipe.batch_size is not None and self._order[0] != epoch:
            self._order = epoch, epoch_order(workload.seed, epoch, workload.images)
        places = self._order[1][batch * workload.batch_size : (batch + 1) * workload.batch_size]
        if workload.recipe.batch_size is not None:
            places = places[(places >= self._first) & (places < self._first + len(self._labels))]
        return places

    def __call__(self, iteration: int) -> Batch:
        """Return the batch of an iteration."""
        places = self.places(iteration)
        return Batch(
            self._inputs(places, iteration), self._labels[places - self._first], self._masks(places, iteration)
        )

    def _inputs(self, places: NDArray[np.int64], iteration: int) -> Array:
        workload, change = self._workload, self._workload.recipe.augmentation
        if change:
            epoch = iteration // workload.iterations_per_epoch
            moved = augmented(self._images[places - self._first], places, self._shape, change, workload.seed, epoch)
            return reference.scale_images(moved, workload.dtype)
        if workload.recipe.batch_size is not None:
            return reference.scale_images(self._images[places - self._first], workload.dtype)
        if self._all is None:  # the same in every iteration
            self._all = reference.scale_images(self._images, workload.dtype)
        return self._all

    def _masks(self, places: NDArray[np.int64], iteration: int) -> list[Array] | None:
        workload = self._workload
        rates = workload.recipe.dropout_rates(len(workload.network.hidden))
        if not any(rates):
            return None
        epoch = iteration // workload.iterations_per_epoch
        masks: list[Array] = []
        for layer, (units, rate) in enumerate(zip(workload.network.hidden, rates, strict=True)):
            kept = counter.kept(workload.seed, epoch, layer, places, units, rate)
            masks.append(kept.astype(workload.dtype) * (1 / (1 - rate)))
        return masks


@dataclass(frozen=True)
class State:
    """State of training.

    Attributes:
        iteration: Number of iterations done.
        parameters: Parameters after them.
        moments: Moments of the optimizer: none, one or two values for each parameter.
    """

    iteration: int
    parameters: Parameters
    moments: list[Parameters]

    @classmethod
    def start(cls, parameters: Parameters, optimizer: Optimizer) -> State:
        """Return the state before the first iteration, with moments of 0."""
        zeros = Parameters.from_arrays(np.zeros_like(array) for array in parameters.arrays())
        return cls(0, parameters, [zeros] * optimizer.moments)


def gradients(
    workload: Workload, parameters: Parameters, batch: Batch, found: tuple[list[Array], list[Array]] | None = None
) -> Parameters:
    """Compute the gradients of an iteration, L2 penalty included.

    Args:
        found: Arrays that :func:`forward` returned for the batch, if it has been called.
    """
    activation = workload.network.activation
    Zs, As = found or forward(parameters, batch.X, activation, batch.masks)
    own = backward(parameters, Zs, As, batch.Y, activation, batch.masks)
    return with_penalty(own, parameters, workload.recipe.l2, workload.images)


def update(workload: Workload, state: State, gradient: Parameters) -> State:
    """Update the state. For a parameter p with gradient g, learning rate a and step t, counted from 1::

    gd         p := p - a g
    momentum   v := mu v + g                p := p - a v
    nesterov   v := mu v + g                p := p - a (g + mu v)
    rmsprop    s := rho s + (1 - rho) g²    p := p - a g / (sqrt(s) + epsilon)
    adam       v := beta1 v + (1 - beta1) g     s := beta2 s + (1 - beta2) g²
               p := p - a v / (1 - beta1^t) / (sqrt(s) / sqrt(1 - beta2^t) + epsilon)
    adamw      p := p (1 - a decay) if it is a weight, then as adam
    """
    before = [values.arrays() for values in (state.parameters, gradient, *state.moments)]
    after = [
        _moved(workload, state.iteration, place % 2 == 0, p, g, moments)
        for place, (p, g, *moments) in enumerate(zip(*before, strict=True))
    ]
    moved, *moments = (Parameters.from_arrays(arrays) for arrays in zip(*after, strict=True))
    return State(state.iteration + 1, moved, moments)


def _moved(
    workload: Workload, iteration: int, is_weight: bool, p: Array, g: Array, moments: list[Array]
) -> tuple[Array, ...]:
    """Return one array after its update, and its moments."""
    optimizer, rate = workload.recipe.optimizer, workload.rate(iteration)
    if optimizer.name == "gd":
        return (p - rate * g,)
    if optimizer.name in ("momentum", "nesterov"):
        v = optimizer.momentum * moments[0] + g
        return p - rate * (v if optimizer.name == "momentum" else g + optimizer.momentum * v), v
    if optimizer.name == "rmsprop":
        s = optimizer.rho * moments[0] + (1 - optimizer.rho) * (g * g)
        return p - rate * g / (np.sqrt(s) + optimizer.epsilon), s
    if optimizer.name == "adamw" and is_weight:
        p = p * (1 - rate * optimizer.weight_decay)
    first, second = optimizer.bias_corrections(iteration + 1)
    v = optimizer.beta1 * moments[0] + (1 - optimizer.beta1) * g
    s = optimizer.beta2 * moments[1] + (1 - optimizer.beta2) * (g * g)
    return p - rate * first * v / (np.sqrt(s) * second + optimizer.epsilon), v, s


@dataclass(frozen=True)
class Step:
    """One iteration: its batch, Z_1, ..., Z_L (units, m) of the forward pass, and the state after the update."""

    batch: Batch
    Zs: list[Array]
    after: State


def iterate(workload: Workload, batches: Callable[[int], Batch], state: State) -> Step:
    """Run one iteration from a state."""
    batch = batches(state.iteration)
    found = forward(state.parameters, batch.X, workload.network.activation, batch.masks)
    return Step(batch, found[0], update(workload, state, gradients(workload, state.parameters, batch, found)))


def predict(parameters: Parameters, X: Array, activation: Activation) -> NDArray[np.int64]:
    """Return the predicted class of each column of X (n, m), as (m,) integers."""
    return reference.get_predictions(forward(parameters, X, activation)[1][-1])
