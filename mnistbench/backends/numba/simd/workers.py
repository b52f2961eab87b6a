"""Worker threads: Python threads, each in one call of compiled code that has released the GIL."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from mnistbench.backends.numba.simd import Ints

# Indices of the control array that threads share.
STOP = 16
"""Set to end after the current iteration. Nobody needs to wait for a thread that failed or did not start."""


def run_workers(threads: int, work: Callable[[int], None], control: Ints) -> None:
    """Call ``work(0)``, ``work(1)``, ... on ``threads`` threads, and always wait until all have ended.

    An exception in a worker ends the others, no later than after the iteration in progress, and is raised here. Ctrl-C
    lets them finish that iteration.
    """
    errors: list[BaseException] = []

    def guarded(thread: int) -> None:
        try:
            work(thread)
        except BaseException as error:
            errors.append(error)
            control[STOP] = 1

    workers = [threading.Thread(target=guarded, args=(thread,)) for thread in range(threads)]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    except BaseException:
        control[STOP] = 1
        _join_all(workers)
        raise
    if errors:
        raise errors[0]


def _join_all(workers: list[threading.Thread]) -> None:
    """Wait for the started threads, which are about to end, through any further Ctrl-C."""
    for worker in workers:
        while worker.ident is not None and worker.is_alive():
            with contextlib.suppress(KeyboardInterrupt):
                worker.join()
