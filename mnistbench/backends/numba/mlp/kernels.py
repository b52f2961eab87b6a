"""The kernels for networks of any depth, on batches: zeros skipped in the first layer, BLAS in the others.

A batch is computed in blocks of images. Images and activations lie in rows; weights are stored as (inputs, units),
the units of a row being neighbours. Threads share the work of a block in four stages, and meet after each:

1. *gather*, each its images: the next block's images, augmented, and for every four of them a list of the pixels that
   are not zero in all.
2. *first layer*, each its units, for all images: for every pixel of a list, four values times one row of weights are
   added to accumulators in registers. Then its pixels: for every four neighbours a list of the images where they are
   not all zero.
3. *other layers*, each its images, forwards and backwards: nobody has to wait in between.
4. *gradients*, each its units of the first layer and its rows of the other weights. In the first layer the optimizer
   moves four rows as soon as their gradients are complete. Stage 1 of the next block follows at once.

Where no pixel is zero, the first layer too is a BLAS product. README.md beside this file says why, and what was tried:
fours take half to two thirds of the time of single rows.
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
from mnistbench.backends.numba.simd import sync
from mnistbench.backends.numba.simd.cache import entry_point, kernel
from mnistbench.backends.numba.simd.vector import fma_loads, head, index, loads, repeat, splat, store, tail, zero
from mnistbench.reference import Array
from mnistbench.reference.mlp import LEAK
from mnistbench.task.recipe import ACTIVATIONS

ZERO: Any = np.int64(0)
"""A literal 0 is a type of its own to Numba: what is called with it, too, would be compiled once more."""

RELU, LEAKY_RELU, TANH, SIGMOID = map(ACTIVATIONS.index, ("relu", "leaky-relu", "tanh", "sigmoid"))

# Columns of ``shape``, which has a row for each layer.
INPUTS = 0
UNITS = 1
WIDTH = 2
"""How many values a row of weights, of biases and of activations has: the units, padded."""
WEIGHTS = 3
"""Where the weights begin in a vector of parameters; the first layer's are (threads, pixels, own units)."""
BIASES = 4
OUTPUTS = 5
"""Where the layer's values begin in a block's; one image follows the other."""
SHAPE_COLUMNS = 6

LOSS, HITS = 0, 16
"""Places in a thread's scores, in cache lines of their own."""
SCORES = 32


class Net(NamedTuple):
    """The network and everything that it learns.

    Attributes:
        lanes, tile: tuples as long as a vector has values, and as there are vectors in a tile of units.
        shape: (layers, SHAPE_COLUMNS).
        activation: its place among ACTIVATIONS.
        dense: whether the first layer is a BLAS product.
        parameters, v, s: (total,) the parameters and the optimizer's moments, as ``shape`` says.
        gradients: (total,) sums over images; used where they are not moved at once.
        rule: the optimizer's.
        keys: (layers - 1, 2) of each hidden layer's dropout in this epoch.
        below: (layers - 1,) of 2³² words, those below leave a unit out; -1 where a layer has no dropout.
        scales: (layers - 1,) the factor of a unit that stays.
    """

    lanes: Any
    tile: Any
    shape: NDArray[np.int64]
    activation: int
    dense: bool
    parameters: Array
    v: Array
    s: Array
    gradients: Array
    rule: Rule
    keys: NDArray[np.uint32]
    below: NDArray[np.int64]
    scales: Array


class Data(NamedTuple):
    """The training images.

    Attributes:
        images: (m, pixels) uint8.
        labels: (m,).
        order: (m,) the epoch's.
        values: (256,) what a byte stands for.
        warp, warp_keys: the epoch's augmentation.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    order: NDArray[np.int64]
    values: Array
    warp: Warp
    warp_keys: NDArray[np.uint32]


class Room(NamedTuple):
    """What is computed of a block of k images.

    Attributes:
        inks: (2, k, pixels) the images as bytes; in turn for one block and the next.
        pixels, grays, counts: (2, k / 4, pixels), (2, k / 4, pixels, 4) and (2, k / 4): for each four images the
            pixels that are not all zero, their values, and how many there are.
        inputs: (2, k, pixels) all values, where the first layer is dense; else empty.
        images, values, used: (pixels / 4, k), (pixels / 4, k, 4) and (pixels / 4,): the same for each four pixels.
        A, D: every layer's values and, of hidden ones, the factor f'(Z) times dropout's.
        dZ: the errors.
        rows: (threads, 4, width) rows of gradients.
        warping: (threads, ...) scratch of the augmentation.
        kept: (threads, width) dropout's factors of an image.
        scores: (threads, SCORES) see LOSS.
    """

    inks: NDArray[np.uint8]
    pixels: NDArray[np.uint16]
    grays: Array
    counts: NDArray[np.int64]
    inputs: Array
    images: NDArray[np.uint16]
    values: Array
    used: NDArray[np.int64]
    A: Array
    D: Array
    dZ: Array  # noqa: N815 - the equations' name
    rows: Array
    warping: NDArray[np.float32]
    kept: Array
    scores: NDArray[np.float64]


@kernel
def share(total: int, thread: int, threads: int) -> tuple[int, int]:
    """The thread's part of so many things."""
    return total * thread // threads, total * (thread + 1) // threads


@kernel
def gather(net: Net, data: Data, room: Room, half: int, first: int, last: int, thread: int, threads: int) -> None:
    """Stage 1: the thread's images among the epoch's ``first`` to ``last``, in fours, into that half of the room."""
    pixels = data.images.shape[1]
    begin, end = share((last - first + 3) // 4, thread, threads)
    for four in range(begin, end):
        for i in range(4 * four, 4 * four + 4):
            ink = room.inks[half, i]
            if first + i >= last:
                ink[:] = 0
            elif data.warp.changes:
                place = data.order[first + i]
                warped(data.warp, data.warp_keys, data.images[place], place, room.warping[thread], ink)
            else:
                image = data.images[data.order[first + i]]
                for p in range(pixels):  # a slice's assignment takes two seconds longer to compile
                    ink[p] = image[p]
            if net.dense:
                for p in range(pixels):
                    room.inputs[half, i, p] = data.values[ink[p]]
        if not net.dense:
            list_pixels(data, room, half, four)


@kernel
def list_pixels(data: Data, room: Room, half: int, four: int) -> None:
    """The list of four images. An entry is written in any case, and stays if it is not zero: no branch to guess."""
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
    """The lists of the thread's pixels, in fours."""
    low, high = share(len(room.used), thread, threads)
    room.used[low:high] = 0
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
    """Store four times a tile's vectors at out[at], out[at + row], ..."""
    lanes = len(net.lanes)
    second = tail(net.tile, acc)
    third = tail(net.tile, second)
    store(out, at, lanes, head(net.tile, acc))
    store(out, at + row, lanes, head(net.tile, second))
    store(out, at + 2 * row, lanes, head(net.tile, third))
    store(out, at + 3 * row, lanes, tail(net.tile, third))


@kernel
def load_four(net: Net, like: Any, array: Array, at: int, row: int) -> Any:
    """What :func:`store_four` stored."""
    lanes = len(net.lanes)
    first, second = loads(net.tile, like, array, at, lanes), loads(net.tile, like, array, at + row, lanes)
    third, fourth = loads(net.tile, like, array, at + 2 * row, lanes), loads(net.tile, like, array, at + 3 * row, lanes)
    return first + second + third + fourth


@kernel
def four_splats(like: Any, values: Array, at: int) -> Any:
    """Four vectors, each with one of four neighbouring values in all lanes."""
    return (
        splat(like, values[at]),
        splat(like, values[at + 1]),
        splat(like, values[at + 2]),
        splat(like, values[at + 3]),
    )


@kernel
def first_layer(net: Net, room: Room, half: int, images: int, thread: int, threads: int) -> None:
    """Stage 2: Z1 of the thread's units for all images of the block."""
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
    """A = f(Z) and D = f'(Z), both times dropout's factor, of one image's units ``first`` (even) to ``last``."""
    at = net.shape[layer, OUTPUTS] + image * net.shape[layer, WIDTH]
    A, D = room.A[at + first : at + last], room.D[at + first : at + last]
    one = net.parameters.dtype.type(1)
    nothing = net.parameters.dtype.type(0)
    leak = net.parameters.dtype.type(LEAK)
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
    """The thread's units of the first hidden layer, of all images."""
    own = net.shape[0, WIDTH] // threads
    low, high = thread * own, min((thread + 1) * own, net.shape[0, UNITS])
    if low < high:
        for i in range(images):
            activate(net, room, ZERO, i, data.order[first + i], low, high, room.kept[thread])


@kernel
def other_layers(net: Net, data: Data, room: Room, first: int, images: int, thread: int, threads: int) -> None:
    """Stage 3: from the first hidden layer's values of the thread's images to the loss, and back to its errors."""
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
def softmax(net: Net, room: Room, image: int, label: int, scores: NDArray[np.float64]) -> None:
    """dZ = softmax(Z) - Y of an image's last layer, and its part of the loss and of the hits."""
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
    """Stage 4: the thread's gradients, added to those of the batch's earlier blocks, and its parameters moved.

    Args:
        opens: whether the block is the batch's first.
        moves: whether to move parameters: the block is the last one. Else gradients are kept.
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
    """The first layer's weights of the thread's units."""
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
    """The thread's biases of a layer."""
    width = net.shape[layer, WIDTH]
    low, high = share(net.shape[layer, UNITS], thread, threads)
    at, errors = net.shape[layer, BIASES] + low, net.shape[layer, OUTPUTS] + low
    sums = net.gradients[at : at + high - low]
    if opens:
        sums[:] = 0
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
    bounds: NDArray[np.int64],
    learn: bool,
    numbers: Array,
    net: Net,
    data: Data,
    room: Room,
    control: NDArray[np.int64],
) -> None:
    """One thread's part of some iterations of one epoch.

    Args:
        first: the first iteration's place in ``bounds``.
        bounds: where each of the epoch's batches begins in its order, and where the last one ends.
        learn: whether to move the parameters; else the gradients of one iteration are left.
        numbers: (iterations, 3) the fields of Rates but the last.
        control: what the threads share; see :mod:`~mnistbench.backends.numba.simd.sync`.
    """
    room_for = room.inks.shape[1]
    scores = room.scores[thread]
    meeting, half = ZERO, ZERO
    for iteration in range(len(numbers)):
        begin, end = bounds[first + iteration], bounds[first + iteration + 1]
        blocks = -(-(end - begin) // room_for)
        one = net.parameters.dtype.type(1)
        mean = one / net.parameters.dtype.type(end - begin)
        rates = Rates(numbers[iteration, 0], numbers[iteration, 1], numbers[iteration, 2], mean)
        scores[:] = 0
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
