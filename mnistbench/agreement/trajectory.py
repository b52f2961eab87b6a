"""The float64 reference's way through a workload, and how far from it parameters may be."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np

from mnistbench.agreement.checkpoints import along, checkpoints
from mnistbench.agreement.twins import ALLOWED, Spread, Twins, trained
from mnistbench.datasets import Dataset, Split
from mnistbench.reference import mlp
from mnistbench.reference.parameters import Array, Parameters
from mnistbench.task.workload import Workload


def trajectory_k(iteration: int) -> float:
    """k for parameters after that many updates.

    On the classic workload float32 came to 2 eps after 1 update and grew to 50 after 500. A switched contribution
    added 26 at once, which later iterations amplified to 110. The cap holds float64 to 2e-13, float32 to 1e-4.
    """
    return min(32.0 + 8.0 * iteration, 800.0)


def growth(images: int) -> float:
    """By how much k is larger for sums over so many images than over the classic's, from which it was found.

    The errors of n additions one after the other grow as the square root of n where they are independent (Higham,
    Accuracy and Stability of Numerical Algorithms, 2002, section 2.8). Plain sums over a million images came to 2.2
    times the classic's tolerance in the loss in float64, and to 1.9 times in W2 in float32.
    """
    return max(1.0, math.sqrt(images / 41_000))


def switching(workload: Workload, eps: float) -> float:
    """How far switched contributions may move a parameter: each of them by up to alpha / m, amplified four times.

    Pre-activations spread over a range of about 1, so that a fraction of about eps of them is undecided at every
    iteration. Where fewer than one in a thousand such workloads is expected to meet one, none is allowed, and one
    where two in the same are as rare; else three. From 100 seeds, 50 iterations on 2,000 images moved a parameter by
    5e-4 at most, 10 alpha / m. Beyond the classic it is measured with all else.
    """
    if workload.beyond_classic:
        return 0.0
    expected = workload.iterations * workload.images * sum(workload.network.hidden) * eps
    allowed = 0 if expected <= 1e-3 else 1 if expected <= 0.05 else 3
    return allowed * 4 * workload.learning_rate / workload.images


class Trajectory:
    """The float64 reference's way through a workload, computed once for all backends and both dtypes."""

    def __init__(self, workload: Workload, dataset: Dataset) -> None:
        self.workload = workload = workload.with_dtype("float64")
        self.initial = Parameters.initial(workload.network, workload.seed, workload.recipe.initializer)
        self.dataset = dataset
        self.Y = dataset.train.labels
        stops = set(checkpoints(workload.iterations))
        states = list(along(workload, self.batches, self.initial, stops | {workload.iterations - 1}))
        self.states = [state for state in states if state.iteration in stops]
        """At the checkpoints."""
        self.last_forward = states[-2]
        """What the last iteration's own forward pass sees."""
        self._twins: dict[str, Twins] = {}

    @cached_property
    def batches(self) -> mlp.Batches:
        """What each iteration computes with, in float64 whatever the workload's dtype."""
        train = self.dataset.train
        return mlp.Batches(self.workload.with_dtype("float64"), train.images, train.labels, self.dataset.image_shape)

    @property
    def X(self) -> Array:
        """The first iteration's images (n, m)."""
        return self.batches(0).X

    def free_images(self) -> None:
        """Give up the memory of a full batch, 8 bytes a pixel; a comparison of gradients computes it anew."""
        self.__dict__.pop("batches", None)

    def fresh(self) -> Parameters:
        """A copy of the initial parameters, for somebody who may keep or spoil it."""
        return self.initial.astype(np.float64)

    def drift(self, iteration: int, dtype: str) -> float:
        """By how much, relative to its largest value, a parameter array in ``dtype`` may be off at a checkpoint: the
        one that is given the most room."""
        if self.workload.beyond_classic is None:
            return self.formula(iteration, dtype)
        (state,) = (state for state in self.states if state.iteration == iteration)
        sizes = [float(np.abs(array).max()) for _, array in state.parameters.named()]
        pairs = zip(self.spread(iteration, dtype).parameters, sizes, strict=True)
        return self.formula(iteration, dtype) + max((spread / size for spread, size in pairs if size), default=0.0)

    def formula(self, iteration: int, dtype: str) -> float:
        """The classic's part of it, which needs no twins."""
        eps = float(np.finfo(dtype).eps)
        return growth(self.workload.batch_size) * trajectory_k(iteration) * eps + switching(self.workload, eps)

    def spread(self, iteration: int, dtype: str) -> Spread:
        """How much further off anything may be, at a checkpoint or before the last update: the twins' part."""
        if self.workload.beyond_classic is None:
            return Spread((0.0,) * 2 * len(self.initial.weights), 0.0, 0.0)
        return self.twins(dtype).spreads[iteration] * ALLOWED

    def spread_of_margins(self, split: Split, expected: Array, dtype: str) -> float:
        """How far the margins of a split's images may be off in the end, beyond the formula."""
        if self.workload.beyond_classic is None:
            return 0.0
        return ALLOWED * self.twins(dtype).margin(split, expected, self.workload.network.activation)

    def twins(self, dtype: str) -> Twins:
        """The twins in that dtype, computed once."""
        if dtype not in self._twins:
            task = self.workload.with_dtype("float64" if dtype == "float64" else "float32")
            states = {state.iteration: state for state in (*self.states, self.last_forward)}
            self._twins[dtype] = trained(task, self.dataset, self.initial, states)
        return self._twins[dtype]
