"""Networks of any depth with every option, in JAX and in PyTorch: the same numbers as the reference in NumPy, and the
same random bits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import mnistbench.backends as registry
from mnistbench.backends import Trainer
from mnistbench.datasets import Dataset
from mnistbench.reference import augmentation, counter
from mnistbench.reference.parameters import Parameters
from mnistbench.task.recipe import ACTIVATIONS, OPTIMIZERS, Augmentation, Optimizer, Recipe, Schedule
from mnistbench.task.workload import Network, Workload
from tests.support import builders
from tests.support.builders import identical

SHAPE = 12, 9
IMAGES = 57  # in batches of 16: three, and one of 9


@pytest.fixture(params=["jax", "torch"])
def peer(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return str(request.param)


@pytest.fixture(scope="module")
def data() -> Dataset:
    """57 images of 12 rows and 9 columns in 5 classes."""
    return replace(builders.dataset(IMAGES, SHAPE[0] * SHAPE[1], 5, ink=0.4), image_shape=SHAPE)


def workload(
    hidden: tuple[int, ...] = (7,), activation: Any = "relu", learning_rate: float = 0.1, **recipe: Any
) -> Workload:
    """12 iterations, three epochs in batches of 16, of a network with these hidden layers and this recipe."""
    network = Network((SHAPE[0] * SHAPE[1], *hidden, 5), activation)
    options = Recipe(**{"batch_size": 16, "initializer": "xavier", **recipe})
    return Workload(network, IMAGES, 12, learning_rate, "float64", seed=2**35 + 3, recipe=options)


BENT = Augmentation(shift=2, rotate=20.0, elastic_alpha=30.0, elastic_sigma=2.5)
CASES: dict[str, Workload] = {
    **{activation: workload(activation=activation) for activation in ACTIVATIONS},
    "no hidden layer": workload(()),
    "three hidden layers": workload((7, 5, 6), "tanh"),
    "L2": workload(l2=3.0),
    "dropout": workload((7, 6), dropout=(0.3,)),
    "dropout in the second layer": workload((7, 6), dropout=(0.0, 0.5)),
    "dropout of almost nothing": workload(dropout=(1e-12,)),
    "dropout of almost everything": workload(dropout=(1 - 1e-12,), initializer="uniform"),
    "no batches": workload((7, 6), batch_size=None),
    "no batches, dropout": workload(batch_size=None, dropout=(0.3,)),
    "no batches, augmentation": workload(batch_size=None, augmentation=BENT),
    "one batch, shuffled": workload(batch_size=IMAGES),
    "more than one batch": workload(batch_size=10 * IMAGES, dropout=(0.3,)),
    "one image at a time": workload(batch_size=1),
    "batches without a smaller one": workload(batch_size=19),
    "cosine": workload(schedule=Schedule("cosine")),
    "step": workload(schedule=Schedule("step", every=1, factor=0.5)),
    "shift": workload(augmentation=Augmentation(shift=3)),
    "rotation": workload(augmentation=Augmentation(rotate=30.0)),
    "elastic": workload(augmentation=Augmentation(elastic_alpha=34.0, elastic_sigma=4.0)),
    **{name: workload((7, 6), learning_rate=0.02, optimizer=Optimizer(name)) for name in OPTIMIZERS},
    "nesterov without momentum": workload(optimizer=Optimizer("nesterov", momentum=0.0)),
    "other constants": workload(
        learning_rate=0.01, optimizer=Optimizer("adamw", beta1=0.5, beta2=0.9, epsilon=1e-3, weight_decay=0.3)
    ),
    "everything": workload(
        (9, 6), "leaky-relu", 0.01, l2=2.0, dropout=(0.2, 0.4), optimizer=Optimizer("adam"),
        schedule=Schedule("cosine"), augmentation=BENT,
    ),
    "everything else": workload(
        (9, 4, 6), "sigmoid", 0.3, l2=1.0, dropout=(0.25,), optimizer=Optimizer("nesterov"), initializer="he",
        schedule=Schedule("step", every=2), augmentation=Augmentation(rotate=180.0), batch_size=20,
    ),
}  # fmt: skip


def initial(task: Workload) -> Parameters:
    return Parameters.initial(task.network, task.seed, task.recipe.initializer)


def pair(peer: str, task: Workload, data: Dataset) -> tuple[Trainer, Trainer]:
    """The reference's trainer and the peer's."""
    reference, other = (registry.get(name).start(task, data, initial(task)) for name in ("numpy", peer))
    return reference, other


def assert_close(found: Parameters, expected: Parameters, tolerance: float) -> None:
    for (name, value), (_, wanted) in zip(found.named(), expected.named(), strict=True):
        assert (value.dtype, value.shape) == (wanted.dtype, wanted.shape), name
        size = np.abs(wanted).max() + 1e-3
        assert np.abs(value - wanted).max() <= tolerance * size, name


@pytest.mark.parametrize("case", CASES)
def test_follows_the_reference(peer: str, case: str, data: Dataset) -> None:
    task = CASES[case]
    reference, other = pair(peer, task, data)
    for _ in range(14):  # two more than the workload's
        assert_close(other.gradients(), reference.gradients(), 1e-9)
        expected, found = reference.advance(1), other.advance(1)
        assert (found.iteration, found.accuracy) == (expected.iteration, expected.accuracy)
        assert found.loss == pytest.approx(expected.loss, rel=1e-10)
        assert_close(other.parameters(), reference.parameters(), 1e-9)
    assert np.array_equal(other.predict(data.dev.images), reference.predict(data.dev.images))


OPTIONS: dict[str, list[Any]] = {
    "l2": [0.0, 2.0],
    "dropout": [(), (0.2,), (0.6,)],
    "optimizer": [Optimizer(name) for name in OPTIMIZERS],
    "batch_size": [None, 16, 20, IMAGES],
    "schedule": [Schedule(), Schedule("cosine"), Schedule("step", every=1, factor=0.5)],
    "augmentation": [Augmentation(), Augmentation(shift=1, rotate=10.0), BENT],
    "initializer": ["xavier", "he"],
}


@pytest.mark.parametrize("seed", range(6))
def test_random_combinations_follow_the_reference_in_float32(peer: str, seed: int, data: Dataset) -> None:
    rng = np.random.default_rng(seed)
    chosen = {name: values[rng.integers(len(values))] for name, values in OPTIONS.items()}
    hidden = tuple(int(units) for units in rng.integers(1, 12, rng.integers(0, 4)))
    activation = ACTIVATIONS[rng.integers(len(ACTIVATIONS))]
    task = replace(workload(hidden, activation, 0.003, **chosen), dtype="float32", seed=seed)
    reference, other = pair(peer, task, data)
    for _ in range(6):
        assert_close(other.gradients(), reference.gradients(), 1e-3)
        expected, found = reference.advance(1), other.advance(1)
        assert found.loss == pytest.approx(expected.loss, rel=1e-4)
        assert_close(other.parameters(), reference.parameters(), 1e-3)


@pytest.mark.parametrize("case", ["adam", "adamw", "momentum", "rmsprop", "everything", "no batches, dropout"])
def test_a_reset_forgets_and_calls_of_any_length_are_the_same(peer: str, case: str, data: Dataset) -> None:
    task = CASES[case]
    with registry.get(peer).start(task, data, initial(task)) as trainer:
        whole = trainer.advance(15), trainer.parameters()
        assert not identical(whole[1], initial(task))
        trainer.reset(initial(task))
        assert identical(trainer.parameters(), initial(task))
        parts = [trainer.advance(iterations) for iterations in (1, 4, 3, 7)]
        assert [metrics.iteration for metrics in parts] == [0, 4, 7, 14]
        assert parts[-1] == whole[0]
        assert identical(trainer.parameters(), whole[1])


def test_what_is_handed_out_and_in_are_copies(peer: str, data: Dataset) -> None:
    task = CASES["everything"]
    given = initial(task)
    with registry.get(peer).start(task, data, given) as trainer:
        trainer.advance(1)
        before = trainer.parameters(), trainer.gradients()
        kept = [values.astype("float64") for values in before]
        trainer.advance(3)
        assert all(identical(values, copy) for values, copy in zip(before, kept, strict=True))
        for _, values in trainer.gradients().named():
            values[:] = np.nan
        for _, values in trainer.parameters().named():
            values[:] = np.nan
        assert trainer.parameters().is_finite()
    assert identical(given, initial(task))


@pytest.mark.parametrize("case", ["everything", "no batches"])
def test_says_what_it_is(peer: str, case: str, data: Dataset) -> None:
    task = CASES[case]
    chosen = registry.get(peer)
    assert chosen.missing(task) is None
    chosen.warm_up(task)
    with chosen.start(task, data, initial(task)) as trainer:
        said = trainer.describe()
    assert {"device", "threads", "versions", "kernel", "skips", "bytes_read"} <= set(said)
    assert said["bytes_read"] >= 2 * task.image_bytes * task.itemsize
    assert f"{task.batch_size} images at a time" in said["kernel"]


@pytest.mark.parametrize("seed", [0, 3, 2**32 - 1, 2**63 + 5, 2**64 + 1])
@pytest.mark.parametrize("epoch", [0, 7])
def test_orders_and_masks_are_the_reference_s_bit_for_bit(peer: str, seed: int, epoch: int) -> None:
    draws = DRAWS[peer](seed, epoch)
    for images in (1, 2, 57, 5000):
        assert np.array_equal(draws.shuffled(images), counter.shuffled(seed, epoch, images))
    places = np.array([0, 5, 1, 58_999, 2**31 - 1])
    for layer, units, rate in ((0, 1, 0.5), (1, 2, 0.3), (3, 801, 0.9), (0, 7, 1e-12), (0, 7, 1 - 1e-12)):
        expected = counter.kept(seed, epoch, layer, places, units, rate)
        assert np.array_equal(draws.kept(layer, places, units, rate), expected)


@pytest.mark.parametrize("shape", [(28, 28), (12, 9), (1, 13), (5, 1)])
@pytest.mark.parametrize(
    "change",
    [
        Augmentation(shift=2),
        Augmentation(rotate=15.0),
        Augmentation(elastic_alpha=34.0),
        Augmentation(shift=64, rotate=180.0, elastic_alpha=500.0, elastic_sigma=16.0),
        Augmentation(shift=1, rotate=20.0, elastic_alpha=120.0, elastic_sigma=0.5),
    ],
    ids=str,
)
def test_augmented_images_are_the_reference_s_bit_for_bit(
    peer: str, shape: tuple[int, int], change: Augmentation
) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, shape[0] * shape[1]), dtype=np.uint8)
    places = rng.permutation(59_000)[:40]
    for seed, epoch in ((0, 0), (2**40 + 7, 12)):
        expected = augmentation.augmented(images, places, shape, change, seed, epoch)
        found = DRAWS[peer](seed, epoch).augmented(images, places, shape, change)
        assert found.dtype == np.uint8
        assert np.array_equal(found, expected)
        assert not np.array_equal(expected, images)


class JaxDraws:
    """The random bits of one epoch, as compiled programs compute them."""

    def __init__(self, seed: int, epoch: int) -> None:
        import jax

        from mnistbench.backends.jax import random

        self._jax, self._random = jax, random
        self._seed = np.array([seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF], np.uint32)
        self._epoch = np.int32(epoch)

    def _computed(self, function: Any, *arrays: Any) -> Any:
        """In both modes of JAX, which must agree."""
        with self._jax.enable_x64(True):
            wide = np.asarray(self._jax.jit(function)(self._seed, self._epoch, *arrays))
        with self._jax.enable_x64(False):
            found = np.asarray(self._jax.jit(function)(self._seed, self._epoch, *arrays))
        assert np.array_equal(found, wide)
        return found

    def shuffled(self, images: int) -> Any:
        return self._computed(lambda seed, epoch: self._random.shuffled(seed, epoch, images))

    def kept(self, layer: int, places: Any, units: int, rate: float) -> Any:
        def kept(seed: Any, epoch: Any, places: Any) -> Any:
            return self._random.kept(seed, epoch, layer, places, units, rate)

        return self._computed(kept, places.astype(np.int32))

    def augmented(self, images: Any, places: Any, shape: tuple[int, int], change: Augmentation) -> Any:
        def augmented(seed: Any, epoch: Any, images: Any, places: Any) -> Any:
            return self._random.augmented(images, places, shape, change, seed, epoch)

        return self._computed(augmented, images, places.astype(np.int32))


class TorchDraws:
    """The same, operation by operation."""

    def __init__(self, seed: int, epoch: int) -> None:
        import torch

        from mnistbench.backends.torch import device, random

        self._torch, self._random, self._seed, self._epoch = torch, random, seed, epoch
        self._device = device.device()

    def _placed(self, array: Any) -> Any:
        return self._torch.from_numpy(array).to(self._device)

    def _schedule(self, purpose: int) -> Any:
        return self._placed(np.array(self._random.schedule(self._seed, purpose, self._epoch), np.int32))

    def shuffled(self, images: int) -> Any:
        return self._random.shuffled(self._schedule(counter.SHUFFLE), images).cpu().numpy()

    def kept(self, layer: int, places: Any, units: int, rate: float) -> Any:
        own = self._schedule(counter.DROPOUT + layer)
        return self._random.kept(own, self._placed(places.astype(np.int32)), units, rate).T.cpu().numpy()

    def augmented(self, images: Any, places: Any, shape: tuple[int, int], change: Augmentation) -> Any:
        own = [self._schedule(purpose) for purpose in (counter.PLACE, counter.ELASTIC)]
        table = self._random.tables(change, shape)
        given = self._placed(images), self._placed(places.astype(np.int32))
        return self._random.augmented(*given, shape, table, *own).cpu().numpy()


DRAWS: dict[str, Any] = {"jax": JaxDraws, "torch": TorchDraws}
