"""What the processor can do at best: the rate that no dense computation on it can exceed.

Measured and not looked up: the clock under load, and how many cores there really are, differ from a data sheet.
A matrix product would not do either, because a BLAS library that chose the wrong kernel would set the limit.
"""

from __future__ import annotations

import platform
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from mnistbench.workload import DType

# A multiply-add takes 4 cycles and two can start in each, so 8 independent chains keep both units busy. 12 do so
# with room for an uneven start, and with two constants fit the 16 registers of AVX2.
_CHAINS = 12

# Some 2 ms on a core of 3 GHz, well above the cost of starting threads. The best of the rounds counts, because
# whatever disturbs one makes it slower.
_STEPS = 1_000_000
_ROUNDS = 7


def _vector_bytes() -> int:
    """The width of the host's vector registers."""
    features = binding.get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx") else 16


@intrinsic
def _multiply_add(typing_context, value, steps):  # type: ignore[no-untyped-def]
    """chain := chain * value + value in every lane of every chain, ``steps`` times, all of it in registers.

    Returns one lane of the chains' sum, so that the compiler cannot leave the work out.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        scalar, count = args
        lanes = _vector_bytes() * 8 // value.bitwidth
        vector = ir.VectorType(scalar.type, lanes)
        splat = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
        factor = builder.shuffle_vector(splat, splat, zeros)
        name = f"llvm.fma.v{lanes}f{value.bitwidth}"
        fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), name)
        chains = [cgutils.alloca_once_value(builder, factor) for _ in range(_CHAINS)]
        with cgutils.for_range(builder, count):
            for chain in chains:
                builder.store(builder.call(fma, [builder.load(chain), factor, factor]), chain)
        total = builder.load(chains[0])
        for chain in chains[1:]:
            total = builder.fadd(total, builder.load(chain))
        return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

    return value(value, types.int64), generate


@njit(nogil=True)
def _run_chains(value, steps):  # type: ignore[no-untyped-def]
    return _multiply_add(value, steps)


@cache
def multiply_add_peak(dtype: DType, threads: int) -> float | None:
    """The most floating-point operations a second that ``threads`` threads can do, a multiply-add counting as two.

    None where it is not the limit: on CPUs other than x86-64, whose matrix units are faster, and without fused
    multiply-adds. Takes about a quarter of a second the first time.
    """
    if platform.machine().lower() not in ("x86_64", "amd64") or not binding.get_host_cpu_features().get("fma"):
        return None
    value = np.dtype(dtype).type(0.5)
    _run_chains(value, 1)
    flops = 2 * _CHAINS * (_vector_bytes() // np.dtype(dtype).itemsize) * _STEPS * threads
    with ThreadPoolExecutor(threads) as pool:
        return max(flops / _round(pool, value, threads) for _ in range(_ROUNDS))


def _round(pool: ThreadPoolExecutor, value: Any, threads: int) -> float:
    """The seconds that all threads together need."""
    start = time.perf_counter()
    for done in [pool.submit(_run_chains, value, _STEPS) for _ in range(threads)]:
        done.result()
    return time.perf_counter() - start
