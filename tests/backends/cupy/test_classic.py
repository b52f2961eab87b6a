"""CuPy's trainers of the classic, on a stand-in that runs the kernel on the CPU (tests/support/cuda/host.py)."""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mnistbench.agreement import Trajectory, check
from mnistbench.backends import Backend, Trainer
from mnistbench.backends.base import Arithmetic
from mnistbench.datasets import Dataset, Split, load_data
from mnistbench.exceptions import BackendUnavailable
from mnistbench.reference.parameters import Parameters
from mnistbench.task.presets import preset
from mnistbench.task.workload import DType, Network, Workload
from tests.support import builders
from tests.support.builders import identical
from tests.support.cuda.host import ATTRIBUTES, StandIn, needs_compiler


def backend(name: str = "backend") -> Backend:
    module: Any = importlib.import_module(f"mnistbench.backends.cupy.{name}")
    found: Backend = module.CupyBackend() if name == "backend" else module.CupyPlainBackend()
    return found


def task(dtype: DType, classes: int = 5) -> tuple[Workload, Dataset]:
    """Return a task of 37 images of 13 pixels, two of which are zero in every image."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 13), dtype=np.uint8)
    images[rng.random(images.shape) < 0.4] = 0
    images[:37, [0, 7]] = 0
    labels = rng.integers(0, classes, 60)
    splits = [Split(images[a:b], labels[a:b]) for a, b in ((0, 37), (37, 50), (50, 60))]
    return Workload(Network((13, 6, classes)), 37, 3, dtype=dtype), Dataset("random", (1, 13), classes, *splits)


def started(dtype: DType = "float32", name: str = "backend") -> Trainer:
    workload, dataset = task(dtype)
    return backend(name).start(workload, dataset, Parameters.initial(workload.network, 0))


# The last has labels beyond a byte, and is computed by array operations.
@needs_compiler
@pytest.mark.usefixtures("cupy")
@pytest.mark.parametrize("classes", [5, 300])
def test_the_trajectory_agrees_with_the_reference(dtype: DType, classes: int) -> None:
    workload, dataset = task(dtype, classes)
    found = check(backend(), workload, dataset, Trajectory(workload, dataset))
    assert found.passed, found.summary()


@needs_compiler
@pytest.mark.usefixtures("cupy")
def test_the_description_has_the_gpu_and_its_times(dtype: DType) -> None:
    backend().warm_up(task(dtype)[0])
    with started(dtype) as trainer:
        for iterations in (1, 2, 1):
            trainer.advance(iterations)
        description = trainer.describe()
    assert description.device == "stand-in"
    assert description.kernel.startswith("one persistent launch, ")
    assert description.skips is not None
    assert description.skips.startswith("2 of 13 pixels, which are zero in every image")
    assert {"cupy", "cuda", "cuda driver"} <= set(description.versions)
    gpu = description.gpu or {}
    assert (gpu["device_seconds"], gpu["device_iterations"]) == (0.002, 2)
    assert {"memory_bytes", "peak_memory_bytes", "compute_capability", "registers", "shared_bytes"} <= set(gpu)


@needs_compiler
@pytest.mark.usefixtures("cupy")
def test_another_trainer_of_the_same_kernel_takes_no_shared_memory_away(dtype: DType) -> None:
    dataset = builders.dataset(300, 13, 5)
    workload = builders.workload(dataset, dtype=dtype)
    chosen = backend()
    with chosen.start(workload, dataset, builders.initial(workload)) as trainer:
        chosen.warm_up(workload)  # on two images
        trainer.advance(1)
        assert trainer.describe().kernel.startswith("one persistent launch, ")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"attributes": ATTRIBUTES | {"CooperativeLaunch": 0}}, "the device has no cooperative launch"),
        ({"blocks_at_once": 0}, "of its 2 blocks 0 can run at once"),
        ({"compute_capability": "61"}, "compute capability 6.1 is below 7.0"),
    ],
)
def test_a_device_that_cannot_run_the_kernel_computes_by_arrays(
    cupy: StandIn, dtype: DType, change: dict[str, Any], reason: str
) -> None:
    vars(cupy).update(change)
    workload, dataset = task(dtype)
    found = check(backend(), workload, dataset, Trajectory(workload, dataset))
    assert found.passed, found.summary()
    with started(dtype) as trainer:
        description = trainer.describe()
    assert description.kernel.endswith(f"not persistent: {reason}")
    assert description.skips is None


@pytest.mark.usefixtures("cupy")
def test_the_plain_backend_is_measured_by_the_same_clock(dtype: DType) -> None:
    with started(dtype, "plain") as trainer:
        trainer.advance(3)
        description = trainer.describe()
    assert description.kernel == "CuPy array operations, cuBLAS products"
    assert description.gpu is not None
    assert (description.gpu["device_seconds"], description.gpu["device_iterations"]) == (0.002, 3)


@pytest.mark.parametrize("name", ["backend", "plain"])
def test_too_many_images_are_refused_in_one_line(cupy: StandIn, dtype: DType, name: str) -> None:
    cupy.limit = 1500 if name == "backend" else 100  # bytes: the first there has room for some arrays
    with pytest.raises(BackendUnavailable) as caught:
        started(dtype, name)
    assert caught.value.reason == f"37 images in {dtype} do not fit into the GPU's memory: 1.0 of 2.0 GiB are free"
    assert caught.value.fix == "use fewer images (--train-size)"
    assert (len(cupy._arrays) > 1) == (name == "backend")
    assert cupy.held_when_freed == [0]


@needs_compiler
@pytest.mark.parametrize("method", ["advance", "gradients"])
@pytest.mark.parametrize("name", ["backend", "plain"])
def test_memory_that_runs_out_later_is_the_same_line(
    cupy: StandIn, monkeypatch: pytest.MonkeyPatch, name: str, method: str
) -> None:
    def full(*arguments: Any, **names: Any) -> Any:
        raise cupy.cuda.memory.OutOfMemoryError

    with started(name=name) as trainer:
        if method == "advance" and name == "backend":  # it allocates nothing, but the launch may
            monkeypatch.setattr(trainer, "_kernel", SimpleNamespace(kernel=full))
        else:
            for function in ("maximum", "empty", "empty_like"):
                monkeypatch.setattr(cupy, function, full)
        with pytest.raises(BackendUnavailable, match="37 images in float32 do not fit into the GPU's memory"):
            trainer.advance(1) if method == "advance" else trainer.gradients()


def test_missing_parts_of_cuda_are_one_line(cupy: StandIn, dtype: DType) -> None:
    causes = [
        RuntimeError("Failed to find CUDA headers.\nPlease install"),  # CuPy before it compiles
        ImportError("libnvrtc.so.13: cannot open"),
        cupy.cuda.compiler.CompileException("error: invalid value for --gpu-architecture\n"),
    ]
    for cause in causes:

        def refuse(*arguments: Any, cause: Exception = cause, **names: Any) -> Any:
            raise cause

        cupy.RawModule = refuse  # type: ignore[method-assign]
        with pytest.raises(BackendUnavailable) as caught:
            started(dtype)
        assert caught.value.reason == " ".join(str(cause).split())
        assert caught.value.fix is not None
        assert "pip install 'mnistbench[cuda12]'" in caught.value.fix
        for kept in ("backend", "classic.trainer"):  # they cache compiled modules
            sys.modules.pop(f"mnistbench.backends.cupy.{kept}")


def test_a_driver_that_is_too_old_is_named(cupy: StandIn) -> None:
    def refuse() -> int:
        raise cupy.runtime.CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is\n insufficient")

    cupy.runtime.getDeviceCount = refuse  # type: ignore[attr-defined]
    found = backend().availability()
    assert not found.usable
    assert found.reason == "no usable NVIDIA GPU: cudaErrorInsufficientDriver: CUDA driver version is insufficient"
    assert found.fix is not None
    assert "driver" in found.fix


@needs_compiler
@pytest.mark.usefixtures("cupy")
@pytest.mark.parametrize("unknown", ["nothing", "clocks_event_reasons", "clocks_throttle_reasons"])
@pytest.mark.parametrize("name", ["backend", "plain"])
def test_clocks_are_read_while_the_gpu_works_whatever_the_driver_calls_them(
    name: str, unknown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(
        f"#!/bin/sh\ncase $* in *{unknown}*) exit 2;; esac\n"
        f"while ! test -e {tmp_path}/worked; do sleep 0.01; done\n"
        "echo 580.65.06, 1200, 1980, 3201, 0x0000000000000004\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with started(name=name) as trainer:
        trainer.advance(2)
        counts: list[int] = []

        def repeat(iterations: int) -> None:
            counts.append(iterations)
            if len(counts) > 3:
                (tmp_path / "worked").touch()

        monkeypatch.setattr(trainer, "_repeat", repeat)
        gpu = trainer.describe().gpu or {}
    assert (gpu["clock_sm_mhz"], gpu["throttled"]) == (1200, "power cap")
    assert set(counts) == {50}  # two of them take 2 ms on the stand-in's clock


@needs_compiler
@pytest.mark.usefixtures("cupy")
@pytest.mark.parametrize("name", ["backend", "plain"])
def test_the_work_that_keeps_the_gpu_busy_changes_nothing(name: str, dtype: DType) -> None:
    with started(dtype, name) as trainer:
        trainer.advance(1)
        before = trainer.parameters()
        trainer._repeat(2)  # type: ignore[attr-defined]
        assert identical(trainer.parameters(), before)
        trainer.advance(1)


@needs_compiler
@pytest.mark.usefixtures("cupy")
def test_every_variant_is_timed_and_every_phase_has_its_cycles(dtype: DType) -> None:
    profile: Any = importlib.import_module("mnistbench.backends.cupy.classic.profile")
    workload = preset("smoke", dtype)
    report = profile.report(replace(workload, images=100, iterations=2))
    assert [line.split(":")[0] for line in report[::2]] == [
        f"{dtype}  {name}"
        for name, variant in profile.VARIANTS.items()
        if dtype == "float32" or not (variant.digits is not None or variant.epochs)
    ]
    assert all("2.000 ms  (one persistent launch, " in line for line in report[::2])
    phases = "  ".join(f"{phase} {2 * number + 1}" for number, phase in enumerate(profile.PHASES))
    assert report[1::2] == [phases] * (len(report) // 2)


def states(workload: Workload, dataset: Dataset, digits: int, epochs: bool) -> list[object]:
    """Return what a trainer computes in several launches, with epochs or with barriers.

    With epochs it comes past the end of 32 bits.
    """
    trainers: Any = importlib.import_module("mnistbench.backends.cupy.classic.trainer")
    initial = Parameters.initial(workload.network, 0)
    variant = trainers.Variant(digits, epochs=epochs)
    with trainers.load("cupy", workload, dataset, initial, variant) as trainer:
        assert trainer.plan.epochs == epochs
        found = [trainer.advance(2), trainer.parameters(), trainer.gradients()]
        if epochs:  # three epochs before the last
            trainer._epoch = 0xFFFFFFFC
            trainer._parameters.view(np.uint32)[:, 1] = trainer._epoch
        for iterations in (2, 3):
            trainer._repeat(2)
            found += [trainer.advance(iterations), trainer.parameters(), trainer.gradients()]
        assert not epochs or trainer._epoch < 100
        trainer.reset(initial)
        return [*found, trainer.advance(2), trainer.parameters()]


def check_that_epochs_change_no_bit(workload: Workload, dataset: Dataset, digits: int) -> None:
    with_barriers, with_epochs = (states(workload, dataset, digits, epochs) for epochs in (False, True))
    for one, other in zip(with_barriers, with_epochs, strict=True):
        if isinstance(one, Parameters) and isinstance(other, Parameters):
            assert identical(one, other)
        else:
            assert one == other


@needs_compiler
@pytest.mark.usefixtures("cupy")
def test_epochs_go_on_over_calls_resets_and_the_end_of_32_bits() -> None:
    check_that_epochs_change_no_bit(*task("float32"), digits=4)


@needs_compiler
@pytest.mark.usefixtures("cupy")
@pytest.mark.parametrize("when", ["before the launch", "after the launch", "while counting anew"])
def test_after_an_interrupt_epochs_are_counted_anew(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trainers: Any = importlib.import_module("mnistbench.backends.cupy.classic.trainer")
    workload, dataset = task("float32")
    initial = Parameters.initial(workload.network, 0)
    found = []
    for epochs in (False, True):
        with trainers.load("cupy", workload, dataset, initial, trainers.Variant(epochs=epochs)) as trainer:
            trainer.advance(2)
            own = trainer._kernel

            def interrupted(*arguments: Any, own: Any = own, **names: Any) -> None:
                if when == "after the launch":
                    own.kernel(*arguments, **names)
                raise KeyboardInterrupt

            with monkeypatch.context() as patch:
                if when == "while counting anew" and epochs:
                    trainer._epoch = 0xFFFFFFFE
                    trainer._parameters.view(np.uint32)[:, 1] = trainer._epoch
                    patch.setattr(trainers.cp, "asarray", interrupted)
                else:
                    patch.setattr(trainer, "_kernel", SimpleNamespace(kernel=interrupted))
                with pytest.raises(KeyboardInterrupt):
                    trainer.advance(2)
            found.append([trainer.advance(1).loss, *trainer.parameters().weights])
            assert trainer._epoch < 10
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("cupy")
@pytest.mark.parametrize(
    ("digits", "arithmetic", "kernel"),
    [
        (None, Arithmetic(8, 4), "integer matrix units, "),
        (3, Arithmetic(8, 3), "integer matrix units with three digits, "),
        (0, Arithmetic(), "multiply-adds, "),
    ],
)
def test_a_variant_is_described(digits: int | None, arithmetic: Arithmetic, kernel: str) -> None:
    trainer: Any = importlib.import_module("mnistbench.backends.cupy.classic.trainer")
    workload, dataset = task("float32")
    initial = Parameters.initial(workload.network, 0)
    with trainer.load("cupy", workload, dataset, initial, trainer.Variant(digits)) as loaded:
        description = loaded.describe()
    assert description.arithmetic == arithmetic
    assert kernel in description.kernel


# On a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("similar", [False, True])
@pytest.mark.parametrize("digits", [0, 3, 4])
@pytest.mark.parametrize("epochs", [False, True])
def test_every_variant_agrees_on_the_gpu(
    epochs: bool, digits: int, similar: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    persistent: Any = importlib.import_module("mnistbench.backends.cupy.backend")
    trainer: Any = importlib.import_module("mnistbench.backends.cupy.classic.trainer")
    device = trainer.properties()
    if digits and device.compute_capability < 80:
        pytest.skip("this GPU's matrix units have no such instruction")
    # So little shared memory that images are streamed, too.
    monkeypatch.setattr(trainer, "properties", lambda: replace(device, shared_bytes=min(device.shared_bytes, 150_000)))
    loaded = []

    def load(*arguments: Any) -> Any:
        found = trainer.load(*arguments, trainer.Variant(digits, similar, epochs=epochs))
        loaded.append(found.plan.resident_share)
        return found

    monkeypatch.setattr(persistent, "load", load)
    for images in (1_000, 41_000):
        dataset = load_data(train_size=images)
        workload = Workload(dataset.network(10), images, 20)
        outcome = check(persistent.CupyBackend(), workload, dataset, Trajectory(workload, dataset))
        assert outcome.passed, outcome.summary()
        assert (loaded[-1] == 1) == (images == 1_000)


@pytest.mark.gpu
@pytest.mark.parametrize("digits", [0, 3, 4])
@pytest.mark.parametrize("images", [1_000, 41_000])
def test_epochs_change_no_bit_on_the_gpu(images: int, digits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    trainers: Any = importlib.import_module("mnistbench.backends.cupy.classic.trainer")
    device, module = trainers.properties(), trainers._module
    if digits and device.compute_capability < 80:
        pytest.skip("this GPU's matrix units have no such instruction")
    # So little shared memory that images are streamed, too.
    monkeypatch.setattr(trainers, "properties", lambda: replace(device, shared_bytes=min(device.shared_bytes, 150_000)))
    # A value of a wrong epoch stops the kernel with an error.
    monkeypatch.setattr(trainers, "_module", lambda units, macros: module(units, (*macros, ("CHECKED", "1"))))
    dataset = load_data(train_size=images)
    check_that_epochs_change_no_bit(Workload(dataset.network(10), images, 20), dataset, digits)
