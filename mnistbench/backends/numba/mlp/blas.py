"""Matrix products by a BLAS library, called from compiled code without the interpreter's lock.

SciPy offers the addresses of its BLAS functions for this purpose. Compiled code calls them by a name of ours, so that
machine code from the disk cache finds them too.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import get_cython_function_address

from mnistbench.backends.numba.simd.cache import kernel
from mnistbench.backends.numba.simd.vector import intrinsic
from mnistbench.reference import Array

_NAMES = {32: "sgemm", 64: "dgemm"}
for _name in _NAMES.values():
    llvm.add_symbol(f"mnistbench_{_name}", get_cython_function_address("scipy.linalg.cython_blas", _name))

_INT32 = ir.IntType(32)
_INT8 = ir.IntType(8)


@intrinsic
def _gemm(
    typing: Any,
    left: Any,
    left_at: Any,
    left_row: Any,
    left_transposed: Any,
    right: Any,
    right_at: Any,
    right_row: Any,
    right_transposed: Any,
    out: Any,
    out_at: Any,
    out_row: Any,
    sizes: Any,
    beta: Any,
) -> Any:
    """What :func:`product` calls, with sizes (rows, inner, columns)."""
    element = {32: ir.FloatType(), 64: ir.DoubleType()}[out.dtype.bitwidth]

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        def at(kind: Any, array: Any, offset: Any) -> Any:
            return builder.gep(context.make_array(kind)(context, builder, array).data, [offset])

        def number(value: Any) -> Any:
            return cgutils.alloca_once_value(builder, builder.trunc(value, _INT32))

        def letter(transposed: Any) -> Any:
            chosen = builder.select(transposed, _INT8(ord("T")), _INT8(ord("N")))
            return cgutils.alloca_once_value(builder, chosen)

        a, a_at, a_row, a_t, b, b_at, b_row, b_t, c, c_at, c_row, dims, scale = arguments
        rows, inner, columns = (builder.extract_value(dims, place) for place in range(3))
        # BLAS counts by columns: it computes the transposed product, of the operands in the other order.
        values = [
            letter(b_t),
            letter(a_t),
            number(columns),
            number(rows),
            number(inner),
            cgutils.alloca_once_value(builder, ir.Constant(element, 1.0)),
            at(right, b, b_at),
            number(b_row),
            at(left, a, a_at),
            number(a_row),
            cgutils.alloca_once_value(builder, context.cast(builder, scale, beta, out.dtype)),
            at(out, c, c_at),
            number(c_row),
        ]
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        name = f"mnistbench_{_NAMES[out.dtype.bitwidth]}"
        builder.call(cgutils.get_or_insert_function(builder.module, kind, name), values)
        return context.get_dummy_value()

    whole, flag = types.intp, types.boolean
    operands = (left, whole, whole, flag, right, whole, whole, flag, out, whole, whole)
    return types.void(*operands, types.UniTuple(whole, 3), types.float64), emit


@kernel
def product(
    left: Array,
    left_at: int,
    left_row: int,
    left_transposed: bool,
    right: Array,
    right_at: int,
    right_row: int,
    right_transposed: bool,
    out: Array,
    out_at: int,
    out_row: int,
    sizes: tuple[int, int, int],
    beta: float,
) -> None:
    """out := left right + beta out, of matrices inside of flat arrays.

    Args:
        left, left_at, left_row, left_transposed: where the left operand begins, and after how many values its next
            row as it is stored; if it is transposed, it is stored as (inner, rows).
        sizes: rows and inner size of the left operand, columns of the right one.
    """
    _gemm(
        left,
        left_at,
        left_row,
        left_transposed,
        right,
        right_at,
        right_row,
        right_transposed,
        out,
        out_at,
        out_row,
        sizes,
        beta,
    )
