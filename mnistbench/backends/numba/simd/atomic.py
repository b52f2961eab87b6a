"""Atomic operations on arrays of int64 that threads share, a pause for spin loops, a clock, a sleep: compiled code."""

from __future__ import annotations

import ctypes
import sys
import time
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils

from mnistbench.backends.numba.simd.vector import address, call_intrinsic, intrinsic

_INT32, _INT64 = ir.IntType(32), ir.IntType(64)

_CLOCK, _SLEEP = "mnistbench_clock", "mnistbench_sleep"


def _clock() -> tuple[int, int]:
    """Return the address of the operating system's clock and, on Windows, the nanoseconds of one of its ticks."""
    if sys.platform == "win32":
        library, frequency = ctypes.windll.kernel32, ctypes.c_int64()
        library.QueryPerformanceFrequency(ctypes.byref(frequency))
        function, tick = library.QueryPerformanceCounter, max(1, 1_000_000_000 // frequency.value)
    else:
        function, tick = ctypes.CDLL(None).clock_gettime, 0
    return ctypes.cast(function, ctypes.c_void_p).value or 0, tick


def _sleep() -> int:
    """Return the address of the operating system's function that sleeps."""
    if sys.platform == "win32":
        function = ctypes.windll.kernel32.Sleep
    else:
        function = ctypes.CDLL(None).nanosleep
    return ctypes.cast(function, ctypes.c_void_p).value or 0


_ADDRESS, _TICK = _clock()
# Compiled code, including that from the disk cache, calls them by these names.
llvm.add_symbol(_CLOCK, _ADDRESS)
llvm.add_symbol(_SLEEP, _sleep())


@intrinsic
def peek(typing: Any, array: Any, place: Any) -> Any:
    """Load array[place], in acquire order."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return builder.load_atomic(address(context, builder, array, arguments[0], arguments[1]), "acquire", 8)

    return types.int64(array, types.intp), emit


@intrinsic
def put(typing: Any, array: Any, place: Any, value: Any) -> Any:
    """Store ``value`` in array[place], in release order."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        pointer = address(context, builder, array, arguments[0], arguments[1])
        builder.store_atomic(arguments[2], pointer, "release", 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), emit


@intrinsic
def add(typing: Any, array: Any, place: Any, value: Any) -> Any:
    """Add ``value`` to array[place], in sequentially consistent order; return what it was."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        pointer = address(context, builder, array, arguments[0], arguments[1])
        return builder.atomic_rmw("add", pointer, arguments[2], "seq_cst")

    return types.int64(array, types.intp, types.int64), emit


@intrinsic
def swap_if(typing: Any, array: Any, place: Any, old: Any, new: Any) -> Any:
    """Make array[place] ``new`` if it is ``old``, in sequentially consistent order; return whether it was."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        pointer = address(context, builder, array, arguments[0], arguments[1])
        pair = builder.cmpxchg(pointer, arguments[2], arguments[3], "seq_cst", "acquire")
        return builder.extract_value(pair, 1)

    return types.boolean(array, types.intp, types.int64, types.int64), emit


@intrinsic
def pause(typing: Any) -> Any:
    """Tell the CPU that this is a spin loop, so that a sibling hyperthread gets the core's resources."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        machine = llvm.get_default_triple().split("-")[0]
        if machine in ("x86_64", "i686"):
            call_intrinsic(builder, "llvm.x86.sse2.pause", ir.VoidType(), [])
        elif machine in ("aarch64", "arm64"):
            call_intrinsic(builder, "llvm.aarch64.hint", ir.VoidType(), [_INT32(1)])  # yield
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def now(typing: Any) -> Any:
    """Return the nanoseconds of a clock that no thread sees go back: some 25 ns on Linux, without a system call."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        room = cgutils.alloca_once(builder, ir.ArrayType(_INT64, 2))
        first, second = (builder.gep(room, [_INT32(0), _INT32(i)]) for i in range(2))
        pointer = first.type
        if _TICK:
            kind = ir.FunctionType(_INT32, [pointer])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, _CLOCK), [first])
            return builder.mul(builder.load(first), _INT64(_TICK))
        kind = ir.FunctionType(_INT32, [_INT32, pointer])
        which = _INT32(time.CLOCK_MONOTONIC)
        builder.call(cgutils.get_or_insert_function(builder.module, kind, _CLOCK), [which, first])
        return builder.add(builder.mul(builder.load(first), _INT64(1_000_000_000)), builder.load(second))

    return types.int64(), emit


@intrinsic
def sleep(typing: Any, nanoseconds: Any) -> Any:
    """Give the core away for less than a second: on Linux 50 us longer than that, on Windows for whole milliseconds."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        if sys.platform == "win32":
            kind = ir.FunctionType(ir.VoidType(), [_INT32])
            time_ms = builder.trunc(builder.udiv(arguments[0], _INT64(1_000_000)), _INT32)
            builder.call(cgutils.get_or_insert_function(builder.module, kind, _SLEEP), [time_ms])
            return context.get_dummy_value()
        room = cgutils.alloca_once(builder, ir.ArrayType(_INT64, 2))
        first, second = (builder.gep(room, [_INT32(0), _INT32(i)]) for i in range(2))
        builder.store(_INT64(0), first)
        builder.store(arguments[0], second)
        kind = ir.FunctionType(_INT32, [first.type, first.type])
        function = cgutils.get_or_insert_function(builder.module, kind, _SLEEP)
        builder.call(function, [first, first.type(None)])
        return context.get_dummy_value()

    return types.void(types.int64), emit
