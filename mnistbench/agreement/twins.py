"""How far honest computations of one training come apart, measured: what agreement allows beyond the classic.

The reason is in :mod:`mnistbench.agreement`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from mnistbench import reference
from mnistbench.agreement.checkpoints import State, margins
from mnistbench.datasets import Dataset, Split
from mnistbench.reference import mlp
from mnistbench.reference.parameters import Array, Parameters
from mnistbench.task.recipe import Activation
from mnistbench.task.workload import Workload

NOISE_K = 32.0
"""Before every iteration each parameter of a twin is moved by up to so many eps of itself, at random."""

TWINS = 2
"""One may by chance have a small error where errors grow."""

ALLOWED = 4.0
"""How many times as far as the twins others may be.

JAX, PyTorch, and NumPy with its images, pixels and units in another order came 0.8 times as far in float64 and 1.3
times in float32, where contributions switch: over all optimizers, activations, 0 to 3 hidden layers, 300 iterations.
"""


@dataclass(frozen=True)
class Spread:
    """The largest distances from the reference after some iteration, and before it.

    Attributes:
        parameters: of every array, in their order: the largest difference.
        margin: the largest difference of an image's margin.
        mean_margin: the mean over images.
    """

    parameters: tuple[float, ...]
    margin: float
    mean_margin: float

    def __or__(self, other: Spread) -> Spread:
        """The larger of each; NaN is larger than anything."""
        return Spread(
            tuple(map(float, np.maximum(self.parameters, other.parameters))),
            float(np.maximum(self.margin, other.margin)),
            float(np.maximum(self.mean_margin, other.mean_margin)),
        )

    def __mul__(self, factor: float) -> Spread:
        return Spread(
            tuple(factor * distance for distance in self.parameters), factor * self.margin, factor * self.mean_margin
        )


@dataclass(frozen=True)
class Twins:
    """Trainings of the same network in some dtype, whose parameters are off a little.

    Attributes:
        spreads: by iteration.
        last: the parameters of each of them in the end.
    """

    spreads: dict[int, Spread]
    last: list[Parameters]

    def margin(self, split: Split, expected: Array, activation: Activation) -> float:
        """The largest difference of an image's margin, in the end, from ``expected`` (m,)."""
        X = reference.scale_images(split.images, self.last[0].weights[0].dtype)
        found = [mlp.forward(own, X, activation)[0][-1] for own in self.last]
        return max(_margin(margins(logits), expected)[0] for logits in found)


def trained(workload: Workload, dataset: Dataset, initial: Parameters, states: Mapping[int, State]) -> Twins:
    """The twins of a training in the workload's dtype, beside the reference's states by iteration."""
    train = dataset.train
    batches = mlp.Batches(workload, train.images, train.labels, dataset.image_shape)
    noises = [np.random.default_rng(place) for place in range(TWINS)]
    start = mlp.State.start(initial.astype(workload.dtype), workload.recipe.optimizer)
    twins = [start] * TWINS
    spreads: dict[int, Spread] = {}
    spread = Spread((0.0,) * 2 * len(initial.weights), 0.0, 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        for iteration in range(workload.iterations + 1):
            batch = batches(iteration)
            off = [_moved(twin, noise) for twin, noise in zip(twins, noises, strict=True)]
            steps = [mlp.iterate(workload, partial(_always, batch), twin) for twin in off]
            if iteration in states:
                for twin, step in zip(off, steps, strict=True):
                    spread = spread | _spread(twin.parameters, step.Zs[-1], states[iteration])
                spreads[iteration] = spread
            twins = [step.after for step in steps]
    return Twins(spreads, [twin.parameters for twin in off])


def _always(batch: mlp.Batch, iteration: int) -> mlp.Batch:
    return batch


def _moved(state: mlp.State, noise: np.random.Generator) -> mlp.State:
    """With every parameter off."""

    def moved(arrays: list[Array]) -> Iterator[Array]:
        for array in arrays:
            factor = 1 + NOISE_K * np.finfo(array.dtype).eps * noise.uniform(-1, 1, array.shape)
            yield (array * factor).astype(array.dtype)

    own = state.parameters
    return replace(state, parameters=Parameters(list(moved(own.weights)), list(moved(own.biases))))


def _spread(parameters: Parameters, logits: Array, state: State) -> Spread:
    """How far from the reference's state."""
    pairs = zip(parameters.named(), state.parameters.named(), strict=True)
    distances = tuple(float(np.abs(own - expected).max()) for (_, own), (_, expected) in pairs)
    return Spread(distances, *_margin(margins(logits), state.margins))


def _margin(own: Array, expected: Array) -> tuple[float, float]:
    """The largest difference and the mean; 0 where there is one class, and all margins are infinite."""
    if np.isinf(expected).all():
        return 0.0, 0.0
    difference = np.abs(own - expected)
    return float(difference.max()), float(difference.mean())
