"""``kernel/mlp.cu`` compiled by CuPy at run time, and launched on the current stream."""

from __future__ import annotations

from functools import cache
from typing import Any

import cupy as cp
import numpy as np

from mnistbench.backends.cupy.mlp import flat
from mnistbench.task.workload import Workload

THREADS = 256
"""Threads per block."""

# Shared memory per block that needs no permission.
_SHARED_BYTES = 48 * 1024


@cache
def _module(macros: tuple[tuple[str, str], ...]) -> Any:
    options = ("-std=c++17", *(f"-D{name}={value}" for name, value in macros))
    return cp.RawModule(code=flat.source(), options=options)


class Kernels:
    """The kernels, compiled for a workload. Float arguments become its dtype, int arguments int32."""

    def __init__(self, workload: Workload) -> None:
        self._module = _module(tuple(flat.macros(workload, THREADS).items()))
        self._real = np.dtype(workload.dtype).type
        self._functions: dict[str, Any] = {}

    def allow_shared(self, name: str, shared_bytes: int) -> None:
        """Allow a kernel ``shared_bytes`` of shared memory per block."""
        if shared_bytes > _SHARED_BYTES:
            self._function(name).max_dynamic_shared_size_bytes = shared_bytes

    def by_element(self, name: str, elements: int, *arguments: Any) -> None:
        """Launch a kernel with one thread per element."""
        self.by_block(name, -(-elements // THREADS), *arguments)

    def by_block(self, name: str, blocks: int, *arguments: Any, shared_bytes: int = 0) -> None:
        """Launch a kernel on ``blocks`` blocks."""
        given = tuple(self._argument(argument) for argument in arguments)
        self._function(name)((blocks,), (THREADS,), given, shared_mem=shared_bytes)

    def _argument(self, argument: Any) -> Any:
        if isinstance(argument, float):
            return self._real(argument)
        return np.int32(argument) if isinstance(argument, int) else argument

    def _function(self, name: str) -> Any:
        if name not in self._functions:
            self._functions[name] = self._module.get_function(name)
        return self._functions[name]
