"""Work in tasks that any thread may do, and that no thread waits for. README.md has the protocol and why it is right.

An iteration has two *phases*, 2 * i and 2 * i + 1. Each has its own tasks: in the first they add up gradients, in the
second they take the step for a slice of the parameters. A thread claims a task, computes it into a spare row that only
it writes, and publishes the row. If nothing is left to claim and a task is late, since the operating system took its
thread off the core, another thread computes it again; whoever publishes first counts. Both compute the same bits.
"""

from __future__ import annotations

import numpy as np

from mnistbench.backends.numba.simd import Ints
from mnistbench.backends.numba.simd.atomic import add, now, pause, peek, put, swap_if
from mnistbench.backends.numba.simd.cache import kernel
from mnistbench.backends.numba.simd.workers import STOP

# Indices of the control array that threads share. They are 128 bytes apart, since CPUs fetch cache lines in pairs.
NEXT = 0
"""Phase << PHASE_BITS | number of its next task."""
AGAIN = 48
"""Number of tasks that were begun again."""
STATES = 64
"""State of each task of the first phase, then of the second: number of times it was published << ROW_BITS | row."""

PHASE_BITS = 20
ROW_BITS = 16
ROWS = (1 << ROW_BITS) - 1
"""Mask of a state's row."""

# Indices of a thread's own record: nanoseconds for 1024 units of cost in the first and second phase.
PACE = 0
PACES = 8

_UNKNOWN = 1 << 36
"""Pace of a thread that has done no task of a kind: it waits for 0.1 s and more before it finds one late."""

_FLOOR = 5_000
"""Nanoseconds that a task may take besides."""


def make_control(first: int, second: int) -> Ints:
    """Return the control array for phases of ``first`` and ``second`` tasks, whose rows are their numbers."""
    control = np.zeros(STATES + first + second, np.int64)
    control[STATES:] = [*range(first), *range(second)]
    return control


def make_paces(threads: int) -> Ints:
    """Return each thread's own record."""
    return np.full((threads, PACES), _UNKNOWN, np.int64)


@kernel
def number_of(ticket: int) -> int:
    """Return the number of the task of a ticket."""
    return ticket & ((1 << PHASE_BITS) - 1)


@kernel
def row_of(state: int) -> int:
    """Return the row that a task was published in."""
    return state & ROWS


@kernel
def claim(end: int, first: int, second: int, control: Ints, costs: Ints, begun: Ints, pace: Ints) -> int:
    """Return a ticket: a claimed task, or a late one, or any of phase ``end``, after which there is nothing to do.

    Args:
        end: First phase that is not run.
        first, second: Numbers of tasks of even and of odd phases.
        costs: Relative cost of each task, in the order of STATES.
        begun: Time at which each task was claimed.
        pace: This thread's record.
    """
    while True:
        ticket: int = peek(control, NEXT)
        if ticket >> PHASE_BITS < end and number_of(ticket) < (second if ticket >> PHASE_BITS & 1 else first):
            ticket = add(control, NEXT, 1)  # of the next phase, if that was opened in between
        phase = ticket >> PHASE_BITS
        if phase >= end:
            return ticket
        count, base = (second, first) if phase & 1 else (first, 0)
        if number_of(ticket) < count:
            put(begun, base + number_of(ticket), now())
            return ticket
        late = find_late(phase, count, base, control, costs, begun, pace)
        if late >= 0:
            return phase << PHASE_BITS | late
        open_next(phase, end, control)


@kernel
def find_late(phase: int, count: int, base: int, control: Ints, costs: Ints, begun: Ints, pace: Ints) -> int:
    """Wait until a task of a phase is late, and return its number; -1 when all are published, or the phase is over."""
    missing = 0
    while True:
        while missing < count and peek(control, STATES + base + missing) >> ROW_BITS != phase >> 1:
            missing += 1
        if missing == count or peek(control, NEXT) >> PHASE_BITS != phase:
            return -1
        time = now()
        for task in range(missing, count):
            if peek(control, STATES + base + task) >> ROW_BITS == phase >> 1 and is_late(
                time - peek(begun, base + task), costs[base + task], pace[PACE + (phase & 1)]
            ):
                put(begun, base + task, time)  # others need not compute it a third time
                add(control, AGAIN, 1)
                return task
        pause()


@kernel
def is_late(elapsed: int, cost: int, pace: int) -> bool:
    """Whether a task takes half again as long as this thread would."""
    return elapsed > _FLOOR + (cost * pace >> 10) * 3 // 2


@kernel
def open_next(phase: int, end: int, control: Ints) -> None:
    """Open the phase after ``phase``, unless somebody has, or the last one if an iteration is over and STOP is set."""
    following = phase + 1
    if following & 1 == 0 and peek(control, STOP) != 0:
        following = end
    while True:
        ticket = peek(control, NEXT)
        if ticket >> PHASE_BITS != phase or swap_if(control, NEXT, ticket, following << PHASE_BITS):
            return


@kernel
def publish(place: int, old: int, row: int, control: Ints) -> int:
    """Publish a row as the result of the task whose state is control[place], if that is still ``old``.

    Returns:
        The thread's spare row from now on: the task's former row, or the same if somebody else published first.
    """
    if swap_if(control, place, old, ((old >> ROW_BITS) + 1) << ROW_BITS | row):
        return row_of(old)
    return row


@kernel
def keep_pace(kind: int, cost: int, time: int, pace: Ints) -> None:
    """Record how long this thread took for a task: a shorter time at once, a longer one, of an interruption, slowly."""
    pace[PACE + kind] = min((time << 10) // cost, pace[PACE + kind] + (pace[PACE + kind] >> 3) + 1)
