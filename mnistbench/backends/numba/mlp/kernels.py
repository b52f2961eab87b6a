"""The kernels for networks of any depth on mini-batches; zeros are skipped in the first layer.

A batch is computed in blocks of images. Images and activations are stored in rows, weights as (inputs, units). Each
thread does its share of four stages; a barrier follows stages 2, 3 and, with stage 1 of the next block, 4:

1. :func:`gather` its images: copy them, and list for each four of them the pixels that are not all zero.
2. :func:`first_layer` of its units, for all images, and :func:`list_images` of its pixels: for each four neighbours
   the images where they are not all zero.
3. :func:`other_layers` of its images, forwards and backwards.
4. :func:`gradients` of its units of the first layer and of its rows of the other weights, and the optimizer's update.

README.md beside this file says why this is fast and what was tried. Loops stand where slices could: an assignment to
a slice takes a second or more to compile.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnistbench.backends.numba.mlp.products import FOUR, load_four, multiply, store_four
from mnistbench.backends.numba.mlp.random import keep
from mnistbench.backends.numba.mlp.updates import Rates, Rule, move
from mnistbench.backends.numba.simd import Array, Bytes, Ints, sync
from mnistbench.backends.numba.simd.atomic import peek
from mnistbench.backends.numba.simd.cache import entry_point, kernel
from mnistbench.backends.numba.simd.vector import fma_loads, index, loads, repeat, splats, store, transpose, zero
from mnistbench.backends.numba.simd.workers import ABANDON, STOP
from mnistbench.reference.mlp import LEAK
from mnistbench.task.recipe import ACTIVATIONS

ZERO: Any = np.int64(0)
ONE: Any = np.int64(1)
"""Typed numbers: a literal has a type of its own in Numba, and callees would be compiled once more for it."""

RELU, LEAKY_RELU, TANH, SIGMOID = map(ACTIVATIONS.index, ("relu", "leaky-relu", "tanh", "sigmoid"))

# Columns of ``Net.shape``, which has a row for each layer.
INPUTS, UNITS = 0, 1
WIDTH = 2
"""Number of values in a row of weights: the units, padded."""
WEIGHTS, BIASES = 3, 4
"""Offsets in a parameter vector. The first layer's weights are stored as (threads, pixels, the thread's units)."""
OUTPUTS = 5
"""Offset of the layer's values, (images, row), in ``Room.A``, ``D`` and ``dZ``."""
ROW = 6
"""Number of values in a row: the width, padded to an odd number of cache lines, so that rows do not compete for the
same places of a cache."""
TRANSPOSED = 7
"""Offset in ``Net.transposed`` of the weights as (width, row of the layer before); none of the first layer."""
SHAPE_COLUMNS = 8

LOSS, HITS, SCORES = range(3)
"""Indices of an image's scores, and their number."""


class Net(NamedTuple):
    """The network and its training state.

    Attributes:
        lanes: Tuple whose length is the lanes of a vector.
        tile, inner: Tuples whose lengths are the vectors of a tile of units in the first and the other layers.
        shape: (layers, SHAPE_COLUMNS) table of layers.
        activation: Index into ACTIVATIONS.
        dense: Whether the first layer skips no pixels, since few are zero.
        parameters, v, s: (total,) parameters and the optimizer's moments, in the layout of ``shape``.
        transposed: Weights of all layers but the first, transposed.
        gradients: (total,) sums over images, unless the optimizer consumes them at once.
        keys: (layers - 1, 2) key of each hidden layer's dropout in this epoch.
        below: (layers - 1,) a unit is dropped if its 32-bit word is below this; -1 for a layer without dropout.
        scales: (layers - 1,) factor of a kept unit.
    """

    lanes: Any
    tile: Any
    inner: Any
    shape: Ints
    activation: int
    dense: bool
    parameters: Array
    v: Array
    s: Array
    transposed: Array
    gradients: Array
    rule: Rule
    keys: NDArray[np.uint32]
    below: Ints
    scales: Array


class Data(NamedTuple):
    """The images to train on next.

    Attributes:
        images: (rows, pixels) the training images, or those that were augmented for the iterations to come.
        rows: (m,) the row in ``images`` of each image in the epoch's order.
        labels: (m,) labels of the training images.
        order: (m,) indices of the training images in the epoch's order.
        values: (256,) the float value of each byte.
    """

    images: Bytes
    rows: Ints
    labels: Ints
    order: Ints
    values: Array


class Room(NamedTuple):
    """Scratch memory for a block of k images. The two halves of the first five serve alternate blocks.

    Attributes:
        inks: (2, k, pixels) the images as bytes.
        pixels, grays, counts: (2, k / 4, pixels), (2, k / 4, pixels, 4) and (2, k / 4): for each four images the
            pixels that are not all zero, their values, and their number.
        inputs: (2, k, pixels) values of all pixels, if the first layer is dense; else empty.
        images, values, used: (pixels / 4, k), (pixels / 4, k, 4) and (pixels / 4,): for each four pixels the images
            where they are not all zero, their values, and the number of images.
        A, D: Activations of every layer, and f'(Z) times dropout's factor of hidden ones.
        dZ: Errors of every layer.
        rows: (threads, 4, width) rows of gradients.
        kept: (threads, width) dropout's factors of an image.
        scores: (batch, SCORES) loss of each image of a batch, and whether it is classified correctly.
    """

    inks: Bytes
    pixels: NDArray[np.uint16]
    grays: Array
    counts: Ints
    inputs: Array
    images: NDArray[np.uint16]
    values: Array
    used: Ints
    A: Array
    D: Array
    dZ: Array  # noqa: N815 - the equations' name
    rows: Array
    kept: Array
    scores: Array


@kernel
def share(total: int, thread: int, threads: int) -> tuple[int, int]:
    """Return the bounds of the thread's share of ``total`` items."""
    return total * thread // threads, total * (thread + 1) // threads


@kernel
def fours(count: int) -> int:
    """Return the number of fours that hold ``count`` items."""
    return (count + 3) // 4


@kernel
def gather(net: Net, data: Data, room: Room, half: int, first: int, last: int, thread: int, threads: int) -> None:
    """Stage 1: copy the thread's share of images ``first`` to ``last`` of the epoch, and list pixels."""
    pixels = data.images.shape[1]
    begin, end = share(fours(last - first), thread, threads)
    for four in range(begin, end):
        for i in range(4 * four, 4 * four + 4):
            ink = room.inks[half, i]
            if first + i >= last:
                for p in range(pixels):
                    ink[p] = 0
            else:
                image = data.images[data.rows[first + i]]
                for p in range(pixels):
                    ink[p] = image[p]
            if net.dense:
                for p in range(pixels):
                    room.inputs[half, i, p] = data.values[ink[p]]
        if not net.dense:
            list_pixels(data, room, half, four)


@kernel
def list_pixels(data: Data, room: Room, half: int, four: int) -> None:
    """List the pixels that are not all zero in four images. Branch-free: the next entry overwrites one of zeros."""
    ink0, ink1 = room.inks[half, 4 * four], room.inks[half, 4 * four + 1]
    ink2, ink3 = room.inks[half, 4 * four + 2], room.inks[half, 4 * four + 3]
    found, grays = room.pixels[half, four], room.grays[half, four]
    count = 0
    for p in range(data.images.shape[1]):
        found[count] = p
        grays[count, 0] = data.values[ink0[p]]
        grays[count, 1] = data.values[ink1[p]]
        grays[count, 2] = data.values[ink2[p]]
        grays[count, 3] = data.values[ink3[p]]
        count += (ink0[p] | ink1[p] | ink2[p] | ink3[p]) != 0
    room.counts[half, four] = count


@kernel
def list_images(data: Data, room: Room, half: int, images: int, thread: int, threads: int) -> None:
    """List the images for each four of the thread's pixels, in the same way."""
    low, high = share(len(room.used), thread, threads)
    for four in range(low, high):
        room.used[four] = 0
    for i in range(images):
        ink = room.inks[half, i]
        for four in range(low, high):
            ink0, ink1, ink2, ink3 = ink[4 * four], ink[4 * four + 1], ink[4 * four + 2], ink[4 * four + 3]
            count = room.used[four]
            room.images[four, count] = i
            room.values[four, count, 0] = data.values[ink0]
            room.values[four, count, 1] = data.values[ink1]
            room.values[four, count, 2] = data.values[ink2]
            room.values[four, count, 3] = data.values[ink3]
            room.used[four] = count + ((ink0 | ink1 | ink2 | ink3) != 0)


@kernel
def first_layer(net: Net, room: Room, half: int, images: int, thread: int, threads: int) -> None:
    """Stage 2: Z1 of the thread's units, for all images of the block."""
    lanes, pixels, width = len(net.lanes), net.shape[0, INPUTS], net.shape[0, WIDTH]
    own = width // threads
    weights = net.shape[0, WEIGHTS] + thread * pixels * own
    biases = net.shape[0, BIASES] + thread * own
    outputs, stride = net.shape[0, OUTPUTS] + thread * own, net.shape[0, ROW]
    if net.dense:
        for i in range(images):
            for unit in range(own):
                room.A[outputs + i * stride + unit] = net.parameters[biases + unit]
        at, rows, vectors = half * room.inputs.shape[1] * pixels, 4 * fours(images), own // lanes
        multiply(
            net.lanes, net.tile, room.inputs.reshape(-1), at, pixels, ONE, net.parameters, weights, own,
            room.A, outputs, stride, rows, pixels, vectors, ONE,
        )  # fmt: skip
        return
    like, grays = zero(net.lanes, net.parameters), room.grays.reshape(-1)
    for unit in range(0, own, len(net.tile) * lanes):
        for four in range(fours(images)):
            begin = (half * room.counts.shape[1] + four) * pixels
            bias = loads(net.tile, like, net.parameters, biases + unit, lanes)
            acc = bias + bias + bias + bias
            for k in range(begin, begin + room.counts[half, four]):
                row = weights + index(room.pixels, k) * own + unit
                acc = fma_loads(acc, splats(FOUR, like, grays, 4 * k, 1), net.parameters, row, lanes)
            store_four(net.lanes, net.tile, room.A, outputs + 4 * four * stride + unit, stride, acc)


@kernel
def activate(net: Net, room: Room, layer: int, image: int, place: int, first: int, last: int, kept: Array) -> None:
    """Compute A = f(Z) and D = f'(Z), times dropout's factors, for units ``first`` (even) to ``last`` of an image."""
    at = net.shape[layer, OUTPUTS] + image * net.shape[layer, ROW]
    A, D = room.A[at + first : at + last], room.D[at + first : at + last]
    one, nothing, leak = A.dtype.type(1), A.dtype.type(0), A.dtype.type(LEAK)
    if net.activation == RELU:
        for i in range(len(A)):
            z = A[i]
            D[i] = one if z > nothing else nothing
            A[i] = nothing if z < nothing else z
    elif net.activation == LEAKY_RELU:
        for i in range(len(A)):
            z = A[i]
            D[i] = one if z > nothing else leak
            A[i] = z if z > nothing else leak * z
    elif net.activation == TANH:
        for i in range(len(A)):
            A[i] = math.tanh(A[i])
            D[i] = one - A[i] * A[i]
    else:
        for i in range(len(A)):
            z = A[i]
            e = math.exp(-abs(z))
            A[i] = (one if z >= nothing else e) / (one + e)
            D[i] = A[i] * (one - A[i])
    if net.below[layer] >= 0:
        keep(net.keys[layer], place, first, last, net.below[layer], net.scales[layer], kept)
        for i in range(len(A)):
            A[i] *= kept[i]
            D[i] *= kept[i]


@kernel
def activate_first(net: Net, data: Data, room: Room, first: int, images: int, thread: int, threads: int) -> None:
    """Activate the thread's units of the first hidden layer, for all images."""
    own = net.shape[0, WIDTH] // threads
    low, high = thread * own, min((thread + 1) * own, net.shape[0, UNITS])
    if low < high:
        for i in range(images):
            activate(net, room, ZERO, i, data.order[first + i], low, high, room.kept[thread])


@kernel
def other_layers(
    net: Net, data: Data, room: Room, first: int, place: int, images: int, thread: int, threads: int
) -> None:
    """Stage 3: forward pass after the first layer, loss, and backward pass to dZ1, of the thread's images.

    Args:
        first: Index of the block's first image in the epoch's order.
        place: Its index in the batch.
    """
    begin, end = share(fours(images), thread, threads)
    rows, begin, end = 4 * (end - begin), 4 * begin, min(4 * end, images)
    last = len(net.shape) - 1
    for layer in range(1, last + 1):
        forward(net, room, layer, begin, rows)
        if layer < last:
            for i in range(begin, end):
                activate(net, room, layer, i, data.order[first + i], ZERO, net.shape[layer, UNITS], room.kept[thread])
    for i in range(begin, end):
        softmax(net, room, i, data.labels[data.order[first + i]], room.scores[place + i])
    for layer in range(last, 0, -1):
        backward(net, room, layer, begin, rows)


@kernel
def forward(net: Net, room: Room, layer: int, begin: int, rows: int) -> None:
    """Compute Z of a layer for ``rows`` images from ``begin`` on."""
    width, stride, row = net.shape[layer, WIDTH], net.shape[layer, ROW], net.shape[layer - 1, ROW]
    before, at = net.shape[layer - 1, OUTPUTS] + begin * row, net.shape[layer, OUTPUTS] + begin * stride
    weights, biases = net.shape[layer, WEIGHTS], net.shape[layer, BIASES]
    for i in range(rows):
        for unit in range(width):
            room.A[at + i * stride + unit] = net.parameters[biases + unit]
    inner, vectors = net.shape[layer, INPUTS], width // len(net.lanes)
    multiply(
        net.lanes, net.inner, room.A, before, row, ONE, net.parameters, weights, width,
        room.A, at, stride, rows, inner, vectors, ONE,
    )  # fmt: skip


@kernel
def backward(net: Net, room: Room, layer: int, begin: int, rows: int) -> None:
    """Compute dZ of the layer before from that of a layer, for ``rows`` images from ``begin`` on."""
    stride, row = net.shape[layer, ROW], net.shape[layer - 1, ROW]
    before, at = net.shape[layer - 1, OUTPUTS] + begin * row, net.shape[layer, OUTPUTS] + begin * stride
    inner, vectors = net.shape[layer, UNITS], -(-net.shape[layer, INPUTS] // len(net.lanes))
    multiply(
        net.lanes, net.inner, room.dZ, at, stride, ONE, net.transposed, net.shape[layer, TRANSPOSED], row,
        room.dZ, before, row, rows, inner, vectors, ZERO,
    )  # fmt: skip
    for i in range(before, before + rows * row):
        room.dZ[i] *= room.D[i]


@kernel
def copy_transposed(net: Net, layer: int, low: int, high: int) -> None:
    """Copy weights of a layer's inputs ``low`` to ``high``, multiples of the lanes, to the transposed matrix."""
    lanes, width, row = len(net.lanes), net.shape[layer, WIDTH], net.shape[layer - 1, ROW]
    weights, out = net.shape[layer, WEIGHTS], net.shape[layer, TRANSPOSED]
    like = zero(net.lanes, net.parameters)
    for i in range(low, high, lanes):
        for unit in range(0, width, lanes):
            square = loads(net.lanes, like, net.parameters, weights + i * width + unit, width)
            store(net.transposed, out + unit * row + i, row, transpose(square))


@kernel
def softmax(net: Net, room: Room, image: int, label: int, scores: Array) -> None:
    """Compute an image's dZ = softmax(Z) - Y, and its scores: its loss, and whether it is classified correctly."""
    last = len(net.shape) - 1
    at = net.shape[last, OUTPUTS] + image * net.shape[last, ROW]
    Z, dZ = room.A[at : at + net.shape[last, UNITS]], room.dZ[at : at + net.shape[last, UNITS]]
    best = np.argmax(Z)
    total = Z.dtype.type(0)
    for unit in range(len(Z)):
        dZ[unit] = math.exp(Z[unit] - Z[best])
        total += dZ[unit]
    for unit in range(len(Z)):
        dZ[unit] /= total
    dZ[label] -= Z.dtype.type(1)
    scores[LOSS] = math.log(total) - (Z[label] - Z[best])
    scores[HITS] = best == label


@kernel
def gradients(
    net: Net, room: Room, rates: Rates, half: int, images: int, opens: bool, moves: bool, thread: int, threads: int
) -> None:
    """Stage 4: add the thread's gradients to those of the batch's earlier blocks, and update its parameters.

    Args:
        opens: Whether the block is the first of its batch.
        moves: Whether to update the parameters, after the last block. Otherwise the gradients are stored.
    """
    lanes = len(net.lanes)
    step = max(lanes, len(FOUR))
    first_gradients(net, room, rates, half, images, opens, moves, thread, threads)
    for layer in range(1, len(net.shape)):
        inputs, width, row = net.shape[layer, INPUTS], net.shape[layer, WIDTH], net.shape[layer - 1, ROW]
        low, high = share(-(-inputs // step), thread, threads)
        low, rows = step * low, step * (high - low)
        before, at = net.shape[layer - 1, OUTPUTS] + low, net.shape[layer, OUTPUTS]
        weights, vectors = net.shape[layer, WEIGHTS] + low * width, width // lanes
        multiply(
            net.lanes, net.inner, room.A, before, ONE, row, room.dZ, at, net.shape[layer, ROW],
            net.gradients, weights, width, rows, images, vectors, ZERO if opens else ONE,
        )  # fmt: skip
        if moves:
            move(net.rule, rates, ONE, net.parameters, net.v, net.s, weights, rows * width, net.gradients, weights)
            copy_transposed(net, layer, low, low + rows)
    for layer in range(len(net.shape)):
        bias_gradients(net, room, rates, layer, images, opens, moves, thread, threads)


@kernel
def first_gradients(
    net: Net, room: Room, rates: Rates, half: int, images: int, opens: bool, moves: bool, thread: int, threads: int
) -> None:
    """Stage 4 for the first layer's weights of the thread's units."""
    lanes, pixels, width = len(net.lanes), net.shape[0, INPUTS], net.shape[0, WIDTH]
    own = width // threads
    weights = net.shape[0, WEIGHTS] + thread * pixels * own
    errors, stride = net.shape[0, OUTPUTS] + thread * own, net.shape[0, ROW]
    if net.dense:
        at, vectors = half * room.inputs.shape[1] * pixels, own // lanes
        multiply(
            net.lanes, net.tile, room.inputs.reshape(-1), at, ONE, pixels, room.dZ, errors, stride,
            net.gradients, weights, own, pixels, images, vectors, ZERO if opens else ONE,
        )  # fmt: skip
        if moves:
            count = pixels * own
            move(net.rule, rates, ONE, net.parameters, net.v, net.s, weights, count, net.gradients, weights)
        return
    like, values = zero(net.lanes, net.parameters), room.values.reshape(-1)
    scratch = room.rows[thread].reshape(-1)
    for four in range(pixels // 4):
        at = weights + 4 * four * own
        begin = four * room.images.shape[1]
        for unit in range(0, own, len(net.tile) * lanes):
            if opens:
                acc = repeat(net.tile + net.tile + net.tile + net.tile, like)
            else:
                acc = load_four(net.lanes, net.tile, net.gradients, at + unit, own)
            for k in range(begin, begin + room.used[four]):
                row = errors + index(room.images, k) * stride + unit
                acc = fma_loads(acc, splats(FOUR, like, values, 4 * k, 1), room.dZ, row, lanes)
            if moves:
                store_four(net.lanes, net.tile, scratch, unit, own, acc)
            else:
                store_four(net.lanes, net.tile, net.gradients, at + unit, own, acc)
        if moves:
            move(net.rule, rates, ONE, net.parameters, net.v, net.s, at, 4 * own, scratch, ZERO)


@kernel
def bias_gradients(
    net: Net, room: Room, rates: Rates, layer: int, images: int, opens: bool, moves: bool, thread: int, threads: int
) -> None:
    """Stage 4 for the thread's biases of a layer."""
    stride = net.shape[layer, ROW]
    low, high = share(net.shape[layer, UNITS], thread, threads)
    at, errors = net.shape[layer, BIASES] + low, net.shape[layer, OUTPUTS] + low
    sums = net.gradients[at : at + high - low]
    if opens:
        for unit in range(high - low):
            sums[unit] = 0
    for i in range(images):
        for unit in range(high - low):
            sums[unit] += room.dZ[errors + i * stride + unit]
    if moves:
        move(net.rule, rates, ZERO, net.parameters, net.v, net.s, at, high - low, net.gradients, at)


@entry_point
def run(
    thread: int,
    threads: int,
    first: int,
    bounds: Ints,
    learn: bool,
    numbers: Array,
    net: Net,
    data: Data,
    room: Room,
    control: Ints,
) -> None:
    """Do one thread's share of some iterations of an epoch.

    Args:
        first: Index of the first iteration's batch in ``bounds``.
        bounds: Bounds of the epoch's batches in its order of the images.
        learn: Whether to update the parameters; otherwise leave the gradients of one iteration.
        numbers: (iterations, 3) all fields of Rates but the last.
        control: Control array of :mod:`~mnistbench.backends.numba.simd.sync`.
    """
    room_for = room.inks.shape[1]
    meeting, half = ZERO, ZERO
    for iteration in range(len(numbers)):
        begin, end = bounds[first + iteration], bounds[first + iteration + 1]
        blocks = -(-(end - begin) // room_for)
        mean = net.parameters.dtype.type(1) / net.parameters.dtype.type(end - begin)
        rates = Rates(numbers[iteration, 0], numbers[iteration, 1], numbers[iteration, 2], mean)
        for block in range(blocks):
            low, high = begin + (end - begin) * block // blocks, begin + (end - begin) * (block + 1) // blocks
            images = high - low
            if meeting == 0:
                gather(net, data, room, half, low, high, thread, threads)
                meeting += 1
                sync.meet(control, meeting, threads)
            first_layer(net, room, half, images, thread, threads)
            if len(net.shape) > 1:
                activate_first(net, data, room, low, images, thread, threads)
            if not net.dense:
                list_images(data, room, half, images, thread, threads)
            sync.meet(control, meeting + 1, threads)
            other_layers(net, data, room, low, low - begin, images, thread, threads)
            sync.meet(control, meeting + 2, threads)
            if peek(control, ABANDON) != 0:
                return
            closes = block == blocks - 1
            gradients(net, room, rates, half, images, block == 0, learn and closes, thread, threads)
            half = 1 - half
            if not closes:
                follows, until = high, begin + (end - begin) * (block + 2) // blocks
            elif iteration + 1 < len(numbers):
                until = bounds[first + iteration + 2]
                others = -(-(until - end) // room_for)
                follows, until = end, end + (until - end) // others
            else:
                follows = until = high
            gather(net, data, room, half, follows, until, thread, threads)
            if closes and thread == 0:
                control[sync.DONE] += 1
                control[sync.GO_ON] = 1 - peek(control, STOP)
            meeting += 3
            sync.meet(control, meeting, threads)
        if peek(control, sync.GO_ON) == 0:
            return
