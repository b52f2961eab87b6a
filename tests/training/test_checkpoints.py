"""Checkpoints: an interrupted training goes on to the same bits, wherever it was interrupted, and only the same one."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mnistbench.backends as registry
from mnistbench.backends import Backend, Description, Metrics, Trainer, trials
from mnistbench.backends.numpy import NumpyMlpTrainer, NumpyTrainer
from mnistbench.datasets import Dataset, Split, combined_digest
from mnistbench.exceptions import (
    CheckpointError,
    Diverged,
    Interrupted,
    MnistbenchError,
    OptionError,
    UnsupportedWorkload,
)
from mnistbench.reference import mlp
from mnistbench.reference.parameters import Parameters, load_model, save_model
from mnistbench.task.recipe import OPTIMIZERS, Augmentation, Optimizer, Recipe, Schedule
from mnistbench.task.share import Share
from mnistbench.task.workload import DType, Workload
from mnistbench.training import keeping
from mnistbench.training.checkpoint import Checkpoint
from mnistbench.training.loop import train
from mnistbench.training.result import TrainingResult
from tests.support import builders, options
from tests.support.benchmarks import ONE_THREAD
from tests.support.builders import identical

KILLS = int(os.environ.get("MNISTBENCH_KILLS", "3"))
"""How many processes are killed."""

DATA = builders.dataset(60, 35, 5, ink=0.5, rows=5)
EVERYTHING = Recipe(
    "he", 0.1, (0.2,), Optimizer("adam"), 16, Schedule("cosine"), Augmentation(shift=1, rotate=10.0, elastic_alpha=8.0)
)
TASK = Workload(DATA.network(7, 6), 60, 23, 0.01, recipe=EVERYTHING)
CLASSIC = Workload(DATA.network(7), 60, 23)


# The interface of trainers


CASES: list[tuple[str, DType]] = [
    *((name, "float32") for name in (*OPTIMIZERS, "everything", "classic")),
    ("everything", "float64"),
    ("classic", "float64"),
]


@pytest.mark.parametrize("backend_name", ["numpy", "numba", "torch", "jax"])
@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_a_trainer_goes_on_from_the_state_of_another(backend_name: str, dtype: DType, name: str) -> None:
    goes_on(registry.get_backend(backend_name), name, dtype)


@pytest.mark.parametrize("backend_name", ["numba-plain", "cupy", "cupy-plain"])
def test_a_trainer_of_the_classic_goes_on(backend_name: str) -> None:
    goes_on(registry.get_backend(backend_name), "classic", "float64")


@pytest.mark.compiles
@pytest.mark.parametrize(("name", "dtype"), [case for case in CASES if case[0] != "classic"])
def test_a_trainer_of_cupy_goes_on(cupy_backend: Backend, dtype: DType, name: str) -> None:
    goes_on(cupy_backend, name, dtype)


@pytest.mark.gpu
@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_a_trainer_on_a_gpu_goes_on(dtype: DType, name: str) -> None:
    goes_on(registry.get_backend("cupy"), name, dtype)


def goes_on(backend: Backend, name: str, dtype: DType) -> None:
    """Interrupt a training in the middle of its second epoch, and at its start."""
    if name == "classic":
        task = options.task(dtype)
    elif name == "everything":
        task = options.task(dtype, **options.EVERYTHING)
    else:
        task = options.task(
            dtype, hidden=(7, 6), optimizer=Optimizer(cast("Any", name)), batch_size=16, learning_rate=0.01
        )
    first = builders.initial(task)
    with backend.start(task, options.DATA, first, 2) as whole, backend.start(task, options.DATA, first, 2) as part:
        for done in (0, 4):
            whole.reset(first)
            if done:
                whole.advance(done)
            state = mlp.State(done, whole.parameters(), whole.moments())
            assert len(state.moments) == task.recipe.optimizer.moments
            metrics = whole.advance(9 - done)
            part.reset(builders.initial(replace(task, seed=5)))
            part.advance(6)
            part.restore(state)
            assert identical(part.parameters(), state.parameters)
            pairs = zip(part.moments(), state.moments, strict=True)
            assert all(identical(found, kept) for found, kept in pairs)
            assert part.advance(9 - done) == metrics
            assert identical(part.parameters(), whole.parameters())
            pairs = zip(part.moments(), whole.moments(), strict=True)
            assert all(identical(found, kept) for found, kept in pairs)


@pytest.mark.compiles
@pytest.mark.parametrize("first", ["numpy", "numba"])
def test_another_backend_goes_on_as_it_would_from_any_state(first: str) -> None:
    """Moments mean the same on all backends."""
    task = options.task("float64", hidden=(7, 6), optimizer=Optimizer("adam"), batch_size=16)
    ends = []
    for names in ((first, "numpy"), (first, "torch"), (first, "jax"), (first, "numba")):
        if not all(registry.availability(name).usable for name in names):
            continue
        state = mlp.State.start(builders.initial(task), task.recipe.optimizer)
        for name, count in zip(names, (4, 5), strict=True):
            with registry.get_backend(name).start(task, options.DATA, state.parameters, None) as trainer:
                trainer.restore(state)
                trainer.advance(count)
                state = mlp.State(state.iteration + count, trainer.parameters(), trainer.moments())
        ends.append(state)
    for other in ends[1:]:
        builders.assert_close(other.parameters, ends[0].parameters, 1e-9)
        for found, expected in zip(other.moments, ends[0].moments, strict=True):
            builders.assert_close(found, expected, 1e-9)


# Interrupted trainings


class Stopped(Exception):
    """Stands in for a process that was killed."""


def interrupted(path: Path, after: int, task: Workload, **given: Any) -> None:
    """Train up to the checkpoint after iteration ``after``, and no further."""
    write = Checkpoint.write

    def watched(self: Checkpoint, to: Path) -> None:
        write(self, to)
        if self.past.state.iteration >= after:
            raise Stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "write", watched)
        with pytest.raises(Stopped):
            train(DATA, workload=task, **{"backend": "numpy", "threads": 1, "checkpoint_every": 1e-9, **given})


def assert_same(found: TrainingResult, expected: TrainingResult) -> None:
    assert identical(found.parameters, expected.parameters)
    assert found.metrics == expected.metrics
    names = ("workload", "loss", "accuracy", "dev_accuracy", "test_accuracy", "updates", "iterations")
    assert all(getattr(found, name) == getattr(expected, name) for name in names)
    assert [updates for updates, _ in found.snapshots] == [updates for updates, _ in expected.snapshots]
    pairs = zip(found.snapshots, expected.snapshots, strict=True)
    assert all(identical(own, other) for (_, own), (_, other) in pairs)


@settings(max_examples=15)
@given(
    st.lists(st.integers(1, 22), max_size=3, unique=True).map(sorted),
    st.sampled_from([TASK, CLASSIC, replace(TASK, dtype="float64"), replace(TASK, learning_rate=3.0)]),
    st.none() | st.integers(1, 12),
    st.none() | st.integers(1, 4),
    st.sets(st.integers(0, 23), max_size=4),
)
def test_the_result_is_that_of_an_uninterrupted_training(
    tmp_path_factory: pytest.TempPathFactory,
    stops: list[int],
    task: Workload,
    every: int | None,
    patience: int | None,
    snapshots: set[int],
) -> None:
    path = tmp_path_factory.mktemp("run") / "run.checkpoint"
    given: dict[str, Any] = {"every": every, "patience": patience, "snapshots": snapshots}
    expected = train(DATA, workload=task, backend="numpy", threads=1, **given)
    where: dict[str, Any] = {"checkpoint": path}
    for stop in stops:
        if stop >= expected.iterations:
            break
        interrupted(path, stop, task, **given, **where)
        assert Checkpoint.read(path).past.state.iteration == stop
        where = {"resume": path}
    result = train(DATA, workload=task, backend="numpy", threads=1, checkpoint_every=1e-9, **given, **where)
    assert_same(result, expected)
    assert len(result.resumed) == len([stop for stop in stops if stop < expected.iterations])
    # The last checkpoint is that of a finished training: nothing is left to do, and another may replace it.
    assert Checkpoint.read(path).past.finished
    assert_same(train(DATA, workload=task, backend="numpy", threads=1, **given, resume=path), expected)
    train(DATA, workload=replace(task, seed=3), backend="numpy", checkpoint=path, **given)


def test_time_and_history_go_on(tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    seen: list[int] = []
    interrupted(path, 14, TASK, checkpoint=path)
    before = Checkpoint.read(path).past
    assert [progress.iteration for progress in before.reports] == [3, 7, 11]
    result = train(
        DATA, workload=TASK, backend="numpy", resume=path, callback=lambda progress, _: seen.append(progress.iteration)
    )
    assert seen == [15, 19, 22]
    seconds = [progress.seconds for progress in result.metrics]
    assert seconds == sorted(seconds)
    assert result.costs.train > before.seconds
    assert result.resumed == ((14, "numpy"),)


def test_the_checkpoint_may_go_to_another_file(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    interrupted(first, 5, TASK, checkpoint=first)
    before = first.read_bytes()
    train(DATA, workload=TASK, backend="numpy", resume=first, checkpoint=second)
    assert first.read_bytes() == before
    assert Checkpoint.read(second).past.finished


@pytest.mark.compiles
def test_another_backend_may_go_on(tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    interrupted(path, 14, TASK, checkpoint=path)
    pytest.importorskip("torch")
    result = train(DATA, workload=TASK, backend="torch", threads=1, resume=path)
    assert (result.backend, result.resumed) == ("torch", ((14, "numpy"),))
    builders.assert_close(result.parameters, train(DATA, workload=TASK, backend="numpy").parameters, 1e-4)


OTHER = replace(DATA, train=Split(255 - DATA.train.images, DATA.train.labels))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"learning_rate": 0.02}, "learning rate was 0.01, and is 0.02"),
        ({"iterations": 24}, "iterations was 23, and is 24"),
        ({"dtype": "float64"}, "dtype was float32, and is float64"),
        ({"seed": 1}, "seed was 0, and is 1"),
        ({"network": DATA.network(7, 5)}, "network sizes was (35, 7, 6, 5), and is (35, 7, 5, 5)"),
        (
            {"recipe": replace(EVERYTHING, optimizer=Optimizer("adam", beta1=0.5))},
            "optimizer beta1 was 0.9, and is 0.5",
        ),
        ({"recipe": replace(EVERYTHING, batch_size=15)}, "batch size was 16, and is 15"),
        ({"every": 3}, "every was None, and is 3"),
        ({"patience": 3}, "patience was None, and is 3"),
        ({"dataset": OTHER}, "the images were others; give the data, sizes and seed of that training"),
        ({"dataset": replace(DATA, dev=OTHER.train)}, "the images were others"),
    ],
)
def test_another_training_is_not_resumed(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = tmp_path / "run.checkpoint"
    interrupted(path, 5, TASK, checkpoint=path)
    before = path.read_bytes()
    given = {name: changes.pop(name) for name in ("every", "patience") if name in changes}
    data = changes.pop("dataset", DATA)
    with pytest.raises(CheckpointError) as caught:
        train(data, workload=replace(TASK, **changes), backend="numpy", resume=path, **given)
    assert str(caught.value).startswith(f"{path}: is of another training: {said}")
    assert str(caught.value).isprintable()
    assert path.read_bytes() == before
    train(DATA, workload=replace(TASK, name="any"), backend="numpy", resume=path)


def test_the_images_are_told_by_what_ranks_can_add_up(tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    interrupted(path, 5, TASK, checkpoint=path)
    parts = [DATA.part(Share(rank, 3, len(DATA.train))).digest_part() for rank in range(3)]
    assert Checkpoint.read(path).identity.data_digest == combined_digest(parts)


def test_what_is_no_checkpoint_is_neither_resumed_nor_replaced(tmp_path: Path) -> None:
    path, model, text = tmp_path / "run.checkpoint", tmp_path / "model.npz", tmp_path / "text"
    save_model(model, Parameters.initial(TASK.network, 0), (5, 7))
    text.write_text("text")
    interrupted(path, 5, TASK, checkpoint=path)
    for file in (model, text):
        for option in ({"checkpoint": file}, {"resume": file}):
            before = file.read_bytes()
            with pytest.raises(CheckpointError, match="not a checkpoint that 'mnistbench train --checkpoint' wrote"):
                train(DATA, workload=TASK, backend="numpy", **cast("dict[str, Any]", option))
            assert file.read_bytes() == before
        with pytest.raises(CheckpointError, match=r"wrote; give another name$"):
            train(DATA, workload=TASK, backend="numpy", checkpoint=file)
    with pytest.raises(CheckpointError, match=r"holds a training that is not finished; go on with --resume"):
        train(DATA, workload=TASK, backend="numpy", checkpoint=path)
    with pytest.raises(CheckpointError, match=r"no such file; begin with 'mnistbench train --checkpoint"):
        train(DATA, workload=TASK, backend="numpy", resume=tmp_path / "none")
    with pytest.raises(MnistbenchError, match="is a folder"):
        train(DATA, workload=TASK, backend="numpy", checkpoint=tmp_path)
    with pytest.raises(OptionError, match="parameters: not with resume"):
        train(DATA, workload=TASK, backend="numpy", resume=path, parameters=builders.initial(TASK))
    for seconds in (0, -1, float("nan"), float("inf")):
        with pytest.raises(OptionError, match=r"^checkpoint every"):
            train(DATA, workload=TASK, backend="numpy", checkpoint=tmp_path / "new", checkpoint_every=seconds)


@settings(max_examples=25)
@given(st.floats(0, 1, exclude_max=True), st.integers(0, 255))
def test_a_damaged_checkpoint_is_refused_or_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, place: float, bits: int
) -> None:
    """It is cut off, or some bits of a byte are wrong."""
    path = tmp_path_factory.mktemp("run") / "run.checkpoint"
    interrupted(path, 9, CLASSIC, checkpoint=path)
    content = bytearray(path.read_bytes())
    expected = Checkpoint.read(path)
    at = int(place * len(content))
    if bits:
        content[at] ^= bits
    else:
        content = content[:at]
    path.write_bytes(content)
    with contextlib.suppress(CheckpointError):
        found = Checkpoint.read(path)
        assert found.identity == expected.identity
        assert identical(found.past.state.parameters, expected.past.state.parameters)


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.checkpoint"
    interrupted(path, 5, TASK, checkpoint=path)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MnistbenchError, match="cannot be written: No space left"):
        train(DATA, workload=TASK, backend="numpy", resume=path)
    assert path.read_bytes() == before
    assert [*tmp_path.iterdir()] == [path]


def test_divergence_after_resuming_names_the_iteration(tmp_path: Path) -> None:
    class BreaksDown(NumpyMlpTrainer):
        def advance(self, iterations: int) -> Metrics:
            for _ in range(iterations):
                at = self._state.iteration
                metrics = super().advance(1)
                if at == 18:
                    self._state.parameters.biases[0][0] = np.nan
            return metrics

    path = tmp_path / "run.checkpoint"
    interrupted(path, 9, TASK, checkpoint=path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mnistbench.backends.numpy.NumpyMlpTrainer", BreaksDown)
        with pytest.raises(Diverged) as caught:
            train(DATA, workload=TASK, backend="numpy", resume=path)
    assert caught.value.iteration == 18


@pytest.mark.parametrize("missing", ["moments", "restore"])
def test_a_trainer_without_a_state_is_refused_before_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """Such as that of another package's backend."""
    monkeypatch.setattr(NumpyMlpTrainer, missing, getattr(Trainer, missing))
    path = tmp_path / "run.checkpoint"
    with pytest.raises(
        UnsupportedWorkload, match=r"^backend numpy cannot keep the state of a training with 2 hidden l"
    ):
        train(DATA, workload=TASK, backend="numpy", checkpoint=path, callback=lambda *_: pytest.fail("it trains"))
    assert not path.exists()
    train(DATA, workload=TASK, backend="numpy")
    train(DATA, workload=CLASSIC, backend="numpy", checkpoint=path)


class Chooses(NumpyTrainer):
    """A trainer of a way; the second is faster."""

    way = "slow"

    def advance(self, iterations: int) -> Metrics:
        time.sleep(0.02 if self.way == "slow" else 0)
        return super().advance(iterations)

    def describe(self) -> Description:
        return replace(super().describe(), kernel=self.way, threads=threads[0], versions={"numpy": versions[0]})


class Fast(Chooses):
    way = "fast"


threads, versions, works = [1], ["1.0"], [True]


@pytest.fixture
def choosing(monkeypatch: pytest.MonkeyPatch) -> trials.Once[[str], str]:
    """Let the backend numpy try two ways of the classic."""
    task, data, initial = trials.trial_of(CLASSIC)
    kinds: dict[str, type[Chooses]] = {"slow": Chooses, "fast": Fast}
    works[0], threads[0], versions[0] = True, 1, "1.0"

    def start(way: str) -> Trainer:
        if not works[0] and way == "slow":
            raise RuntimeError("no compiler")
        return kinds[way](task, data, initial, 1)

    @trials.Once
    def find(what: str) -> trials.Choice[str]:
        return trials.fastest(["fast"], lambda _: ["slow"], start, what)

    def load(self: Backend, workload: Workload, data: Dataset, parameters: Parameters, number: int | None) -> Trainer:
        return kinds[find("this")[0]](workload, data, parameters, 1)

    monkeypatch.setattr(type(registry.get_backend("numpy")), "load", load)
    return find


def rewrite(path: Path, **changes: Any) -> None:
    replace(Checkpoint.read(path), **changes).write(path)


def test_a_resumed_training_computes_as_before_and_others_do_not(
    tmp_path: Path, choosing: trials.Once[[str], str]
) -> None:
    path = tmp_path / "run.checkpoint"
    choosing("of another training")
    interrupted(path, 5, CLASSIC, checkpoint=path)
    assert Checkpoint.read(path).choices == {"this": "fast"}
    rewrite(path, choices={"this": "slow"})
    assert train(DATA, workload=CLASSIC, backend="numpy", resume=path).description.kernel == "slow"
    assert Checkpoint.read(path).choices == {"this": "slow"}
    assert train(DATA, workload=CLASSIC, backend="numpy").description.kernel == "fast"


def test_another_way_of_computing_is_refused(tmp_path: Path, choosing: trials.Once[[str], str]) -> None:
    path = tmp_path / "run.checkpoint"
    interrupted(path, 5, CLASSIC, checkpoint=path)
    rewrite(path, choices={"this": "slow"})
    works[0] = False
    with pytest.raises(CheckpointError, match="in a way that does not work here, slow; go on where it works, or name"):
        train(DATA, workload=CLASSIC, backend="numpy", resume=path)
    rewrite(path, choices={"another": "slow"})
    train(DATA, workload=CLASSIC, backend="numpy", resume=path)


def test_other_threads_and_versions_are_said(tmp_path: Path, choosing: trials.Once[[str], str]) -> None:
    path = tmp_path / "run.checkpoint"
    interrupted(path, 5, CLASSIC, checkpoint=path)
    interrupted(path, 9, CLASSIC, resume=path)
    assert Checkpoint.read(path).changes == ()
    threads[0] = 4
    interrupted(path, 12, CLASSIC, resume=path)
    versions[0] = "2.0"
    result = train(DATA, workload=CLASSIC, backend="numpy", resume=path)
    assert result.changes == (
        "after iteration 9 threads was 1, and is 4",
        "after iteration 12 numpy was 1.0, and is 2.0",
    )


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied"), "cannot be read: Permission denied"),
        (MemoryError(), "does not fit into the memory that is free, or is damaged"),
    ],
)
def test_a_checkpoint_that_cannot_be_read_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    path = tmp_path / "run.checkpoint"
    interrupted(path, 5, TASK, checkpoint=path)

    def fails(self: Path) -> bytes:
        raise error

    monkeypatch.setattr(Path, "read_bytes", fails)
    with pytest.raises(CheckpointError) as caught:
        Checkpoint.read(path)
    assert str(caught.value) == f"{path}: {said}"


@pytest.mark.parametrize("schema", [2, 99])
def test_a_checkpoint_of_another_version_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schema: int) -> None:
    path = tmp_path / "run.checkpoint"
    monkeypatch.setattr("mnistbench.training.checkpoint.SCHEMA", schema)
    interrupted(path, 5, TASK, checkpoint=path)
    monkeypatch.undo()
    with pytest.raises(
        CheckpointError, match=rf"is of another version of mnistbench \(format {schema}, not 3\); go on with"
    ):
        train(DATA, workload=TASK, backend="numpy", resume=path)
    with pytest.raises(CheckpointError, match=r"go on with that version; give another name$"):
        train(DATA, workload=TASK, backend="numpy", checkpoint=path)


def test_the_same_file_by_another_name_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.checkpoint"
    interrupted(path, 5, TASK, checkpoint=path)
    (tmp_path / "link").symlink_to(path)
    monkeypatch.chdir(tmp_path)
    interrupted(path, 9, TASK, resume="run.checkpoint", checkpoint=path)
    train(DATA, workload=TASK, backend="numpy", resume=path, checkpoint="link")
    assert Checkpoint.read(path).past.finished
    assert (tmp_path / "link").is_symlink()


def test_a_training_interrupted_before_its_first_iteration_keeps_one_snapshot_of_it(tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    interrupted(path, 0, TASK, checkpoint=path, snapshots={0, 20})
    assert Checkpoint.read(path).past.state.iteration == 0
    result = train(DATA, workload=TASK, backend="numpy", resume=path, snapshots={0, 20})
    assert [updates for updates, _ in result.snapshots] == [0, 20]


@pytest.mark.parametrize("early", [False, True])
def test_a_signal_ends_the_search_for_the_iteration_of_a_divergence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, early: bool
) -> None:
    """The search may take as long as the training did; the signal may come in the iteration before it."""
    advance, path, hits = NumpyMlpTrainer.advance, tmp_path / "run.checkpoint", [0]

    def breaks(self: NumpyMlpTrainer, iterations: int) -> Metrics:
        metrics = advance(self, iterations)
        if path.exists() and self._state.iteration >= 9:
            self._state.parameters.biases[0][0] = np.nan
            hits[0] += 1
            if hits[0] == (1 if early else 2):
                os.kill(os.getpid(), signal.SIGINT)
        return metrics

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(NumpyMlpTrainer, "advance", breaks)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(DATA, workload=TASK, backend="numpy", checkpoint=path, checkpoint_every=1e-9)
    finally:
        signal.signal(signal.SIGINT, before)
    assert hits == [1 if early else 2]


# Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at", [0, 7, 22])
def test_a_signal_ends_the_training_after_an_iteration_and_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, at: int
) -> None:
    advance, path = NumpyMlpTrainer.advance, tmp_path / "run.checkpoint"
    monkeypatch.setattr(keeping, "_LISTENS", 1e-9)
    before = signal.signal(number, signal.default_int_handler)

    def hit(self: NumpyMlpTrainer, iterations: int) -> Metrics:
        if self._state.iteration == at and signal.getsignal(number) is not signal.default_int_handler:
            os.kill(os.getpid(), number)
        return advance(self, iterations)

    expected = train(DATA, workload=TASK, backend="numpy", threads=1)
    try:
        monkeypatch.setattr(NumpyMlpTrainer, "advance", hit)
        with pytest.raises(Interrupted) as caught:
            train(DATA, workload=TASK, backend="numpy", threads=1, checkpoint=path)
        monkeypatch.setattr(NumpyMlpTrainer, "advance", advance)
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
    assert caught.value.signal == number
    assert str(caught.value).endswith(f" after {at + 1} iterations; go on with --resume {path}")
    assert_same(train(DATA, workload=TASK, backend="numpy", threads=1, resume=path), expected)


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    keeper = keeping.Keeper(tmp_path / "none", 60, lambda past: pytest.fail("it waits"))

    def twice() -> None:
        with keeper.listening():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

    with pytest.raises(Interrupted, match=r"^terminated$"):
        twice()


def test_an_ignored_signal_stays_ignored_and_other_threads_hear_none(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    keeper = keeping.Keeper(tmp_path / "none", 60, lambda past: pytest.fail("nothing came"))
    try:
        with keeper.listening():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    results: list[TrainingResult] = []
    thread = threading.Thread(
        target=lambda: results.append(train(DATA, workload=TASK, backend="numpy", checkpoint=tmp_path / "run"))
    )
    thread.start()
    thread.join()
    assert len(results) == 1


# Processes

LONG = ["--hidden", "7,6", "--batch-size", "16", "--optimizer", "adam", "--learning-rate", "0.001", "--dropout", "0.1"]


def command(path: Path, *more: object) -> list[str]:
    """A training of many short iterations that goes on from the checkpoint, if there is one."""
    own = ["--backend", "numpy", "--threads", "1", "--train-size", "60", "--dev-size", "50", *LONG, "--every", "500"]
    kept = ["--resume" if path.exists() else "--checkpoint", str(path), "--save", str(path.with_suffix(".npz"))]
    # A shell that starts pytest in the background lets it, and whatever it starts, ignore SIGINT.
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program += "; from mnistbench.cli import main; main()"
    return [sys.executable, "-c", program, "train", *own, *kept, "--json", *map(str, more)]


def begin(path: Path, *more: object) -> subprocess.Popen[str]:
    environment = {**os.environ, **ONE_THREAD}
    return subprocess.Popen(
        command(path, *more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def wait_for(change: Path, since: int, process: subprocess.Popen[str]) -> None:
    """Wait until a file is newer, or the process has ended."""
    while process.poll() is None and not (change.exists() and change.stat().st_mtime_ns > since):
        time.sleep(0.001)


@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
@pytest.mark.parametrize(("number", "said"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_a_signal_ends_the_command_in_one_line(tmp_path: Path, number: signal.Signals, said: str) -> None:
    path = tmp_path / "run.checkpoint"
    with begin(path, "--iterations", 10**8, "--checkpoint-every", 0.05) as process:
        wait_for(path, 0, process)
        process.send_signal(number)
        printed, errors = process.communicate(timeout=60)
    assert (process.returncode, printed) == (128 + number, "")
    done = Checkpoint.read(path).past.state.iteration
    assert errors == f"mnistbench: {said} after {done:,} iterations; go on with --resume {path}\n"
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
def test_a_training_killed_at_random_moments_ends_in_the_same_bits(tmp_path: Path) -> None:
    """Also while it starts, and while it writes."""
    iterations = 3_000 * KILLS
    whole, path = tmp_path / "whole", tmp_path / "killed"
    began = time.monotonic()
    with begin(whole, "--iterations", iterations) as process:
        expected = json.loads(process.communicate(timeout=600)[0])
    alone, kills, resumed = time.monotonic() - began, 0, 0
    while kills < KILLS:
        with begin(path, "--iterations", iterations, "--checkpoint-every", 0.005) as process:
            if kills and random.random() < 0.2:  # the first kill comes after a checkpoint
                time.sleep(random.uniform(0, min(alone, 2)))
            else:
                wait_for(path, path.stat().st_mtime_ns if path.exists() else 0, process)
                time.sleep(random.uniform(0, 0.2))
            ended = process.poll() is not None
            process.kill()
            _, errors = process.communicate(timeout=60)
        assert not errors
        assert not ended, "iterations are too few"
        kills += 1
    with begin(path, "--iterations", iterations, "--checkpoint-every", 5) as process:
        printed, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    found = json.loads(printed)
    resumed = len(found["resumed"])
    assert 0 < resumed <= KILLS
    assert identical(load_model(path.with_suffix(".npz")).parameters, load_model(whole.with_suffix(".npz")).parameters)
    same = ("history", "loss", "train_accuracy", "dev_accuracy", "test_accuracy", "updates", "iterations")
    assert [found[name] for name in same] == [expected[name] for name in same]
