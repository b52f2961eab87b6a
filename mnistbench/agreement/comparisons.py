"""The comparisons of a trainer's values with the reference's, each with its tolerance."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from mnistbench import reference
from mnistbench.agreement import rounding
from mnistbench.agreement.checkpoints import State, margins
from mnistbench.agreement.outcome import Agreement, Check, compared, same, whole_number
from mnistbench.agreement.trajectory import Trajectory, growth, switching
from mnistbench.backends.base import Metrics, Trainer
from mnistbench.datasets import Split
from mnistbench.reference import mlp
from mnistbench.reference.evaluation import score
from mnistbench.reference.parameters import Parameters


def comparisons(
    trainer: Trainer, agreement: Agreement, trajectory: Trajectory, gradients: bool = True
) -> Iterator[Check]:
    """Make every comparison of a newly started trainer, in the order of the iterations, and leave it reset.

    Args:
        agreement: Where states and test errors on the way are kept.
        gradients: Whether to compare gradients too, which takes most of the time and the reference's images.
    """
    dtype = agreement.dtype
    every = max(1, trajectory.workload.iterations // 50)
    # Comparing gradients takes the reference as long as about ten iterations.
    gradient_stops = {0, 1, 10, 100, trajectory.workload.iterations} if gradients else set()
    given = trajectory.fresh()
    handed_out = trainer.parameters()
    yield from same("start", handed_out, given.astype(dtype))
    done = 0
    for state in trajectory.states:
        while done < state.iteration:
            step = min(every, state.iteration - done)
            done += step
            trainer.advance(step)
        own = agreement.states[state.iteration] = trainer.parameters()
        yield from _parameter_checks(own, state, dtype, trajectory)
        bounds = _bounds(own, state.iteration, trajectory, dtype) if state.iteration in gradient_stops else None
        if bounds is not None:
            yield from _gradient_checks(trainer.gradients(), bounds, state.iteration)
        test = trajectory.dataset.test
        if test is not None and not trajectory.workload.is_classic:
            wrong = trainer.predict(test.images) != test.labels
            agreement.errors.append((state.iteration, float(np.mean(wrong))))
        last = state is trajectory.states[-1]
        if last:
            yield from _prediction_checks(trainer, state, dtype, trajectory)
            yield from _training_loss_checks(own, state, dtype, trajectory)
        # The metrics of iteration k describe the parameters after k updates; the iteration then makes one more.
        metrics = trainer.advance(1)
        done = state.iteration + 1
        descends = trajectory.workload.recipe.optimizer.name == "gd" and trajectory.workload.rate(state.iteration) > 0
        if bounds is not None and descends:
            yield from _step_checks(own, trainer.parameters(), bounds, state.iteration, trajectory, dtype)
        yield from _metrics_checks(metrics, state, dtype, trajectory)
    yield from same("initial copy", handed_out, given.astype(dtype))
    # Repeat several iterations in one call after a reset, as a timed round does.
    trainer.reset(given)
    again = next(state for state in reversed(trajectory.states) if state.iteration <= 10)
    yield from _metrics_checks(trainer.advance(again.iteration + 1), again, dtype, trajectory)
    yield from same("caller's copy", given, trajectory.initial)
    trainer.reset(trajectory.fresh())
    yield from same("reset", trainer.parameters(), given.astype(dtype))


def _metrics_checks(metrics: Metrics, state: State, dtype: str, trajectory: Trajectory) -> Iterator[Check]:
    eps = float(np.finfo(dtype).eps)
    tolerance = growth(trajectory.workload.batch_size) * rounding.K * eps * (state.logit_size + state.loss)
    if state.iteration > 0:
        tolerance += switching(trajectory.workload, eps) * state.logit_size / 8
    tolerance += trajectory.spread(state.iteration, dtype).mean_margin
    yield compared("loss", state.iteration, np.array(metrics.loss), np.array(state.loss), np.array(tolerance))
    hits, expected = (round(fraction * state.margins.size) for fraction in (metrics.accuracy, state.accuracy))
    yield _hits_check(state, abs(hits - expected), _tie(state, dtype, trajectory))


def _hits_check(state: State, off: int, tie: float) -> Check:
    """Check that ``off`` images may be decided otherwise: that as many have margins of ``tie`` or less."""
    margins, needed = state.margins, 0.0
    if off:
        needed = float(np.partition(margins, off - 1)[off - 1]) if off <= margins.size else math.inf
    return Check("accuracy", state.iteration, needed / tie if tie else math.inf if needed else 0.0, float(off))


def _parameter_checks(own: Parameters, state: State, dtype: str, trajectory: Trajectory) -> Iterator[Check]:
    spreads = trajectory.spread(state.iteration, dtype).parameters
    for (name, value), (_, expected), spread in zip(own.named(), state.parameters.named(), spreads, strict=True):
        if value.dtype != dtype:
            raise TypeError(f"{name} is {value.dtype}, not {dtype}")
        size = np.abs(expected).max() + np.abs(expected)
        tolerance = trajectory.formula(state.iteration, dtype) * size + spread
        yield compared(name, state.iteration, value, expected, tolerance)


Bounds = tuple[Parameters, Parameters]
"""The reference's gradients at a trainer's parameters, and their tolerances."""


def _bounds(own: Parameters, iteration: int, trajectory: Trajectory, dtype: str) -> Bounds:
    """Compute the reference's gradients of an iteration at a trainer's parameters."""
    batch = trajectory.batches(iteration)
    return rounding.tolerances(trajectory.workload, own.astype(np.float64), batch, dtype, growth(batch.Y.size))


def _gradient_checks(found: Parameters, bounds: Bounds, iteration: int) -> Iterator[Check]:
    """Compare gradients with the reference's at the same parameters."""
    expected, allowed = bounds
    for (name, value), (_, gradient), (_, tolerance) in zip(
        found.named(), expected.named(), allowed.named(), strict=True
    ):
        yield compared(f"d{name}", iteration, value, gradient, tolerance)


def _step_checks(
    before: Parameters, after: Parameters, bounds: Bounds, iteration: int, trajectory: Trajectory, dtype: str
) -> Iterator[Check]:
    """Compare the step of an update by gradient descent, divided by its rate, with the reference's gradients.

    The gradients that a trainer shows may be of another program than those that it trains with; these are not.
    """
    eps, rate = float(np.finfo(dtype).eps), trajectory.workload.rate(iteration)
    expected, allowed = bounds
    for (name, own), moved, gradient, tolerance in zip(
        before.named(), after.arrays(), expected.arrays(), allowed.arrays(), strict=True
    ):
        start = own.astype(np.float64)
        rounded = 2 * eps * (np.abs(start) + rate * np.abs(gradient)) / rate  # the product and the subtraction
        yield compared(f"step {name}", iteration, (start - moved) / rate, gradient, tolerance + rounded)


def _training_loss_checks(own: Parameters, state: State, dtype: str, trajectory: Trajectory) -> Iterator[Check]:
    """Compare the loss of all training images, which the metrics of a classic training are already.

    It sums up what every parameter has come to: trainings that end elsewhere within wide tolerances differ in it.
    """
    if trajectory.workload.is_classic:
        return
    train, activation = trajectory.dataset.train, trajectory.workload.network.activation
    found, expected = (score(one, train, activation).loss for one in (own, state.parameters))
    allowed = trajectory.spread_of_loss(dtype)
    yield compared("training loss", state.iteration, np.array(found), np.array(expected), np.array(allowed))


def _prediction_checks(trainer: Trainer, state: State, dtype: str, trajectory: Trajectory) -> Iterator[Check]:
    """Check that every image which is not a tie gets the reference's label."""
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
    """Margin up to which an image is a tie: each of two logits may be off as far as the parameters may."""
    formula = 2 * trajectory.formula(state.iteration, dtype) * state.largest_logit
    return formula + trajectory.spread(state.iteration, dtype).margin


def check_round(
    parameters: Parameters,
    metrics: Metrics,
    dtype: str,
    trajectory: Trajectory,
    updates: int | None = None,
    ends: tuple[State, State] | None = None,
) -> list[Check]:
    """Compare the metrics that the last ``advance`` returned, and the parameters after it.

    Args:
        updates: Number of updates made, which is one of the checkpoints; None for all iterations.
        ends: Reference's states before and after the last update, if the training began elsewhere than the trajectory.
    """
    if ends is None:
        done = trajectory.workload.iterations if updates is None else updates
        (state,) = (state for state in trajectory.states if state.iteration == done)
        ends = trajectory.forwards[done], state
    return [
        *_metrics_checks(metrics, ends[0], dtype, trajectory),
        *_parameter_checks(parameters, ends[1], dtype, trajectory),
    ]


def check_training_loss(own: Parameters, end: State, dtype: str, trajectory: Trajectory) -> list[Check]:
    """Compare the loss of all training images with that of the reference's ``end`` from the same initial parameters."""
    return list(_training_loss_checks(own, end, dtype, trajectory))


def check_update(
    before: Parameters, after: Parameters, metrics: Metrics, iteration: int, dtype: str, trajectory: Trajectory
) -> list[Check]:
    """Compare the update of an iteration of a classic training with the reference's from the same parameters.

    Only a classic training has no state but its parameters. The images are computed in blocks, so that they need not
    fit the memory in float64.
    """
    task, train = trajectory.workload, trajectory.dataset.train
    assert task.is_classic, "an optimizer's moments would be needed too"
    own = before.astype(np.float64)
    bounds = tuple(Parameters.from_arrays(np.zeros(array.shape) for array in own.arrays()) for _ in range(2))
    logits = np.empty((task.network.outputs, len(train)))
    for first in range(0, len(train), _BLOCK):
        part = slice(first, first + _BLOCK)
        batch = mlp.Batch(reference.scale_images(train.images[part]), train.labels[part], None)
        logits[:, part] = mlp.forward(own, batch.X, task.network.activation)[0][-1]
        of_block = rounding.tolerances(task, own, batch, dtype, growth(len(train)))
        for total, mean in zip(bounds, of_block, strict=True):
            for array, values in zip(total.arrays(), mean.arrays(), strict=True):
                array += values * (batch.Y.size / len(train))
    state = State.of(1, own, logits, train.labels)  # an update is all that has accumulated since
    checks = [
        *_metrics_checks(metrics, state, dtype, trajectory),
        *_step_checks(before, after, (bounds[0], bounds[1]), 0, trajectory, dtype),
    ]
    return [replace(check, iteration=iteration) for check in checks]


_BLOCK = 8_192
"""Number of images that :func:`check_update` computes at a time."""
