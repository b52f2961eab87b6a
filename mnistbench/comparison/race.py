"""Rounds of a comparison, and the checks of each: fresh weights, all the work, inside the clock, a possible rate.

The hidden units have another order in every round: permuting them does not change what the network computes, so the
reference's final parameters are known in any order, but those kept from an earlier round are wrong. With dropout, which
depends on the units' numbers, the order stays. docs/honesty.md lists the checks.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnistbench import words
from mnistbench.agreement import Check, Trajectory, check_metrics, check_round, check_trainer
from mnistbench.backends import Trainer
from mnistbench.comparison import Comparison, Contender, Progress, processes
from mnistbench.machine.bounds import beside_limits
from mnistbench.results.row import speed_of
from mnistbench.task.workload import Workload
from mnistbench.timing import noise
from mnistbench.timing.clock import timed
from mnistbench.training.scores import final_scores

Racing = Sequence[tuple[Contender, Trainer]]

SETTLE = 0.1
"""Seconds of rest before each run, in which threads of the previous one stop spinning."""

EARLY = 0.05
"""Fraction of a round; a trainer whose parameters come later than that, in the median round, returned early."""

EARLY_FLOOR = 5e-4
"""Seconds by which they may always be late: a first copy from a device, a cold cache."""

PREPARING = 0.5
"""Fraction of a round; a trainer whose reset takes longer than that, in the median round, works ahead in it."""

PREPARING_FLOOR = 5e-3
"""Seconds that a reset may always take: copies to a device, or through a pipe."""


@dataclass
class _Asides:
    """Seconds outside the clock in each round: of the reset, and by which the parameters were late."""

    reset: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)


def check_all(comparison: Comparison, racing: Racing, progress: Progress) -> None:
    """Compare every trainer with the reference along the whole trajectory, which is also the warm-up."""
    for contender, trainer in racing:
        contender.state = "is checked"
        progress(comparison)
        contender.agreement = check_trainer(trainer, contender.agreement, _trajectory(comparison))
        if contender.agreement.passed:
            _guarded(_describe, contender, trainer)
        else:
            contender.problem = f"disagrees with the reference: {contender.agreement.summary()}"
        contender.state = "out" if contender.problem else "ready"
        progress(comparison)


def run(comparison: Comparison, racing: Racing, watch: noise.Watch, progress: Progress) -> None:
    """Run all rounds. Progress is reported between rounds only, since drawing would slow a round on few cores."""
    order = random.Random(comparison.workload.seed)
    units = np.random.default_rng(comparison.workload.seed)
    asides = {contender.label: _Asides() for contender, _ in racing}
    for _ in range(comparison.rounds):
        orders = _orders(comparison.workload, units)
        for contender, trainer in order.sample(list(racing), len(racing)):
            if contender.problem is None:
                contender.state = "runs"
                progress(comparison)
                watch.look()
                _guarded(_run, contender, trainer, comparison, orders, asides[contender.label])
                contender.state = "out" if contender.problem else "ready"
                progress(comparison)
    for contender, _ in racing:
        if contender.problem is None:
            contender.problem = _outside_of_the_clock(contender.samples, asides[contender.label])


def finish(comparison: Comparison, racing: Racing) -> None:
    """Score the trained networks, which takes the forward pass of one iteration more."""
    for contender, trainer in racing:
        if contender.problem is None:
            _guarded(_finish, contender, trainer, comparison)
            contender.state = "out" if contender.problem else "finished"


def _guarded(action: Callable[..., None], contender: Contender, *arguments: Any) -> None:
    """Call a function of a contender; an exception takes it out of the race."""
    try:
        action(contender, *arguments)
    except Exception as error:
        contender.problem = words.exception(error)


def _describe(contender: Contender, trainer: Trainer) -> None:
    contender.description = trainer.describe()


def _trajectory(comparison: Comparison) -> Trajectory:
    assert comparison.trajectory is not None, "the reference comes before the race"
    return comparison.trajectory


def _run(
    contender: Contender, trainer: Trainer, comparison: Comparison, orders: list[NDArray[np.int64]], asides: _Asides
) -> None:
    """Run one round of one contender."""
    trajectory, iterations = _trajectory(comparison), comparison.workload.iterations
    initial = trajectory.fresh().reordered(orders)
    _, seconds = timed(lambda: trainer.reset(initial))
    asides.reset.append(seconds)
    expected = initial.astype(contender.dtype)
    if any((a != b).any() for (_, a), (_, b) in zip(trainer.parameters().named(), expected.named(), strict=True)):
        contender.problem = "reset did not give the initial parameters"
        return
    time.sleep(SETTLE)
    found = processes.timed_round(trainer, iterations)
    if found.seconds <= 0:
        contender.problem = "a round took no time"
        return
    contender.samples.append(found.seconds)
    asides.late.append(found.late)
    contender.accuracy = found.metrics.accuracy
    own = found.parameters.reordered([np.argsort(order) for order in orders])
    _require(contender, "a timed round", check_round(own, found.metrics, contender.dtype, trajectory))


def _orders(workload: Workload, random: np.random.Generator) -> list[NDArray[np.int64]]:
    """Draw the order of each hidden layer's units in a round; the pixels keep theirs."""
    stay = any(workload.recipe.dropout)
    hidden = [np.arange(units) if stay else random.permutation(units) for units in workload.network.hidden]
    return [np.arange(workload.network.inputs), *hidden]


def _require(contender: Contender, what: str, checks: list[Check]) -> None:
    contender.agreement.checks.extend(checks)
    if failed := [check for check in checks if not check.passed]:
        contender.problem = f"{what} disagrees with the reference: {failed[0]}"


def _outside_of_the_clock(samples: Sequence[float], asides: _Asides) -> str | None:
    """Say which work was done where no clock ran, or return None."""
    middle, late, reset = (statistics.median(seconds) for seconds in (samples, asides.late, asides.reset))
    if late > max(EARLY_FLOOR, EARLY * middle):
        more = words.seconds(late)
        return f"advance returned before its work was done: reading the parameters then took {more} more"
    if reset > max(PREPARING_FLOOR, PREPARING * middle):
        took, a_round = words.seconds(reset), words.seconds(middle)
        return f"reset took {took}, and a round {a_round}: work was done outside the clock"
    return None


def _finish(contender: Contender, trainer: Trainer, comparison: Comparison) -> None:
    trajectory = _trajectory(comparison)
    contender.final, last = final_scores(trainer, comparison.workload, trajectory.dataset)
    contender.accuracy = contender.final.train_accuracy
    checks = check_metrics(last, trajectory.states[-1], contender.dtype, trajectory)
    _require(contender, "the iteration after the last round", checks)
    # Update the GPU's clocks only: other contenders' libraries may have changed the rest.
    assert contender.description is not None, "it was described before it ran"
    contender.description = replace(contender.description, gpu=trainer.describe().gpu)
    if contender.problem is None:
        task, seconds = comparison.workload.with_dtype(contender.dtype), statistics.median(contender.samples)
        contender.problem = beside_limits(speed_of(task, contender.description, seconds))[1]
