"""Agreement: a backend that is wrong in any one way is rejected, and one that is right is not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

import mnistbench.backends as registry
from mnistbench import agreement, reference
from mnistbench.agreement import Agreement, Check, Trajectory, check, checkpoints, verify
from mnistbench.agreement.comparisons import _hits_check
from mnistbench.backends import Metrics, Trainer
from mnistbench.backends.numpy import NumpyBackend, NumpyTrainer
from mnistbench.datasets import Dataset, Split, load_data
from mnistbench.exceptions import BackendUnavailable, OptionError, UnknownBackend
from mnistbench.reference.parameters import Array, Parameters
from mnistbench.task.presets import preset
from mnistbench.task.workload import DTYPES, DType, Workload
from tests.faults.base import Steps
from tests.faults.classic import FAULTS
from tests.support.builders import identical

Kind = Callable[[Workload, Dataset, Parameters, int], Trainer]
"""A class of trainers."""

# The options of the command line give these names parameters of their own; here they are spelled out.
BOTH = [pytest.param(dtype, id=dtype) for dtype in DTYPES]


class FaultyBackend(NumpyBackend):
    """Starts the trainer it was made with."""

    def __init__(self, trainer: Kind) -> None:
        self.trainer = trainer

    def load(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> Trainer:
        return self.trainer(workload, dataset, parameters, 1)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The arrays are too small for more: threads would spend their time waiting for each other."""
    with threadpool_limits(1, user_api="blas"):
        yield


@pytest.fixture(scope="module")
def images() -> Dataset:
    """Real digits: enough to draw from, few enough to be quick."""
    dataset = load_data(train_size=4000, dev_size=150)
    assert dataset.test is not None
    return replace(dataset, test=Split(dataset.test.images[:150], dataset.test.labels[:150]))


def drawn(images: Dataset, m: int, seed: int) -> Dataset:
    chosen = np.random.default_rng(seed).choice(len(images.train), m, replace=False)
    return replace(images, train=Split(images.train.images[chosen], images.train.labels[chosen]))


def workload_of(dataset: Dataset, iterations: int, hidden: int = 10, alpha: float = 0.1, seed: int = 0) -> Workload:
    return Workload(dataset.network(hidden), len(dataset.train), iterations, alpha, "float64", seed)


@pytest.fixture(scope="module")
def computed(images: Dataset) -> Trajectory:
    """Enough iterations for calls of more than one."""
    dataset = drawn(images, 200, seed=1)
    return Trajectory(workload_of(dataset, 110), dataset)


@pytest.fixture
def task(computed: Trajectory) -> Trajectory:
    """With initial parameters that no other test has had in its hands."""
    own = copy(computed)
    own.initial = Parameters.initial(own.workload.network, own.workload.seed)
    return own


def compared(trainer: Kind, task: Trajectory, dtype: DType) -> Agreement:
    outcome = check(FaultyBackend(trainer), task.workload.with_dtype(dtype), task.dataset, task)
    assert len(outcome.summary().splitlines()) == 1
    return outcome


@pytest.mark.parametrize("precision", BOTH)
@pytest.mark.parametrize("trainer", [NumpyTrainer, Steps])
def test_the_unmodified_backend_agrees(trainer: Kind, task: Trajectory, precision: DType) -> None:
    outcome = compared(trainer, task, precision)
    assert outcome.passed, outcome.summary()
    assert outcome.failure is None
    named = {check.quantity for check in outcome.checks}
    assert named >= {"W1", "b1", "W2", "b2", "dW1", "db1", "dW2", "db2", "loss", "accuracy", "predictions", "reset"}
    stops = checkpoints(task.workload.iterations)
    for quantity in ("W1", "b1", "W2", "b2", "dW1", "db1", "dW2", "db2", "loss", "accuracy"):
        # Gradients are compared at the start, at the end, and once in every power of ten.
        expected = {0, 1, 10, 100, stops[-1]} if quantity[0] == "d" else {*stops}
        assert {check.iteration for check in outcome.checks if check.quantity == quantity} == expected


@pytest.mark.slow
@pytest.mark.parametrize(("name", "precision"), [(name, dtype) for name, f in FAULTS.items() for dtype in f.dtypes])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_wrong_backend_is_rejected(name: str, precision: DType, task: Trajectory) -> None:
    assert not compared(FAULTS[name].trainer, task, precision).passed


@pytest.mark.parametrize("name", ["LiveView", "KeepsTheCallersArrays"])
def test_a_wrong_backend_does_not_spoil_the_next(name: str, images: Dataset) -> None:
    dataset = drawn(images, 50, seed=2)
    trajectory = Trajectory(workload_of(dataset, 5), dataset)
    assert not compared(FAULTS[name].trainer, trajectory, "float64").passed
    outcome = compared(NumpyTrainer, trajectory, "float64")
    assert outcome.passed, outcome.summary()


@pytest.mark.parametrize(
    "name",
    [
        *("OneTooFew", "AlwaysOne", "FirstMetricsOfSeveral", "ResetForgetsTheMetrics", "LearningRateOff"),
        "LastImageIgnored",
    ],
)
def test_the_preset_for_a_quick_check_rejects_too(name: str, images: Dataset) -> None:
    """It has too few iterations for calls of more than one on the way."""
    workload = replace(preset("smoke"), images=400)
    dataset = drawn(images, workload.images, seed=0)
    assert not compared(FAULTS[name].trainer, Trajectory(workload, dataset), workload.dtype).passed


class NaiveSoftmax(Steps):
    """exp of the logits without subtracting their maximum."""

    def loss(self, logits: Array, Y: reference.Labels) -> float:
        return float(np.mean(np.log(np.exp(logits).sum(axis=0)) - logits[Y, np.arange(Y.size)]))


class ClippedProbabilities(Steps):
    """-log of a probability kept above 1e-7."""

    def loss(self, logits: Array, Y: reference.Labels) -> float:
        true = reference.softmax(logits)[Y, np.arange(Y.size)]
        return float(-np.mean(np.log(np.maximum(true, 1e-7))))


@pytest.mark.parametrize("precision", BOTH)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_losses_of_large_logits(images: Dataset, precision: DType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights so large that exp overflows, also in float64."""
    dataset = drawn(images, 20, seed=0)
    initial = Parameters.initial(dataset.network(10), 0)
    large = Parameters([25 * weight for weight in initial.weights], initial.biases)
    monkeypatch.setattr(Parameters, "initial", lambda *_: large)
    trajectory = Trajectory(workload_of(dataset, 1), dataset)
    assert trajectory.states[0].largest_logit > 710
    outcome = compared(Steps, trajectory, precision)
    assert outcome.passed, outcome.summary()
    for wrong in (NaiveSoftmax, ClippedProbabilities):
        assert not compared(wrong, trajectory, precision).passed


@pytest.mark.slow
@pytest.mark.parametrize("precision", BOTH)
@pytest.mark.parametrize("seed", range(12))
def test_the_honest_backend_is_never_rejected(images: Dataset, seed: int, precision: DType) -> None:
    for m, iterations, hidden, alpha in (
        (1, 20, 10, 0.1),
        (2, 50, 32, 0.1),
        (3, 20, 32, 0.01),
        (10, 7, 3, 0.01),
        (100, 60, 10, 0.1),
        (700, 20, 10, 0.1),
    ):
        dataset = drawn(images, m, seed)
        workload = workload_of(dataset, iterations, hidden, alpha, seed)
        trajectory = Trajectory(workload, dataset)
        outcome = check(NumpyBackend(), workload.with_dtype(precision), dataset, trajectory, threads=1)
        assert outcome.passed, f"{m} images, {iterations} iterations, {hidden} units: {outcome.summary()}"


@pytest.mark.parametrize("precision", BOTH)
def test_probabilities_too_small_for_the_dtype_are_no_disagreement(images: Dataset, precision: DType) -> None:
    """With one image and long steps, all other classes' probabilities vanish."""
    for seed in (0, 126, 334):
        dataset = drawn(images, 1, seed)
        trajectory = Trajectory(workload_of(dataset, 5, 32, 0.5, seed), dataset)
        outcome = check(NumpyBackend(), trajectory.workload.with_dtype(precision), dataset, trajectory, threads=1)
        assert outcome.passed, outcome.summary()


def test_one_class_and_one_unit() -> None:
    images = np.arange(24, dtype=np.uint8).reshape(4, 6)
    split = Split(images, np.zeros(4, np.int64))
    dataset = Dataset("one class", (2, 3), 1, split, split, None)
    trajectory = Trajectory(workload_of(dataset, 3, hidden=1), dataset)
    for dtype in DTYPES:
        assert check(NumpyBackend(), trajectory.workload.with_dtype(dtype), dataset, trajectory).passed


def test_the_comparison_ends_reset(task: Trajectory) -> None:
    with NumpyBackend().start(task.workload, task.dataset, task.initial) as trainer:
        outcome = agreement.check_trainer(trainer, Agreement("numpy", "float64"), task)
        assert outcome.passed
        assert identical(trainer.parameters(), task.initial)
        first = task.states[0]
        metrics = trainer.advance(1)
        assert metrics.loss == pytest.approx(first.loss)
        assert metrics.accuracy == first.accuracy


@pytest.mark.parametrize("updates", [None, 10])
def test_one_round_alone(task: Trajectory, updates: int | None) -> None:
    """Over all iterations, and up to an earlier checkpoint."""
    with NumpyBackend().start(task.workload, task.dataset, task.initial) as trainer:
        metrics = trainer.advance(updates or task.workload.iterations)

        def failed(metrics: Metrics) -> list[str]:
            checks = agreement.check_round(trainer.parameters(), metrics, "float64", task, updates)
            return [check.quantity for check in checks if not check.passed]

        assert failed(metrics) == []
        for wrong in ({"loss": metrics.loss * 1.001}, {"accuracy": 0.999}):
            assert failed(replace(metrics, **wrong)) == [*wrong]
        trainer.advance(1)
        assert failed(metrics) == ["W1", "b1", "W2", "b2"]


def test_all_but_the_gradients_needs_no_images(task: Trajectory, monkeypatch: pytest.MonkeyPatch) -> None:
    with NumpyBackend().start(task.workload, task.dataset, task.initial) as trainer:
        whole = agreement.check_trainer(trainer, Agreement("numpy", "float64"), task)
        task.free_images()
        assert "X" not in vars(task)
        scale = Mock(wraps=reference.scale_images)
        monkeypatch.setattr(reference, "scale_images", scale)
        outcome = agreement.check_trainer(trainer, Agreement("numpy", "float64"), task, gradients=False)
        assert outcome.passed
        assert all(len(call.args[0]) < len(task.Y) for call in scale.call_args_list)
        gradients = {check.quantity for check in whole.checks} - {check.quantity for check in outcome.checks}
        assert gradients == {f"{what}{name}" for what in ("d", "step ") for name in ("W1", "b1", "W2", "b2")}
        left = [check for check in whole.checks if check.quantity not in gradients]
        assert [str(check) for check in outcome.checks] == [str(check) for check in left]
    monkeypatch.undo()
    assert compared(NumpyTrainer, task, "float64").passed, "the images come again"


def test_tolerances_grow_with_the_images_beyond_the_classics_only(task: Trajectory) -> None:
    assert agreement.growth(1) == agreement.growth(preset("classic").images) == 1
    assert agreement.growth(4 * 41_000) == 2
    few, many = copy(task), copy(task)
    few.workload = replace(task.workload, images=41_000, learning_rate=1e-12)
    many.workload = replace(task.workload, images=16 * 41_000, learning_rate=1e-12)
    for dtype in DTYPES:
        assert many.drift(7, dtype) == pytest.approx(4 * few.drift(7, dtype), rel=1e-4)
    with NumpyBackend().start(task.workload, task.dataset, task.initial) as trainer:
        losses = []
        for trajectory in (few, many):
            checks = agreement.check_trainer(trainer, Agreement("numpy", "float32"), trajectory, False).checks
            losses.append([check.error for check in checks if check.quantity == "loss"])
        assert losses[0] == pytest.approx([4 * error for error in losses[1]])


@given(st.integers(1, 10**7))
def test_checkpoints(iterations: int) -> None:
    found = checkpoints(iterations)
    assert found == sorted(set(found))
    assert (found[0], found[1], found[-1]) == (0, 1, iterations)
    assert all(str(k).strip("0") in ("1", "2", "5") for k in found[1:-1])
    # None is further from the next than a factor of 2.5.
    assert all(later <= 2.5 * earlier for earlier, later in pairwise(found[1:]))


@pytest.mark.parametrize("error", [1.0000001, math.inf, math.nan])
def test_an_error_beyond_its_tolerance_or_nan_does_not_pass(error: float) -> None:
    assert not Check("W1", 0, error, error).passed
    assert Check("W1", 0, 1.0, 0.1).passed
    assert not Agreement("x", "float32", [Check("W1", 0, 0.5, 0.0), Check("b1", 0, error, 0.0)]).passed


def test_nothing_compared_is_no_agreement() -> None:
    empty = Agreement("x", "float32")
    assert not empty.passed
    assert empty.worst is None
    assert empty.trajectory() == []
    assert not Agreement("x", "float32", [Check("W1", 0, 0.0, 0.0)], failure="stopped").passed


def test_nan_is_the_worst_and_stays_visible() -> None:
    checks = [
        Check("W1", 0, 0.1, 1e-9),
        Check("b2", 5, math.nan, math.nan),
        Check("W1", 5, 99.0, 0.3),
        Check("loss", 5, 0.2, 7.0),
    ]
    outcome = Agreement("x", "float32", checks)
    assert outcome.worst is checks[1]
    assert outcome.summary() == "b2 after 5 updates: nan of its tolerance"
    (first, relative), (last, unknown) = outcome.trajectory()
    assert (first, relative, last) == (0, 1e-9, 5)
    assert math.isnan(unknown)
    # In whichever order they come.
    (_, unknown) = Agreement("x", "float32", checks[:0:-1]).trajectory()[-1]
    assert math.isnan(unknown)


def test_the_summary_names_what_failed_first() -> None:
    checks = [Check("W1", 0, 0.9, 0.0), Check("db1", 2, 3.0, 0.0), Check("W2", 5, 1e9, 0.0)]
    assert Agreement("x", "float32", checks).summary() == "db1 after 2 updates: 3 of its tolerance"
    assert Agreement("x", "float32", checks[:1]).summary() == "W1 after 0 updates: 0.9 of its tolerance"
    assert "out of memory" in Agreement("x", "float32", checks, failure="out of memory").summary()


def test_the_trajectory_takes_the_largest_of_the_parameters() -> None:
    checks = [Check("W1", 1, 0.1, 2e-8), Check("b1", 1, 0.1, 3e-8), Check("dW1", 1, 0.1, 1.0), Check("W2", 0, 0.0, 0.0)]
    assert Agreement("x", "float32", checks).trajectory() == [(0, 0.0), (1, 3e-8)]


def test_an_error_is_reported_in_one_line(task: Trajectory) -> None:
    outcome = compared(FAULTS["RaisesOnTheWay"].trainer, task, "float32")
    assert outcome.failure == "RuntimeError: out of memory"
    assert outcome.summary() == "not compared: RuntimeError: out of memory"
    assert outcome.checks, "what was compared before it is kept"


@pytest.mark.slow
def test_verify_compares_all_that_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Agreement] = []
    monkeypatch.setattr(agreement, "check", lambda backend, workload, *_: Agreement(backend.name, workload.dtype))
    outcomes = verify(workload="smoke", callback=seen.append)
    assert seen == outcomes
    assert [(o.backend, o.dtype) for o in outcomes] == [
        (b, d) for b in registry.list_backends(usable=True) for d in DTYPES
    ]


def test_verify_compares_what_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def recorded(*arguments: Any) -> Agreement:
        asked.append(arguments)
        return Agreement(arguments[0].name, arguments[1].dtype)

    monkeypatch.setattr(agreement, "check", recorded)
    verify(["numpy"], ["float32"], "smoke", seed=3, threads=1)
    ((backend, workload, dataset, trajectory, threads),) = asked
    assert (backend.name, workload, threads) == ("numpy", preset("smoke", "float32", 3), 1)
    assert len(dataset.train) == workload.images
    assert trajectory.workload.dtype == "float64"


def test_verify_refuses_what_it_cannot_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownBackend, match="abacus"):
        verify(["numpy", "abacus"], workload="smoke")
    with pytest.raises(OptionError, match="huge"):
        verify(["numpy"], workload="huge")
    gone = registry.Availability(usable=False, reason="switched off")
    monkeypatch.setattr(registry, "availability", lambda name: gone)
    with pytest.raises(BackendUnavailable, match="switched off"):
        verify(["numpy"], workload="smoke")


@pytest.mark.parametrize(
    ("off", "tie", "error"),
    [(0, 0.0, 0.0), (0, 0.5, 0.0), (1, 0.5, 0.4), (2, 0.5, 1.2), (3, 0.5, 1.8), (4, 0.5, math.inf), (1, 0.0, math.inf)],
)
def test_an_accuracy_is_off_by_the_margins_of_as_many_images(off: int, tie: float, error: float) -> None:
    state: Any = SimpleNamespace(margins=np.array([0.9, 0.2, 0.6]), iteration=3)
    found = _hits_check(state, off, tie)
    assert found.error == pytest.approx(error)
    assert found.relative == off


def test_an_exact_tie_may_be_decided_either_way() -> None:
    state: Any = SimpleNamespace(margins=np.array([0.0, 0.2]), iteration=3)
    assert [_hits_check(state, off, 0.0).passed for off in (0, 1, 2)] == [True, True, False]
