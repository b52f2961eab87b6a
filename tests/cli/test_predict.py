"""The commands ``predict`` and ``evaluate`` with data and pictures of one's own."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mnistbench.cli import app
from mnistbench.datasets import Dataset
from mnistbench.prediction.pictures import read_picture
from mnistbench.reference import evaluation
from mnistbench.reference.parameters import Model, Parameters, load_model, save_model
from mnistbench.task.workload import Network, Workload
from mnistbench.training.loop import train
from tests.prediction.test_submission import strictly_read
from tests.support import kinds
from tests.support.data_files import table


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


def run(*arguments: object, status: int = 0, noted: str = "") -> str:
    """Run a command; return what it printed, or its one line on standard error if it fails."""
    outcome = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert outcome.exit_code == status, outcome.output
    if status:
        assert len(outcome.stderr.splitlines()) == 1
        assert outcome.stderr.startswith("mnistbench: ")
        return outcome.stderr
    assert outcome.stderr == noted
    return outcome.stdout


UNDERSTOOD = "mnistbench: test.csv: no labels, 784 pixels, 28 x 28, with a header\n"


def write_csv(path: str, images: np.ndarray[tuple[int, int], np.dtype[np.uint8]]) -> None:
    """Write the images as Kaggle's test.csv."""
    lines = [",".join(f"pixel{pixel}" for pixel in range(784)), *(",".join(map(str, row)) for row in images.tolist())]
    Path(path).write_text("\n".join(lines) + "\n")


def test_a_submission(model: Path, trained: Model, small_dataset: Dataset) -> None:
    images = small_dataset.train.images
    write_csv("test.csv", images)
    printed = run("predict", model, "--data", "test.csv", "--output", "submission.csv", noted=UNDERSTOOD)
    assert printed == "predicted all 300 images of test.csv\nwrote submission.csv\n"
    expected = evaluation.predict(trained.parameters, images)
    assert strictly_read(Path("submission.csv"), 300) == expected.tolist()
    assert sorted(path.name for path in Path().iterdir()) == ["model.npz", "submission.csv", "test.csv"]


def test_a_submission_with_probabilities_and_digits_to_look_at(
    model: Path, trained: Model, small_dataset: Dataset
) -> None:
    write_csv("test.csv", small_dataset.train.images[:20])
    options = ["--data", "test.csv", "--output", "all.csv", "--probabilities", "--count", 3, "--plot", "three.png"]
    printed = run("predict", model, *options, noted=UNDERSTOOD)
    assert len(re.findall(r"prediction \d(?!, label)", printed)) == 3
    assert printed.endswith("predicted all 20 images of test.csv\nwrote all.csv\nwrote three.png\n")
    shares = np.loadtxt("all.csv", delimiter=",", skiprows=1)[:, 2:]
    expected, _ = evaluation.probabilities(trained.parameters, small_dataset.train.images[:20])
    np.testing.assert_allclose(shares, expected, rtol=1e-5)


def test_a_submission_of_kaggles_folder_and_one_with_ids(model: Path, trained: Model, small_dataset: Dataset) -> None:
    images = small_dataset.train.images[:20]
    Path("kaggle").mkdir()
    Path("kaggle/train.csv").write_bytes(kinds.KAGGLE)
    table(Path("kaggle/test.csv"), [[5000 + k, *row] for k, row in enumerate(images.tolist())], ["id", *kinds.FROM_0])
    noted = (
        "mnistbench: kaggle/test.csv: no labels, 784 pixels, 28 x 28, the first column ('id') ignored, with a header"
    )
    printed = run("predict", model, "--data", "kaggle", "--output", "kaggle/out.csv", noted=f"{noted}\n")
    assert printed == "predicted all 20 images of kaggle/test.csv\nwrote kaggle/out.csv\n"
    labels = evaluation.predict(trained.parameters, images).tolist()
    rows = Path("kaggle/out.csv").read_text(encoding="utf-8").splitlines()
    assert rows == ["id,Label", *(f"{5000 + k},{label}" for k, label in enumerate(labels))]


def test_names_of_classes_are_shown_and_written(small_dataset: Dataset) -> None:
    names = [f"the {digit}" for digit in "abcdefghij"]
    images, labels = small_dataset.train.images[:60].reshape(-1, 28, 28), small_dataset.train.labels[:60]
    Path("named.npz").write_bytes(kinds.npz(x_train=images, y_train=np.array(names)[labels]))
    noted = "mnistbench: named.npz: labels are matched with the classes of model.npz by their names\n"
    run("train", "--data", "named.npz", "--backend", "numpy", "--iterations", 1, "--save", "model.npz")
    assert load_model("model.npz").class_names == tuple(names)
    some = labels > 3
    Path("named.npz").write_bytes(kinds.npz(x_train=images[some], y_train=np.array(names)[labels[some]]))
    record = json.loads(run("evaluate", "model.npz", "--data", "named.npz", "--json", noted=noted))
    assert (record["class_names"], record["may_have_been_trained_on"]) == (names, True)
    assert [share["of"] for share in record["classes"]] == [0, 0, 0, 0, *np.bincount(labels)[4:].tolist()]
    run("predict", "model.npz", "--data", "named.npz", "--output", "named.csv", noted=noted)
    assert {row.split(",")[1] for row in Path("named.csv").read_text(encoding="utf-8").splitlines()[1:]} <= {*names}


@pytest.mark.skipif(sys.platform == "win32", reason="no named pipes")
def test_outputs_replace_no_input(model: Path, small_dataset: Dataset) -> None:
    write_csv("test.csv", small_dataset.train.images[:20])
    Path("kaggle").mkdir()
    Path("kaggle/train.csv").write_bytes(kinds.KAGGLE)
    Path("kaggle/test.csv").write_bytes(kinds.UNLABELLED)
    Path("link.csv").symlink_to("test.csv")
    os.mkfifo("pipe")
    write_pictures(small_dataset, 2)
    for arguments, said in (
        (["--data", "test.csv", "--output", "test.csv"], "--output test.csv: is the file of --data too"),
        (["--data", "test.csv", "--output", "link.csv"], "--output link.csv: is the file of --data too"),
        (["--output", "model.npz"], "--output model.npz: is the file of MODEL too"),
        (["--output", "a.png", "--plot", "a.png", "--count", 3], "--plot a.png: is the file of --output too"),
        (["--data", "kaggle", "--output", "kaggle/train.csv"], "--output kaggle/train.csv: is the file of --data too"),
        (["own", "--plot", "own/01.png"], "--plot own/01.png: is the file of PICTURES too"),
        (["own", "--output", "pipe"], "pipe: is no regular file; give the name of one"),
    ):
        before = {path: path.read_bytes() for path in Path().rglob("*.*") if path.is_file()}
        assert said in run("predict", model, *arguments, status=2)
        assert {path: path.read_bytes() for path in before} == before


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


def test_one_bad_picture_does_not_cost_the_others(model: Path, small_dataset: Dataset) -> None:
    write_pictures(small_dataset, 3)
    Path("own/01.png").write_text("text")
    outcome = CliRunner().invoke(app, ["predict", str(model), "own", "--output", "own.csv"])
    assert outcome.exit_code == 2
    assert outcome.stderr == "mnistbench: own/01.png: not a picture that can be read; PNG and JPEG can\n"
    assert "predicted 2 pictures" in outcome.stdout
    rows = Path("own.csv").read_text(encoding="utf-8").splitlines()
    assert [row.split(",")[0] for row in rows] == ["Picture", "own/00.png", "own/02.png"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["data.csv"], "data.csv: not a picture; give data by --data data.csv"),
        (["white.png", "--seed", 1], "--seed: not with pictures"),
        (["--output", "a.csv", "--seed", 1], "--seed: with --output it needs --count"),
        (["none.png"], "none.png: no such file"),
        (["text.png"], "text.png: not a picture that can be read"),
        (["empty"], "empty: holds no pictures"),
        (["white.png"], "white.png: is blank: "),
        (["white.png"] * 61 + ["--plot", "many.png"], "--plot: draws at most 60 pictures, and these are 61"),
    ],
)
def test_pictures_are_refused_in_one_line(model: Path, arguments: list[str], said: str) -> None:
    Path("text.png").write_text("text")
    Path("data.csv").write_text("1,2")
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
    wrong = re.search(r"wrong, of ([\d,]+): images (\d+), (\d+), (\d+), (\d+), counted from 1\n", printed)
    assert wrong
    assert wrong[1] == f"{10_000 - right:,}"
    assert "may have been trained on" not in printed
    assert printed.endswith("Intervals: Wilson's, for the accuracy on other images like these.\nwrote evaluation.svg\n")
    assert "</svg>" in Path("evaluation.svg").read_text(encoding="utf-8")
    record = json.loads(run("evaluate", model, "--json", "--count", 4))
    assert (record["right"], record["of"], record["interval_method"]) == (right, 10_000, "Wilson, 95%")
    confusion = np.array(record["confusion"])
    assert confusion.trace() == right
    assert [share["of"] for share in record["classes"]] == confusion.sum(axis=1).tolist()
    assert [mistake["image"] + 1 for mistake in record["mistakes"]] == [int(wrong[k]) for k in range(2, 6)]
    for mistake in record["mistakes"]:
        assert predicted[mistake["image"]] == mistake["predicted"] != mistake["label"]
        assert small_dataset.test.labels[mistake["image"]] == mistake["label"]


def test_evaluate_says_that_images_may_have_been_trained_on(model: Path) -> None:
    Path("train.csv").write_bytes(kinds.KAGGLE)
    noted = "mnistbench: train.csv: label in the first column ('label'), 784 pixels, 28 x 28, with a header\n"
    printed = run("evaluate", model, "--data", "train.csv", "--plot", "e.svg", noted=noted)
    assert "The model may have been trained on these images; the intervals hold only if it was not." in printed


def test_too_many_classes_to_draw_are_refused_before_anything(small_dataset: Dataset) -> None:
    write_pictures(small_dataset, 1)
    save_model("large.npz", Parameters.initial(Network((784, 4, 47)), 0), (28, 28))
    few = "--plot: draws at most 40 classes, and this model has 47"
    assert few in run("evaluate", "large.npz", "--plot", "e.svg", status=2)
    assert few in run("predict", "large.npz", "own", "--plot", "e.svg", "--output", "own.csv", status=2)
    assert not Path("own.csv").exists()


def test_evaluate_refuses_in_one_line(model: Path, small_dataset: Dataset) -> None:
    write_csv("test.csv", small_dataset.train.images[:20])
    assert "test.csv: has no labels to compare with" in run("evaluate", model, "--data", "test.csv", status=2)
    assert "nowhere.npz: no such file" in run("evaluate", "nowhere.npz", status=2)
    assert "--plot a.pdf: give a name" in run("evaluate", model, "--plot", "a.pdf", status=2)
    save_model("other.npz", Parameters.initial(Network((20, 4, 3)), 0), (4, 5))
    assert "other.npz: takes images of (4, 5)" in run("evaluate", "other.npz", status=2)
