"""Twins: training runs of the reference in the backend's dtype whose parameters are perturbed by rounding-size noise.

Their distance from the float64 reference measures how far correct computations of one training run drift apart. It
sets the tolerance for workloads that are not classic; :mod:`mnistbench.agreement` says why no formula does. On the
preset "deep", for example, a parameter may be off by 0.31 of its array's largest value after all 461 updates in
float32, in float64 by 2e-12.
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

NOISE_K: dict[str, float] = {"float32": 2.0, "float64": 8.0}
"""Largest relative perturbation of a parameter before each iteration, in eps of each dtype; drawn at random.

In float32 units switch anyway, and more noise would hide what is missing: on "deep" the last quarter of the training is
off by 33 tolerances, with 4 eps by 7. In float64 nothing switches, and the noise has to stand for all other rounding;
with 1 eps, PyTorch came 4.8 times as far as the twins on "deep".
"""

TWINS: dict[str, int] = {"float32": 6, "float64": 2}
"""Number of twins in each dtype.

In float32 what decides is whether some twin meets what rounding may do early; Adam, for example, moves a parameter by
the whole learning rate either way where its gradient is within rounding of 0. With two twins and 1 eps of noise, two of
six seeds of "deep" had honest backends off by 83 and 720 tolerances. With six and 2 eps, those of seven seeds, these
two among them, were off by at most 0.38.
"""

ALLOWED = 4.0
"""Largest distance of a backend from the reference, as a multiple of the twins' distance.

On "deep" in float32, NumPy, Numba, JAX and PyTorch reached 1.3.
"""


@dataclass(frozen=True)
class Spread:
    """Largest distances of the twins from the reference, over all iterations so far.

    Attributes:
        parameters: Largest absolute difference in each parameter array, in the order of ``Parameters.named``.
        margin: Largest difference of an image's margin.
        mean_margin: Mean difference of the images' margins.
    """

    parameters: tuple[float, ...]
    margin: float
    mean_margin: float

    def __or__(self, other: Spread) -> Spread:
        """Return the elementwise maximum; NaN propagates."""
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
    """Perturbed training runs of one workload in one dtype.

    Attributes:
        spreads: Distances from the reference, by iteration.
        last: Final parameters of each twin.
    """

    spreads: dict[int, Spread]
    last: list[Parameters]

    def margin(self, split: Split, expected: Array, activation: Activation) -> float:
        """Compute the largest difference of an image's final margin from ``expected`` (m,)."""
        X = reference.scale_images(split.images, self.last[0].weights[0].dtype)
        found = [mlp.forward(own, X, activation)[0][-1] for own in self.last]
        return max(_margin(margins(logits), expected)[0] for logits in found)


def trained(workload: Workload, dataset: Dataset, initial: Parameters, states: Mapping[int, State]) -> Twins:
    """Train the twins in the workload's dtype and compare them with the reference's ``states``, keyed by iteration."""
    train = dataset.train
    batches = mlp.Batches(workload, train.images, train.labels, dataset.image_shape)
    noises = [np.random.default_rng(place) for place in range(TWINS[workload.dtype])]
    start = mlp.State.start(initial.astype(workload.dtype), workload.recipe.optimizer)
    twins = [start] * len(noises)
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
    """Perturb every parameter."""

    def moved(arrays: list[Array]) -> Iterator[Array]:
        for array in arrays:
            factor = 1 + NOISE_K[str(array.dtype)] * np.finfo(array.dtype).eps * noise.uniform(-1, 1, array.shape)
            yield (array * factor).astype(array.dtype)

    own = state.parameters
    return replace(state, parameters=Parameters(list(moved(own.weights)), list(moved(own.biases))))


def _spread(parameters: Parameters, logits: Array, state: State) -> Spread:
    """Compute the distances of a twin from the reference's state."""
    pairs = zip(parameters.named(), state.parameters.named(), strict=True)
    distances = tuple(float(np.abs(own - expected).max()) for (_, own), (_, expected) in pairs)
    return Spread(distances, *_margin(margins(logits), state.margins))


def _margin(own: Array, expected: Array) -> tuple[float, float]:
    """Compute the largest and the mean difference; 0 with a single class, whose margins are infinite."""
    if np.isinf(expected).all():
        return 0.0, 0.0
    difference = np.abs(own - expected)
    return float(difference.max()), float(difference.mean())
