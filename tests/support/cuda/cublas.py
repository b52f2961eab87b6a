"""The part of cuBLAS that the backend calls past CuPy: a library in C, and the products by NumPy."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial
from itertools import count
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support.cuda.streams import Stream

_POINTER, _SIZE, _INT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
_MATRIX = (_POINTER, _INT, _INT)
_GEMM = ctypes.CFUNCTYPE(_INT, _POINTER, *[_INT] * 5, _POINTER, *_MATRIX, *_MATRIX, _POINTER, *_MATRIX, _INT, _INT)
_SET_STREAM = ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER)
_SET_WORKSPACE = ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, _SIZE)

# By cudaDataType_t: the type, and cublasComputeType_t.
_REALS: dict[int, tuple[Any, int]] = {0: (ctypes.c_float, 68), 1: (ctypes.c_double, 70)}

_INVALID_VALUE, _INTERNAL_ERROR = 7, 14


class Cublas(ModuleType):
    """CuPy's module of cuBLAS.

    Attributes:
        status: What the products return in place of computing, unless it is 0.
    """

    CUBLAS_OP_N, CUBLAS_OP_T = 0, 1
    CUBLAS_GEMM_DEFAULT, CUBLAS_GEMM_DEFAULT_TENSOR_OP = -1, 99
    CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_64F = 68, 70

    def __init__(self, build: Callable[[], str], stream_of: Callable[[int], Stream]) -> None:
        """Prepare to compile the library by ``build``, a function that returns its path, when it is looked for."""
        super().__init__("cupy_backends.cuda.libs.cublas")
        self.status = 0
        self._build, self._stream_of = build, stream_of
        self._handles = count(1 << 40, 64)
        self._streams: dict[int, int] = {}  # of a handle
        self._with_workspace: set[int] = set()  # handles
        # ctypes keeps no reference to a function.
        self._functions = (
            _GEMM(_guarded(self._gemm)),
            _SET_STREAM(_guarded(self._set_stream)),
            _SET_WORKSPACE(_guarded(self._set_workspace)),
        )

    @property
    def __file__(self) -> str:  # type: ignore[override]
        path = self._build()
        ctypes.CDLL(path).install(*self._functions)
        return path

    def create(self) -> int:
        handle = next(self._handles)
        self._streams[handle] = 0
        return handle

    def destroy(self, handle: int) -> None:
        del self._streams[handle]
        self._with_workspace.discard(handle)

    @staticmethod
    def check_status(status: int) -> None:
        if status:
            raise RuntimeError(f"CUBLAS_STATUS {status}")

    def _set_stream(self, handle: int, stream: int | None) -> int:
        self._streams[handle] = stream or 0
        self._with_workspace.discard(handle)
        return 0

    def _set_workspace(self, handle: int, workspace: int | None, size: int) -> int:
        ctypes.memset((workspace or 0) + size - 1, 0xEE, 1)  # on a GPU it is written to, up to its end
        self._with_workspace.add(handle)
        return 0

    def _gemm(self, handle: int, *arguments: Any) -> int:
        (b_transposed, a_transposed, columns, rows, depth, one, b, b_type, b_step) = arguments[:9]
        (a, a_type, a_step, zero, out, out_type, out_step, compute, _) = arguments[9:]
        real, wanted = _REALS[out_type]
        factors = [real.from_address(factor).value for factor in (one, zero)]
        if self.status or factors != [1, 0] or {a_type, b_type} != {out_type} or compute != wanted:
            return self.status or _INVALID_VALUE
        # Column-major matrices are the transposes of row-major ones.
        right = _matrix(real, b, depth, columns, b_step, b_transposed)
        left = _matrix(real, a, rows, depth, a_step, a_transposed)
        result = _matrix(real, out, rows, columns, out_step, False)
        stream = self._stream_of(self._streams[handle])
        assert handle in self._with_workspace or not stream.is_capturing(), "the graph would hold allocations"
        stream.submit(partial(np.matmul, left, right, out=result))
        return 0


def _matrix(real: Any, address: int, rows: int, columns: int, step: int, transposed: int) -> NDArray[Any]:
    """Return a view of a row-major matrix (rows, columns), or of the transpose of such a one, in memory."""
    if transposed:
        return _matrix(real, address, columns, rows, step, False).T
    assert step >= columns
    found = np.ctypeslib.as_array((real * (rows * step)).from_address(address))
    return found.reshape(rows, step)[:, :columns]


def _guarded(function: Callable[..., int]) -> Callable[..., int]:
    """Return a function for C, which knows no exceptions."""

    def guarded(*arguments: Any) -> int:
        try:
            return function(*arguments)
        except Exception:
            return _INTERNAL_ERROR

    return guarded
