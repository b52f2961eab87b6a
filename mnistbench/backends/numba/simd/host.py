"""The vector registers that LLVM compiles for, and arrays aligned to cache lines."""

from __future__ import annotations

from dataclasses import dataclass

import llvmlite.binding as llvm
import numpy as np
from numpy.typing import NDArray

from mnistbench.task.workload import DType

CACHE_LINE = 64
"""Size in bytes. Arrays that are aligned to it have no vector that straddles two cache lines."""


@dataclass(frozen=True)
class Host:
    """The vector registers of a machine.

    Attributes:
        name: Name of the instruction set.
        vector_bytes: Size of a register.
        registers: Number of registers.
    """

    name: str
    vector_bytes: int
    registers: int


def host() -> Host:
    """Return the vector registers that Numba compiles for."""
    from numba.core import config

    features = str(config.CPU_FEATURES) if config.CPU_FEATURES is not None else llvm.get_host_cpu_features().flatten()
    enabled = set(features.split(","))
    machine = llvm.get_default_triple().split("-")[0]
    if "+avx512f" in enabled:
        return Host("AVX-512", 64, 32)
    if "+avx" in enabled:
        return Host("AVX", 32, 16)
    return Host("SSE", 16, 16) if machine in ("x86_64", "i686") else Host("NEON", 16, 32)


def aligned(shape: tuple[int, ...], dtype: DType) -> NDArray[np.floating]:
    """Return zeros aligned to a cache line; so are the rows if their size is a multiple of one."""
    itemsize = np.dtype(dtype).itemsize
    room = np.zeros(int(np.prod(shape)) * itemsize + CACHE_LINE, np.uint8)
    start = -room.ctypes.data % CACHE_LINE
    return room[start : start + int(np.prod(shape)) * itemsize].view(dtype).reshape(shape)
