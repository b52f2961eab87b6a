"""The CUDA kernels compiled for the host, and a stand-in for CuPy that runs them on NumPy arrays in a few threads."""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mnistbench.backends import trials
from mnistbench.backends.cupy.classic import layout
from mnistbench.backends.cupy.classic.epochs import LASTING
from tests.support.cuda import streams
from tests.support.cuda.cublas import Cublas

needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None or sys.platform != "linux", reason="to run the kernel on the CPU needs g++ on Linux"
)

_CUDA = Path(__file__).parent

GRAPH, SINGLY = "CUDA graph of an iteration", "operations launched one by one"
"""Ways to launch the iterations of a multilayer perceptron."""


def settle(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the trial of the ways find ``way``, without trying."""
    found = trials.Once(lambda *_: trials.Choice(way, None, "what is tried"))
    monkeypatch.setattr(importlib.import_module("mnistbench.backends.cupy.mlp.ways"), "fastest_way", found)


# Enough registers for blocks of 64 threads (32 in float64).
REGISTERS = 11_000

ATTRIBUTES = {
    "MultiProcessorCount": 2,
    "MaxSharedMemoryPerBlockOptin": 65_536,
    "L2CacheSize": 1 << 20,
    "MaxRegistersPerBlock": REGISTERS,
    "CooperativeLaunch": 1,
}


folder = Path()
"""Folder of the compiled programs, which the workers of pytest share; set when the tests begin."""

_FLAGS = ["-std=c++20", "-O1", "-pthread", "-w"]
_SHARED = ("-shared", "-fPIC")


@cache
def _emulation() -> Path:
    """Precompile the header with CUDA's names, which halves the time of a library's build; return its path."""
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
    """Compile a kernel's source and its runner for the host; ``macros`` are -D options."""
    name = hashlib.sha256(repr((source, macros, options, runner)).encode()).hexdigest()[:16]
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


def build_sanitized(source: str, macros: tuple[str, ...], sanitizer: str, runner: str = "run.cpp") -> Path:
    """Compile a program that stops at what a sanitizer finds; skip the test where no such program runs."""
    flags = ("-g", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all")
    if not _sanitizer_works(flags):
        pytest.skip(f"-fsanitize={sanitizer} does not work here")
    return build(source, macros, *flags, runner=runner)


@cache
def _sanitizer_works(flags: tuple[str, ...]) -> bool:
    with tempfile.TemporaryDirectory() as probes:
        source, program = Path(probes) / "probe.cpp", Path(probes) / "probe"
        source.write_text("int main() {}")
        built = subprocess.run(["g++", *flags, str(source), "-o", str(program)], capture_output=True).returncode == 0
        return built and subprocess.run([program]).returncode == 0


class Array(np.ndarray[Any, Any]):
    """An array "on the device": it has CuPy's own methods, and its values reach the host on request only."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        """Run an operation of NumPy on the current stream."""
        plain = [one.view(np.ndarray) if isinstance(one, Array) else one for one in inputs]
        run = partial(getattr(ufunc, method), *plain, **options)
        if out is None:
            found = np.asarray(run())  # in a capture, for its shape and type
            streams.allocate(found.nbytes)
            out = (found.view(Array),)
            if not streams.current().is_capturing():
                return out[0]
        streams.submit(partial(run, out=tuple(one.view(np.ndarray) for one in out)))
        return out[0]

    def set(self, values: NDArray[Any]) -> None:
        streams.refuse("H2D transfers")
        assert values.dtype == self.dtype
        assert values.shape == self.shape
        self[...] = values

    def get(self) -> NDArray[Any]:
        streams.refuse("D2H transfers")
        return np.array(self)

    def fill(self, value: Any) -> None:
        streams.submit(partial(self.view(np.ndarray).fill, value))

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return found if isinstance(found, Array) else np.array(found).view(Array)  # a single element

    def _refuse(self, *arguments: Any) -> Any:
        raise AssertionError("an array left the device unasked")

    __bool__ = __float__ = __int__ = __index__ = __complex__ = __iter__ = item = tolist = _refuse

    @property
    def data(self) -> Any:
        def memset_async(value: int, size: int) -> None:
            assert size == self.nbytes
            streams.submit(partial(self.view(np.ndarray).view(np.uint8).fill, value))

        return SimpleNamespace(memset_async=memset_async, ptr=self.ctypes.data)


class _Event:
    def record(self) -> None: ...
    def synchronize(self) -> None: ...


# The types of the kernels' arguments; "real", "Quad" and "Published" are of the macro REAL.
_TYPES = {
    "unsigned char": np.uint8,
    "unsigned long long": np.uint64,
    "uint4": np.uint8,
    "Share": np.uint8,
    "Step": np.uint32,
    "unsigned": np.uint32,
    "int": np.int32,
    "double": np.float64,
    "-DREAL=float": np.float32,
    "-DREAL=double": np.float64,
}


def library(source: str, macros: tuple[str, ...], runner: str) -> ctypes.CDLL:
    """Load a kernel compiled for the host with its runner."""
    return ctypes.CDLL(str(build(source, macros, *_SHARED, runner=runner)))


class Function:
    """Kernel of RawModule.get_function, which checks its arguments; a GPU would not."""

    runner = "run_mlp.cpp"
    max_dynamic_shared_size_bytes = 48 * 1024

    def __init__(self, name: str, code: str, macros: tuple[str, ...]) -> None:
        self._name, self._code, self._macros = name, code, macros
        (declared,) = re.findall(rf"__launch_bounds__\(THREADS(?:, 1)?\)\n{name}\(([^)]*)\)", code)
        kinds = [re.fullmatch(r"\s*(?:const )?([\w ]+?)(\*?) \w+", one) for one in declared.split(",")]
        self._kinds = [(re.sub("real|Quad|Published", macros[0], kind[1]), bool(kind[2])) for kind in kinds if kind]
        assert len(self._kinds) == len(kinds)

    def __call__(self, grid: tuple[int], block: tuple[int], arguments: Sequence[Any], shared_mem: int) -> None:
        assert f"-DTHREADS={block[0]}" in self._macros
        assert grid[0] > 0
        assert 0 <= shared_mem <= self.max_dynamic_shared_size_bytes
        run = library(self._code, self._macros, self.runner).run
        run.restype = ctypes.c_bool
        values = [self._value(*both) for both in zip(self._kinds, arguments, strict=True)]
        pointers = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
        given = self._name.encode(), grid[0], ctypes.c_size_t(shared_mem), pointers

        def launch(kept: Any = values) -> None:  # to which the pointers point
            assert run(*given)

        streams.submit(launch)

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


class Persistent(Function):
    """The classic's kernel, launched cooperatively."""

    runner = "run.cpp"
    num_regs, local_size_bytes = 100, 0

    def __init__(self, code: str, macros: tuple[str, ...], multiprocessors: int = 2, blocks_at_once: int = 1) -> None:
        super().__init__("gradient_descent", code, macros)
        self._multiprocessors, self._blocks_at_once = multiprocessors, blocks_at_once
        self.kernel = _Launched(self)

    def blocks_at_once(self, threads: int, shared_bytes: int) -> int:
        """Return the blocks that run at once on a multiprocessor, as the driver's occupancy query does."""
        fits = shared_bytes <= self.max_dynamic_shared_size_bytes and f"-DTHREADS={threads}" in self._macros
        return self._blocks_at_once if fits else 0

    def __call__(self, grid: tuple[int], block: tuple[int], arguments: Sequence[Any], shared_mem: int) -> None:
        most = self.blocks_at_once(block[0], shared_mem) * self._multiprocessors
        assert grid[0] <= most, "CuPy launches fewer"
        images, labels, shares, places, parameters, _, partials, metrics, arrivals, image_count, _, quads, *_, epoch = (
            arguments
        )
        assert np.array_equal(arrivals, [0])
        own = np.array(shares).view(layout.SHARE)
        assert images.shape[0] >= (-(-own["images"] // 32) * 8 * own["quads"]).sum()
        assert images.shape[1] == 16
        assert own["images"].sum() == image_count
        assert labels.shape == (image_count,)
        assert places.shape == (grid[0], quads)
        assert partials.shape == (grid[0], *parameters.shape)
        if "-DEPOCHS=1" in self._macros:
            current, sent = (array.view("uint32")[..., 1] for array in (parameters, partials))
            assert np.all(np.array(current == epoch))
            assert np.all(np.array((sent < epoch) | (sent == LASTING)))
        assert metrics.shape == (grid[0], 2)
        super().__call__(grid, block, arguments, shared_mem)
        arrivals[0] = 1  # a trainer that does not clear it before the next launch fails there


class _Launched:
    """The function that a kernel is: it can be launched cooperatively."""

    def __init__(self, own: Persistent) -> None:
        self.ptr = own

    def __call__(self, *arguments: Any, enable_cooperative_groups: bool = False) -> None:
        assert enable_cooperative_groups, "blocks that do not all run at once wait for ever"
        self.ptr(*arguments)


def _cublas() -> str:
    return str(build("", (), *_SHARED, runner="run_cublas.cpp"))


class StandIn(ModuleType):
    """The part of CuPy that the backends use."""

    __version__ = "0"

    def __init__(self) -> None:
        super().__init__("cupy")
        self.attributes = {**ATTRIBUTES}
        self.limit: int | None = None  # largest array in bytes
        self.held_when_freed: list[int] = []  # bytes in use at each call of free_all_blocks
        self.copies = 0  # to the host
        self._arrays: list[weakref.ref[Array]] = []
        self.compute_capability = "90"
        self.blocks_at_once = 1  # on a multiprocessor
        self.maximum, self.exp, self.log = np.maximum, np.exp, np.log
        self.ascontiguousarray = np.ascontiguousarray
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
        self.driver.__dict__["occupancyMaxActiveBlocksPerMultiprocessor"] = Persistent.blocks_at_once
        self.cuda.__dict__.update(
            runtime=self.runtime,
            driver=self.driver,
            compiler=SimpleNamespace(CompileException=type("CompileException", (Exception,), {})),
            memory=SimpleNamespace(OutOfMemoryError=type("OutOfMemoryError", (MemoryError,), {})),
            Event=_Event,
            get_elapsed_time=lambda start, stop: 2.0,
            get_current_stream=streams.current,
            Stream=streams.Stream,
            using_allocator=streams.using_allocator,
            cublas=Cublas(_cublas, self._stream),
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

    def RawModule(self, code: str, options: tuple[str, ...]) -> Any:
        macros = tuple(option for option in options if option.startswith("-D"))
        if "gradient_descent(" not in code:
            return SimpleNamespace(get_function=lambda name: Function(name, code, macros))
        # One for all who ask, so they share its attributes.
        kernel = Persistent(code, macros, self.attributes["MultiProcessorCount"], self.blocks_at_once)
        # As if each phase took two cycles more than the one before, and the second block's more than the first's.
        clocks = np.stack([np.arange(10) ** 2, np.arange(10) ** 2 * 100])
        return SimpleNamespace(get_function=lambda name: kernel, get_global={"phase_clocks": clocks}.__getitem__)

    def _stream(self, ptr: int) -> streams.Stream:
        current = streams.current()
        assert ptr == current.ptr, "operations of another stream run at another time"
        return current

    def _new(self, array: NDArray[Any]) -> Array:
        streams.allocate(array.nbytes)
        if self.limit is not None and array.nbytes > self.limit:
            raise self.cuda.memory.OutOfMemoryError
        own = array.view(Array)
        self._arrays.append(weakref.ref(own))
        return own

    def asarray(self, values: Any) -> Array:
        streams.refuse("H2D transfers")
        array = np.array(values)
        assert array.dtype.kind in "biuf", "CuPy has no structured arrays"
        return self._new(array)

    def array(self, values: Any, dtype: str) -> Array:
        streams.refuse("H2D transfers")
        return self._new(np.array(values, dtype))

    def ndarray(self, shape: Any, dtype: Any, memory: Any) -> Array:
        return self._new(np.array(memory)[: shape[0]].astype(dtype))

    def stack(self, values: list[Any]) -> Array:
        return self._new(np.stack(values))

    def zeros(self, shape: Any, dtype: str) -> Array:
        return self._new(np.zeros(shape, dtype))

    def empty(self, shape: Any, dtype: str) -> Array:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return self._new(np.full(size, 0xCD, np.uint8).view(dtype).reshape(shape))

    def empty_like(self, array: Array) -> Array:
        return self.empty(array.shape, array.dtype.name)

    def matmul(self, a: NDArray[Any], b: NDArray[Any], out: NDArray[Any]) -> NDArray[Any]:
        if streams.current().is_capturing():
            raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
        assert a.dtype == b.dtype == out.dtype
        assert out.flags.c_contiguous, "CuPy would copy"
        assert not np.may_share_memory(out, a), "CuPy would copy"
        assert not np.may_share_memory(out, b), "CuPy would copy"
        return np.matmul(a, b, out=out)

    def arange(self, stop: int) -> Array:
        return self._new(np.arange(stop))

    def asnumpy(self, array: Any) -> NDArray[Any]:
        streams.refuse("D2H transfers")
        assert isinstance(array, Array)
        self.copies += 1
        return np.array(array)
