"""Several ranks of the Numba backend: agreement, the same bits, iterations that are not finished, threads that stay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from mnistbench.agreement import Trajectory, check
from mnistbench.backends.base import Trainer
from mnistbench.backends.numba import NumbaBackend
from mnistbench.backends.numba.classic import trainer as classic_trainer
from mnistbench.backends.numba.mlp import trainer as mlp_trainer
from mnistbench.backends.numba.simd.workers import STOP
from mnistbench.datasets import Dataset, Split
from mnistbench.reference.mlp import State
from mnistbench.task.recipe import Optimizer, Recipe
from mnistbench.task.share import Share
from mnistbench.task.workload import DTYPES, DType, Workload
from tests.backends.numba.test_classic import strokes
from tests.backends.numba.test_mlp import EVERYTHING, data, task
from tests.support import builders, options
from tests.support.builders import assert_close, identical, initial
from tests.support.lockstep import Lockstep, LockstepTrainer, add_up
from tests.support.paths import ROOT

CATALOGUE = options.catalogue()


def digits(count: int = 6000) -> Dataset:
    """Return enough images for several tasks of each rank."""
    both = Split(strokes(count, 12, 12, 1), np.random.default_rng(3).integers(0, 10, count))
    return Dataset("strokes", (12, 12), 10, both, both, None)


def classic(dtype: DType = "float32") -> Workload:
    return builders.workload(digits(), 10, iterations=9, dtype=dtype)


def everything(dtype: DType = "float32") -> Workload:
    return task(data(), (70, 6), EVERYTHING, dtype)  # units for several threads


WINGS: dict[str, tuple[Callable[[DType], Workload], Callable[[], Dataset]]] = {
    "classic": (classic, digits),
    "everything": (everything, data),
}


def start(wing: str, ranks: int, threads: int = 2, dtype: DType = "float32") -> LockstepTrainer:
    workload, dataset = WINGS[wing][0](dtype), WINGS[wing][1]()
    trainer = Lockstep(NumbaBackend(), ranks).start(workload, dataset, initial(workload), threads)
    assert isinstance(trainer, LockstepTrainer)
    return trainer


def start_alone(wing: str, dtype: DType = "float32", threads: int = 2) -> Trainer:
    workload, dataset = WINGS[wing][0](dtype), WINGS[wing][1]()
    return NumbaBackend().start(workload, dataset, initial(workload), threads)


def share_kernels(setter: Callable[[Any, str, Any], None]) -> None:
    """Let mlps of all sizes and numbers of threads have the same tiles: they are compiled once for all."""
    setter(mlp_trainer, "tile_of", lambda *_: 1)
    setter(mlp_trainer, "inner_tile_of", lambda *_: 2)


@pytest.fixture(autouse=True)
def compiled_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    share_kernels(monkeypatch.setattr)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


# The same numbers.


@cache
def trajectory(wing: str) -> Trajectory:
    return Trajectory(WINGS[wing][0]("float64"), WINGS[wing][1]())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("wing", WINGS)
def test_ranks_follow_the_reference(wing: str, ranks: int, threads: int, dtype: DType) -> None:
    workload, dataset = WINGS[wing][0](dtype), WINGS[wing][1]()
    found = check(Lockstep(NumbaBackend(), ranks), workload, dataset, trajectory(wing), threads)
    assert found.passed, found.summary()


@pytest.mark.parametrize("number", range(len(CATALOGUE)), ids=list(CATALOGUE))
def test_any_options_follow_the_reference(number: int) -> None:
    """In batches of one image, all ranks but one have none."""
    workload, ranks, threads = [*CATALOGUE.values()][number], 2 + number % 3, 1 + number // 3 % 2
    options.assert_agrees(
        Lockstep(NumbaBackend(), ranks), workload.with_dtype(DTYPES[number // 2 % 2]), threads=threads
    )


@pytest.mark.parametrize("batch_size", [None, 33, 70])
def test_batches_in_several_blocks(batch_size: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlp_trainer, "BLOCK", 8)
    workload = task(data(), (7, 6), replace(EVERYTHING, batch_size=batch_size))
    for ranks in (1, 2):
        options.assert_agrees(Lockstep(NumbaBackend(), ranks), workload, data(), 2)


def test_images_augmented_in_several_lots(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank's lots hold other batches than those of the others, one of which may be empty."""
    monkeypatch.setattr(mlp_trainer, "AUGMENTED", 9)
    workload = task(data(), (7, 6), replace(EVERYTHING, batch_size=4))
    options.assert_agrees(Lockstep(NumbaBackend(), 3), workload, data(), 2)


@pytest.mark.parametrize("hidden", [(), (70,), (49, 3, 8)], ids=str)
def test_padded_units_and_inputs(hidden: tuple[int, ...]) -> None:
    workload = task(data(), hidden, replace(EVERYTHING, dropout=(0.2,), optimizer=Optimizer("adamw")))
    options.assert_agrees(Lockstep(NumbaBackend(), 3), workload, data(), 3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("wing", WINGS)
def test_one_rank_has_the_bits_of_a_trainer_by_itself(wing: str, dtype: DType) -> None:
    one, alone = start(wing, 1, dtype=dtype), start_alone(wing, dtype)
    for iterations in (1, 12, 3):
        assert one.advance(iterations) == alone.advance(iterations)
        assert identical(one.parameters(), alone.parameters())
        assert all(map(identical, one.moments(), alone.moments()))


@pytest.mark.parametrize("wing", WINGS)
def test_the_same_bits_in_every_run_and_for_any_number_of_threads(wing: str) -> None:
    one, *others = (start(wing, 3, threads) for threads in (1, 1, 2, 3))
    mixed = start(wing, 3)
    workload, dataset = WINGS[wing][0]("float32"), WINGS[wing][1]()
    for rank, threads in enumerate((1, 3, 2)):
        part = dataset.part(Share(rank, 3, len(dataset.train)))
        mixed.ranks[rank] = NumbaBackend().start(workload, part, initial(workload), threads)
    expected = one.advance(13)
    for other in (*others, mixed):
        assert (other.advance(4), other.advance(9))[1] == expected
        assert identical(other.parameters(), one.parameters())
        assert identical(other.gradients(), one.gradients())


@pytest.mark.parametrize("wing", WINGS)
def test_mean_gradients_are_those_of_all_images(wing: str) -> None:
    ranks, alone = start(wing, 3, dtype="float64"), start_alone(wing, "float64")
    for iterations in (1, 4, 2):
        assert_close(ranks.gradients(), alone.gradients(), 1e-12)
        ranks.advance(iterations)
        alone.advance(iterations)


@pytest.mark.parametrize("recipe", [Recipe(), replace(EVERYTHING, batch_size=1)], ids=["classic", "everything"])
def test_ranks_that_hold_no_image(recipe: Recipe) -> None:
    dataset = data(2)
    network = dataset.network(7) if recipe == Recipe() else task(dataset, (7, 6), recipe).network
    workload = Workload(network, 2, 6, 0.05, "float64", 3, recipe=recipe)
    ranks = Lockstep(NumbaBackend(), 4)
    options.assert_agrees(ranks, workload, dataset, 2)
    described = [rank.describe().skips for rank in ranks.load(workload, dataset, initial(workload), 2).ranks]
    assert len(described) == 4


def test_scores_hold_in_the_last_iteration_only() -> None:
    for wing in WINGS:
        (rank,) = start(wing, 1).ranks
        scores = [sums.scores for sums in rank.split(3)]
        assert [bool(np.isnan(found).any()) for found in scores] == [True, True, False]
        assert scores[-1].dtype == np.float64
        assert scores[-1].shape == (2,)


@pytest.mark.parametrize("wing", WINGS)
def test_sums_are_a_vector_of_their_own(wing: str) -> None:
    """In place of a copy the ranks exchange it itself."""
    for rank in start(wing, 2).ranks:
        (sums,) = rank.split(1)
        assert (sums.gradients.dtype, sums.gradients.ndim) == (np.float32, 1)
        assert sums.gradients.flags.c_contiguous
        assert sums.gradients.flags.writeable
        assert not any(np.shares_memory(sums.gradients, array) for array in rank.parameters().arrays())


@pytest.mark.parametrize("wing", WINGS)
def test_a_state_is_restored(wing: str) -> None:
    own, other, alone = start(wing, 3), start(wing, 3), start(wing, 2)
    own.advance(7)
    state = State(7, own.parameters(), own.moments())
    other.advance(2)
    for trainer in (other, alone):
        trainer.restore(state)
    assert own.advance(6) == other.advance(6)
    assert identical(own.parameters(), other.parameters())
    alone.advance(6)  # a state of three ranks, on two
    assert_close(alone.parameters(), own.parameters(), 1e-4)


# Iterations that are not finished.


@pytest.mark.parametrize("finished", [0, 1, 5])
@pytest.mark.parametrize("wing", WINGS)
@pytest.mark.parametrize("error", [None, KeyboardInterrupt, ValueError])
def test_what_is_not_finished_leaves_the_state(wing: str, finished: int, error: type[BaseException] | None) -> None:
    own, other = start(wing, 2), start(wing, 2)
    for trainer in (own, other):
        trainer.advance(3)
    parts = [rank.split(9) for rank in own.ranks]
    for _ in range(finished):
        add_up([next(part) for part in parts])
    for part in parts:
        next(part).gradients[:] = 1  # of the iteration that is not finished
        assert isinstance(part, Generator)
        if error:
            with pytest.raises(error):
                part.throw(error())
        else:
            part.close()
    own.done += finished
    if finished:
        other.advance(finished)
    assert identical(own.parameters(), other.parameters())
    assert all(map(identical, own.moments(), other.moments()))
    assert own.advance(5) == other.advance(5)
    assert identical(own.parameters(), other.parameters())


def test_an_iterator_that_is_dropped_ends_its_threads() -> None:
    for wing in WINGS:
        (rank,) = start(wing, 1, 3).ranks
        next(iter(rank.split(9)))


@pytest.mark.parametrize(("wing", "module"), [("classic", classic_trainer), ("everything", mlp_trainer)])
@pytest.mark.parametrize("failing", [0, 1])
def test_a_thread_that_fails_ends_the_others(
    wing: str, module: Any, failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_split, calls = module.run_split, []

    def run_or_fail(thread: int, *arguments: Any) -> None:
        calls.append(thread)
        if thread == failing and calls.count(thread) == (1 if thread else 3):
            raise MemoryError("no room")
        run_split(thread, *arguments)

    (rank,), again = start(wing, 1, 3).ranks, start(wing, 1, 3)
    with monkeypatch.context() as patch:
        patch.setattr(module, "run_split", run_or_fail)
        parts, finished = rank.split(1000), -1
        with pytest.raises(MemoryError, match="no room"):  # noqa: PT012 - whichever iteration it is
            for _ in parts:
                finished += 1
                time.sleep(1e-3)
    while not identical(rank.parameters(), again.parameters()):
        assert again.advance(1).loss > 0, "no iteration has ended so"
        assert again.done < 50
    assert failing or again.done == finished


@pytest.mark.parametrize("wing", WINGS)
def test_a_thread_that_cannot_start_ends_the_others(wing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (rank,), begin = start(wing, 1, 3).ranks, threading.Thread.start
    fresh, started = rank.parameters(), []

    def fail_at_the_second(self: threading.Thread) -> None:
        started.append(self)
        if self.daemon and sum(thread.daemon for thread in started) == 2:
            raise RuntimeError("can't start new thread")
        begin(self)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail_at_the_second)
        with pytest.raises(RuntimeError, match="can't start"):
            next(iter(rank.split(5)))
    assert identical(rank.parameters(), fresh)


# Threads that stay.


@pytest.mark.parametrize(("wing", "module"), [("classic", classic_trainer), ("everything", mlp_trainer)])
def test_threads_stay_for_all_iterations_of_a_call(wing: str, module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    run_split = module.run_split

    def counted(thread: int, *arguments: Any) -> None:
        calls.append(thread)
        run_split(thread, *arguments)

    monkeypatch.setattr(module, "run_split", counted)
    start(wing, 1, 3).advance(30)
    assert (calls.count(0), calls.count(1), calls.count(2)) == (31, 1, 1)


@pytest.mark.parametrize("wing", WINGS)
def test_threads_that_wait_for_long_use_no_core(wing: str) -> None:
    (rank,) = start(wing, 1, 4).ranks
    part = rank.split(2)
    next(part)
    begin, used = time.perf_counter(), time.process_time()
    time.sleep(0.4)
    used, elapsed = time.process_time() - used, time.perf_counter() - begin
    next(part)
    assert used < elapsed / 4  # three threads that spin would use several times as much
    list(part)


@contextmanager
def one_after_the_other(order: tuple[int, ...], monkeypatch: pytest.MonkeyPatch, module: Any) -> Iterator[None]:
    """Let the leader do everything alone, and helpers come when all is over; or before, when nothing is open yet."""

    @contextmanager
    def crew(threads: int, work: Any, control: Any) -> Iterator[Any]:
        yield lambda: work(0)
        control[STOP] = 1
        for thread in order:
            if thread < threads:
                work(thread)

    with monkeypatch.context() as patch:
        patch.setattr(module, "crew", crew)
        yield


@pytest.mark.parametrize(("wing", "module"), [("classic", classic_trainer), ("everything", mlp_trainer)])
def test_the_leader_does_what_others_would(wing: str, module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    own, expected = start(wing, 2, 3), start(wing, 2, 1)
    with one_after_the_other((1, 2), monkeypatch, module):
        assert own.advance(7) == expected.advance(7)
    assert identical(own.parameters(), expected.parameters())


@pytest.mark.parametrize("wing", WINGS)
def test_the_same_bits_though_more_threads_than_cores_help_each_other(wing: str) -> None:
    own, expected = start(wing, 2, 8), start(wing, 2, 1)
    for trainer in own.ranks:
        if isinstance(trainer, classic_trainer.NumbaTrainer):  # finds every task late at once
            trainer._room.costs[:] = 1 << 40
            trainer._room.paces[:] = -1
    for iterations in (200, 1, 30):
        assert own.advance(iterations) == expected.advance(iterations)
        assert identical(own.parameters(), expected.parameters())


def ran(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, with arguments."""
    command = [sys.executable, "-c", program, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


KEPT = """
import sys
from tests.backends.numba.test_ranks import share_kernels, start
share_kernels(setattr)
parts = [rank.split(5) for wing in ("classic", "everything") for rank in start(wing, 1, 3).ranks]
for part in parts:
    next(part)
print("waiting", flush=True)
if len(sys.argv) > 1:
    raise ValueError("of the program")
"""


@pytest.mark.process
@pytest.mark.parametrize("arguments", [[], ["raise"]], ids=["ends", "raises"])
def test_an_iterator_that_is_kept_lets_the_interpreter_end(arguments: list[str]) -> None:
    done = ran(KEPT, *arguments)
    assert done.stdout == "waiting\n", done.stderr
    assert done.returncode == len(arguments)


INTERRUPTED = """
import os, signal, threading
from dataclasses import replace
from mnistbench.task.recipe import Schedule
from tests.backends.numba import test_ranks
from tests.backends.numba.test_ranks import EVERYTHING, share_kernels, start
from tests.support.builders import identical
test_ranks.EVERYTHING = replace(EVERYTHING, schedule=Schedule())  # a rate that does not end at 0
share_kernels(setattr)
signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored where this was started

def interrupt(pause, caught):
    while not caught.wait(pause):
        os.kill(os.getpid(), signal.SIGINT)
        pause = 2.0  # where Python ignores an exception, another comes

for wing in ("classic", "everything"):
    own, again = start(wing, 1, 3), start(wing, 1, 1)
    own.advance(2), again.advance(2)
    for pause in (0.002, 0.005, 0.011):
        caught = threading.Event()
        other = threading.Thread(target=interrupt, args=(pause, caught))
        try:
            other.start()
            own.advance(10**6)
        except KeyboardInterrupt:
            caught.set()
        other.join()
        for _ in range(10**5):
            if identical(own.parameters(), again.parameters()):
                break
            again.advance(1)
        else:
            raise AssertionError("no whole iterations")
        own.done = again.done
        assert own.advance(1) == again.advance(1)
        assert identical(own.parameters(), again.parameters())
assert threading.active_count() == 1
print("whole")
"""


@pytest.mark.process
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals of POSIX")
def test_an_interrupt_leaves_whole_iterations() -> None:
    done = ran(INTERRUPTED)
    assert done.stdout == "whole\n", done.stderr


WARMED_UP = """
import sys
from mnistbench.backends.numba import NumbaBackend
from mnistbench.backends.numba.classic import kernels
from mnistbench.backends.numba.classic.split import run_split
from mnistbench.backends.numba.mlp import kernels as mlp_kernels
from mnistbench.backends.numba.mlp.split import run_split as mlp_run_split
from tests.backends.numba.test_ranks import WINGS, share_kernels, start

share_kernels(setattr)

def compiled():
    return [[*function.signatures] for function in (run_split, mlp_run_split)]

wing = sys.argv[1]
NumbaBackend().warm_up_split(WINGS[wing][0]("float32"), 2)
before = compiled()
start(wing, 2).advance(3)
print(any(before), compiled() == before, kernels.run.signatures, mlp_kernels.run.signatures)
"""


@pytest.mark.process
@pytest.mark.parametrize("wing", WINGS)
def test_nothing_is_compiled_after_warming_up_for_ranks(wing: str) -> None:
    done = ran(WARMED_UP, wing)
    assert done.stdout == "True True [] []\n", done.stderr
