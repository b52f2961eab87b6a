"""The kernels for networks of any depth on mini-batches; zeros are skipped in the first layer.

A batch is computed in blocks of images. Images and activations are stored in rows, weights as (inputs, units). A block
passes through stages, each of them a phase of :mod:`~mnistbench.backends.numba.simd.shares`: nobody begins a stage
before the one before is over. Before the first block, and then in the last stage of the block before, images are
copied, and for each four of them the pixels listed that are not all zero (:func:`gather`).

1. FIRST: :func:`first_layer` of a share's units, for all images, and :func:`list_images` of its pixels: for each four
   neighbours the images where they are not all zero.
2. OTHERS: :func:`other_layers` of its images, forwards and backwards.
3. GRADIENTS: :func:`first_gradients` of its units of the first layer, :func:`other_gradients` of its rows of the other
   weights, :func:`bias_gradients`, and the optimizer's update.

Functions of items return whether they took the item and wrote its results. README.md beside this file says why this is
fast and what was tried. Loops stand where assignments to slices could: one takes a second or more to compile. They are
over views: an index of one is known to be positive, so that the loop is compiled to vectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnistbench.backends.numba.mlp.products import FOUR, load_four, multiply, store_four
from mnistbench.backends.numba.mlp.random import keep
from mnistbench.backends.numba.mlp.updates import Rates, Rule, move
from mnistbench.backends.numba.simd import Array, Bytes, Ints
from mnistbench.backends.numba.simd.atomic import now, pause
from mnistbench.backends.numba.simd.cache import entry_point, kernel
from mnistbench.backends.numba.simd.shares import (
    begin_phase,
    find_late,
    finish,
    first_word,
    goes_on,
    item_of,
    keep_pace,
    take,
    word_of,
)
from mnistbench.backends.numba.simd.vector import (
    fma_loads,
    index,
    load,
    loads,
    repeat,
    some,
    splat,
    splats,
    store,
    transpose,
    zero,
)
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
"""Offsets in a parameter vector. The first layer's weights are stored as (shares, pixels, the share's units)."""
OUTPUTS = 5
"""Offset of the layer's values, (images, row), in ``Room.A``, ``D`` and ``dZ``."""
ROW = 6
"""Number of values in a row: the width, padded to an odd number of cache lines, so that rows do not compete for the
same places of a cache."""
TRANSPOSED = 7
"""Offset in ``Net.transposed`` of the weights as (width, row of the layer before); none of the first layer."""
OWN = 8
"""Offset of the layer's values, (GROUP, row), in a thread's own A, D and dZ."""
GIVEN = 9
"""Offset in ``Net.sums`` of the layer's weights, (inputs, units), which its biases follow."""
SHAPE_COLUMNS = 10

GATHER, FIRST, OTHERS, GRADIENTS = range(4)
"""The stages of a block; GATHER comes only before the first block of a call."""

GROUP = 32
"""Images of an item of the other layers: a panel of weights is read into the L1 cache once for all of them."""
LISTS = 32
"""Fours of pixels of an item."""

LOSS, HITS, SCORES = range(3)
"""Indices of an image's scores, and their number."""

OWN_A, OWN_D, OWN_DZ, OWN_SUMS, OWN_KEPT, OWN_SCORES, OWN_ROWS = range(7)
"""Indices of vectors in ``Room.own``, and their number: A, D and dZ of an item's images; sums, of gradients or Z1;
dropout's factors of an image; scores of an item's images."""


class Net(NamedTuple):
    """The network and its training state.

    Attributes:
        lanes: Tuple whose length is the lanes of a vector.
        tile, inner: Tuples whose lengths are the vectors of a tile of units in the first and the other layers.
        shape: (layers, SHAPE_COLUMNS) table of layers.
        tiles, lists: Numbers of a share's items in the first stage: tiles of units, and parts of lists.
        items: (shares, count, 3) a share's weights by items: layer, and bounds of its inputs.
        activation: Index into ACTIVATIONS.
        dense: Whether the first layer skips no pixels, since few are zero.
        parameters, v, s: (total,) parameters and the optimizer's moments, in the layout of ``shape``.
        transposed: Weights of all layers but the first, transposed.
        gradients: (total,) sums over images, unless the optimizer consumes them at once.
        sums: Sums over images that ranks exchange, without padding of units, so that they are the same for any number
            of threads; empty without ranks.
        keys: (layers - 1, 2) key of each hidden layer's dropout in this epoch.
        below: (layers - 1,) a unit is dropped if its 32-bit word is below this; -1 for a layer without dropout.
        scales: (layers - 1,) factor of a kept unit.
    """

    lanes: Any
    tile: Any
    inner: Any
    shape: Ints
    tiles: int
    lists: int
    items: Ints
    activation: int
    dense: bool
    parameters: Array
    v: Array
    s: Array
    transposed: Array
    gradients: Array
    sums: Array
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
        first: Place of training image 0 among those of all ranks, which random numbers are drawn for.
        values: (256,) the float value of each byte.
    """

    images: Bytes
    rows: Ints
    labels: Ints
    order: Ints
    first: int
    values: Array


class Room(NamedTuple):
    """Scratch memory for a block of k images. The two halves of the first five serve alternate blocks.

    Attributes:
        inks: (2, k, pixels) the images as bytes.
        pixels, grays, counts: (2, k / 4, pixels), (2, k / 4, pixels, 4) and (2, k / 4): for each four images the
            pixels that are not all zero, their values, and their number.
        inputs: (2, k, pixels) values of all pixels, if the first layer is dense; else empty.
        images, values, used: (pixels / 4, k + 4), (pixels / 4, k + 4, 4) and (pixels / 4,): for each four pixels the
            images where they are not all zero, their values, and the number of images. Rows of k, a power of two,
            would compete for the same places of a cache.
        A, D: Activations of every layer, and f'(Z) times dropout's factor of hidden ones.
        dZ: Errors of every layer.
        own: (threads, OWN_ROWS, size) memory of each thread's own.
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
    own: Array
    scores: Array


class Block(NamedTuple):
    """A block of a batch.

    Attributes:
        first: Index of its first image in the epoch's order.
        place: Index of that image in the batch.
        images: Number of its images.
        half: Which half of Room has its images.
        opens: Whether it is the first of its batch.
        moves: Whether to update the parameters after it. Otherwise the gradients are stored.
        gives: Tuple whose length is 1 if the gradients go to the ranks' exchange in place of that update, else 0.
        follows, until: Bounds of the next block in the epoch's order.
        rates: Numbers of the iteration.
    """

    first: int
    place: int
    images: int
    half: int
    opens: bool
    moves: bool
    gives: Any
    follows: int
    until: int
    rates: Rates


class Turn(NamedTuple):
    """A thread's turn at a share.

    Attributes:
        thread: Index of the thread.
        share: Index of the share.
        shares: Number of shares.
        word: The share's word when the turn began.
        control: Control array of :mod:`~mnistbench.backends.numba.simd.shares`.
    """

    thread: int
    share: int
    shares: int
    word: int
    control: Ints


@kernel
def mine(turn: Turn) -> bool:
    """Take the turn's item, unless somebody has."""
    return take(turn.control, turn.share, turn.word)


@kernel
def bounds_of(turn: Turn, total: int) -> tuple[int, int]:
    """Return the bounds of the share's part of ``total`` things."""
    return total * turn.share // turn.shares, total * (turn.share + 1) // turn.shares


@kernel
def parts(count: int, size: int) -> int:
    """Return the number of parts of ``size`` things that hold ``count`` of them."""
    return (count + size - 1) // size


@kernel
def gather(net: Net, data: Data, room: Room, half: int, first: int, last: int, four: int) -> None:
    """Copy four of the images ``first`` to ``last`` of the epoch, and list pixels."""
    pixels = data.images.shape[1]
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
    """List the pixels that are not all zero in four images.

    Fours of pixels that are all zero are skipped; in others the next entry overwrites one of zeros.
    """
    pixels, inks = room.inks.shape[2], (half * room.inks.shape[1] + 4 * four) * room.inks.shape[2]
    ink0, ink1 = room.inks[half, 4 * four], room.inks[half, 4 * four + 1]
    ink2, ink3 = room.inks[half, 4 * four + 2], room.inks[half, 4 * four + 3]
    found, grays = room.pixels[half, four], room.grays[half, four]
    count = 0
    for first in range(0, pixels, 4):
        at = inks + first
        if (
            some(FOUR, room.inks, at)
            or some(FOUR, room.inks, at + pixels)
            or some(FOUR, room.inks, at + 2 * pixels)
            or some(FOUR, room.inks, at + 3 * pixels)
        ):
            for p in range(first, first + 4):
                found[count] = p
                grays[count, 0] = data.values[ink0[p]]
                grays[count, 1] = data.values[ink1[p]]
                grays[count, 2] = data.values[ink2[p]]
                grays[count, 3] = data.values[ink3[p]]
                count += (ink0[p] | ink1[p] | ink2[p] | ink3[p]) != 0
    room.counts[half, four] = count


@kernel
def list_images(room: Room, half: int, images: int, low: int, high: int) -> None:
    """List the images for each of the fours ``low`` to ``high`` of pixels. The next entry overwrites one of zeros."""
    size, pixels = room.images.shape[1], room.inks.shape[2]
    white = splat(zero(FOUR, room.values), 255)
    for four in range(low, high):
        room.used[four] = 0
    for i in range(images):
        ink = (half * room.inks.shape[1] + i) * pixels
        for four in range(low, high):
            count = room.used[four]
            room.images[four, count] = i
            store(room.values, 4 * (four * size + count), 1, load(white, room.inks, ink + 4 * four) / white)
            room.used[four] = count + some(FOUR, room.inks, ink + 4 * four)


@kernel
def first_layer(net: Net, data: Data, room: Room, block: Block, turn: Turn, item: int) -> bool:
    """Compute a tile of the share's units of the first layer for all images: Z1 and, if they are hidden, A1 and D1."""
    lanes, pixels, size = len(net.lanes), net.shape[0, INPUTS], len(net.tile) * len(net.lanes)
    own, rows, Z = net.shape[0, WIDTH] // turn.shares, 4 * parts(block.images, 4), room.own[turn.thread, OWN_SUMS]
    biases, weights = net.shape[0, BIASES] + turn.share * own, turn.share * pixels * own + item * size
    like = zero(net.lanes, net.parameters)
    bias = loads(net.tile, like, net.parameters, biases + item * size, lanes)
    if net.dense:
        for i in range(rows):
            store(Z, i * size, lanes, bias)
        multiply(
            net.lanes, net.tile, room.inputs.reshape(-1), block.half * room.inputs.shape[1] * pixels, pixels, ONE,
            net.parameters, weights, own, Z, ZERO, size, rows, pixels, len(net.tile), ONE,
        )  # fmt: skip
    else:
        grays = room.grays.reshape(-1)
        for four in range(rows // 4):
            begin = (block.half * room.counts.shape[1] + four) * pixels
            acc = bias + bias + bias + bias
            for k in range(begin, begin + room.counts[block.half, four]):
                x = splats(FOUR, like, grays, 4 * k, 1)
                acc = fma_loads(acc, x, net.parameters, weights + index(room.pixels, k) * own, lanes)
            store_four(net.lanes, net.tile, Z, 4 * four * size, size, acc)
    if not mine(turn):
        return False
    unit, stride = turn.share * own + item * size, net.shape[0, ROW]
    at, count = net.shape[0, OUTPUTS] + unit, max(min(size, net.shape[0, UNITS] - unit), 0)
    if len(net.shape) > 1:
        activate(net.activation, Z, ZERO, size, room.A, room.D, at, stride, block.images, count)
        if net.below[0] >= 0 and count > 0:
            kept = room.own[turn.thread, OWN_KEPT]
            for i in range(block.images):
                image = data.first + data.order[block.first + i]
                keep(net.keys[0], image, unit, unit + count, net.below[0], net.scales[0], kept)
                drop(kept, room.A, room.D, at + i * stride, count)
    else:
        for i in range(block.images):
            copy(Z, i * size, room.A, at + i * stride, count)
    return True


@kernel
def copy(source: Array, start: int, out: Array, at: int, count: int) -> None:
    """Copy ``count`` values."""
    source, out = source[start : start + count], out[at : at + count]
    for i in range(len(out)):
        out[i] = source[i]


@kernel
def activate(
    kind: int, Z: Array, begin: int, step: int, A: Array, D: Array, at: int, row: int, images: int, count: int
) -> None:
    """Compute A = f(Z) and D = f'(Z) of ``count`` units of some images. A may be Z.

    Args:
        kind: Index into ACTIVATIONS.
        begin: Index in Z of the first image's values; ``step`` is the distance of the next one's.
        at: Index in A and D of them; ``row`` is the distance of the next image's.
    """
    one, nothing, leak = A.dtype.type(1), A.dtype.type(0), A.dtype.type(LEAK)
    for image in range(images):
        z = Z[begin + image * step : begin + image * step + count]
        a, d = A[at + image * row : at + image * row + count], D[at + image * row : at + image * row + count]
        if kind == RELU:
            for i in range(len(z)):
                d[i] = one if z[i] > nothing else nothing
                a[i] = nothing if z[i] < nothing else z[i]
        elif kind == LEAKY_RELU:
            for i in range(len(z)):
                d[i] = one if z[i] > nothing else leak
                a[i] = z[i] if z[i] > nothing else leak * z[i]
        elif kind == TANH:
            for i in range(len(z)):
                a[i] = math.tanh(z[i])
                d[i] = one - a[i] * a[i]
        else:
            for i in range(len(z)):
                e = math.exp(-abs(z[i]))
                a[i] = (one if z[i] >= nothing else e) / (one + e)
                d[i] = a[i] * (one - a[i])


@kernel
def drop(kept: Array, A: Array, D: Array, at: int, count: int) -> None:
    """Multiply A and D of an image's ``count`` units from ``at`` on by dropout's factors."""
    A, D = A[at : at + count], D[at : at + count]
    for i in range(len(A)):
        A[i] *= kept[i]
        D[i] *= kept[i]


@kernel
def other_layers(net: Net, data: Data, room: Room, block: Block, turn: Turn, item: int) -> bool:
    """Compute a group of the share's images: forward pass after the first layer, loss, and backward pass to dZ1."""
    low, high = bounds_of(turn, parts(block.images, 4))
    first, rows = 4 * low + item * GROUP, min(GROUP, 4 * (high - low) - item * GROUP)
    images, last = min(rows, block.images - first), len(net.shape) - 1
    units = net.shape[last, UNITS]
    A, D, dZ = room.own[turn.thread, OWN_A], room.own[turn.thread, OWN_D], room.own[turn.thread, OWN_DZ]
    scores, kept = room.own[turn.thread, OWN_SCORES], room.own[turn.thread, OWN_KEPT]
    at = net.shape[0, OUTPUTS] + first * net.shape[0, ROW]
    if last == 0:
        if not mine(turn):
            return False
        for i in range(images):
            label, place = data.labels[data.order[block.first + first + i]], at + i * net.shape[0, ROW]
            softmax(units, room.A, place, room.dZ, place, label, scores, i * SCORES)
        copy_scores(room.scores, scores, block.place + first, images)
        return True
    before, start = room.A, at
    for layer in range(1, last + 1):
        own, stride = net.shape[layer, OWN], net.shape[layer, ROW]
        forward(net, layer, before, start, A, rows)
        before, start = A, own
        if layer < last:
            activate(net.activation, A, own, stride, A, D, own, stride, images, net.shape[layer, UNITS])
        for i in range(images):
            at_image, image = own + i * stride, data.order[block.first + first + i]
            if layer == last:
                softmax(units, A, at_image, dZ, at_image, data.labels[image], scores, i * SCORES)
            elif net.below[layer] >= 0:
                place, count = data.first + image, net.shape[layer, UNITS]
                keep(net.keys[layer], place, ZERO, count, net.below[layer], net.scales[layer], kept)
                drop(kept, A, D, at_image, net.shape[layer, UNITS])
    for layer in range(last, 0, -1):
        slopes, start = D, net.shape[layer - 1, OWN]
        if layer == 1:
            slopes, start = room.D, at
        backward(net, layer, dZ, slopes, start, rows)
    if not mine(turn):
        return False
    for layer in range(last + 1):
        own, stride = net.shape[layer, OWN], net.shape[layer, ROW]
        at = net.shape[layer, OUTPUTS] + first * stride
        copy(dZ, own, room.dZ, at, rows * stride)
        if layer > 0:
            copy(A, own, room.A, at, rows * stride)
    copy_scores(room.scores, scores, block.place + first, images)
    return True


@kernel
def forward(net: Net, layer: int, before: Array, start: int, A: Array, rows: int) -> None:
    """Compute Z of a layer for ``rows`` images, whose A of the layer before is in ``before`` from ``start`` on."""
    width, stride, row = net.shape[layer, WIDTH], net.shape[layer, ROW], net.shape[layer - 1, ROW]
    at, weights, biases = net.shape[layer, OWN], net.shape[layer, WEIGHTS], net.shape[layer, BIASES]
    for i in range(rows):
        copy(net.parameters, biases, A, at + i * stride, width)
    multiply(
        net.lanes, net.inner, before, start, row, ONE, net.parameters, weights, width,
        A, at, stride, rows, net.shape[layer, INPUTS], width // len(net.lanes), ONE,
    )  # fmt: skip


@kernel
def backward(net: Net, layer: int, dZ: Array, D: Array, start: int, rows: int) -> None:
    """Compute dZ of the layer before a layer, for ``rows`` images, whose D is from ``start`` on."""
    stride, row, out = net.shape[layer, ROW], net.shape[layer - 1, ROW], net.shape[layer - 1, OWN]
    vectors = -(-net.shape[layer, INPUTS] // len(net.lanes))
    multiply(
        net.lanes, net.inner, dZ, net.shape[layer, OWN], stride, ONE, net.transposed, net.shape[layer, TRANSPOSED], row,
        dZ, out, row, rows, net.shape[layer, UNITS], vectors, ZERO,
    )  # fmt: skip
    errors, slopes = dZ[out : out + rows * row], D[start : start + rows * row]
    for i in range(len(errors)):
        errors[i] *= slopes[i]


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
def softmax(units: int, A: Array, at: int, dZ: Array, out: int, label: int, scores: Array, place: int) -> None:
    """Compute an image's dZ = softmax(Z) - Y, and its scores: its loss, and whether it is classified correctly."""
    Z, dZ = A[at : at + units], dZ[out : out + units]
    best = 0
    for unit in range(len(Z)):
        if Z[best] == Z[best] and not Z[unit] <= Z[best]:  # the first NaN, as np.argmax
            best = unit
    total = Z.dtype.type(0)
    for unit in range(len(Z)):
        dZ[unit] = math.exp(Z[unit] - Z[best])
        total += dZ[unit]
    for unit in range(len(Z)):
        dZ[unit] /= total
    dZ[label] -= Z.dtype.type(1)
    scores[place + LOSS] = math.log(total) - (Z[label] - Z[best])
    scores[place + HITS] = best == label


@kernel
def copy_scores(out: Array, scores: Array, place: int, images: int) -> None:
    """Copy the scores of an item's images to those of the batch, from image ``place`` on."""
    for i in range(images):
        for score in range(SCORES):
            out[place + i, score] = scores[i * SCORES + score]


@kernel
def first_gradients(net: Net, room: Room, block: Block, turn: Turn, first: int, last: int) -> bool:
    """Add up the gradients of the weights from pixels ``first`` to ``last`` to the share's units."""
    lanes, pixels, own, rows = len(net.lanes), net.shape[0, INPUTS], net.shape[0, WIDTH] // turn.shares, last - first
    at, sums = (turn.share * pixels + first) * own, room.own[turn.thread, OWN_SUMS]
    errors, stride = net.shape[0, OUTPUTS] + turn.share * own, net.shape[0, ROW]
    if net.dense:
        if not block.opens:
            copy(net.gradients, at, sums, ZERO, rows * own)
        multiply(
            net.lanes, net.tile, room.inputs.reshape(-1), block.half * room.inputs.shape[1] * pixels + first, ONE,
            pixels, room.dZ, errors, stride, sums, ZERO, own, rows, block.images, own // lanes,
            ZERO if block.opens else ONE,
        )  # fmt: skip
    else:
        like, values, width = zero(net.lanes, net.parameters), room.values.reshape(-1), len(net.tile) * lanes
        for unit in range(0, own, width):
            for row in range(0, rows, 4):
                four = (first + row) // 4
                begin = four * room.images.shape[1]
                if block.opens:
                    acc = repeat(net.tile + net.tile + net.tile + net.tile, like)
                else:
                    acc = load_four(net.lanes, net.tile, net.gradients, at + row * own + unit, own)
                for k in range(begin, begin + room.used[four]):
                    x = splats(FOUR, like, values, 4 * k, 1)
                    acc = fma_loads(acc, x, room.dZ, errors + index(room.images, k) * stride + unit, lanes)
                store_four(net.lanes, net.tile, sums, row * own + unit, own, acc)
    return add_weights(net, block, turn, ZERO, first, last, sums)


@kernel
def other_gradients(net: Net, room: Room, block: Block, turn: Turn, layer: int, low: int, high: int) -> bool:
    """Add up the gradients of a layer's weights of the inputs ``low`` to ``high``."""
    width, row, sums = net.shape[layer, WIDTH], net.shape[layer - 1, ROW], room.own[turn.thread, OWN_SUMS]
    at = net.shape[layer, WEIGHTS] + low * width
    if not block.opens:
        copy(net.gradients, at, sums, ZERO, (high - low) * width)
    multiply(
        net.lanes, net.inner, room.A, net.shape[layer - 1, OUTPUTS] + low, ONE, row,
        room.dZ, net.shape[layer, OUTPUTS], net.shape[layer, ROW],
        sums, ZERO, width, high - low, block.images, width // len(net.lanes), ZERO if block.opens else ONE,
    )  # fmt: skip
    if not add_weights(net, block, turn, layer, low, high, sums):
        return False
    if block.moves and len(block.gives) == 0:
        copy_transposed(net, layer, low, high)
    return True


@kernel
def part_of(net: Net, turn: Turn, layer: int, low: int) -> tuple[int, int]:
    """Return where the share's weights of a layer's inputs from ``low`` on are in ``parameters``, and their row."""
    if layer > 0:
        return net.shape[layer, WEIGHTS] + low * net.shape[layer, WIDTH], net.shape[layer, WIDTH]
    own = net.shape[0, WIDTH] // turn.shares
    return (turn.share * net.shape[0, INPUTS] + low) * own, own


@kernel
def add_weights(net: Net, block: Block, turn: Turn, layer: int, low: int, high: int, sums: Array) -> bool:
    """Update the weights of a layer's inputs ``low`` to ``high`` by sums of their gradients, or store or give these."""
    if not mine(turn):
        return False
    at, own = part_of(net, turn, layer, low)
    if not block.moves:
        copy(sums, ZERO, net.gradients, at, (high - low) * own)
    elif len(block.gives) == 0:
        move(net.rule, block.rates, ONE, net.parameters, net.v, net.s, at, (high - low) * own, sums, ZERO)
    else:
        for row in range(min(high, net.shape[layer, INPUTS]) - low):
            given, count = given_of(net, turn, layer, low + row)
            copy(sums, row * own, net.sums, given, count)
    return True


@kernel
def given_of(net: Net, turn: Turn, layer: int, row: int) -> tuple[int, int]:
    """Return where the share's gradients of a row of weights are in ``Net.sums``, and their number."""
    units, unit, count = net.shape[layer, UNITS], ZERO, net.shape[layer, UNITS]
    if layer == 0:
        own = net.shape[0, WIDTH] // turn.shares
        unit = turn.share * own
        count = max(min(own, units - unit), 0)
    return net.shape[layer, GIVEN] + row * units + unit, count


@kernel
def given_biases(net: Net, layer: int) -> int:
    """Return where the gradients of a layer's biases begin in ``Net.sums``."""
    at: int = net.shape[layer, GIVEN] + net.shape[layer, INPUTS] * net.shape[layer, UNITS]
    return at


@kernel
def bias_gradients(net: Net, room: Room, block: Block, turn: Turn, layer: int) -> None:
    """Add up the gradients of the share's biases of a layer, and update these or give the sums."""
    stride = net.shape[layer, ROW]
    low, high = bounds_of(turn, net.shape[layer, UNITS])
    at, errors = net.shape[layer, BIASES] + low, net.shape[layer, OUTPUTS] + low
    sums = net.gradients[at : at + high - low]
    if block.opens:
        for unit in range(len(sums)):
            sums[unit] = 0
    for i in range(block.images):
        row = room.dZ[errors + i * stride : errors + i * stride + high - low]
        for unit in range(len(sums)):
            sums[unit] += row[unit]
    if block.moves and len(block.gives) == 0:
        move(net.rule, block.rates, ZERO, net.parameters, net.v, net.s, at, high - low, net.gradients, at)
    elif block.moves:
        copy(net.gradients, at, net.sums, given_biases(net, layer) + low, high - low)


@kernel
def count_items(stage: int, net: Net, block: Block, turn: Turn) -> int:
    """Return the number of a share's items in a stage."""
    images = block.until - block.follows if stage == GRADIENTS else block.images
    low, high = bounds_of(turn, parts(images, 4))
    count = max(high - low, 1)
    if stage == FIRST:
        count = net.tiles + net.lists
    elif stage == OTHERS:
        count = max(parts(4 * (high - low), GROUP), 1)
    elif stage == GRADIENTS:
        count = net.items.shape[1] + 1 + high - low
    return count


@kernel
def do_item(stage: int, net: Net, data: Data, room: Room, block: Block, turn: Turn) -> bool:
    """Compute the item of a turn."""
    item = item_of(turn.word)
    if stage == FIRST and item < net.tiles:
        return first_layer(net, data, room, block, turn, item)
    if stage == OTHERS:
        return other_layers(net, data, room, block, turn, item)
    if stage == GRADIENTS and item < net.items.shape[1]:
        layer, low, high = net.items[turn.share, item]
        if layer == 0:
            return first_gradients(net, room, block, turn, low, high)
        return other_gradients(net, room, block, turn, layer, low, high)
    if not mine(turn):
        return False
    half, first, last = block.half, block.first, block.first + block.images
    if stage == FIRST:
        low, high = bounds_of(turn, len(room.used))
        low += LISTS * (item - net.tiles)
        list_images(room, half, block.images, low, min(low + LISTS, high))
        return True
    if stage == GRADIENTS:
        half, first, last = 1 - block.half, block.follows, block.until
        item -= net.items.shape[1] + 1
        if item < 0:
            for layer in range(len(net.shape)):
                bias_gradients(net, room, block, turn, layer)
            return True
    low, high = bounds_of(turn, parts(last - first, 4))
    if low + item < high:
        gather(net, data, room, half, first, last, low + item)
    return True


def phase_of(count_items: Callable[..., int], do_item: Callable[..., bool]) -> Callable[..., None]:
    """Return the kernel that does phases of these items."""

    @kernel
    def do_phase(
        stage: int, phase: int, net: Net, data: Data, room: Room, block: Block, thread: int, shares: int, control: Ints
    ) -> None:
        """Do the thread's share of a stage, and then what is left of others that are late, until it is over."""
        begin_phase(control, thread, phase)
        share, pace, longest, time = thread, ZERO, ZERO, now()
        while share >= 0:
            turn = Turn(thread, share, shares, word_of(control, share), control)
            count = count_items(stage, net, block, turn)
            while turn.word < first_word(phase + 1):
                if turn.word & 1 != 0:
                    pause()  # until its results are written
                elif do_item(stage, net, data, room, block, turn):
                    finish(control, share, turn.word, phase, count)
                if share == thread:
                    before, time = time, now()
                    longest = max(longest, time - before)
                turn = Turn(thread, share, shares, word_of(control, share), control)
            if share == thread:
                pace = keep_pace(control, thread, stage, longest)
            share = find_late(control, phase, thread, shares, pace)

    return do_phase


do_phase = phase_of(count_items, do_item)


@entry_point
def run(
    thread: int,
    shares: int,
    first: int,
    bounds: Ints,
    learn: bool,
    numbers: Array,
    net: Net,
    data: Data,
    room: Room,
    control: Ints,
) -> None:
    """Do one thread's share of some iterations of an epoch, and help others.

    Args:
        shares: Number of threads.
        first: Index of the first iteration's batch in ``bounds``.
        bounds: Bounds of the epoch's batches in its order of the images.
        learn: Whether to update the parameters; otherwise leave the gradients of one iteration.
        numbers: (iterations, 3) all fields of Rates but the last.
        control: Control array of :mod:`~mnistbench.backends.numba.simd.shares`.
    """
    room_for = room.inks.shape[1]
    phase, half = ZERO, ZERO
    for iteration in range(len(numbers)):
        begin, end = bounds[first + iteration], bounds[first + iteration + 1]
        blocks = parts(end - begin, room_for)
        mean = net.parameters.dtype.type(1) / net.parameters.dtype.type(end - begin)
        rates = Rates(numbers[iteration, 0], numbers[iteration, 1], numbers[iteration, 2], mean)
        for number in range(blocks):
            low, high = begin + (end - begin) * number // blocks, begin + (end - begin) * (number + 1) // blocks
            closes = number == blocks - 1
            follows = until = high
            if not closes:
                until = begin + (end - begin) * (number + 2) // blocks
            elif iteration + 1 < len(numbers):
                others = bounds[first + iteration + 2] - end
                until = end + others // parts(others, room_for)
            block = Block(low, low - begin, high - low, half, number == 0, learn and closes, (), follows, until, rates)
            for stage in range(GATHER if phase == 0 else FIRST, GRADIENTS + 1):
                do_phase(stage, phase, net, data, room, block, thread, shares, control)
                phase += 1
            half = 1 - half
        if not goes_on(control, iteration):
            return
