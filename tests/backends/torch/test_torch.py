"""PyTorch only: trials of ways to compute, restored settings of the process, and gradients compared with autograd."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import mnistbench.backends as registry
from mnistbench.agreement import Agreement, Trajectory, check_trainer
from mnistbench.backends import Arithmetic, trials
from mnistbench.backends.numpy import NumpyMlpTrainer
from mnistbench.exceptions import BackendUnavailable
from mnistbench.machine import nvidia
from mnistbench.reference.mlp import Batch, Batches
from mnistbench.task.recipe import ACTIVATIONS, Augmentation, Optimizer, Recipe, Schedule
from mnistbench.task.workload import DType, Network, Workload
from tests.support import builders
from tests.support.builders import identical

torch: Any = pytest.importorskip("torch")
backend: Any = pytest.importorskip("mnistbench.backends.torch.classic")
mlp: Any = pytest.importorskip("mnistbench.backends.torch.mlp")
device: Any = pytest.importorskip("mnistbench.backends.torch.device")
formulas: Any = pytest.importorskip("mnistbench.backends.torch.formulas")
storage: Any = pytest.importorskip("mnistbench.backends.torch.storage")
ways: Any = pytest.importorskip("mnistbench.backends.torch.ways")
torch_random: Any = pytest.importorskip("mnistbench.backends.torch.random")

Way = backend.Way
WAYS = [Way(rows, compiled) for rows in (False, True) for compiled in (False, True)]


@pytest.fixture(scope="module")
def trajectory() -> Trajectory:
    data = builders.dataset(67, 13, 5)
    return Trajectory(builders.workload(data), data)


@pytest.fixture
def anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make every workload large enough for a trial, and forget earlier trials."""
    monkeypatch.setattr(backend, "_SMALL", 0)
    backend.fastest.cache_clear()
    yield
    backend.fastest.cache_clear()


@cache
def can_compile() -> bool:
    """Whether torch.compile works here; it needs a C++ compiler."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            torch.compile(lambda x: x.sin() + 1)(torch.ones(3))
        except Exception:
            return False
    return True


# The first way is that of small workloads, which the tests of all backends have.
@pytest.mark.parametrize(
    ("way", "dtype"),
    [
        (WAYS[1], "float32"),
        (WAYS[2], "float32"),
        (WAYS[3], "float64"),
        (Way(True, True, "bytes"), "float64"),
        (Way(False, False, "bytes"), "float32"),
        (Way(True, False, "split"), "float32"),
        (Way(False, True, "split"), "float32"),
    ],
    ids=str,
)
def test_every_way_agrees(trajectory: Trajectory, way: Any, dtype: DType) -> None:
    if way.compiled and not can_compile():
        pytest.skip("torch.compile does not work here")
    task = trajectory.workload.with_dtype(dtype)
    with backend.TorchTrainer(task, trajectory.dataset, trajectory.initial, 2, way) as trainer:
        found = check_trainer(trainer, Agreement("torch", dtype), trajectory)
        assert found.passed, found.summary()
        assert str(way) in trainer.describe().kernel
        trainer.reset(trajectory.initial)
        whole = trainer.advance(10), trainer.parameters()
        trainer.reset(trajectory.initial)
        parts = [trainer.advance(iterations) for iterations in (1, 2, 7)]
        assert parts[-1] == whole[0]
        assert identical(trainer.parameters(), whole[1])


def test_three_bfloat16_numbers_hold_a_float32_number_and_two_do_not() -> None:
    A = torch.from_numpy(np.random.default_rng(0).normal(size=(10, 1000)).astype(np.float32))
    parts = storage.split(A).double().reshape(3, 10, 1000)
    assert torch.equal(parts.sum(0), A.double())
    assert not torch.equal(parts[:2].sum(0), A.double())
    with pytest.raises(RuntimeError, match=r"out_dtype|dtype"):  # the product that a GPU has, and a CPU has not
        torch.mm(storage.split(A), storage.split(A).T, out_dtype=torch.float32)


@pytest.mark.parametrize(("dtype", "stored"), [("float32", {"real", "bytes", "split"}), ("float64", {"real", "bytes"})])
def test_a_gpu_tries_other_storages_and_a_cpu_does_not(dtype: DType, stored: set[str]) -> None:
    assert {way.storage for of_kind in backend.ways(dtype, False, on_gpu=True) for way in of_kind} == stored
    assert {way.storage for of_kind in backend.ways(dtype, False, on_gpu=False) for way in of_kind} == {"real"}
    plain, others = backend.ways(dtype, True, on_gpu=True)
    assert (plain, others) == ([Way(False, False)], [])


class Graph:
    """CUDA's graphs as PyTorch has them, without a GPU: what is done in which order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        stream = SimpleNamespace(wait_stream=lambda other: self.calls.append("waits"))
        monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
        monkeypatch.setattr(torch.cuda, "stream", lambda stream: self._within("side"))
        monkeypatch.setattr(
            torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=lambda: self.calls.append("replay"))
        )
        monkeypatch.setattr(torch.cuda, "graph", lambda graph, capture_error_mode: self._within(capture_error_mode))

    @contextmanager
    def _within(self, name: str) -> Iterator[None]:
        self.calls.append(f"begin {name}")
        yield
        self.calls.append(f"end {name}")


def test_a_capture_is_warmed_up_aside_and_heeds_its_own_thread_only(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = Graph(monkeypatch)

    def work() -> str:
        graph.calls.append("work")
        return "tensor"

    replay, result = device.captured(work)
    assert result == "tensor"
    replay()
    aside = ["waits", "begin side", *["work"] * 3, "end side", "waits"]
    assert graph.calls == [*aside, "begin thread_local", "work", "end thread_local", "replay"]


def played(function: Any) -> tuple[Any, Any]:
    """Stand in for a capture: a replay runs the function again and overwrites the tensors of its first result."""
    result = function()
    tensors = result if isinstance(result, tuple) else (result,)

    def replay() -> None:
        found = function()
        for old, new in zip(tensors, found if isinstance(found, tuple) else (found,), strict=True):
            old.copy_(new)

    return replay, result


@pytest.mark.parametrize("name", ["real", "split"])
def test_graphs_of_ten_iterations_and_of_one_end_where_single_ones_do(
    name: str, trajectory: Trajectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "captured", played)
    task, way = trajectory.workload.with_dtype("float32"), Way(True, False, name)
    with backend.TorchTrainer(task, trajectory.dataset, trajectory.initial, 1, way) as trainer:
        alone = trainer.advance(23), trainer.parameters()
        with trainer._computing():
            trainer._graphs = {n: played(partial(trainer._iterate, n)) for n in (10, 1)}
        trainer.reset(trajectory.initial)
        assert trainer.advance(23) == alone[0]
        assert identical(trainer.parameters(), alone[1])
        assert "CUDA graph" in trainer.describe().kernel


def test_the_fastest_way_is_found_once(anew: None, monkeypatch: pytest.MonkeyPatch, trajectory: Trajectory) -> None:
    tried = []

    class Timed:
        """Stands in for a trainer; the last way is the fastest."""

        def __init__(self, *arguments: Any) -> None:
            tried.append(arguments[-1])

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def advance(self, iterations: int) -> None:
            pass

    ticks = iter(range(1000))
    monkeypatch.setattr(trials, "timed", lambda call: (call(), 1000 - next(ticks)))
    monkeypatch.setattr(backend, "TorchTrainer", Timed)
    task = trajectory.workload
    for _ in range(2):
        way, failed = backend.fastest(task.images, task.network, task.dtype, 2)
        assert (way, failed) == (Way(True, True), None)
    assert sorted(tried) == sorted(WAYS)


def test_without_a_compiler_operations_run_in_place(
    anew: None, monkeypatch: pytest.MonkeyPatch, trajectory: Trajectory
) -> None:
    def no_compiler(*arguments: Any) -> Any:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(backend, "_compiled", no_compiler)
    with registry.get_backend("torch").start(trajectory.workload, trajectory.dataset, trajectory.initial) as trainer:
        trainer.advance(1)
        found = trainer.describe()
    assert "operations in place" in found.kernel
    assert found.failed == "; ".join(
        f"compiled, images in {order} failed: RuntimeError: no C++ compiler" for order in ("columns", "rows")
    )


def test_an_error_of_every_way_is_raised(anew: None, monkeypatch: pytest.MonkeyPatch, trajectory: Trajectory) -> None:
    def broken(*arguments: Any) -> Any:
        raise ZeroDivisionError("broken")

    monkeypatch.setattr(backend, "_InPlace", broken)
    with pytest.raises(ZeroDivisionError):
        registry.get_backend("torch").start(trajectory.workload, trajectory.dataset, trajectory.initial)


def test_more_sizes_than_pytorch_would_compile_one_function_for() -> None:
    """PyTorch compiles one function for eight sizes at most; here every size has its own function."""
    network = builders.workload(builders.dataset(3, 2, 2)).network
    made = [backend._compiled(images, network, "float32", 1, WAYS[1]) for images in range(9001, 9011)]
    originals = [function._torchdynamo_orig_callable.__code__ for function in made]
    assert len(set(map(id, originals))) == 10
    assert backend._compiled(9001, network, "float32", 1, WAYS[1]) is made[0]


def test_settings_of_the_process_come_back(trajectory: Trajectory) -> None:
    seen = []
    threads = torch.get_num_threads()
    torch.set_float32_matmul_precision("medium")
    try:
        with registry.get_backend("torch").start(
            trajectory.workload, trajectory.dataset, trajectory.initial, 3
        ) as trainer:
            step = trainer._step  # type: ignore[attr-defined]

            def noting(*arguments: Any) -> Any:
                seen.append((torch.get_num_threads(), torch.get_float32_matmul_precision()))
                return step(*arguments)

            trainer._step = noting  # type: ignore[attr-defined]
            trainer.advance(2)
            assert trainer.describe().threads == 3
        assert seen == [(3, "highest")] * 2
        assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == (threads, "medium")
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory.\nMore."), RuntimeError("DefaultCPUAllocator: can't allocate")]
)
def test_too_many_images_are_one_line(
    monkeypatch: pytest.MonkeyPatch, trajectory: Trajectory, error: Exception
) -> None:
    def full(*arguments: Any) -> Any:
        raise error

    chosen = registry.get_backend("torch")
    threads = torch.get_num_threads()
    monkeypatch.setattr(backend.TorchTrainer, "_stored", full)
    with pytest.raises(
        BackendUnavailable, match=r"^backend torch is unavailable: 67 images in float64 do not"
    ) as caught:
        chosen.start(trajectory.workload, trajectory.dataset, trajectory.initial, 1)
    assert str(caught.value).endswith("use fewer images (--train-size)")
    assert str(caught.value).isprintable()
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("is_classic", [True, False])
def test_too_little_memory_on_the_cpu_is_one_line(
    trajectory: Trajectory, mlp_task: tuple[Workload, Any], is_classic: bool
) -> None:
    task, data = (trajectory.workload, trajectory.dataset) if is_classic else mlp_task
    with registry.get_backend("torch").start(task, data, builders.initial(task)) as trainer:
        setattr(trainer, "_step" if is_classic else "_drawn", lambda *_: torch.empty(2**50))
        what = f"{task.images} images in {task.dtype} do not fit into the memory of the"
        with pytest.raises(BackendUnavailable, match=what):
            trainer.advance(1)


@pytest.mark.parametrize("is_classic", [True, False])
def test_a_gpu_tells_its_memory_and_clocks_under_load(
    is_classic: bool, trajectory: Trajectory, mlp_task: tuple[Workload, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    task, data = (trajectory.workload, trajectory.dataset) if is_classic else mlp_task
    facts = SimpleNamespace(total_memory=80, major=9, minor=0)
    for name, answer in {
        "get_device_name": "Some GPU",
        "get_device_properties": facts,
        "max_memory_reserved": 5,
        "current_device": 0,
        "synchronize": None,
        "empty_cache": None,
        "reset_peak_memory_stats": None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer: answer)
    monkeypatch.setattr(nvidia, "bus_id", lambda ordinal: "bus")

    def ask(bus: str, work: Any) -> dict[str, Any]:
        for _ in range(3):
            work()
        return {"driver_version": "580", "clock_sm_mhz": 1980, "throttled": None}

    monkeypatch.setattr(nvidia, "ask", ask)
    with registry.get_backend("torch").start(task, data, builders.initial(task)) as trainer:
        trainer.advance(2)
        before = trainer.parameters()
        monkeypatch.setattr(device, "device", lambda: SimpleNamespace(type="cuda"))
        found = trainer.describe()
        assert identical(trainer.parameters(), before)
    own = {"memory_bytes": 80, "peak_memory_bytes": 5, "compute_capability": "90"}
    assert (found.gpu, found.device) == ({**own, "clock_sm_mhz": 1980, "throttled": None}, "Some GPU")
    assert found.versions["nvidia driver"] == "580"
    assert found.arithmetic == Arithmetic(bits=64 if task.dtype == "float64" else None)


BENT = Augmentation(shift=2, rotate=20.0, elastic_alpha=30.0)


@pytest.fixture
def mlp_task() -> tuple[Workload, Any]:
    """Return a task of three epochs of two batches, the second smaller, with random masks and images; and its data."""
    data = replace(builders.dataset(37, 63, 5, ink=0.5), image_shape=(7, 9))
    recipe = Recipe(dropout=(0.2, 0.5), batch_size=20, optimizer=Optimizer("adam"), augmentation=BENT, l2=1.0)
    return Workload(Network((63, 9, 6, 5), "tanh"), 37, 6, 0.01, "float32", seed=3, recipe=recipe), data


@pytest.mark.parametrize("way", [mlp.Way(), mlp.Way(onednn=True), mlp.Way(compiled=True)], ids=str)
def test_every_way_of_an_mlp_agrees_with_numpy(mlp_task: tuple[Workload, Any], way: Any) -> None:
    task, data = mlp_task
    if way.compiled and not can_compile():
        pytest.skip("torch.compile does not work here")
    if way.onednn and not formulas.has_onednn(task.dtype):
        pytest.skip("PyTorch is built without oneDNN's products")
    initial = builders.initial(task)
    with (
        registry.get_backend("numpy").start(task, data, initial) as reference,
        mlp.TorchMlpTrainer(task, data, initial, 2, way) as trainer,
    ):
        for _ in range(task.iterations):
            expected, found = reference.advance(1), trainer.advance(1)
            assert found.loss == pytest.approx(expected.loss, rel=1e-4)
            for (name, value), (_, wanted) in zip(
                trainer.parameters().named(), reference.parameters().named(), strict=True
            ):
                assert value == pytest.approx(wanted, abs=1e-4), name
        assert str(way) in trainer.describe().kernel


def addresses(trainer: Any) -> list[int]:
    """Return where all that a graph reads and writes lies in memory."""
    moments = [value for state in trainer._optimizer.state.values() for value in state.values()]
    own = [trainer._rate, trainer._places, trainer._schedules, trainer._images, trainer._labels, *trainer._result]
    tensors = [*own, *trainer._weights, *trainer._biases, *moments]
    return [tensor.data_ptr() for tensor in tensors if isinstance(tensor, torch.Tensor)]


@pytest.mark.parametrize("optimizer", [Optimizer(name) for name in ("gd", "momentum", "nesterov", "adam", "adamw")])
def test_a_captured_iteration_ends_where_others_do(
    optimizer: Optimizer, mlp_task: tuple[Workload, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over epochs, with another order, mask and rate in each, a last batch that is not whole, and after a reset."""
    monkeypatch.setattr(device, "captured", played)
    task, data = mlp_task
    task = replace(task, recipe=replace(task.recipe, optimizer=optimizer, schedule=Schedule("cosine")))
    initial = builders.initial(task)
    with (
        ways.trainer(task, data, initial, 1, mlp.Way()) as plain,
        ways.trainer(task, data, initial, 1, mlp.Way(captured=True)) as captured,
    ):
        assert captured.describe().kernel.startswith("CUDA graph: ")
        replays: list[int] = []
        replay = captured._replay

        def counted() -> None:
            replays.append(1)
            replay()

        captured._replay = counted
        before = addresses(captured)
        for _ in range(2):
            for iterations in (1, 3, 2):
                expected, found = plain.advance(iterations), captured.advance(iterations)
                assert found.loss == pytest.approx(expected.loss, rel=1e-6)
                for (name, value), (_, wanted) in zip(
                    captured.parameters().named(), plain.parameters().named(), strict=True
                ):
                    assert value == pytest.approx(wanted, rel=1e-5, abs=1e-6), name
            for trainer in (plain, captured):
                trainer.reset(initial)
        assert len(replays) == 6, "every other batch is whole"
        assert addresses(captured) == before, "a graph reads and writes where it was captured"


def test_what_can_be_captured(mlp_task: tuple[Workload, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    task, _ = mlp_task
    assert not ways.can_capture(task), "not on a CPU"
    monkeypatch.setattr(device, "device", lambda: SimpleNamespace(type="cuda"))
    assert ways.can_capture(task)
    assert not ways.can_capture(task.with_dtype("float64")), "the rate would be rounded"
    assert not ways.can_capture(replace(task, recipe=replace(task.recipe, optimizer=Optimizer("rmsprop"))))


def test_compiled_random_bits_are_the_same() -> None:
    if not can_compile():
        pytest.skip("torch.compile does not work here")
    draw = torch_random.Draw(20, (7, 9), BENT, (9, 6), (0.2, 0.5), "float64")
    rng = np.random.default_rng(0)
    device = torch_random.device()
    images = torch.from_numpy(rng.integers(0, 256, (20, 63), dtype=np.uint8)).to(device)
    places = torch.arange(20, dtype=torch.int32, device=device)
    schedules = torch.from_numpy(rng.integers(-(2**31), 2**31, (4, 3)).astype(np.int32)).to(device)
    with torch.inference_mode():
        (own, masks), (expected, wanted) = (
            function(images, places, schedules) for function in (torch_random.compiled(draw, 1), draw.function())
        )
    assert torch.equal(own, expected)
    assert all(torch.equal(mask, other) for mask, other in zip(masks, wanted, strict=True))


def test_without_a_compiler_random_bits_are_drawn_by_operations(
    monkeypatch: pytest.MonkeyPatch, mlp_task: tuple[Workload, Any]
) -> None:
    def no_compiler(*arguments: Any) -> Any:
        raise RuntimeError("no C++ compiler")

    task, data = mlp_task
    monkeypatch.setattr(ways, "_SMALL", 0)
    monkeypatch.setattr(torch_random, "compiled", no_compiler)
    ways._fastest_way.cache_clear()
    try:
        with registry.get_backend("torch").start(task, data, builders.initial(task)) as trainer:
            trainer.advance(3)
            failed = "products of PyTorch's choice, random bits compiled failed: RuntimeError: no C++ compiler"
            assert str(trainer.describe().failed).replace("oneDNN", "PyTorch's choice") == failed
    finally:
        ways._fastest_way.cache_clear()


def objective(arrays: list[Any], batch: Batch, task: Workload) -> Any:
    """Compute a batch's loss and L2 penalty by PyTorch's own functions."""
    activations = {
        "relu": torch.relu,
        "leaky-relu": lambda Z: torch.nn.functional.leaky_relu(Z, 0.01),
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
    }
    A = torch.from_numpy(batch.X.T.copy())
    masks = batch.masks or [np.ones((units, 1)) for units in task.network.hidden]
    for W, b, mask in zip(arrays[:-2:2], arrays[1:-2:2], masks, strict=True):
        A = activations[task.network.activation](A @ W.T + b.T) * torch.from_numpy(mask).T
    loss = torch.nn.functional.cross_entropy(A @ arrays[-2].T + arrays[-1].T, torch.from_numpy(batch.Y))
    return loss + task.recipe.l2 / (2 * task.images) * sum((W**2).sum() for W in arrays[::2])


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", [(), (7,), (7, 4, 6)])
@pytest.mark.parametrize("recipe", [{}, {"l2": 3.0}, {"dropout": (0.3,)}, {"batch_size": 16, "augmentation": BENT}])
def test_the_reference_s_gradients_are_those_of_autograd(
    activation: Any, hidden: tuple[int, ...], recipe: dict[str, Any]
) -> None:
    data = replace(builders.dataset(37, 63, 5, ink=0.5), image_shape=(7, 9))
    task = Workload(Network((63, *hidden, 5), activation), 37, 4, 0.1, "float64", recipe=Recipe(**recipe))
    batches = Batches(task, data.train.images, data.train.labels, data.image_shape)
    trainer = NumpyMlpTrainer(task, data, builders.initial(task), None)
    for iteration in range(4):
        arrays = [torch.from_numpy(array).requires_grad_() for _, array in trainer.parameters().named()]
        objective(arrays, batches(iteration), task).backward()
        for array, (name, gradient) in zip(arrays, trainer.gradients().named(), strict=True):
            assert gradient == pytest.approx(array.grad.numpy(), rel=1e-9, abs=1e-12), name
        trainer.advance(1)
