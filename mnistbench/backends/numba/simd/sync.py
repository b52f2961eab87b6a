"""A barrier for worker threads in compiled code, made of one atomic counter.

Every worker runs all iterations of an ``advance`` in one call that has released the GIL, as the blocks of a persistent
GPU kernel do. The counter only grows: the n-th barrier of T workers opens when it reaches n * T.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils

from mnistbench.backends.numba.simd.atomic import add, pause, peek
from mnistbench.backends.numba.simd.cache import kernel
from mnistbench.backends.numba.simd.vector import intrinsic
from mnistbench.backends.numba.simd.workers import ABANDON

# Indices of the control array that the workers and the main thread share. They are 128 bytes apart, since CPUs fetch
# cache lines in pairs: polling one does not slow down a write to another.
ARRIVED = 0
"""Number of arrivals at barriers since the start."""
DONE = 48
"""Number of finished iterations."""
GO_ON = 64
"""Whether another iteration follows. The first worker decides for all."""
CONTROL_SIZE = 80

# Polls of the counter, about 40 ns each, before a waiting worker yields its core.
_SPINS = 1000

_YIELD = "mnistbench_yield"


def _yield_address() -> int:
    """Return the address of the operating system's function that yields the core to another thread."""
    if sys.platform == "win32":
        function = ctypes.windll.kernel32.SwitchToThread
    else:
        function = ctypes.CDLL(None).sched_yield
    return ctypes.cast(function, ctypes.c_void_p).value or 0


# Compiled code, including that from the disk cache, calls it by this name.
llvm.add_symbol(_YIELD, _yield_address())


@intrinsic
def _yield_core(typing: Any) -> Any:
    """Let the operating system run another thread on this core, if one is waiting."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, _YIELD), [])
        return context.get_dummy_value()

    return types.void(), emit


@kernel
def meet(control: Any, meeting: int, threads: int) -> None:
    """Arrive at barrier number ``meeting`` (1, 2, ...) and wait until all ``threads`` workers have arrived."""
    if threads == 1:
        return
    add(control, ARRIVED, 1)
    spins = 0
    while peek(control, ARRIVED) < meeting * threads and peek(control, ABANDON) == 0:
        spins += 1
        if spins < _SPINS:
            pause()
        else:
            _yield_core()
