"""The race: what it measures, what it says of it, and that it catches who cheats."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

import mnistbench.backends as registry
from mnistbench import comparison, machine, report, threads
from mnistbench.backends import Backend, Metrics, Trainer
from mnistbench.backends.numpy import NumpyBackend, NumpyTrainer
from mnistbench.cli import app
from mnistbench.comparison import Comparison, processes, race, storing
from mnistbench.comparison.table import notes, table
from mnistbench.datasets import Dataset
from mnistbench.exceptions import BackendUnavailable, MnistbenchError, OptionError, UnsupportedWorkload
from mnistbench.machine import limits
from mnistbench.measurement import Energy, Measurement, Round, Starts, timed_round
from mnistbench.ranks import Team, local
from mnistbench.reference.parameters import Parameters
from mnistbench.results import storage
from mnistbench.results.row import Speedup
from mnistbench.task.recipe import Optimizer, Recipe
from mnistbench.task.workload import Network, Workload
from mnistbench.timing.clock import Costs
from mnistbench.training import cold
from mnistbench.training.cold import ColdStart, Process
from tests.support import builders
from tests.support.benchmarks import ONE_THREAD

DATA = builders.dataset(200, 30, 5)
TASK = replace(builders.workload(DATA, iterations=20), learning_rate=0.5)


@pytest.fixture(autouse=True)
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "SETTLE", 0.0)


def compare(*names: str, rounds: int = 3, **options: Any) -> Comparison:
    return comparison.compare(names, ["float64"], TASK, DATA, rounds=rounds, **options)


# The budget


@pytest.mark.parametrize("processes", [1, 3])
def test_when_the_budget_is_used_up_the_next_round_is_the_last(processes: int) -> None:
    found = compare("numpy", "numpy", rounds=50, processes=processes, budget=1e-9)
    assert found.ran == [1]
    for contender in found.contenders:
        assert contender.problem is None
        assert contender.proof is not None
        assert {"fresh weights", "repetition"} <= {*contender.proof.checks}
    within = ", in 1 of 3 processes" if processes == 3 else ""
    assert found.warnings[0] == f"the budget was used up after 1 of {50 * processes} rounds{within}"
    assert "median of 1 interleaved round, of this process" in notes(found)[0]


@pytest.mark.process
def test_a_budget_that_ends_in_a_later_process_leaves_it_fewer_rounds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It ends when the second process has begun its first round."""
    monkeypatch.setattr(Comparison, "left", property(lambda self: -1.0 if self.ran[1:] and self.ran[1] else 1e9))
    found = compare("numpy", "numpy", rounds=3, processes=3, budget=60.0)
    assert found.ran == [3, 2]
    for contender in found.contenders:
        assert contender.problem is None
        assert [len(run) for run in contender.runs] == [3, 2]
        assert contender.proof is not None
        assert contender.proof.complete
    assert found.warnings[0] == "the budget was used up after 5 of 9 rounds, in 2 of 3 processes"
    assert "2 to 3 interleaved rounds in each of 2 processes" in notes(found)[0]
    path, *_ = storing.store(found, tmp_path)
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert (stored["options"]["ran"], stored["options"]["budget"]) == ([3, 2], 60.0)
    assert storage.rows_of(stored, path.name)[0].processes == (3, 2)


@pytest.mark.parametrize(("left", "expected"), [(math.inf, 20), (100.0, 20), (1.05, 11), (0.0, 1), (-5.0, 1)])
def test_the_references_round_is_one_of_those_that_are_expected_to_run(
    left: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = compare("numpy", rounds=20)
    monkeypatch.setattr(Comparison, "left", property(lambda self: left))
    run = race.Race(found, 1, lambda comparison: None)
    entry: Any = SimpleNamespace(measurement=SimpleNamespace(took=0.1), contender=found.contenders[0])
    assert run._expected_rounds([entry]) == expected
    places = {run._starts.seeds(20, expected).index(run._starts.reference) for _ in range(400)}
    assert places == {*range(expected)}


def test_the_expected_rounds_have_the_references(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race.Race, "_expected_rounds", lambda self, entries: 1)
    proofs = [contender.proof for contender in compare("numpy", "numpy", rounds=9).contenders]
    assert proofs[0] is not None
    assert proofs[1] is not None
    assert proofs[0].seeds[0] == proofs[1].seeds[0], "they share the reference's alone"


def test_the_references_round_is_the_last_one_if_no_other_has_been_it() -> None:
    starts = Starts(compare("numpy").trajectory)  # type: ignore[arg-type]
    for place, last, expected in ((2, 4, 2), (4, 4, 4), (5, 4, 4), (9, 0, 0)):
        seeds = [*range(10)]
        seeds[place] = starts.reference
        starts.end_with_reference(seeds, last)
        assert seeds.index(starts.reference) == expected
        assert sorted(seeds) == sorted({*range(10)} - {place} | {starts.reference})


@pytest.mark.usefixtures("fakes")
def test_a_budget_is_not_blamed_where_all_have_failed() -> None:
    found = compare("Disagrees", budget=1e-9)
    assert found.contenders[0].problem is not None
    assert found.ran == []
    assert not any("budget" in warning for warning in found.warnings)


def test_a_budget_that_lasts_changes_nothing() -> None:
    found = compare("numpy", budget=1e9)
    assert found.ran == [3]
    assert not any("budget" in warning for warning in found.warnings)


@pytest.mark.parametrize("budget", [0.0, -1.0, math.nan])
def test_a_budget_is_a_positive_number(budget: float) -> None:
    with pytest.raises(OptionError, match=r"--budget .*: give a number of seconds above 0"):
        compare("numpy", budget=budget)


# Backends that cheat, of which tests/measurement has more


class Honest(NumpyTrainer):
    """The computation that the others below spoil."""


class TrainsHalf(Honest):
    def advance(self, iterations: int) -> Metrics:
        return super().advance(iterations // 2 if iterations == TASK.iterations else iterations)


class WorksAhead(Honest):
    """Does in ``reset`` what takes time."""

    def reset(self, parameters: Parameters) -> None:
        super().reset(parameters)
        time.sleep(0.03)


def failing(name: str, method: str, message: str) -> type[Honest]:
    """Return a trainer whose ``method`` fails."""

    def fails(self: Honest, *arguments: Any) -> Any:
        raise RuntimeError(message)

    return type(name, (Honest,), {method: fails})


class FailsInRounds(Honest):
    """Runs whole trainings once."""

    whole = 0

    def advance(self, iterations: int) -> Metrics:
        self.whole += iterations == TASK.iterations
        if self.whole > 1:
            raise RuntimeError("out of\nluck")
        return super().advance(iterations)


class TrainsHalfInRounds(Honest):
    """Is honest in the first whole training, which is compared."""

    whole = 0

    def advance(self, iterations: int) -> Metrics:
        self.whole += iterations == TASK.iterations
        return super().advance(iterations // 2 if iterations == TASK.iterations and self.whole > 1 else iterations)


class Disagrees(Honest):
    def gradients(self) -> Parameters:
        return super().gradients().astype("float32").astype("float64")


CHEATS: dict[type[Honest], str] = {
    TrainsHalf: "one call of 20 iterations disagrees with the reference: loss",
    TrainsHalfInRounds: "ends elsewhere than calls of a few iterations each",
    FailsInRounds: "RuntimeError: out of luck",
    failing("FailsToDescribe", "describe", "no words"): "RuntimeError: no words",
    failing("FailsToPredict", "predict", "no memory"): "RuntimeError: no memory",
    failing("FailsToStart", "__init__", "no device"): "RuntimeError: no device",
    Disagrees: "disagrees with the reference: dW1",
}


def fake(trainer: type[NumpyTrainer]) -> Backend:
    class Fake(NumpyBackend):
        name = trainer.__name__

        def load(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> Trainer:
            return trainer(workload, dataset, parameters, threads)

    return Fake()


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: list[type[Honest]] = [Honest, WorksAhead, *CHEATS]
    known = {kind.__name__: fake(kind) for kind in kinds}
    real = registry.get_backend
    monkeypatch.setattr(registry, "get_backend", lambda name: known.get(name) or real(name))


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize("kind", CHEATS)
def test_a_cheat_has_no_result_and_the_others_do(kind: type[Honest]) -> None:
    found = compare("numpy", kind.__name__, "Honest")
    numpy, cheat, honest = found.contenders
    assert cheat.problem is not None
    assert CHEATS[kind] in cheat.problem
    assert numpy.problem is None
    assert honest.problem is None
    assert len(numpy.samples) == len(honest.samples) == 3
    assert found.ratio(cheat) is None
    assert found.ratio(honest) is not None
    json.dumps(storing.record(found), allow_nan=False)


@pytest.mark.usefixtures("fakes")
def test_a_rate_above_the_machine_s_peak_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of one contender runs too slowly by far."""
    real = timed_round

    def slow_clock(trainer: Trainer, initial: Parameters, iterations: int) -> Round:
        found, factor = real(trainer, initial, iterations), 1 if type(trainer) is Honest else 1e12
        return replace(found, seconds=found.seconds / factor, whole=found.whole / factor, cpu=found.cpu / factor)

    monkeypatch.setattr(race, "timed_round", slow_clock)
    monkeypatch.setattr(limits, "measure", limits.limits)
    numpy, honest = compare("numpy", "Honest").contenders
    assert numpy.problem is not None
    assert "is above the machine's peak" in numpy.problem
    assert honest.problem is None


@pytest.mark.usefixtures("fakes")
def test_a_race_checks_all_and_times_what_is_done_outside_of_the_clock() -> None:
    honest, ahead = compare("Honest", "WorksAhead").contenders
    assert (honest.problem, ahead.problem) == (None, None)
    assert honest.proof is not None
    assert honest.proof.complete
    assert ahead.proof is not None
    assert ahead.proof.host_to_host
    assert min(ahead.samples) > 0.03


@pytest.mark.usefixtures("fakes")
def test_when_the_baseline_has_no_result_the_others_have() -> None:
    found = compare("FailsInRounds", "numpy", baseline="FailsInRounds")
    assert found.contenders[1].problem is None
    assert found.ratio(found.contenders[1]) is None
    assert "the baseline has no result" in drawn(found, running=False)


# The rounds


def test_everybody_runs_in_every_round_in_shuffled_order(fakes: None) -> None:
    order: list[str] = []

    def watch(state: Comparison) -> None:
        order.extend(c.label for c in state.contenders if c.state == "runs")

    found = compare("numpy", "Honest", "numpy", rounds=8, callback=watch)
    labels = [contender.label for contender in found.contenders]
    assert labels == ["numpy float64", "Honest float64", "numpy float64 (2)"]
    rounds = [tuple(order[i : i + 3]) for i in range(0, len(order), 3)]
    assert all(sorted(one) == sorted(labels) for one in rounds)
    assert len(set(rounds)) > 1
    assert [len(contender.samples) for contender in found.contenders] == [8, 8, 8]
    assert all(contender.problem is None for contender in found.contenders)
    assert all(contender.agreement.passed for contender in found.contenders)


RECIPES = {
    "two hidden layers": replace(TASK, network=Network((30, 6, 4, 5), "tanh")),
    "no hidden layer": replace(TASK, network=Network((30, 5)), recipe=Recipe(optimizer=Optimizer("momentum"))),
    "dropout": replace(TASK, network=Network((30, 6, 4, 5)), recipe=Recipe("he", dropout=(0.4,), batch_size=64)),
}


@pytest.mark.parametrize("name", RECIPES)
def test_any_network_races(name: str) -> None:
    found = comparison.compare(["numpy", "numpy"], ["float32", "float64"], RECIPES[name], DATA, rounds=3)
    assert [(contender.problem, len(contender.samples)) for contender in found.contenders] == [(None, 3)] * 4


@pytest.mark.process
def test_the_same_in_a_process_of_its_own() -> None:
    found = compare("numpy", "numba", isolate=True)
    assert found.isolated
    assert [contender.problem for contender in found.contenders] == [None, None]
    assert [len(contender.samples) for contender in found.contenders] == [3, 3]
    numba = found.contenders[1].description
    assert numba is not None
    assert numba.versions["numba"]


@pytest.mark.usefixtures("fakes")
def test_a_race_in_which_nobody_is_left_ends() -> None:
    (found,) = compare("FailsToStart").contenders
    assert found.problem == "RuntimeError: no device"


@pytest.mark.process
def test_several_processes_are_as_many_observations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started(monkeypatch)
    found = compare("numpy", "numba", rounds=2, processes=3, cold_starts=True)
    assert [contender.problem for contender in found.contenders] == [None, None]
    assert [[len(run) for run in contender.runs] for contender in found.contenders] == [[2, 2, 2]] * 2
    proofs = [contender.proof for contender in found.contenders]
    assert all(proof is not None and proof.complete and len(proof.advance) == 6 for proof in proofs)
    ratio = found.ratio(found.contenders[1])
    assert ratio is not None
    assert (ratio.known, ratio.processes) == (True, 3)
    assert found.significant(found.contenders[1]) is not None
    assert "in each of 3 processes" in drawn(found, running=False).replace("\n", " ")
    found.workload = replace(found.workload, name="smoke")
    storing.store(found, tmp_path)
    rows = {row.backend: row for row in storage.latest(storage.load(tmp_path / machine.folder_name()))}
    numpy, numba = rows["numpy"], rows["numba"]
    assert [*map(len, numpy.runs)] == [*map(len, numba.runs)] == [2, 2, 2]
    assert [*numba.samples] == found.contenders[1].samples
    assert numba.speedup == Speedup(ratio.value, ratio.low, ratio.high, 3)
    assert "6 rounds in 3 processes of" in (tmp_path / "README.md").read_text(encoding="utf-8")


@pytest.mark.process
def test_who_fails_in_a_later_process_is_stored_as_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started(monkeypatch)

    def check_again(self: Any, entry: Any) -> None:
        if entry.contender.backend == "numba":
            raise RuntimeError("no memory")

    monkeypatch.setattr(race.Race, "_check_again", check_again)
    found = compare("numpy", "numba", rounds=2, processes=2, cold_starts=True)
    found.workload = replace(found.workload, name="smoke")
    storing.store(found, tmp_path)
    rows = {row.backend: row for row in storage.load(tmp_path / machine.folder_name())}
    assert rows["numba"].problem == "RuntimeError: no memory"
    assert [len(rows[name].samples) for name in ("numpy", "numba")] == [4, 2]


@pytest.mark.process
def test_a_later_process_that_ends_elsewhere_is_compared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the first one is said to have ended at 0."""
    real = race.Race._check_again
    compared: list[int] = []

    def check_again(self: Any, entry: Any) -> None:
        states = entry.measurement.agreement.states
        states[TASK.iterations] = Parameters.from_arrays(0 * array for array in states[TASK.iterations].arrays())
        real(self, entry)
        compared.append(len(entry.measurement.agreement.checks))

    monkeypatch.setattr(race.Race, "_check_again", check_again)
    (numpy,) = compare("numpy", rounds=2, processes=2).contenders
    assert numpy.problem is None
    assert compared[0] > 10
    assert numpy.proof is not None
    assert numpy.proof.complete


@pytest.mark.process
def test_a_process_that_dies_is_one_clear_line_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    trainers: list[processes.RemoteTrainer] = []
    start = processes.start

    def remember(*arguments: Any) -> Trainer:
        trainer = start(*arguments)
        assert isinstance(trainer, processes.RemoteTrainer)
        trainers.append(trainer)
        return trainer

    def kill(state: Comparison) -> None:
        if state.contenders[0].state == "runs":
            trainers[0]._process.kill()
            trainers[0]._process.join()

    monkeypatch.setattr(processes, "start", remember)
    found = compare("numpy", "numba", isolate=True, callback=kill)
    assert found.contenders[0].problem is not None
    assert found.contenders[0].problem.startswith("the process of backend numpy ended unexpectedly")
    assert found.contenders[1].problem is None
    assert not any(trainer._process.is_alive() for trainer in trainers)


@pytest.mark.process
def test_an_error_of_another_process_comes_as_that_error() -> None:
    deep = Workload(Network((30, 4, 4, 5)), len(DATA.train), 2)
    with pytest.raises(UnsupportedWorkload, match="backend numba-plain does not implement 2 hidden layers"):
        processes.RemoteTrainer("numba-plain", deep, DATA, builders.initial(TASK), None)


@pytest.mark.process
def test_an_unavailable_backend_of_another_process_is_that_error() -> None:
    if registry.availability("cupy").usable:
        pytest.skip("there is a GPU")
    with pytest.raises(BackendUnavailable, match="backend cupy is unavailable: ") as found:
        processes.RemoteTrainer("cupy", TASK, DATA, builders.initial(TASK), None)
    assert found.value.fix


@pytest.mark.process
def test_another_process_knows_who_is_available() -> None:
    assert processes.available_elsewhere() == registry.list_backends(usable=True)


@pytest.mark.parametrize("first", ["libiomp", "libgomp"])
def test_libraries_that_clash_get_processes_of_their_own(monkeypatch: pytest.MonkeyPatch, first: str) -> None:
    loaded = [{"prefix": first}, {"prefix": "libomp"}, {"prefix": "libopenblas"}]
    monkeypatch.setattr("threadpoolctl.threadpool_info", lambda: loaded)
    found = compare("numpy", rounds=1)
    assert found.isolated is (first == "libiomp")
    assert found.contenders[0].problem is None


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ((), {}, "nothing to compare"),
        (("numpy",), {"rounds": 0}, "0 rounds"),
        (("numpy",), {"processes": 0}, "0 processes"),
        (("numpy",), {"rounds": 10_001}, "10001 rounds: give at most 10,000"),
        (("numpy",), {"processes": 10_001}, "10001 processes: give at most 10,000"),
        (("numba",), {"baseline": "numpy"}, "baseline 'numpy' does not take part; choose from numba, numba float64"),
    ],
)
def test_options(names: tuple[str, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        compare(*names, **options)


# What is said of it


def drawn(found: Comparison, running: bool) -> str:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table(found, running))
    return console.export_text()


@pytest.mark.parametrize("seed", range(3))
def test_the_table_can_be_drawn_at_any_time(seed: int) -> None:
    """Also before the baseline has run."""
    texts: list[str] = []
    task = replace(TASK, seed=seed)
    found = comparison.compare(
        ["numpy", "numpy"],
        ["float64"],
        task,
        DATA,
        rounds=2,
        callback=lambda state: texts.append(drawn(state, running=True)),
    )
    assert "loading" in texts[0]
    assert any("comparing with the reference" in text for text in texts)
    assert any("round 2 of 2" in text for text in texts)
    assert "too few rounds to tell" in drawn(found, running=False)


def raced(ranks: int, share_cores: bool = False, cpus: int = 64) -> Comparison:
    """A comparison on ranks of one thread, on a host with ``cpus`` CPUs."""

    def main(team: Team) -> Comparison:
        team.limit_threads(1)
        team.places = [replace(place, cpus=frozenset(range(cpus)), usable=cpus) for place in team.places]
        team.may_share_cores = share_cores
        return compare("numpy", rounds=2, team=team)

    return local.run(ranks, main)


@pytest.mark.parametrize(("share_cores", "cpus"), [(False, 64), (True, 1)])
def test_ranks_race_and_their_row_says_what_they_were(share_cores: bool, cpus: int, tmp_path: Path) -> None:
    found = raced(2, share_cores, cpus)
    assert [contender.problem for contender in found.contenders] == [None]
    text = " ".join(drawn(found, running=False).split())
    assert "ranks × threads" in text
    assert "numpy float64 2 × 1" in text
    assert f"on 1 host{', whose CPUs they share' * share_cores}; an iteration waits in the exchange" in text
    found.workload = replace(found.workload, name="smoke")
    storing.store(found, tmp_path)
    (row,) = storage.load(tmp_path / machine.folder_name())
    assert row.ranks is not None
    assert (row.ranks.threads, row.ranks.shared_cores, row.threads) == ((1, 1), share_cores, 2)
    assert row.ranks.exchange is not None
    assert row.ranks.exchange > 0
    assert row.validated
    assert "## " in (page := (tmp_path / "README.md").read_text(encoding="utf-8"))
    assert ": several ranks" in page
    assert ": smoke" not in page, "it is no row of one process"


def test_ranks_that_share_cores_are_refused() -> None:
    with pytest.raises(OptionError, match=r"^2 ranks: have more threads than CPUs, .* allow it by --share-cores$"):
        raced(2, cpus=1)


def timed(**samples: list[float]) -> Comparison:
    """A finished comparison in float64 with these seconds, numpy's first."""
    found = comparison._prepared(list(samples), ["float64"], TASK, 7, 1, math.inf, math.inf, None)
    for contender, seconds in zip(found.contenders, samples.values(), strict=True):
        contender.runs, contender.accuracy, contender.state = [seconds], 0.5, "ready"
    return found


def test_ratios_are_within_rounds() -> None:
    """The machine gets slower all the time, and one is exactly three times as fast as the other."""
    found = timed(numpy=[3.0, 6.0, 9.0, 12.0, 15.0, 18.0], numba=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    ratio = found.ratio(found.contenders[1])
    assert ratio is not None
    assert (ratio.low, ratio.value, ratio.high) == pytest.approx((3, 3, 3))
    assert found.ratio(found.contenders[0]) is None, "it is the baseline"


@pytest.mark.parametrize(
    ("numba", "significant"),
    [
        ([1.0, 1.1, 1.2, 1.3, 1.4, 1.5], True),
        ([2.9, 3.1, 3.0, 3.2, 2.8, 3.0], False),
        ([1.0, 1.1, 1.2, 1.3, 1.4], None),
    ],
)
def test_significance(numba: list[float], significant: bool | None) -> None:
    found = timed(numpy=[3.0, 3.1, 3.2, 2.9, 2.8, 3.0][: len(numba)], numba=numba)
    assert found.significant(found.contenders[1]) is significant


def test_the_table_fits_a_terminal_and_says_what_is_doubtful() -> None:
    found = timed(numpy=[3.0, 3.1, 3.2, 2.9, 2.8, 3.0], numba=[1.0, 1.01, 1.02, 1.03, 1.04, 1.02])
    found.contenders[1].state = "runs"
    found.warnings = ["numpy float64: rounds scatter by 13% of their median"]
    text = drawn(found, running=True)
    assert "6/7 rounds, runs" in text
    assert "round 7 of 7" in text
    text = drawn(found, running=False)
    assert "2.94×" in text
    assert "no difference" not in text
    assert "warning: numpy float64: rounds scatter by 13%" in text
    found.contenders[1].runs = [[3.1, 3.0, 2.9, 3.2, 2.8, 3.0]]
    assert "no difference" in drawn(found, running=False)
    found.contenders[1].runs = [[2.9, 3.0, 3.1, 2.8, 2.7, 2.9]]
    assert "no difference" not in drawn(found, running=False), "it is the faster one in every round"
    found.contenders[1].problem = "it cheats"
    assert "NO RESULT" in drawn(found, running=False)


# Stored rows


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder of results that one command has written, and what it printed."""
    folder = tmp_path_factory.mktemp("project") / "results"
    dtypes = ["--dtype", "float32", "--dtype", "float64", "--baseline", "numpy float64"]
    arguments = ["numpy", "--workload", "smoke", *dtypes, "--rounds", "6", "--json"]
    return folder, json.loads(run(*arguments, "--results", folder).stdout)


def run(*arguments: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    once = "from mnistbench.training import cold; cold.MOST = 1; from mnistbench.cli import main; main()"
    command = [sys.executable, "-c", once, "compare", *map(str, arguments)]
    environment = {**os.environ, **ONE_THREAD, "COLUMNS": "150"}
    found = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert found.returncode == status, found.stdout + found.stderr
    return found


@pytest.mark.process
def test_the_rows_are_stored_with_paired_speedups(stored: tuple[Path, dict[str, Any]]) -> None:
    folder, printed = stored
    (path,) = (folder / machine.folder_name()).glob("0001_smoke_*.json")
    rows = storage.latest(storage.load(path.parent))
    assert [row.dtype for row in rows] == ["float32", "float64"]
    assert all(row.validated for row in rows), [row.problem for row in rows]
    assert [[*row.samples] for row in rows] == [contender["seconds"] for contender in printed["contenders"]]
    single, double = (contender["ratio"] for contender in printed["contenders"])
    assert double is None, "it is the baseline"
    assert [row.speedup for row in rows] == [Speedup(single["value"], *single["interval"]), Speedup(1.0, 1.0, 1.0)]
    assert report.stale(folder) == []
    assert "the ratio within rounds" in (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.process
def test_pytest_benchmark_reads_the_file(stored: tuple[Path, dict[str, Any]]) -> None:
    (path,) = (stored[0] / machine.folder_name()).glob("0001_smoke_*.json")
    command = [sys.executable, "-m", "pytest_benchmark", "compare", str(path), "--columns", "min,median,iqr,outliers"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert "smoke-numpy-float64" in found.stdout


def started(monkeypatch: pytest.MonkeyPatch, fail: str = "") -> list[str]:
    """Make cold starts up, of which one fails; return the list of those that were asked for."""
    asked: list[str] = []

    def start(options: dict[str, Any], *_: Any) -> ColdStart:
        asked.append(options["backend"])
        if options["backend"] == fail:
            raise MnistbenchError(f"a new process that trains with {fail} failed")
        return ColdStart((Process(Costs(1, 1, 1, 1, 1, 1).as_dict(), options["workload"]["iterations"], None, None),))

    monkeypatch.setattr(cold, "_start", start)
    monkeypatch.setattr(cold, "other_kernels", list)
    return asked


def test_a_long_training_is_cut_and_scaled(tmp_path: Path, fakes: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rounds are tied to the checked run, so who does less in them has no result."""
    started(monkeypatch)
    found = compare("numpy", "TrainsHalfInRounds", rounds=2, processes=1, longest=1e-9, cold_starts=True)
    iterations = found.workload.iterations
    numpy, _ = found.contenders
    assert (numpy.problem, numpy.timed) == (None, 1)
    assert numpy.proof is not None
    assert numpy.samples == pytest.approx([seconds * iterations for seconds in numpy.proof.advance])
    assert f"(scaled from the first iterations: numpy {numpy.dtype} 1" in notes(found)[0]
    found.workload = replace(found.workload, name="smoke")
    storing.store(found, tmp_path)
    assert storage.load(tmp_path / machine.folder_name())[0].timed == 1
    whole = compare("numpy", rounds=1)
    assert (whole.contenders[0].timed, "scaled" in notes(whole)[0]) == (iterations, False)
    with pytest.raises(OptionError, match="rounds of 0 s"):
        compare("numpy", rounds=1, longest=0.0)


def test_a_cheat_is_stored_as_no_result(tmp_path: Path, fakes: None, monkeypatch: pytest.MonkeyPatch) -> None:
    started(monkeypatch)
    found = compare("numpy", "TrainsHalfInRounds", "Honest", rounds=3, cold_starts=True)
    found.workload = replace(found.workload, name="smoke")
    storing.store(found, tmp_path)
    rows = storage.load(tmp_path / machine.folder_name())
    assert [row.problem is None for row in rows] == [True, False, True]
    assert "ends elsewhere" in str(rows[1].problem)
    assert [row.proof is not None and row.proof.complete for row in rows] == [True, False, True]


def test_rows_without_cold_starts_have_all_the_rest(
    tmp_path: Path, fakes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, counted = started(monkeypatch), []

    def count(self: Measurement, iterations: int) -> None:
        counted.append(iterations)
        self.energy = Energy(1.0, 2.0, 3.0, 4, 5, "RAPL")

    monkeypatch.setattr(Measurement, "count_energy", count)
    found = compare("numpy", "numpy", "TrainsHalfInRounds", rounds=2, energies=True)
    assert (asked, counted) == ([], [TASK.iterations] * 2), "of those that have a result"
    found.workload = replace(found.workload, name="smoke")
    storing.store(found, tmp_path)
    first, second = storage.load(tmp_path / machine.folder_name())
    assert (first.backend, second.backend) == ("numpy", "TrainsHalfInRounds")
    assert first.validated
    assert first.energy == Energy(1.0, 2.0, 3.0, 4, 5, "RAPL")
    assert (second.validated, second.energy, second.cold) == (False, None, None)


def test_ways_that_failed_are_warned_of(fakes: None, monkeypatch: pytest.MonkeyPatch) -> None:
    describe = Honest.describe
    monkeypatch.setattr(Honest, "describe", lambda self: replace(describe(self), failed="compiled failed: no compiler"))
    found = compare("numpy", "Honest", rounds=1)
    assert [warning for warning in found.warnings if "failed" in warning] == [
        "Honest float64: compiled failed: no compiler"
    ]


def test_cold_starts_come_before_the_race_and_the_rows_are_written_together(
    tmp_path: Path, fakes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a kill after the race loses nothing, and no run has some of the rows of its rounds only."""
    asked = started(monkeypatch, fail="FailsToStart")
    sizes: list[int] = []
    write = storage.store

    def stored(folder: Path, name: str, document: dict[str, Any]) -> Path:
        sizes.append(len(document["benchmarks"]))
        return write(folder, name, document)

    monkeypatch.setattr(storage, "store", stored)
    states: list[str] = []
    names = "numpy", "FailsToStart", "Honest", "numpy"
    found = compare(*names, rounds=2, cold_starts=True, callback=lambda state: states.append(state.contenders[0].state))
    assert states.index("starts in a new process") < states.index("loads")
    assert Counter(asked) == {"numpy": cold.MOST, "FailsToStart": 1, "Honest": cold.MOST}
    assert found.contenders[1].problem == "a new process that trains with FailsToStart failed"
    path, *_ = storing.store(found, tmp_path)
    assert sizes == [2]
    assert [row.backend for row in storage.load(path.parent)] == ["numpy", "Honest"]


@pytest.mark.process
def test_the_command_prints_a_table_and_a_line_for_each_round() -> None:
    found = run("numba", "numba", "--workload", "smoke", "--rounds", "2", "--iterations", "20").stdout
    assert found.count("Round: 2, numba float32") == 2
    assert "784-10-10 network, 2,000 images, 20 iterations" in found
    assert "numba float32 (2)" in found
    assert "too few rounds to tell" in found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["abacus"], "backend 'abacus' does not exist"),
        (["numpy", "--baseline", "numba"], "baseline 'numba' does not take part"),
        (["numpy", "--rounds", "0"], "0 rounds"),
        (["numpy", "--hidden", "0"], "layer sizes (784, 0, 10)"),
        (["numpy", "--images", "0"], "at least 1 is needed"),
        (["numpy", "--dtype", "float16"], "--dtype float16"),
        (["numpy", "--workload", "huge"], "workload 'huge'"),
    ],
)
def test_usage_errors(arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "limit", threads.resolve)
    # The last of several workloads counts.
    found = CliRunner().invoke(app, ["compare", arguments[0], "--workload", "smoke", *arguments[1:]])
    assert found.exit_code == 2
    assert message in found.stderr
    assert found.stderr.count("\n") == 1


def test_ratio_of_unknown_interval_is_null_in_json() -> None:
    found = timed(numpy=[3.0, 3.1], numba=[1.0, 1.1])
    ratio = found.ratio(found.contenders[1])
    assert ratio is not None
    assert not ratio.known
    contender = storing.record(found)["contenders"][1]
    assert contender["ratio"]["interval"] is None
    json.dumps(storing.record(found), allow_nan=False)
