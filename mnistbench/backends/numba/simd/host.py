"""What LLVM will compile for, and arrays that begin where its vectors want to."""

from __future__ import annotations

from dataclasses import dataclass

import llvmlite.binding as llvm
import numpy as np
from numpy.typing import NDArray

from mnistbench.task.workload import DType

CACHE_LINE = 64
"""Bytes. Arrays of vectors begin at one, so that no vector lies in two."""


@dataclass(frozen=True)
class Host:
    """The vector registers of this machine.

    Attributes:
        name: of the instruction set.
        vector_bytes: size of a register.
        registers: how many there are.
    """

    name: str
    vector_bytes: int
    registers: int


def host() -> Host:
    """What LLVM will compile for."""
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
    """Zeros that begin at a cache line, and whose rows do if they are a multiple of one."""
    itemsize = np.dtype(dtype).itemsize
    room = np.zeros(int(np.prod(shape)) * itemsize + CACHE_LINE, np.uint8)
    start = -room.ctypes.data % CACHE_LINE
    return room[start : start + int(np.prod(shape)) * itemsize].view(dtype).reshape(shape)
