"""The kernel compiled for the host, and a stand-in for CuPy that runs it: what the trainer does with CuPy's arrays,
kernels and events happens on NumPy's, on the CPU."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import sys
import weakref
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None or sys.platform != "linux", reason="to run the kernel on the CPU needs g++ on Linux"
)

_CUDA = Path(__file__).parent

# Enough registers for blocks of 64 threads (32 in float64).
REGISTERS = 11_000


folder = Path()
"""Where the programs are, which the workers of pytest share; set when the tests begin."""


_FLAGS = ["-std=c++20", "-O1", "-pthread", "-w"]
_SHARED = ("-shared", "-fPIC")


@cache
def _emulation() -> Path:
    """The header with CUDA's names, and what g++ makes of it in advance, which halves the time of a library's build."""
    folder.mkdir(exist_ok=True)
    header, own = folder / "emulation.h", folder / f"{os.getpid()}.gch"
    compiled = folder / "emulation.h.gch"
    if not compiled.exists():
        shutil.copy(_CUDA / "emulation.h", own)
        own.replace(header)
        subprocess.run(["g++", *_FLAGS, "-fPIC", "-x", "c++-header", str(header), "-o", str(own)], check=True)
        own.replace(compiled)
    return header


@cache
def build(source: str, macros: tuple[str, ...], *options: str, runner: str = "run.cpp") -> Path:
    """The kernel's source, with what runs it, compiled for the host; ``macros`` are -D options."""
    name = hashlib.sha256(repr((source, macros, options)).encode()).hexdigest()[:16]
    path = folder / name
    if path.exists():
        return path
    header = _emulation()
    own = path.with_suffix(f".{os.getpid()}.cpp")
    own.write_text(source + (_CUDA / runner).read_text())
    command = ["g++", *_FLAGS, "-include", str(header), *macros, *options, str(own), "-o", str(own.with_suffix(""))]
    subprocess.run(command, check=True)
    own.with_suffix("").replace(path)
    return path


def launch(source: str, macros: tuple[str, ...], blocks: int, shared_bytes: int, arguments: Sequence[Any]) -> None:
    """Run the kernel with its own arguments: arrays or None, then numbers."""
    images, labels, parameters, gradients, partials, metrics, *numbers = arguments
    arrays = [None if a is None else a.ctypes.data_as(ctypes.c_void_p) for a in (images, labels, parameters, gradients)]
    sums = [a.ctypes.data_as(ctypes.c_void_p) for a in (partials, metrics)]
    *counts, learning_rate, resident_groups, chunk = numbers
    run = ctypes.CDLL(str(build(source, macros, *_SHARED))).run
    run(blocks, ctypes.c_size_t(shared_bytes), *arrays, *sums, *map(int, counts),
        ctypes.c_double(learning_rate), int(resident_groups), int(chunk))  # fmt: skip


class _Array(np.ndarray[Any, Any]):
    """An array "on the device": it has CuPy's own methods."""

    def set(self, values: NDArray[Any]) -> None:
        assert values.dtype == self.dtype
        self[...] = values

    @property
    def data(self) -> Any:
        def memset_async(value: int, size: int) -> None:
            assert size == self.nbytes
            self.view(np.uint8)[...] = value

        return SimpleNamespace(memset_async=memset_async)


class _Event:
    def record(self) -> None: ...
    def synchronize(self) -> None: ...


class _Kernel:
    """What RawModule.get_function gives; it checks what a GPU would not forgive."""

    num_regs, local_size_bytes = 100, 0
    max_dynamic_shared_size_bytes = 48 * 1024

    def __init__(self, code: str, macros: tuple[str, ...], library: StandIn) -> None:
        self._code, self._macros, self._library = code, macros, library
        self.kernel = SimpleNamespace(ptr=self)

    def blocks_at_once(self, threads: int, shared_bytes: int) -> int:
        """Of a multiprocessor, as the driver's occupancy query has it."""
        fits = shared_bytes <= self.max_dynamic_shared_size_bytes and f"-DTHREADS={threads}" in self._macros
        return self._library.blocks_at_once if fits else 0

    def __call__(self, grid: tuple[int], block: tuple[int], arguments: Sequence[Any], shared_mem: int) -> None:
        most = self.blocks_at_once(block[0], shared_mem) * self._library.attributes["MultiProcessorCount"]
        assert grid[0] <= most, "CuPy launches fewer"
        assert f"-DTHREADS={block[0]}" in self._macros
        assert shared_mem <= self.max_dynamic_shared_size_bytes
        real = {"-DREAL=float": np.float32, "-DREAL=double": np.float64}[self._macros[0]]
        images, labels, parameters, gradients, partials, metrics, arrivals, *numbers = arguments
        assert [type(number) for number in numbers] == [*[np.int32] * 3, real, *[np.int32] * 2]
        assert arrivals.tolist() == [0]
        assert images.dtype == labels.dtype == np.uint8
        assert parameters.dtype == partials.dtype == real
        assert metrics.dtype == np.float64
        image_count, quads, *_ = map(int, numbers)
        assert images.shape == (-(-image_count // 4), quads, 4, 4)
        assert labels.shape == (image_count,)
        assert partials.shape == (grid[0], parameters.size)
        assert metrics.shape == (grid[0], 2)
        arrays = [images, labels, parameters, None if isinstance(gradients, np.uintp) else gradients, partials, metrics]
        launch(self._code, self._macros, grid[0], shared_mem, [*arrays, *numbers])
        arrivals[0] = 1  # whoever does not clear it before the next launch is found out


# What a GPU takes for each of the kernels' types.
_TYPES = {
    "unsigned char": np.uint8,
    "unsigned long long": np.uint64,
    "unsigned": np.uint32,
    "int": np.int32,
    "double": np.float64,
    "-DREAL=float": np.float32,
    "-DREAL=double": np.float64,
}


class Function:
    """What RawModule.get_function gives of the general kernels; it checks what a GPU would not forgive."""

    max_dynamic_shared_size_bytes = 48 * 1024

    def __init__(self, name: str, code: str, macros: tuple[str, ...]) -> None:
        self._name, self._macros = name, macros
        path = build(code, macros, *_SHARED, runner="run_mlp.cpp")
        self._run = ctypes.CDLL(str(path)).run
        self._run.restype = ctypes.c_bool
        (declared,) = re.findall(rf"__launch_bounds__\(THREADS\)\n{name}\(([^)]*)\)", code)
        kinds = [re.fullmatch(r"\s*(?:const )?([a-z ]+?)(\*?) \w+", one) for one in declared.split(",")]
        self._kinds = [(kind[1].replace("real", macros[0]), bool(kind[2])) for kind in kinds if kind]
        assert len(self._kinds) == len(kinds)

    def __call__(self, grid: tuple[int], block: tuple[int], arguments: tuple[Any, ...], shared_mem: int) -> None:
        assert f"-DTHREADS={block[0]}" in self._macros
        assert grid[0] > 0
        assert 0 <= shared_mem <= self.max_dynamic_shared_size_bytes
        values = [self._value(*both) for both in zip(self._kinds, arguments, strict=True)]
        pointers = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
        assert self._run(self._name.encode(), grid[0], ctypes.c_size_t(shared_mem), pointers)

    def _value(self, kind: tuple[str, bool], argument: Any) -> NDArray[Any]:
        name, is_pointer = kind
        if not is_pointer:
            assert type(argument) is _TYPES[name]
            return np.array(argument)
        if isinstance(argument, np.uintp) and argument == 0:
            return np.array(argument)
        assert argument.dtype == _TYPES[name]
        assert argument.flags.c_contiguous
        return np.array(argument.ctypes.data, np.uintp)


class StandIn(ModuleType):
    """The part of CuPy that the backends use."""

    __version__ = "0"

    def __init__(self, **properties: int) -> None:
        super().__init__("cupy")
        self.attributes = {
            "MultiProcessorCount": 2,
            "MaxSharedMemoryPerBlockOptin": 65_536,
            "L2CacheSize": 1 << 20,
            "MaxRegistersPerBlock": REGISTERS,
            "CooperativeLaunch": 1,
            **properties,
        }
        self.limit: int | None = None  # bytes of an array
        self.held_when_freed: list[int] = []  # bytes still in use whenever unused memory was given back
        self.copies = 0  # to the host
        self._arrays: list[weakref.ref[_Array]] = []
        self.compute_capability = "90"
        self.blocks_at_once = 1  # on a multiprocessor
        self.maximum, self.exp, self.log, self.stack = np.maximum, np.exp, np.log, np.stack
        self.zeros, self.ascontiguousarray = np.zeros, np.ascontiguousarray
        self.runtime = ModuleType("cupy.cuda.runtime")
        self.driver = ModuleType("cupy.cuda.driver")
        self.cuda = ModuleType("cupy.cuda")
        self.runtime.__dict__.update(
            CUDARuntimeError=type("CUDARuntimeError", (RuntimeError,), {}),
            getDeviceCount=lambda: 1,
            getDeviceProperties=lambda device: {"name": b"stand-in"},
            memGetInfo=lambda: (1 << 30, 2 << 30),
            runtimeGetVersion=lambda: 13000,
            driverGetVersion=lambda: 13000,
        )
        self.driver.__dict__["occupancyMaxActiveBlocksPerMultiprocessor"] = _Kernel.blocks_at_once
        self.cuda.__dict__.update(
            runtime=self.runtime,
            driver=self.driver,
            compiler=SimpleNamespace(CompileException=type("CompileException", (Exception,), {})),
            memory=SimpleNamespace(OutOfMemoryError=type("OutOfMemoryError", (MemoryError,), {})),
            Event=_Event,
            get_elapsed_time=lambda start, stop: 2.0,
            get_current_stream=lambda: _Event(),
            Device=lambda: SimpleNamespace(
                id=0,
                attributes=self.attributes,
                compute_capability=self.compute_capability,
                mem_info=(1, 2),
                pci_bus_id="none",
            ),
        )

    def get_default_memory_pool(self) -> Any:
        def free_all_blocks() -> None:
            alive = [array for reference in self._arrays if (array := reference()) is not None]
            self.held_when_freed.append(sum(array.nbytes for array in alive))

        return SimpleNamespace(free_all_blocks=free_all_blocks, total_bytes=lambda: 4096)

    def RawModule(self, code: str, options: tuple[str, ...], enable_cooperative_groups: bool = False) -> Any:
        macros = tuple(option for option in options if option.startswith("-D"))
        if not enable_cooperative_groups:
            return SimpleNamespace(get_function=lambda name: Function(name, code, macros))
        kernel = _Kernel(code, macros, self)  # the device's own: whoever asks for it shares its attributes
        return SimpleNamespace(get_function=lambda name: kernel)

    def _new(self, array: NDArray[Any]) -> _Array:
        if self.limit is not None and array.nbytes > self.limit:
            raise self.cuda.memory.OutOfMemoryError
        own = array.view(_Array)
        self._arrays.append(weakref.ref(own))
        return own

    def asarray(self, values: Any) -> _Array:
        return self._new(np.array(values))

    def array(self, values: Any, dtype: str) -> _Array:
        return self._new(np.array(values, dtype))

    def empty(self, shape: Any, dtype: str) -> _Array:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return self._new(np.full(size, 0xCD, np.uint8).view(dtype).reshape(shape))

    def empty_like(self, array: _Array) -> _Array:
        return self.empty(array.shape, array.dtype.name)

    def matmul(self, a: NDArray[Any], b: NDArray[Any], out: NDArray[Any]) -> NDArray[Any]:
        assert a.dtype == b.dtype == out.dtype
        assert out.flags.c_contiguous, "CuPy would copy"
        assert not np.may_share_memory(out, a), "CuPy would copy"
        assert not np.may_share_memory(out, b), "CuPy would copy"
        return np.matmul(a, b, out=out)

    def asnumpy(self, array: Any) -> NDArray[Any]:
        self.copies += 1
        return np.array(array)
