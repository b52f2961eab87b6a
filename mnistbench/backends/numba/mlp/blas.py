"""Matrix products by a BLAS library, called from compiled code without the GIL.

SciPy publishes the addresses of its BLAS functions for this purpose. Compiled code, including that from the disk cache,
calls them by a symbol name.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import get_cython_function_address

from mnistbench.backends.numba.simd.vector import address, intrinsic

_NAMES = {32: "sgemm", 64: "dgemm"}
for _name in _NAMES.values():
    llvm.add_symbol(f"mnistbench_{_name}", get_cython_function_address("scipy.linalg.cython_blas", _name))

_INT32, _INT8 = ir.IntType(32), ir.IntType(8)


@intrinsic
def product(
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
    """Compute out := left right + beta out, for matrices inside arrays that are contiguous in memory.

    Args:
        left: Array that holds the left operand, (rows, inner); likewise ``right``, (inner, columns), and ``out``.
        left_at: Index of its first element.
        left_row: Distance between its rows as stored.
        left_transposed: Whether it is stored transposed, as (inner, rows).
        sizes: The numbers (rows, inner, columns).
    """
    element = {32: ir.FloatType(), 64: ir.DoubleType()}[out.dtype.bitwidth]

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        def number(value: Any) -> Any:
            return cgutils.alloca_once_value(builder, builder.trunc(value, _INT32))

        def letter(transposed: Any) -> Any:
            return cgutils.alloca_once_value(builder, builder.select(transposed, _INT8(ord("T")), _INT8(ord("N"))))

        a, a_at, a_row, a_t, b, b_at, b_row, b_t, c, c_at, c_row, dims, scale = arguments
        rows, inner, columns = (builder.extract_value(dims, i) for i in range(3))
        one = cgutils.alloca_once_value(builder, ir.Constant(element, 1.0))
        # BLAS is column-major: compute the transposed product, with the operands swapped.
        values = [letter(b_t), letter(a_t), number(columns), number(rows), number(inner), one]
        values += [address(context, builder, right, b, b_at), number(b_row)]
        values += [address(context, builder, left, a, a_at), number(a_row)]
        values += [cgutils.alloca_once_value(builder, context.cast(builder, scale, types.float64, out.dtype))]
        values += [address(context, builder, out, c, c_at), number(c_row)]
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        name = f"mnistbench_{_NAMES[out.dtype.bitwidth]}"
        builder.call(cgutils.get_or_insert_function(builder.module, kind, name), values)
        return context.get_dummy_value()

    whole, flag = types.intp, types.boolean
    operands = (left, whole, whole, flag, right, whole, whole, flag, out, whole, whole)
    return types.void(*operands, types.UniTuple(whole, 3), types.float64), emit
