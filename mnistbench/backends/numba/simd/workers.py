"""Worker threads: Python threads, each in one call of compiled code that has released the GIL."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator

from mnistbench.backends.numba.simd import Ints

# Indices of the control array that threads share.
STOP = 16
"""Set to end after the current iteration. Nobody needs to wait for a thread that failed or did not start."""


def _guarded(work: Callable[[int], None], errors: list[BaseException], control: Ints) -> Callable[[int], None]:
    """Return ``work`` for a thread of its own: an exception goes to ``errors``, and ends the other threads."""

    def guarded(thread: int) -> None:
        try:
            work(thread)
        except BaseException as error:
            errors.append(error)
            control[STOP] = 1

    return guarded


def run_workers(threads: int, work: Callable[[int], None], control: Ints) -> None:
    """Call ``work(0)``, ``work(1)``, ... on ``threads`` threads, and always wait until all have ended.

    An exception in a worker ends the others, no later than after the iteration in progress, and is raised here. Ctrl-C
    lets them finish that iteration.
    """
    errors: list[BaseException] = []
    guarded = _guarded(work, errors, control)
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


@contextlib.contextmanager
def crew(threads: int, work: Callable[[int], None], control: Ints) -> Iterator[Callable[[], None]]:
    """Let this thread lead ``threads - 1`` others, which stay in ``work(1)``, ``work(2)``, ... until the context ends.

    Yields:
        A function that calls ``work(0)``, and raises what a worker has raised.
    """
    errors: list[BaseException] = []
    guarded = _guarded(work, errors, control)
    # A context that is never left, as of a generator that is kept, must not keep the interpreter from ending.
    workers = [threading.Thread(target=guarded, args=(thread,), daemon=True) for thread in range(1, threads)]

    def lead() -> None:
        work(0)
        if errors:
            raise errors[0]

    try:
        for worker in workers:
            worker.start()
        yield lead
    finally:
        control[STOP] = 1
        if not sys.is_finalizing():  # then no thread can end any more
            _join_all(workers)


def _join_all(workers: list[threading.Thread]) -> None:
    """Wait for the started threads, which are about to end, through any further Ctrl-C."""
    for worker in workers:
        while worker.ident is not None and worker.is_alive():
            with contextlib.suppress(KeyboardInterrupt):
                worker.join()
