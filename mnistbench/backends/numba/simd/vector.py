"""A SIMD vector type for Numba: ``Vector(element, lanes)`` is LLVM's ``<lanes x element>``.

Kernels state their vectors here instead of relying on LLVM's auto-vectorization. LLVM accepts vectors of any length
and splits them over the host's registers: ``<16 x float>`` is one AVX-512 register, two of AVX2, four of NEON or SSE.
Every length is correct on every host; :mod:`mnistbench.backends.numba.classic.layout` chooses a fast one.

- **A vector is a value.** ``x + y`` and ``x * y`` work lane by lane; ``load`` and ``store`` move lanes between an array
  and a register. Offsets count elements from the array's first one, without bounds checks.
- **A tuple of vectors is a set of accumulators**, unrolled and kept in registers (register tiling).
  ``fma_splats(acc, x, weights, at, 1)`` returns the tuple with ``acc[i] + x * weights[at + i]`` at index ``i``.
- **Compile-time constants are the lengths of tuples.** Numba specializes a function on its argument types, and a
  tuple's length is part of its type. Only the length of the arguments ``lanes`` and ``tile`` matters, not their
  values. A kernel thus remains an ordinary module-level function, which the disk cache can store.

LLVM may only fuse a multiplication and an addition into one instruction with one rounding (``contract``). NaN and
infinity always reach the caller.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils

intrinsic: Callable[[Callable[..., Any]], Callable[..., Any]] = extending.intrinsic

_CONTRACT = ("contract",)
_INT32 = ir.IntType(32)
_INT64 = ir.IntType(64)


class Vector(types.Type):  # type: ignore[misc]
    """The type of an LLVM vector of ``lanes`` values of the Numba type ``element``."""

    def __init__(self, element: types.Type, lanes: int) -> None:
        self.element = element
        self.lanes = lanes
        super().__init__(name=f"Vector({element}, {lanes})")


def _llvm_element(element: types.Type) -> ir.Type:
    if isinstance(element, types.Integer):
        return ir.IntType(element.bitwidth)
    return {32: ir.FloatType(), 64: ir.DoubleType()}[element.bitwidth]


def _llvm(vector: Vector) -> ir.VectorType:
    return ir.VectorType(_llvm_element(vector.element), vector.lanes)


@extending.register_model(Vector)
class _VectorModel(extending.models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, _llvm(vector))


def _define_arithmetic(operation: Any, instruction: str) -> None:
    """Define ``operation`` on two float vectors of one type as one LLVM instruction."""

    @intrinsic
    def emitted(typing: Any, x: Any, y: Any) -> Any:
        return x(x, y), lambda _, builder, sig, xy: getattr(builder, instruction)(*xy, flags=_CONTRACT)

    @extending.overload(operation)  # type: ignore[untyped-decorator]
    def of_vectors(x: Any, y: Any) -> Any:
        def implementation(x: Any, y: Any) -> Any:
            return emitted(x, y)

        return implementation if isinstance(x, Vector) and x == y else None


for _operation, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _define_arithmetic(_operation, _instruction)


# Python functions that emit the LLVM instructions of the intrinsics.


def _constant(t: ir.VectorType, value: float) -> ir.Constant:
    """Return a constant vector with ``value`` in every lane."""
    scalar = int(value) if isinstance(t.element, ir.IntType) else float(value)
    return ir.Constant(t, [scalar] * t.count)


def _splat(builder: Any, scalar: Any, lanes: int) -> Any:
    """Broadcast ``scalar`` to every lane. As an operand of an FMA, a broadcast is free on AVX-512."""
    undefined = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    first = builder.insert_element(undefined, scalar, _INT32(0))
    return builder.shuffle_vector(first, undefined, _constant(ir.VectorType(_INT32, lanes), 0))


def _shuffle(builder: Any, x: Any, y: Any, lanes: list[int]) -> Any:
    """Select lanes by index from the concatenation of x and y."""
    return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(_INT32, len(lanes)), lanes))


def _fma(builder: Any, acc: Any, x: Any, y: Any) -> Any:
    """Compute acc + x * y, in one instruction where the host has it."""
    return builder.fadd(acc, builder.fmul(x, y, flags=_CONTRACT), flags=_CONTRACT)


def address(context: Any, builder: Any, array_type: Any, array: Any, offset: Any) -> Any:
    """Return a pointer to array[offset] of a contiguous array, viewed as one-dimensional."""
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [offset])


def _strided(builder: Any, pointer: Any, stride: Any, i: int) -> Any:
    """Return ``pointer`` advanced by i * stride elements."""
    return builder.gep(pointer, [builder.mul(stride, _INT64(i))])


def _load(builder: Any, pointer: Any, element: types.Type, vector: Vector) -> Any:
    """Load a vector, converting integers (bytes are unsigned) to the vector's float type."""
    stored = Vector(element, vector.lanes)
    pointer = builder.bitcast(pointer, _llvm(stored).as_pointer())
    value = builder.load(pointer, align=element.bitwidth // 8)
    if element == vector.element:
        return value
    # Via int32: bytes to int32 and int32 to float are one instruction each.
    return builder.sitofp(builder.zext(value, ir.VectorType(_INT32, vector.lanes)), _llvm(vector))


def _store(builder: Any, pointer: Any, value: Any, element: types.Type) -> None:
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=element.bitwidth // 8)


def _items(builder: Any, value: Any, value_type: Any) -> list[Any]:
    """Return the vectors of a tuple, or a single vector, as a list."""
    if isinstance(value_type, Vector):
        return [value]
    return [builder.extract_value(value, i) for i in range(value_type.count)]


def call_intrinsic(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """Call an LLVM intrinsic by name."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


# Vectors.


@intrinsic
def zero(typing: Any, lanes: Any, array: Any) -> Any:
    """Return a vector of len(lanes) zeros with the element type of ``array``."""
    vector = Vector(array.dtype, lanes.count)
    return vector(lanes, array), lambda *_: _constant(_llvm(vector), 0)


@intrinsic
def splat(typing: Any, like: Any, value: Any) -> Any:
    """Return a vector of the type of ``like`` with ``value`` in every lane."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return _splat(builder, context.cast(builder, arguments[1], value, like.element), like.lanes)

    return like(like, value), emit


@intrinsic
def load(typing: Any, like: Any, array: Any, offset: Any) -> Any:
    """Load array[offset], array[offset + 1], ... into a vector of the type of ``like``; integers are converted."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return _load(builder, address(context, builder, array, arguments[1], arguments[2]), array.dtype, like)

    return like(like, array, types.intp), emit


@intrinsic
def store(typing: Any, array: Any, offset: Any, stride: Any, values: Any) -> Any:
    """Store a vector at array[offset], or vector i of a tuple at array[offset + i * stride]."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        pointer = address(context, builder, array, arguments[0], arguments[1])
        for i, value in enumerate(_items(builder, arguments[3], values)):
            _store(builder, _strided(builder, pointer, arguments[2], i), value, array.dtype)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, values), emit


def _halves(upper: bool) -> Callable[..., Any]:
    """Return the intrinsic that selects one half of the lanes of a vector, or of each vector of a tuple."""

    @intrinsic
    def half(typing: Any, wide: Any) -> Any:
        vector = wide if isinstance(wide, Vector) else wide.dtype
        narrow = Vector(vector.element, vector.lanes // 2)
        result = narrow if isinstance(wide, Vector) else types.UniTuple(narrow, wide.count)
        first = narrow.lanes if upper else 0

        def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            lanes = list(range(first, first + narrow.lanes))
            parts = [_shuffle(builder, x, x, lanes) for x in _items(builder, arguments[0], wide)]
            return parts[0] if result is narrow else context.make_tuple(builder, result, parts)

        return result(wide), emit

    return half


low = _halves(upper=False)
"""The first half of the lanes of a vector, or of each vector of a tuple; free for whole registers."""
high = _halves(upper=True)
"""The second half."""


@intrinsic
def join(typing: Any, lows: Any, highs: Any) -> Any:
    """Concatenate the lanes of each pair of vectors of two tuples: the inverse of ``low`` and ``high``."""
    narrow = lows.dtype
    result = types.UniTuple(Vector(narrow.element, 2 * narrow.lanes), lows.count)

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        pairs = zip(_items(builder, arguments[0], lows), _items(builder, arguments[1], highs), strict=True)
        every = list(range(2 * narrow.lanes))
        return context.make_tuple(builder, result, [_shuffle(builder, x, y, every) for x, y in pairs])

    return result(lows, highs), emit


@intrinsic
def maximum(typing: Any, x: Any, y: Any) -> Any:
    """Return the larger of x and y in each lane; y where x is NaN."""
    return x(x, y), lambda _, builder, sig, xy: builder.select(builder.fcmp_ordered(">", *xy), *xy)


@intrinsic
def relu(typing: Any, z: Any) -> Any:
    """Return max(z, 0) in each lane; NaN where z is NaN."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        nothing = _constant(_llvm(z), 0)
        return builder.select(builder.fcmp_ordered("<", arguments[0], nothing), nothing, arguments[0])

    return z(z), emit


@intrinsic
def where_positive(typing: Any, z: Any, x: Any) -> Any:
    """Return x in the lanes where z > 0, else 0; for two tuples, vector by vector."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        chosen = []
        for condition, value in zip(_items(builder, arguments[0], z), _items(builder, arguments[1], x), strict=True):
            nothing = _constant(value.type, 0)
            chosen.append(builder.select(builder.fcmp_ordered(">", condition, nothing), value, nothing))
        return chosen[0] if isinstance(x, Vector) else context.make_tuple(builder, x, chosen)

    return x(z, x), emit


@intrinsic
def where_equal(typing: Any, array: Any, offset: Any, value: Any, x: Any, y: Any) -> Any:
    """Return x in the lanes where the integer array[offset + lane] equals ``value``, else y."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        pointer = address(context, builder, array, arguments[0], arguments[1])
        keys = _load(builder, pointer, array.dtype, Vector(array.dtype, x.lanes))
        key = context.cast(builder, arguments[2], types.intp, array.dtype)
        same = builder.icmp_signed("==", keys, _splat(builder, key, x.lanes))
        return builder.select(same, arguments[3], arguments[4])

    return x(array, types.intp, types.intp, x, y), emit


@intrinsic
def as_doubles(typing: Any, x: Any) -> Any:
    """Convert the lanes of x to float64."""
    result = Vector(types.float64, x.lanes)

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return arguments[0] if x == result else builder.fpext(arguments[0], _llvm(result))

    return result(x), emit


# For each float size: mantissa bits, exponent bias, and the number of terms of exp's Taylor series that keep its error
# on |f| <= ln(2)/2 below half a unit in the last place.
_EXP_FORMAT = {32: (23, 127, 7), 64: (52, 1023, 13)}
# ln(2) in two parts. The first has so few bits that n times it is exact for every n that occurs.
_LN2_HIGH = 0.693359375
_LN2_LOW = -2.121944400546905827679e-4


@intrinsic
def exp(typing: Any, x: Any) -> Any:
    """Compute exp(x) for x <= 0, within a few units in the last place.

    exp(x) = 2**n * exp(f) with n = round(x / ln 2) and f = x - n ln 2. The result is never below the smallest normal
    number. NaN gives NaN.
    """
    bits = x.element.bitwidth
    mantissa, bias, terms = _EXP_FORMAT[bits]

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        t = _llvm(x)
        whole = ir.VectorType(ir.IntType(bits), x.lanes)
        smallest = _constant(t, (1 - bias) * 0.6931471805599453)
        value = builder.select(builder.fcmp_ordered("<", arguments[0], smallest), smallest, arguments[0])
        # Adding 1.5 * 2**mantissa rounds to an integer and leaves that integer in the lowest bits.
        shift = _constant(t, 1.5 * 2**mantissa)
        shifted = _fma(builder, shift, value, _constant(t, 1.4426950408889634))
        n = builder.fsub(shifted, shift)
        f = _fma(builder, value, n, _constant(t, -_LN2_HIGH))
        f = _fma(builder, f, n, _constant(t, -_LN2_LOW))
        series = _constant(t, 1 / math.factorial(terms))
        for k in reversed(range(terms)):
            series = _fma(builder, _constant(t, 1 / math.factorial(k)), series, f)
        exponent = builder.add(builder.bitcast(shifted, whole), _constant(whole, bias))
        power = builder.bitcast(builder.shl(exponent, _constant(whole, mantissa)), t)
        return builder.fmul(series, power)

    return x(x), emit


# Tuples of vectors.


@intrinsic
def repeat(typing: Any, tile: Any, x: Any) -> Any:
    """Return a tuple of len(tile) copies of x."""
    result = types.UniTuple(x, tile.count)
    return result(tile, x), lambda context, builder, sig, arguments: context.make_tuple(
        builder, result, [arguments[1]] * result.count
    )


def _part(rest: bool) -> Callable[..., Any]:
    """Return the intrinsic that takes the first len(tile) items of a tuple, or the rest."""

    @intrinsic
    def part(typing: Any, tile: Any, values: Any) -> Any:
        places = range(values.count)[tile.count :] if rest else range(tile.count)
        result = types.UniTuple(values.dtype, len(places))

        def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            items = _items(builder, arguments[1], values)
            return context.make_tuple(builder, result, [items[i] for i in places])

        return result(tile, values), emit

    return part


head = _part(rest=False)
"""The first len(tile) vectors of a tuple."""
tail = _part(rest=True)
"""The vectors after the first len(tile)."""


@intrinsic
def loads(typing: Any, tile: Any, like: Any, array: Any, offset: Any, stride: Any) -> Any:
    """Return a tuple of len(tile) vectors; vector i is loaded from array[offset + i * stride]."""
    result = types.UniTuple(like, tile.count)

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        pointer = address(context, builder, array, arguments[2], arguments[3])
        places = [_strided(builder, pointer, arguments[4], i) for i in range(tile.count)]
        values = [_load(builder, place, array.dtype, like) for place in places]
        return context.make_tuple(builder, result, values)

    return result(tile, like, array, types.intp, types.intp), emit


@intrinsic
def splats(typing: Any, tile: Any, like: Any, array: Any, offset: Any, stride: Any) -> Any:
    """Return a tuple of len(tile) vectors; vector i has array[offset + i * stride] in every lane."""
    result = types.UniTuple(like, tile.count)

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        pointer = address(context, builder, array, arguments[2], arguments[3])
        values = [builder.load(_strided(builder, pointer, arguments[4], i)) for i in range(tile.count)]
        return context.make_tuple(builder, result, [_splat(builder, value, like.lanes) for value in values])

    return result(tile, like, array, types.intp, types.intp), emit


@intrinsic
def fma(typing: Any, acc: Any, x: Any, ys: Any) -> Any:
    """Return the tuple of acc[i] + x * ys[i]."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        pairs = zip(_items(builder, arguments[0], acc), _items(builder, arguments[2], ys), strict=True)
        return context.make_tuple(builder, acc, [_fma(builder, a, arguments[1], y) for a, y in pairs])

    return acc(acc, x, ys), emit


@intrinsic
def fma_splats(typing: Any, acc: Any, x: Any, array: Any, offset: Any, stride: Any) -> Any:
    """Return the tuple of acc[i] + x * array[offset + i * stride], each array value broadcast to all lanes."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        pointer = address(context, builder, array, arguments[2], arguments[3])
        sums = []
        for i, value in enumerate(_items(builder, arguments[0], acc)):
            scalar = builder.load(_strided(builder, pointer, arguments[4], i))
            sums.append(_fma(builder, value, arguments[1], _splat(builder, scalar, x.lanes)))
        return context.make_tuple(builder, acc, sums)

    return acc(acc, x, array, types.intp, types.intp), emit


@intrinsic
def fma_loads(typing: Any, acc: Any, xs: Any, array: Any, offset: Any, stride: Any) -> Any:
    """Add an outer product: acc[q * k + i] + xs[q] * y[i], lane by lane, with vector y[i] at offset + i * stride.

    ``acc`` has len(xs) * k vectors. Each y[i] is loaded once and used len(xs) times.
    """
    vector = acc.dtype

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        pointer = address(context, builder, array, arguments[2], arguments[3])
        factors = _items(builder, arguments[1], xs)
        sums = _items(builder, arguments[0], acc)
        k = len(sums) // len(factors)
        for i in range(k):
            y = _load(builder, _strided(builder, pointer, arguments[4], i), array.dtype, vector)
            for q, x in enumerate(factors):
                sums[q * k + i] = _fma(builder, sums[q * k + i], x, y)
        return context.make_tuple(builder, acc, sums)

    return acc(acc, xs, array, types.intp, types.intp), emit


@intrinsic
def transpose(typing: Any, rows: Any) -> Any:
    """Return the columns of a square matrix of as many vectors as they have lanes, a power of two."""
    lanes = rows.dtype.lanes
    assert rows.count == lanes, "not square"

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        found = _items(builder, arguments[0], rows)
        half = 1
        while half < lanes:  # exchange the off-diagonal quarters of every square of 2 * half rows
            low = [lane if not lane & half else lanes + (lane ^ half) for lane in range(lanes)]
            high = [lane ^ half if not lane & half else lanes + lane for lane in range(lanes)]
            for i in range(lanes):
                if not i & half:
                    x, y = found[i], found[i | half]
                    found[i], found[i | half] = _shuffle(builder, x, y, low), _shuffle(builder, x, y, high)
            half *= 2
        return context.make_tuple(builder, rows, found)

    return rows(rows), emit


@intrinsic
def add_lane_sums(typing: Any, array: Any, offset: Any, values: Any) -> Any:
    """Add the sum of the lanes of values[i] to array[offset + i].

    A tree reduction: each of log2(lanes) steps adds neighbouring lanes of two vectors into one, until a vector holds
    one sum per lane. Zero is added to the elements after the last sum, up to a whole vector; the array must have them.
    """
    vector = values.dtype
    n = vector.lanes

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        items = _items(builder, arguments[2], values)
        pointer = address(context, builder, array, arguments[0], arguments[1])
        nothing = _constant(_llvm(vector), 0)
        for first in range(0, len(items), n):
            level = items[first : first + n]
            step = 1
            while step < n:
                level += [nothing] * (len(level) % 2)
                # Lanes whose bit ``step`` is clear sum lanes of x, the others of y: the lane itself and lane ^ step.
                stay = [lane + n if lane & step else lane for lane in range(n)]
                move = [(lane ^ step) + n if lane & step else lane ^ step for lane in range(n)]
                level = [
                    builder.fadd(_shuffle(builder, x, y, stay), _shuffle(builder, x, y, move))
                    for x, y in zip(level[::2], level[1::2], strict=True)
                ]
                step *= 2
            place = builder.gep(pointer, [_INT64(first)])
            total = builder.fadd(_load(builder, place, array.dtype, vector), level[0])
            _store(builder, place, total, array.dtype)
        return context.get_dummy_value()

    return types.void(array, types.intp, values), emit


# Scalars.


@intrinsic
def index(typing: Any, array: Any, offset: Any) -> Any:
    """Return array[offset] of an unsigned integer array as an index, without Numba's tests for negative indices."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        value = builder.load(address(context, builder, array, arguments[0], arguments[1]))
        return builder.zext(value, _INT64) if array.dtype.bitwidth < 64 else value

    return types.intp(array, types.intp), emit


@intrinsic
def some(typing: Any, lanes: Any, array: Any, offset: Any) -> Any:
    """Whether one of the len(lanes) integers from array[offset] on is not zero."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        bits = ir.IntType(lanes.count * array.dtype.bitwidth)
        pointer = builder.bitcast(address(context, builder, array, arguments[1], arguments[2]), bits.as_pointer())
        return builder.icmp_unsigned("!=", builder.load(pointer, align=array.dtype.bitwidth // 8), bits(0))

    return types.boolean(lanes, array, types.intp), emit


@intrinsic
def prefetch(typing: Any, array: Any, offset: Any) -> Any:
    """Prefetch the cache line of array[offset], which may lie outside the array."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        pointer = address(context, builder, array, arguments[0], arguments[1])
        pointer = builder.bitcast(pointer, ir.IntType(8).as_pointer())
        # Arguments: read, highest temporal locality, data cache.
        call_intrinsic(builder, "llvm.prefetch.p0", ir.VoidType(), [pointer, _INT32(0), _INT32(3), _INT32(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), emit


@intrinsic
def count_bits(typing: Any, x: Any) -> Any:
    """Return the number of set bits of a 64-bit integer."""
    return types.uint64(types.uint64), lambda _, builder, sig, arguments: builder.ctpop(arguments[0])
