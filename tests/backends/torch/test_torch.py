"""PyTorch only: trials of ways to compute, restored settings of the process, and gradients compared with autograd."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

import mnistbench.backends as registry
from mnistbench.agreement import Agreement, Trajectory, check_trainer
from mnistbench.backends import trials
from mnistbench.backends.numpy import NumpyMlpTrainer
from mnistbench.exceptions import BackendUnavailable
from mnistbench.reference.mlp import Batch, Batches
from mnistbench.task.recipe import ACTIVATIONS, Augmentation, Optimizer, Recipe
from mnistbench.task.workload import DType, Network, Workload
from tests.support import builders
from tests.support.builders import identical

torch: Any = pytest.importorskip("torch")
backend: Any = pytest.importorskip("mnistbench.backends.torch.classic")
mlp: Any = pytest.importorskip("mnistbench.backends.torch.mlp")
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
@pytest.mark.parametrize(("way", "dtype"), [(WAYS[1], "float32"), (WAYS[2], "float32"), (WAYS[3], "float64")], ids=str)
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
        way, remark = backend.fastest(task.images, task.network, task.dtype, 2)
        assert (way, remark) == (Way(True, True), "")
    assert sorted(tried) == sorted(WAYS)


def test_without_a_compiler_operations_run_in_place(
    anew: None, monkeypatch: pytest.MonkeyPatch, trajectory: Trajectory
) -> None:
    def no_compiler(*arguments: Any) -> Any:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(backend, "_compiled", no_compiler)
    with registry.get_backend("torch").start(trajectory.workload, trajectory.dataset, trajectory.initial) as trainer:
        trainer.advance(1)
        kernel = trainer.describe().kernel
    assert "operations in place" in kernel
    assert kernel.endswith("(torch.compile failed: RuntimeError)")


def test_an_error_of_every_way_is_raised(anew: None, monkeypatch: pytest.MonkeyPatch, trajectory: Trajectory) -> None:
    def broken(*arguments: Any) -> Any:
        raise ZeroDivisionError("broken")

    monkeypatch.setattr(backend, "_InPlace", broken)
    with pytest.raises(ZeroDivisionError):
        registry.get_backend("torch").start(trajectory.workload, trajectory.dataset, trajectory.initial)


def test_more_sizes_than_pytorch_would_compile_one_function_for() -> None:
    """PyTorch compiles one function for eight sizes at most; here every size has its own function."""
    network = builders.workload(builders.dataset(3, 2, 2)).network
    made = [backend._compiled(images, network, "float32", 1, False) for images in range(9001, 9011)]
    originals = [function._torchdynamo_orig_callable.__code__ for function in made]
    assert len(set(map(id, originals))) == 10
    assert backend._compiled(9001, network, "float32", 1, False) is made[0]


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
    monkeypatch.setattr(backend.TorchTrainer, "_widened", full)
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
    if way.onednn and not mlp.has_onednn(task.dtype):
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
    monkeypatch.setattr(mlp, "_SMALL", 0)
    monkeypatch.setattr(torch_random, "compiled", no_compiler)
    mlp._fastest_way.cache_clear()
    try:
        with registry.get_backend("torch").start(task, data, builders.initial(task)) as trainer:
            trainer.advance(3)
            assert trainer.describe().kernel.endswith("(torch.compile failed: RuntimeError)")
    finally:
        mlp._fastest_way.cache_clear()


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
