"""Comparison of what a row says of its task, its scores and its agreement with what is known of them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from mnistbench import words
from mnistbench.agreement import tolerance
from mnistbench.results.merging.embedded import LEAST_ERROR, TEST_IMAGES, embedded, is_embedded, not_of_images
from mnistbench.results.reading import quoted
from mnistbench.results.row import Row
from mnistbench.results.storage import SCALING
from mnistbench.task.presets import PRESETS
from mnistbench.task.workload import Workload

_MOST_TOLERANCE = 10.0
"""Largest tolerance of a relative error that is believed; that of "deep" in float32 is 1.3."""

_TIMES_TODAY = 2.0
"""Largest tolerance of a classic that is believed, as a multiple of today's."""

_APART = 5e-3
"""Largest difference of the test errors of two trainings that rounding alone tells apart: of the compared one, and of
the one whose scores are stored."""

_WORST = re.compile(r".* after (\d+) updates: (\S+) of its tolerance")


def agreement(row: Row) -> Iterator[str]:
    """Yield what contradicts the agreement with the reference that a row claims."""
    found, iterations = row.agreement, row.workload.iterations
    if row.validated and not found.passed:
        yield "validated is true, and agreement, passed is false"
    if not found.passed:
        return
    # A classic's tolerance grows from checkpoint to checkpoint, others' may fall: theirs is known of the last alone.
    for iteration, error in found.trajectory if row.workload.is_classic else found.trajectory[-1:]:
        if error > found.tolerance:
            of = f"{words.relative(error)} of {words.relative(found.tolerance)}"
            yield f"agreement, passed is true, and the error after {words.counted(iteration, 'iteration')} is {of}"
    worst = _WORST.fullmatch(found.summary)
    if worst is None:
        yield f"agreement, summary is {quoted(found.summary)}, and does not name the worst comparison"
    elif not _is_share(worst[2]):
        yield f"agreement, passed is true, and its summary says: {words.visible(found.summary)}"
    if row.validated and not found.trajectory:
        yield "agreement, trajectory is empty, and validated is true"
    for name, points in (("agreement, trajectory", found.trajectory), ("errors", row.errors)):
        # The scaling benchmark compares no more than the first iterations.
        if row.validated and row.size is None and points and points[-1][0] != iterations:
            yield f"{name} ends after {points[-1][0]:,} of {words.counted(iterations, 'iteration')}"
    if found.tolerance > (most := _most_tolerance(row)):
        yield f"agreement, tolerance is {words.relative(found.tolerance)}, more than {words.relative(most)}"


def _is_share(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False


def _most_tolerance(row: Row) -> float:
    """Return the largest tolerance of a relative error that is believed."""
    workload, trajectory = row.workload, row.agreement.trajectory
    if not workload.is_classic:
        return _MOST_TOLERANCE
    # The scaling benchmark may compare more iterations than it times.
    last = max(workload.iterations, trajectory[-1][0] if trajectory else 0)
    today = tolerance(replace(workload, iterations=last), last, workload.dtype)
    return min(_MOST_TOLERANCE, _TIMES_TODAY * today)


def scores(row: Row) -> Iterator[str]:
    """Yield scores that no parameters have, or that are not those of the checkpoints."""
    final, errors = row.final, row.errors
    if final is None:
        return
    test = final.test_accuracy
    if problem := impossible_loss(final.loss, final.train_accuracy):
        yield f"final, {problem}"
    last, at_last = errors[-1] if errors else (0, 0.0)
    if test is not None and last == row.workload.iterations and abs(at_last - (1 - test)) > _APART:
        yield f"errors end at {at_last:.6g}, where final, test_accuracy is {test:.6g}"
    if is_embedded(row.workload):
        told = [("final, train_accuracy", final.train_accuracy, row.workload.images)]
        told += [] if test is None else [("final, test_accuracy", test, TEST_IMAGES)]
        told += [("errors", error, TEST_IMAGES) for _, error in errors]
        yield from filter(None, (not_of_images(*one) for one in told))
        if test is not None and 1 - test < LEAST_ERROR:
            yield f"final, test_accuracy is {test:.6g}, which no network reaches"


def impossible_loss(loss: float, accuracy: float) -> str | None:
    """Describe in words a mean cross-entropy that a share of correct answers rules out, or return None.

    An image that is classified wrongly has another class at least as probable, so its own has at most 1/2.
    """
    least = (1 - accuracy) * math.log(2)
    if loss >= least * (1 - 1e-3):
        return None
    return f"loss is {loss:.6g}, and with a train_accuracy of {accuracy:.6g} it is at least {least:.3g}"


def task(row: Row) -> Iterator[str]:
    """Yield what a row says of its task or its data that is not so."""
    workload, size = row.workload, row.size
    preset = PRESETS.get(workload.name)
    if preset is not None and _without_seed(workload) != _without_seed(preset.with_dtype(workload.dtype)):
        yield f"workload is named {workload.name}, and is not that preset"
    if (size is None) == (workload.name == SCALING):
        yield f"workload is named {workload.name}, and the row has {'no' if size is None else 'a'} size"
    if size is not None and size.hidden not in workload.network.hidden:
        yield f"hidden is {size.hidden}, where the network is {workload.network}"
    if is_embedded(workload) and row.data_sha256 != embedded(workload.images, workload.seed).sha256:
        yield f"data_sha256 is not that of {workload.images:,} images of MNIST with seed {workload.seed}"


def _without_seed(workload: Workload) -> dict[str, Any]:
    return {name: value for name, value in workload.describe().items() if name != "seed"}
