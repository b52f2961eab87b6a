"""Is it still the same computation? Compares a backend with the float64 reference along a whole trajectory.

At several iterations, after exactly that many updates from the same initial parameters: the parameters, the loss and
the accuracy, and at some of them the gradients at the backend's own parameters. At the end also the predictions,
that copies handed out stayed copies, and that a reset starts anew. A check that raises, or that meets a NaN, has
failed.

**Tolerances** derive from the dtype. A value x is held to ``k * eps * (size + |x|)``, where ``size`` is that of the
terms that x was computed from: rounding errors are relative to the terms of a sum, not to a sum near 0.

- Sums over more images than the classic has are given more room; :func:`growth` says how much.
- Parameters: ``size`` is the largest value of the array. The errors of the iterations accumulate and are amplified
  by later ones; :func:`trajectory_k` allows for that. A pre-activation within rounding of 0, to which two
  computations give different signs, switches one image's contribution on in one of them and off in the other;
  :func:`switching` allows for that where it is likely to happen at all, which is in float32 only. The loss then
  moves too, by up to 0.11 of the parameters' relative change times the logits' size in the same runs.
- Gradients are compared at the same parameters, so nothing accumulates. ``size`` is the mean over images of the
  absolute contributions. Those of pre-activations within rounding of 0 are known, and are allowed for exactly.
- An accuracy may differ by the images whose two largest logits are closer than rounding can tell, and a prediction
  may differ for those images only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

import mnistbench.backends as registry
from mnistbench import reference
from mnistbench.backends import Backend, Metrics, Trainer
from mnistbench.datasets import Dataset, Split, load_data
from mnistbench.network import Array, Parameters
from mnistbench.workload import DTYPES, DType, Workload, preset

GRADIENT_K = 32.0
"""Four times the worst seen on MNIST, 7: of plain sums over 4,000 images one after the other."""


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
    5e-4 at most, 10 alpha / m.
    """
    expected = workload.iterations * workload.images * sum(workload.network.hidden) * eps
    allowed = 0 if expected <= 1e-3 else 1 if expected <= 0.05 else 3
    return allowed * 4 * workload.learning_rate / workload.images


def checkpoints(iterations: int) -> list[int]:
    """0, 1, 2, 5, 10, 20, 50, ... up to, and always with, ``iterations``."""
    series = [digit * 10**power for power in range(len(str(iterations))) for digit in (1, 2, 5)]
    return [0, *(k for k in series if k < iterations), iterations]


@dataclass(frozen=True)
class Check:
    """One comparison.

    Attributes:
        quantity: what was compared: "W1", "dW1", "loss", "accuracy", "predictions", ...
        iteration: after how many updates.
        error: the largest difference, in units of its tolerance: up to 1 passes, and NaN does not.
        relative: the largest difference over the largest absolute value of the reference.
    """

    quantity: str
    iteration: int
    error: float
    relative: float

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance."""
        return self.error <= 1

    def __str__(self) -> str:
        return f"{self.quantity} after {self.iteration} updates: {self.error:.2g} of its tolerance"


@dataclass(frozen=True)
class Agreement:
    """The outcome for one backend and dtype.

    Attributes:
        checks: every comparison made, in order.
        history: the backend's own metrics on the way, at about fifty iterations.
        failure: why the comparison could not be finished, else None.
    """

    backend: str
    dtype: str
    checks: list[Check] = field(default_factory=list)
    history: list[Metrics] = field(default_factory=list)
    failure: str | None = None

    @property
    def passed(self) -> bool:
        """Whether everything was compared, and everything was within its tolerance."""
        return self.failure is None and bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def worst(self) -> Check | None:
        """The check nearest to its tolerance or furthest beyond; NaN is furthest."""
        return max(self.checks, key=lambda c: math.inf if math.isnan(c.error) else c.error, default=None)

    def trajectory(self) -> list[tuple[int, float]]:
        """(iteration, largest relative difference of any parameter array then)."""
        largest: dict[int, float] = {}
        for check in self.checks:
            if check.quantity in ("W1", "b1", "W2", "b2"):
                # np.maximum keeps a NaN, which max() may drop.
                largest[check.iteration] = float(np.maximum(largest.get(check.iteration, 0.0), check.relative))
        return sorted(largest.items())

    def summary(self) -> str:
        """One line: what failed first, or how near to its tolerance the worst came."""
        if self.failure is not None:
            return f"not compared: {self.failure}"
        failed = next((check for check in self.checks if not check.passed), None)
        return str(failed or self.worst)


@dataclass(frozen=True)
class State:
    """The reference after ``iteration`` updates.

    Attributes:
        margins: (m,) by how much each image's largest logit exceeds the second largest; inf with one class.
        logit_size: the mean over images of the largest absolute logit.
        largest_logit: the largest absolute logit of all.
    """

    iteration: int
    parameters: Parameters
    loss: float
    accuracy: float
    margins: Array
    logit_size: float
    largest_logit: float


class Trajectory:
    """The float64 reference's way through a workload, computed once for all backends and both dtypes."""

    def __init__(self, workload: Workload, dataset: Dataset) -> None:
        self.workload = workload
        self.initial = Parameters.initial(workload.network, workload.seed)
        self.dataset = dataset
        self.Y = dataset.train.labels
        stops = set(checkpoints(workload.iterations))
        states = list(self._states(stops | {workload.iterations - 1}))
        self.states = [state for state in states if state.iteration in stops]
        """At the checkpoints."""
        self.last_forward = states[-2]
        """What the last iteration's own forward pass sees."""

    @cached_property
    def X(self) -> Array:
        """The training images (n, m)."""
        return reference.scale_images(self.dataset.train.images)

    def free_images(self) -> None:
        """Give up the memory of ``X``, 8 bytes a pixel; a comparison of gradients computes it anew."""
        self.__dict__.pop("X", None)

    def fresh(self) -> Parameters:
        """A copy of the initial parameters, for somebody who may keep or spoil it."""
        return self.initial.astype(np.float64)

    def drift(self, iteration: int, dtype: str) -> float:
        """By how much, relative to the largest value, parameters in ``dtype`` may be off after that many updates."""
        eps = float(np.finfo(dtype).eps)
        return growth(self.workload.images) * trajectory_k(iteration) * eps + switching(self.workload, eps)

    def _states(self, stops: set[int]) -> Iterator[State]:
        workload = self.workload
        arrays = _four(self.initial)
        for iteration in range(workload.iterations + 1):
            W1, _, W2, _ = arrays
            Z1, A1, Z2, A2 = reference.forward_prop(*arrays, self.X)
            if iteration in stops:
                yield State(
                    iteration,
                    _parameters(*arrays),
                    reference.cross_entropy(Z2, self.Y),
                    reference.get_accuracy(reference.get_predictions(A2), self.Y),
                    _margins(Z2),
                    float(np.abs(Z2).max(axis=0).mean()),
                    float(np.abs(Z2).max()),
                )
            gradients = reference.backward_prop(Z1, A1, Z2, A2, W1, W2, self.X, self.Y)
            arrays = reference.update_params(*arrays, *gradients, workload.learning_rate)


def check(
    backend: Backend, workload: Workload, dataset: Dataset, trajectory: Trajectory, threads: int | None = None
) -> Agreement:
    """Start ``backend`` on the workload and compare it with the reference. Never raises what the backend raises."""
    agreement = Agreement(backend.name, workload.dtype)
    try:
        with backend.start(workload, dataset, trajectory.fresh(), threads) as trainer:
            return check_trainer(trainer, agreement, trajectory)
    except Exception as error:  # whatever a faulty backend raises is its failure, not ours
        return _failed(agreement, error)


def check_trainer(trainer: Trainer, agreement: Agreement, trajectory: Trajectory, gradients: bool = True) -> Agreement:
    """Compare a trainer that was just started with the reference; it ends reset to the initial parameters.

    Args:
        gradients: whether to compare them too, which needs the reference's images and most of the time.

    Returns:
        ``agreement`` with the checks made.
    """
    try:
        for check in _checks(trainer, agreement, trajectory, gradients):
            agreement.checks.append(check)
    except Exception as error:
        return _failed(agreement, error)
    return agreement


def verify(
    backends: Sequence[str] | None = None,
    dtypes: Sequence[DType] = DTYPES,
    workload: str = "classic",
    seed: int = 0,
    threads: int | None = None,
    progress: Callable[[Agreement], None] | None = None,
) -> list[Agreement]:
    """Compare backends with the reference on a preset workload and the embedded MNIST.

    Args:
        backends: their names; by default all that can run here.
        dtypes: which to compare each in.
        workload: a preset's name.
        seed: of the initial parameters and the order of the images.
        threads: how many of the host's to use; None for all that the process may.
        progress: called with each outcome as it is known.

    Raises:
        UnknownBackend, BackendUnavailable: a backend that was named and cannot run here.
        OptionError: there is no such preset.
    """
    chosen = [registry.require(name) for name in (registry.available() if backends is None else backends)]
    task = preset(workload, "float64", seed)
    dataset = load_data(seed=seed, train_size=task.images)
    trajectory = Trajectory(task, dataset)
    outcomes = []
    for backend in chosen:
        for dtype in dtypes:
            outcomes.append(check(backend, task.with_dtype(dtype), dataset, trajectory, threads))
            if progress:
                progress(outcomes[-1])
    return outcomes


def check_round(parameters: Parameters, metrics: Metrics, dtype: str, trajectory: Trajectory) -> list[Check]:
    """Compare what one ``advance`` over all iterations returned, and the parameters it left, with the reference's."""
    return [
        *_metrics_checks(metrics, trajectory.last_forward, dtype, trajectory),
        *_parameter_checks(parameters, trajectory.states[-1], dtype, trajectory),
    ]


def check_metrics(metrics: Metrics, state: State, dtype: str, trajectory: Trajectory) -> list[Check]:
    """Compare the metrics of the iteration that starts from ``state``."""
    return list(_metrics_checks(metrics, state, dtype, trajectory))


def _failed(agreement: Agreement, error: Exception) -> Agreement:
    return replace(agreement, failure=f"{type(error).__name__}: {' '.join(str(error).split())}")


def _checks(trainer: Trainer, agreement: Agreement, trajectory: Trajectory, gradients: bool) -> Iterator[Check]:
    """Every comparison, in the order of the iterations; the metrics on the way go to the agreement's history."""
    dtype = agreement.dtype
    every = max(1, trajectory.workload.iterations // 50)
    # The reference needs as long for a comparison of gradients as for some ten iterations.
    gradient_stops = {0, 1, 10, 100, trajectory.workload.iterations} if gradients else set()
    given = trajectory.fresh()
    handed_out = trainer.parameters()
    yield from _same("start", handed_out, given.astype(dtype))
    done = 0
    for state in trajectory.states:
        while done < state.iteration:
            step = min(every, state.iteration - done)
            agreement.history.append(trainer.advance(step))
            done += step
        own = trainer.parameters()
        yield from _parameter_checks(own, state, dtype, trajectory)
        if state.iteration in gradient_stops:
            yield from _gradient_checks(trainer.gradients(), own, state.iteration, trajectory, dtype)
        if state is trajectory.states[-1]:
            yield from _prediction_checks(trainer, state, dtype, trajectory)
        # The metrics of iteration k describe the parameters after k updates, and the iteration makes one more.
        metrics = trainer.advance(1)
        agreement.history.append(metrics)
        done = state.iteration + 1
        yield from _metrics_checks(metrics, state, dtype, trajectory)
    yield from _same("initial copy", handed_out, given.astype(dtype))
    # Once more, several iterations in one call from a reset, as a timed round has them.
    trainer.reset(given)
    again = next(state for state in reversed(trajectory.states) if state.iteration <= 10)
    yield from _metrics_checks(trainer.advance(again.iteration + 1), again, dtype, trajectory)
    yield from _same("caller's copy", given, trajectory.initial)
    trainer.reset(trajectory.fresh())
    yield from _same("reset", trainer.parameters(), given.astype(dtype))


def _metrics_checks(metrics: Metrics, state: State, dtype: str, trajectory: Trajectory) -> Iterator[Check]:
    yield _whole_number("iteration", state.iteration, metrics.iteration, state.iteration)
    eps = float(np.finfo(dtype).eps)
    tolerance = growth(trajectory.workload.images) * GRADIENT_K * eps * (state.logit_size + state.loss)
    if state.iteration > 0:
        tolerance += switching(trajectory.workload, eps) * state.logit_size / 8
    yield _check("loss", state.iteration, np.array(metrics.loss), np.array(state.loss), np.array(tolerance))
    ties = int((state.margins <= _tie(state, dtype, trajectory)).sum())
    hits, expected = (round(fraction * trajectory.Y.size) for fraction in (metrics.accuracy, state.accuracy))
    yield _whole_number("accuracy", state.iteration, hits, expected, allowed=ties)


def _parameter_checks(own: Parameters, state: State, dtype: str, trajectory: Trajectory) -> Iterator[Check]:
    for (name, value), (_, expected) in zip(own.named(), state.parameters.named(), strict=True):
        if value.dtype != dtype:
            raise TypeError(f"{name} is {value.dtype}, not {dtype}")
        size = np.abs(expected).max() + np.abs(expected)
        yield _check(name, state.iteration, value, expected, trajectory.drift(state.iteration, dtype) * size)


def _gradient_checks(
    gradients: Parameters, own: Parameters, iteration: int, trajectory: Trajectory, dtype: str
) -> Iterator[Check]:
    """The gradients against the reference's at the same parameters."""
    limits = np.finfo(dtype)
    eps = float(limits.eps)
    X, Y = trajectory.X, trajectory.Y
    W1, b1, W2, b2 = _four(own.astype(np.float64))
    Z1, A1, Z2, A2 = reference.forward_prop(W1, b1, W2, b2, X)
    expected = reference.backward_prop(Z1, A1, Z2, A2, W1, W2, X, Y)
    # The sizes of the terms. dZ2 = A2 - Y is the difference of two values up to 1, each with its own rounding; A2
    # also moves with Z2 by A2 (1 - A2), and Z1 and Z2 are themselves sums that may have cancelled. The rounding
    # errors of those many terms cancel too, so an eighth of the bound is allowed.
    Z1_size = np.abs(W1) @ X + np.abs(b1)
    Z2_size = np.abs(W2) @ (Z1_size * (Z1 > 0)) + np.abs(b2)
    dZ2 = A2 + reference.one_hot(Y, A2.shape[0]) + A2 * (1 - A2) * Z2_size.max(axis=0) / 8
    dZ2 += float(limits.tiny) / eps  # a probability below the smallest number of the dtype is 0 there
    dZ1 = (np.abs(W2).T @ dZ2) * (Z1 > 0)
    dW2 = dZ2 @ (A1 + Z1_size * (Z1 > 0) / 8).T
    sizes = (dZ1 @ X.T, dZ1.sum(axis=1, keepdims=True), dW2, dZ2.sum(axis=1, keepdims=True))
    undecided = np.abs(Z1) <= GRADIENT_K * eps * Z1_size
    switched = np.abs(W2.T @ (A2 - reference.one_hot(Y, A2.shape[0]))) * undecided
    slacks = (switched @ X.T, switched.sum(axis=1, keepdims=True), 0.0, 0.0)
    arrays = zip(gradients.named(), expected, sizes, slacks, strict=True)
    for (name, value), gradient, size, slack in arrays:
        k = growth(Y.size) * GRADIENT_K
        tolerance = k * eps * (size / Y.size + np.abs(gradient)) + slack / Y.size
        yield _check(f"d{name}", iteration, value, gradient, tolerance)


def _prediction_checks(trainer: Trainer, state: State, dtype: str, trajectory: Trajectory) -> Iterator[Check]:
    """Each image that the reference can tell apart must get the reference's label."""
    splits: list[Split] = [trajectory.dataset.dev]
    if trajectory.dataset.test is not None:
        splits.append(trajectory.dataset.test)
    wrong = 0
    for split in splits:
        Z2 = reference.forward_prop(*_four(state.parameters), reference.scale_images(split.images))[2]
        predicted = trainer.predict(split.images)
        if predicted.shape != split.labels.shape:
            raise ValueError(f"predictions have shape {predicted.shape}, not {split.labels.shape}")
        differs = predicted != reference.get_predictions(Z2)
        wrong += int((differs & (_margins(Z2) > _tie(state, dtype, trajectory))).sum())
    yield _whole_number("predictions", state.iteration, wrong, 0)


def _tie(state: State, dtype: str, trajectory: Trajectory) -> float:
    """Two logits closer than this may change places: each may be off as far as the parameters may."""
    return 2 * trajectory.drift(state.iteration, dtype) * state.largest_logit


def _margins(Z2: Array) -> Array:
    if Z2.shape[0] == 1:
        return np.full(Z2.shape[1], np.inf)
    second, first = np.partition(Z2, -2, axis=0)[-2:]
    margins: Array = first - second
    return margins


def _check(quantity: str, iteration: int, value: Array, expected: Array, tolerance: Array) -> Check:
    """A check of floating-point values; a different shape is a failure."""
    if value.shape != expected.shape:
        raise ValueError(f"{quantity} has shape {value.shape}, not {expected.shape}")
    difference = np.abs(value.astype(np.float64) - expected)
    # A difference of 0 is within any tolerance, also one of 0.
    ratio = np.divide(difference, tolerance, out=np.where(difference == 0, 0.0, np.inf), where=tolerance > 0)
    largest = float(np.abs(expected).max())
    relative = float(difference.max()) / largest if largest else float(difference.max())
    return Check(quantity, iteration, float(ratio.max()), relative)


def _whole_number(quantity: str, iteration: int, value: int, expected: int, allowed: int = 0) -> Check:
    """A check of a count that may be off by ``allowed``."""
    off = abs(value - expected)
    return Check(quantity, iteration, off / allowed if allowed else (math.inf if off else 0.0), float(off))


def _same(quantity: str, own: Parameters, expected: Parameters) -> Iterator[Check]:
    """A check of parameters that must be equal bit for bit."""
    pairs = zip(own.named(), expected.named(), strict=True)
    equal = all(np.array_equal(value, wanted) for (_, value), (_, wanted) in pairs)
    yield _whole_number(quantity, 0, 0 if equal else 1, 0)


def _four(parameters: Parameters) -> tuple[Array, Array, Array, Array]:
    (W1, W2), (b1, b2) = parameters.weights, parameters.biases
    return W1, b1, W2, b2


def _parameters(W1: Array, b1: Array, W2: Array, b2: Array) -> Parameters:
    return Parameters([W1, W2], [b1, b2])
