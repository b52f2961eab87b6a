"""Measuring: statistics that hold what they promise, caches of every size, limits that are limits."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mnistbench import machine
from mnistbench.exceptions import MnistbenchError
from mnistbench.task.presets import preset
from mnistbench.task.workload import Workload
from mnistbench.timing.clock import Costs, timed
from mnistbench.training import cold
from mnistbench.training.cold import ColdStart, Process

# The clock


def test_costs_add_up() -> None:
    costs = Costs(1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
    assert costs.total == 63
    names = "import", "load", "compile", "tuning", "first_call", "train"
    assert costs.as_dict() == dict(zip(names, (1.0, 2.0, 4.0, 8.0, 16.0, 32.0), strict=True))


def test_the_clock_times_the_call_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([100.0, 103.5])
    monkeypatch.setattr("mnistbench.timing.clock.time.perf_counter", lambda: next(ticks))
    assert timed(lambda: "result") == ("result", 3.5)


# The caches of the machine


def describe_cache(folder: Path, kind: str, level: str, size: str, shared: str) -> None:
    """A folder as Linux has it."""
    folder.mkdir(parents=True)
    for name, text in (("type", kind), ("level", level), ("size", size), ("shared_cpu_list", shared)):
        (folder / name).write_text(text + "\n")


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the system describes the caches of the only CPU, number 3."""
    monkeypatch.setattr(machine, "_CPUS", tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {3}, raising=False)
    return tmp_path / "cpu3" / "cache"


def test_the_caches_are_those_for_data(cache_folder: Path) -> None:
    assert machine.caches() == [], "a system that tells nothing"
    describe_cache(cache_folder / "index3", "Unified", "3", "32M", "0-3,8-11")
    describe_cache(cache_folder / "index0", "Data", "1", "48K", "3")
    describe_cache(cache_folder / "index1", "Instruction", "1", "32K", "3")
    describe_cache(cache_folder / "index2", "Unified", "2", "1048576", "3,7")
    expected = [machine.Cache(1, 48 << 10, 1), machine.Cache(2, 1 << 20, 2), machine.Cache(3, 32 << 20, 8)]
    assert machine.caches() == expected


@pytest.mark.parametrize(
    "wrong", [("", "2", "1M", "0"), ("Data", "", "1M", "0"), ("Data", "2", "", "0"), ("Data", "2", "0K", "0"),
              ("Data", "2", "K", "0"), ("Data", "2", "1X", "0"), ("Data", "2", "1M", ""), ("Data", "2", "1M", "a-b")]
)  # fmt: skip
def test_a_cache_that_is_not_described_is_left_out(cache_folder: Path, wrong: tuple[str, str, str, str]) -> None:
    describe_cache(cache_folder / "index0", *wrong)
    describe_cache(cache_folder / "index1", "Data", "1", "48K", "3")
    (cache_folder / "index2").mkdir()
    assert machine.caches() == [machine.Cache(1, 48 << 10, 1)]


@pytest.mark.parametrize(
    ("shared_by", "allowed", "threads", "held"),
    [(1, 2, 1, 1), (1, 2, 2, 2), (1, 2, 5, 2), (2, 2, 2, 1), (2, 8, 3, 3), (2, 8, 8, 4), (16, 2, 2, 1), (8, 12, 12, 2)],
)
def test_the_caches_of_some_threads(
    shared_by: int, allowed: int, threads: int, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(allowed)), raising=False)
    monkeypatch.setattr("mnistbench.threads._quotas", lambda root: [1.0])  # it keeps them from no cache
    assert machine.Cache(2, 1000, shared_by).held_by(threads) == 1000 * held


# A process of its own


def process(compiling: float = 0.0, iterations: int = 500, train: float = 3.0, peak: int | None = 7) -> Process:
    costs = {"import": 1.0, "load": 2.0, "compile": compiling, "tuning": 0.0, "first_call": 0.25, "train": train}
    return Process(costs, iterations, 5, peak)


def measured(case: tuple[str, Workload], seconds: float = 0.0, keep: Path | None = None) -> ColdStart:
    (found,) = cold.measure([case], 1, seconds, keep)
    assert isinstance(found, ColdStart)
    return found


def test_what_a_cold_process_compiled_may_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by the next case, whose own process finds nothing."""
    seen: list[int] = []

    def run(options: dict[str, Any], environment: dict[str, str]) -> Process:
        cache = Path(environment["NUMBA_CACHE_DIR"])
        seen.append(len([*cache.iterdir()]))
        (cache / "kernels").mkdir(exist_ok=True)
        (cache / "kernels" / options["workload"]["dtype"]).touch()
        return process()

    monkeypatch.setattr(cold, "_run", run)
    measured(("numba", preset("smoke", "float32")), keep=tmp_path)
    measured(("numba", preset("smoke", "float64")), keep=tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["float32", "float64", "kernels"]
    assert seen == [0, 1, 0, 1]


@pytest.mark.process
def test_a_cold_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold, "MOST", 2)
    task = preset("smoke", "float64")
    found = measured(("numpy", task), 60.0)
    assert len(found.empty) == 2
    assert (found.filled, found.compile_cached) == ((), None)
    for process in found.empty:
        assert all(math.isfinite(value) for value in process.costs.values())
        assert min(process.costs[name] for name in ("import", "load", "train")) > 0
        assert process.iterations == task.iterations, "it takes less than a minute"
        if sys.platform != "win32":
            assert process.peak_memory is not None
            assert process.baseline_memory is not None
            # At least the images in float64, at most what no small run can need.
            assert process.baseline_memory + 2000 * 784 * 8 < process.peak_memory < 2**34


@pytest.mark.process
def test_a_long_cold_training_is_cut() -> None:
    found = measured(("numpy", replace(preset("smoke"), iterations=10_000)), 0.05)
    assert len(found.empty) == 1
    (cut,) = found.empty
    assert 1 <= cut.iterations < 10_000
    assert found.training(10_000) == pytest.approx([cut.costs["train"] * 10_000 / cut.iterations])


def test_cold_processes_come_in_random_order_until_the_seconds_are_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now, orders = 0.0, []
    takes = {"fast": 1.0, "slow": 4.0, "slower": 11.0}

    def run(options: dict[str, Any], environment: dict[str, str]) -> Process:
        nonlocal now
        now += takes[options["backend"]]
        return process()

    monkeypatch.setattr(cold, "_run", run)
    monkeypatch.setattr("mnistbench.timing.clock.time.perf_counter", lambda: now)
    for _ in range(20):
        order: list[cold.Case] = []
        found = cold.measure([(name, preset("smoke")) for name in takes], 1, 10.0, starting=order.append)
        assert [len(one.empty) for one in found if isinstance(one, ColdStart)] == [5, 3, 1]
        orders.append("".join(name for name, _ in order))
    assert len({*orders}) > 1


def test_a_cold_start_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(options: dict[str, Any], environment: dict[str, str]) -> Process:
        if options["backend"] == "broken":
            raise MnistbenchError("out of luck")
        return process()

    monkeypatch.setattr(cold, "_run", run)
    broken, honest = cold.measure([("broken", preset("smoke")), ("honest", preset("smoke"))], 1, 1e9)
    assert str(broken) == "out of luck"
    assert isinstance(honest, ColdStart)
    assert len(honest.empty) == cold.MOST


def test_numpy_trains_with_every_kernel_that_openblas_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that it lacks is its own choice again, and one that the processor cannot run kills the process."""
    chosen = {"": "Haswell", "Zen": "Haswell", "ARMV8": "Haswell", "Haswell": "Haswell", "SkylakeX": "SkylakeX"}

    def started_python(command: list[str], env: dict[str, str], **_: Any) -> subprocess.CompletedProcess[str]:
        name = env.get("OPENBLAS_CORETYPE", "")
        return subprocess.CompletedProcess(command, -4 if name not in chosen else 0, chosen.get(name, "") + "\n")

    def run(options: dict[str, Any], environment: dict[str, str]) -> Process:
        return replace(process(), blas=chosen[environment.get("OPENBLAS_CORETYPE", "")])

    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    monkeypatch.setattr(cold, "_run", run)
    monkeypatch.setattr(cold, "other_kernels", cold.other_kernels.__wrapped__)
    monkeypatch.setattr(subprocess, "run", started_python)
    cases = [(name, preset("smoke")) for name in ("numpy", "numba")]
    numpy, numba = cold.measure(cases, 1, 1e9, kernels=True)
    (without,) = cold.measure(cases[:1], 1, 1e9)
    kernels = [[one.blas for one in found.kernels] for found in (numpy, numba, without) if isinstance(found, ColdStart)]
    assert kernels == [["SkylakeX"] * cold.MOST, [], []]


@pytest.mark.process
def test_the_kernels_that_this_library_has() -> None:
    assert len({*cold.other_kernels()}) == len(cold.other_kernels()) < 4


def test_the_numbers_of_a_cold_start() -> None:
    found = ColdStart((process(4.0), process(6.0, 250), process(5.0, peak=9)), (process(0.5), process(0.25)))
    assert found.cost("compile") == [4.0, 6.0, 5.0]
    assert found.costs == {"import": 1.0, "load": 2.0, "compile": 5.0, "tuning": 0.0, "first_call": 0.25}
    assert found.training(500) == [3.0, 6.0, 3.0]
    assert found.cached() == [0.75, 0.5]
    assert (found.compile_cached, found.peak_memory) == (0.625, 9)
    assert ColdStart((process(peak=None),)).peak_memory is None
    assert ColdStart.from_dict(json.loads(json.dumps(found.as_dict()))) == found


def test_available_memory_is_some_of_the_machines() -> None:
    assert 2**20 < machine.available_memory() < machine.memory_gib() * 2**30


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """What a measurement runs, in place of which a stand-in runs that does nothing."""
    seen: list[list[str]] = []
    opened = subprocess.Popen
    code = (
        "import json, os; first = not os.listdir(os.environ['NUMBA_CACHE_DIR']);"
        "open(os.environ['NUMBA_CACHE_DIR'] + '/kernel', 'w').close();"
        "costs = {'import': 1, 'load': 2, 'compile': 5.0 if first else 0.01, 'first_call': -1, 'train': 3};"
        "print(json.dumps({'costs': costs, 'iterations': 1, 'baseline_memory': 5, 'peak_memory': 7}))"
    )

    def run(command: list[str], **options: object) -> object:
        seen.append(command)
        return opened([sys.executable, "-c", code], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "Popen", run)
    return seen


@pytest.mark.process
def test_what_is_compiled_is_measured_again_from_the_cache(commands: list[list[str]]) -> None:
    found = measured(("numba", preset("smoke")))
    assert found.costs == {"import": 1, "load": 2, "compile": 5.0, "first_call": -1}
    assert (found.compile_cached, found.peak_memory) == (0.01, 7)
    assert commands[0] == commands[1]
    options = json.loads(commands[0][-1])
    assert (options["workload"]["images"], options["threads"]) == (2000, 1)


@pytest.mark.parametrize("jax", [None, "/a/cache"])
def test_nothing_is_compiled_before(monkeypatch: pytest.MonkeyPatch, jax: str | None) -> None:
    """Every compiler's cache is a folder that is empty at first, and JAX has one only where its user wants one."""
    caches = {"NUMBA_CACHE_DIR", "CUPY_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"}
    seen = []

    def run(options: dict[str, Any], environment: dict[str, str]) -> Process:
        folders = {environment[name] for name in caches | ({"JAX_COMPILATION_CACHE_DIR"} & environment.keys())}
        seen.append((len(folders), list(Path(folders.pop()).iterdir()), "JAX_COMPILATION_CACHE_DIR" in environment))
        return process()

    monkeypatch.setattr(cold, "_run", run)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/of/the/user")
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    if jax:
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", jax)
    measured(("torch", preset("smoke")))
    assert seen == [(1, [], jax is not None)]


@pytest.mark.process
def test_the_measured_process_is_that_of_the_workload(commands: list[list[str]]) -> None:
    workload = replace(preset("deep", "float64", seed=7), images=123)
    measured(("numpy", workload))
    sent = json.loads(commands[0][-1])
    assert (sent["backend"], sent["threads"]) == ("numpy", 1)
    assert Workload.from_description(sent["workload"]) == workload


@pytest.mark.process
def test_the_measured_process_trains_more_images_than_mnist_has() -> None:
    assert measured(("numpy", replace(preset("smoke"), images=60_001))).costs["load"] > 0


@pytest.mark.process
def test_a_process_that_fails_is_an_error_in_one_line() -> None:
    (found,) = cold.measure([("abacus", preset("smoke"))], 1, 0.0)
    assert isinstance(found, MnistbenchError)
    assert str(found).startswith("a new process that trains with abacus failed: backend 'abacus'")
    assert str(found).isprintable()


@pytest.mark.process
def test_a_process_that_is_killed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = subprocess.Popen
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: opened([sys.executable, "-c", code], **options))
    (found,) = cold.measure([("numpy", Workload(preset("smoke").network, 10))], 1, 0.0)
    assert str(found).endswith("failed: exit status -9")
