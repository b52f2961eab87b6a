"""The limits of a GPU, without one: its loops run on the CPU, and are timed on a clock that says how long they took."""

from __future__ import annotations

import ctypes
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mnistbench import machine
from mnistbench.machine import limits
from mnistbench.machine.rates import GpuLimits
from mnistbench.task.workload import DTYPES
from tests.support.cuda.host import needs_compiler
from tests.support.cuda.nvrtc import compile_for_gpu

SOURCE = Path(machine.__file__).with_name("limits.cu")
GPU = "mnistbench.machine.gpu"

# What a thread of the GPU knows, and one after the other of them.
_ON_THE_CPU = """
#define __global__
struct Index { unsigned x; };
static thread_local Index blockIdx, threadIdx, blockDim, gridDim;
struct ulonglong2 { unsigned long long x, y; };
static ulonglong2 __ldcg(const ulonglong2* place) { return *place; }
#include "limits.cu"
template <typename Kernel> void launch(unsigned blocks, unsigned threads, Kernel kernel) {
    gridDim.x = blocks, blockDim.x = threads;
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x)
        for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x) kernel();
}
extern "C" void run_multiply_adds(unsigned blocks, unsigned threads, REAL* results, double value, int steps) {
    launch(blocks, threads, [=] { multiply_adds(results, value, steps); });
}
extern "C" void run_read_words(unsigned blocks, unsigned threads, unsigned long long* results,
                               const ulonglong2* words, long long count, int passes) {
    launch(blocks, threads, [=] { read_words(results, words, count, passes); });
}
"""


@pytest.fixture(scope="module", params=DTYPES)
def loops(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ctypes.CDLL]:
    """A dtype, and the loops compiled for the CPU with multiply-adds in it."""
    folder = tmp_path_factory.mktemp("loops")
    (folder / "loops.cpp").write_text(_ON_THE_CPU)
    real = {"float32": "float", "float64": "double"}[request.param]
    macros = [f"-DREAL={real}", "-DCHAINS=8"]
    command = ["g++", "-std=c++17", "-O1", "-w", "-shared", "-fPIC", *macros, f"-I{SOURCE.parent}", "loops.cpp"]
    subprocess.run([*command, "-o", "loops.so"], cwd=folder, check=True)
    return request.param, ctypes.CDLL(str(folder / "loops.so"))


def pointer(array: Any) -> ctypes.c_void_p:
    found: ctypes.c_void_p = array.ctypes.data_as(ctypes.c_void_p)
    return found


@pytest.mark.process
@needs_compiler
@pytest.mark.parametrize("count", [0, 1, 5, 6, 7, 48, 1000])
@pytest.mark.parametrize("passes", [1, 3])
def test_all_threads_together_read_every_word(loops: tuple[str, ctypes.CDLL], count: int, passes: int) -> None:
    words = np.random.default_rng(count).integers(0, 2**64, 2 * count, np.uint64)
    results = np.zeros(6, np.uint64)
    loops[1].run_read_words(2, 3, pointer(results), pointer(words), ctypes.c_longlong(count), passes)
    assert sum(results.tolist()) % 2**64 == passes * sum(words.tolist()) % 2**64


@pytest.mark.process
@needs_compiler
@pytest.mark.parametrize("steps", [0, 1, 40])
def test_every_chain_of_every_thread_is_computed(loops: tuple[str, ctypes.CDLL], steps: int) -> None:
    dtype, library = loops
    chains = 0.5 + np.arange(8.0)
    for _ in range(steps):
        chains = chains * 0.5 + 0.5
    results = np.zeros(6, dtype)
    library.run_multiply_adds(2, 3, pointer(results), ctypes.c_double(0.5), steps)
    assert results == pytest.approx([chains.sum()] * 6, rel=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_loops_are_the_gpus_own_instructions(dtype: str) -> None:
    """Built for a GPU, no chain has become another, and nothing is read from a nearer cache."""
    real, suffix = {"float32": ("float", "f32"), "float64": ("double", "f64")}[dtype]
    ptx = compile_for_gpu("sm_80", SOURCE.read_text(encoding="utf-8"), (f"-DREAL={real}", "-DCHAINS=8")).ptx
    kernels = dict(re.findall(r"\.visible \.entry (\w+)\((.*?)\n}", ptx, re.DOTALL))
    assert [*kernels] == ["multiply_adds", "read_words", "nothing"]
    fused = len(re.findall(rf"fma\.rn\.(?:ftz\.)?{suffix}", kernels["multiply_adds"]))
    assert fused >= 8
    assert fused % 8 == 0
    assert "ld.global" not in kernels["multiply_adds"]
    loads = re.findall(r"ld\.global\.\S+", kernels["read_words"])
    assert len(loads) >= 8
    assert set(loads) == {"ld.global.cg.v2.u64"}


# The part of CuPy that is used, with a device whose clock goes by what was launched.

SECONDS = {"multiply_adds": 1e-6, "read_words": 1e-4, "nothing": 0.0}
"""Seconds of a step, of a pass, of an empty kernel."""


class Device(ModuleType):
    """Two multiprocessors of 1024 threads, 1 MiB of cache, 64 MiB of memory."""

    def __init__(self) -> None:
        super().__init__("cupy")
        self.now = 0.0
        self.launched: list[tuple[str, int, int]] = []
        self.read: set[int] = set()
        self.freed = 0
        attributes = {"MultiProcessorCount": 2, "MaxThreadsPerMultiProcessor": 1024, "L2CacheSize": 1 << 20}
        attributes["ClockRate"] = 1_500_000
        self.capability = "90"
        self.cuda = SimpleNamespace(
            Device=lambda: SimpleNamespace(
                id=0, attributes=attributes, mem_info=(64 << 20, 80 << 20), compute_capability=self.capability
            ),
            Event=lambda: Event(self),
            get_elapsed_time=lambda start, stop: (stop.at - start.at) * 1e3,
            get_current_stream=lambda: Event(self),
            runtime=SimpleNamespace(getDeviceProperties=lambda number: {"name": b"Some GPU"}),
        )
        self.empty, self.ones = np.empty, np.ones

    def RawModule(self, code: str, options: tuple[str, ...]) -> Any:
        assert code == SOURCE.read_text(encoding="utf-8")
        assert {option.split("=")[0] for option in options} == {"-std", "-DREAL", "-DCHAINS"}
        return SimpleNamespace(get_function=lambda name: lambda *launch: self._launch(name, options[1], *launch))

    def _launch(self, name: str, real: str, grid: tuple[int], block: tuple[int], arguments: tuple[Any, ...]) -> None:
        """What a GPU would not forgive: other types, and other sizes than those of the arrays."""
        if name != "nothing":
            results, *_, count = arguments
            assert len(results) == grid[0] * block[0]
            assert isinstance(count, np.int32)
            self.now += SECONDS[name] * int(count)
        if name == "multiply_adds":
            assert real == {np.float32: "-DREAL=float", np.float64: "-DREAL=double"}[type(arguments[1])]
            assert results.dtype == arguments[1].dtype
        if name == "read_words":
            _, words, pairs, _ = arguments
            assert isinstance(pairs, np.int64)
            assert len(words) == 2 * pairs
            assert words.dtype == results.dtype == np.uint64
            self.read.add(words.nbytes)
        self.launched.append((name, grid[0], block[0]))

    def get_default_memory_pool(self) -> Any:
        self.freed += 1
        return SimpleNamespace(free_all_blocks=lambda: None)


class Event:
    def __init__(self, device: Device) -> None:
        self._device = device

    def record(self) -> None:
        self.at = self._device.now

    def synchronize(self) -> None: ...


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    found = Device()
    monkeypatch.setitem(sys.modules, "cupy", found)
    monkeypatch.delitem(sys.modules, GPU, raising=False)
    yield found
    forget()


def forget() -> None:
    """The module that was imported with the stand-in."""
    sys.modules.pop(GPU, None)
    vars(sys.modules["mnistbench.machine"]).pop("gpu", None)


def test_the_rates_are_of_the_work_that_was_launched(device: Device) -> None:
    gpu: Any = importlib.import_module(GPU)
    found: GpuLimits = gpu.measure()
    threads = 2 * 1024
    assert found.name == "Some GPU"
    assert {launch[1:] for launch in device.launched if launch[0] != "nothing"} == {(threads // 256, 256)}
    expected = 2 * gpu.CHAINS * threads / SECONDS["multiply_adds"]
    assert found.multiply_add == pytest.approx(dict.fromkeys(DTYPES, expected))
    assert device.read == {1 << 18, 32 << 20}
    assert [(level.name, level.bytes) for level in found.levels] == [("L2", 1 << 20), ("memory", None)]
    speeds = [level.bytes_per_second for level in found.levels]
    assert speeds == pytest.approx([size / SECONDS["read_words"] for size in (1 << 18, 32 << 20)])
    assert 0 < found.launch_latency < 0.1
    assert sum(launch[0] == "nothing" for launch in device.launched) >= 100
    assert device.freed


@pytest.mark.parametrize(("capability", "matrix"), [("90", 2 * 1.5e9 * 8192), ("120", 2 * 1.5e9 * 2048), ("61", None)])
def test_the_matrix_units_are_the_peak_of_any_dtype(device: Device, capability: str, matrix: float | None) -> None:
    device.capability = capability
    gpu: Any = importlib.import_module(GPU)
    assert gpu.measure().matrix == matrix


def test_they_are_part_of_the_machines_limits(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpu_name", lambda: "Some GPU of the driver")
    found = limits._gpu()
    assert found is not None
    assert found.name == "Some GPU"
    device.launched.clear()
    monkeypatch.setattr(machine, "gpu_name", lambda: None)
    assert limits._gpu() is None
    assert device.launched == []


def test_a_gpu_that_cupy_cannot_use_has_none(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpu_name", lambda: "Some GPU")

    def refuse() -> None:
        raise RuntimeError("cudaErrorInsufficientDriver")

    monkeypatch.setattr(device.cuda, "Device", refuse)
    assert limits._gpu() is None
    monkeypatch.setitem(sys.modules, "cupy", None)
    forget()
    assert limits._gpu() is None
