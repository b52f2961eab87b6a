"""Test errors of presets: each run is kept, the last parameters count, and what is stored is what is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mnistbench.datasets import load_images
from mnistbench.exceptions import MnistbenchError, OptionError
from mnistbench.reference.evaluation import score
from mnistbench.report import tables
from mnistbench.results import reproduction
from mnistbench.task.presets import PRESETS, preset
from mnistbench.task.workload import Network
from mnistbench.training.loop import train

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A preset of a published network, but small: 2 epochs of 300 images."""
    task = replace(preset("simard"), network=Network((784, 8, 10)), images=300)
    monkeypatch.setitem(PRESETS, "simard", task.for_epochs(2))


def measure(folder: Path, *seeds: int, **options: Any) -> dict[str, Any]:
    path = reproduction.measure("simard", seeds, folder, "numpy", threads=1, **options)
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def test_a_run_is_stored_with_all_that_is_to_be_known_of_it(tmp_path: Path) -> None:
    seen = []
    document = measure(
        tmp_path, 0, 1, callback=lambda seed, progress, error: seen.append((seed, progress.epoch, error))
    )
    assert document["published"]["test_error"] == 0.016
    assert document["workload"]["name"] == "simard"
    assert [run["seed"] for run in document["runs"]] == [0, 1]
    assert [(seed, epoch) for seed, epoch, _ in seen] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    for run in document["runs"]:
        data = load_images(300, run["seed"])
        trained = train(data, workload=preset("simard", seed=run["seed"]), backend="numpy", threads=1)
        assert data.test is not None
        error = 1 - score(trained.parameters, data.test).accuracy
        assert run["test_error"] == pytest.approx(error)
        assert run["curve"][-1]["test_error"] == pytest.approx(error), "the last epoch counts, not the best"
        assert [point["epoch"] for point in run["curve"]] == [1, 2]
        assert run["curve"][-1]["seconds"] == pytest.approx(run["seconds"])
        assert (run["backend"], run["dtype"], run["epochs"], run["threads"]) == ("numpy", "float32", 2, 1)
        assert run["versions"]
        assert {"commit", "dirty", "date", "data_sha256"} <= run.keys()
    errors = [run["test_error"] for run in document["runs"]]
    assert document["mean_test_error"] == {"numpy float32": pytest.approx(sum(errors) / 2)}


def test_runs_are_added_and_those_of_the_same_seed_replaced(tmp_path: Path) -> None:
    first = measure(tmp_path, 1)["runs"]
    both = measure(tmp_path, 0)["runs"]
    assert [run["seed"] for run in both] == [0, 1]
    assert both[1] == first[0]
    again = measure(tmp_path, 0)["runs"]
    assert again[0]["test_error"] == both[0]["test_error"]
    assert again[0]["seconds"] != both[0]["seconds"]
    other = measure(tmp_path, 0, dtype="float64")
    assert [(run["dtype"], run["seed"]) for run in other["runs"]] == [("float32", 0), ("float32", 1), ("float64", 0)]
    assert [*other["mean_test_error"]] == ["numpy float32", "numpy float64"]


def test_runs_stay_whose_description_has_the_names_of_an_earlier_version(tmp_path: Path) -> None:
    path = reproduction.measure("simard", [0], tmp_path, "numpy", threads=1)
    path.write_text(path.read_text().replace("elastic_alpha", "elastic").replace("elastic_sigma", "sigma"))
    document = measure(tmp_path, 1)
    assert [run["seed"] for run in document["runs"]] == [0, 1]
    assert [*document["workload"]["recipe"]["augmentation"]] == ["shift", "rotate", "elastic_alpha", "elastic_sigma"]


def test_runs_of_another_recipe_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure(tmp_path, 0, 1)
    monkeypatch.setitem(PRESETS, "simard", replace(preset("simard"), learning_rate=0.002))
    assert [run["seed"] for run in measure(tmp_path, 1)["runs"]] == [1]


def test_only_what_has_a_published_error_is_measured(tmp_path: Path) -> None:
    for name in ("wide", "huge"):
        with pytest.raises(OptionError, match=f"^workload '{name}': no error is published of it; choose"):
            reproduction.measure(name, [0], tmp_path, "numpy")
    assert not [*tmp_path.iterdir()]
    assert reproduction.load(tmp_path) == []
    assert reproduction.machines(tmp_path) == set()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = reproduction.measure("simard", [0], tmp_path, "numpy", threads=1)
    good = json.loads(path.read_text(encoding="utf-8"))
    for bad in ("{", "[]", json.dumps(good | {"schema": 99}), json.dumps({**good, "runs": [{}]})):
        path.write_text(bad, encoding="utf-8")
        with pytest.raises(MnistbenchError, match=r"errors_simard\.json: not a file of test errors"):
            reproduction.load(path.parent)


def test_rows_and_the_table(tmp_path: Path) -> None:
    measure(tmp_path, 0, 1)
    (folder,) = reproduction.machines(tmp_path)
    runs = reproduction.load(folder)
    assert [(run.workload.name, str(run.workload.network)) for run in runs] == [("simard", "784-8-10")] * 2
    lines = [*tables.errors_as_markdown(runs)]
    assert lines[2].startswith("| simard | 784-8-10 | adam, learning rate 0.001 (cosine), relu, he, dropout 0.5, ")
    assert f"**{50 * sum(run.test_error for run in runs):.2f}%**" in lines[2]
    assert "| 1.6%, Simard et al. 2003 | 1.37% to 1.87% |" in lines[2], "as anyone computes it by Wilson's formula"
    alone = [*tables.errors_as_markdown(runs[:1])]
    assert lines[2].count(" to ") == 3
    assert alone[2].count(" to ") == 2, "one seed tells nothing of others"
    assert "trained in the authors' own way" in lines[4]
    assert lines[-1].startswith("Measured in 2 runs until")
