"""What the ranks exchange: vectors that they add up, and commands with their answers."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Any, ClassVar, NoReturn

HALVED = 65_536
"""Bytes of a vector from which on each rank adds up a part of it, and the ranks collect the parts."""


class Exchange(ABC):
    """Connection of a rank to the others.

    A library's own reduction may add in another order in every run. Here ranks add in pairs, by recursive doubling
    (Thakur, Rabenseifner and Gropp, "Optimization of collective communication operations in MPICH", 2005): in step k a
    rank swaps its vector with rank XOR 2ᵏ and adds the other. Addition commutes, so both hold the same bits.

    Attributes:
        rank: Number of this rank, from 0.
        size: Number of ranks.
        seconds: Seconds spent in :meth:`sum`, waiting included.
        library: Name and version of the library that carries the messages.
        transport: What it carries them over.
    """

    library: str
    transport: str
    apart: ClassVar[bool] = True
    """Whether each rank is a process of its own."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self.seconds = 0.0
        self._rooms: dict[tuple[type, int, str], Any] = {}

    def sum(self, vector: Any) -> None:
        """Replace a contiguous vector of floats by its sum over all ranks: the same bits on each, and in every run.

        All ranks call it with vectors of the same length and dtype.
        """
        begin = time.perf_counter()
        room = self._room(vector)
        pairs = 1 << self.size.bit_length() - 1  # ranks beyond a power of two add theirs to another's first
        if self.rank >= pairs:
            self.send(self.rank - pairs, vector)
            self.receive(self.rank - pairs, vector)
        else:
            extra = self.rank + pairs < self.size
            if extra:
                self.receive(self.rank + pairs, room)
                vector += room
            if vector.nbytes >= HALVED:
                self._halve_and_double(vector, room, pairs)
            else:
                self._double(vector, room, pairs)
            if extra:
                self.send(self.rank + pairs, vector)
        self.seconds += time.perf_counter() - begin

    def _double(self, vector: Any, room: Any, pairs: int) -> None:
        step = 1
        while step < pairs:
            self.swap(self.rank ^ step, vector, room)
            vector += room
            step *= 2

    def _halve_and_double(self, vector: Any, room: Any, pairs: int) -> None:
        """Add halves of halves, so that each rank ends with the sum of a part, and collect the parts."""
        low, high, step, kept = 0, len(vector), 1, []
        while step < pairs:
            middle = (low + high) // 2
            mine, theirs = (low, middle), (middle, high)
            if self.rank & step:
                mine, theirs = theirs, mine
            own = vector[slice(*mine)]
            self.swap(self.rank ^ step, vector[slice(*theirs)], room[: len(own)])
            own += room[: len(own)]
            kept.append((mine, theirs))
            (low, high), step = mine, 2 * step
        for mine, theirs in reversed(kept):
            step //= 2
            self.swap(self.rank ^ step, vector[slice(*mine)], vector[slice(*theirs)])

    def _room(self, vector: Any) -> Any:
        """Return memory for a received vector, kept for the next one of its length and dtype."""
        key = type(vector), len(vector), vector.dtype.str
        if key not in self._rooms:
            self._rooms[key] = vector.copy()  # in the memory of the vector's own library
        return self._rooms[key]

    @abstractmethod
    def swap(self, rank: int, vector: Any, room: Any) -> None:
        """Send a vector to another rank and receive one from it into ``room``."""

    @abstractmethod
    def send(self, rank: int, vector: Any) -> None:
        """Send a vector to another rank."""

    @abstractmethod
    def receive(self, rank: int, room: Any) -> None:
        """Receive a vector from another rank into ``room``."""

    @abstractmethod
    def tell(self, rank: int, value: Any) -> None:
        """Send a value that can be pickled to another rank."""

    @abstractmethod
    def hear(self, rank: int) -> Any:
        """Wait for a value from another rank, for hours if need be, and return it."""

    @abstractmethod
    def abort(self, message: str, status: int = 2) -> NoReturn:
        """End all ranks because of an error on this one, whose line is ``message``, with an exit status."""

    def close(self) -> None:  # noqa: B027 - most have nothing to free
        """Free the connection, on all ranks together."""
