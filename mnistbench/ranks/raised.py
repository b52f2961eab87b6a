"""Exceptions that are sent to another process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mnistbench import exceptions, words
from mnistbench.exceptions import BackendUnavailable, Interrupted, MnistbenchError


@dataclass(frozen=True)
class Raised:
    """Exception by the name and the arguments of its class: one of this package's, or that of a lack of memory."""

    kind: str
    arguments: tuple[Any, ...]

    @classmethod
    def of(cls, error: Exception) -> Raised:
        """Describe an exception; of another package's, whose library may be missing elsewhere, only what it says."""
        if isinstance(error, BackendUnavailable):
            return cls("BackendUnavailable", (error.name, error.reason, error.fix))
        if isinstance(error, MemoryError):
            return cls("MemoryError", (str(error),))
        if isinstance(error, MnistbenchError) and "__init__" not in vars(type(error)):
            return cls(type(error).__name__, (str(error),))
        return cls("MnistbenchError", (words.exception(error),))

    def rebuilt(self, rank: int | None = None) -> Exception:
        """Return the exception, with the number of the rank that raised it, if it is given."""
        arguments = self.arguments
        if rank is not None:
            place = 1 if self.kind == "BackendUnavailable" else 0
            arguments = (*arguments[:place], f"rank {rank}: {arguments[place]}", *arguments[place + 1 :])
        if self.kind == "MemoryError":
            return MemoryError(*arguments)
        found: Exception = getattr(exceptions, self.kind, MnistbenchError)(*arguments)
        return found


def ending(error: BaseException) -> tuple[str, int]:
    """Return the line that the command line prints for an exception, and its exit status."""
    if isinstance(error, Interrupted):
        return str(error), 128 + error.signal
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 130
    return words.exception(error), 2
