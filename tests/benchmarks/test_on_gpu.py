"""``benchmarks/gpu.sh`` with programs in the place of Python and compute-sanitizer, and its parts without a GPU."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import mnistbench.backends as registry
from benchmarks.on_gpu import canary, idling, sanitized, session
from benchmarks.on_gpu.__main__ import main
from benchmarks.on_gpu.parts import PARTS, Part, Setting
from benchmarks.on_gpu.session import Session
from mnistbench.backends import Availability, Description, Metrics, Trainer
from mnistbench.backends.cupy.classic import layout
from mnistbench.backends.cupy.classic.dealing import deal
from mnistbench.backends.numpy import NumpyTrainer
from mnistbench.datasets import Dataset, load_data
from mnistbench.exceptions import MnistbenchError
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Network, Workload
from tests.support.cuda.devices import HOPPER
from tests.support.paths import ROOT

NAMES = [part.name for part in PARTS]

needs_bash = pytest.mark.skipif(shutil.which("bash") is None or os.name != "posix", reason="needs bash")


def programs(folder: Path, fails: str = "nothing", hangs: str = "nothing") -> dict[str, str]:
    """An environment in which Python and compute-sanitizer note their calls; calls with some words fail or hang."""
    for name in ("python", "compute-sanitizer"):
        program = folder / name
        program.write_text(
            f'#!/bin/sh\necho "$(basename $0) $*" >> {folder}/calls\necho "this is $1 $2 $3"\n'
            f'case "$*" in *"{hangs}"*) touch {folder}/hanging; sleep 60;; esac\n'
            f'case "$*" in *"{fails}"*) echo "no luck" >&2; exit 3;; esac\n'
            f'case "$*" in *canary*) for last; do :; done; mkdir -p "$(dirname "$last")"\n'
            'echo \'{"frameworks": ["torch"]}\' > "$last";; esac\n'
        )
        program.chmod(0o755)
    return {**os.environ, "PYTHON": str(folder / "python"), "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def run(folder: Path, *arguments: str, **options: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run the module as the script does, from inside ``folder``; return the calls that it made, too."""
    environment = programs(folder, **options) | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "benchmarks.on_gpu", "--from", str(folder), *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100)
    calls = folder / "calls"
    return done, calls.read_text().splitlines() if calls.exists() else []


def parts(folder: Path) -> dict[str, str]:
    return {one["name"]: one["status"] for one in json.loads((folder / "gpu" / "parts.json").read_text())}


@pytest.mark.process
def test_all_parts_run_in_order_and_store_into_the_folder_named(tmp_path: Path) -> None:
    done, calls = run(tmp_path, "new/results")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [*parts(tmp_path / "new/results")] == NAMES
    stored = [call for call in calls if "--results" in call]
    assert len(stored) == 7
    assert all(f"--results {tmp_path}/new/results" in call for call in stored)
    races = [call for call in calls if "mnistbench compare" in call]
    assert [call.split("--dtype ")[1].split()[0] for call in races] == ["float32", "float64"]
    assert all("cupy cupy-plain torch" in call and "--no-cold" in call for call in races), "what the canary has found"
    assert all("--budget 240" in call for call in races), "they end before their limit of 420 s"
    assert "--workload wide --backend cupy --backend torch" in calls[NAMES.index("wide") + 1]
    lines = done.stdout.splitlines()[-len(NAMES) :]
    assert [line.split()[0] for line in lines] == ["ok"] * len(NAMES)
    assert [line.split()[3] for line in lines] == NAMES
    assert "this is -m mnistbench verify" in (tmp_path / "new/results/gpu/agreement.log").read_text()


@pytest.mark.process
def test_the_sanitizer_counts_what_kernels_do_and_not_what_cupy_asks_the_driver(tmp_path: Path) -> None:
    tools = ["memcheck", "racecheck", "synccheck"]
    _, calls = run(tmp_path, "--parts", ",".join(tools), "results")
    assert "canary" in calls[0]
    assert [call.split()[2] for call in calls[1:]] == tools
    assert all("--report-api-errors no --error-exitcode 9" in call for call in calls[1:])
    assert [call.split()[-1] for call in calls[1:]] == tools


@pytest.mark.process
def test_a_part_that_fails_is_named_and_stops_nothing(tmp_path: Path) -> None:
    done, calls = run(tmp_path, "--parts", "agreement,wide", "results", fails="-m mnistbench verify")
    assert done.returncode == 1
    assert "failed" in done.stdout
    assert "agreement: exit status 3: no luck" in done.stdout
    assert "--workload wide" in calls[-1]
    assert parts(tmp_path / "results") == {"canary": "ok", "agreement": "failed", "wide": "ok"}


@pytest.mark.process
@needs_bash
def test_the_script_ends_with_one_line_where_there_is_no_gpu(tmp_path: Path) -> None:
    """The interpreter is the real one."""
    if registry.availability("cupy").usable:
        pytest.skip("there is a GPU")
    command = ["bash", str(ROOT / "benchmarks" / "gpu.sh"), "--parts", "canary", "out"]
    environment = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2
    first, *others = done.stdout.splitlines()
    assert first == "== canary"
    assert len(others) == 1
    assert others[0].startswith("canary: backend cupy is unavailable: ")
    assert parts(tmp_path / "out") == {"canary": "failed"}
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--parts", "canary,abacus"], "abacus: choose from canary, tests"), (["--budget", "0"], "--budget 0: give")],
)
def test_usage_errors(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main([str(tmp_path / "file" / "results")]) == 2
    assert capsys.readouterr().err.startswith(f"gpu.sh: {tmp_path}/file")


# Budgets, limits and interruptions


def shell(name: str, script: str, seconds: float = 0.0, limit: float = 60.0) -> Part:
    return Part(name, seconds, limit, lambda setting: [["sh", "-c", script]])


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "GRACE", 0.3)


@pytest.mark.process
@pytest.mark.usefixtures("impatient")
def test_what_does_not_fit_the_budget_is_skipped_and_what_fits_is_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long, short = shell("long", "echo no", seconds=100), shell("short", "echo yes", seconds=1)
    assert Session(tmp_path, 30, ROOT).run([long, short]) == 0
    assert parts(tmp_path) == {"long": "skipped", "short": "ok"}
    said = capsys.readouterr().out
    assert "== long skipped: takes up to 100 s, and 30 s are left" in said
    assert "yes" in said
    assert not (tmp_path / "gpu" / "long.log").exists()


@pytest.mark.process
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("budget", [None, 1.3])
def test_a_part_that_hangs_is_stopped_with_all_that_it_started(tmp_path: Path, budget: float | None) -> None:
    """By its own limit, or by what is left of the budget; also if it does not heed an interruption."""
    hangs = f"trap '' INT; echo begun; sleep 77 & echo $! > {tmp_path}/child; wait"
    start = time.monotonic()
    limit = 1.0 if budget is None else 60.0
    found = Session(tmp_path, budget, ROOT)
    assert found.run([shell("hangs", hangs, limit=limit), shell("next", "true")]) == 1
    assert time.monotonic() - start < 15
    assert found.outcomes[0].status == "failed"
    assert found.outcomes[0].reason == "was stopped after its limit: begun"
    assert found.outcomes[1].status == ("ok" if budget is None else "skipped")
    child = int((tmp_path / "child").read_text())
    with suppress(ProcessLookupError):
        os.kill(child, 0)
        assert Path(f"/proc/{child}/stat").read_text().split()[2] == "Z", "it still runs"
    assert (tmp_path / "gpu" / "hangs.log").read_text() == "begun\n"


@pytest.mark.process
def test_an_interrupted_part_may_store_what_it_holds(tmp_path: Path) -> None:
    stores = f"trap 'echo rows > {tmp_path}/rows; exit 5' INT; echo begun; while :; do sleep 0.05; done"
    found = Session(tmp_path, None, ROOT)
    assert found.run([shell("stores", stores, limit=0.5)]) == 1
    assert (tmp_path / "rows").read_text() == "rows\n"


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_session_that_is_ended_in_a_part_keeps_the_parts_before(tmp_path: Path, number: signal.Signals) -> None:
    environment = programs(tmp_path, hangs="--workload wide") | {"PYTHONPATH": str(ROOT)}
    options = ["--parts", "agreement,wide,deep", "--from", str(tmp_path), "results"]
    command = [sys.executable, "-m", "benchmarks.on_gpu", *options]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        # Whoever started the tests may ignore interrupts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        end = time.monotonic() + 60
        while not (tmp_path / "hanging").exists() and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
    done = {"canary": "ok", "agreement": "ok"}
    assert (tmp_path / "results/gpu/agreement.log").read_text() == "this is -m mnistbench verify\n"
    if number == signal.SIGKILL:
        assert parts(tmp_path / "results") == done
        assert not (tmp_path / "results/gpu/wide.log").exists()
    else:
        assert process.returncode == 130
        assert parts(tmp_path / "results") == done | {"wide": "interrupted"}
        assert "this is -m pytest benchmarks/" in (tmp_path / "results/gpu/wide.log").read_text()
        assert "interrupted" in said.splitlines()[-1]


# The parts themselves


def test_estimates_of_the_most_valuable_parts_add_up_to_400_seconds() -> None:
    before = NAMES[: NAMES.index("idling")]
    assert before == ["canary", "tests", "agreement", "classic", "kernel", "race-float32", "race-float64"]
    assert sum(part.seconds for part in PARTS[: len(before)]) <= 400
    assert all(part.limit >= part.seconds for part in PARTS)


def test_without_the_frameworks_or_the_sanitizer_their_parts_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    found = {part.name: part.commands(Setting("python", tmp_path)) for part in PARTS}
    assert found["frameworks"] == "neither jax nor torch sees the GPU"
    assert found["memcheck"] == "compute-sanitizer is not installed"


def test_a_race_ends_before_the_session_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []
    race = next(part for part in PARTS if part.name == "race-float32")

    def commands(setting: Setting) -> str:
        command = race.commands(setting)[0]
        assert isinstance(command, list)
        given.append(float(command[command.index("--budget") + 1]))
        return "it is not run"

    Session(tmp_path, 150.0, ROOT).run([replace(race, commands=commands)])
    assert 75 <= given[0] <= 80


def test_the_canary_compiles_and_tells_who_takes_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel = "one persistent launch"

    class Canary(NumpyTrainer):
        def describe(self) -> Description:
            return Description("Some GPU", 1, {}, kernel)

    def start(task: Workload, dataset: Dataset, initial: Parameters) -> Trainer:
        assert len(dataset.train) == task.images == 41_000
        return Canary(replace(task, iterations=1), dataset, initial, 1)

    backend = SimpleNamespace(availability=lambda: Availability(True, device="Some GPU"), start=start)
    monkeypatch.setattr(registry, "get_backend", lambda name: backend)
    devices = {"jax": Availability(True, device="CPU"), "torch": Availability(True, device="Some GPU")}
    monkeypatch.setattr(registry, "availability", devices.get)
    monkeypatch.setattr("mnistbench.machine.probes.compiled_loops", lambda: "loops")
    canary.main(tmp_path / "gpu" / "canary.json")
    assert json.loads((tmp_path / "gpu" / "canary.json").read_text())["frameworks"] == ["torch"]
    said = capsys.readouterr().out.splitlines()
    assert "jax takes no part: it sees no GPU" in said
    assert said[-1] == "Some GPU: the kernels of cupy compile, and cupy, torch take part"
    assert "float32: one persistent launch" in said
    monkeypatch.setattr("mnistbench.machine.probes.compiled_loops", lambda: None)
    with pytest.raises(MnistbenchError, match="Numba compiles nothing"):
        canary.main(tmp_path / "canary.json")
    kernel = "array operations; not persistent: of its 132 blocks 0 can run at once"
    with pytest.raises(MnistbenchError, match="does not run here: array operations"):
        canary.main(tmp_path / "canary.json")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
def test_the_sanitizers_see_images_in_shared_memory_and_others(
    dtype: Any, tool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = load_data(train_size=sanitized.IMAGES[tool])
    task = Workload(Network((784, 10, 10)), len(dataset.train), 1, dtype=dtype)
    smaller = sanitized.streaming(HOPPER, task, dataset)
    kept = np.flatnonzero(dataset.train.images.any(axis=0))
    dealt = deal(dataset.train.images, (28, 28), kept, layout.blocks_of(task.images, smaller))
    plan = layout.plan(task, kept.size, smaller, shares=dealt.shares)
    assert isinstance(plan, layout.Plan)
    assert 0 < plan.resident_share < 1
    monkeypatch.setattr(layout, "plan", lambda *_, **__: "too small")
    with pytest.raises(MnistbenchError, match="no plan keeps some"):
        sanitized.streaming(HOPPER, task, dataset)


def test_rounds_are_timed_after_pauses_without_and_with_work(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    class Working:
        def advance(self, iterations: int) -> Metrics:
            events.append(f"work {iterations}")
            return Metrics(0, 0)

    def round_(trainer: Any, initial: Any, iterations: int) -> Any:
        events.append("round")
        return SimpleNamespace(seconds=1.0)

    monkeypatch.setattr(idling, "timed_round", round_)
    monkeypatch.setattr(idling, "SPIN", 0.01)
    monkeypatch.setattr(idling, "WARM", 0.01)
    trainer: Any = Working()
    found = idling.measure(trainer, None, 500, lambda pause: events.append(f"pause {pause:g}"))  # type: ignore[arg-type]
    assert len(found) == 2 * len(idling.PAUSES) * idling.ROUNDS
    assert events[0] == "work 500"
    before = [one for one, event in itertools.pairwise(events) if event == "round"]
    assert sum(one.startswith("work") for one in before) == sum(one["spin"] > 0 for one in found) == len(found) / 2
    assert [one["pause"] for one in found] == sorted(pause for pause in idling.PAUSES for _ in range(2 * idling.ROUNDS))
