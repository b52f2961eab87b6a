"""The kernels for networks of any depth on mini-batches: zeros are skipped in the first layer, the others use BLAS.

A batch is computed in blocks of images. Images and activations are stored in rows, weights as (inputs, units). Each
thread does its share of four stages; a barrier follows stages 2, 3 and, with stage 1 of the next block, 4:

1. :func:`gather` its images: copy or augment them, and list for each four of them the pixels that are not all zero.
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

from mnistbench.backends.numba.mlp.blas import product
from mnistbench.backends.numba.mlp.random import keep
from mnistbench.backends.numba.mlp.updates import Rates, Rule, move
from mnistbench.backends.numba.mlp.warp import Warp, warped
from mnistbench.backends.numba.simd import Array, Bytes, Ints, sync
from mnistbench.backends.numba.simd.cache import entry_point, kernel
from mnistbench.backends.numba.simd.vector import fma_loads, head, index, loads, repeat, splat, store, tail, zero
from mnistbench.reference.mlp import LEAK
from mnistbench.task.recipe import ACTIVATIONS

ZERO: Any = np.int64(0)
"""An int64 zero: a literal 0 has a type of its own in Numba, and callees would be compiled once more for it."""

RELU, LEAKY_RELU, TANH, SIGMOID = map(ACTIVATIONS.index, ("relu", "leaky-relu", "tanh", "sigmoid"))

# Columns of ``Net.shape``, which has a row for each layer.
INPUTS, UNITS = 0, 1
WIDTH = 2
"""Number of values in a row of weights, biases or activations: the units, padded."""
WEIGHTS, BIASES = 3, 4
"""Offsets in a parameter vector. The first layer's weights are stored as (threads, pixels, the thread's units)."""
OUTPUTS = 5
"""Offset of the layer's values, (images, width), in ``Room.A``, ``D`` and ``dZ``."""
SHAPE_COLUMNS = 6

LOSS, HITS, SCORES = 0, 16, 32
"""Indices of a thread's scores, two cache lines apart, and their number."""


class Net(NamedTuple):
    """The network and its training state.

    Attributes:
        lanes, tile: Tuples whose lengths are the lanes of a vector and the vectors of a tile of units.
        shape: (layers, SHAPE_COLUMNS) table of layers.
        activation: Index into ACTIVATIONS.
        dense: Whether the first layer is a BLAS product.
        parameters, v, s: (total,) parameters and the optimizer's moments, in the layout of ``shape``.
        gradients: (total,) sums over images, unless the optimizer consumes them at once.
        keys: (layers - 1, 2) key of each hidden layer's dropout in this epoch.
        below: (layers - 1,) a unit is dropped if its 32-bit word is below this; -1 for a layer without dropout.
        scales: (layers - 1,) factor of a kept unit.
    """

    lanes: Any
    tile: Any
    shape: Ints
    activation: int
    dense: bool
    parameters: Array
    v: Array
    s: Array
    gradients: Array
    rule: Rule
    keys: NDArray[np.uint32]
    below: Ints
    scales: Array


class Data(NamedTuple):
    """The training images.

    Attributes:
        images, labels: (m, pixels) and (m,).
        order: (m,) indices of the images in the epoch's order.
        values: (256,) the float value of each byte.
        warp, warp_keys: The augmentation and the epoch's keys.
    """

    images: Bytes
    labels: Ints
    order: Ints
    values: Array
    warp: Warp
    warp_keys: NDArray[np.uint32]


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
        warping: (threads, ...) scratch memory of the augmentation.
        kept: (threads, width) dropout's factors of an image.
        scores: (threads, SCORES) sums of the losses, and numbers of correctly classified images.
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
    warping: NDArray[np.float32]
    kept: Array
    scores: Array


@kernel
def share(total: int, thread: int, threads: int) -> tuple[int, int]:
    """Return the bounds of the thread's share of ``total`` items."""
    return total * thread // threads, total * (thread + 1) // threads


@kernel
def gather(net: Net, data: Data, room: Room, half: int, first: int, last: int, thread: int, threads: int) -> None:
    """Stage 1: copy or augment the thread's share of images ``first`` to ``last`` of the epoch, and list pixels."""
    pixels = data.images.shape[1]
    begin, end = share((last - first + 3) // 4, thread, threads)
    for four in range(begin, end):
        for i in range(4 * four, 4 * four + 4):
            ink = room.inks[half, i]
            if first + i >= last:
                for p in range(pixels):
                    ink[p] = 0
            elif data.warp.changes:
                place = data.order[first + i]
                warped(data.warp, data.warp_keys, data.images[place], place, room.warping[thread], ink)
            else:
                image = data.images[data.order[first + i]]
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
def store_four(net: Net, out: Array, at: int, row: int, acc: Any) -> None:
    """Store four tiles of vectors at out[at], out[at + row], ..."""
    lanes = len(net.lanes)
    second = tail(net.tile, acc)
    third = tail(net.tile, second)
    store(out, at, lanes, head(net.tile, acc))
    store(out, at + row, lanes, head(net.tile, second))
    store(out, at + 2 * row, lanes, head(net.tile, third))
    store(out, at + 3 * row, lanes, tail(net.tile, third))


@kernel
def load_four(net: Net, like: Any, array: Array, at: int, row: int) -> Any:
    """Load what :func:`store_four` stored."""
    lanes = len(net.lanes)
    first, second = loads(net.tile, like, array, at, lanes), loads(net.tile, like, array, at + row, lanes)
    third, fourth = loads(net.tile, like, array, at + 2 * row, lanes), loads(net.tile, like, array, at + 3 * row, lanes)
    return first + second + third + fourth


@kernel
def four_splats(like: Any, values: Array, at: int) -> Any:
    """Broadcast each of four neighbouring values to a vector."""
    first, second = splat(like, values[at]), splat(like, values[at + 1])
    return first, second, splat(like, values[at + 2]), splat(like, values[at + 3])


@kernel
def first_layer(net: Net, room: Room, half: int, images: int, thread: int, threads: int) -> None:
    """Stage 2: Z1 of the thread's units, for all images of the block."""
    lanes, pixels, width = len(net.lanes), net.shape[0, INPUTS], net.shape[0, WIDTH]
    own = width // threads
    weights = net.shape[0, WEIGHTS] + thread * pixels * own
    biases = net.shape[0, BIASES] + thread * own
    outputs = net.shape[0, OUTPUTS] + thread * own
    if net.dense:
        for i in range(images):
            for unit in range(own):
                room.A[outputs + i * width + unit] = net.parameters[biases + unit]
        at = half * room.inputs.shape[1] * pixels
        sizes = (images, pixels, own)
        product(room.inputs, at, pixels, False, net.parameters, weights, own, False, room.A, outputs, width, sizes, 1.0)
        return
    like, grays = zero(net.lanes, net.parameters), room.grays.reshape(-1)
    for unit in range(0, own, len(net.tile) * lanes):
        for four in range((images + 3) // 4):
            begin = (half * room.counts.shape[1] + four) * pixels
            bias = loads(net.tile, like, net.parameters, biases + unit, lanes)
            acc = bias + bias + bias + bias
            for k in range(begin, begin + room.counts[half, four]):
                row = weights + index(room.pixels, k) * own + unit
                acc = fma_loads(acc, four_splats(like, grays, 4 * k), net.parameters, row, lanes)
            store_four(net, room.A, outputs + 4 * four * width + unit, width, acc)


@kernel
def activate(net: Net, room: Room, layer: int, image: int, place: int, first: int, last: int, kept: Array) -> None:
    """Compute A = f(Z) and D = f'(Z), times dropout's factors, for units ``first`` (even) to ``last`` of an image."""
    at = net.shape[layer, OUTPUTS] + image * net.shape[layer, WIDTH]
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
def other_layers(net: Net, data: Data, room: Room, first: int, images: int, thread: int, threads: int) -> None:
    """Stage 3: forward pass after the first layer, loss, and backward pass to dZ1, of the thread's images."""
    begin, end = share(images, thread, threads)
    count, last = end - begin, len(net.shape) - 1
    if count == 0:
        return
    for layer in range(1, last + 1):
        width, units, inputs = net.shape[layer, WIDTH], net.shape[layer, UNITS], net.shape[layer, INPUTS]
        before = net.shape[layer - 1, OUTPUTS] + begin * net.shape[layer - 1, WIDTH]
        at = net.shape[layer, OUTPUTS] + begin * width
        weights, biases = net.shape[layer, WEIGHTS], net.shape[layer, BIASES]
        for i in range(count):
            for unit in range(units):
                room.A[at + i * width + unit] = net.parameters[biases + unit]
        row, sizes = net.shape[layer - 1, WIDTH], (count, inputs, units)
        product(room.A, before, row, False, net.parameters, weights, width, False, room.A, at, width, sizes, 1.0)
        if layer < last:
            for i in range(begin, end):
                activate(net, room, layer, i, data.order[first + i], ZERO, units, room.kept[thread])
    for i in range(begin, end):
        softmax(net, room, i, data.labels[data.order[first + i]], room.scores[thread])
    for layer in range(last, 0, -1):
        width, units, inputs = net.shape[layer, WIDTH], net.shape[layer, UNITS], net.shape[layer, INPUTS]
        row = net.shape[layer - 1, WIDTH]
        before = net.shape[layer - 1, OUTPUTS] + begin * row
        at, weights = net.shape[layer, OUTPUTS] + begin * width, net.shape[layer, WEIGHTS]
        sizes = (count, units, inputs)
        product(room.dZ, at, width, False, net.parameters, weights, width, True, room.dZ, before, row, sizes, 0.0)
        for i in range(count):
            for unit in range(before + i * row, before + i * row + inputs):
                room.dZ[unit] *= room.D[unit]


@kernel
def softmax(net: Net, room: Room, image: int, label: int, scores: Array) -> None:
    """Compute an image's dZ = softmax(Z) - Y, and add its loss and whether it is classified correctly to the scores."""
    last = len(net.shape) - 1
    at = net.shape[last, OUTPUTS] + image * net.shape[last, WIDTH]
    Z, dZ = room.A[at : at + net.shape[last, UNITS]], room.dZ[at : at + net.shape[last, UNITS]]
    best = np.argmax(Z)
    total = Z.dtype.type(0)
    for unit in range(len(Z)):
        dZ[unit] = math.exp(Z[unit] - Z[best])
        total += dZ[unit]
    for unit in range(len(Z)):
        dZ[unit] /= total
    dZ[label] -= Z.dtype.type(1)
    scores[LOSS] += math.log(total) - (Z[label] - Z[best])
    scores[HITS] += best == label


@kernel
def gradients(
    net: Net, room: Room, rates: Rates, half: int, images: int, opens: bool, moves: bool, thread: int, threads: int
) -> None:
    """Stage 4: add the thread's gradients to those of the batch's earlier blocks, and update its parameters.

    Args:
        opens: Whether the block is the first of its batch.
        moves: Whether to update the parameters, after the last block. Otherwise the gradients are stored.
    """
    first_gradients(net, room, rates, half, images, opens, moves, thread, threads)
    for layer in range(1, len(net.shape)):
        width, units = net.shape[layer, WIDTH], net.shape[layer, UNITS]
        low, high = share(net.shape[layer, INPUTS], thread, threads)
        if low < high:
            before = net.shape[layer - 1, OUTPUTS] + low
            row, at = net.shape[layer - 1, WIDTH], net.shape[layer, OUTPUTS]
            weights = net.shape[layer, WEIGHTS] + low * width
            sizes, beta = (high - low, images, units), 0.0 if opens else 1.0
            product(room.A, before, row, True, room.dZ, at, width, False, net.gradients, weights, width, sizes, beta)
            if moves:
                count = (high - low) * width
                move(net.rule, rates, True, net.parameters, net.v, net.s, weights, count, net.gradients, weights)
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
    errors = net.shape[0, OUTPUTS] + thread * own
    if net.dense:
        at, sizes, beta = half * room.inputs.shape[1] * pixels, (pixels, images, own), 0.0 if opens else 1.0
        product(room.inputs, at, pixels, True, room.dZ, errors, width, False, net.gradients, weights, own, sizes, beta)
        if moves:
            count = pixels * own
            move(net.rule, rates, True, net.parameters, net.v, net.s, weights, count, net.gradients, weights)
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
                acc = load_four(net, like, net.gradients, at + unit, own)
            for k in range(begin, begin + room.used[four]):
                row = errors + index(room.images, k) * width + unit
                acc = fma_loads(acc, four_splats(like, values, 4 * k), room.dZ, row, lanes)
            if moves:
                store_four(net, scratch, unit, own, acc)
            else:
                store_four(net, net.gradients, at + unit, own, acc)
        if moves:
            move(net.rule, rates, True, net.parameters, net.v, net.s, at, 4 * own, scratch, ZERO)


@kernel
def bias_gradients(
    net: Net, room: Room, rates: Rates, layer: int, images: int, opens: bool, moves: bool, thread: int, threads: int
) -> None:
    """Stage 4 for the thread's biases of a layer."""
    width = net.shape[layer, WIDTH]
    low, high = share(net.shape[layer, UNITS], thread, threads)
    at, errors = net.shape[layer, BIASES] + low, net.shape[layer, OUTPUTS] + low
    sums = net.gradients[at : at + high - low]
    if opens:
        for unit in range(high - low):
            sums[unit] = 0
    for i in range(images):
        for unit in range(high - low):
            sums[unit] += room.dZ[errors + i * width + unit]
    if moves:
        move(net.rule, rates, False, net.parameters, net.v, net.s, at, high - low, net.gradients, at)


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
    scores = room.scores[thread]
    meeting, half = ZERO, ZERO
    for iteration in range(len(numbers)):
        begin, end = bounds[first + iteration], bounds[first + iteration + 1]
        blocks = -(-(end - begin) // room_for)
        mean = net.parameters.dtype.type(1) / net.parameters.dtype.type(end - begin)
        rates = Rates(numbers[iteration, 0], numbers[iteration, 1], numbers[iteration, 2], mean)
        for i in range(SCORES):
            scores[i] = 0
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
            other_layers(net, data, room, low, images, thread, threads)
            sync.meet(control, meeting + 2, threads)
            if sync.peek(control, sync.ABANDON) != 0:
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
                control[sync.GO_ON] = 1 - sync.peek(control, sync.STOP)
            meeting += 3
            sync.meet(control, meeting, threads)
        if sync.peek(control, sync.GO_ON) == 0:
            return
