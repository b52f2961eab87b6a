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
- Beyond the classic no k holds. An optimizer that divides by the size of the gradient moves a parameter by the whole
  learning rate in either direction where a gradient is within rounding of 0; batches of few images weigh a switched
  contribution more; deep networks amplify it. So it is measured: *twins* of the reference (:mod:`.twins`) train in
  the dtype at hand with every parameter moved by some eps before each iteration. As far as they come from the
  reference, a few times, others may come too: in float64 some 1e-13, and 1e-8 at worst.
- Gradients are compared at the same parameters, so nothing accumulates. ``size`` is the mean over images of the
  absolute contributions. Those of pre-activations within rounding of 0 are known, and are allowed for exactly.
- An accuracy may differ by the images whose two largest logits are closer than rounding can tell, and a prediction
  may differ for those images only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

import mnistbench.backends as registry
from mnistbench import reference
from mnistbench.agreement import rounding
from mnistbench.agreement.checkpoints import State, checkpoints, margins
from mnistbench.agreement.outcome import Agreement, Check, compared, same, whole_number
from mnistbench.agreement.trajectory import Trajectory, growth, switching, trajectory_k
from mnistbench.backends import Backend, Metrics, Trainer
from mnistbench.datasets import Dataset, Split
from mnistbench.datasets.copies import load_images
from mnistbench.reference import mlp
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import DTYPES, DType, Workload, preset

__all__ = [
    "Agreement",
    "Check",
    "State",
    "Trajectory",
    "check",
    "check_metrics",
    "check_round",
    "check_trainer",
    "checkpoints",
    "growth",
    "switching",
    "trajectory_k",
    "verify",
]


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
        backends: their names; by default all that can run here and implement the workload.
        dtypes: which to compare each in.
        workload: a preset's name.
        seed: of the initial parameters and the order of the images.
        threads: how many of the host's to use; None for all that the process may.
        progress: called with each outcome as it is known.

    Raises:
        UnknownBackend, BackendUnavailable, UnsupportedWorkload: a backend that was named and cannot do it.
        OptionError: there is no such preset.
    """
    task = preset(workload, "float64", seed)
    chosen = [registry.require(name) for name in (registry.available() if backends is None else backends)]
    if backends is None:
        chosen = [backend for backend in chosen if backend.missing(task) is None]
    for backend in chosen:
        backend.require(task)
    dataset = load_images(task.images, seed)
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
    yield from same("start", handed_out, given.astype(dtype))
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
        test = trajectory.dataset.test
        if test is not None and trajectory.workload.beyond_classic:
            wrong = trainer.predict(test.images) != test.labels
            agreement.errors.append((state.iteration, float(np.mean(wrong))))
        if state is trajectory.states[-1]:
            yield from _prediction_checks(trainer, state, dtype, trajectory)
        # The metrics of iteration k describe the parameters after k updates, and the iteration makes one more.
        metrics = trainer.advance(1)
        agreement.history.append(metrics)
        done = state.iteration + 1
        yield from _metrics_checks(metrics, state, dtype, trajectory)
    yield from same("initial copy", handed_out, given.astype(dtype))
    # Once more, several iterations in one call from a reset, as a timed round has them.
    trainer.reset(given)
    again = next(state for state in reversed(trajectory.states) if state.iteration <= 10)
    yield from _metrics_checks(trainer.advance(again.iteration + 1), again, dtype, trajectory)
    yield from same("caller's copy", given, trajectory.initial)
    trainer.reset(trajectory.fresh())
    yield from same("reset", trainer.parameters(), given.astype(dtype))


def _metrics_checks(metrics: Metrics, state: State, dtype: str, trajectory: Trajectory) -> Iterator[Check]:
    yield whole_number("iteration", state.iteration, metrics.iteration, state.iteration)
    eps = float(np.finfo(dtype).eps)
    tolerance = growth(trajectory.workload.batch_size) * rounding.K * eps * (state.logit_size + state.loss)
    if state.iteration > 0:
        tolerance += switching(trajectory.workload, eps) * state.logit_size / 8
    tolerance += trajectory.spread(state.iteration, dtype).mean_margin
    yield compared("loss", state.iteration, np.array(metrics.loss), np.array(state.loss), np.array(tolerance))
    ties = int((state.margins <= _tie(state, dtype, trajectory)).sum())
    hits, expected = (round(fraction * state.margins.size) for fraction in (metrics.accuracy, state.accuracy))
    yield whole_number("accuracy", state.iteration, hits, expected, allowed=ties)


def _parameter_checks(own: Parameters, state: State, dtype: str, trajectory: Trajectory) -> Iterator[Check]:
    spreads = trajectory.spread(state.iteration, dtype).parameters
    for (name, value), (_, expected), spread in zip(own.named(), state.parameters.named(), spreads, strict=True):
        if value.dtype != dtype:
            raise TypeError(f"{name} is {value.dtype}, not {dtype}")
        size = np.abs(expected).max() + np.abs(expected)
        tolerance = trajectory.formula(state.iteration, dtype) * size + spread
        yield compared(name, state.iteration, value, expected, tolerance)


def _gradient_checks(
    found: Parameters, own: Parameters, iteration: int, trajectory: Trajectory, dtype: str
) -> Iterator[Check]:
    """The gradients against the reference's at the same parameters."""
    batch = trajectory.batches(iteration)
    scale = growth(batch.Y.size)
    expected, allowed = rounding.tolerances(trajectory.workload, own.astype(np.float64), batch, dtype, scale)
    for (name, value), (_, gradient), (_, tolerance) in zip(
        found.named(), expected.named(), allowed.named(), strict=True
    ):
        yield compared(f"d{name}", iteration, value, gradient, tolerance)


def _prediction_checks(trainer: Trainer, state: State, dtype: str, trajectory: Trajectory) -> Iterator[Check]:
    """Each image that the reference can tell apart must get the reference's label."""
    splits: list[Split] = [trajectory.dataset.dev]
    if trajectory.dataset.test is not None:
        splits.append(trajectory.dataset.test)
    activation = trajectory.workload.network.activation
    wrong = 0
    for split in splits:
        logits = mlp.forward(state.parameters, reference.scale_images(split.images), activation)[0][-1]
        predicted = trainer.predict(split.images)
        if predicted.shape != split.labels.shape:
            raise ValueError(f"predictions have shape {predicted.shape}, not {split.labels.shape}")
        differs = predicted != reference.get_predictions(logits)
        tie = max(_tie(state, dtype, trajectory), trajectory.spread_of_margins(split, margins(logits), dtype))
        wrong += int((differs & (margins(logits) > tie)).sum())
    yield whole_number("predictions", state.iteration, wrong, 0)


def _tie(state: State, dtype: str, trajectory: Trajectory) -> float:
    """Two logits closer than this may change places: each may be off as far as the parameters may."""
    formula = 2 * trajectory.formula(state.iteration, dtype) * state.largest_logit
    return formula + trajectory.spread(state.iteration, dtype).margin
