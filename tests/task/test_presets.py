"""Presets: the classic is the tutorial's task, and presets with a published error train on all images."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mnistbench.exceptions import OptionError
from mnistbench.task.presets import PRESETS, PUBLISHED, preset, variant
from mnistbench.task.workload import DType, Network, Workload


def test_classic_is_the_tutorials_task() -> None:
    classic = preset("classic")
    assert classic.network == Network((784, 10, 10))
    assert (classic.images, classic.iterations, classic.learning_rate) == (41_000, 500, 0.10)
    assert (classic.dtype, classic.seed, classic.name) == ("float32", 0, "classic")
    # Two products with W1's shape (forward, gradient) and three with W2's, 2 operations per weight and image.
    assert classic.dense_flops == 41_000 * 2 * (2 * 7840 + 3 * 100)
    assert classic.image_bytes == 41_000 * 784


def test_presets_carry_their_name_and_are_taken_in_a_dtype_and_seed(dtype: DType) -> None:
    for name, task in PRESETS.items():
        assert preset(name, dtype, 7) == replace(task, name=name, dtype=dtype, seed=7)


def test_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(OptionError, match=r"^workload 'clasic': choose from classic, smoke, smoke-deep, wide, "):
        preset("clasic")


def test_published_errors_are_of_presets_that_train_on_all_images() -> None:
    for name, published in PUBLISHED.items():
        task = preset(name)
        assert task.images == 60_000
        assert str(task.network) in published.method
        assert 0.005 < published.error < 0.05
        assert published.source.split()[-1] in ("1998", "2003")
    assert preset("simard-elastic").recipe.augmentation.elastic_alpha > 0


def test_presets_of_larger_networks_train_whole_epochs_in_batches() -> None:
    for task in PRESETS.values():
        if not task.is_classic:
            assert task.batch_size == 128
            assert task.iterations % task.iterations_per_epoch == 0
    assert (preset("wide").network.hidden, preset("deep").network.hidden) == ((800,), (500, 150))
    assert preset("wide").iterations == preset("wide").iterations_per_epoch == 461


def test_a_variant_is_named_by_its_sizes_and_the_recipe_it_has() -> None:
    assert variant("classic", hidden=32).name == "784-32-10x41000x500"
    assert variant("classic", seed=7, images=100).name == "784-10-10x100x500-seed7"
    assert variant("wide", hidden=8, iterations=3).name == "wide-784-8-10x59000x3"
    assert variant("wide") == preset("wide")


def test_a_workload_with_a_recipe_comes_back_from_its_description() -> None:
    for task in PRESETS.values():
        assert Workload.from_description(json.loads(json.dumps(task.describe()))) == task
