"""JAX only: blocks of images, the thread pool, and 64-bit types for single trainers."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import mnistbench.backends as registry
from mnistbench.agreement import Agreement, Trajectory, check_trainer
from mnistbench.backends import Arithmetic
from mnistbench.exceptions import BackendUnavailable, OptionError
from mnistbench.machine import nvidia
from mnistbench.task.recipe import Optimizer, Recipe
from mnistbench.task.workload import DType, Network, Workload
from tests.support import builders, options
from tests.support.builders import identical
from tests.support.paths import ROOT

jax: Any = pytest.importorskip("jax")
backend: Any = pytest.importorskip("mnistbench.backends.jax.classic")
storages: Any = pytest.importorskip("mnistbench.backends.jax.storage")
jax_device: Any = pytest.importorskip("mnistbench.backends.jax.device")


@pytest.fixture(scope="module")
def trajectory() -> Trajectory:
    data = builders.dataset(67, 13, 5)
    return Trajectory(builders.workload(data), data)


@pytest.mark.parametrize("block", [1, 16, 67, 100])
def test_agrees_in_blocks_of_any_size(trajectory: Trajectory, dtype: DType, block: int) -> None:
    task = trajectory.workload.with_dtype(dtype)
    threads = jax_device.threads_in_effect(None)
    with backend.JaxTrainer(task, trajectory.dataset, trajectory.initial, threads, backend.Way(block)) as trainer:
        found = check_trainer(trainer, Agreement("jax", dtype), trajectory)
        assert found.passed, found.summary()
        assert f"{block} images at a time" in trainer.describe().kernel or block >= 67
        # The last block's padding is stored and read too.
        assert trainer.describe().bytes_read == 2 * -(-67 // block) * block * 13 * task.itemsize


@pytest.mark.parametrize("storage", ["columns", "bytes", "bytes in columns", "split", "split in columns"])
def test_agrees_however_the_images_are_stored(trajectory: Trajectory, dtype: DType, storage: str) -> None:
    if "split" in storage and dtype == "float64":
        pytest.skip("three bfloat16 numbers hold a float32 number")
    task, way = trajectory.workload.with_dtype(dtype), backend.Way(67, storage)
    with backend.JaxTrainer(task, trajectory.dataset, trajectory.initial, 1, way) as trainer:
        found = check_trainer(trainer, Agreement("jax", dtype), trajectory)
        assert found.passed, found.summary()
        size = 2 if "split" in storage else 1 if "bytes" in storage else task.itemsize
        assert trainer.describe().bytes_read == 2 * 67 * 13 * size


def test_three_bfloat16_numbers_hold_a_float32_number_and_two_do_not() -> None:
    A = np.random.default_rng(0).normal(size=(10, 1000)).astype(np.float32)
    parts = np.asarray(jax.jit(storages.split)(A).astype("float32"), np.float64).reshape(3, 10, 1000)
    assert np.array_equal(parts.sum(0), A.astype(np.float64))
    assert not np.array_equal(parts[:2].sum(0), A.astype(np.float64))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_gpu_tries_other_storages_and_a_cpu_does_not(dtype: DType) -> None:
    task = Workload(Network((784, 10, 10)), 41_000, dtype=dtype)
    plain, others = backend.ways(task, on_gpu=True)
    assert [way.storage for way in plain] == ["rows"] * 2
    split = {"split", "split in columns"} if dtype == "float32" else set()
    assert {way.storage for way in others} == {"columns", "bytes", "bytes in columns"} | split
    assert backend.ways(task, on_gpu=False) == (plain, [])


def test_a_way_that_fails_is_said_and_the_fastest_of_the_others_is_taken(
    trajectory: Trajectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "ways", lambda *_: ([backend.Way(67)], [backend.Way(67, "broken")]))
    broken = storages.STORAGES["rows"]._replace(told=", broken", product=lambda W, X: 1 / 0)
    monkeypatch.setitem(storages.STORAGES, "broken", broken)
    backend.fastest.cache_clear()
    try:
        with registry.get_backend("jax").start(trajectory.workload, trajectory.dataset, trajectory.initial) as trainer:
            failed = trainer.describe().failed
            assert failed == "67 images at a time, broken failed: ZeroDivisionError: division by zero"
    finally:
        backend.fastest.cache_clear()


def test_parts_of_loops_of_a_fixed_length_end_in_the_same_bits(
    trajectory: Trajectory, dtype: DType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: iterations beyond those asked for change nothing."""
    mlp = options.task(dtype, batch_size=16, optimizer=Optimizer("adam"), dropout=(0.3,))
    classic = trajectory.workload.with_dtype(dtype)
    for task, data in ((classic, trajectory.dataset), (mlp, options.DATA)):
        ends: list[tuple[Any, Any]] = []
        for length, parts in ((None, [9]), (4, [9]), (4, [1, 5, 3])):
            monkeypatch.setattr(jax_device, "loop_length", lambda workload, length=length: length)
            with registry.get_backend("jax").start(task, data, builders.initial(task)) as trainer:
                ends.append(([trainer.advance(part) for part in parts][-1], trainer.parameters()))
        (any_length, whole, pieces) = ends
        assert pieces[0] == whole[0]
        assert identical(pieces[1], whole[1])
        tolerance = 100 * float(np.finfo(dtype).eps)
        for own, expected in zip(whole[1].arrays(), any_length[1].arrays(), strict=True):
            assert own == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize(("length", "waits"), [(None, True), (4, False)])
def test_a_loop_of_a_fixed_length_asks_the_host_for_nothing(
    length: int | None, waits: bool, trajectory: Trajectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XLA on a GPU lets the host read the condition of ``while`` and ``cond``, but not of a loop of a known length."""
    programs: list[str] = []
    compiled = jax.jit

    def traced(function: Any) -> Any:
        program = compiled(function)

        def run(*arguments: Any) -> Any:
            programs.append(str(jax.make_jaxpr(function)(*arguments)))
            return program(*arguments)

        return run

    monkeypatch.setattr(jax_device, "loop_length", lambda workload: length)
    monkeypatch.setattr(jax, "jit", traced)
    mlp: Any = importlib.import_module("mnistbench.backends.jax.mlp")
    for module in (backend, mlp):
        module._programs.cache_clear()
    try:
        task = options.task("float32", batch_size=16, dropout=(0.3,))
        for one, images in ((task, options.DATA), (trajectory.workload.with_dtype("float32"), trajectory.dataset)):
            with registry.get_backend("jax").start(one, images, builders.initial(one)) as trainer:
                del programs[:]
                trainer.advance(3)
                assert programs
                assert ["while[" in program for program in programs] == [waits] * len(programs)
                assert not any("cond[" in program for program in programs)
    finally:
        for module in (backend, mlp):
            module._programs.cache_clear()
        backend.fastest.cache_clear()


@pytest.mark.parametrize(("images", "batch", "length", "wasted"), [(59_000, 128, 11, 1), (41_000, None, 10, 0)])
def test_few_iterations_of_an_epoch_are_wasted(
    images: int, batch: int | None, length: int, wasted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Workload(Network((784, 10, 10)), images, recipe=Recipe(batch_size=batch))
    assert jax_device.loop_length(task) is None
    monkeypatch.setattr(jax_device, "device", lambda: jax_device.Device(None, "Some GPU", 8))
    assert jax_device.loop_length(task) == length
    assert -(task.iterations_per_epoch if batch else task.iterations) % length == wasted
    assert [*jax_device.calls(23, 10)] == [10, 10, 3]
    assert [*jax_device.calls(23, None)] == [23]


@pytest.mark.parametrize("name", ["classic", "mlp"])
def test_a_gpu_tells_its_memory_and_clocks_under_load(
    name: str, trajectory: Trajectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = trajectory.workload if name == "classic" else options.task(batch_size=16)
    data = trajectory.dataset if name == "classic" else options.DATA
    own = SimpleNamespace(
        id=1, compute_capability="9.0", memory_stats=lambda: {"bytes_limit": 80, "peak_bytes_in_use": 5}
    )
    monkeypatch.setattr(nvidia, "bus_id", lambda ordinal: f"bus {ordinal}")

    def ask(bus: str, work: Any) -> dict[str, Any]:
        assert bus == "bus 1"
        for _ in range(3):
            work()
        return {"driver_version": "580", "clock_sm_mhz": 1980, "throttled": None}

    monkeypatch.setattr(nvidia, "ask", ask)
    with registry.get_backend("jax").start(task, data, builders.initial(task)) as trainer:
        trainer.advance(2)
        before = trainer.parameters()
        real = jax_device.device()
        monkeypatch.setattr(jax_device, "device", lambda: jax_device.Device(own, "Some GPU", 8))
        monkeypatch.setattr(
            trainer, "_placed", lambda array, dtype: jax.device_put(np.array(array, dtype), real.device)
        )
        found = trainer.describe()
        assert identical(trainer.parameters(), before)
    memory = {"memory_bytes": 80, "peak_memory_bytes": 5, "compute_capability": "90"}
    assert (found.gpu, found.device) == ({**memory, "clock_sm_mhz": 1980, "throttled": None}, "Some GPU")
    assert found.versions["nvidia driver"] == "580"
    assert found.arithmetic == Arithmetic(bits=64)


def test_padding_of_a_block_is_not_counted(dtype: DType) -> None:
    data = builders.dataset(1, 13, 5, ink=1.0)
    task = builders.workload(data, dtype=dtype)
    ways = [
        backend.JaxTrainer(task, data, builders.initial(task), jax_device.threads_in_effect(None), backend.Way(block))
        for block in (1, 50)
    ]
    alone, filled = ([trainer.advance(1) for _ in range(5)] for trainer in ways)
    assert [metrics.accuracy for metrics in filled] == [metrics.accuracy for metrics in alone]
    tolerance = 50 * float(np.finfo(dtype).eps)
    for a, b in zip(alone, filled, strict=True):
        assert b.loss == pytest.approx(a.loss, rel=tolerance)


def test_the_size_of_a_block_is_found_once(monkeypatch: pytest.MonkeyPatch, trajectory: Trajectory) -> None:
    seen = []
    initialise = backend.JaxTrainer.__init__

    def note(self: Any, *arguments: Any) -> None:
        seen.append(arguments[4].block)
        initialise(self, *arguments)

    monkeypatch.setattr(backend.JaxTrainer, "__init__", note)
    monkeypatch.setattr(backend, "_SMALL", 0)
    monkeypatch.setattr(backend, "_BLOCK", 20)
    backend.fastest.cache_clear()
    try:
        chosen = registry.get_backend("jax")
        chosen.warm_up(trajectory.workload)
        assert seen == [67, 23]  # all at once, and three blocks with two images of padding
        with chosen.start(trajectory.workload, trajectory.dataset, trajectory.initial):
            assert seen[2:] in ([67], [23])
    finally:
        backend.fastest.cache_clear()


def test_a_float64_trainer_does_not_change_the_process(trajectory: Trajectory) -> None:
    """Trainers of both dtypes compute the same in either mode of the process, and leave the mode unchanged."""
    chosen, data, initial = registry.get_backend("jax"), trajectory.dataset, trajectory.initial
    task32, task64 = (trajectory.workload.with_dtype(dtype) for dtype in ("float32", "float64"))
    alone = []
    for task in (task32, task64):
        with chosen.start(task, data, initial) as trainer:
            alone.append((trainer.advance(5), trainer.parameters()))
    assert jax.numpy.ones(1).dtype == "float32"
    with jax.enable_x64(True), chosen.start(task32, data, initial) as first:
        with jax.enable_x64(False), chosen.start(task64, data, initial) as second:
            found = [(trainer.advance(5), trainer.parameters()) for trainer in (first, second)]
        assert jax.numpy.ones(1).dtype == "float64"
    for (metrics, parameters), (expected, wanted) in zip(found, alone, strict=True):
        assert metrics == expected
        assert identical(parameters, wanted)


@pytest.mark.parametrize(
    ("message", "kind", "shown"),
    [
        (
            "RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.\nMore lines.",
            BackendUnavailable,
            "^backend jax is unavailable: 67 images in float64 do not fit into the memory of the CPU; "
            r"use fewer images \(--train-size\)$",
        ),
        ("INTERNAL: broken", jax.errors.JaxRuntimeError, "INTERNAL"),
    ],
)
def test_too_many_images_are_one_line_and_other_errors_are_raised(
    monkeypatch: pytest.MonkeyPatch, trajectory: Trajectory, message: str, kind: type[Exception], shown: str
) -> None:
    def fail(*arguments: Any) -> None:
        raise jax.errors.JaxRuntimeError(message)

    with registry.get_backend("jax").start(trajectory.workload, trajectory.dataset, trajectory.initial) as trainer:
        monkeypatch.setattr(trainer, "_programs", backend._Programs(fail, fail, fail))
        for use in (lambda: trainer.advance(1), trainer.gradients):
            with pytest.raises(kind, match=shown):
                use()


def python(program: str, **environment: str) -> str:
    """Run a program in a new interpreter; return its output."""
    variables = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"} | environment
    run = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


THREADS = """
import sys, mnistbench.backends as registry
from mnistbench.exceptions import OptionError
from tests.support import builders
data = builders.dataset(37, 13, 5)
task = builders.workload(data)
counts = []
for threads in (None, 1, 2, 3, 4):
    try:
        with registry.get_backend("jax").start(task, data, builders.initial(task), threads) as trainer:
            trainer.advance(1)
            counts.append(trainer.describe().threads)
    except OptionError as error:
        counts.append("refused")
print(*counts)
comms = [open(f"/proc/self/task/{task}/comm").read().strip() for task in __import__("os").listdir("/proc/self/task")]
print(sum("XLAEigen" in name for name in comms))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads as Linux shows them")
@pytest.mark.parametrize(
    ("pool", "counts"), [("1", "1 1 1 1 1"), ("3", "3 refused refused 3 3"), ("4", "4 refused refused refused 4")]
)
def test_threads_in_effect_are_those_of_the_pool(pool: str, counts: str) -> None:
    """The process has as many threads of XLA's pool as the trainer reports."""
    assert python(THREADS, PJRT_NPROC=pool).splitlines() == [counts, pool]


def test_jax_knows_no_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without ``PJRT_NPROC`` has as many threads as it has allowed CPUs, and says so."""
    for name in ("PJRT_NPROC", "NPROC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(7)), raising=False)
    monkeypatch.setattr("mnistbench.threads._quotas", lambda root: [2.0])
    assert jax_device.device.__wrapped__().pool == 7


def test_the_number_of_threads_of_the_command_line_takes_effect() -> None:
    program = (
        "from mnistbench import threads; threads.limit(3); import mnistbench;"
        "data = mnistbench.load_data(train_size=100, dev_size=50);"
        "print(mnistbench.train(data, backend='jax', iterations=2, threads=3).description.threads)"
    )
    assert python(program) == "3\n"


def test_a_number_of_threads_that_cannot_be_had_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax_device, "device", lambda: jax_device.Device(None, "CPU", 8))
    with pytest.raises(
        OptionError, match=r"2 threads: JAX has had 8 since .* PJRT_NPROC=2 before that, or --threads 2"
    ):
        jax_device.threads_in_effect(2)
    assert [jax_device.threads_in_effect(threads) for threads in (8, 9, None)] == [8, 8, 8]
    with pytest.raises(OptionError, match="1 thread: JAX has had 8 since"):
        jax_device.threads_in_effect(1)


def test_a_gpu_is_named_and_has_one_thread_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax_device, "device", lambda: jax_device.Device(None, "Some GPU", 8))
    assert registry.get_backend("jax").availability().device == "Some GPU"
    assert jax_device.threads_in_effect(5) == 1


def test_a_gpus_memory_is_not_taken_in_advance() -> None:
    program = (
        "import os, mnistbench.backends as registry; registry.get_backend('jax');"
        "print(os.environ['XLA_PYTHON_CLIENT_PREALLOCATE'])"
    )
    assert python(program) == "false\n"
    assert python(program, XLA_PYTHON_CLIENT_PREALLOCATE="true") == "true\n"  # the user's choice is kept


def test_any_number_of_iterations_uses_one_compilation(trajectory: Trajectory, dtype: DType) -> None:
    data = builders.dataset(29, 11, 3)
    task: Workload = builders.workload(data, dtype=dtype)
    with registry.get_backend("jax").start(task, data, builders.initial(task)) as trainer:
        trainer.advance(1)
        before = trainer._programs.train._cache_size()  # type: ignore[attr-defined]
        for iterations in (2, 7, 30):
            trainer.advance(iterations)
        assert trainer._programs.train._cache_size() == before  # type: ignore[attr-defined]
