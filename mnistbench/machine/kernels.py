"""Compiled loops that measure a CPU's limits: multiply-adds in registers, and sums of the words read.

Both use LLVM vectors of the host's width, so that they do not depend on LLVM's auto-vectorization.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

CHAINS = 12
"""Number of independent multiply-add chains. With a latency of 4 cycles and a throughput of 2 per cycle, 8 keep both
units busy. 12 leave room for uneven scheduling and, with two constants, fit the 16 registers of AVX2."""

STREAMS = 2
"""Number of streams that the reading loop reads in parallel. A single stream leaves a prefetcher idle: on a Zen 5 it
reads 270 GB/s from the L2 cache, two streams 520, three 470, eight 400. From memory two read 4 to 18 % more than
one."""

SUMS = 8
"""Number of vectors read per step of the reading loop, each added to its own accumulator. These are more loads than can
start in a cycle or two, so the loop counter costs nothing. 4 to 24 are equally fast."""

_INT32, _INT64 = ir.IntType(32), ir.IntType(64)


def vector_bytes() -> int:
    """Return the width of the host's vector registers in bytes."""
    features = binding.get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx") else 16


def vector_widths() -> list[int]:
    """List the widths in bytes in which multiply-adds may be fastest, the registers' first.

    A processor may lower its clock for registers of 64 bytes, or have one unit for them and two for 32.
    """
    return [64, 32] if vector_bytes() == 64 else [vector_bytes()]


def has_multiply_add() -> bool:
    """Whether the host is an x86-64 with fused multiply-adds."""
    return bool(binding.get_host_cpu_features().get("fma"))


def _multiply_add(width: int) -> Any:
    """Return an intrinsic that computes chain := chain * value + value in every lane of every chain, in registers.

    It does so ``steps`` times, and returns one lane of the chains' sum, so that the compiler cannot remove the work.

    Args:
        width: Size of a vector in bytes.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        scalar, count = args
        value = signature.args[0]
        lanes = width * 8 // value.bitwidth
        vector = ir.VectorType(scalar.type, lanes)
        splat = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, _INT32(0))
        zeros = ir.Constant(ir.VectorType(_INT32, lanes), [0] * lanes)
        factor = builder.shuffle_vector(splat, splat, zeros)
        name = f"llvm.fma.v{lanes}f{value.bitwidth}"
        fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), name)
        chains = [cgutils.alloca_once_value(builder, factor) for _ in range(CHAINS)]
        with cgutils.for_range(builder, count):
            for chain in chains:
                builder.store(builder.call(fma, [builder.load(chain), factor, factor]), chain)
        total = builder.load(chains[0])
        for chain in chains[1:]:
            total = builder.fadd(total, builder.load(chain))
        return builder.extract_element(total, _INT32(0))

    @intrinsic
    def multiply_add(typing_context, value, steps):  # type: ignore[no-untyped-def]
        return value(value, types.int64), generate

    return multiply_add


@cache
def chains(width: int) -> Any:
    """Return the compiled loop of multiply-adds in vectors of ``width`` bytes.

    It takes a value and a number of steps, and runs 2 * :data:`CHAINS` * lanes * steps operations in the dtype of the
    value; its result depends on all.
    """
    multiply_add = _multiply_add(width)

    @njit(nogil=True)
    def run(value, steps):  # type: ignore[no-untyped-def]
        return multiply_add(value, steps)

    return run


@intrinsic
def _sum_blocks(typing_context, words, blocks, passes):  # type: ignore[no-untyped-def]
    """Read the first ``blocks`` * :data:`SUMS` vectors ``passes`` times and return the sum modulo 2**64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(words)(context, builder, args[0]).data
        lanes = vector_bytes() // 8
        vector = ir.VectorType(_INT64, lanes)
        first = builder.bitcast(data, vector.as_pointer())
        sums = [cgutils.alloca_once_value(builder, ir.Constant(vector, [0] * lanes)) for _ in range(SUMS)]
        # A compiler barrier without an instruction: memory may have changed, so every pass must read again.
        forget = ir.InlineAsm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", side_effect=True)
        with cgutils.for_range(builder, args[2]):
            builder.call(forget, [])
            with cgutils.for_range(builder, args[1]) as loop:
                for k, total in enumerate(sums):
                    stream, place = divmod(k, SUMS // STREAMS)
                    step = builder.add(builder.mul(args[1], _INT64(stream)), loop.index)
                    vector_index = builder.add(builder.mul(step, _INT64(SUMS // STREAMS)), _INT64(place))
                    read = builder.load(builder.gep(first, [vector_index]), align=8)
                    builder.store(builder.add(builder.load(total), read), total)
        together = builder.load(sums[0])
        for total in sums[1:]:
            together = builder.add(together, builder.load(total))
        result = builder.extract_element(together, _INT32(0))
        for lane in range(1, lanes):
            result = builder.add(result, builder.extract_element(together, _INT32(lane)))
        return result

    return types.uint64(words, types.int64, types.int64), generate


@njit(nogil=True)
def _read(words, block, passes):  # type: ignore[no-untyped-def]
    blocks = len(words) // block
    total = _sum_blocks(words, blocks, passes)
    for _ in range(passes):
        for i in range(blocks * block, len(words)):
            total += words[i]
    return total


def read(words: Any, passes: int) -> int:
    """Read an array ``passes`` times.

    Args:
        words: Contiguous uint64 array of any length.
        passes: Number of passes, at least 0.

    Returns:
        The sum of all words read, modulo 2**64.
    """
    return int(_read(words, SUMS * vector_bytes() // 8, passes))
