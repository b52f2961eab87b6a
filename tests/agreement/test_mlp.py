"""Agreement of mlps: training that is wrong in any one option is rejected, and one that is right is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import mnistbench.backends as registry
from mnistbench import agreement, reference
from mnistbench.agreement import (
    Agreement,
    Trajectory,
    check,
    check_round,
    check_trainer,
    rounding,
    verify,
)
from mnistbench.backends.numpy import NumpyMlpTrainer
from mnistbench.exceptions import UnsupportedWorkload
from mnistbench.reference import mlp
from mnistbench.task.presets import PRESETS
from mnistbench.task.recipe import Optimizer, Recipe
from mnistbench.task.workload import DTYPES, DType, Network, Workload
from tests.faults.base import Steps
from tests.faults.mlp import FAULTS, InAnotherOrder
from tests.support import options
from tests.support.builders import identical

BOTH = [pytest.param(dtype, id=dtype) for dtype in DTYPES]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The arrays are too small for more."""
    with threadpool_limits(1, user_api="blas"):
        yield


def compared(trainer: type[NumpyMlpTrainer], task: Workload, dtype: DType) -> Agreement:
    expected = options.trajectory(task)
    with trainer(task.with_dtype(dtype), options.DATA, expected.fresh(), 1) as started:
        return check_trainer(started, Agreement(trainer.__name__, dtype), expected)


EXAMPLES = options.catalogue()


@pytest.mark.slow
@pytest.mark.parametrize("precision", BOTH)
@pytest.mark.parametrize("trainer", [NumpyMlpTrainer, Steps, InAnotherOrder])
@pytest.mark.parametrize("case", EXAMPLES)
def test_the_honest_trainer_agrees(trainer: type[NumpyMlpTrainer], case: str, precision: DType) -> None:
    outcome = compared(trainer, EXAMPLES[case], precision)
    assert outcome.passed, outcome.summary()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "precision"), [(name, dtype) for name, f in FAULTS.items() for dtype in f.dtypes])
def test_a_wrong_trainer_is_rejected(name: str, precision: DType) -> None:
    fault = FAULTS[name]
    outcome = compared(fault.trainer, options.task(**{**options.EVERYTHING, **fault.options}), precision)
    assert outcome.failure is None
    assert not outcome.passed


def test_every_array_of_every_layer_is_compared() -> None:
    outcome = compared(NumpyMlpTrainer, options.task(hidden=(7, 6)), "float64")
    arrays = {f"{kind}{layer}" for layer in (1, 2, 3) for kind in ("W", "b", "dW", "db")}
    assert {check.quantity for check in outcome.checks} >= arrays
    assert [iteration for iteration, _ in outcome.trajectory()] == agreement.checkpoints(9)


def test_the_reference_is_in_float64_whatever_the_workload_s_dtype() -> None:
    for task in (options.task(), options.task(hidden=(7, 6), batch_size=16, dropout=(0.2,))):
        single, double = (Trajectory(task.with_dtype(dtype), options.DATA) for dtype in DTYPES)
        assert [state.loss for state in single.states] == [state.loss for state in double.states]
        assert identical(single.states[-1].parameters, double.states[-1].parameters)
        assert single.X.dtype == np.float64


def test_parameters_in_float64_are_held_tight_in_every_example() -> None:
    for name, task in EXAMPLES.items():
        assert options.trajectory(task).drift(task.iterations, "float64") < 1e-10, name


def test_the_twins_are_computed_once_and_the_classic_has_none() -> None:
    task = options.task(hidden=(7, 6), optimizer=Optimizer("adam"))
    expected = Trajectory(task, options.DATA)
    twins = expected.twins("float32")
    assert expected.twins("float32") is twins
    assert sorted(twins.spreads) == sorted({k for stop in agreement.checkpoints(9) for k in (stop, max(0, stop - 1))})
    for stop in (0, 1, 2, 5, 8, 9):
        single, double = (expected.spread(stop, dtype) for dtype in DTYPES)
        assert 0 < double.margin < 1e-5 * single.margin
        assert all(a > 1e5 * b for a, b in zip(single.parameters, double.parameters, strict=True) if stop > 0)
    # What was once far apart may be so again.
    margins = [spread.margin for spread in twins.spreads.values()]
    assert margins == sorted(margins)
    classic = Trajectory(options.task(), options.DATA)
    assert set(classic.spread(9, "float32").parameters) == {0.0}
    assert classic.drift(9, "float32") == classic.formula(9, "float32")


def test_one_round_alone() -> None:
    task = options.task(**options.EVERYTHING)
    expected = options.trajectory(task)
    with NumpyMlpTrainer(task, options.DATA, expected.fresh(), 1) as trainer:
        metrics = trainer.advance(task.iterations)
        assert all(c.passed for c in check_round(trainer.parameters(), metrics, "float64", expected))
        for wrong in ({"loss": metrics.loss * (1 + 1e-9)}, {"accuracy": metrics.accuracy + 1 / 5}):
            checks = check_round(trainer.parameters(), replace(metrics, **wrong), "float64", expected)
            assert [c.quantity for c in checks if not c.passed] == [*wrong]


def test_gradients_of_the_classic_have_the_tolerances_written_out_for_one_hidden_layer() -> None:
    task = options.task()
    expected = options.trajectory(task)
    own, batch = expected.initial, expected.batches(0)
    (W1, W2), (b1, b2), X, Y = own.weights, own.biases, batch.X, batch.Y
    Z1, A1, _, A2 = reference.forward_prop(W1, b1, W2, b2, X)
    ideal = reference.one_hot(Y, 5)
    for dtype in DTYPES:
        eps = float(np.finfo(dtype).eps)
        Z1_size = np.abs(W1) @ X + np.abs(b1)
        Z2_size = np.abs(W2) @ (Z1_size * (Z1 > 0)) + np.abs(b2)
        dZ2 = A2 + ideal + A2 * (1 - A2) * Z2_size.max(axis=0) / 8 + float(np.finfo(dtype).tiny) / eps
        dZ1 = (np.abs(W2).T @ dZ2) * (Z1 > 0)
        dW2 = dZ2 @ (A1 + Z1_size * (Z1 > 0) / 8).T
        sizes = dZ1 @ X.T, dZ1.sum(axis=1, keepdims=True), dW2, dZ2.sum(axis=1, keepdims=True)
        switched = np.abs(W2.T @ (A2 - ideal)) * (np.abs(Z1) <= 32 * eps * Z1_size)
        slacks = switched @ X.T, switched.sum(axis=1, keepdims=True), 0.0, 0.0
        found, allowed = rounding.tolerances(task, own, batch, dtype, growth=3.0)
        for (_, own_allowed), (_, gradient), size, slack in zip(
            allowed.named(), found.named(), sizes, slacks, strict=True
        ):
            assert np.array_equal(own_allowed, 3.0 * 32 * eps * (size / 37 + np.abs(gradient)) + slack / 37)


@pytest.mark.parametrize("activation", ["relu", "leaky-relu"])
def test_units_whose_sign_rounding_decides_are_allowed_for_through_all_layers(activation: Any) -> None:
    """A pre-activation of 0 in the second of three hidden layers, on one side in one computation."""
    task = options.task(hidden=(6, 4, 5), activation=activation)
    own, batch = options.trajectory(task).fresh(), options.trajectory(task).batches(0)
    Zs, _ = mlp.forward(own, batch.X, activation)
    own.biases[1][2] -= Zs[1][2, 7]
    other = own.astype(np.float64)
    other.biases[1][2] += 1e-14
    sides = [mlp.forward(values, batch.X, activation)[0][1][2, 7] > 0 for values in (own, other)]
    assert sides == [False, True]
    expected, allowed = rounding.tolerances(task, own, batch, "float64", growth=1.0)
    found = mlp.gradients(task, other, batch)
    differences = []
    for (_, value), (_, wanted), (name, room) in zip(found.named(), expected.named(), allowed.named(), strict=True):
        difference = np.abs(value - wanted)
        assert (difference <= room).all(), name
        differences.append(float(difference.max()))
    assert max(differences[:3]) > 1e-4  # W1, b1, W2: below
    assert max(differences[4:]) < 1e-12  # above


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Workload:
    """A preset with two hidden layers."""
    network = Network((784, 5, 4, 10), "tanh")
    task = Workload(network, 60, 3, seed=0, name="tiny", recipe=Recipe(initializer="xavier", batch_size=25))
    monkeypatch.setitem(PRESETS, "tiny", task)
    return task


@pytest.mark.slow
def test_verify_compares_all_that_implement_a_workload(tiny: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = verify(["numpy"], ["float64"], "tiny")
    assert [outcome.summary() for outcome in outcomes if not outcome.passed] == []
    monkeypatch.setattr(agreement, "check", lambda backend, workload, *_: Agreement(backend.name, workload.dtype))
    outcomes = verify(None, ["float64"], "tiny")
    expected = [
        name for name in registry.list_backends(usable=True) if registry.get_backend(name).unsupported(tiny) is None
    ]
    assert [outcome.backend for outcome in outcomes] == expected
    assert "numba-plain" not in expected


def test_verify_says_that_one_that_was_named_does_not(tiny: Workload) -> None:
    with pytest.raises(UnsupportedWorkload, match=r"^backend numba-plain does not implement 2 hidden layers; use "):
        verify(["numpy", "numba-plain"], workload="tiny")


def test_a_workload_that_a_backend_refuses_is_not_compared() -> None:
    task = options.task(l2=0.5)
    outcome = check(registry.get_backend("numba-plain"), task, options.DATA, options.trajectory(task))
    assert not outcome.passed
    assert outcome.summary().startswith("not compared: backend numba-plain does not implement L2")
