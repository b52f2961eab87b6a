"""A SIMD vector type for Numba: ``Vector(element, lanes)`` is LLVM's ``<lanes x element>``.

Numba compiles scalar loops and leaves it to LLVM to find vectors in them. This module lets a kernel say which
vectors it means. LLVM has vectors of any length as first-class values, so each operation here is one or two LLVM
instructions; LLVM then cuts them to the registers of the host: ``<16 x float>`` is one AVX-512 register, two of
AVX2, four of NEON or SSE. A kernel written with them is portable, and correct everywhere; how many lanes are fast
is chosen in :mod:`mnistbench.backends.numba.classic.layout`.

Three ideas carry it:

- **A vector is a value.** ``x + y`` and ``x * y`` work lane by lane, and ``load`` and ``store`` move lanes between
  an array and a register. Offsets count elements of the array, from its first one; there is no bounds check.
- **A tuple of vectors is a set of accumulators.** ``fma_splats(acc, x, weights, at)`` returns the tuple with
  ``acc[i] + x * weights[at + i]`` in place ``i``. Tuples are unrolled and live in registers: that is register
  tiling, the heart of every fast matrix product, in one line.
- **Constants are the lengths of tuples.** Numba specialises a function on the types of its arguments, and the
  length of a tuple is part of its type. ``lanes`` and ``tile`` arguments below are tuples of any numbers; only how
  many there are counts. So a kernel stays an ordinary function at module level, which the disk cache can store.

Rounding: the only liberty LLVM is given is ``contract``, to fuse a multiplication and an addition into one
instruction with one rounding. No flag assumes that NaN or infinity do not occur, so that both reach the caller.
"""

from __future__ import annotations

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
    """``lanes`` values of the Numba type ``element``, in one LLVM vector."""

    def __init__(self, element: types.Type, lanes: int) -> None:
        self.element = element
        self.lanes = lanes
        super().__init__(name=f"Vector({element}, {lanes})")


def _llvm_element(element: types.Type) -> ir.Type:
    """The LLVM type of one lane."""
    if isinstance(element, types.Integer):
        return ir.IntType(element.bitwidth)
    return {32: ir.FloatType(), 64: ir.DoubleType()}[element.bitwidth]


def _llvm(vector: Vector) -> ir.VectorType:
    """The LLVM type of a vector."""
    return ir.VectorType(_llvm_element(vector.element), vector.lanes)


@extending.register_model(Vector)
class _VectorModel(extending.models.PrimitiveModel):  # type: ignore[misc]
    """A vector is passed and kept as the LLVM value that it is."""

    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, _llvm(vector))


def _define_arithmetic(operation: Any, instruction: str) -> None:
    """Let ``operation`` take two float vectors of one type, as one LLVM instruction."""

    @intrinsic
    def emitted(typing: Any, x: Any, y: Any) -> Any:
        def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            return getattr(builder, instruction)(*arguments, flags=_CONTRACT)

        return x(x, y), emit

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


# What the intrinsics are built from: Python functions that emit LLVM instructions.


def _constant(t: ir.VectorType, value: float) -> ir.Constant:
    """A vector with ``value`` in every lane."""
    scalar = int(value) if isinstance(t.element, ir.IntType) else float(value)
    return ir.Constant(t, [scalar] * t.count)


def _splat(builder: Any, scalar: Any, lanes: int) -> Any:
    """A vector with ``scalar`` in every lane. As an operand of an FMA it costs nothing on AVX-512."""
    undefined = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    first = builder.insert_element(undefined, scalar, _INT32(0))
    return builder.shuffle_vector(first, undefined, _constant(ir.VectorType(_INT32, lanes), 0))


def _shuffle(builder: Any, x: Any, y: Any, lanes: list[int]) -> Any:
    """The given lanes of x followed by y."""
    return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(_INT32, len(lanes)), lanes))


def _fma(builder: Any, acc: Any, x: Any, y: Any) -> Any:
    """acc + x * y, one instruction where the host has it."""
    return builder.fadd(acc, builder.fmul(x, y, flags=_CONTRACT), flags=_CONTRACT)


def _address(context: Any, builder: Any, array_type: Any, array: Any, offset: Any) -> Any:
    """A pointer to array[offset] of an array that is contiguous in memory, read as one-dimensional."""
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [offset])


def _load(builder: Any, pointer: Any, element: types.Type, vector: Vector) -> Any:
    """Lanes from memory; integers (unsigned where they are bytes) are converted to the vector's float type."""
    stored = Vector(element, vector.lanes)
    pointer = builder.bitcast(pointer, _llvm(stored).as_pointer())
    value = builder.load(pointer, align=element.bitwidth // 8)
    if element == vector.element:
        return value
    # Through int32: CPUs convert that to float in one instruction, and bytes to that in another.
    return builder.sitofp(builder.zext(value, ir.VectorType(_INT32, vector.lanes)), _llvm(vector))


def _items(builder: Any, value: Any, value_type: Any) -> list[Any]:
    """The vectors of a tuple, or of a single vector."""
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
    """A vector of zeros: as many lanes as the tuple ``lanes`` is long, of the element type of ``array``."""
    vector = Vector(array.dtype, lanes.count)

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return _constant(_llvm(vector), 0)

    return vector(lanes, array), emit


@intrinsic
def splat(typing: Any, like: Any, value: Any) -> Any:
    """A vector of the type of ``like`` with the number ``value`` in every lane."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return _splat(builder, context.cast(builder, arguments[1], value, like.element), like.lanes)

    return like(like, value), emit


@intrinsic
def load(typing: Any, like: Any, array: Any, offset: Any) -> Any:
    """array[offset], array[offset + 1], ... in a vector of the type of ``like``, converted from integers."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return _load(builder, _address(context, builder, array, arguments[1], arguments[2]), array.dtype, like)

    return like(like, array, types.intp), emit


@intrinsic
def store(typing: Any, array: Any, offset: Any, stride: Any, values: Any) -> Any:
    """Store a vector at array[offset], or the i-th vector of a tuple at array[offset + i * stride]."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        pointer = _address(context, builder, array, arguments[0], arguments[1])
        for i, value in enumerate(_items(builder, arguments[3], values)):
            place = builder.gep(pointer, [builder.mul(arguments[2], _INT64(i))])
            place = builder.bitcast(place, value.type.as_pointer())
            builder.store(value, place, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, values), emit


def _halves(upper: bool) -> Callable[..., Any]:
    """The intrinsic that takes one half of a vector's lanes, or of every vector's of a tuple."""

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
"""The first half of the lanes of a vector, or of each vector of a tuple. Whole registers: free."""
high = _halves(upper=True)
"""The second half."""


@intrinsic
def join(typing: Any, lows: Any, highs: Any) -> Any:
    """A tuple of vectors twice as long: ``low`` and ``high`` undone."""
    narrow = lows.dtype
    result = types.UniTuple(Vector(narrow.element, 2 * narrow.lanes), lows.count)

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        pairs = zip(_items(builder, arguments[0], lows), _items(builder, arguments[1], highs), strict=True)
        every = list(range(2 * narrow.lanes))
        return context.make_tuple(builder, result, [_shuffle(builder, x, y, every) for x, y in pairs])

    return result(lows, highs), emit


@intrinsic
def maximum(typing: Any, x: Any, y: Any) -> Any:
    """The larger of x and y in each lane; y where x is NaN."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *arguments), *arguments)

    return x(x, y), emit


@intrinsic
def relu(typing: Any, z: Any) -> Any:
    """max(z, 0), NaN where z is NaN."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        nothing = _constant(_llvm(z), 0)
        return builder.select(builder.fcmp_ordered("<", arguments[0], nothing), nothing, arguments[0])

    return z(z), emit


@intrinsic
def where_positive(typing: Any, z: Any, x: Any) -> Any:
    """x in the lanes where z > 0, else 0; of two tuples, place by place."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        chosen = []
        for condition, value in zip(_items(builder, arguments[0], z), _items(builder, arguments[1], x), strict=True):
            nothing = _constant(value.type, 0)
            chosen.append(builder.select(builder.fcmp_ordered(">", condition, nothing), value, nothing))
        return chosen[0] if isinstance(x, Vector) else context.make_tuple(builder, x, chosen)

    return x(z, x), emit


@intrinsic
def where_equal(typing: Any, array: Any, offset: Any, value: Any, x: Any, y: Any) -> Any:
    """x in the lanes where the integer array[offset + lane] equals ``value``, else y."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        pointer = _address(context, builder, array, arguments[0], arguments[1])
        keys = _load(builder, pointer, array.dtype, Vector(array.dtype, x.lanes))
        key = context.cast(builder, arguments[2], types.intp, array.dtype)
        same = builder.icmp_signed("==", keys, _splat(builder, key, x.lanes))
        return builder.select(same, arguments[3], arguments[4])

    return x(array, types.intp, types.intp, x, y), emit


@intrinsic
def as_doubles(typing: Any, x: Any) -> Any:
    """The lanes of x as float64."""
    result = Vector(types.float64, x.lanes)

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return arguments[0] if x == result else builder.fpext(arguments[0], _llvm(result))

    return result(x), emit


# The exponential's 2**n is built from the bits of a float: mantissa bits, exponent bias, and how many terms of the
# Taylor series of exp on |f| <= ln(2)/2 leave an error below half a unit in the last place.
_EXP_FORMAT = {32: (23, 127, 7), 64: (52, 1023, 13)}
# ln(2) in two parts. The first has few enough bits that n times it is exact for every n that occurs.
_LN2_HIGH = 0.693359375
_LN2_LOW = -2.121944400546905827679e-4


@intrinsic
def exp(typing: Any, x: Any) -> Any:
    """exp(x) for x <= 0, within a few units in the last place.

    exp(x) = 2**n * exp(f) with n = round(x / ln 2) and f = x - n ln 2. Below the smallest normal number the result
    stays there instead of falling to 0. NaN gives NaN.
    """
    bits = x.element.bitwidth
    mantissa, bias, terms = _EXP_FORMAT[bits]

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        t = _llvm(x)
        whole = ir.VectorType(ir.IntType(bits), x.lanes)
        smallest = _constant(t, (1 - bias) * 0.6931471805599453)
        value = builder.select(builder.fcmp_ordered("<", arguments[0], smallest), smallest, arguments[0])
        # Adding 1.5 * 2**mantissa rounds to a whole number, and leaves that number in the lowest bits.
        shift = _constant(t, 1.5 * 2**mantissa)
        shifted = _fma(builder, shift, value, _constant(t, 1.4426950408889634))
        n = builder.fsub(shifted, shift)
        f = _fma(builder, value, n, _constant(t, -_LN2_HIGH))
        f = _fma(builder, f, n, _constant(t, -_LN2_LOW))
        factorial = 1.0
        coefficients = [1.0]
        for k in range(1, terms + 1):
            factorial *= k
            coefficients.append(1 / factorial)
        series = _constant(t, coefficients[-1])
        for coefficient in reversed(coefficients[:-1]):
            series = _fma(builder, _constant(t, coefficient), series, f)
        exponent = builder.add(builder.bitcast(shifted, whole), _constant(whole, bias))
        power = builder.bitcast(builder.shl(exponent, _constant(whole, mantissa)), t)
        return builder.fmul(series, power)

    return x(x), emit


# Tuples of vectors.


@intrinsic
def repeat(typing: Any, tile: Any, x: Any) -> Any:
    """A tuple as long as ``tile`` with x in every place."""
    result = types.UniTuple(x, tile.count)

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return context.make_tuple(builder, result, [arguments[1]] * result.count)

    return result(tile, x), emit


def _part(rest: bool) -> Callable[..., Any]:
    """The intrinsic that takes the first len(tile) places of a tuple, or those after them."""

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
"""The first vectors of a tuple, as many as ``tile`` is long."""
tail = _part(rest=True)
"""The vectors after those."""


@intrinsic
def loads(typing: Any, tile: Any, like: Any, array: Any, offset: Any, stride: Any) -> Any:
    """A tuple as long as ``tile``: in place i what ``load`` gives at offset + i * stride."""
    result = types.UniTuple(like, tile.count)

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        pointer = _address(context, builder, array, arguments[2], arguments[3])
        places = [builder.gep(pointer, [builder.mul(arguments[4], _INT64(i))]) for i in range(tile.count)]
        values = [_load(builder, place, array.dtype, like) for place in places]
        return context.make_tuple(builder, result, values)

    return result(tile, like, array, types.intp, types.intp), emit


@intrinsic
def fma(typing: Any, acc: Any, x: Any, ys: Any) -> Any:
    """acc[i] + x * ys[i] in place i."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        pairs = zip(_items(builder, arguments[0], acc), _items(builder, arguments[2], ys), strict=True)
        return context.make_tuple(builder, acc, [_fma(builder, a, arguments[1], y) for a, y in pairs])

    return acc(acc, x, ys), emit


@intrinsic
def fma_splats(typing: Any, acc: Any, x: Any, array: Any, offset: Any, stride: Any) -> Any:
    """acc[i] + x * array[offset + i * stride] in place i: one value for all lanes of each."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        pointer = _address(context, builder, array, arguments[2], arguments[3])
        sums = []
        for i, value in enumerate(_items(builder, arguments[0], acc)):
            scalar = builder.load(builder.gep(pointer, [builder.mul(arguments[4], _INT64(i))]))
            sums.append(_fma(builder, value, arguments[1], _splat(builder, scalar, x.lanes)))
        return context.make_tuple(builder, acc, sums)

    return acc(acc, x, array, types.intp, types.intp), emit


@intrinsic
def fma_loads(typing: Any, acc: Any, xs: Any, array: Any, offset: Any, stride: Any) -> Any:
    """An outer product, lane by lane: acc[q * k + i] + xs[q] * y[i], with the vector y[i] at offset + i * stride.

    The tuple ``acc`` is len(xs) * k long. Each y[i] is loaded once and used len(xs) times.
    """
    vector = acc.dtype

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        pointer = _address(context, builder, array, arguments[2], arguments[3])
        factors = _items(builder, arguments[1], xs)
        sums = _items(builder, arguments[0], acc)
        k = len(sums) // len(factors)
        for i in range(k):
            place = builder.gep(pointer, [builder.mul(arguments[4], _INT64(i))])
            y = _load(builder, place, array.dtype, vector)
            for q, x in enumerate(factors):
                sums[q * k + i] = _fma(builder, sums[q * k + i], x, y)
        return context.make_tuple(builder, acc, sums)

    return acc(acc, xs, array, types.intp, types.intp), emit


@intrinsic
def add_lane_sums(typing: Any, array: Any, offset: Any, values: Any) -> Any:
    """array[offset + i] += the sum of the lanes of values[i].

    A tree: each step adds neighbouring lanes of two vectors into one, so that after log2(lanes) steps a vector
    holds one sum per lane. It adds zero to what follows the last sum, up to a whole number of vectors: the array
    must go on that far, and what is there keeps its value.
    """
    vector = values.dtype
    n = vector.lanes

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        items = _items(builder, arguments[2], values)
        pointer = _address(context, builder, array, arguments[0], arguments[1])
        nothing = _constant(_llvm(vector), 0)
        for first in range(0, len(items), n):
            level = items[first : first + n]
            step = 1
            while step < n:
                level += [nothing] * (len(level) % 2)
                # Lanes whose bit ``step`` is clear are x's, the others y's: each has one addend in place, and one
                # in the lane beside it.
                stay = [lane + n if lane & step else lane for lane in range(n)]
                move = [(lane ^ step) + n if lane & step else lane ^ step for lane in range(n)]
                level = [
                    builder.fadd(_shuffle(builder, x, y, stay), _shuffle(builder, x, y, move))
                    for x, y in zip(level[::2], level[1::2], strict=True)
                ]
                step *= 2
            place = builder.gep(pointer, [_INT64(first)])
            total = builder.fadd(_load(builder, place, array.dtype, vector), level[0])
            place = builder.bitcast(place, total.type.as_pointer())
            builder.store(total, place, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, values), emit


# Scalars.


@intrinsic
def index(typing: Any, array: Any, offset: Any) -> Any:
    """array[offset] of an array of unsigned integers, as an index: no test for a negative one, in or out."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        value = builder.load(_address(context, builder, array, arguments[0], arguments[1]))
        return builder.zext(value, _INT64) if array.dtype.bitwidth < 64 else value

    return types.intp(array, types.intp), emit


@intrinsic
def prefetch(typing: Any, array: Any, offset: Any) -> Any:
    """Ask for the cache line of array[offset], which may lie outside the array."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        pointer = _address(context, builder, array, arguments[0], arguments[1])
        pointer = builder.bitcast(pointer, ir.IntType(8).as_pointer())
        # For reading, into every level, data.
        call_intrinsic(builder, "llvm.prefetch.p0", ir.VoidType(), [pointer, _INT32(0), _INT32(3), _INT32(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), emit


@intrinsic
def count_bits(typing: Any, x: Any) -> Any:
    """How many bits of a 64-bit integer are set."""

    def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), emit
