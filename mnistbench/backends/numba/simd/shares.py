"""Work in shares, one for each thread, that others help to finish. README.md has the protocol and why it is right.

Work comes in *phases*. In each of them a thread does its share, *item* by item, and then helps those that stand still
since the operating system took their threads off the core. An item is computed into memory of the thread's own. Before
its results are written where others read them, the thread *takes* it: of all that compute it, one succeeds.
"""

from __future__ import annotations

import numpy as np

from mnistbench.backends.numba.simd import Ints
from mnistbench.backends.numba.simd.atomic import now, pause, peek, put, swap_if
from mnistbench.backends.numba.simd.cache import kernel
from mnistbench.backends.numba.simd.workers import STOP

# Indices of the control array that threads share. Those of different writers are 128 bytes apart, since
# CPUs fetch cache lines in pairs.
DONE = 0
"""Number of finished iterations << 1 | whether none follows."""
WORDS = 64
"""Place of each share's word, LINE apart: (phase << ITEM_BITS | item) << 1 | whether the item is taken."""
BEGUN = 80
"""Place, LINE apart, of the phase that the share's own thread has begun last."""
PACE = 81
"""Place, LINE apart, of the nanoseconds of the own thread's longest item, for each of up to seven kinds of phases."""
LINE = 32

ITEM_BITS = 24

_MARGIN = 10_000
"""Nanoseconds that a share may stand still beyond the pace of who waits."""


def make_control(shares: int) -> Ints:
    """Return the control array for a number of shares."""
    return np.zeros(WORDS + shares * LINE, np.int64)


@kernel
def first_word(phase: int) -> int:
    """Return the word of a share at the beginning of a phase, which is that at the end of the one before."""
    return phase << ITEM_BITS + 1


@kernel
def word_of(control: Ints, share: int) -> int:
    """Return the word of a share."""
    word: int = peek(control, WORDS + LINE * share)
    return word


@kernel
def item_of(word: int) -> int:
    """Return the number of a word's item in its phase."""
    return word >> 1 & (1 << ITEM_BITS) - 1


@kernel
def take(control: Ints, share: int, word: int) -> bool:
    """Take the item of a word, which nobody has taken. Only who gets True may write its results, and must finish it."""
    taken: bool = swap_if(control, WORDS + LINE * share, word, word | 1)
    return taken


@kernel
def finish(control: Ints, share: int, word: int, phase: int, count: int) -> None:
    """Let the item after a taken one follow, or the next phase after the last of ``count``."""
    following = word + 2 if item_of(word) + 1 < count else first_word(phase + 1)
    put(control, WORDS + LINE * share, following)


@kernel
def find_late(control: Ints, phase: int, thread: int, shares: int, patience: int) -> int:
    """Wait until another share stands still, and return its number; -1 when the phase is over.

    Args:
        patience: Nanoseconds in which a share should get on by an item.
    """
    watched, seen, since = -1, -1, 0
    while True:
        share, left = thread, shares
        while left > 0 and word_of(control, share) >= first_word(phase + 1):
            share, left = (share + 1) % shares, left - 1
        if left == 0:
            return -1
        word = word_of(control, share)
        if share != watched or word != seen:
            watched, seen, since = share, word, now()
        elif word & 1 == 0 and (is_away(control, share, phase) or is_late(now() - since, patience)):
            return share
        pause()


@kernel
def begin_phase(control: Ints, share: int, phase: int) -> None:
    """Say that the share's own thread begins a phase."""
    put(control, BEGUN + LINE * share, phase)


@kernel
def keep_pace(control: Ints, share: int, kind: int, longest: int) -> int:
    """Record the time of the own thread's longest item in a phase, and return what it takes without interruptions.

    A shorter time counts at once, a longer one slowly, since it may be of an interruption; 0 is of no item at all.
    """
    place = PACE + LINE * share + kind
    pace: int = peek(control, place)
    if longest > 0:
        pace = longest if pace == 0 else min(longest, pace + (pace >> 3) + 1)
        put(control, place, pace)
    return pace


@kernel
def is_away(control: Ints, share: int, phase: int) -> bool:
    """Whether the share's own thread has begun neither this phase nor the one before, so that others did it all."""
    begun: int = peek(control, BEGUN + LINE * share)
    return begun < phase - 1


@kernel
def is_late(elapsed: int, patience: int) -> bool:
    """Whether a share has stood still for too long."""
    return elapsed > _MARGIN + patience


@kernel
def goes_on(control: Ints, iteration: int) -> bool:
    """Decide at the end of an iteration, once for all threads, whether another may follow."""
    old = iteration << 1
    if peek(control, DONE) == old:
        swap_if(control, DONE, old, old + 2 | (peek(control, STOP) != 0))
    done: int = peek(control, DONE)
    return done != old + 3
