"""Streams, captures and graphs of the stand-in for CuPy: a stream that captures records what is submitted to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

Operation = Callable[[], object]

_addresses = count(1 << 40, 64)  # which a 32-bit integer does not hold


class Stream:
    """A CUDA stream, which runs what is submitted at once, or records it."""

    def __init__(self, non_blocking: bool = False, ptr: int | None = None) -> None:
        self.ptr = next(_addresses) if ptr is None else ptr
        self._non_blocking = non_blocking
        self._recorded: list[Operation] | None = None
        self._invalid = False

    def __enter__(self) -> Stream:
        _current.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        assert _current.pop() is self

    def is_capturing(self) -> bool:
        return self._recorded is not None

    def submit(self, operation: Operation) -> None:
        if self._recorded is None:
            operation()
        else:
            self._recorded.append(operation)

    def synchronize(self) -> None:
        if self.is_capturing():
            self._invalid = True
            raise RuntimeError("cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing")

    def begin_capture(self) -> None:
        if not self.ptr:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        assert self._non_blocking, "the default stream would wait for it"
        assert not self.is_capturing()
        self._recorded, self._invalid = [], False

    def end_capture(self) -> Graph:
        assert self._recorded is not None
        recorded, self._recorded = self._recorded, None
        if self._invalid:
            raise RuntimeError("cudaErrorStreamCaptureInvalidated: operation failed due to a previous error")
        return Graph(recorded)


class Graph:
    """Operations with the arguments that they had while they were captured."""

    def __init__(self, operations: list[Operation]) -> None:
        self._operations = operations

    def launch(self) -> None:
        assert not current().is_capturing()
        for operation in self._operations:
            operation()


_current = [Stream(ptr=0)]
_allocators: list[Callable[[int], Any]] = []


def current() -> Stream:
    """Return the stream that operations are submitted to."""
    return _current[-1]


def submit(operation: Operation) -> None:
    """Run an operation on the current stream, or record it."""
    current().submit(operation)


def refuse(what: str) -> None:
    """Raise what CuPy raises where the current stream captures.

    Raises:
        RuntimeError: it does.
    """
    if current().is_capturing():
        raise RuntimeError(f"the current stream is capturing, so {what} are disallowed")


def allocate(size: int) -> None:
    """Ask the current allocator for memory, which NumPy then gives; a capture must have one of its own."""
    if _allocators:
        _allocators[-1](size)
    else:
        assert not current().is_capturing(), "a graph would write to memory that others get"


@contextmanager
def using_allocator(allocator: Callable[[int], Any]) -> Iterator[None]:
    """Take memory from an allocator in the ``with`` block."""
    _allocators.append(allocator)
    try:
        yield
    finally:
        _allocators.pop()
