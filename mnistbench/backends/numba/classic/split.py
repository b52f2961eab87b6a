"""The classic's iteration of one rank of several, in two parts: the sums of its images, and the step.

The caller's thread, 0, leads. It calls :func:`run_split` once an iteration, for the step of the one before and the sums
of the next; in between, the ranks exchange their sums. The others stay inside, and wait at the gate. Sums take the two
phases of :mod:`~mnistbench.backends.numba.simd.tasks`: gradients by tasks, then what the tasks add up to, by slices,
which is a step of size -1 from 0, to the last bit. The leader alone takes the step of the parameters.
"""

from __future__ import annotations

from mnistbench.backends.numba.classic.kernels import Room, Sizes, Tile, add_gradients, collect, take_step
from mnistbench.backends.numba.classic.packing import Packed
from mnistbench.backends.numba.simd import Array, Ints
from mnistbench.backends.numba.simd.atomic import now, peek
from mnistbench.backends.numba.simd.cache import entry_point, kernel
from mnistbench.backends.numba.simd.gate import OPENED, open_gate, pass_gate
from mnistbench.backends.numba.simd.tasks import (
    PHASE_BITS,
    ROW_BITS,
    STATES,
    claim,
    keep_pace,
    number_of,
    publish,
)


@kernel
def take_whole_step(sizes: Sizes, steps: Array, sums: Array, parameters: Array) -> None:
    """W := W - alpha dW for all parameters."""
    for i in range(sizes.b1):
        parameters[i] = parameters[i] - steps[0] * sums[i]
    for i in range(sizes.b1, sizes.total):
        parameters[i] = parameters[i] - steps[1] * sums[i]


@kernel
def add_up(
    thread: int,
    row: int,
    piece: int,
    opened: int,
    measure: bool,
    tile: Tile,
    sizes: Sizes,
    packed: Packed,
    room: Room,
    parameters: Array,
    nothing: Array,
    control: Ints,
) -> tuple[int, int]:
    """Do tasks until the sums of iteration ``opened - 1`` are complete.

    Args:
        row, piece: The thread's spare row of ``room.gradients`` and of ``room.pieces``.
        measure: Whether to compute scores.
        nothing: (2 + width,) step sizes of -1, and a slice of zeros.

    Returns:
        The thread's spare rows from now on.
    """
    tasks, slices, end = len(packed.task_block) - 1, len(room.pieces) - len(room.parameters), 2 * opened
    while True:
        ticket = claim(end, tasks, slices, control, room.costs, room.begun, room.paces[thread])
        phase, task = ticket >> PHASE_BITS, number_of(ticket)
        if phase >= end:
            return row, piece
        time, place = now(), STATES + task + tasks * (phase & 1)
        old = peek(control, place)
        if old >> ROW_BITS != phase >> 1:  # somebody has published it
            continue
        if phase & 1:
            take_step(task, tasks, tile, sizes, nothing[:2], room.gradients, nothing[2:], control, room.pieces[piece])
            piece = publish(place, old, piece, control)
        else:
            add_gradients(
                task,
                measure,
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


@entry_point
def run_split(
    thread: int,
    iterations: int,
    spares: Ints,
    tile: Tile,
    sizes: Sizes,
    packed: Packed,
    room: Room,
    parameters: Array,
    nothing: Array,
    sums: Array,
    control: Ints,
) -> None:
    """Take the step of the last iteration that is open, if any, and compute the sums of the next, if any.

    Only thread 0 returns then. The others do tasks of all iterations, until STOP is set.

    Args:
        iterations: Number of iterations; the last one has scores.
        spares: (threads, 2) the leader's spare rows of ``room.gradients`` and ``room.pieces`` are kept here.
        parameters: (slices * width,) which only the leader writes, while the gate is closed.
        nothing: As in :func:`add_up`.
        sums: (slices * width,) sums of the gradients, for the ranks to add up.
        control: Control array of :mod:`~mnistbench.backends.numba.simd.tasks`.
    """
    tasks, slices = len(packed.task_block) - 1, len(room.pieces) - len(room.parameters)
    opened = 0
    if thread == 0:
        opened = peek(control, OPENED)
        if opened > 0:
            take_whole_step(sizes, room.steps, sums, parameters)
        if opened >= iterations:
            return
        open_gate(control, opened + 1)
    row, piece = spares[thread, 0], spares[thread, 1]
    while True:
        opened = pass_gate(control, opened)
        if opened < 0:
            return
        row, piece = add_up(
            thread, row, piece, opened, opened == iterations, tile, sizes, packed, room, parameters, nothing, control
        )
        if thread == 0:
            spares[thread, 0], spares[thread, 1] = row, piece
            collect(STATES + tasks, slices, room.pieces, control, sums)
            return
