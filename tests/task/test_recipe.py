"""Options of training: their ranges, their descriptions, and the learning rates of schedules."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnistbench.exceptions import OptionError
from mnistbench.task.recipe import (
    ACTIVATIONS,
    INITIALIZERS,
    OPTIMIZERS,
    SCHEDULES,
    Augmentation,
    Optimizer,
    Recipe,
    Schedule,
)
from mnistbench.task.workload import Network, Workload

below_one = st.floats(0, 1, exclude_max=True)
positive = st.floats(1e-12, 1e3)
optimizers = st.builds(
    Optimizer, st.sampled_from(OPTIMIZERS), below_one, below_one, below_one, below_one, positive, st.floats(0, 10)
)
schedules = st.builds(Schedule, st.sampled_from(SCHEDULES), st.integers(1, 100), st.floats(1e-6, 1))
augmentations = st.builds(Augmentation, st.integers(0, 64), st.floats(0, 180), st.floats(0, 500), st.floats(0.5, 16))
recipes = st.builds(
    Recipe,
    st.sampled_from(INITIALIZERS),
    st.floats(0, 10),
    st.lists(below_one, max_size=3).map(tuple),
    optimizers,
    st.none() | st.integers(1, 1000),
    schedules,
    augmentations,
)

INFINITE = (math.nan, math.inf, -math.inf)


@pytest.mark.parametrize(
    ("kind", "option", "values", "message"),
    [
        (Optimizer, "name", ["sgd", "", "Adam"], "choose from gd, momentum, nesterov, rmsprop, adam, adamw"),
        *((Optimizer, option, [-0.1, 1.0, *INFINITE], option + " {}: must be at least 0 and below 1")
          for option in ("momentum", "rho", "beta1", "beta2")),
        (Optimizer, "epsilon", [0.0, -1e-8, *INFINITE], "epsilon {}: must be above 0"),
        (Optimizer, "weight_decay", [-0.1, *INFINITE], "weight decay {}: must be at least 0"),
        (Schedule, "name", ["linear"], "schedule 'linear': choose from constant, cosine, step"),
        (Schedule, "every", [0, -1], "schedule step {}: must be at least 1 epoch"),
        (Schedule, "factor", [0.0, 1.1, *INFINITE], "schedule factor {}: must be above 0 and at most 1"),
        (Augmentation, "shift", [-1, 65, 1.5], "shift {}: must be a whole number of pixels from 0 to 64"),
        (Augmentation, "rotate", [-1.0, 181.0, *INFINITE], "rotation {}: must be from 0 to 180 degrees"),
        (Augmentation, "elastic_alpha", [-1.0, 501.0, *INFINITE], "elastic alpha {}: must be from 0 to 500"),
        (Augmentation, "elastic_sigma", [0.4, 17.0, *INFINITE], "elastic sigma {}: must be from 0.5 to 16 pixels"),
        (Recipe, "initializer", ["zeros"], "initializer 'zeros': choose from uniform, xavier, he"),
        (Recipe, "l2", [-1.0, *INFINITE], "l2 {}: must be at least 0"),
        (Recipe, "dropout", [(1.0,), (0.5, -0.1), (math.nan,)], "dropout {}: must be at least 0 and below 1"),
        (Recipe, "batch_size", [0, -5], "batch size {}: must be at least 1"),
    ],
)  # fmt: skip
def test_a_value_out_of_its_range_is_one_line(kind: Any, option: str, values: list[Any], message: str) -> None:
    for value in values:
        with pytest.raises(OptionError) as caught:
            kind(**{option: value})
        said = str(caught.value)
        assert message.format(value[-1] if isinstance(value, tuple) else value) in said
        assert said.isprintable()


@given(recipes)
def test_a_recipe_comes_back_from_its_description(recipe: Recipe) -> None:
    assert Recipe.from_description(json.loads(json.dumps(recipe.describe(), allow_nan=False))) == recipe
    network = Network((6, *(2,) * len(recipe.dropout), 3), "tanh")
    task = Workload(network, 50, recipe=recipe)
    assert Workload.from_description(json.loads(json.dumps(task.describe()))) == task


def test_the_classic_s_description_does_not_speak_of_recipes() -> None:
    task = Workload(Network((6, 5, 3)), 50)
    assert not {"recipe", "activation"} & set(task.describe())
    assert Workload.from_description(task.describe()) == task


@pytest.mark.parametrize(
    ("dropout", "layers", "rates"),
    [((), 0, ()), ((), 2, (0.0, 0.0)), ((0.5,), 0, ()), ((0.5,), 3, (0.5, 0.5, 0.5)), ((0.2, 0.5), 2, (0.2, 0.5))],
)
def test_dropout_is_one_rate_for_all_layers_or_one_each(dropout: Any, layers: int, rates: Any) -> None:
    assert Recipe(dropout=dropout).dropout_rates(layers) == rates


@pytest.mark.parametrize("hidden", [(), (4,), (4, 4, 4)])
def test_dropout_rates_that_fit_no_network_are_refused_with_the_workload(hidden: tuple[int, ...]) -> None:
    message = rf"^2 dropout rates for {len(hidden)} hidden layers: give one, or one each$"
    with pytest.raises(OptionError, match=message):
        Workload(Network((6, *hidden, 3)), 50, recipe=Recipe(dropout=(0.1, 0.2)))


TASK = Workload(Network((6, 4, 3)), 10, 12, 0.5, recipe=Recipe(batch_size=4))


def test_a_cosine_reaches_0_after_the_last_iteration() -> None:
    assert [TASK.rate(iteration) for iteration in (0, 5, 12, 99)] == [0.5] * 4, "without a schedule it is constant"
    task = replace(TASK, recipe=Recipe(batch_size=4, schedule=Schedule("cosine")))
    assert task.rate(0) == 0.5
    assert task.rate(3) == pytest.approx(0.25 * (1 + math.sqrt(0.5)))
    assert task.rate(6) == pytest.approx(0.25)
    assert task.rate(9) == pytest.approx(0.25 * (1 - math.sqrt(0.5)))
    assert task.rate(11) == pytest.approx(0.25 * (1 - math.cos(math.pi / 12)))
    assert task.rate(12) == task.rate(500) == 0


def test_steps_are_of_epochs() -> None:
    """With 10 images in batches of 4, an epoch has three iterations."""
    task = replace(TASK, recipe=Recipe(batch_size=4, schedule=Schedule("step", every=2, factor=0.1)))
    assert [task.rate(i) for i in (0, 5)] == [0.5, 0.5]
    assert [task.rate(i) for i in (6, 11, 12)] == pytest.approx([0.05, 0.05, 0.005])
    whole = replace(task, recipe=replace(task.recipe, batch_size=None))
    assert [whole.rate(i) for i in (0, 1, 2, 4)] == pytest.approx([0.5, 0.5, 0.05, 0.005])


@given(schedules, st.integers(0, 500), st.integers(1, 400), st.integers(0, 50))
def test_a_schedule_never_raises_the_rate(schedule: Schedule, iteration: int, iterations: int, epoch: int) -> None:
    scale = schedule.scale(iteration, iterations, epoch)
    assert type(scale) is float
    assert 0 <= schedule.scale(iteration + 1, iterations, epoch + 1) <= scale <= 1


@given(st.floats(0, 0.9999), st.floats(0, 0.9999), st.integers(1, 1000))
def test_bias_corrections_make_the_mean_of_a_constant_that_constant(beta1: float, beta2: float, step: int) -> None:
    first, second = Optimizer("adam", beta1=beta1, beta2=beta2).bias_corrections(step)
    mean = square = 0.0
    for _ in range(min(step, 50)):
        mean, square = beta1 * mean + (1 - beta1) * 3, beta2 * square + (1 - beta2) * 9
    if step <= 50:
        assert (mean * first, math.sqrt(square) * second) == pytest.approx((3, 3))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"network": Network((6, 3))}, "0 hidden layers"),
        ({"network": Network((6, 4, 4, 3))}, "2 hidden layers"),
        *(({"network": Network((6, 4, 3), name)}, f"the activation {name}") for name in ACTIVATIONS[1:]),
        *(({"recipe": Recipe(optimizer=Optimizer(name))}, f"the optimizer {name}") for name in OPTIMIZERS[1:]),
        ({"recipe": Recipe(batch_size=50)}, "batches"),
        ({"recipe": Recipe(dropout=(0.1,))}, "dropout"),
        ({"recipe": Recipe(l2=0.1)}, "L2 regularisation"),
        ({"recipe": Recipe(schedule=Schedule("cosine"))}, "the schedule cosine"),
        ({"recipe": Recipe(augmentation=Augmentation(shift=1))}, "augmentation"),
        ({"recipe": Recipe("he", dropout=(0.0,), schedule=Schedule(every=3), optimizer=Optimizer(rho=0.1))}, None),
    ],
)  # fmt: skip
def test_what_is_not_the_classic_is_named(change: dict[str, Any], words: str | None) -> None:
    task = replace(Workload(Network((6, 4, 3)), 50), **change)
    assert task.mlp_option == words
    assert task.is_classic == (words is None)
