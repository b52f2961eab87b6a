"""The commands ``predict`` and ``evaluate`` with data and pictures of one's own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mnistbench.cli import app
from mnistbench.datasets import Dataset
from mnistbench.prediction.pictures import read_picture
from mnistbench.reference import evaluation
from mnistbench.reference.parameters import Model, Parameters, save_model
from mnistbench.task.workload import Network, Workload
from mnistbench.training.loop import train
from tests.prediction.test_submission import strictly_read


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def trained(small_dataset: Dataset) -> Model:
    found = train(small_dataset, workload=Workload(Network((784, 10, 10)), 300, 100), backend="numpy", threads=1)
    return Model(found.parameters, (28, 28), "relu")


@pytest.fixture
def model(trained: Model) -> Path:
    save_model("model.npz", *trained)
    return Path("model.npz")


def run(*arguments: object, status: int = 0) -> str:
    outcome = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert outcome.exit_code == status, outcome.output
    if status:
        assert len(outcome.stderr.splitlines()) == 1
        assert outcome.stderr.startswith("mnistbench: ")
        return outcome.stderr
    assert outcome.stderr == ""
    return outcome.stdout


def write_csv(path: str, images: np.ndarray[tuple[int, int], np.dtype[np.uint8]]) -> None:
    """Write the images as Kaggle's test.csv."""
    lines = [",".join(f"pixel{pixel}" for pixel in range(784)), *(",".join(map(str, row)) for row in images.tolist())]
    Path(path).write_text("\n".join(lines) + "\n")


def test_a_submission(model: Path, trained: Model, small_dataset: Dataset) -> None:
    images = small_dataset.train.images
    write_csv("test.csv", images)
    printed = run("predict", model, "--data", "test.csv", "--output", "submission.csv")
    assert printed == "predicted all 300 images of test.csv\nwrote submission.csv\n"
    expected = evaluation.predict(trained.parameters, images)
    assert strictly_read(Path("submission.csv"), 300) == expected.tolist()
    assert sorted(path.name for path in Path().iterdir()) == ["model.npz", "submission.csv", "test.csv"]


def test_a_submission_with_probabilities_and_digits_to_look_at(
    model: Path, trained: Model, small_dataset: Dataset
) -> None:
    write_csv("test.csv", small_dataset.train.images[:20])
    options = ["--data", "test.csv", "--output", "all.csv", "--probabilities", "--count", 3, "--plot", "three.png"]
    printed = run("predict", model, *options)
    assert len(re.findall(r"prediction \d(?!, label)", printed)) == 3
    assert printed.endswith("predicted all 20 images of test.csv\nwrote all.csv\nwrote three.png\n")
    shares = np.loadtxt("all.csv", delimiter=",", skiprows=1)[:, 2:]
    expected = evaluation.probabilities(trained.parameters, small_dataset.train.images[:20])
    np.testing.assert_allclose(shares, expected, rtol=1e-5)


def test_the_embedded_test_images_can_be_written_too(model: Path) -> None:
    printed = run("predict", model, "--output", "embedded.csv")
    assert re.match(r"\d+\.\d% of all 10,000 test images are right\n", printed)
    assert len(strictly_read(Path("embedded.csv"), 10_000)) == 10_000


def write_pictures(dataset: Dataset, count: int) -> None:
    """Write test images as pictures of ink on paper, large and off centre."""
    assert dataset.test
    Path("own").mkdir()
    for number, image in enumerate(dataset.test.images[:count]):
        paper = Image.new("L", (300, 200), 240)
        ink = Image.fromarray(image.reshape(28, 28)).resize((140, 140), Image.Resampling.BICUBIC)
        paper.paste(Image.new("L", ink.size, 30), (20, 50), mask=ink)
        paper.save(f"own/{number:02}.png")


def test_pictures_of_ones_own(model: Path, trained: Model, small_dataset: Dataset) -> None:
    write_pictures(small_dataset, 12)
    printed = run("predict", model, "own", "own/03.png", "--plot", "own.png", "--output", "own.csv")
    assert printed.endswith("predicted 13 pictures\nwrote own.csv\nwrote own.png\n")
    found = re.findall(r"^own/(\d\d)\.png: (\d) \((\d+\.\d)%\)$", printed, re.MULTILINE)
    assert [int(number) for number, _, _ in found] == [*range(12), 3]
    seen = np.stack([read_picture(Path(f"own/{number}.png")).reshape(-1) for number, _, _ in found])
    expected = evaluation.predict(trained.parameters, seen)
    assert [int(label) for _, label, _ in found] == expected.tolist()
    assert len(re.findall(r"^.{30}  [0-9] +\d+\.\d%( #+)?$", printed, re.MULTILINE)) == 130
    rows = Path("own.csv").read_text(encoding="utf-8").splitlines()
    assert rows == ["Picture,Label", *(f"own/{number}.png,{label}" for number, label, _ in found)]
    with Image.open("own.png") as image:
        assert image.format == "PNG"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.png"], "none.png: no such file"),
        (["text.png"], "text.png: not a picture that can be read"),
        (["empty"], "empty: holds no pictures"),
        (["white.png"], "white.png: is blank: "),
        (["white.png"] * 61 + ["--plot", "many.png"], "--plot: draws at most 60 pictures, and these are 61"),
    ],
)
def test_pictures_are_refused_in_one_line(model: Path, arguments: list[str], said: str) -> None:
    Path("text.png").write_text("text")
    Path("empty").mkdir()
    Image.new("L", (40, 40), 255).save("white.png")
    assert said in run("predict", model, *arguments, status=2)


# evaluate


def test_evaluate_as_text_json_and_picture(model: Path, trained: Model, small_dataset: Dataset) -> None:
    assert small_dataset.test
    printed = run("evaluate", model, "--plot", "evaluation.svg", "--count", 4)
    predicted = evaluation.predict(trained.parameters, small_dataset.test.images)
    right = int(np.sum(predicted == small_dataset.test.labels))
    assert printed.startswith(
        f"test images of MNIST (embedded): {right:,} of 10,000 right, {right / 10_000:.2%}, 95% i"
    )
    assert len(re.findall(r"^ +\d +[\d,]+ +[\d,]+ +\d+\.\d\d% +\d+\.\d\d% to \d+\.\d\d%", printed, re.MULTILINE)) == 10
    assert f"most confidently wrong, of {10_000 - right:,}: images " in printed
    assert printed.endswith("Intervals: Wilson's, for the accuracy on other images like these.\nwrote evaluation.svg\n")
    assert "</svg>" in Path("evaluation.svg").read_text(encoding="utf-8")
    record = json.loads(run("evaluate", model, "--json", "--count", 4))
    assert (record["right"], record["of"], record["interval_method"]) == (right, 10_000, "Wilson, 95%")
    confusion = np.array(record["confusion"])
    assert confusion.trace() == right
    assert [share["of"] for share in record["classes"]] == confusion.sum(axis=1).tolist()
    assert len(record["mistakes"]) == 4
    for mistake in record["mistakes"]:
        assert predicted[mistake["image"]] == mistake["predicted"] != mistake["label"]
        assert small_dataset.test.labels[mistake["image"]] == mistake["label"]


def test_evaluate_refuses_in_one_line(model: Path, small_dataset: Dataset) -> None:
    write_csv("test.csv", small_dataset.train.images[:20])
    assert "test.csv: has no labels to compare with" in run("evaluate", model, "--data", "test.csv", status=2)
    assert "nowhere.npz: no such file" in run("evaluate", "nowhere.npz", status=2)
    assert "--plot a.pdf: give a name" in run("evaluate", model, "--plot", "a.pdf", status=2)
    save_model("other.npz", Parameters.initial(Network((20, 4, 3)), 0), (4, 5))
    assert "other.npz: takes images of (4, 5)" in run("evaluate", "other.npz", status=2)
