"""Ranks as threads of this process: the numbers of one rank, the same bits on all, and faults that are found."""

from __future__ import annotations

import itertools
import os
from collections.abc import Generator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mnistbench.backends as registry
from mnistbench.agreement import Agreement, Trajectory, check_trainer
from mnistbench.backends import Description, Trainer
from mnistbench.backends.base import Sums
from mnistbench.backends.numpy import NumpyMlpTrainer, NumpyTrainer
from mnistbench.datasets import load_data
from mnistbench.exceptions import Diverged, MnistbenchError, OptionError, RankFailed, UnsupportedWorkload
from mnistbench.ranks import Team, local
from mnistbench.ranks.places import Place, are_crowded, default_threads
from mnistbench.reference.mlp import State
from mnistbench.reference.parameters import Parameters
from mnistbench.task.recipe import Recipe
from mnistbench.task.workload import DType, Workload
from mnistbench.training.loop import train
from tests.support import builders, options
from tests.support.builders import identical

RANKS = (1, 2, 3, 4)
BACKENDS = [pytest.param(name, marks=() if name == "numpy" else pytest.mark.compiles) for name in ("numpy", "numba")]
CATALOGUE = options.catalogue()
SAMPLE = [*CATALOGUE][::4]


def classic(dtype: DType = "float64") -> tuple[Any, Workload]:
    data = builders.dataset(101, 35, 5, ink=0.5, rows=5)
    return data, builders.workload(data, dtype=dtype)


def trained(team: Team, backend: str, task: Workload, data: Any, pieces: tuple[int, ...]) -> tuple[Trainer, Parameters]:
    """Train in calls of ``pieces`` iterations each."""
    team.limit_threads(1)
    trainer = team.backend(backend).start(task, data, builders.initial(task))
    for iterations in pieces:
        trainer.advance(iterations)
    return trainer, trainer.parameters()


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("backend_name", BACKENDS)
def test_the_classic_agrees(backend_name: str, ranks: int, dtype: DType) -> None:
    data, task = classic()
    expected = Trajectory(task, data)

    def main(team: Team) -> Agreement:
        team.limit_threads(1)
        with team.backend(backend_name).start(task.with_dtype(dtype), data, expected.fresh()) as trainer:
            return check_trainer(trainer, Agreement(backend_name, dtype), expected)

    outcome = local.run(ranks, main)
    assert outcome.passed, outcome.summary()


def test_a_rank_without_images_takes_part(dtype: DType) -> None:
    data = builders.dataset(2, 35, 5, ink=0.5, rows=5)
    task = builders.workload(data)
    expected = Trajectory(task, data)

    def main(team: Team) -> Agreement:
        team.limit_threads(1)
        with team.backend("numpy").start(task.with_dtype(dtype), data, expected.fresh()) as trainer:
            return check_trainer(trainer, Agreement("numpy", dtype), expected)

    outcome = local.run(3, main)
    assert outcome.passed, outcome.summary()


@pytest.mark.slow
@pytest.mark.parametrize("ranks", RANKS[1:])
@pytest.mark.parametrize("case", SAMPLE)
def test_every_option_agrees(case: str, ranks: int, dtype: DType) -> None:
    """Those of numba are in tests/backends/numba, without a team."""
    task = CATALOGUE[case]
    expected = options.trajectory(task)

    def main(team: Team) -> Agreement:
        team.limit_threads(1)
        with team.backend("numpy").start(task.with_dtype(dtype), options.DATA, expected.fresh()) as trainer:
            return check_trainer(trainer, Agreement("numpy", dtype), expected)

    outcome = local.run(ranks, main)
    assert outcome.passed, outcome.summary()


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("backend_name", BACKENDS)
def test_as_many_ranks_end_in_the_same_bits(backend_name: str, ranks: int, dtype: DType) -> None:
    data, task = classic(dtype)
    one, other = (
        local.run(ranks, partial(trained, backend=backend_name, task=task, data=data, pieces=pieces))[1]
        for pieces in ((12,), (5, 7))
    )
    assert identical(one, other)


@pytest.mark.parametrize("kind", [NumpyTrainer, NumpyMlpTrainer])
def test_one_rank_ends_in_the_bits_of_a_trainer_by_itself(kind: type[Trainer], dtype: DType) -> None:
    data, task = classic(dtype)
    alone = kind(task, data, builders.initial(task), 1)  # type: ignore[call-arg]
    together = kind(task, data, builders.initial(task), 1)  # type: ignore[call-arg]
    metrics = alone.advance(12)
    *_, last = together.split(12)
    assert identical(alone.parameters(), together.parameters())
    assert last.scores / task.images == pytest.approx([metrics.loss, metrics.accuracy], rel=1e-6)


@pytest.mark.parametrize("backend_name", BACKENDS)
def test_a_state_goes_on_with_another_number_of_ranks(backend_name: str) -> None:
    task = options.task(**options.EVERYTHING)

    def first(team: Team) -> State:
        trainer, parameters = trained(team, backend_name, task, options.DATA, (5,))
        return State(5, parameters, trainer.moments())

    def second(team: Team) -> Parameters:
        trainer, _ = trained(team, backend_name, task, options.DATA, ())
        trainer.restore(state)
        trainer.advance(4)
        return trainer.parameters()

    state = local.run(3, first)
    whole = local.run(1, lambda team: trained(team, backend_name, task, options.DATA, (9,))[1])
    builders.assert_close(local.run(2, second), whole, 1e-12)


class Faulty(NumpyTrainer):
    """A trainer that does something wrong in iteration 3, on rank 1."""

    fault = ""

    def __init__(self, task: Workload, data: Any, parameters: Parameters, threads: int | None) -> None:
        super().__init__(task, data, parameters, threads)
        self._rank, self._iteration = data.share.rank, 0

    def reset(self, parameters: Parameters) -> None:
        super().reset(parameters)
        self._iteration = 0

    def split(self, iterations: int) -> Generator[Sums]:
        for sums in super().split(iterations):
            wrong = self._rank == 1 and self._iteration == 3
            if wrong and self.fault in ("skips its share", "doubles its share"):
                sums.gradients[:] *= 0 if self.fault == "skips its share" else 2
            if wrong and self.fault == "raises":
                raise ValueError("out of ink")
            yield sums
            if wrong and self.fault == "adds in another order":
                sums.gradients[:] = np.nextafter(sums.gradients, np.inf)
            if wrong and self.fault == "holds a stale parameter":
                sums.gradients[self._arrays[0].size + self._arrays[1].size] = 0
            self._iteration += 1


@pytest.fixture
def faulty(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(Faulty, "fault", request.param)
    monkeypatch.setattr("mnistbench.backends.numpy.NumpyTrainer", Faulty)
    return str(request.param)


@pytest.mark.parametrize("ranks", RANKS[1:])
@pytest.mark.parametrize(
    "faulty",
    ["skips its share", "doubles its share", "adds in another order", "holds a stale parameter", "raises"],
    indirect=True,
)
def test_a_fault_of_one_rank_is_found(faulty: str, ranks: int) -> None:
    data, task = classic()
    expected = Trajectory(task, data)

    def main(team: Team) -> Agreement:
        team.limit_threads(1)
        with team.backend("numpy").start(task, data, expected.fresh()) as trainer:
            return check_trainer(trainer, Agreement("numpy", "float64"), expected)

    if faulty == "raises":
        with pytest.raises(RankFailed, match=r"^rank 1: ValueError: out of ink$"):
            local.run(ranks, main)
        return
    outcome = local.run(ranks, main)
    assert not outcome.passed
    if faulty in ("adds in another order", "holds a stale parameter"):
        assert outcome.failure == "rank 1: its parameters are no longer those of rank 0"


def test_an_error_of_a_follower_is_raised_by_the_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    data, task = classic()

    def load(self: Any, workload: Workload, dataset: Any, *others: Any) -> Trainer:
        if dataset.share.rank == 2:
            raise MnistbenchError("no room")
        return NumpyTrainer(workload, dataset, *others)

    monkeypatch.setattr(type(registry.get_backend("numpy")), "load", load)
    with pytest.raises(MnistbenchError, match=r"^rank 2: no room$"):
        local.run(3, lambda team: trained(team, "numpy", task, data, (1,)))


def test_a_backend_that_cannot_share_is_refused() -> None:
    with pytest.raises(UnsupportedWorkload, match=r"numba-plain cannot share .* use --backend numpy"):
        local.run(2, lambda team: team.backend("numba-plain"))


@pytest.mark.parametrize("length", [1, 7, 100, 50_001])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 5, 7, 8])
def test_sums_are_the_same_bits_on_all_ranks(ranks: int, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).standard_normal((ranks, length)).astype(np.float32)
    found: list[Any] = [None] * ranks

    def add(self: Any) -> None:
        rank = self._exchange.rank
        own = vectors[rank].copy()
        self._exchange.sum(own)
        found[rank] = own

    monkeypatch.setattr("mnistbench.ranks.member.Member.add", add, raising=False)
    local.run(ranks, lambda team: team.call("add"))
    assert all(np.array_equal(found[0], other) for other in found)
    np.testing.assert_allclose(found[0], vectors.sum(0), atol=1e-5)


def test_more_ranks_than_images_agree(dtype: DType) -> None:
    data = builders.dataset(2, 35, 5, ink=0.5, rows=5)
    task = builders.workload(data, dtype=dtype)
    alone, together = (
        local.run(ranks, partial(trained, backend="numpy", task=task, data=data, pieces=(12,)))[1] for ranks in (1, 4)
    )
    builders.assert_close(together, alone, 1e-12 if dtype == "float64" else 1e-4)


@pytest.mark.parametrize("place", ["tell", "hear", "_do"])
def test_a_call_that_is_broken_off_ends_the_ranks(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is, nobody waits for ever."""
    data, task = classic()
    counted = itertools.count()

    def main(team: Team) -> None:
        owner: Any = team if place == "_do" else team.exchange
        with team.backend("numpy").start(task, data, builders.initial(task)) as trainer:
            trainer.advance(1)
            right = getattr(owner, place)

            def broken(*given: Any) -> Any:
                if next(counted) == 1 or place == "_do":
                    raise KeyboardInterrupt
                return right(*given)

            monkeypatch.setattr(owner, place, broken)
            trainer.advance(3)

    with pytest.raises(RankFailed, match="interrupted"):
        local.run(3, main)


def test_a_team_that_has_ended_is_not_called() -> None:
    data, task = classic()
    trainer, _ = local.run(2, lambda team: trained(team, "numpy", task, data, (1,)))
    with pytest.raises(RankFailed, match="the team has ended"):
        trainer.parameters()
    trainer.close()


def test_only_what_was_loaded_last_is_trained() -> None:
    def main(team: Team) -> None:
        first, second = team.load_data(train_size=50, dev_size=10), team.load_data(train_size=60, dev_size=10)
        train(second, backend="numpy", iterations=2, team=team)
        with pytest.raises(OptionError, match=r"MNIST \(embedded\): is not what the ranks have loaded last"):
            train(first, backend="numpy", iterations=2, team=team)

    local.run(2, main)
    with pytest.raises(OptionError, match="holds the share of one rank; train with the team"):
        train(load_data(train_size=50, dev_size=10, rank=1, ranks=2), backend="numpy", iterations=2)


def test_other_versions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data, task = classic()

    def describe(self: Any, number: int) -> Description:
        return Description("CPU", 1, {"numpy": "2.1" if self._exchange.rank else "2.2"})

    monkeypatch.setattr("mnistbench.ranks.member.Member.describe", describe)
    with pytest.raises(OptionError, match=r"^rank 1: has numpy 2.1, and rank 0 has 2.2; install the same$"):
        local.run(2, lambda team: trained(team, "numpy", task, data, (1,)))


def test_vectors_of_other_lengths_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data, task = classic()
    split = NumpyTrainer.split

    def longer(self: Any, iterations: int) -> Generator[Sums]:
        for sums in split(self, iterations):
            yield Sums(np.append(sums.gradients, 0) if len(self._Y) == 51 else sums.gradients, sums.scores)

    monkeypatch.setattr(NumpyTrainer, "split", longer)
    with pytest.raises(RankFailed, match="sums of other lengths than other ranks have"):
        local.run(2, lambda team: trained(team, "numpy", task, data, (1,)))


def test_a_diverging_training_is_said_to_diverge(dtype: DType) -> None:
    """Ranks may hold other NaN."""

    def main(team: Team) -> None:
        dataset = team.load_data(train_size=50, dev_size=10)
        with pytest.raises(Diverged, match="diverged at iteration"):
            train(dataset, backend="numpy", iterations=50, learning_rate=1e200, dtype=dtype, team=team)

    local.run(2, main)


@pytest.mark.parametrize(
    ("cpus", "usable", "wanted", "expected", "crowded"),
    [
        (({0, 1, 2, 3}, {0, 1, 2, 3}), (4, 4), (None, None), [2, 2], False),
        (({0, 1}, {2, 3, 4, 5}), (2, 4), (None, None), [2, 4], False),
        (({0}, {0}), (1, 1), (None, None), [1, 1], True),
        (({*range(64)}, {*range(64)}), (2, 2), (None, None), [1, 1], False),
        (({*range(64)}, {*range(64)}), (2, 2), (2, 2), [2, 2], True),
        (({0, 1, 2, 3}, {0, 1, 2, 3}), (4, 4), (1, None), [1, 2], False),
    ],
)
def test_threads_of_ranks_on_one_host(
    cpus: tuple[set[int], ...],
    usable: tuple[int, ...],
    wanted: tuple[int | None, ...],
    expected: list[int],
    crowded: bool,
) -> None:
    places = [
        Place("host", frozenset(own), count, asked, 1) for own, count, asked in zip(cpus, usable, wanted, strict=True)
    ]
    counts = default_threads(places)
    assert counts == expected
    running = [replace(place, threads=count) for place, count in zip(places, counts, strict=True)]
    assert are_crowded(running) is crowded
    assert not are_crowded([replace(running[0], host="other"), running[1]]) or running[1].threads > running[1].usable


def test_ranks_of_one_process_leave_its_threads_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    local.run(2, lambda team: team.limit_threads(1))
    assert os.environ["OMP_NUM_THREADS"] == "3"


@pytest.mark.parametrize("lacking", ["moments", "restore"])
def test_a_state_that_a_rank_cannot_keep_is_refused_at_once(
    lacking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NumpyMlpTrainer, lacking, getattr(Trainer, lacking))

    def main(team: Team) -> None:
        dataset = team.load_data(train_size=50, dev_size=10)
        train(dataset, backend="numpy", recipe=Recipe(l2=0.1), iterations=2, checkpoint=tmp_path / "kept", team=team)

    with pytest.raises(UnsupportedWorkload, match=r"backend numpy cannot keep the state .* lacks moments and restore"):
        local.run(2, main)
    assert not [*tmp_path.iterdir()]
