"""Options of training: each reaches the workload, and one without effect is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mnistbench.cli.options import TrainingOptions
from mnistbench.datasets import load_images
from mnistbench.exceptions import DataError, OptionError
from mnistbench.ranks import local
from mnistbench.task.presets import PUBLISHED, preset
from mnistbench.task.recipe import Augmentation, Optimizer, Recipe, Schedule
from mnistbench.task.share import Share
from mnistbench.task.workload import Network, Workload
from tests.support import builders

DATA = builders.dataset(60, 20, 3)


def task(**given: Any) -> Workload:
    options = TrainingOptions(**given)
    options.check()
    return options.task(DATA)


def recipe(**given: Any) -> Recipe:
    return task(**given).recipe


def test_without_options_it_is_the_classic_in_other_sizes() -> None:
    assert task() == Workload(Network((20, 10, 3)), 60)
    assert task().is_classic


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"hidden": "500,150"}, {"network": Network((20, 500, 150, 3))}),
        ({"activation": "tanh"}, {"network": Network((20, 10, 3), "tanh")}),
        ({"dtype": "float64"}, {"dtype": "float64"}),
        *(({option: 7}, {"iterations": 7}) for option in ("iterations", "epochs")),
        ({"epochs": 7, "batch_size": 25}, {"iterations": 21, "recipe": Recipe(batch_size=25)}),
        ({"learning_rate": 0.5}, {"learning_rate": 0.5}),
        ({"seed": 4}, {"seed": 4}),
        ({"initializer": "he"}, {"recipe": Recipe("he")}),
        ({"l2": 0.25}, {"recipe": Recipe(l2=0.25)}),
        ({"dropout": "0.5"}, {"recipe": Recipe(dropout=(0.5,))}),
        ({"optimizer": "adam"}, {"recipe": Recipe(optimizer=Optimizer("adam"))}),
        ({"schedule": "cosine"}, {"recipe": Recipe(schedule=Schedule("cosine"))}),
        ({"augment": "shift, rotate"}, {"recipe": Recipe(augmentation=Augmentation(2, 15))}),
        ({"augment": "none"}, {}),
    ],
    ids=str,
)
def test_an_option_changes_what_it_says(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert task(**given) == replace(task(), **expected)


def test_constants_reach_their_option() -> None:
    of_adam = {"beta1": 0.5, "beta2": 0.6, "epsilon": 1e-3}
    assert recipe(optimizer="adam", **of_adam).optimizer == Optimizer("adam", **of_adam)
    assert recipe(optimizer="adamw", weight_decay=0.1).optimizer == Optimizer("adamw", weight_decay=0.1)
    assert recipe(optimizer="nesterov", momentum=0.5).optimizer == Optimizer("nesterov", momentum=0.5)
    assert recipe(optimizer="rmsprop", rho=0.5).optimizer == Optimizer("rmsprop", rho=0.5)
    stepping = recipe(schedule="step", schedule_every=3, schedule_factor=0.5).schedule
    assert stepping == Schedule("step", 3, 0.5)
    bent = recipe(augment="elastic,rotate", elastic_alpha=20, elastic_sigma=5, rotate=3).augmentation
    assert bent == Augmentation(rotate=3, elastic_alpha=20, elastic_sigma=5)
    assert recipe(hidden="7,5", dropout="0.2,0.5").dropout == (0.2, 0.5)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"beta1": 0.5}, r"^--beta1: has no effect with gd; it is of adam and adamw$"),
        ({"momentum": 0.5, "optimizer": "adam"}, r"^--momentum: has no effect with adam; it is of momentum and nest"),
        ({"weight_decay": 0.5, "optimizer": "adam"}, r"^--weight-decay: has no effect with adam; it is of adamw$"),
        ({"rho": 0.5}, r"^--rho: has no effect with gd"),
        ({"epsilon": 0.5, "optimizer": "momentum"}, r"^--epsilon: has no effect with momentum"),
        ({"momentum": 0.5, "workload": "wide"}, r"^--momentum: has no effect with adam"),
        ({"schedule_every": 3}, r"^--schedule-every: has no effect with a constant schedule; it is of step$"),
        ({"schedule_factor": 0.3, "schedule": "cosine"}, r"^--schedule-factor: has no effect with a cosine schedule"),
        ({"schedule": "step", "epochs": 10}, r"^--schedule step: changes nothing in 10 epochs with a step after 10"),
        ({"schedule": "step", "schedule_every": 2, "schedule_factor": 1}, r"^--schedule-factor 1: changes nothing; "),
        ({"batch_size": 61}, r"^--batch-size 61: there are 60 images to train on; give less$"),
        ({"shift": 3}, r"^--shift: has no effect without --augment shift$"),
        ({"elastic_sigma": 3, "augment": "shift"}, r"^--elastic-sigma: has no effect without --augment elastic$"),
        ({"rotate": 3, "augment": "none", "workload": "simard-elastic"}, r"^--rotate: has no effect without"),
        ({"epochs": 3, "iterations": 3}, r"^--epochs: not with --iterations"),
        ({"epochs": 0}, r"^0 epochs: at least 1"),
        ({"initializer": "zeros"}, r"^--initializer zeros: choose from uniform, xavier, he$"),
        ({"activation": "step"}, r"^--activation step: choose from relu"),
        ({"optimizer": "lion"}, r"^--optimizer lion: choose from gd"),
        ({"schedule": "never"}, r"^--schedule never: choose from constant"),
        ({"augment": "shift,flip"}, r"^--augment shift,flip: choose from shift, rotate, elastic, or none$"),
        ({"dropout": "half"}, r"^--dropout half: give a fraction"),
        ({"dropout": "1.0"}, r"^dropout 1\.0: must be"),
        ({"dropout": "0.1,0.2,0.3"}, r"^3 dropout rates for 1 hidden layers"),
        ({"hidden": "5,,5"}, r"^--hidden 5,,5: give whole numbers"),
        ({"workload": "huge"}, r"^workload 'huge': choose from classic"),
        ({"optimizer": "momentum", "momentum": 1.0}, r"^momentum 1\.0: must be"),
        ({"batch_size": 0}, r"^batch size 0: must be at least 1"),
    ],
    ids=str,
)
def test_options_without_effect_or_meaning_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said) as caught:
        task(**given)
    assert str(caught.value).isprintable()


def test_a_preset_is_taken_whole_and_changed_by_what_is_given() -> None:
    simard = preset("simard-elastic")
    found = task(workload="simard-elastic")
    assert found.recipe == simard.recipe
    assert found.network == Network((20, 800, 3))
    epochs = simard.iterations // simard.iterations_per_epoch
    assert found.iterations == epochs, "as many epochs; one iteration takes all 60 images"
    other = task(workload="simard-elastic", shift=3, batch_size=6, l2=0.5, hidden="9")
    assert other.recipe == replace(
        simard.recipe, batch_size=6, l2=0.5, augmentation=replace(simard.recipe.augmentation, shift=3)
    )
    assert other.iterations == epochs * 10
    assert task(workload="simard", optimizer="adamw").recipe.optimizer == Optimizer("adamw")
    assert task(workload="simard", beta1=0.8).recipe.optimizer == Optimizer("adam", beta1=0.8)
    assert task(workload="simard", augment="none", dropout="0").recipe.dropout == (0.0,)


def test_only_an_unchanged_preset_keeps_its_name() -> None:
    data = builders.dataset(2_000, 784, 10)
    assert TrainingOptions(workload="smoke", seed=3, dtype="float64").task(data) == preset("smoke", "float64", 3)
    assert TrainingOptions(workload="smoke", iterations=7).task(data).name == "custom"
    assert TrainingOptions().task(data).name == "custom"


def test_published_errors_are_for_the_same_network_on_mnist() -> None:
    network = preset("simard").network
    same = Workload(network, 10)
    assert TrainingOptions(workload="simard", epochs=3).published(same) == PUBLISHED["simard"]
    assert TrainingOptions(workload="simard").published(Workload(Network((784, 9, 10)), 10)) is None
    assert TrainingOptions().published(same) is None
    assert TrainingOptions(workload="wide").published(same) is None


@pytest.mark.parametrize(
    ("given", "sizes"),
    [
        ({"workload": "simard"}, (60_000, 0)),
        ({"workload": "simard", "dev_size": 5_000}, (55_000, 5_000)),
        ({"workload": "simard", "train_size": 300}, (300, 1_000)),
        ({"workload": "wide"}, (59_000, 1_000)),
        ({"workload": "smoke"}, (2_000, 1_000)),
        ({}, (41_000, 1_000)),
        ({"train_size": 59_500}, (59_500, 500)),
        ({"train_size": 60_000}, (60_000, 0)),
        ({"train_size": 60_001}, (60_001, 1_000)),
        ({"workload": "simard", "train_size": 60_010, "dev_size": 1_000}, (60_010, 1_000)),
    ],
    ids=str,
)
def test_the_images_of_a_preset(given: dict[str, Any], sizes: tuple[int, int]) -> None:
    data = TrainingOptions(**given).load()
    assert (len(data.train), len(data.dev)) == sizes


def test_a_size_out_of_range_is_refused_also_with_a_preset() -> None:
    sizes: list[dict[str, Any]] = [{"train_size": 0}, {"dev_size": 60_000}, {"train_size": 60_000, "dev_size": 1}]
    for given in sizes:
        with pytest.raises(DataError):
            TrainingOptions(workload="simard", **given).load()


def test_more_images_than_mnist_has_are_copies_and_a_note_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    data, expected = TrainingOptions(train_size=60_010, seed=3).load(), load_images(60_010, seed=3)
    assert data.digest_part() == expected.digest_part()
    assert "59,000 of its images to train on, and 1,010 copies of them, shifted" in capsys.readouterr().err
    with pytest.raises(OptionError, match="--dev-size 500: not with --train-size 60010"):
        TrainingOptions(train_size=60_010, dev_size=500).load()
    for own in (60_000, 60_001):
        published = TrainingOptions(workload="simard").published(Workload(preset("simard").network, own))
        assert (published is not None) == (own == 60_000)


def test_a_rank_loads_its_share_and_rank_0_alone_tells(capsys: pytest.CaptureFixture[str]) -> None:
    for size in (70, 60_010):
        data = local.run(2, TrainingOptions(train_size=size).load)
        assert data.share == Share(0, 2, size)
        assert len(data.train) == size / 2
    told = capsys.readouterr().err
    assert told.count("copies of them") == 1


def test_all_labelled_images_are_cross_validated() -> None:
    assert len(TrainingOptions().load_labelled().train) == 60_000
    few = TrainingOptions(train_size=70).load_labelled()
    assert (len(few.train), len(few.dev)) == (70, 0)
