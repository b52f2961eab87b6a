"""JAX and PyTorch alike: random bits are the reference's, pixels are exact, and a reset restores the initial state."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import mnistbench.backends as registry
from mnistbench.reference import augmentation, counter
from mnistbench.task.recipe import Augmentation
from mnistbench.task.workload import DType, Workload
from tests.support import builders, options
from tests.support.builders import identical

TASKS = [options.task(**options.EVERYTHING), options.task(dropout=(0.3,))]
"""Every option, in mini-batches; and a full batch with masks."""


@pytest.fixture(params=["jax", "torch"])
def peer(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return str(request.param)


@pytest.mark.parametrize("task", TASKS, ids=["everything", "no batches"])
def test_a_reset_restarts_and_calls_of_any_length_are_the_same(peer: str, task: Workload) -> None:
    initial = builders.initial(task)
    with registry.get_backend(peer).start(task, options.DATA, initial) as trainer:
        whole = trainer.advance(15), trainer.parameters()
        assert not identical(whole[1], initial)
        trainer.reset(initial)
        assert identical(trainer.parameters(), initial)
        parts = [trainer.advance(iterations) for iterations in (1, 4, 3, 7)]
        assert parts[-1] == whole[0]
        assert identical(trainer.parameters(), whole[1])
        description = trainer.describe()
    assert (description.bytes_read or 0) >= 2 * task.image_bytes * task.itemsize
    assert f"{task.batch_size} images at a time" in description.kernel


def test_pixels_are_divided_exactly(peer: str, dtype: DType) -> None:
    """A product with a rounded 1/255 would have the same error in every image."""
    data = builders.dataset(256, 1, 2)
    data.train.images[:, 0] = np.arange(256)
    task = builders.workload(data, dtype=dtype)
    with registry.get_backend(peer).start(task, data, builders.initial(task)) as trainer:
        X: Any = trainer._blocks if peer == "jax" else trainer._X.cpu()  # type: ignore[attr-defined]
    expected = np.arange(256, dtype=dtype) / np.asarray(255, dtype)
    assert np.asarray(X).ravel().tolist() == expected.tolist()


def test_parameters_and_gradients_are_copies(peer: str) -> None:
    task = TASKS[0]
    given = builders.initial(task)
    with registry.get_backend(peer).start(task, options.DATA, given) as trainer:
        trainer.advance(1)
        before = trainer.parameters(), trainer.gradients()
        kept = [values.astype("float64") for values in before]
        trainer.advance(3)
        assert all(identical(values, copy) for values, copy in zip(before, kept, strict=True))
        for array in (*trainer.gradients().arrays(), *trainer.parameters().arrays()):
            array[:] = np.nan
        assert trainer.parameters().is_finite()
    assert identical(given, builders.initial(task))


@pytest.mark.parametrize("seed", [0, 3, 2**32 - 1, 2**63 + 5, 2**64 + 1])
@pytest.mark.parametrize("epoch", [0, 7])
def test_masks_are_the_reference_s_bit_for_bit(peer: str, seed: int, epoch: int) -> None:
    draws = DRAWS[peer](seed, epoch)
    places = np.array([0, 5, 1, 58_999, 2**31 - 1])
    for layer, units, rate in ((0, 1, 0.5), (1, 2, 0.3), (3, 801, 0.9), (0, 7, 1e-12), (0, 7, 1 - 1e-12)):
        expected = counter.kept(seed, epoch, layer, places, units, rate)
        assert np.array_equal(draws.kept(layer, places, units, rate), expected)


MUCH = Augmentation(shift=64, rotate=180.0, elastic_alpha=500.0, elastic_sigma=16.0)
SHARP = Augmentation(shift=1, rotate=20.0, elastic_alpha=120.0, elastic_sigma=0.5)


@pytest.mark.parametrize(
    ("shape", "change"),
    [
        ((28, 28), Augmentation(shift=2)),
        ((28, 28), Augmentation(rotate=15.0)),
        ((28, 28), Augmentation(elastic_alpha=34.0)),
        *((shape, change) for shape in ((28, 28), (12, 9), (1, 13), (5, 1)) for change in (MUCH, SHARP)),
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
    """An epoch's random bits by programs that are compiled once for all seeds and epochs."""

    def __init__(self, seed: int, epoch: int) -> None:
        self._seed = np.array([seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF], np.uint32)
        self._epoch = np.int32(epoch)

    def _computed(self, function: Any, *arrays: Any) -> Any:
        """Compute in both modes of JAX, which must agree."""
        import jax

        with jax.enable_x64(True):
            wide = np.asarray(function(self._seed, self._epoch, *arrays))
        with jax.enable_x64(False):
            found = np.asarray(function(self._seed, self._epoch, *arrays))
        assert np.array_equal(found, wide)
        return found

    def kept(self, layer: int, places: Any, units: int, rate: float) -> Any:
        return self._computed(_jax_kept(layer, units, rate), places.astype(np.int32))

    def augmented(self, images: Any, places: Any, shape: tuple[int, int], change: Augmentation) -> Any:
        return self._computed(_jax_augmented(shape, change), images, places.astype(np.int32))


@cache
def _jax_kept(layer: int, units: int, rate: float) -> Any:
    import jax

    from mnistbench.backends.jax import random

    return jax.jit(lambda seed, epoch, places: random.kept(seed, epoch, layer, places, units, rate))


@cache
def _jax_augmented(shape: tuple[int, int], change: Augmentation) -> Any:
    import jax

    from mnistbench.backends.jax import random

    return jax.jit(lambda seed, epoch, images, places: random.augmented(images, places, shape, change, seed, epoch))


class TorchDraws:
    """An epoch's random bits by eager operations."""

    def __init__(self, seed: int, epoch: int) -> None:
        import torch

        from mnistbench.backends.torch import device, random

        self._torch, self._random, self._seed, self._epoch = torch, random, seed, epoch
        self._device = device.device()

    def _placed(self, array: Any) -> Any:
        return self._torch.from_numpy(array).to(self._device)

    def _schedule(self, purpose: int) -> Any:
        return self._placed(np.array(self._random.schedule(self._seed, purpose, self._epoch), np.int32))

    def kept(self, layer: int, places: Any, units: int, rate: float) -> Any:
        own = self._schedule(counter.DROPOUT + layer)
        return self._random.kept(own, self._placed(places.astype(np.int32)), units, rate).T.cpu().numpy()

    def augmented(self, images: Any, places: Any, shape: tuple[int, int], change: Augmentation) -> Any:
        own = [self._schedule(purpose) for purpose in (counter.PLACE, counter.ELASTIC)]
        table = self._random.tables(change, shape)
        given = self._placed(images), self._placed(places.astype(np.int32))
        return self._random.augmented(*given, shape, table, *own).cpu().numpy()


DRAWS: dict[str, Any] = {"jax": JaxDraws, "torch": TorchDraws}
