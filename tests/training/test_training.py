"""Training: reports at the right iterations, results of the reference's equations, refusals, divergence."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from itertools import count, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mnistbench.backends as registry
from mnistbench import reference
from mnistbench.backends import Backend, Metrics, trials
from mnistbench.backends.numpy import NumpyBackend, NumpyMlpTrainer, NumpyTrainer
from mnistbench.datasets import Dataset, Split
from mnistbench.exceptions import (
    BackendUnavailable,
    Diverged,
    ModelError,
    OptionError,
    UnknownBackend,
    UnsupportedWorkload,
)
from mnistbench.reference import mlp
from mnistbench.reference.parameters import Array, Parameters
from mnistbench.task.recipe import ACTIVATIONS, OPTIMIZERS, Augmentation, Optimizer, Recipe, Schedule
from mnistbench.task.workload import DTYPES, Network, Workload
from mnistbench.training import loop
from mnistbench.training.result import Progress, TrainingResult
from tests.support.builders import identical

IMAGE_SHAPE, CLASSES = (4, 5), 3


def split(m: int, seed: int) -> Split:
    """Noise, brighter with the label, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(m) % CLASSES)
    images = rng.integers(0, 120, (m, 20)) + 60 * labels[:, np.newaxis]
    return Split(images.astype(np.uint8), labels.astype(np.int64))


TEST = split(25, 3)
DATASET = Dataset("noise", IMAGE_SHAPE, CLASSES, split(40, 1), split(15, 2), TEST)


def train(dataset: Dataset = DATASET, backend: str = "numpy", **options: Any) -> TrainingResult:
    own = {} if "workload" in options else {"iterations": 25, "hidden": None if "parameters" in options else 4}
    return loop.train(dataset, backend=backend, **{"threads": 1, **own, **options})


def by_hand(iterations: int, alpha: float, dtype: Any, parameters: Parameters | None = None) -> list[dict[str, Any]]:
    """Train with the reference's functions alone; the states before each update and after the last."""
    X, Y = reference.scale_images(DATASET.train.images, dtype), DATASET.train.labels
    arrays = reference.init_params(20, 4, CLASSES, 0) if parameters is None else parameters.arrays()
    W1, b1, W2, b2 = (array.astype(dtype) for array in arrays)
    states = []
    with np.errstate(all="ignore"):
        for _ in range(iterations + 1):
            Z1, A1, Z2, A2 = reference.forward_prop(W1, b1, W2, b2, X)
            accuracy = reference.get_accuracy(reference.get_predictions(A2), Y)
            own = Parameters([W1, W2], [b1, b2])
            states.append({"loss": reference.cross_entropy(Z2, Y), "accuracy": accuracy, "parameters": own})
            gradients = reference.backward_prop(Z1, A1, Z2, A2, W1, W2, X, Y)
            W1, b1, W2, b2 = reference.update_params(W1, b1, W2, b2, *gradients, alpha)
    return states


@pytest.mark.parametrize("precision", DTYPES)
def test_the_result_is_that_of_the_equations(precision: Any) -> None:
    result = train(dtype=precision, every=10)
    states = by_hand(25, 0.1, precision)
    assert [m.iteration for m in result.metrics] == [0, 10, 20, 25]
    for metrics in result.metrics:
        assert metrics.loss == pytest.approx(states[metrics.iteration]["loss"], rel=1e-6)
        assert metrics.accuracy == states[metrics.iteration]["accuracy"]
    assert identical(result.parameters, states[25]["parameters"])
    assert (result.loss, result.accuracy) == (result.metrics[-1].loss, result.metrics[-1].accuracy)
    assert all(array.dtype == precision for _, array in result.parameters.named())


def test_the_fields_of_a_result() -> None:
    result = train()
    assert result.backend == "numpy"
    assert result.workload == Workload(DATASET.network(4), 40, 25, 0.1, "float32", 0)
    assert result.parameters.network == DATASET.network(4)
    shares = [scored(result.parameters, part)[1] for part in (DATASET.train, DATASET.dev, TEST)]
    assert [result.accuracy, result.dev_accuracy, result.test_accuracy] == shares
    assert result.description.threads == 1
    assert result.snapshots == []
    json.dumps([asdict(result.description), result.costs.as_dict(), result.history_records()])


def test_the_history_as_a_table() -> None:
    result = train(every=5)
    assert [*result.history.columns] == ["iteration", "loss", "accuracy"]
    assert result.history["iteration"].tolist() == [0, 5, 10, 15, 20, 25]
    assert result.history.to_dict("records") == result.history_records()
    assert result.history["loss"].iloc[-1] == result.loss


@settings(max_examples=40)
@given(st.integers(1, 30), st.integers(1, 40), st.sets(st.integers(0, 40)))
def test_the_iterations_reported_and_kept(iterations: int, every: int, snapshots: set[int]) -> None:
    seen: list[Progress] = []
    result = train(iterations=iterations, every=every, snapshots=snapshots, callback=lambda one, _: seen.append(one))
    assert [m.iteration for m in result.metrics] == [*range(0, iterations, every), iterations]
    assert [m.iteration for m in seen] == [*range(0, iterations, every)]
    assert seen == result.metrics[: len(seen)]
    assert [k for k, _ in result.snapshots] == sorted(k for k in snapshots if k <= iterations)
    # However a run is cut into calls, it is the same run.
    states = by_hand(iterations, 0.1, np.float32)
    assert identical(result.parameters, states[iterations]["parameters"])
    assert all(identical(parameters, states[k]["parameters"]) for k, parameters in result.snapshots)


def test_progress_is_reported_while_training_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Any] = []
    advance = NumpyTrainer.advance

    def counted(self: Any, iterations: int) -> Metrics:
        done.append("advance")
        return advance(self, iterations)

    monkeypatch.setattr(NumpyTrainer, "advance", counted)
    train(every=5, callback=lambda progress, parameters: done.append(progress.iteration))
    assert [k for k in done if k != "advance"] == [0, 5, 10, 15, 20]
    assert done.index(5) == done.index(0) + 2, "iteration 0 must be reported before iteration 5 is computed"


def initial(seed: int = 0) -> Parameters:
    return Parameters.initial(DATASET.network(4), seed)


def test_the_seed_decides_the_initial_parameters() -> None:
    first, again, other = train(seed=5), train(seed=5), train(seed=6)
    assert identical(first.parameters, again.parameters)
    assert not identical(first.parameters, other.parameters)
    started = train(seed=5, snapshots=[0]).snapshots[0][1]
    assert identical(started, initial(5).astype(np.float32))


@dataclass
class Given:
    """Parameters in a class of the user's own."""

    weights: Any
    biases: Any


def test_given_parameters_are_where_training_starts() -> None:
    own, kept = initial(9), initial(9)
    result = train(parameters=Given(tuple(own.weights), tuple(own.biases)), seed=1, dtype="float64")
    assert identical(result.parameters, by_hand(25, 0.1, np.float64, own)[25]["parameters"])
    assert identical(own, kept), "they are the caller's"
    assert result.workload.network == own.network


@pytest.mark.parametrize(
    ("weights", "biases"),
    [
        ([np.zeros((4, 21)), np.zeros((3, 4))], [np.zeros((4, 1)), np.zeros((3, 1))]),
        ([np.zeros((4, 20)), np.zeros((5, 4))], [np.zeros((4, 1)), np.zeros((5, 1))]),
        ([np.zeros((4, 20)), np.zeros((3, 5))], [np.zeros((4, 1)), np.zeros((3, 1))]),
        ([np.zeros((4, 20)), np.zeros((3, 4))], [np.zeros(4), np.zeros(3)]),
        ([np.zeros((4, 20)), np.zeros((3, 4))], [np.zeros((4, 1))]),
        ([], []),
    ],
)
def test_parameters_that_do_not_fit_are_refused(weights: list[Array], biases: list[Array]) -> None:
    with pytest.raises(ModelError, match=r"^parameters") as caught:
        train(parameters=Given(weights, biases))
    assert str(caught.value).isprintable()


def test_no_test_set_no_test_accuracy() -> None:
    result = train(replace(DATASET, test=None))
    assert result.test_accuracy is None
    assert result.dev_accuracy is not None
    assert 0 <= result.dev_accuracy <= 1


@pytest.mark.parametrize(
    "options",
    [
        *({option: 0} for option in ("every", "iterations", "learning_rate", "hidden", "threads", "patience")),
        *({"every": -1}, {"learning_rate": math.nan}, {"dtype": "float16"}, {"seed": -1}, {"hidden": "44"}),
        *({"epochs": 3}, {"iterations": None, "epochs": 0}, {"activation": "step"}),
        {"hidden": (4, 4), "recipe": Recipe(dropout=(0.1, 0.2, 0.3))},
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError) as caught:
        train(**options)
    assert str(caught.value).isprintable()


def test_backends_that_cannot_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownBackend, match="did you mean numpy"):
        train(backend="nunpy")
    monkeypatch.setattr(NumpyBackend, "unsupported", Backend.unsupported)
    with pytest.raises(UnsupportedWorkload, match="2 hidden layers"):
        train(hidden=(4, 4))
    gone = registry.Availability(usable=False, reason="switched off")
    monkeypatch.setattr(registry, "availability", lambda name: gone)
    with pytest.raises(BackendUnavailable, match="switched off"):
        train()


def test_costs_are_complete() -> None:
    seconds = train().costs.as_dict()
    assert [*seconds] == ["import", "load", "compile", "tuning", "first_call", "train"]
    assert all(math.isfinite(value) for value in seconds.values())
    assert all(value >= 0 for name, value in seconds.items() if name != "first_call")
    assert seconds["load"] > 0
    assert seconds["train"] > 0


def test_costs_are_not_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that only ``pay`` moves."""
    now = 0.0
    backend = registry.get_backend("numpy")
    load, honest = type(backend).load, NumpyTrainer.advance
    calls = count()

    def pay(seconds: float) -> None:
        nonlocal now
        now += seconds

    def tuned(seconds: float) -> None:
        pay(seconds)
        monkeypatch.setattr(trials, "_tuning", trials.tuning_seconds() + seconds)

    def loaded(self: Any, *arguments: Any) -> Any:
        pay(1000)
        tuned(2_000_000)
        return load(self, *arguments)

    def warmed(self: Any, *arguments: Any) -> None:
        pay(100)
        tuned(4_000_000)

    def advanced(self: Any, iterations: int) -> Metrics:
        pay(iterations + (0 if next(calls) else 10))
        return honest(self, iterations)

    monkeypatch.setattr("mnistbench.timing.clock.time.perf_counter", lambda: now)
    monkeypatch.setattr(trials, "_tuning", 0.0)
    monkeypatch.setattr(type(backend), "load", loaded)
    monkeypatch.setattr(type(backend), "warm_up", warmed)
    monkeypatch.setattr(NumpyTrainer, "advance", advanced)
    monkeypatch.setitem(registry._import_seconds, "numpy", 10_000.0)
    monkeypatch.setitem(registry._probe_seconds, "numpy", 5.0)
    costs = train(iterations=25, callback=lambda progress, parameters: pay(1e6)).costs
    parts = {"load": 1000, "compile": 105, "tuning": 6_000_000, "first_call": 10, "train": 25}
    assert costs.as_dict() == {"import": 10_000} | parts
    assert costs.total == 6_011_140


WORKLOAD = Workload(DATASET.network(4), 40)


def first_bad(states: list[dict[str, Any]]) -> int | None:
    """The first iteration whose loss, or whose updated parameters, are not finite; None if the run is finite."""
    for iteration, (state, updated) in enumerate(pairwise(states)):
        if not math.isfinite(state["loss"]) or not updated["parameters"].is_finite():
            return iteration
    # If only the final forward pass is not finite, the last update is the cause.
    return None if math.isfinite(states[-1]["loss"]) else len(states) - 2


@pytest.mark.parametrize(
    ("precision", "exponent"),
    [("float32", k) for k in (3, 12, 18, 20, 36)] + [("float64", k) for k in (3, 36, 60, 77, 100, 150, 154, 300)],
)
@pytest.mark.parametrize(("iterations", "every"), [(25, 1), (25, 4), (25, 10), (25, 100), (1, 10), (2, 10), (3, 10)])
def test_divergence_names_the_iteration(precision: Any, iterations: int, every: int, exponent: int) -> None:
    """After few iterations the parameters may still be finite, and only the loss that they give is not."""
    alpha = 10.0**exponent
    options: dict[str, Any] = {"learning_rate": alpha, "dtype": precision, "iterations": iterations, "every": every}
    expected = first_bad(by_hand(iterations, alpha, precision))
    if expected is None:
        assert math.isfinite(train(**options).loss)
        return
    with pytest.raises(Diverged) as caught:
        train(**options)
    assert caught.value.iteration == expected
    assert f"iteration {expected}:" in str(caught.value)
    assert f"{alpha:g}" in str(caught.value)
    assert str(caught.value).isprintable()


@settings(max_examples=60)
@given(st.integers(0, 24), st.integers(1, 30), st.sets(st.integers(0, 25)), st.booleans())
def test_divergence_anywhere_names_the_iteration(bad: int, every: int, snapshots: set[int], in_loss: bool) -> None:
    """A computation breaks down when the loss, which falls steadily, reaches that of iteration ``bad``."""
    losses = [state["loss"] for state in by_hand(25, 0.1, np.float32)]
    assert losses == sorted(losses, reverse=True)

    class BreaksDown(NumpyTrainer):
        def advance(self, iterations: int) -> Metrics:
            for _ in range(iterations):
                metrics = super().advance(1)
                if metrics.loss <= losses[bad]:
                    metrics = replace(metrics, loss=math.nan if in_loss else metrics.loss)
                    W1, b1, W2, b2 = self._arrays
                    self._arrays = W1, b1, W2, b2 + np.float32(math.nan)
            return metrics

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mnistbench.backends.numpy.NumpyTrainer", BreaksDown)
        with pytest.raises(Diverged) as caught:
            train(every=every, snapshots=snapshots)
    assert caught.value.iteration == bad


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_initial_parameters_that_are_not_finite_are_refused(value: float) -> None:
    own = initial()
    own.weights[1][0, 0] = value
    with pytest.raises(ModelError, match="NaN or infinite"):
        train(parameters=own)


# Multilayer perceptrons

BATCHES = Recipe("he", dropout=(0.2,), optimizer=Optimizer("adam"), batch_size=16, schedule=Schedule("cosine"))
BY_EPOCHS: dict[str, Any] = {"iterations": None, "epochs": 4, "learning_rate": 0.01, "recipe": BATCHES}


def by_equations(workload: Workload, iterations: int) -> Parameters:
    """Train by the equations of the reference."""
    drawn = Parameters.initial(workload.network, workload.seed, workload.recipe.initializer).astype(workload.dtype)
    state = mlp.State.start(drawn, workload.recipe.optimizer)
    batches = mlp.Batches(workload, DATASET.train.images, DATASET.train.labels, IMAGE_SHAPE)
    for _ in range(iterations):
        state = mlp.iterate(workload, batches, state).after
    return state.parameters


def scored(parameters: Parameters, part: Split, activation: Any = "relu") -> tuple[Any, float]:
    X = reference.scale_images(part.images, parameters.weights[0].dtype)
    Zs, As = mlp.forward(parameters, X, activation)
    right = reference.get_accuracy(reference.get_predictions(As[-1]), part.labels)
    return pytest.approx(reference.cross_entropy(Zs[-1], part.labels), rel=1e-6), right


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_option_reaches_the_equations(activation: Any, optimizer: Any) -> None:
    recipe = replace(BATCHES, optimizer=Optimizer(optimizer), l2=0.5, augmentation=Augmentation(shift=1, rotate=20))
    result = train(**BY_EPOCHS | {"recipe": recipe, "activation": activation, "hidden": (5, 4), "seed": 3})
    workload = result.workload
    assert workload.network == Network((20, 5, 4, 3), activation)
    assert (workload.recipe, workload.seed, workload.iterations) == (recipe, 3, 12)
    expected = by_equations(workload, 12)
    assert identical(result.parameters, expected)
    loss, right = scored(expected, DATASET.train, activation)
    assert (result.loss, result.accuracy) == (loss, right)
    assert result.dev_accuracy == scored(expected, DATASET.dev, activation)[1]
    assert result.test_accuracy == scored(expected, TEST, activation)[1]


def test_with_batches_every_epoch_is_reported() -> None:
    seen: list[Progress] = []
    result = train(**BY_EPOCHS, callback=lambda progress, parameters: seen.append(progress))
    assert [(m.epoch, m.iteration) for m in seen] == [(1, 2), (2, 5), (3, 8), (4, 11)]
    assert [m.seconds for m in seen] == sorted(m.seconds for m in seen)
    assert seen[-1].seconds == result.costs.train
    assert [*result.history.columns] == ["epoch", "iteration", "loss", "accuracy", "dev_loss", "dev_accuracy"]
    for report in seen:
        loss, right = scored(by_equations(result.workload, report.iteration + 1), DATASET.dev)
        assert (report.dev_loss, report.dev_accuracy) == (loss, right)
    assert result.metrics[:-1] == seen
    final = result.metrics[-1]
    assert (final.iteration, final.epoch, final.loss, final.accuracy) == (12, 4, result.loss, result.accuracy)
    assert final.dev_accuracy == result.dev_accuracy
    assert (result.updates, result.iterations, result.epoch) == (12, 12, 4)


def test_with_batches_and_iterations_the_last_is_reported_too() -> None:
    result = train(recipe=BATCHES, learning_rate=0.01, iterations=8)
    assert [(m.epoch, m.iteration) for m in result.metrics] == [(1, 2), (2, 5), (2, 7), (2, 8)]
    often = train(recipe=BATCHES, learning_rate=0.01, iterations=8, every=3)
    assert [m.iteration for m in often.metrics] == [0, 3, 6, 8]
    assert identical(often.parameters, result.parameters)


def test_the_callback_sees_the_parameters_after_each_reported_iteration() -> None:
    seen: list[tuple[int, Parameters]] = []
    workload = Workload(DATASET.network(4), 40, 9, 0.01, recipe=BATCHES)
    result = train(workload=workload, callback=lambda progress, own: seen.append((progress.iteration + 1, own)))
    assert [updates for updates, _ in seen] == [3, 6, 9]
    for updates, own in seen:
        assert identical(own, by_equations(workload, updates))
    assert result.workload == workload


def test_full_batches_and_optimizers_end_with_the_loss_of_all_images() -> None:
    recipe = Recipe("xavier", l2=0.1, optimizer=Optimizer("nesterov"))
    result = train(recipe=recipe, activation="tanh", every=5)
    assert [m.iteration for m in result.metrics] == [0, 5, 10, 15, 20, 25]
    loss, right = scored(by_equations(result.workload, 25), DATASET.train, "tanh")
    assert (result.loss, result.accuracy) == (loss, right)
    assert [*result.history.columns] == ["iteration", "loss", "accuracy"]


@pytest.mark.slow
@settings(max_examples=25)
@given(st.integers(1, 6), st.integers(0, 50), st.sampled_from([0.01, 0.3, 1.0]))
def test_patience_keeps_the_parameters_of_the_least_dev_loss(patience: int, seed: int, rate: float) -> None:
    options = BY_EPOCHS | {"epochs": 12, "seed": seed, "learning_rate": rate}
    whole = [m for m in train(**options).metrics[:-1] if m.dev_loss is not None]
    losses = [m.dev_loss for m in whole if m.dev_loss is not None]
    best = 0
    for stop, loss in enumerate(losses):
        if loss < losses[best]:
            best = stop
        if stop - best >= patience:
            break
    result = train(**options, patience=patience)
    assert result.metrics[:-1] == whole[: stop + 1]
    assert (result.epoch, result.updates, result.iterations) == (best + 1, 3 * best + 3, 3 * stop + 3)
    expected = by_equations(result.workload, result.updates)
    assert identical(result.parameters, expected)
    assert result.dev_accuracy == whole[best].dev_accuracy
    assert result.test_accuracy == scored(expected, TEST)[1]
    assert result.loss == scored(expected, DATASET.train)[0]


def test_patience_of_full_batches_looks_where_it_reports() -> None:
    result = train(iterations=200, learning_rate=3.0, patience=20, every=10)
    assert result.metrics[-1].dev_loss == min(m.dev_loss or 0 for m in result.metrics)
    assert result.updates % 10 == 1 or result.updates == 200
    assert identical(result.parameters, by_hand(result.updates, 3.0, np.float32)[-1]["parameters"])
    assert result.loss == pytest.approx(by_hand(result.updates, 3.0, np.float32)[-1]["loss"], rel=1e-6)


def test_without_dev_images_there_is_no_dev_accuracy_and_no_patience() -> None:
    alone = replace(DATASET, dev=Split(DATASET.dev.images[:0], DATASET.dev.labels[:0]))
    result = train(alone, **BY_EPOCHS)
    assert result.dev_accuracy is None
    assert [m.dev_loss for m in result.metrics] == [None] * 5
    assert train(alone).dev_accuracy is None
    with pytest.raises(OptionError, match=r"^patience 3: there are no dev images"):
        train(alone, **BY_EPOCHS, patience=3)


def test_a_workload_that_does_not_fit_the_data_is_refused() -> None:
    with pytest.raises(OptionError, match="41 images: noise has 40 to train on"):
        train(workload=Workload(DATASET.network(4), 41))
    with pytest.raises(ModelError, match="the workload of a 20-4-5 network cannot fit the data"):
        train(workload=Workload(Network((20, 4, 5)), 40))
    with pytest.raises(ModelError, match="parameters of a 20-4-3 network: the workload is of a 20-5-3 network"):
        train(workload=Workload(DATASET.network(5), 40), parameters=initial())
    with pytest.raises(ModelError, match="parameters of a 20-4-3 network: the workload is of a 20-5-3 network"):
        train(hidden=5, parameters=initial())


@pytest.mark.parametrize("option", ["iterations", "epochs", "learning_rate", "dtype", "seed", "hidden", "activation"])
def test_with_a_workload_what_it_says_cannot_be_said_again(option: str) -> None:
    said: dict[str, Any] = {option: getattr(WORKLOAD, option, 1)}
    with pytest.raises(OptionError, match=rf"^{option}: the workload says it already; change it with dataclasses\."):
        train(workload=WORKLOAD, **said)


@settings(max_examples=30)
@given(st.integers(0, 11), st.none() | st.integers(1, 12), st.sampled_from(OPTIMIZERS))
def test_divergence_with_batches_names_the_iteration(bad: int, every: int | None, optimizer: Any) -> None:
    """Also if it depends on the optimizer's moments and on the place in the epoch."""

    class BreaksDown(NumpyMlpTrainer):
        def advance(self, iterations: int) -> Metrics:
            for _ in range(iterations):
                at = self._state.iteration
                metrics = super().advance(1)
                if at == bad:
                    self._state.parameters.biases[0][0] = math.nan
            return metrics

    recipe = replace(BATCHES, optimizer=Optimizer(optimizer))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mnistbench.backends.numpy.NumpyMlpTrainer", BreaksDown)
        with pytest.raises(Diverged) as caught:
            train(**BY_EPOCHS | {"recipe": recipe}, every=every)
    assert caught.value.iteration == bad
