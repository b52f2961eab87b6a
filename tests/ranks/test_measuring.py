"""What is measured of several ranks: the slowest one's time, the CPU of all of them, the exchange alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mnistbench.agreement import Agreement, Trajectory
from mnistbench.backends import Metrics, get_backend
from mnistbench.backends.base import Sums
from mnistbench.backends.numpy import NumpyTrainer
from mnistbench.measurement import Measurement, timed_round
from mnistbench.ranks import Team, local
from mnistbench.ranks.measuring import SIZES, time_sums
from mnistbench.ranks.member import Member, Spent
from mnistbench.ranks.trainer import RanksTrainer
from mnistbench.task.workload import Network
from mnistbench.timing import noise
from tests.support import builders
from tests.support.benchmarks import ONE_THREAD

DATA = builders.dataset(101, 35, 5, ink=0.5, rows=5)
TASK = builders.workload(DATA)
LATE = 0.2
MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


class Slow(NumpyTrainer):
    """Rank 1 goes on after all sums are exchanged."""

    def __init__(self, task: Any, data: Any, *others: Any) -> None:
        super().__init__(task, data, *others)
        self._rank = data.share.rank

    def split(self, iterations: int) -> Generator[Sums]:
        yield from super().split(iterations)
        if self._rank == 1:
            time.sleep(LATE)


def started(team: Team) -> Any:
    team.limit_threads(1)
    return team.backend("numpy").start(TASK, DATA, builders.initial(TASK))


@pytest.mark.parametrize("ranks", [2, 3])
def test_the_slowest_rank_s_time_counts(ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnistbench.backends.numpy.NumpyTrainer", Slow)
    found = local.run(ranks, lambda team: timed_round(started(team), builders.initial(TASK), 3))
    assert found.seconds >= LATE


def spending(monkeypatch: pytest.MonkeyPatch, *spent: Spent) -> None:
    """Let each call of ``advance`` have cost the ranks so much."""
    honest = RanksTrainer.advance

    def advance(self: RanksTrainer, iterations: int) -> Metrics:
        found = honest(self, iterations)
        self.spent = [*spent]
        return found

    monkeypatch.setattr(RanksTrainer, "advance", advance)


def test_the_cpu_seconds_of_all_ranks_count(monkeypatch: pytest.MonkeyPatch) -> None:
    spending(monkeypatch, Spent(7.0, 3e-5), Spent(2.0, 4e-5), Spent(0.5, 5e-5))
    found = local.run(3, lambda team: timed_round(started(team), builders.initial(TASK), 3))
    assert 2.5 <= found.cpu < 3.5, "that of rank 0 is counted by its own clock"
    assert found.exchange == 3e-5, "the others waited for the slowest"


@pytest.mark.parametrize(("cpu", "problem"), [(0.1, None), (9.0, r"declares 2 threads, and spent .* CPU seconds")])
def test_more_threads_than_declared_are_found_on_other_ranks(
    cpu: float, problem: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    spending(monkeypatch, Spent(), Spent(cpu))

    def main(team: Team) -> str | None:
        measurement = Measurement(started(team), Agreement("numpy", "float64"), Trajectory(TASK, DATA))
        measurement.round(1, builders.initial(TASK), 3)
        measurement._rounds[0] = replace(measurement._rounds[0], seconds=0.1)
        measurement.judge(measurement.describe())
        return measurement.problem

    found = local.run(2, main)
    assert found is None if problem is None else re.match(problem, found or "")


@pytest.mark.parametrize("hidden", [(4,), (4, 3)])
def test_the_bytes_that_all_ranks_read_are_those_of_one_process(hidden: tuple[int, ...]) -> None:
    network = Network((TASK.network.inputs, *hidden, TASK.network.outputs))
    task = replace(TASK, network=network)

    def main(team: Team) -> int | None:
        team.limit_threads(1)
        return team.backend("numpy").start(task, DATA, builders.initial(task)).describe().bytes_read

    alone = get_backend("numpy").start(task, DATA, builders.initial(task), 1).describe().bytes_read
    assert alone
    assert local.run(3, main) == pytest.approx(alone, abs=2)


def test_each_rank_tells_its_own_cpu_seconds_unless_they_share_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def spent(team: Team) -> list[Spent]:
        trainer = started(team)
        trainer.advance(200)
        return list(trainer.spent)

    assert [one.cpu for one in local.run(2, spent)] == [0.0, 0.0]
    monkeypatch.setattr(local.Local, "apart", True)
    assert all(one.cpu > 0 for one in local.run(2, spent))


def test_a_description_has_the_median_exchange_of_the_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    def main(team: Team) -> float | None:
        measurement = Measurement(started(team), Agreement("numpy", "float64"), Trajectory(TASK, DATA))
        for seed, seconds in enumerate((1.0, 2.0, 9.0)):
            spending(monkeypatch, Spent(0.0, seconds), Spent(0.0, 10.0))
            measurement.round(seed, builders.initial(TASK), 2)
        spending(monkeypatch, Spent(0.0, 77.0), Spent(0.0, 77.0))
        measurement.trainer.advance(1)  # no round
        ranks = measurement.describe().ranks
        assert ranks is not None
        return ranks.exchange

    with monkeypatch.context():
        assert local.run(2, main) == 2.0


@pytest.mark.parametrize(("hosts", "others"), [(("a", "a", "a"), 0.0), (("a", "a", "b"), 1.0), (("a", "b", "b"), 2.0)])
def test_the_other_ranks_of_a_host_are_no_disturbance(
    hosts: tuple[str, ...], others: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In 5 s three CPUs were busy with this process, and with two more."""
    clock = iter([0.0, 5.0])
    machine = iter([(100.0, 10.0, 0.0), (115.0, 15.0, 0.0)])
    counted: dict[int, float] = {1: 0.0, 2: 0.0}

    def cpu_seconds(self: Member) -> float:
        rank = self._exchange.rank
        if rank:
            counted[rank] += 5.0
        return counted.get(rank, 0.0)

    monkeypatch.setattr(Member, "cpu_seconds", cpu_seconds)
    monkeypatch.setattr(noise, "_cpu_seconds", lambda cpus: next(machine))

    def main(team: Team) -> float:
        team.limit_threads(1)
        team.places = [replace(place, host=host) for place, host in zip(team.places, hosts, strict=True)]
        monkeypatch.setattr("mnistbench.timing.noise.time.perf_counter", lambda: next(clock))
        with team.watch() as watch:
            pass
        monkeypatch.undo()
        assert watch.others is not None
        return watch.others

    assert local.run(3, main) == pytest.approx(others)


def test_after_an_error_nobody_is_asked() -> None:
    """Ctrl-C may come amid a call, when the others wait for this rank."""
    asked: list[float] = []

    def beside() -> float:
        asked.append(time.monotonic())
        return 0.0

    with pytest.raises(KeyboardInterrupt), noise.Watch(beside=beside):
        raise KeyboardInterrupt
    assert len(asked) == 1


def test_sums_are_timed_on_the_slowest_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    honest: Callable[..., list[float]] = Member.time_sums

    def time_sums_of(self: Member, size: int, count: int) -> list[float]:
        found = honest(self, size, count)
        return [0.01 * (1 + self._exchange.rank)] * len(found)

    monkeypatch.setattr(Member, "time_sums", time_sums_of)
    found = local.run(2, lambda team: time_sums(team, 4096))
    assert (found.bytes, found.count) == (4096, 15)
    assert found.timing.value == 0.02
    assert found.quartiles == (0.02, 0.02)
    assert found.as_dict()["bytes_per_second"] == pytest.approx(4096 / 0.02)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_sums_take_time(ranks: int) -> None:
    found = local.run(ranks, lambda team: time_sums(team, 32_768))
    assert 15 <= found.count <= 1000
    assert 0 < found.quartiles[0] <= found.timing.value <= found.quartiles[1]


@pytest.mark.process
@pytest.mark.skipif(MPIEXEC is None, reason="mpiexec is missing")
def test_the_command_measures_the_exchange() -> None:
    pytest.importorskip("mpi4py")
    command = [str(MPIEXEC), "-n", "2", sys.executable, "-m", "mpi4py", "-m", "mnistbench", "machine"]
    options = ["--ranks", "2", "--threads", "1", "--json"]
    environment = os.environ | ONE_THREAD
    found = subprocess.run(
        [*command, *options], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    told = json.loads(found.stdout)
    assert (told["ranks"], told["hosts"], told["transport"]) == (2, 1, "shared memory")
    assert [one["bytes"] for one in told["exchange"]] == [*SIZES]
    for one in told["exchange"]:
        assert one["sums"] >= 15
        assert 0 < one["quartiles"][0] <= one["seconds"] <= one["quartiles"][1]
        assert one["bytes_per_second"] == pytest.approx(one["bytes"] / one["seconds"])


def test_parts_are_timed_without_the_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """The slowest rank of each iteration counts."""

    def time_parts(self: Member, number: int, iterations: int) -> list[float]:
        return [1.0, 4.0] if self._exchange.rank else [3.0, 2.0]

    def main(team: Team) -> tuple[float, float]:
        trainer = started(team)
        assert isinstance(trainer, RanksTrainer)
        real = trainer.time_parts(2)
        monkeypatch.setattr(Member, "time_parts", time_parts)
        return real, trainer.time_parts(2)

    real, planted = local.run(2, main)
    assert real > 0
    assert planted == 3.5
