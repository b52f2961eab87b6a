"""Exceptions for errors that a user can cause. Each message is one line: what is wrong, where, and how to fix it.

The command line prints that line and exits with status 2.
"""

from __future__ import annotations

from signal import SIGTERM


class MnistbenchError(Exception):
    """Base of every error that this package raises on purpose."""


class DataError(MnistbenchError, ValueError):
    """A data set that cannot be read or used. The message names the file and the place in it."""


class UnlabelledData(DataError):
    """A source of images without labels, where labels are needed."""


class ModelError(MnistbenchError, ValueError):
    """Parameters or a model file that do not describe a network."""


class OptionError(MnistbenchError, ValueError):
    """An option outside its range."""


class UnknownBackend(MnistbenchError, LookupError):
    """No backend is registered under that name."""


class BackendUnavailable(MnistbenchError, RuntimeError):
    """A registered backend that cannot run on this machine.

    Attributes:
        name: Name of the backend.
        reason: Reason why it cannot run.
        fix: Remedy, or None if unknown.
    """

    def __init__(self, name: str, reason: str, fix: str | None = None) -> None:
        self.name = name
        self.reason = reason
        self.fix = fix
        super().__init__(f"backend {name} is unavailable: {reason}" + (f"; {fix}" if fix else ""))


class UnsupportedWorkload(MnistbenchError, ValueError):
    """An option of the workload that this backend does not implement."""


class Diverged(MnistbenchError, ArithmeticError):
    """Training whose loss or parameters became infinite or NaN.

    Attributes:
        iteration: First iteration whose loss or updated parameters are not finite.
    """

    def __init__(self, iteration: int, learning_rate: float) -> None:
        self.iteration = iteration
        super().__init__(
            f"training diverged at iteration {iteration}: the loss or the parameters are no longer finite; "
            f"use a learning rate below {learning_rate:g}"
        )


class RankFailed(MnistbenchError, RuntimeError):
    """A rank that failed amid an exchange, which ends all ranks."""


class CheckpointError(MnistbenchError, ValueError):
    """A checkpoint that cannot be read, overwritten or resumed."""


class RowError(MnistbenchError, ValueError):
    """A stored row, or a file of rows, that is not believed. The message says what in it, and why."""


class Interrupted(KeyboardInterrupt):
    """Training that a signal ended.

    Attributes:
        signal: Number of the signal.
    """

    def __init__(self, signal: int, checkpoint: str | None = None, iteration: int = 0) -> None:
        self.signal = signal
        how = f"; go on with --resume {checkpoint}" if checkpoint else ""
        after = f" after {iteration:,} iterations" if checkpoint else ""
        super().__init__(f"{'terminated' if signal == SIGTERM else 'interrupted'}{after}{how}")
