"""The equations of :mod:`mnistbench.reference`, for a block of images at a time, in vector registers.

One lane is one image. A vector of ``lanes`` images is one register; two groups of images are computed together, in
vectors of twice that length. With m images, h hidden units and c classes::

    Z1 = W1 X + b1        A1 = ReLU(Z1)        Z2 = W2 A1 + b2        A2 = softmax(Z2)
    dZ2 = A2 - Y          dW2 = dZ2 A1ᵀ / m    db2 = sum over images of dZ2 / m
    dZ1 = W2ᵀ dZ2 * (Z1 > 0)                   dW1 = dZ1 Xᵀ / m      db1 = sum over images of dZ1 / m

A block passes through all kernels while its Z1 and Z2 are in the L1 cache:

    hidden_layer       Z1          reads the images, pair by pair
    output_layer       Z2, overwritten by A2 and dZ2
    output_gradient    dW2, db2
    hidden_error       dZ1, overwriting Z1, and db1
    image_gradient     dW1         reads the images, pixel by pixel

:func:`run` repeats this for all blocks, in tasks, and :func:`take_step` takes the step. Both use loops in place of
slices, which take seconds to compile. Gradients here are sums over images, and pixels are bytes: the step divides by m
and, for W1, by 255. So does hidden_layer.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from mnistbench.backends.numba.classic.packing import NO_IMAGE, Packed
from mnistbench.backends.numba.simd import Array, Ints
from mnistbench.backends.numba.simd.atomic import now, peek
from mnistbench.backends.numba.simd.cache import entry_point, kernel
from mnistbench.backends.numba.simd.tasks import (
    PHASE_BITS,
    ROW_BITS,
    STATES,
    claim,
    keep_pace,
    number_of,
    publish,
    row_of,
)
from mnistbench.backends.numba.simd.vector import (
    add_lane_sums,
    as_doubles,
    exp,
    fma,
    fma_loads,
    fma_splats,
    head,
    high,
    index,
    join,
    load,
    loads,
    low,
    maximum,
    prefetch,
    relu,
    repeat,
    splat,
    store,
    tail,
    where_equal,
    where_positive,
    zero,
)

PIXEL_HIGH = float(np.float32(1 / 255))
"""1 / 255 in two parts, the first exact in float32. The error of a single factor would be the same for every image, so
that it would not average out."""
PIXEL_LOW = float(Fraction(1, 255) - Fraction(PIXEL_HIGH))

AHEAD = 2048
"""Prefetch distance in bytes: what a loop reads in 130 ns, longer than the latency of memory."""


class Tile(NamedTuple):
    """Compile-time constants: the lengths of these tuples.

    Attributes:
        lanes: Images in a register.
        hidden: Hidden units computed together: an even number.
        classes: Classes computed together.
    """

    lanes: tuple[None, ...]
    hidden: tuple[None, ...]
    classes: tuple[None, ...]


class Sizes(NamedTuple):
    """The kernels' layout of the parameters, or of their gradients; padding is zero and stays zero.

    One array holds W1 as [hidden tile][pixel][hidden unit of the tile], b1 as [hidden unit], W2 as [hidden unit][class]
    and b2 as [class].

    Attributes:
        pixels, hidden, classes: Sizes padded to whole tiles.
        true_classes: Number of classes without padding.
        b1, W2, b2: Offsets; W1 begins at 0.
        total: Length of the array.
        pairs: Largest number of pairs in a block.
    """

    pixels: int
    hidden: int
    classes: int
    true_classes: int
    b1: int
    W2: int
    b2: int
    total: int
    pairs: int


class Room(NamedTuple):
    """What the threads compute with. A row of results is written by the thread whose spare row it is.

    Attributes:
        steps: Step sizes of W1 and of the other parameters.
        gradients: (tasks + threads, row) sums over the images of a task.
        scores: (tasks + threads, SPILL + 4 * lanes) scores of a task.
        pieces: (slices + threads, width) slices of the parameters; those published first are slice by slice in order.
        parameters: (threads, row) each thread's copy of the parameters.
        Z1: (threads, ...) a block's Z1 and dZ1, as [hidden tile][pair][hidden unit of the tile][2 * lanes].
        Z2: (threads, ...) a block's Z2 and dZ2, as [pair][class][2 * lanes].
        costs, begun: (tasks + slices,) as in :func:`~mnistbench.backends.numba.simd.tasks.claim`.
        paces: (threads, PACES) each thread's record.
    """

    steps: Array
    gradients: Array
    scores: Array
    pieces: Array
    parameters: Array
    Z1: Array
    Z2: Array
    costs: Ints
    begun: Ints
    paces: Ints


LOSS, HITS, SPILL = range(3)
"""Indices of a task's scores: sum of losses, number of correctly classified images, scratch memory for vectors."""


@kernel
def hidden_layer(block: int, tile: Tile, sizes: Sizes, packed: Packed, parameters: Array, Z1: Array) -> None:
    """Z1 = W1 X + b1."""
    lanes, units = len(tile.lanes), len(tile.hidden)
    narrow = zero(tile.lanes, parameters)
    wide = zero(tile.lanes + tile.lanes, parameters)
    high_part, low_part = splat(wide, PIXEL_HIGH), splat(wide, PIXEL_LOW)
    first_pair = packed.block_pair[block]
    for h in range(0, sizes.hidden, units):
        W1 = h * sizes.pixels
        for pair in range(first_pair, packed.block_pair[block + 1]):
            byte = packed.pair_chunk[pair]
            both = repeat(tile.hidden, wide)
            for k in range(packed.part[3 * pair], packed.part[3 * pair + 1]):
                prefetch(packed.chunk, byte + AHEAD)
                x = load(wide, packed.chunk, byte)
                both = fma_splats(both, x, parameters, W1 + index(packed.pixel, k) * units, 1)
                byte += 2 * lanes
            first, second = low(both), high(both)
            for k in range(packed.part[3 * pair + 1], packed.part[3 * pair + 2]):
                x = load(narrow, packed.chunk, byte)
                first = fma_splats(first, x, parameters, W1 + index(packed.pixel, k) * units, 1)
                byte += lanes
            for k in range(packed.part[3 * pair + 2], packed.part[3 * pair + 3]):
                x = load(narrow, packed.chunk, byte)
                second = fma_splats(second, x, parameters, W1 + index(packed.pixel, k) * units, 1)
                byte += lanes
            b1 = fma_splats(repeat(tile.hidden, wide), splat(wide, 1), parameters, sizes.b1 + h, 1)
            sums = join(first, second)
            z = fma(fma(b1, low_part, sums), high_part, sums)
            store(Z1, (h * sizes.pairs + (pair - first_pair) * units) * 2 * lanes, 2 * lanes, z)


@kernel
def output_layer(
    block: int,
    measure: bool,
    tile: Tile,
    sizes: Sizes,
    packed: Packed,
    parameters: Array,
    Z1: Array,
    Z2: Array,
    scores: Array,
) -> None:
    """Z2 = W2 ReLU(Z1) + b2 and dZ2 = softmax(Z2) - Y of a block, pair by pair; dZ2 overwrites Z2."""
    lanes, units = 2 * len(tile.lanes), len(tile.hidden)
    wide = zero(tile.lanes + tile.lanes, parameters)
    first_pair = packed.block_pair[block]
    for pair in range(packed.block_pair[block + 1] - first_pair):
        for c in range(0, sizes.classes, len(tile.classes)):
            z2 = fma_splats(repeat(tile.classes, wide), splat(wide, 1), parameters, sizes.b2 + c, 1)
            for h in range(0, sizes.hidden, units):
                for u in range(units):
                    z1 = load(wide, Z1, (h * sizes.pairs + pair * units + u) * lanes)
                    W2 = sizes.W2 + (h + u) * sizes.classes + c
                    z2 = fma_splats(z2, relu(z1), parameters, W2, 1)
            store(Z2, (pair * sizes.classes + c) * lanes, lanes, z2)
        softmax_error(first_pair + pair, pair * sizes.classes * lanes, measure, tile, sizes, packed, Z2, scores)


@kernel
def softmax_error(
    pair: int, at: int, measure: bool, tile: Tile, sizes: Sizes, packed: Packed, Z2: Array, scores: Array
) -> None:
    """A2 = softmax(Z2) and dZ2 = A2 - Y of a pair, in place, from Z2[at] on.

    Lanes without an image get A2 = 0, so that they contribute to no gradient.
    """
    lanes = 2 * len(tile.lanes)
    wide = zero(tile.lanes + tile.lanes, Z2)
    one = splat(wide, 1)
    if measure:
        count_hits(pair, at, lanes, sizes, packed, Z2, scores)
    largest = load(wide, Z2, at)
    for c in range(1, sizes.true_classes):
        largest = maximum(load(wide, Z2, at + c * lanes), largest)
    total = wide
    of_label = wide
    for c in range(sizes.true_classes):
        shifted = load(wide, Z2, at + c * lanes) - largest
        of_label = of_label + where_equal(packed.label, pair * lanes, c, shifted, wide)
        e = exp(shifted)
        total = total + e
        store(Z2, at + c * lanes, 0, e)
    if measure:
        add_loss(pair, lanes, packed, total, of_label, scores)
    inverse = where_equal(packed.label, pair * lanes, NO_IMAGE, wide, one / total)
    for c in range(sizes.true_classes):
        A2 = load(wide, Z2, at + c * lanes) * inverse
        store(Z2, at + c * lanes, 0, A2 - where_equal(packed.label, pair * lanes, c, one, wide))
    for c in range(sizes.true_classes, sizes.classes):
        store(Z2, at + c * lanes, 0, wide)


@kernel
def count_hits(pair: int, at: int, lanes: int, sizes: Sizes, packed: Packed, Z2: Array, scores: Array) -> None:
    """Count the images of a pair whose argmax of Z2 (the first of ties) is their label."""
    for lane in range(at, at + lanes):
        best = 0
        for c in range(1, sizes.true_classes):
            if Z2[lane + c * lanes] > Z2[lane + best * lanes]:
                best = c
        scores[HITS] += packed.label[pair * lanes + lane - at] == best


@kernel
def add_loss(pair: int, lanes: int, packed: Packed, total: Any, of_label: Any, scores: Array) -> None:
    """Add the cross-entropies log(total) - of_label of a pair's images; both are of Z2 less its maximum."""
    store(scores, SPILL, 0, as_doubles(total))
    store(scores, SPILL + lanes, 0, as_doubles(of_label))
    for lane in range(lanes):
        if packed.label[pair * lanes + lane] != NO_IMAGE:
            scores[LOSS] += math.log(scores[SPILL + lane]) - scores[SPILL + lanes + lane]


@kernel
def output_gradient(
    block: int, tile: Tile, sizes: Sizes, packed: Packed, Z1: Array, Z2: Array, gradient: Array
) -> None:
    """dW2 += dZ2 ReLU(Z1)ᵀ, two hidden units at a time, and db2 += sum of dZ2, for the images of a block."""
    lanes, units = len(tile.lanes), len(tile.hidden)
    narrow = zero(tile.lanes, Z1)
    pairs = packed.block_pair[block + 1] - packed.block_pair[block]
    for c in range(0, sizes.classes, len(tile.classes)):
        bias = repeat(tile.classes, narrow)
        for group in range(2 * pairs):
            dZ2 = ((group >> 1) * sizes.classes + c) * 2 * lanes + (group & 1) * lanes
            bias = fma_loads(bias, (splat(narrow, 1),), Z2, dZ2, 2 * lanes)
        add_lane_sums(gradient, sizes.b2 + c, bias)
        for h in range(0, sizes.hidden, 2):
            tile_of_h = h // units * units
            acc = repeat(tile.classes + tile.classes, narrow)
            for group in range(2 * pairs):
                half = (group & 1) * lanes
                z1 = (tile_of_h * sizes.pairs + (group >> 1) * units + h - tile_of_h) * 2 * lanes + half
                dZ2 = ((group >> 1) * sizes.classes + c) * 2 * lanes + half
                z = load(narrow, Z1, z1)
                next_z = load(narrow, Z1, z1 + 2 * lanes)
                A1 = (relu(z), relu(next_z))
                acc = fma_loads(acc, A1, Z2, dZ2, 2 * lanes)
            add_lane_sums(gradient, sizes.W2 + h * sizes.classes + c, head(tile.classes, acc))
            add_lane_sums(gradient, sizes.W2 + (h + 1) * sizes.classes + c, tail(tile.classes, acc))


@kernel
def hidden_error(
    block: int, tile: Tile, sizes: Sizes, packed: Packed, parameters: Array, Z1: Array, Z2: Array, gradient: Array
) -> None:
    """dZ1 = W2ᵀ dZ2 * (Z1 > 0), overwriting Z1, and db1 += sum of dZ1, for the images of a block."""
    lanes, units = 2 * len(tile.lanes), len(tile.hidden)
    wide = zero(tile.lanes + tile.lanes, parameters)
    pairs = packed.block_pair[block + 1] - packed.block_pair[block]
    for h in range(0, sizes.hidden, units):
        bias = repeat(tile.hidden, wide)
        for pair in range(pairs):
            dA1 = repeat(tile.hidden, wide)
            for c in range(sizes.true_classes):
                dZ2 = load(wide, Z2, (pair * sizes.classes + c) * lanes)
                dA1 = fma_splats(dA1, dZ2, parameters, sizes.W2 + h * sizes.classes + c, sizes.classes)
            at = (h * sizes.pairs + pair * units) * lanes
            store(Z1, at, lanes, where_positive(loads(tile.hidden, wide, Z1, at, lanes), dA1))
            bias = fma_loads(bias, (splat(wide, 1),), Z1, at, lanes)
        add_lane_sums(gradient, sizes.b1 + h, bias)


@kernel
def image_gradient(block: int, tile: Tile, sizes: Sizes, packed: Packed, Z1: Array, gradient: Array) -> None:
    """dW1 += dZ1 Xᵀ for the images of a block, two pixels at a time."""
    lanes, units = len(tile.lanes), len(tile.hidden)
    narrow = zero(tile.lanes, Z1)
    for h in range(0, sizes.hidden, units):
        for run in range(packed.block_run[block], packed.block_run[block + 1]):
            acc = repeat(tile.hidden + tile.hidden, narrow)
            for k in range(packed.run_member[run], packed.run_member[run + 1]):
                prefetch(packed.member_chunk, k * 2 * lanes + AHEAD)
                group = index(packed.member, k)
                dZ1 = (h * sizes.pairs + (group >> 1) * units) * 2 * lanes + (group & 1) * lanes
                x = load(narrow, packed.member_chunk, k * 2 * lanes)
                next_x = load(narrow, packed.member_chunk, k * 2 * lanes + lanes)
                acc = fma_loads(acc, (x, next_x), Z1, dZ1, 2 * lanes)
            add_lane_sums(gradient, h * sizes.pixels + index(packed.run_pixels, run) * 2 * units, acc)


@kernel
def clear(values: Array) -> None:
    """Set all values to 0."""
    for i in range(len(values)):
        values[i] = 0


@kernel
def collect(first: int, slices: int, pieces: Array, control: Ints, parameters: Array) -> None:
    """Copy the published slices of the parameters, whose states are from control[first] on, to ``parameters``."""
    width = pieces.shape[1]
    for slice_ in range(slices):
        piece = pieces[row_of(peek(control, first + slice_))]
        for i in range(width):
            parameters[slice_ * width + i] = piece[i]


@kernel
def add_gradients(
    task: int,
    measure: bool,
    tile: Tile,
    sizes: Sizes,
    packed: Packed,
    parameters: Array,
    Z1: Array,
    Z2: Array,
    gradient: Array,
    scores: Array,
    state: int,
    control: Ints,
) -> None:
    """Compute a task's sums of gradients and scores. Stop if its state is not ``state``: somebody has published it."""
    clear(gradient)
    clear(scores)
    for block in range(packed.task_block[task], packed.task_block[task + 1]):
        hidden_layer(block, tile, sizes, packed, parameters, Z1)
        if peek(control, STATES + task) != state:
            return
        output_layer(block, measure, tile, sizes, packed, parameters, Z1, Z2, scores)
        output_gradient(block, tile, sizes, packed, Z1, Z2, gradient)
        hidden_error(block, tile, sizes, packed, parameters, Z1, Z2, gradient)
        if peek(control, STATES + task) != state:
            return
        image_gradient(block, tile, sizes, packed, Z1, gradient)


@kernel
def take_step(
    slice_: int,
    tasks: int,
    tile: Tile,
    sizes: Sizes,
    steps: Array,
    gradients: Array,
    old: Array,
    control: Ints,
    new: Array,
) -> None:
    """new := old - alpha dW for a slice of the parameters. The tasks' gradients are added in their order."""
    lanes, width = 2 * len(tile.lanes), len(old)
    like = zero(tile.lanes + tile.lanes, old)
    one = (splat(like, 1),)
    for at in range(0, width, 4 * lanes):
        total = repeat((None, None, None, None), like)
        for task in range(tasks):
            total = fma_loads(total, one, gradients[row_of(peek(control, STATES + task))], slice_ * width + at, lanes)
        store(new, at, lanes, total)
    other = min(max(sizes.b1 - slice_ * width, 0), width)
    for i in range(other):
        new[i] = old[i] - steps[0] * new[i]
    for i in range(other, width):
        new[i] = old[i] - steps[1] * new[i]


@entry_point
def run(
    thread: int,
    iterations: int,
    learn: bool,
    tile: Tile,
    sizes: Sizes,
    packed: Packed,
    room: Room,
    control: Ints,
) -> None:
    """Do tasks of some iterations until all are done.

    Args:
        thread: Index of the thread.
        learn: Whether to update the parameters; otherwise leave the gradients of one iteration.
        control: Control array of :mod:`~mnistbench.backends.numba.simd.tasks`.
    """
    tasks, slices = len(packed.task_block) - 1, len(room.pieces) - len(room.parameters)
    end = 2 * iterations if learn else 1
    row, piece, collected = tasks + thread, slices + thread, -1
    parameters = room.parameters[thread]
    while True:
        ticket = claim(end, tasks, slices, control, room.costs, room.begun, room.paces[thread])
        phase, task = ticket >> PHASE_BITS, number_of(ticket)
        if phase >= end:
            return
        time, iteration = now(), phase >> 1
        place = STATES + task + tasks * (phase & 1)
        old = peek(control, place)
        if old >> ROW_BITS != iteration:  # somebody has published it
            continue
        if phase & 1:
            old_piece, new_piece = room.pieces[row_of(old)], room.pieces[piece]
            take_step(task, tasks, tile, sizes, room.steps, room.gradients, old_piece, control, new_piece)
            piece = publish(place, old, piece, control)
        else:
            if collected != iteration:  # a newer slice would mean that this task is published, so that nobody sees it
                collect(STATES + tasks, slices, room.pieces, control, parameters)
                collected = iteration
            add_gradients(
                task,
                iteration == iterations - 1,
                tile,
                sizes,
                packed,
                parameters,
                room.Z1[thread],
                room.Z2[thread],
                room.gradients[row],
                room.scores[row],
                old,
                control,
            )
            row = publish(place, old, row, control)
        keep_pace(phase & 1, room.costs[place - STATES], now() - time, room.paces[thread])
