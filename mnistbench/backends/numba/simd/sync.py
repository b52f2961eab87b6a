"""How the worker threads meet: a barrier in compiled code, made of one atomic counter.

Every worker runs all iterations of an ``advance`` in one call, and meets the others twice per iteration, as the
blocks of a persistent GPU kernel do. A barrier costs well below a microsecond. No threading layer is involved: the
workers are ordinary Python threads that have released the interpreter's lock, so that several trainers can run
in one process, and no library has to be found.

The counter only grows: the n-th meeting of T workers is over when it has reached n * T.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils

from mnistbench.backends.numba.simd.cache import kernel
from mnistbench.backends.numba.simd.vector import call_intrinsic, intrinsic

# Places in the array that the workers and the main thread share. Each has a cache line of its own (128 bytes, since
# CPUs fetch lines in pairs), so that a worker that waits for one does not slow down who writes another.
ARRIVED = 0
"""How many times a worker has arrived at a barrier since the start."""
STOP = 16
"""Set by the main thread: end after the current iteration."""
ABANDON = 32
"""Set when a worker could not be started: wait for nobody, and end before anything is updated."""
DONE = 48
"""How many iterations are finished."""
GO_ON = 64
"""Whether there is another iteration: decided by the first worker for all."""
CONTROL_SIZE = 80

# How often a worker looks at the counter before it gives its core away. It looks about every 40 ns, so that is some
# 50 microseconds: longer than the others need if they are running, and short if one of them waits for this core.
_SPINS = 1000

_YIELD = "mnistbench_yield"


def _give_core_away_address() -> int:
    """The address of the operating system's function that lets another thread run."""
    if sys.platform == "win32":
        function = ctypes.windll.kernel32.SwitchToThread
    else:
        function = ctypes.CDLL(None).sched_yield
    return ctypes.cast(function, ctypes.c_void_p).value or 0


# By this name, compiled code calls it; machine code from the disk cache finds it by name too.
llvm.add_symbol(_YIELD, _give_core_away_address())


@intrinsic
def _add(typing: Any, array: Any, place: Any, value: Any) -> Any:
    """array[place] += value, atomically; what was written before is seen by who reads the sum."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        pointer = builder.gep(context.make_array(array)(context, builder, arguments[0]).data, [arguments[1]])
        return builder.atomic_rmw("add", pointer, arguments[2], "seq_cst")

    return types.int64(array, types.intp, types.int64), emit


@intrinsic
def peek(typing: Any, array: Any, place: Any) -> Any:
    """array[place], read anew every time; what was written before it was written is seen after."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        pointer = builder.gep(context.make_array(array)(context, builder, arguments[0]).data, [arguments[1]])
        return builder.load_atomic(pointer, "acquire", 8)

    return types.int64(array, types.intp), emit


@intrinsic
def _pause(typing: Any) -> Any:
    """A hint to the CPU that this is a waiting loop: it leaves the core's resources to a sibling thread."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        machine = llvm.get_default_triple().split("-")[0]
        if machine in ("x86_64", "i686"):
            call_intrinsic(builder, "llvm.x86.sse2.pause", ir.VoidType(), [])
        elif machine in ("aarch64", "arm64"):
            call_intrinsic(builder, "llvm.aarch64.hint", ir.VoidType(), [ir.IntType(32)(1)])  # yield
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def _give_core_away(typing: Any) -> Any:
    """Let the operating system run another thread on this core, if one is waiting."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, _YIELD), [])
        return context.get_dummy_value()

    return types.void(), emit


@kernel
def meet(control: Any, meeting: int, threads: int) -> None:
    """Arrive at the given meeting (1, 2, ...) and wait until all ``threads`` workers have."""
    if threads == 1:
        return
    _add(control, ARRIVED, 1)
    spins = 0
    while peek(control, ARRIVED) < meeting * threads and peek(control, ABANDON) == 0:
        spins += 1
        if spins < _SPINS:
            _pause()
        else:
            _give_core_away()
