"""The gate: its verdicts are as reliable as it says, and nothing half-built, wrong or mixed up is ever compared."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from typer.testing import CliRunner

from mnistbench import machine, threads
from mnistbench.agreement import Trajectory
from mnistbench.backends import Metrics
from mnistbench.cli import app
from mnistbench.cli.against import fraction_of
from mnistbench.comparison import against
from mnistbench.comparison.against import Gate, Side, environment, verdict
from mnistbench.comparison.against.sides import Process
from mnistbench.comparison.against.verdict import judge, next_look
from mnistbench.datasets import load_images
from mnistbench.exceptions import MnistbenchError, OptionError
from mnistbench.reference.parameters import Parameters
from mnistbench.task.presets import variant
from mnistbench.task.recipe import Recipe
from mnistbench.task.workload import Workload
from mnistbench.timing.statistics import paired_ratio
from tests.support.benchmarks import ONE_THREAD
from tests.support.paths import ROOT

# Verdicts

RECORDED = """
    -16 3 -75 13 26 2 37 -13 81 0 -7 -3 11 44 14 14 -3 -1 14 13 2 29 -5 -2 80 0 -5 11 14 22 8 -3 -1 -1 -24 -24 0 10
    1 -17 -12 -5 0 -2 8 -2 2 -8 13 7 -3 -47 2 -2 -13 114 -2 -27 3 -35 0 -8 0 -4 -8 1
"""
"""Logarithms of the ratios of 66 pairs of processes that ran the same code, numba on the preset "smoke", in
thousandths, measured on two CPUs that several other programs used too."""


def noise(rng: np.random.Generator, number: int) -> NDArray[np.float64]:
    """Draw ratios as they were recorded; either process may have been the luckier one."""
    logarithms = rng.choice(np.array(RECORDED.split(), float), number) * rng.choice([-1, 1], number)
    ratios: NDArray[np.float64] = np.exp(logarithms / 1000)
    return ratios


def final_word(ratios: Sequence[float], fail: float) -> str:
    """Look as a gate does, and return the verdict at which it ends."""
    pairs = 0
    for look in count():
        pairs = min(next_look(pairs), len(ratios))
        found = judge(ratios[:pairs], look, fail).word
        if found != "cannot tell" or pairs == len(ratios):
            return found
    raise AssertionError


def words_of(slowdown: float, fail: float, gates: int = 300, pairs: int = 60) -> list[str]:
    rng = np.random.default_rng(0)
    return [final_word([*(noise(rng, pairs) * (1 + slowdown))], fail) for _ in range(gates)]


def test_a_slowdown_of_five_percent_is_found() -> None:
    assert words_of(0.05, 0.025).count("slower") >= 0.95 * 300


def test_the_same_code_is_not_slower() -> None:
    words = words_of(0.0, 0.025)
    assert words.count("slower") == 0
    assert words.count("not slower") >= 0.95 * 300


def missing(gates: int = 400, pairs: int = 150) -> int:
    """Count the gates in which the interval of any look misses the true ratio."""
    rng = np.random.default_rng(1)
    missed = 0
    for _ in range(gates):
        ratios, looks = [*noise(rng, pairs)], [next_look(0)]
        while looks[-1] < pairs:
            looks.append(next_look(looks[-1]))
        found = [judge(ratios[:number], look, 0.05).ratio for look, number in enumerate(looks[:-1])]
        missed += not all(ratio.low <= 1 <= ratio.high for ratio in found)
    return missed


@pytest.mark.slow
def test_all_looks_together_are_wrong_in_five_of_a_hundred_gates_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing() <= 0.05 * 400
    # Each look spends all of the 5%, as if it were the only one.
    whole = partial(paired_ratio, level=1 - verdict.MISSED)
    monkeypatch.setattr(verdict, "paired_ratio", lambda now, then, level: whole(now, then))
    assert missing() > 0.08 * 400


def test_the_looks() -> None:
    assert [next_look(pairs) for pairs in (0, 7, 8, 11, 12, 18, 27, 41)] == [8, 8, 12, 12, 18, 27, 41, 62]


@given(
    st.lists(st.floats(0.5, 2.0), min_size=1, max_size=40),
    st.integers(0, 10),
    st.sampled_from([0.01, 0.05, 0.5]),
)
def test_the_verdict_is_what_the_interval_says(ratios: list[float], look: int, fail: float) -> None:
    found = judge(ratios, look, fail)
    assert (found.word == "slower") == (found.ratio.low > 1 + fail)
    assert (found.word == "not slower") == (found.ratio.high < 1 + fail)
    assert found.ratio.low <= found.ratio.value <= found.ratio.high


def test_the_first_look_has_an_interval() -> None:
    assert judge([1.0] * next_look(0), 0, 0.05).ratio.known


@given(st.floats(0.001, 0.999))
def test_a_slowdown_in_percent_or_as_a_fraction(slowdown: float) -> None:
    assert fraction_of(str(slowdown)) == slowdown
    assert fraction_of(f"{100 * slowdown}%") == pytest.approx(slowdown)


@pytest.mark.parametrize("wrong", ["", "5", "five", "-5%", "0", "0%", "100%", "1.2.3", "nan", "5%%"])
def test_no_slowdown(wrong: str) -> None:
    with pytest.raises(OptionError, match="--fail"):
        fraction_of(wrong)


# Gates, with processes that are made up

TASK = variant("smoke", images=100, iterations=3)


class Fake:
    """A process whose iterations take ``seconds`` each, and whose parameters are right unless it is ``wrong``."""

    def __init__(self, side: Side, seconds: float, wrong: bool, threads: int, version: str) -> None:
        self.side, self.seconds, self.wrong = side, seconds, wrong
        self.threads, self.versions = threads, {"numpy": version}

    def advance(self, iterations: int) -> float:
        return iterations * self.seconds

    def result(self) -> tuple[Metrics, Parameters]:
        last = TRAJECTORY.forwards[TRAJECTORY.workload.iterations]
        factor = np.float32(1.1 if self.wrong else 1)
        parameters = TRAJECTORY.states[-1].parameters.astype("float32")
        return Metrics(last.loss, last.accuracy), Parameters(
            [w * factor for w in parameters.weights], parameters.biases
        )


TRAJECTORY = Trajectory(TASK.with_dtype("float64"), load_images(TASK.images, TASK.seed))
SIDES = (Side("now", "1", Path("python"), Path()), Side("v0", "0", Path("python"), Path()))


def make_up(monkeypatch: pytest.MonkeyPatch, slowdown: float = 0.0, spread: float = 0.01, wrong: str = "") -> None:
    """Replace processes by some that need a second an iteration; a backend called "missing" fails at v0."""
    rng = np.random.default_rng(0)

    @contextmanager
    def together(
        sides: tuple[Side, Side], order: Sequence[int], backend: str, workload: Workload, threads: int | None
    ) -> Iterator[tuple[Fake, Fake]]:
        assert sorted(order) == [0, 1]
        if backend == "missing":
            raise MnistbenchError("v0 failed: UnknownBackend: no such backend")
        found = []
        for side, factor, number in zip(sides, (1 + slowdown, 1.0), (2, 1), strict=True):
            seconds = factor * math.exp(rng.normal(0, spread))
            found.append(Fake(side, seconds, side.name == wrong, number, f"{number}.0"))
        yield found[0], found[1]

    monkeypatch.setattr(against, "together", together)
    monkeypatch.setattr(against, "_SHORTEST", 0.0)


def gate(monkeypatch: pytest.MonkeyPatch, names: Sequence[str] = ("numpy",), **options: Any) -> Gate:
    """Run a gate between made-up processes."""
    make_up(monkeypatch, **{name: options.pop(name) for name in ("slowdown", "spread", "wrong") if name in options})
    return against.run(SIDES, names, ["float32"], TASK, **options)


@pytest.mark.parametrize(("slowdown", "word"), [(0.0, "not slower"), (-0.5, "not slower"), (0.2, "slower")])
def test_the_gate_ends_as_soon_as_it_can_tell(slowdown: float, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = gate(monkeypatch, slowdown=slowdown)
    (case,) = found.cases
    assert case.verdict is not None
    assert case.verdict.word == word
    assert case.failed == (word == "slower")
    assert len(case.pairs) == next_look(0)
    assert case.verdict.ratio.low <= 1 + slowdown <= case.verdict.ratio.high
    assert found.warnings[:2] == [
        "numpy float32: 2 threads now, 1 of v0",
        "numpy float32: libraries differ: numpy 2.0 now, 1.0 then",
    ]


@pytest.mark.parametrize(
    ("seconds", "batch_size", "iterations"), [(1.0, None, 1), (1e-3, None, 4), (1e-9, None, 64), (1e-9, 50, 64)]
)
def test_a_slice_is_whole_epochs_that_take_long_enough(seconds: float, batch_size: int | None, iterations: int) -> None:
    task = replace(TASK, iterations=100, recipe=Recipe(batch_size=batch_size))
    fakes = Fake(SIDES[0], seconds, False, 1, "1"), Fake(SIDES[1], 2 * seconds, False, 1, "1")
    found = against._slice(fakes, task)  # type: ignore[arg-type]
    assert found == iterations
    assert found % task.iterations_per_epoch == 0


def test_sides_take_turns_in_a_balanced_order() -> None:
    order: list[int] = []

    class Turn:
        def __init__(self, place: int) -> None:
            self.place = place

        def advance(self, iterations: int) -> float:
            order.append(self.place)
            return 1.0

    samples = against._in_turn((Turn(0), Turn(1)), (1, 0), 5, 0.0)  # type: ignore[arg-type]
    assert order == [1, 0, 0, 1, 1, 0, 0, 1]
    assert samples == ([1.0] * 4, [1.0] * 4)


def test_the_budget_ends_what_cannot_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = count(0.0, 1.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    found = gate(monkeypatch, slowdown=0.05, spread=0.05, budget=60.0)
    (case,) = found.cases
    assert case.verdict is not None
    assert case.verdict.word == "cannot tell"
    assert not case.failed
    assert len(case.pairs) > next_look(0)
    assert any(warning.startswith("numpy float32: cannot tell after") for warning in found.warnings)


def test_a_budget_for_too_few_pairs_is_told_and_is_no_infinity_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    found = gate(monkeypatch, budget=1e-9)
    assert len(found.cases[0].pairs) == 1
    assert "cannot tell after 1 pair (at least 8 are needed)" in found.warnings[0]
    ratio = json.loads(json.dumps(found.record(), allow_nan=False))["cases"][0]["verdict"]["ratio"]
    assert (ratio["low"], ratio["high"]) == (None, None)


@pytest.mark.parametrize("wrong", ["now", "v0"])
def test_a_wrong_side_has_no_verdict(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (case,) = gate(monkeypatch, slowdown=-0.5, wrong=wrong).cases
    assert case.failed
    assert str(case.problem).startswith(f"{wrong} disagrees with the reference: W1 after 3 updates")


def test_a_backend_that_fails_leaves_the_others_their_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    missing, numpy = gate(monkeypatch, names=["missing", "numpy", "numpy"]).cases
    assert missing.problem == "v0 failed: UnknownBackend: no such backend"
    assert missing.failed
    assert numpy.verdict is not None


@pytest.mark.parametrize("wrong", [{"fail": 0.0}, {"fail": math.inf}, {"budget": 0.0}, {"names": []}])
def test_options_out_of_range(wrong: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError):
        gate(monkeypatch, **wrong)


@pytest.mark.parametrize(
    ("options", "arguments", "status", "said"),
    [
        ({"slowdown": 0.2}, [], 1, "slower"),
        ({"slowdown": 0.2}, ["--fail", "50%"], 0, "not slower"),
        ({}, [], 0, "not slower"),
        ({}, ["--budget", "1e-9"], 0, "warning: numpy float32: cannot tell after 1 pair"),
        ({"wrong": "now"}, [], 1, "NO RESULT"),
    ],
)
def test_the_exit_status(
    options: dict[str, Any], arguments: list[str], status: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_up(monkeypatch, **options)
    monkeypatch.setattr(threads, "limit", lambda number: number)  # of this process, too
    monkeypatch.setattr(environment, "prepare", lambda revision, announce: SIDES[1])
    sizes = ["--workload", "smoke", "--images", "100", "--iterations", "3", "--threads", "2"]
    found = CliRunner().invoke(app, ["compare", "numpy", "--against", "v0", *sizes, *arguments])
    assert found.exit_code == status, found.output
    assert said in found.stdout
    assert "784-10-10 network, 100 images, 3 iterations, 2 threads" in found.stdout
    assert ("numpy float32: now disagrees with the reference: W1" in found.stdout) == ("wrong" in options)
    assert found.stdout.startswith("numpy float32: " if "wrong" in options else "Pair: 1 of 8, numpy float32: ")


# Environments


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What pip would have been asked for."""
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(environment, "_pip", lambda name, place, *arguments: asked.append(arguments))
    return asked


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MNISTBENCH_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "revisions"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "mnistbench-0.1-py3-none-any.whl"
    path.write_bytes(b"a wheel")
    return path


@pytest.mark.process
def test_an_environment_is_built_once(no_pip: list[tuple[str, ...]], cache: Path, wheel: Path) -> None:
    told: list[str] = []
    first, again = (environment.prepare(str(wheel), told.append) for _ in range(2))
    assert first == again
    assert first.home.parent == cache
    assert len(told) == 1
    assert [arguments[-1] for arguments in no_pip] == [str(wheel), "mnistbench"]
    code = "import sys, numpy; print(sys.prefix, numpy.__version__)"
    found = subprocess.run([first.python, "-P", "-c", code], env=first.environment(), capture_output=True, text=True)
    assert found.stdout.split() == [str(first.home), np.__version__], found.stderr
    wheel.write_bytes(b"another wheel")
    assert environment.prepare(str(wheel)).home != first.home


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_what_is_half_built_is_not_used(
    stop: BaseException, cache: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: object) -> None:
        raise stop

    monkeypatch.setattr(environment, "_pip", fails)
    kind = MnistbenchError if isinstance(stop, OSError) else KeyboardInterrupt
    with pytest.raises(kind) as raised:
        environment.prepare(str(wheel))
    assert isinstance(stop, KeyboardInterrupt) or "No space left on device; MNISTBENCH_CACHE_DIR" in str(raised.value)
    assert [*cache.iterdir()] == []


def test_the_slower_of_two_builders_uses_what_the_other_built(
    cache: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtaken(name: str, place: Path, *arguments: str) -> None:
        other = cache / environment._folder_name(wheel.name, environment._digest_of(wheel))
        other.mkdir(exist_ok=True)
        (other / "whole").touch()

    monkeypatch.setattr(environment, "_pip", overtaken)
    found = environment.prepare(str(wheel))
    assert [path.name for path in found.home.iterdir()] == ["whole"]
    assert [*cache.iterdir()] == [found.home]


def test_an_upgrade_here_needs_another_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    before = environment._folder_name("v0.1", "a" * 40)
    assert before.startswith("v0.1-aaaaaaa-")
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: [])
    assert environment._folder_name("v0.1", "a" * 40) != before


@pytest.mark.process
def test_what_pip_says_is_one_line(cache: Path, wheel: Path) -> None:
    with pytest.raises(
        MnistbenchError, match=r"^--against mnistbench-0.1.*: it cannot be installed: ERROR: "
    ) as raised:
        environment.prepare(str(wheel))
    assert "\n" not in str(raised.value)
    assert [*cache.iterdir()] == []


def test_a_wheel_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"missing\.whl: cannot be read: No such file"):
        environment.prepare(str(tmp_path / "missing.whl"))


@pytest.mark.parametrize("revision", ["no-such-tag", "--output=x", "HEAD:README.md"])
def test_a_revision_that_is_not_there(revision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "commit", lambda: {"id": "0" * 40, "dirty": False})
    with pytest.raises(OptionError, match="no such tag, branch or commit"):
        environment.prepare(revision)


def test_no_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "commit", lambda: {"id": "unversioned", "dirty": False})
    with pytest.raises(OptionError, match="is no git checkout, or git is missing"):
        environment.prepare("v0.1")


def test_each_side_finds_its_own_package_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    now = Side.now()
    assert now.environment()["PYTHONPATH"].split(os.pathsep) == [str(now.home), "elsewhere"]
    assert "PYTHONPATH" not in Side("v0", "0", Path(sys.executable), tmp_path).environment()


# Processes


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Any]:
    """Start processes of sides, and end them after the test."""
    started: list[Process] = []

    def start(side: Side, backend: str = "numpy") -> Process:
        started.append(Process(side, backend, TASK, 1, tmp_path))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.mark.process
def test_a_process_trains_as_the_reference_does(process: Any) -> None:
    one = process(Side.now())
    one.wait()
    assert one.threads == 1
    assert one.versions["numpy"] == np.__version__
    for slices in ([3], [1], [1, 1], [2, 2], []):  # of 3 iterations
        assert all(one.advance(iterations) > 0 for iterations in slices)
        against._require_agreement(one, TASK, TRAJECTORY)


@pytest.mark.process
def test_a_process_that_runs_the_wrong_package_is_refused(process: Any, tmp_path: Path) -> None:
    """An environment that lost its package would run the one that is installed here."""
    now = Side.now()
    with pytest.raises(MnistbenchError, match=r"its interpreter runs .*, not"):
        process(Side("v0", "0", now.python, tmp_path, path=now.home)).wait()


def test_an_interpreter_that_is_gone_is_told(process: Any, tmp_path: Path) -> None:
    with pytest.raises(MnistbenchError, match=r"does not start: No such file .*; delete .* to install it anew"):
        process(Side("v0", "0", tmp_path / "bin" / "python", tmp_path))


@pytest.mark.process
def test_a_revision_without_the_names_is_told(process: Any, tmp_path: Path) -> None:
    (tmp_path / "mnistbench").mkdir()
    (tmp_path / "mnistbench" / "__init__.py").touch()
    with pytest.raises(MnistbenchError, match=r"^v0 failed: a gate needs .*: cannot import name 'Parameters' from"):
        process(Side("v0", "0", Path(sys.executable), tmp_path, path=tmp_path)).wait()


@pytest.mark.process
def test_a_process_that_fails_says_why_on_one_line(process: Any) -> None:
    with pytest.raises(MnistbenchError, match=r"^now failed: UnknownBackend: backend 'abacus' does not exist"):
        process(Side.now(), "abacus").wait()
    killed = process(Side.now())
    killed.wait()
    killed._process.kill()
    with pytest.raises(MnistbenchError, match=r"^now failed: it ended with status -9$"):
        killed.advance(1)


# The command


def command(*arguments: object, cwd: Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run ``mnistbench compare`` of the checkout at ``cwd``."""
    environment = (
        os.environ | ONE_THREAD | {"PYTHONPATH": str(cwd), "COLUMNS": "200", "MNISTBENCH_CACHE_DIR": "../kept"}
    )
    found = subprocess.run(
        [sys.executable, "-m", "mnistbench", "compare", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=environment,
    )
    assert found.returncode == status, found.stdout + found.stderr
    return found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--against", "v0", "--rounds", "7"], "--rounds has no effect with --against"),
        (["--against", "v0", "--results", "results"], "--results has no effect with --against"),
        (["--fail", "3%"], "--fail has no effect without --against"),
        (["--against", "v0", "--fail", "5"], "--fail 5: give a slowdown"),
    ],
)
def test_options_without_effect(arguments: list[str], message: str) -> None:
    found = CliRunner().invoke(app, ["compare", "numpy", *arguments])
    assert found.exit_code == 2
    assert found.stderr.startswith(f"mnistbench: {message}")
    assert found.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of this package with one commit, tagged v0."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "mnistbench", folder / "mnistbench", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, folder / name)
    identity = ["-c", "user.name=mnistbench", "-c", "user.email=mnistbench@example.org"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "all"], ["tag", "v0"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    return folder


@pytest.mark.process
def test_a_checkout_against_its_tag(checkout: Path) -> None:
    """The working tree is measured against the tag, and neither it nor git's index is touched."""
    pytest.importorskip("hatchling")
    arguments = "numpy", "--against", "v0", "--workload", "smoke", "--images", 100, "--threads", 1, "--budget", 1e-6
    found = command(*arguments, cwd=checkout)
    assert found.stderr.startswith("mnistbench: installing v0 (")
    assert "Pair: 1 of 8, numpy float32: " in found.stdout
    assert "cannot tell" in found.stdout
    trainer = checkout / "mnistbench" / "backends" / "numpy.py"
    right = trainer.read_text(encoding="utf-8")
    fault = right.replace("self.workload.learning_rate)", "0.99 * self.workload.learning_rate)")
    assert fault != right
    trainer.write_text(fault, encoding="utf-8")
    found = command(*arguments, "--json", cwd=checkout, status=1)
    assert found.stderr == "", "the environment is there"
    record = json.loads(found.stdout)
    assert record["cases"][0]["problem"].startswith("now disagrees with the reference: ")
    assert [side["name"] for side in record["sides"]] == ["now", "v0"]
    assert record["sides"][0]["revision"] == record["sides"][1]["revision"] + " and changes"
    status = subprocess.run(["git", "status", "--porcelain"], cwd=checkout, capture_output=True, text=True, check=True)
    assert status.stdout.split() == ["M", "mnistbench/backends/numpy.py"]
