"""A gate before each iteration. Its leader opens it; others wait there in compiled code, between whatever else it does.

The leader is the caller's thread. It calls compiled code once an iteration, and has the ranks exchange sums in between.
"""

from __future__ import annotations

from mnistbench.backends.numba.simd import Ints
from mnistbench.backends.numba.simd.atomic import now, pause, peek, put, sleep
from mnistbench.backends.numba.simd.cache import kernel
from mnistbench.backends.numba.simd.workers import STOP

# Index of the control array that threads share.
OPENED = 32
"""Number of iterations that the leader has opened."""

_SPIN = 100_000
"""Nanoseconds to wait without sleeping. Waking up takes some 60 us."""

_LONGEST = 1_000_000
"""Most nanoseconds to sleep at once."""


@kernel
def open_gate(control: Ints, iterations: int) -> None:
    """Open the gate, for ``iterations`` iterations altogether."""
    put(control, OPENED, iterations)


@kernel
def pass_gate(control: Ints, passed: int) -> int:
    """Wait until more than ``passed`` iterations are open, and return their number; -1 when STOP is set.

    Who waits for long sleeps, an eighth of that time at once: an exchange may take the core, and milliseconds.
    """
    since = now()
    while True:
        if peek(control, STOP) != 0:
            return -1
        opened: int = peek(control, OPENED)
        if opened > passed:
            return opened
        waited = now() - since
        if waited < _SPIN:
            pause()
        else:
            sleep(min(waited >> 3, _LONGEST))
