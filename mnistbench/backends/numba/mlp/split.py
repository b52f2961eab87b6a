"""An mlp's iteration of one rank of several, in two parts: the sums of its images, and the step.

The caller's thread, 0, leads. It calls :func:`run_split` once an iteration, for the step of the one before and the sums
of the next; in between, the ranks exchange their sums. The others stay inside, and wait at the gate. The step is a
stage of its own, STEP: a share's weights as in GRADIENTS, item by item, and its biases.
"""

from __future__ import annotations

from mnistbench.backends.numba.mlp.kernels import (
    BIASES,
    FIRST,
    GATHER,
    GRADIENTS,
    INPUTS,
    ONE,
    OWN_SUMS,
    UNITS,
    ZERO,
    Block,
    Data,
    Net,
    Room,
    Turn,
    bounds_of,
    copy,
    copy_transposed,
    do_phase,
    given_biases,
    given_of,
    mine,
    part_of,
    parts,
    phase_of,
)
from mnistbench.backends.numba.mlp.updates import Rates, move
from mnistbench.backends.numba.simd import Array, Ints
from mnistbench.backends.numba.simd.atomic import peek, put
from mnistbench.backends.numba.simd.cache import entry_point, kernel
from mnistbench.backends.numba.simd.gate import OPENED, open_gate, pass_gate
from mnistbench.backends.numba.simd.shares import DONE, item_of

STEP = GRADIENTS + 1
"""The stage of a step."""

# Places in a plan: what to do when the gate has been opened.
STEPS, SUMS = 0, 1
"""Whether to take a step, and whether to compute sums after it."""
PHASE, HALF = 2, 3
"""First phase, and the half of Room for the first block."""
GATHERS = 4
"""Whether that block is still to be gathered."""
BEGIN, END = 5, 6
"""Bounds of the rank's images of the batch in the epoch's order."""
FOLLOWS, UNTIL = 7, 8
"""Bounds of the first block of the next batch, to be gathered; equal if it is not to be."""
PLAN = 9
"""Length of a plan. There are two, for the gate's odd and even openings: who is late may still read one of them."""


@kernel
def count_step_items(stage: int, net: Net, block: Block, turn: Turn) -> int:
    """Return the number of a share's items of a step: of weights, and its biases."""
    count: int = net.items.shape[1] + 1
    return count


@kernel
def do_step_item(stage: int, net: Net, data: Data, room: Room, block: Block, turn: Turn) -> bool:
    """Update parameters by the sums of all ranks."""
    item = item_of(turn.word)
    if item == net.items.shape[1]:
        if not mine(turn):
            return False
        for layer in range(len(net.shape)):
            low, high = bounds_of(turn, net.shape[layer, UNITS])
            at, given = net.shape[layer, BIASES] + low, given_biases(net, layer) + low
            move(net.rule, block.rates, ZERO, net.parameters, net.v, net.s, at, high - low, net.sums, given)
        return True
    layer, low, high = net.items[turn.share, item]
    sums = room.own[turn.thread, OWN_SUMS]
    fetch(net, turn, layer, low, high, sums)
    if not mine(turn):
        return False
    at, own = part_of(net, turn, layer, low)
    move(net.rule, block.rates, ONE, net.parameters, net.v, net.s, at, (high - low) * own, sums, ZERO)
    if layer > 0:
        copy_transposed(net, layer, low, high)
    return True


@kernel
def fetch(net: Net, turn: Turn, layer: int, low: int, high: int, out: Array) -> None:
    """Copy the share's gradients of a layer's inputs ``low`` to ``high`` from ``Net.sums``, with padding of zero."""
    own = part_of(net, turn, layer, low)[1]
    padded = out[: (high - low) * own]
    for i in range(len(padded)):
        padded[i] = 0
    for row in range(min(high, net.shape[layer, INPUTS]) - low):
        given, count = given_of(net, turn, layer, low + row)
        copy(net.sums, given, out, row * own, count)


do_step_phase = phase_of(count_step_items, do_step_item)


@kernel
def add_up(
    thread: int,
    shares: int,
    phase: int,
    half: int,
    gathers: int,
    begin: int,
    end: int,
    follows: int,
    until: int,
    rates: Rates,
    net: Net,
    data: Data,
    room: Room,
    control: Ints,
) -> None:
    """Compute the sums of a batch, whose places in a plan the arguments are, block by block."""
    blocks = max(parts(end - begin, room.inks.shape[1]), 1)
    stage = GATHER if gathers != 0 else FIRST
    for number in range(blocks):
        low, high = begin + (end - begin) * number // blocks, begin + (end - begin) * (number + 1) // blocks
        closes, next_low, next_high = number == blocks - 1, follows, until
        if not closes:
            next_low, next_high = high, begin + (end - begin) * (number + 2) // blocks
        block = Block(low, low - begin, high - low, half, number == 0, closes, (None,), next_low, next_high, rates)
        while stage <= GRADIENTS:
            do_phase(stage, phase, net, data, room, block, thread, shares, control)
            stage, phase = stage + 1, phase + 1
        stage, half = FIRST, 1 - half


@entry_point
def run_split(
    thread: int, shares: int, plans: Ints, numbers: Array, net: Net, data: Data, room: Room, control: Ints
) -> None:
    """Do the thread's share of plans and help others: thread 0 of the next one, for which it opens the gate.

    The others do so for all that it opens, until STOP is set.

    Args:
        shares: Number of threads.
        plans: (2 * PLAN,) plans for even and for odd openings of the gate.
        numbers: (2, 4) fields of Rates for their steps.
        control: Control array of :mod:`~mnistbench.backends.numba.simd.shares`; DONE is the number of steps.
    """
    opened = ZERO
    if thread == 0:
        opened = peek(control, OPENED)
        open_gate(control, opened + 1)
    while True:
        opened = pass_gate(control, opened)
        if opened < 0:
            return
        own = opened & 1
        plan = own * PLAN
        steps = peek(plans, plan + STEPS)
        computes = peek(plans, plan + SUMS)
        phase = peek(plans, plan + PHASE)
        half = peek(plans, plan + HALF)
        gathers = peek(plans, plan + GATHERS)
        begin = peek(plans, plan + BEGIN)
        end = peek(plans, plan + END)
        follows = peek(plans, plan + FOLLOWS)
        until = peek(plans, plan + UNTIL)
        rates = Rates(numbers[own, 0], numbers[own, 1], numbers[own, 2], numbers[own, 3])
        if peek(control, OPENED) != opened:  # the plan may be that of a later opening in parts
            continue
        if steps != 0:
            block = Block(ZERO, ZERO, ZERO, ZERO, False, False, (), ZERO, ZERO, rates)
            do_step_phase(STEP, phase, net, data, room, block, thread, shares, control)
            phase += 1
            if thread == 0:
                put(control, DONE, peek(control, DONE) + 1)
        if computes != 0:
            add_up(thread, shares, phase, half, gathers, begin, end, follows, until, rates, net, data, room, control)
        if thread == 0:
            return
