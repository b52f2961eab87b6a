"""The command line: what each command prints and writes, and one line and a status for an error."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import mnistbench
import mnistbench.backends as registry
from mnistbench import agreement, threads
from mnistbench.agreement import Agreement, Check
from mnistbench.cli import app
from mnistbench.datasets.folders import FILE_NAMES
from mnistbench.machine import limits
from mnistbench.machine.rates import Blas, Level, Limits
from mnistbench.reference.parameters import Parameters, load_model, save_model
from mnistbench.results import storage
from mnistbench.task.presets import PRESETS
from mnistbench.task.workload import Network
from mnistbench.threads import usable_cpus
from tests.support.benchmarks import ONE_THREAD
from tests.support.builders import identical, idx
from tests.support.data_files import COLUMNS
from tests.support.rows import document, row


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test its own current folder and environment, since commands write to both."""
    monkeypatch.chdir(tmp_path)
    for name in (*threads._VARIABLES, "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
        monkeypatch.delenv(name)


def write_idx(folder: Path, shape: tuple[int, int] = (4, 5), classes: int = 3) -> Path:
    """Write a data set of noise, brighter with the label, with a few more images than are held out by default."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    train_images, train_labels, test_images, test_labels = FILE_NAMES
    for images, labels, m in ((train_images, train_labels, 1090), (test_images, test_labels, 20)):
        Y = rng.permutation(np.arange(m) % classes)
        X = rng.integers(0, 120, (m, *shape)) + 60 * Y[:, np.newaxis, np.newaxis]
        (folder / images).with_suffix(".gz").write_bytes(gzip.compress(idx(X)))
        (folder / labels).with_suffix(".gz").write_bytes(gzip.compress(idx(Y)))
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_idx(tmp_path / "digits")


SMALL = ["--backend", "numpy", "--train-size", "60"]


def run(*arguments: object, status: int = 0, noted: str = "") -> str:
    """Run a command and return what it prints, on standard error ``noted`` at most."""
    outcome = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert outcome.exit_code == status, outcome.output
    assert outcome.stderr == noted
    return outcome.stdout


def complaint(*arguments: object, status: int = 2) -> str:
    """Run a command that writes nothing and prints one line to stderr; return that line."""
    before = listing()
    outcome = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert outcome.exit_code == status, outcome.output
    assert "Traceback" not in outcome.output
    lines = outcome.stderr.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("mnistbench: ")
    assert listing() == before
    return lines[0]


def listing() -> dict[str, bytes]:
    """Return the content of every file below the current folder."""
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in Path().rglob("*")}


def in_a_process(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mnistbench", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **ONE_THREAD, **environment}
    )


# train


def test_train_prints_the_lines_of_the_tutorial(data: Path) -> None:
    lines = run("train", *SMALL, "--data", data, "--iterations", 25, "--every", 5).splitlines()
    reported = [re.fullmatch(r"Iteration: (\d+), Accuracy: (\d\.\d{3})", line) for line in lines[:5]]
    assert [int(found[1]) for found in reported if found] == [0, 5, 10, 15, 20]
    assert not any(line.startswith("Iteration") for line in lines[5:])
    summary = "\n".join(lines[5:])
    assert "numpy, float32: 20-10-3 network, 60 images, 25 iterations on CPU" in summary
    assert re.search(r"accuracy   train \d+\.\d%   dev \d+\.\d%   test \d+\.\d%   loss \d\.\d{4}", summary)
    names = ("import", "load", "compile", "tuning", "first call", "train", "total")
    cost = r"(0|[\d.]+) [mµn]?s"
    assert re.search(f"costs      {'   '.join(f'{name} {cost}' for name in names)}", summary)
    assert listing().keys() == {"digits", *(f"digits/{path.name}" for path in data.iterdir())}


@pytest.mark.process
def test_train_on_the_embedded_digits_in_a_process() -> None:
    found = in_a_process("train", "--backend", "numpy", "--train-size", 200, "--iterations", 11)
    assert (found.returncode, found.stderr) == (0, "")
    assert re.match(r"Iteration: 0, Accuracy: 0\.\d{3}\nIteration: 10, Accuracy: 0\.\d{3}\nnumpy, ", found.stdout)


def test_train_as_json(data: Path) -> None:
    printed = run("train", *SMALL, "--data", data, "--iterations", 25, "--every", 10, "--dtype", "float64", "--json")
    record = json.loads(printed)
    assert len(printed.splitlines()) == 1
    names = "backend dtype iterations train_accuracy dev_accuracy test_accuracy loss costs history peak_memory_bytes"
    assert [*record] == [
        *names.split(),
        "description",
        "workload",
        "updates",
        "resumed",
        "changes",
        "test_error",
        "published",
    ]
    assert (record["backend"], record["dtype"], record["iterations"]) == ("numpy", "float64", 25)
    assert [*record["costs"]] == ["import", "load", "compile", "tuning", "first_call", "train"]
    assert [[*entry] for entry in record["history"]] == [["iteration", "loss", "accuracy"]] * 4
    assert [entry["iteration"] for entry in record["history"]] == [0, 10, 20, 25]
    assert record["history"][-1]["loss"] == record["loss"]
    assert record["history"][-1]["accuracy"] == record["train_accuracy"]
    assert {"device", "threads", "versions", "kernel", "skips"} <= record["description"].keys()


def test_train_without_a_test_set(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [",".join(map(str, [k % 10, *rng.integers(0, 256, 784)])) for k in range(40)]
    (tmp_path / "train.csv").write_text("\n".join([",".join(COLUMNS), *lines]) + "\n")
    options = ["train", "--backend", "numpy", "--dev-size", 10, "--data", "train.csv", "--iterations", 2]
    noted = "mnistbench: train.csv: label in the first column ('label'), 784 pixels, 28 x 28, with a header\n"
    assert json.loads(run(*options, "--json", noted=noted))["test_accuracy"] is None
    assert "test" not in run(*options, noted=noted).split("accuracy ")[1]


def test_saved_parameters_are_those_trained(data: Path) -> None:
    printed = run("train", *SMALL, "--data", data, "--iterations", 20, "--save", "new/model.npz", "--dtype", "float64")
    assert "wrote      new/model.npz" in printed
    parameters, image_shape, *_ = load_model("new/model.npz")
    result = mnistbench.train(
        mnistbench.load_data(data, train_size=60), backend="numpy", iterations=20, dtype="float64"
    )
    assert image_shape == (4, 5)
    assert identical(parameters, result.parameters)


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_train_draws_the_run(data: Path, kind: str) -> None:
    printed = run("train", *SMALL, "--data", data, "--iterations", 20, "--plot", f"run.{kind}")
    assert f"wrote      run.{kind}" in printed
    check_picture(Path(f"run.{kind}"))
    assert [path.name for path in Path().iterdir() if path.is_file()] == [f"run.{kind}"]


def check_picture(path: Path) -> None:
    if path.suffix == ".svg":
        assert path.read_text(encoding="utf-8").lstrip().startswith("<?xml")
    else:
        with Image.open(path) as image:
            image.verify()
            assert image.format == "PNG"
            assert min(image.size) > 100


@pytest.mark.process
def test_threads_take_effect(data: Path) -> None:
    options = ["train", *SMALL, "--data", data, "--iterations", 2, "--json", "--threads", 1]
    assert json.loads(run(*options))["description"]["threads"] == 1
    found = in_a_process(*options)
    assert json.loads(found.stdout)["description"]["threads"] == 1


@pytest.mark.process
def test_thread_limits_are_set_before_an_array_library_loads(data: Path) -> None:
    code = """
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in ("numpy", "numba", "scipy"):
            print(name, os.environ.get("OMP_NUM_THREADS"), os.environ.get("OPENBLAS_NUM_THREADS"))
sys.meta_path.insert(0, Watch())
from mnistbench.cli import app
print("the command line is loaded")
app(sys.argv[1:])
"""
    options = ["train", *SMALL, "--data", str(data), "--iterations", "2", "--threads", "1"]
    found = subprocess.run([sys.executable, "-c", code, *options], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[:2] == ["the command line is loaded", "numpy 1 1"]


BY_EPOCHS = [*SMALL, "--threads", 1, "--hidden", "7,5", "--batch-size", 20, "--optimizer", "adam", "--init", "he"]


def test_train_by_epochs_reports_each(data: Path) -> None:
    lines = run("train", *BY_EPOCHS, "--data", data, "--epochs", 4, "--dropout", "0.1,0.2").splitlines()
    for epoch, line in enumerate(lines[:4], 1):
        found = rf"Epoch: {epoch}, Iteration: {3 * epoch - 1}, Accuracy: \d\.\d{{3}}, Dev accuracy: \d\.\d{{4}}"
        assert re.fullmatch(found, line)
    assert lines[4].startswith("numpy, float32: 20-7-5-3 network, 60 images, 4 epochs of 3 iterations on CPU, ")
    assert lines[5] == "training   adam, learning rate 0.1, relu, he, dropout 0.1 and 0.2, batches of 20"
    assert "test error" not in "".join(lines)


def test_train_by_epochs_as_json_and_as_a_picture(data: Path) -> None:
    options = [*BY_EPOCHS, "--data", data, "--epochs", 9, "--patience", 2, "--plot", "run.png"]
    record = json.loads(run("train", *options, "--json"))
    columns = ["epoch", "iteration", "loss", "accuracy", "dev_loss", "dev_accuracy"]
    assert all([*entry] == columns for entry in record["history"])
    assert record["updates"] % 3 == 0
    least = min(entry["dev_loss"] for entry in record["history"])
    assert record["history"][-1]["dev_loss"] == least
    assert record["workload"]["recipe"]["optimizer"]["name"] == "adam"
    assert record["test_error"] == 1 - record["test_accuracy"]
    check_picture(Path("run.png"))


def test_patience_says_whose_parameters_are_kept(data: Path) -> None:
    printed = run("train", *BY_EPOCHS, "--data", data, "--epochs", 60, "--patience", 1, "--learning-rate", 3)
    assert re.search(r"parameters of \d+ epochs? of 3 iterations, with the lowest dev loss", printed)


@pytest.mark.slow
def test_a_preset_ends_with_the_published_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "simard", replace(PRESETS["simard"], images=300).for_epochs(1))
    printed = run("train", "--backend", "numpy", "--threads", 1, "--workload", "simard")
    found = r"test error \d+\.\d\d%   published 1\.6% \(Simard et al\. 2003: the same network, trained their way\)"
    assert re.fullmatch(found, printed.splitlines()[-1])
    assert "784-800-10 network, 300 images, 1 epoch of 3 iterations" in printed
    record = json.loads(run("train", "--backend", "numpy", "--threads", 1, "--workload", "simard", "--json"))
    assert record["published"] == {"test_error": 0.016, "source": "Simard et al. 2003"}
    assert record["workload"]["name"] == "simard"


# crossval and errors


def test_crossval_prints_every_fold_and_what_they_say_together(data: Path) -> None:
    options = ["crossval", *BY_EPOCHS, "--data", data, "--epochs", 3, "--folds", 3]
    printed = run(*options)
    assert "3 folds of 40 images to train on, 3 epochs of 2 iterations each on CPU" in printed
    assert len(re.findall(r"^ +[123] +\d+\.\d\d% +\d+\.\d\d% +\d\.\d{4} +[\d.]+ [mµ]?s *$", printed, re.MULTILINE)) == 3
    assert re.search(r"accuracy   mean .*%   standard deviation .*%   95% interval .*% to .*%$", printed.strip())
    assert printed.count("fold 2 of 3: epoch ") == 3
    record = json.loads(run(*options, "--json"))
    assert record["mean"] == pytest.approx(np.mean(record["accuracies"]))
    assert record["standard_deviation"] == pytest.approx(np.std(record["accuracies"], ddof=1))
    assert [fold["accuracy"] for fold in record["folds"]] == record["accuracies"]


def test_crossval_of_full_batches(data: Path) -> None:
    lines = run("crossval", *SMALL, "--threads", 1, "--data", data, "--iterations", 3).splitlines()
    assert lines[0].startswith("numpy, float32: 20-10-3 network, 5 folds of 48 images to train on, 3 iterations each")


@pytest.mark.slow
def test_errors_are_measured_stored_and_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "simard", replace(PRESETS["simard"], images=300).for_epochs(2))
    options = ["--workload", "simard", "--seeds", 2, "--backend", "numpy", "--threads", 1, "--results", "stored"]
    line = re.compile(r"^simard, seed [01]: epoch [12] .* test error \d+\.\d\d%  [\d.]+ [mµ]?s$", re.MULTILINE)
    assert len(line.findall(run("errors", *options))) == 4
    names = sorted(path.name for path in Path("stored").rglob("*") if path.is_file())
    assert names == ["README.md", "errors_simard.json", "test-errors.svg"]
    assert run("charts", "--results", "stored", "--check") == ""


# predict


@pytest.fixture
def model(data: Path) -> Path:
    run("train", *SMALL, "--data", data, "--iterations", 20, "--save", "model.npz")
    return Path("model.npz")


def test_predict_shows_digits_with_prediction_and_label(data: Path, model: Path) -> None:
    printed = run("predict", model, "--data", data, "--count", 5, "--plot", "five.png")
    assert len(re.findall(r"\bprediction \d, label \d\b(  WRONG)?", printed)) == 5
    for guess, label, wrong in re.findall(r"prediction (\d), label (\d)(  WRONG)?", printed):
        assert (guess != label) == bool(wrong)
    assert re.search(r"\d+\.\d% of all 20 test images are right", printed)
    check_picture(Path("five.png"))


def test_predict_draws_from_the_seed_as_many_digits_as_there_are(data: Path, model: Path) -> None:
    before = listing()
    first, again = (run("predict", model, "--data", data, "--seed", 1) for _ in range(2))
    assert first == again
    assert first != run("predict", model, "--data", data, "--seed", 2)
    assert listing() == before, "nothing is written that was not asked for"
    assert run("predict", model, "--data", data, "--count", 999).count("prediction ") == 20


@pytest.mark.slow
def test_predict_on_the_embedded_digits() -> None:
    run("train", "--backend", "numpy", "--train-size", 500, "--iterations", 30, "--save", "m.npz")
    printed = run("predict", "m.npz", "--count", 3)
    assert len(re.findall(r"prediction \d, label \d", printed)) == 3
    # The digits themselves: ink, in lines no wider than a page.
    assert re.search(r"[@%#*]{2}", printed)
    assert max(map(len, printed.splitlines()[:-1])) <= 80


# verify


@pytest.fixture
def smoke(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the preset ``smoke`` smaller still."""
    monkeypatch.setitem(PRESETS, "smoke", replace(PRESETS["smoke"], images=300, iterations=20))


@pytest.mark.slow
def test_verify_says_what_agrees(smoke: None) -> None:
    printed = run("verify", "--backend", "numpy", "--workload", "smoke", "--threads", 1)
    rows = [line.split() for line in printed.splitlines() if line.startswith("numpy")]
    assert [row[:3] for row in rows] == [["numpy", "float32", "agrees"], ["numpy", "float64", "agrees"]]
    assert " ".join(printed.split()).count(" of its tolerance") == 2


@pytest.mark.slow
def test_verify_as_json(smoke: None) -> None:
    (record,) = json.loads(run("verify", "--backend", "numpy", "--dtype", "float32", "--workload", "smoke", "--json"))
    assert [*record] == ["backend", "dtype", "passed", "summary", "checks", "trajectory"]
    assert (record["backend"], record["dtype"], record["passed"]) == ("numpy", "float32", True)
    assert record["trajectory"][0][0] == 0
    assert record["trajectory"][-1][0] == 20


@pytest.mark.slow
def test_verify_can_keep_the_reference_for_later(smoke: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNISTBENCH_CACHE_DIR", str(tmp_path))
    printed = run("verify", "--reference-only", "--workload", "smoke", "--threads", 1)
    (path,) = tmp_path.iterdir()
    assert printed == f"kept {path}\n"
    assert "--reference-only: compares nothing" in complaint("verify", "--reference-only", "--json")


@pytest.fixture
def disagreeing(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = [
        Agreement("numpy", "float32", [Check("W1", 0, 0.5, 1e-8)]),
        Agreement("numba", "float32", [Check("db1", 5, 123.0, 0.1), Check("W1", 5, float("nan"), float("nan"))]),
    ]
    monkeypatch.setattr(agreement, "verify", lambda *arguments: outcomes)


def test_verify_fails_where_a_backend_disagrees(disagreeing: None) -> None:
    printed = run("verify", "--workload", "smoke", status=1)
    assert "DISAGREES" in printed
    assert "db1 after 5 updates: 1.2e+02 of its tolerance" in " ".join(printed.split())


def test_verify_as_json_fails_where_a_backend_disagrees(disagreeing: None) -> None:
    def no_number(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    records = json.loads(run("verify", "--workload", "smoke", "--json", status=1), parse_constant=no_number)
    assert [record["passed"] for record in records] == [True, False]


def test_verify_names_what_was_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "verify", lambda *arguments: [Agreement("numpy", "float32", [Check("W1", 0, 0, 0)])])
    gone = registry.Availability(usable=False, reason="switched off")
    monkeypatch.setattr(registry, "availability", lambda name: gone)
    assert "not compared: cupy is unavailable: switched off" in run("verify", "--workload", "smoke")


# backends


@pytest.fixture
def no_cupy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hide CuPy if it is installed."""
    monkeypatch.setitem(registry._BUILT_IN, "cupy", "cupy_is_not_here:CupyBackend")
    caches = registry._registered, registry._imported
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


def test_backends_lists_reason_and_fix(no_cupy: None) -> None:
    printed = run("backends")
    lines = printed.splitlines()
    assert lines[0].split() == ["backend", "available", "version", "device"]
    assert [line.split()[0] for line in lines[1:] if not line.startswith(" ")] == registry.list_backends()
    assert re.search(rf"^numpy +yes +{re.escape(np.__version__)} +CPU", printed, re.MULTILINE)
    assert re.search(r"^cupy +no ", printed, re.MULTILINE)
    assert "mnistbench[cuda12]" in printed
    assert "None" not in printed


def test_backends_without_a_known_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = registry.Availability(usable=False, reason="switched off")
    monkeypatch.setattr(registry, "availability", lambda name: gone)
    assert "switched off" in run("backends")
    assert "None" not in run("backends")


def test_backends_as_json(no_cupy: None) -> None:
    record = json.loads(run("backends", "--json"))
    assert [*record] == registry.list_backends()
    usable = {"usable": True, "version": np.__version__, "device": "CPU", "reason": None, "fix": None}
    assert record["numpy"] == usable
    assert record["cupy"]["usable"] is False
    assert record["cupy"]["reason"]
    assert "mnistbench[cuda12]" in record["cupy"]["fix"]


# machine


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replace measuring; return the numbers of threads that are measured. Nothing is stored before."""
    calls: list[int] = []

    def measure(threads: int) -> Limits:
        calls.append(threads)
        levels = (Level("L2", 1 << 20, 4e11), Level("memory", None, 4e10 * len(calls)))
        return Limits({"float32": 5e11}, levels, threads, {"float32": 1e11}, Blas("openblas", "1", "Prescott"), None)

    monkeypatch.setattr(limits, "measure", measure)
    monkeypatch.setattr(limits, "_known", {})
    monkeypatch.setenv("MNISTBENCH_CACHE_DIR", "kept")
    return calls


def test_machine_shows_every_limit(measured: list[int]) -> None:
    printed = run("machine", "--threads", 1)
    for pattern in (
        r"cores +\d+ usable +the limits are those of 1 thread *\n",
        r"multiply-adds float32 +500 GFLOP/s +in registers",
        r"reading L2 +400 GB/s +up to 1 MiB *\n",
        r"reading memory +40\.0 GB/s *\n",
        r"matrix product float32 +100 GFLOP/s +20% of the multiply-adds, by openblas 1 Prescott *\n",
        r"warning: openblas with its Prescott kernel reaches 20% .*OPENBLAS_CORETYPE",
        r"The limits are kept in kept/limits-.*-1-threads-.*\.json\n$",
    ):
        assert re.search(pattern, printed), printed
    assert measured == [1]


def test_machine_measures_again_only_where_that_is_asked(measured: list[int]) -> None:
    first = run("machine", "--threads", 2)
    assert run("machine", "--threads", 2) == first
    assert measured == [2]
    assert re.search(r"reading memory +80\.0", run("machine", "--threads", 2, "--again"))
    assert re.search(r"reading memory +80\.0", run("machine", "--threads", 2))
    assert measured == [2, 2]


def test_machine_as_json(measured: list[int]) -> None:
    record = json.loads(run("machine", "--threads", 2, "--json"))
    assert record["limits"]["levels"][1] == {"name": "memory", "bytes": None, "bytes_per_second": 4e10}
    assert Limits.from_dict(record["limits"]).threads == 2
    assert Path(record["file"]).exists()
    assert record["machine"]["usable_cpus"] == usable_cpus()


def test_machine_where_nothing_can_be_kept(measured: list[int]) -> None:
    Path("kept").write_text("a file")
    assert run("machine").endswith("The limits could not be kept.\n")


# charts, version, help


def test_the_version() -> None:
    assert run("--version") == f"mnistbench {mnistbench.__version__}\n"


def stored_results(folder: Path) -> Path:
    """Store one row of the classic, numba in float32."""
    measured = row("numba", "float32", 1.0, samples=(1.0, 1.25, 1.5))
    storage.store(folder / "machine", "classic_0123456", document(measured))
    return folder


def test_the_history_of_a_backend_is_drawn(tmp_path: Path) -> None:
    folder = stored_results(tmp_path / "stored")
    shown = run("charts", "--history", "--results", str(folder))
    assert "wrote history.svg: 1 rows of 1 commits" in shown
    assert "the rounds of a row scatter by 21.0% to 21.0% of their median" in shown
    assert "</svg>" in Path("history.svg").read_text(encoding="utf-8")
    run("charts", "--history", "--results", str(folder), "--backend", "numba", "--output", "other/h.png")
    with Image.open("other/h.png") as image:
        assert image.format == "PNG"
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["0001_classic_0123456.json"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--history", "--backend", "jax"], "no results of jax on classic; there are: numba on classic"),
        (["--history", "--workload", "smoke"], "no results of numba on smoke"),
        (["--history", "--output", "history.pdf"], "--output history.pdf: give a name that ends in .png or .svg"),
        (["--history", "--check"], "--check: not with --history"),
        (["--backend", "numba"], "--backend: is for --history only"),
        (["--workload", "classic"], "--workload: is for --history only"),
        (["--output", "history.svg"], "--output: is for --history only"),
    ],
)
def test_what_the_history_cannot_do_is_said(tmp_path: Path, options: list[str], said: str) -> None:
    folder = stored_results(tmp_path / "stored")
    assert said in complaint("charts", "--results", str(folder), *options)
    assert not Path("history.svg").exists()


@pytest.mark.process
@pytest.mark.parametrize(
    "command",
    [
        *("train", "predict", "evaluate", "crossval", "verify", "compare", "errors", "backends", "machine", "charts"),
        "report",
    ],
)
def test_help(command: str) -> None:
    printed = CliRunner().invoke(app, [command, "--help"], prog_name="mnistbench").stdout
    assert f"Usage: mnistbench {command}" in printed
    assert "bool" not in printed, "a flag takes no value"


# What a user gets wrong


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--data", "nowhere"], "nowhere: no such file or folder"),
        (["--dtype", "float16"], "--dtype float16: choose from float32, float64"),
        (["--hidden", "ten"], "--hidden ten: "),
        (["--hidden", "0"], "--hidden 0: "),
        (["--hidden", "10,"], "--hidden 10,: "),
        (["--hidden", "-3"], "--hidden -3: "),
        (["--beta1", "0.5"], "--beta1: has no effect with gd; it is of adam and adamw"),
        (["--epochs", "5"], "--epochs: not with --iterations"),
        (["--dev-size", "0", "--patience", "3"], "patience 3: there are no dev images"),
        (["--patience", "0"], "patience 0: "),
        (["--backend", "nunpy"], "backend 'nunpy' does not exist; did you mean numpy?"),
        (["--learning-rate", "0"], "learning rate 0.0: "),
        (["--learning-rate", "nan"], "learning rate nan: "),
        (["--iterations", "0"], "0 iterations: "),
        (["--every", "0"], "every 0: "),
        (["--threads", "0"], "0 threads: "),
        (["--seed", "-1"], "seed -1: "),
        (["--dev-size", "-1"], "dev size -1: "),
        (["--dev-size", "99999"], "dev size 99999: "),
        (["--train-size", "999"], "train size 999: "),
        (["--plot", "run.pdf"], "--plot run.pdf: give a name that ends in .png or .svg"),
        (["--plot", "digits"], "--plot digits: "),
        (["--save", "digits"], "digits: is a folder"),
        (["--save", "file/model.npz"], "file/model.npz: cannot be written"),
        (["--plot", "file/run.png"], "file/run.png: cannot be written"),
        (["--learning-rate", "1e36"], "training diverged at iteration "),
        (["--threads", "100000"], "100000 threads: give at most "),
        (["--iterations", "2147483648"], "2147483648 iterations: at most 2,147,483,647 are possible"),
        (["--hidden", "1000000000000"], "a 20-1000000000000-3 network: takes "),
        (["--batch-size", "61"], "--batch-size 61: there are 60 images to train on; give less"),
        (["--checkpoint-every", "5"], "--checkpoint-every: has no effect without --checkpoint or --resume"),
        (["--checkpoint", "a.ckpt", "--checkpoint-every", "0"], "checkpoint every 0 s: must be a number of seconds"),
        (["--checkpoint", "digits"], "digits: is a folder"),
        (["--checkpoint", "file/run.ckpt"], "file/run.ckpt: cannot be written"),
        (["--checkpoint", "model.npz"], "--checkpoint model.npz: is the file of --save too"),
        (["--checkpoint", "link.npz"], "--checkpoint link.npz: is the file of --save too"),
        (["--resume", "model.npz"], "--save model.npz: is the file of --resume too"),
        (["--resume", "model.npz", "--checkpoint", "a.ckpt"], "--save model.npz: is the file of --resume too"),
        (["--resume", "none.ckpt"], "none.ckpt: no such file; begin with 'mnistbench train --checkpoint none.ckpt'"),
        (["--resume", "file"], "file: not a checkpoint"),
    ],
)
def test_train_refuses_in_one_line(data: Path, options: list[str], wanted: str) -> None:
    Path("file").write_text("no folder")
    Path("link.npz").symlink_to("model.npz")
    everything = ["train", *SMALL, "--data", data, "--iterations", 20, "--save", "model.npz", "--plot", "run.png"]
    assert wanted in complaint(*everything, *options)


def test_a_broken_data_set_is_named(data: Path) -> None:
    broken = next(path for path in data.iterdir() if "images" in path.name)
    broken.write_bytes(broken.read_bytes()[:30])
    assert broken.name in complaint("train", *SMALL, "--data", data)


def test_divergence_is_one_line(data: Path) -> None:
    """Also where only the final loss is not finite, which no warning may accompany."""
    named = set()
    for iterations in (1, 2, 3, 20):
        for rate in ("1e90", "1e100", "1e110", "1e120", "1e154", "1e200"):
            options = ["--dtype", "float64", "--learning-rate", rate, "--iterations", iterations, "--json"]
            if CliRunner().invoke(app, ["train", *SMALL, "--data", str(data), *map(str, options)]).exit_code:
                line = complaint("train", *SMALL, "--data", data, *options)
                found = re.fullmatch(r"mnistbench: training diverged at iteration (\d+): .*; use .* below \S+", line)
                assert found
                named.add(int(found[1]))
    assert len(named) > 1


@pytest.mark.process
def test_divergence_in_a_process_is_one_line_too(data: Path) -> None:
    found = in_a_process("train", *SMALL, "--data", data, "--learning-rate", "1e36", "--json")
    assert (found.returncode, found.stdout) == (2, "")
    assert re.fullmatch(r"mnistbench: training diverged at iteration \d+: .*\n", found.stderr)


def test_an_unwritable_file_is_known_before_training(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("mnistbench.training.loop.train")
    monkeypatch.delattr("mnistbench.datasets.load_data")
    Path("file").write_text("no folder")
    for options in (["--save", "file/model.npz"], ["--plot", "file/run.png"], ["--plot", "run.pdf"]):
        complaint("train", *SMALL, "--data", data, *options)


def test_options_are_checked_before_a_folder_is_made(data: Path) -> None:
    complaint("train", *SMALL, "--data", data, "--save", "new/model.npz", "--dtype", "float16")


def test_a_run_that_fails_keeps_the_old_file(data: Path, model: Path) -> None:
    old = model.read_bytes()
    complaint("train", *SMALL, "--data", data, "--learning-rate", "1e36", "--save", model)
    assert model.read_bytes() == old


def test_an_unavailable_backend_is_refused_with_its_fix(no_cupy: None) -> None:
    for command in ("train", "verify"):
        line = complaint(command, "--backend", "cupy")
        assert "backend cupy is unavailable: " in line
        assert "mnistbench[cuda12]" in line


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("crossval --backend numpy --data digits --train-size 60 --folds 1", "folds 1: give from 2"),
        ("crossval --backend numpy --dev-size 5", "--dev-size: has no effect without --patience"),
        ("crossval --backend numpy --data digits --train-size 60 --patience 5", "dev size 1000: leaves none of the 48"),
        ("crossval --backend numpy --beta1 0.5", "--beta1: has no effect with gd"),
        ("errors --workload wide --backend numpy", "no error is published"),
        ("errors --seeds 0 --backend numpy", "--seeds 0"),
        ("errors --dtype half --backend numpy", "--dtype half"),
        ("machine --threads 0", "0 threads"),
        ("charts", "results: holds no results"),
        ("report", "results: holds no results"),
        ("report elsewhere --output .", ".: is a folder"),
        ("charts --check --results elsewhere", "holds no results"),
        ("verify --backend abacus", "'abacus' does not exist"),
        ("verify --backend numpy --dtype half", "--dtype half"),
        ("verify --backend numpy --workload huge", "workload 'huge'"),
        ("verify --backend numpy --threads 0", "0 threads"),
        ("verify --backend numpy --workload smoke --seed -1", "seed -1"),
    ],
)
def test_the_other_commands_refuse_in_one_line(command: str, said: str, data: Path) -> None:
    assert said in complaint(*command.split())


def test_predict_refuses_in_one_line(data: Path, model: Path) -> None:
    Path("broken.npz").write_bytes(model.read_bytes()[:200])
    Path("text.npz").write_text("no model")
    assert "broken.npz: not a model file" in complaint("predict", "broken.npz", "--data", data)
    assert "text.npz: not a model file" in complaint("predict", "text.npz", "--data", data)
    assert "nowhere.npz: no such file" in complaint("predict", "nowhere.npz", "--data", data)
    assert "nowhere: no such file" in complaint("predict", model, "--data", "nowhere")
    assert "--plot five.gif" in complaint("predict", model, "--data", data, "--plot", "five.gif")
    assert "cannot be written" in complaint("predict", model, "--data", data, "--plot", "text.npz/five.png")
    assert "digits: cannot be read: Is a directory" in complaint("predict", "digits", "--data", data)
    assert "--count 401: give at most 400" in complaint("predict", model, "--count", 401, "--plot", "many.png")
    assert "--probabilities: has no effect" in complaint("predict", model, "--data", data, "--probabilities")
    assert "--plot: with --output it needs --count" in complaint("predict", model, "--output", "a", "--plot", "a.png")
    assert "--data: not with pictures" in complaint("predict", model, "one.png", "--data", data)
    assert "--count: not with pictures" in complaint("predict", model, "one.png", "--count", 3)
    assert "pictures are brought to MNIST's (28, 28)" in complaint("predict", model, "one.png")
    assert "cannot be written" in complaint("predict", model, "--data", data, "--output", "text.npz/five.csv")


def test_predict_refuses_a_model_of_other_images(data: Path, model: Path) -> None:
    assert "model.npz: takes images of (4, 5)" in complaint("predict", model)
    write_idx(Path("turned"), shape=(5, 4))
    assert "(5, 4)" in complaint("predict", model, "--data", "turned")


def test_predict_of_a_deeper_network_of_another_activation(data: Path) -> None:
    options = [*SMALL, "--data", data, "--hidden", "7,5", "--activation", "tanh", "--epochs", 30, "--batch-size", 10]
    trained = json.loads(run("train", *options, "--save", "deep.npz", "--json"))["test_accuracy"]
    assert load_model(Path("deep.npz")).parameters.network == Network((20, 7, 5, 3))
    assert f"{trained:.1%} of all 20 test images are right" in run("predict", "deep.npz", "--data", data)


def test_predict_of_a_model_with_fewer_classes_never_predicts_the_others(data: Path) -> None:
    save_model(Path("two.npz"), Parameters.initial(Network((20, 4, 2)), 0), (4, 5))
    assert "of all 20 test images are right" in run("predict", "two.npz", "--data", data)


@pytest.mark.process
@pytest.mark.parametrize(
    "command", ["nope", "train --nope", "train --iterations ten", "predict", "predict m.npz --count 0"]
)
def test_usage_errors(command: str) -> None:
    found = in_a_process(*command.split())
    assert (found.returncode, found.stdout) == (2, "")
    assert "Traceback" not in found.stderr
    assert listing() == {}


# Ctrl-C


@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to another process")
def test_ctrl_c_is_one_line_and_leaves_nothing(data: Path, model: Path) -> None:
    before = listing()
    # A shell that starts pytest in the background lets it, and whatever it starts, ignore SIGINT.
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program += "; from mnistbench.cli import main; main()"
    command = [sys.executable, "-c", program, "train", *SMALL, "--data", str(data), "--threads", "1"]
    command += ["--iterations", "100000000", "--every", "1000", "--save", "model.npz", "--plot", "run.png"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Iteration: 0, ")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.fullmatch(r"mnistbench: interrupted.*\n", errors)
    assert listing() == before
