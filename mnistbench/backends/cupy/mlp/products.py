"""Matrix products that can be captured: cuBLAS itself, called with the types and the algorithm that CuPy gives it."""

from __future__ import annotations

import ctypes
import weakref
from typing import Any

import cupy as cp
import numpy as np

# cudaDataType_t of a dtype.
_TYPES = {"float32": 0, "float64": 1}


class Products:
    """Multiply matrices of a dtype on the current stream, by a handle of cuBLAS and a workspace of its own.

    CuPy refuses products while a stream captures. cuBLAS does not, and its functions are found through CuPy's extension
    module, which is linked to it.

    Raises:
        OSError, AttributeError: the functions are not found.
        RuntimeError: cuBLAS fails, or computes wrong products.
    """

    def __init__(self, dtype: str) -> None:
        cublas = cp.cuda.cublas
        library = ctypes.CDLL(cublas.__file__)
        self._check = cublas.check_status
        self._gemm, self._set_stream = library.cublasGemmEx, library.cublasSetStream_v2
        self._set_workspace = library.cublasSetWorkspace_v2
        pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
        matrix: list[Any] = [pointer, number, number]
        self._gemm.argtypes = [pointer, *[number] * 5, pointer, *matrix, *matrix, pointer, *matrix, number, number]
        self._set_stream.argtypes = [pointer, pointer]
        self._set_workspace.argtypes = [pointer, pointer, size]
        capability = int(cp.cuda.Device().compute_capability)
        algorithm = cublas.CUBLAS_GEMM_DEFAULT_TENSOR_OP if capability >= 80 else cublas.CUBLAS_GEMM_DEFAULT
        single = dtype == "float32"
        self._how = (cublas.CUBLAS_COMPUTE_32F if single else cublas.CUBLAS_COMPUTE_64F), algorithm
        real = ctypes.c_float if single else ctypes.c_double
        self._one, self._zero = (ctypes.pointer(real(value)) for value in (1, 0))
        self._type = _TYPES[dtype]
        # Its size is what cuBLAS recommends.
        self._workspace = cp.empty((32 if capability >= 90 else 4) << 20, "uint8")
        self._handle = cublas.create()
        weakref.finalize(self, cublas.destroy, self._handle).atexit = False
        self._stream: int | None = None
        self._prove(dtype)

    def __call__(self, a: Any, b: Any, out: Any) -> None:
        """Compute out = a @ b, for a and b that are C-contiguous or whose transposes are, and a C-contiguous out."""
        self._follow(cp.cuda.get_current_stream().ptr)
        (rows, columns), depth = out.shape, len(b)
        # In cuBLAS' column-major order these are outᵀ = bᵀ aᵀ.
        (b_operation, b_stride), (a_operation, a_stride) = _layout(b), _layout(a)
        right, left = (b.data.ptr, self._type, b_stride), (a.data.ptr, self._type, a_stride)
        result = out.data.ptr, self._type, columns
        sizes = b_operation, a_operation, columns, rows, depth
        self._check(self._gemm(self._handle, *sizes, self._one, *right, *left, self._zero, *result, *self._how))

    def _follow(self, stream: int) -> None:
        if stream != self._stream:
            self._check(self._set_stream(self._handle, stream))  # which takes the workspace away
            self._check(self._set_workspace(self._handle, self._workspace.data.ptr, self._workspace.nbytes))
            self._stream = stream

    def _prove(self, dtype: str) -> None:
        """Compare products of small integers, which are exact in any order, with the host's."""
        shapes = (2, 5), (3, 5), (2, 3)
        a, b, c = (cp.asarray(np.arange(np.prod(shape), dtype=dtype).reshape(shape)) for shape in shapes)
        for left, right in ((a, b.T), (a.T, c), (c, b)):
            found = cp.empty((len(left), right.shape[1]), dtype)
            self(left, right, out=found)
            if not np.array_equal(cp.asnumpy(found), cp.asnumpy(left) @ cp.asnumpy(right)):
                raise RuntimeError("cuBLAS, called past CuPy, computes wrong products")


def _layout(matrix: Any) -> tuple[int, int]:
    """Return cuBLAS' operation on a matrix, and the stride in memory of its rows, or of its columns."""
    if matrix.flags.c_contiguous:
        return cp.cuda.cublas.CUBLAS_OP_N, matrix.shape[1]
    return cp.cuda.cublas.CUBLAS_OP_T, matrix.shape[0]
