"""The float64 reference's training run of a workload, and how far a backend may be off at each checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property

import numpy as np

from mnistbench.agreement import rounding
from mnistbench.agreement.checkpoints import State, along, checkpoints
from mnistbench.agreement.twins import ALLOWED, Spread, Twins, trained
from mnistbench.datasets import Dataset, Split
from mnistbench.reference import mlp
from mnistbench.reference.evaluation import score
from mnistbench.reference.parameters import Array, Parameters
from mnistbench.task.workload import Workload


def trajectory_k(iteration: int) -> float:
    """Compute the factor k of the tolerance of parameters after ``iteration`` updates: 40 after 1, 800 from 96 on.

    On the preset "classic", float32 was off by 2 eps after 1 update and by 50 eps after 500. A switched unit added 26
    eps at once, which later iterations amplified to 110. The cap of 800 eps is 2e-13 in float64 and 1e-4 in float32.
    """
    return min(32.0 + 8.0 * iteration, 800.0)


def growth(images: int) -> float:
    """Compute the factor by which k grows for sums over ``images`` images: 1 up to 41,000, 4.9 for a million.

    The error of n sequential additions grows as the square root of n if the rounding errors are independent (Higham,
    Accuracy and Stability of Numerical Algorithms, 2002, section 2.8). k was found on the 41,000 images of the preset
    "classic". With a million, sequential sums reached 2.2 times that tolerance in the float64 loss and 1.9 times in
    the float32 W2.
    """
    return max(1.0, math.sqrt(images / 41_000))


def switching(workload: Workload, eps: float) -> float:
    """Compute how far switched units may move a parameter, relative to its array's largest value.

    A ReLU unit is switched if rounding gives its pre-activation the other sign. A fraction of about eps of the
    pre-activations is undecided at every iteration: on the preset "classic" 24 in float32, and 5e-8 in float64. A
    switched unit moves a parameter by up to alpha / m, and four times that after amplification. None is allowed if
    fewer than one such workload in a thousand is expected to have one; one is allowed if two are equally rare; else
    three. Return 0 for a workload that is not classic: its twins switch units too.
    """
    if not workload.is_classic:
        return 0.0
    expected = workload.iterations * workload.images * sum(workload.network.hidden) * eps
    allowed = 0 if expected <= 1e-3 else 1 if expected <= 0.05 else 3
    return allowed * 4 * workload.learning_rate / workload.images


def tolerance(workload: Workload, iteration: int, dtype: str) -> float:
    """Compute how far rounding in ``dtype`` and switched units may move a parameter up to an iteration, relative to its
    array's largest value; twins, of what is no classic, come on top.
    """
    eps = float(np.finfo(dtype).eps)
    return growth(workload.batch_size) * trajectory_k(iteration) * eps + switching(workload, eps)


def stops_of(workload: Workload) -> set[int]:
    """Return the numbers of iterations after which a trajectory keeps the state: its checkpoints, and one before."""
    stops = checkpoints(workload.iterations)
    return {place for stop in stops for place in (stop - 1, stop) if place >= 0}


class Trajectory:
    """The float64 reference's training run of a workload, computed once for all backends and both dtypes."""

    def __init__(
        self,
        workload: Workload,
        dataset: Dataset,
        initial: Parameters | None = None,
        states: Mapping[int, State] | None = None,
    ) -> None:
        """Train from the ``initial`` parameters, by default those of the workload's seed.

        Args:
            states: States of an earlier training, by iteration; None to train.
        """
        self.workload = workload = workload.with_dtype("float64")
        if initial is None:
            initial = Parameters.initial(workload.network, workload.seed, workload.recipe.initializer)
        self.initial = initial
        self.dataset = dataset
        self.Y = dataset.train.labels
        if states is None:
            run = along(workload, self.batches, self.initial, stops_of(workload))
            states = {state.iteration: state for state in run}
        stops = checkpoints(workload.iterations)
        self.states = [states[k] for k in stops]
        """States at the checkpoints."""
        self.forwards = {k: states[k - 1] for k in stops if k}
        """State before the last update to each checkpoint, which the metrics of its iteration describe."""
        self._twins: dict[str, Twins] = {}
        self._losses: dict[str, float] = {}

    @cached_property
    def batches(self) -> mlp.Batches:
        """The batch of each iteration, in float64 whatever the workload's dtype."""
        train = self.dataset.train
        return mlp.Batches(self.workload.with_dtype("float64"), train.images, train.labels, self.dataset.image_shape)

    @property
    def X(self) -> Array:
        """Images (n, m) of the first iteration."""
        return self.batches(0).X

    def free_images(self) -> None:
        """Free the full batch, 8 bytes per pixel; a later comparison of gradients computes it again."""
        self.__dict__.pop("batches", None)

    def fresh(self) -> Parameters:
        """Return a copy of the initial parameters, which the caller may keep or overwrite."""
        return self.initial.astype(np.float64)

    def drift(self, iteration: int, dtype: str) -> float:
        """Compute how far parameters in ``dtype`` may drift from the reference up to a checkpoint, relative to the
        largest value of their array; the array with the widest tolerance counts.

        On the preset "classic" after 500 updates this is 1.2e-4 in float32 and 1.8e-13 in float64; on "deep" after 461
        it is 0.28 and 4e-13.
        """
        if self.workload.is_classic:
            return self.formula(iteration, dtype)
        (state,) = (state for state in self.states if state.iteration == iteration)
        sizes = [float(np.abs(array).max()) for _, array in state.parameters.named()]
        pairs = zip(self.spread(iteration, dtype).parameters, sizes, strict=True)
        return self.formula(iteration, dtype) + max((spread / size for spread, size in pairs if size), default=0.0)

    def formula(self, iteration: int, dtype: str) -> float:
        """Compute the part of :meth:`drift` that needs no twins, and is all of it on classic workloads."""
        return tolerance(self.workload, iteration, dtype)

    def spread(self, iteration: int, dtype: str) -> Spread:
        """Compute the twins' part of every tolerance, at a checkpoint or one update before; 0 if classic."""
        if self.workload.is_classic:
            return Spread((0.0,) * 2 * len(self.initial.weights), 0.0, 0.0)
        return self.twins(dtype).spreads[iteration] * ALLOWED

    def spread_of_margins(self, split: Split, expected: Array, dtype: str) -> float:
        """Compute the twins' part of the tolerance of a split's final margins ``expected``; 0 if classic."""
        if self.workload.is_classic:
            return 0.0
        return ALLOWED * self.twins(dtype).margin(split, expected, self.workload.network.activation)

    def spread_of_loss(self, dtype: str) -> float:
        """Compute the tolerance of the loss of all training images after the last iteration, which twins set."""
        if dtype not in self._losses:
            self._losses[dtype] = self._spread_of_loss(dtype)
        return self._losses[dtype]

    def _spread_of_loss(self, dtype: str) -> float:
        train, activation = self.dataset.train, self.workload.network.activation
        expected, *twins = (
            score(own.astype(np.float64), train, activation).loss
            for own in (self.states[-1].parameters, *self.twins(dtype).last)
        )
        eps = float(np.finfo(dtype).eps)
        size = growth(len(train)) * rounding.K * eps * (self.states[-1].logit_size + expected)
        return size + ALLOWED * max(abs(own - expected) for own in twins)

    def twins(self, dtype: str) -> Twins:
        """Return the twins in ``dtype``, trained once."""
        if dtype not in self._twins:
            task = self.workload.with_dtype("float64" if dtype == "float64" else "float32")
            states = {state.iteration: state for state in (*self.forwards.values(), *self.states)}
            self._twins[dtype] = trained(task, self.dataset, self.initial, states)
        return self._twins[dtype]
