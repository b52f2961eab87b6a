"""JAX only: blocks of images, the thread pool, and 64-bit types for single trainers."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import mnistbench.backends as registry
from mnistbench.agreement import Agreement, Trajectory, check_trainer
from mnistbench.exceptions import BackendUnavailable, OptionError
from mnistbench.task.workload import DType, Workload
from tests.support import builders
from tests.support.builders import identical
from tests.support.paths import ROOT

jax: Any = pytest.importorskip("jax")
backend: Any = pytest.importorskip("mnistbench.backends.jax.classic")
jax_device: Any = pytest.importorskip("mnistbench.backends.jax.device")


@pytest.fixture(scope="module")
def trajectory() -> Trajectory:
    data = builders.dataset(67, 13, 5)
    return Trajectory(builders.workload(data), data)


@pytest.mark.parametrize("block", [1, 16, 67, 100])
def test_agrees_in_blocks_of_any_size(trajectory: Trajectory, dtype: DType, block: int) -> None:
    task = trajectory.workload.with_dtype(dtype)
    threads = jax_device.threads_in_effect(None)
    with backend.JaxTrainer(task, trajectory.dataset, trajectory.initial, threads, block) as trainer:
        found = check_trainer(trainer, Agreement("jax", dtype), trajectory)
        assert found.passed, found.summary()
        assert f"{block} images at a time" in trainer.describe().kernel or block >= 67
        # The last block's padding is stored and read too.
        assert trainer.describe().bytes_read == 2 * -(-67 // block) * block * 13 * task.itemsize


def test_padding_of_a_block_is_not_counted(dtype: DType) -> None:
    data = builders.dataset(1, 13, 5, ink=1.0)
    task = builders.workload(data, dtype=dtype)
    ways = [
        backend.JaxTrainer(task, data, builders.initial(task), jax_device.threads_in_effect(1), block)
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
        seen.append(arguments[-1])
        initialise(self, *arguments)

    monkeypatch.setattr(backend.JaxTrainer, "__init__", note)
    monkeypatch.setattr(backend, "_SMALL", 0)
    monkeypatch.setattr(backend, "_BLOCK", 20)
    backend.fastest_block.cache_clear()
    try:
        chosen = registry.get_backend("jax")
        chosen.warm_up(trajectory.workload)
        assert seen == [67, 23]  # all at once, and three blocks with two images of padding
        with chosen.start(trajectory.workload, trajectory.dataset, trajectory.initial):
            assert seen[2:] in ([67], [23])
    finally:
        backend.fastest_block.cache_clear()


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
    ("pool", "counts"), [("1", "1 1 1 1 1"), ("3", "3 1 refused 3 3"), ("4", "4 1 refused refused 4")]
)
def test_threads_in_effect_are_those_of_the_pool_or_one(pool: str, counts: str) -> None:
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
    assert [jax_device.threads_in_effect(threads) for threads in (1, 8, 9, None)] == [1, 8, 8, 8]


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
