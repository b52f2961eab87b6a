"""Iterations captured as CUDA graphs, on a stand-in that records operations with their arguments and replays them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from mnistbench.backends import Backend, Trainer, trials
from mnistbench.backends.cupy.mlp import flat
from mnistbench.datasets import Dataset
from mnistbench.reference.mlp import State
from mnistbench.task.recipe import Optimizer, Schedule
from mnistbench.task.share import Share
from mnistbench.task.workload import DType, Workload
from tests.support import builders, options
from tests.support.builders import identical
from tests.support.cuda import streams
from tests.support.cuda.host import GRAPH, SINGLY, Array, StandIn, needs_compiler, settle

pytestmark = needs_compiler

# In which every value of every option occurs.
CASES = {name: task for name, task in options.catalogue().items() if name.startswith("combination")}
EVERYTHING = options.task(**options.EVERYTHING)


def started(backend: Backend, workload: Workload, data: Dataset = options.DATA) -> Any:
    return backend.start(workload, data, builders.initial(workload))


def mlp(name: str) -> Any:
    """Return a module of the stand-in's backend."""
    return importlib.import_module(f"mnistbench.backends.cupy.mlp.{name}")


@pytest.fixture
def captured_backend(cupy_backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    settle(GRAPH, monkeypatch)
    with trials.session({}):
        yield cupy_backend


def launched(workload: Workload, data: Dataset = options.DATA) -> Any:
    """Start a trainer that launches operations one by one."""
    return mlp("trainer").MlpTrainer("cupy", workload, data, builders.initial(workload))


def state(trainer: Trainer) -> list[Any]:
    return [array for found in (trainer.parameters(), *trainer.moments()) for array in found.arrays()]


def same_bits(one: Trainer, other: Trainer) -> bool:
    return all(a.tobytes() == b.tobytes() for a, b in zip(state(one), state(other), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_a_graph_computes_the_bits_of_its_operations(captured_backend: Backend, dtype: DType, case: str) -> None:
    workload = CASES[case].with_dtype(dtype)
    with started(captured_backend, workload) as trainer, launched(workload) as other:
        assert trainer.describe().kernel.startswith(f"{GRAPH}: ")
        for iterations in (1, 1, 4, 3):  # in batches of 16, three an epoch
            found = trainer.advance(iterations)
        assert found == other.advance(9)
        assert same_bits(trainer, other)


def test_a_graph_agrees_with_the_reference(captured_backend: Backend, dtype: DType) -> None:
    options.assert_agrees(captured_backend, EVERYTHING.with_dtype(dtype))


@pytest.mark.parametrize("capacity", [1, 2, 4])
def test_a_table_of_few_iterations_is_followed_by_the_next(
    captured_backend: Backend, monkeypatch: pytest.MonkeyPatch, capacity: int
) -> None:
    monkeypatch.setattr(mlp("steps").Steps, "capacity", capacity)
    whole = options.task(optimizer=Optimizer("adam"), dropout=(0.3,), schedule=Schedule("cosine"))
    for workload in (EVERYTHING, whole):
        with launched(workload) as other, started(captured_backend, workload) as trainer:
            assert trainer.advance(9) == other.advance(9)
            assert same_bits(trainer, other)


def test_what_comes_between_iterations_changes_nothing(captured_backend: Backend) -> None:
    with started(captured_backend, EVERYTHING) as trainer, launched(EVERYTHING) as other:
        for iterations in (1, 2, 1, 5):  # also up to the end of an epoch
            trainer.advance(iterations)
            assert identical(trainer.gradients(), trainer.gradients())
            trainer.describe()
        found = other.advance(9)
        assert same_bits(trainer, other)
        trainer.reset(builders.initial(EVERYTHING))
        trainer.advance(4)
        kept = State(4, trainer.parameters(), trainer.moments())
        trainer.advance(2)
        trainer.restore(kept)
        assert trainer.advance(5) == found
        assert same_bits(trainer, other)


def test_the_host_launches_graphs_alone(captured_backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs: list[Any] = []
    launch = streams.Graph.launch

    def counted(graph: Any) -> None:
        graphs.append(graph)
        launch(graph)

    with started(captured_backend, EVERYTHING) as trainer:
        monkeypatch.setattr(trainer._kernels, "by_block", None)
        monkeypatch.setattr(streams.Graph, "launch", counted)
        trainer.advance(9)
    assert len(graphs) == 9
    assert [graph is graphs[0] for graph in graphs] == [True, True, False] * 3


def test_a_rank_launches_operations_one_by_one(captured_backend: Backend) -> None:
    part = options.DATA.part(Share(0, 2, len(options.DATA.train)))
    with captured_backend.start(EVERYTHING, part, builders.initial(EVERYTHING)) as trainer:
        assert trainer.describe().kernel.startswith(f"{SINGLY}: ")


def test_a_closed_trainer_holds_no_arrays(captured_backend: Backend, cupy: StandIn) -> None:
    with started(captured_backend, EVERYTHING):
        pass
    assert cupy.held_when_freed == [0]


class Trial:
    """A trial whose times depend on the way alone, in seconds.

    Attributes:
        shuffles: orders that were drawn in each timed round, by the way.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **seconds: float) -> None:
        self.shuffles: dict[str, list[int]] = {GRAPH: [], SINGLY: []}
        kind, batches = mlp("trainer").MlpTrainer, mlp("batches").Batches
        advance, shuffled = kind.advance, batches._shuffled
        drawn, way = [0], [""]

        def counted(own: Any, epoch: int) -> Any:
            drawn[0] += 1
            return shuffled(own, epoch)

        def noted(own: Any, iterations: int) -> Any:
            way[0] = own.way
            return advance(own, iterations)

        def timed(run: Any) -> tuple[Any, float]:
            before, found = drawn[0], run()
            self.shuffles[way[0]].append(drawn[0] - before)
            return found, seconds["graph" if way[0] == GRAPH else "singly"]

        monkeypatch.setattr(batches, "_shuffled", counted)
        monkeypatch.setattr(kind, "advance", noted)
        monkeypatch.setattr(trials, "timed", timed)
        importlib.reload(mlp("ways"))  # with its own trial


@pytest.mark.parametrize(("graph", "wanted"), [(1.0, GRAPH), (3.0, SINGLY)])
def test_a_trial_chooses_the_faster_way(
    cupy_backend: Backend, monkeypatch: pytest.MonkeyPatch, graph: float, wanted: str
) -> None:
    Trial(monkeypatch, graph=graph, singly=2.0)
    with trials.session({}), started(cupy_backend, options.task(batch_size=16)) as trainer:
        assert trainer.way == wanted
        assert trainer.describe().failed is None
        assert [*trials.chosen().values()] == [wanted]


@pytest.mark.parametrize(("batch_size", "most"), [(2, 0), (16, 2)])  # 18 and 3 iterations an epoch
def test_a_trial_draws_orders_no_oftener_than_a_training(
    cupy_backend: Backend, monkeypatch: pytest.MonkeyPatch, batch_size: int, most: int
) -> None:
    trial = Trial(monkeypatch, graph=1.0, singly=2.0)
    with trials.session({}), started(cupy_backend, options.task(batch_size=batch_size)):
        pass
    for found in trial.shuffles.values():  # in rounds of three iterations
        assert len(found) == 5
        assert max(found) <= most


def test_a_way_that_fails_in_a_trial_is_named(cupy_backend: Backend, cupy: StandIn) -> None:
    importlib.reload(mlp("ways"))
    cupy.cuda.cublas.status = 13
    for _ in range(2):
        with trials.session({}), started(cupy_backend, options.task(batch_size=16)) as trainer:
            assert trainer.way == SINGLY
            assert trainer.describe().failed == f"{GRAPH} failed: RuntimeError: CUBLAS_STATUS 13"


def test_the_steps_are_packed_before_copies_wait_for_the_device(
    captured_backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    pack, copy = flat.packed_steps, Array.set

    def packed(*given: Any) -> Any:
        events.append("pack")
        return pack(*given)

    def copied(*given: Any) -> None:
        events.append("copy")
        copy(*given)

    monkeypatch.setattr(flat, "packed_steps", packed)
    monkeypatch.setattr(Array, "set", copied)
    with started(captured_backend, options.task(batch_size=16)) as trainer:
        trainer.advance(3)
        events.clear()
        trainer.advance(1)
    assert events == ["pack", "copy", "copy"]


# Faults

OTHER_BITS = "RuntimeError: a launch of the graph computes other bits than its operations"
REASONS = {
    "no capture": "RuntimeError: cudaErrorStreamCaptureUnsupported",
    "no function": "AttributeError: ",
    "a failing function": "RuntimeError: CUBLAS_STATUS 13",
    "a wrong layout": "RuntimeError: cuBLAS, called past CuPy, computes wrong products",
    "a product of CuPy": "NotImplementedError: calling cuBLAS API during stream capture is currently unsupported",
    "no workspace": "RuntimeError: CUBLAS_STATUS 14",
    "memory": "RuntimeError: an operation takes 256 bytes of memory, so it cannot be captured",
    "a wait": "RuntimeError: cudaErrorStreamCaptureUnsupported",
    "a copy": "RuntimeError: the current stream is capturing, so D2H transfers are disallowed",
    "no launch": OTHER_BITS,
    "an operation left out": OTHER_BITS,
    "a batch not gathered": OTHER_BITS,
    "a step not taken": OTHER_BITS,
    "a frozen rate": OTHER_BITS,
    "a frozen batch": OTHER_BITS,
    "a frozen key": OTHER_BITS,
}


def plant(reason: str, patch: pytest.MonkeyPatch, cupy: StandIn) -> None:
    """Make the capture fail for a reason."""
    kind, batches, steps = mlp("captured").CapturedTrainer, mlp("batches").Batches, mlp("steps").Steps
    iterate = kind._iterate

    def while_capturing(action: Any) -> None:
        patch.setattr(kind, "_iterate", lambda own, m, step: (action(own), iterate(own, m, step)))

    def not_while_capturing(owner: Any, name: str, instead: Any) -> None:
        own = getattr(owner, name)
        patch.setattr(owner, name, lambda *given: (instead if streams.current().is_capturing() else own)(*given))

    def begin(stream: Any) -> None:
        raise RuntimeError("cudaErrorStreamCaptureUnsupported")

    if reason == "no capture":
        patch.setattr(streams.Stream, "begin_capture", begin)
    if reason == "no function":
        patch.setattr(type(cupy.cuda.cublas), "__file__", np.linalg._umath_linalg.__file__)
    if reason == "a failing function":
        cupy.cuda.cublas.status = 13
    if reason == "a wrong layout":
        patch.setattr(mlp("products"), "_layout", lambda matrix: (0, matrix.shape[1]))
    if reason == "a product of CuPy":
        patch.setattr(kind, "_product", mlp("trainer").MlpTrainer._product)
    if reason == "no workspace":
        patch.setattr(mlp("products").Products, "_follow", lambda own, stream: own._set_stream(own._handle, stream))
    if reason == "memory":
        while_capturing(lambda own: own._metrics + own._metrics)
    if reason == "no launch":
        patch.setattr(streams.Graph, "launch", lambda graph: None)
    if reason == "an operation left out":
        not_while_capturing(kind, "_backward", lambda *_: None)
    if reason == "a batch not gathered":
        not_while_capturing(batches, "load", lambda own, m, step: own._X[:m])
    if reason == "a step not taken":
        not_while_capturing(steps, "take", lambda own: own.current)
    if reason == "a wait":
        while_capturing(lambda own: cupy.cuda.get_current_stream().synchronize())
    if reason == "a copy":
        while_capturing(lambda own: cupy.asnumpy(own._metrics))
    if reason.startswith("a frozen "):
        freeze(WORDS[reason.removeprefix("a frozen ")], patch)


USUAL = options.task(batch_size=16, dropout=(0.5,), optimizer=Optimizer("adam"))
# For faults that only a part of the check notices.
TASKS = {
    # What is left of the operations' iterations is right for those of the graph, too:
    "an operation left out": options.task(hidden=(7, 6), learning_rate=1e-20),  # gradients
    "a batch not gathered": options.task(batch_size=100),  # inputs, since all images are white
    "a step not taken": options.task(batch_size=30),
    # There is no graph of smaller batches, whose two iterations are always in two epochs.
    "a frozen key": options.task(batch_size=1, dropout=(0.5,)),
}


@pytest.mark.parametrize("reason", REASONS)
def test_where_it_cannot_be_captured_operations_are_launched(
    captured_backend: Backend, monkeypatch: pytest.MonkeyPatch, cupy: StandIn, reason: str
) -> None:
    plant(reason, monkeypatch, cupy)
    workload = TASKS.get(reason, USUAL)
    data = Dataset.blank(workload.network, workload.images) if reason == "a batch not gathered" else options.DATA
    with started(captured_backend, workload, data) as trainer, launched(workload, data) as other:
        assert trainer.advance(5) == other.advance(5)
        assert same_bits(trainer, other)
        description = trainer.describe()
    assert description.kernel.startswith(f"{SINGLY}: ")
    assert description.failed.startswith(f"{GRAPH} failed: {REASONS[reason]}")
    assert trials.chosen() == {"what is tried": SINGLY}
    assert not streams.current().ptr


WORDS = {"rate": slice(18), "batch": slice(18, 19), "key": slice(20, None)}
"""Positions in a ``Step`` in float64, in words."""


def freeze(words: slice, patch: pytest.MonkeyPatch) -> None:
    """Let a graph have the first iteration's value, as if a kernel got it by value and not from its step."""
    steps = mlp("steps").Steps
    take = steps.take

    def frozen(own: Any) -> Any:
        found = take(own)
        if streams.current().is_capturing():
            value = np.asarray(own._table)[0, words].copy()
            streams.submit(lambda: np.copyto(np.asarray(found)[words], value))
        return found

    patch.setattr(steps, "take", frozen)


FAULTS = {
    "the first step": ("steps[(long long)counts[i]++ * words + i]", "steps[i]"),
    "the same step again": ("counts[i]++", "counts[i]"),
    "the step after": ("(long long)counts[i]++", "(long long)++counts[i]"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_kernel_that_takes_another_step_is_noticed(
    captured_backend: Backend, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    right, wrong = FAULTS[fault]
    source = flat.source()
    assert source.count(right) == 1
    monkeypatch.setattr(flat, "source", lambda: source.replace(right, wrong))
    workload = options.task(batch_size=16)
    with started(captured_backend, workload) as trainer, launched(workload) as other:
        same = trainer.advance(5) == other.advance(5)
    assert not same or "computes other bits" in (trainer._failed or "")


# The stand-in


def test_a_replay_has_the_arguments_of_the_capture(cupy: StandIn) -> None:
    array, factor = cupy.asarray(np.array([1.0])), cupy.asarray(np.array([2.0]))
    scalar = 3.0
    with cupy.cuda.Stream(non_blocking=True) as stream:
        stream.begin_capture()
        array *= factor
        array *= scalar
        graph = stream.end_capture()
    assert array.get() == [1]
    factor.set(np.array([5.0]))
    graph.launch()
    graph.launch()
    assert array.get() == [225]


def test_a_capture_refuses_what_cupy_refuses(cupy: StandIn) -> None:
    array = cupy.asarray(np.eye(2))
    with pytest.raises(RuntimeError, match="default"):
        cupy.cuda.get_current_stream().begin_capture()
    with cupy.cuda.Stream(non_blocking=True) as stream:
        stream.begin_capture()
        for refused in (array.get, lambda: array.set(np.eye(2)), lambda: cupy.asarray(np.eye(2))):
            with pytest.raises(RuntimeError, match="is capturing"):
                refused()
        with pytest.raises(NotImplementedError, match="cuBLAS"):
            cupy.matmul(array, array, out=array.copy())
        with pytest.raises(AssertionError, match="memory that others get"):
            array + array
        with cupy.cuda.using_allocator(lambda size: None):
            total: Any = array + array
        stream.end_capture().launch()
        assert total.get().tolist() == (2 * np.eye(2)).tolist()
        stream.begin_capture()
        with pytest.raises(RuntimeError, match="not permitted"):
            stream.synchronize()
        with pytest.raises(RuntimeError, match="Invalidated"):
            stream.end_capture()
