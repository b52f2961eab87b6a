"""Multilayer perceptrons with every option: the equations against other ways of computing them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnistbench import reference
from mnistbench.reference import mlp
from mnistbench.reference.augmentation import augmented
from mnistbench.reference.mlp import Batches, State
from mnistbench.reference.parameters import Array, Parameters
from mnistbench.task.recipe import ACTIVATIONS, OPTIMIZERS, Activation, Augmentation, Optimizer, Recipe, Schedule
from mnistbench.task.workload import DTYPES, DType, Network, Workload
from tests.support import builders, options
from tests.support.builders import identical

BOTH = [pytest.param(dtype, id=dtype) for dtype in DTYPES]


def batches(task: Workload) -> Batches:
    train = options.DATA.train
    return Batches(task, train.images, train.labels, options.DATA.image_shape)


# The classic


@given(st.tuples(*(st.integers(1, most) for most in (40, 20, 6, 12))), st.sampled_from(DTYPES), st.integers(0, 99))
def test_the_classic_has_the_reference_s_bits(sizes: tuple[int, int, int, int], dtype: DType, seed: int) -> None:
    *of_data, hidden = sizes
    data = builders.dataset(*of_data, seed=seed)
    task = builders.workload(data, hidden, dtype=dtype)
    own = builders.initial(task)
    (W1, W2), (b1, b2) = own.weights, own.biases
    X, Y = reference.scale_images(data.train.images, dtype), data.train.labels
    state = State.start(own, task.recipe.optimizer)
    every = Batches(task, data.train.images, Y, data.image_shape)
    for _ in range(3):
        Z1, A1, Z2, A2 = reference.forward_prop(W1, b1, W2, b2, X)
        dW1, db1, dW2, db2 = reference.backward_prop(Z1, A1, Z2, A2, W1, W2, X, Y)
        W1, b1, W2, b2 = reference.update_params(W1, b1, W2, b2, dW1, db1, dW2, db2, task.learning_rate)
        found = mlp.gradients(task, state.parameters, every(state.iteration))
        assert identical(found, Parameters([dW1, dW2], [db1, db2]))
        step = mlp.iterate(task, every, state)
        assert [Z.tobytes() for Z in step.Zs] == [Z1.tobytes(), Z2.tobytes()]
        state = step.after
        assert identical(state.parameters, Parameters([W1, W2], [b1, b2]))
    predicted = mlp.predict(state.parameters, X, "relu")
    assert np.array_equal(predicted, reference.make_predictions(X, W1, b1, W2, b2))


# Layers


@pytest.mark.parametrize("precision", BOTH)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_at_any_value_and_in_their_dtype(activation: Activation, precision: DType) -> None:
    Z = np.array([[-1e30, -800.0, -3.0, -1e-3, 0.0, 1e-3, 3.0, 800.0, 1e30]], precision)
    expected: Callable[[float], float] = {
        "relu": lambda z: max(z, 0.0),
        "leaky-relu": lambda z: z if z > 0 else 0.01 * z,
        "tanh": math.tanh,
        "sigmoid": lambda z: 1 / (1 + math.exp(-z)) if z > -700 else math.exp(max(z, -1000)),
    }[activation]
    found, eps = mlp.activate(Z, activation), float(np.finfo(precision).eps)
    assert found.dtype == Z.dtype
    np.testing.assert_allclose(found[0], [expected(float(z)) for z in Z[0]], rtol=4 * eps)
    slopes = mlp.derivative(Z, activation)
    assert slopes.dtype in (Z.dtype, np.bool_)
    beside = [(expected(float(z) + 1e-6) - expected(float(z) - 1e-6)) / 2e-6 for z in Z[0, 2:7]]
    kink = activation in ("relu", "leaky-relu")
    checked = [0, 1, 3, 4] if kink else range(5)
    np.testing.assert_allclose(
        slopes[0, 2:7][checked].astype(float), np.array(beside)[checked], rtol=1e-6, atol=1e-9 + eps
    )
    if kink:  # at 0, the slope of the negative side
        assert slopes[0, 4] == slopes[0, 3]


# Small enough for finite differences of every parameter.
SMALL = builders.dataset(9, 6, 3, ink=0.8, rows=2)


def small(hidden: tuple[int, ...], activation: Activation = "tanh", **recipe: Any) -> Workload:
    network = Network((6, *hidden, 3), activation)
    return Workload(network, 9, 6, 0.1, "float64", 1, recipe=Recipe(**{"batch_size": 4, **recipe}))


GRADIENTS: dict[str, Workload] = {
    **{f"{name}, {depth} deep": small((5, 4, 3)[:depth], name) for name in ACTIVATIONS for depth in range(4)},
    "full batch": small((4, 3), batch_size=None),
    "l2": small((4, 3), l2=2.0),
    "l2 of softmax regression": small((), l2=2.0),
    "dropout": small((5, 4), dropout=(0.3, 0.5)),
    "dropout of relu": small((5, 4), "relu", dropout=(0.5,)),
    "dropout of sigmoid": small((5, 4), "sigmoid", dropout=(0.5,)),
    "augmentation": small((4,), augmentation=Augmentation(shift=1, rotate=20.0, elastic_alpha=5.0, elastic_sigma=0.5)),
    "everything": small((5, 4), "leaky-relu", l2=1.0, dropout=(0.3,), augmentation=Augmentation(rotate=90.0)),
}  # fmt: skip


@pytest.mark.parametrize("case", GRADIENTS)
@pytest.mark.parametrize("iteration", [0, 5])
def test_gradients_are_finite_differences_of_the_objective(case: str, iteration: int) -> None:
    """Iteration 5 takes the last batch of the second epoch, which has one image."""
    task = GRADIENTS[case]
    every = Batches(task, SMALL.train.images, SMALL.train.labels, SMALL.image_shape)
    batch = every(iteration)
    own = Parameters.initial(task.network, task.seed)

    def objective() -> float:
        Zs, _ = mlp.forward(own, batch.X, task.network.activation, batch.masks)
        squares = sum(float((W**2).sum()) for W in own.weights)
        return reference.cross_entropy(Zs[-1], batch.Y) + task.recipe.l2 / (2 * 9) * squares

    found = mlp.gradients(task, own, batch)
    for (name, array), (_, gradient) in zip(own.named(), found.named(), strict=True):
        for place in np.ndindex(array.shape):
            kept = array[place]
            sides = []
            for off in (1e-5, -1e-5):
                array[place] = kept + off
                sides.append(objective())
            array[place] = kept
            assert gradient[place] == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-6, abs=1e-9), (name, place)


def test_without_dropout_and_penalty_there_is_no_trace_of_them() -> None:
    task = options.task(hidden=(7, 6))
    batch = batches(task)(0)
    assert batch.masks is None
    own = builders.initial(task)
    Zs, As = mlp.forward(own, batch.X, "relu")
    assert identical(mlp.gradients(task, own, batch), mlp.backward(own, Zs, As, batch.Y, "relu"))
    ones: list[Array] = [np.ones((units, 37)) for units in (7, 6)]
    assert identical(mlp.gradients(task, own, replace(batch, masks=ones)), mlp.gradients(task, own, batch))


# Batches


@given(st.integers(1, 40), st.integers(0, 2**40), st.integers(0, 5))
def test_the_batches_of_an_epoch_have_every_image_once(size: int, seed: int, epoch: int) -> None:
    task = options.task(batch_size=size, seed=seed)
    per_epoch = task.iterations_per_epoch
    assert per_epoch == math.ceil(37 / min(size, 37))
    every = batches(task)
    places = [every.places(epoch * per_epoch + place) for place in range(per_epoch)]
    assert sorted(np.concatenate(places)) == list(range(37))
    assert [len(own) for own in places[:-1]] == [min(size, 37)] * (per_epoch - 1)
    assert len(places[-1]) == 37 - min(size, 37) * (per_epoch - 1)


@given(st.integers(0, 2**100), st.integers(0, 20), st.integers(1, 300))
def test_an_order_has_every_image_once_and_is_another_with_another_seed_or_epoch(
    seed: int, epoch: int, images: int
) -> None:
    order = mlp.epoch_order(seed, epoch, images)
    assert order.dtype == np.int64
    assert sorted(order) == list(range(images))
    if images > 50:
        others = (seed + 1, epoch), (seed, epoch + 1), (seed + 2**32, epoch), (seed + 1, max(0, epoch - 1))
        assert all((order != mlp.epoch_order(*other, images)).any() for other in others)


def test_a_known_order() -> None:
    assert mlp.epoch_order(seed=2**40 + 7, epoch=3, images=10).tolist() == [4, 8, 0, 7, 1, 9, 6, 2, 3, 5]


def test_batches_are_shuffled_anew_and_come_in_whatever_order_they_are_asked_for() -> None:
    task = options.task(batch_size=16)
    every = batches(task)
    orders = [np.concatenate([every.places(3 * epoch + place) for place in range(3)]) for epoch in range(3)]
    assert len({order.tobytes() for order in (*orders, np.arange(37))}) == 4
    for iteration in (8, 0, 5, 4):
        epoch, place = divmod(iteration, 3)
        assert np.array_equal(every.places(iteration), orders[epoch][16 * place : 16 * place + 16])


@pytest.mark.parametrize("precision", BOTH)
def test_a_batch_has_the_images_of_its_places(precision: DType) -> None:
    train, shape = options.DATA.train, options.DATA.image_shape
    change = Augmentation(shift=1, rotate=10.0)
    for more in (Augmentation(), change):
        task = options.task(batch_size=16, dtype=precision, augmentation=more)
        every = batches(task)
        for iteration in (0, 2, 4):
            batch, places = every(iteration), every.places(iteration)
            images = train.images[places]
            if more:
                images = augmented(images, places, shape, change, 0, iteration // 3)
            assert np.array_equal(batch.X, reference.scale_images(images, precision))
            assert batch.X.dtype == precision
            assert np.array_equal(batch.Y, train.labels[places])


def test_without_a_batch_size_images_keep_their_order() -> None:
    for task in (options.task(), options.task(dropout=(0.5,)), options.task(augmentation=Augmentation(shift=1))):
        every = batches(task)
        for iteration in (0, 3):
            assert np.array_equal(every.places(iteration), np.arange(37))
            assert np.array_equal(every(iteration).Y, options.DATA.train.labels)
    assert np.array_equal(batches(options.task())(4).X, reference.scale_images(options.DATA.train.images))


# Dropout


@pytest.mark.parametrize("precision", BOTH)
def test_masks_are_0_or_what_keeps_the_mean(precision: DType) -> None:
    task = options.task(hidden=(300, 200, 5), dropout=(0.25, 0.6, 0.0), dtype=precision)
    masks = batches(task)(0).masks
    assert masks is not None
    assert [mask.shape for mask in masks] == [(300, 37), (200, 37), (5, 37)]
    for mask, rate in zip(masks, (0.25, 0.6, 0.0), strict=True):
        assert mask.dtype == precision
        np.testing.assert_allclose(np.unique(mask), [0, 1 / (1 - rate)] if rate else [1], rtol=1e-7)
        assert abs(float(mask.mean()) - 1) <= 5 * math.sqrt(rate / (1 - rate) / mask.size)


def test_a_mask_is_the_same_in_whatever_batch_its_image_comes() -> None:
    def by_place(size: int | None, epoch: int) -> Array:
        task = options.task(hidden=(7, 6), dropout=(0.3, 0.5), batch_size=size)
        every = batches(task)
        found = np.full((13, 37), np.nan)
        for iteration in range(epoch * task.iterations_per_epoch, (epoch + 1) * task.iterations_per_epoch):
            masks = every(iteration).masks
            assert masks is not None
            found[:, every.places(iteration)] = np.concatenate(masks)
        return found

    for epoch in (0, 2):
        whole = by_place(None, epoch)
        assert all(np.array_equal(by_place(size, epoch), whole) for size in (1, 8, 37, 100))
    assert not np.array_equal(by_place(None, 0), by_place(None, 1))


def test_dropout_is_not_in_predictions() -> None:
    task = options.task(dropout=(0.5,))
    own, X = builders.initial(task), reference.scale_images(options.DATA.dev.images)
    W1, b1, W2, b2 = own.arrays()
    assert np.array_equal(mlp.predict(own, X, "relu"), reference.make_predictions(X, W1, b1, W2, b2))


# Optimizers

STEPS = 7


def gradients_of(step: int) -> Parameters:
    """Return gradients of very different sizes, some of them 0, for one layer of 3 units with 2 inputs."""
    rng = np.random.default_rng(step)
    sizes = 10.0 ** np.array([[0, -9], [-4, 2], [-8, -30]])
    return Parameters([rng.standard_normal((3, 2)) * sizes], [rng.standard_normal((3, 1)) * (step % 3 > 0)])


def optimized(optimizer: Optimizer, **more: Any) -> Parameters:
    """Return the parameters after all steps, starting from ones."""
    task = Workload(Network((2, 3)), 10, STEPS, 0.3, "float64", recipe=Recipe(optimizer=optimizer, **more))
    state = State.start(Parameters([np.ones((3, 2))], [np.ones((3, 1))]), optimizer)
    assert len(state.moments) == optimizer.moments
    for step in range(STEPS):
        state = mlp.update(task, state, gradients_of(step))
    assert state.iteration == STEPS
    return state.parameters


def one_value(optimizer: Optimizer, gradients: list[float], rates: list[float], is_weight: bool) -> float:
    """Return one parameter after all steps by the formulas of the papers."""
    p, o = 1.0, optimizer
    mean = square = 0.0
    for t, (g, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        if o.name == "gd":
            p -= rate * g
        elif o.name == "momentum":
            mean = o.momentum * mean + g
            p -= rate * mean
        elif o.name == "nesterov":
            # Sutskever et al. take the gradient at p + mu v; p here is their look-ahead position.
            before, mean = mean, o.momentum * mean + g
            p += rate * o.momentum * before - rate * (1 + o.momentum) * mean
        elif o.name == "rmsprop":
            square = o.rho * square + (1 - o.rho) * g**2
            p -= rate * g / (math.sqrt(square) + o.epsilon)
        else:
            mean = o.beta1 * mean + (1 - o.beta1) * g
            square = o.beta2 * square + (1 - o.beta2) * g**2
            unbiased, unbiased_square = mean / (1 - o.beta1**t), square / (1 - o.beta2**t)
            decay = o.weight_decay * p if o.name == "adamw" and is_weight else 0.0
            p -= rate * (unbiased / (math.sqrt(unbiased_square) + o.epsilon) + decay)
    return p


OTHERS = {"momentum": 0.7, "rho": 0.6, "beta1": 0.5, "beta2": 0.8, "epsilon": 1e-3, "weight_decay": 0.2}


@pytest.mark.parametrize("constants", [{}, OTHERS], ids=["default", "others"])
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("schedule", [Schedule(), Schedule("cosine")], ids=lambda own: own.name)
def test_an_optimizer_s_formula_value_by_value(name: Any, constants: dict[str, float], schedule: Schedule) -> None:
    optimizer = Optimizer(name, **constants)
    rates = [0.3 * schedule.scale(step, STEPS, step) for step in range(STEPS)]
    found = optimized(optimizer, schedule=schedule)
    every = [gradients_of(step) for step in range(STEPS)]
    for kind, array in (("weights", found.weights[0]), ("biases", found.biases[0])):
        for place in np.ndindex(array.shape):
            own = [float(getattr(gradient, kind)[0][place]) for gradient in every]
            expected = one_value(optimizer, own, rates, kind == "weights")
            # The other form of Nesterov's method cancels digits.
            assert array[place] == pytest.approx(expected, rel=1e-12, abs=1e-12), (kind, place)


@pytest.mark.slow
@pytest.mark.parametrize("constants", [{}, OTHERS], ids=["default", "others"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_is_pytorch_s(name: Any, constants: dict[str, float]) -> None:
    torch = pytest.importorskip("torch")
    o = Optimizer(name, **constants)
    W, b = torch.ones((3, 2), dtype=torch.float64), torch.ones((3, 1), dtype=torch.float64)
    groups = [{"params": [W]}, {"params": [b], **({"weight_decay": 0.0} if name == "adamw" else {})}]
    adams = {"betas": (o.beta1, o.beta2), "eps": o.epsilon}
    kinds: dict[str, tuple[Any, dict[str, Any]]] = {
        "gd": (torch.optim.SGD, {}),
        "momentum": (torch.optim.SGD, {"momentum": o.momentum}),
        "nesterov": (torch.optim.SGD, {"momentum": o.momentum, "nesterov": True}),
        "rmsprop": (torch.optim.RMSprop, {"alpha": o.rho, "eps": o.epsilon}),
        "adam": (torch.optim.Adam, adams),
        "adamw": (torch.optim.AdamW, {**adams, "weight_decay": o.weight_decay}),
    }
    kind, own_options = kinds[name]
    theirs = kind(groups, lr=0.3, **own_options)
    for step in range(STEPS):
        own = gradients_of(step)
        W.grad, b.grad = torch.from_numpy(own.weights[0]), torch.from_numpy(own.biases[0])
        theirs.step()
    found = optimized(o)
    np.testing.assert_allclose(found.weights[0], W.numpy(), rtol=1e-12)
    np.testing.assert_allclose(found.biases[0], b.numpy(), rtol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_everything_stays_in_the_dtype_and_what_it_came_from_as_it_was(name: Any) -> None:
    task = options.task("float32", hidden=(7, 6), optimizer=Optimizer(name), l2=0.5, dropout=(0.2,), batch_size=16)
    before = State.start(builders.initial(task), task.recipe.optimizer)
    state, every = before, batches(task)
    for _ in range(3):
        step = mlp.iterate(task, every, state)
        state = step.after
    for values in (state.parameters, *state.moments):
        assert {array.dtype for array in values.arrays()} == {np.dtype(np.float32)}
    assert {Z.dtype for Z in step.Zs} == {np.dtype(np.float32)}
    assert identical(before.parameters, builders.initial(task))
    assert all(not array.any() for values in before.moments for array in values.arrays())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_with_everything_learns(name: Any) -> None:
    """Learn labels that depend on the mean of the pixels."""
    train = options.DATA.train
    labels = (train.images.mean(axis=1) > np.median(train.images.mean(axis=1))).astype(np.int64)
    rates = {"gd": 0.5, "momentum": 0.1, "nesterov": 0.1, "rmsprop": 0.005, "adam": 0.01, "adamw": 0.01}
    task = replace(
        options.task(
            hidden=(20, 10), activation="tanh", initializer="xavier", batch_size=8, dropout=(0.1,), l2=0.01,
            optimizer=Optimizer(name), schedule=Schedule("cosine"), learning_rate=rates[name],
        ),
        iterations=250,
    )  # fmt: skip
    every = Batches(task, train.images, labels, options.DATA.image_shape)
    state = State.start(builders.initial(task), task.recipe.optimizer)
    for _ in range(250):
        state = mlp.iterate(task, every, state).after
    X = reference.scale_images(train.images)
    assert reference.get_accuracy(mlp.predict(state.parameters, X, "tanh"), labels) > 0.9
