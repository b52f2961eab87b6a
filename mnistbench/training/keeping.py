"""When the state of a training is kept in a checkpoint, and how a signal ends a training after that."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from mnistbench.exceptions import Interrupted
from mnistbench.training.checkpoint import Checkpoint, Past

SECONDS = 60.0
"""Default number of seconds between checkpoints."""

_LISTENS = 0.2  # seconds, about, after which a signal is seen


class Keeper:
    """Writes a training's checkpoints to a file: at intervals, at Ctrl-C or SIGTERM, and at the end."""

    def __init__(self, path: Path, seconds: float, compose: Callable[[Past], Checkpoint]) -> None:
        """Prepare to write to ``path`` every ``seconds`` seconds what ``compose`` makes of a training's past."""
        self._path, self._seconds, self._compose = path, seconds, compose
        self._signal: int | None = None
        self._written = time.monotonic()
        self._pace = 0.0

    def stride(self, most: int) -> int:
        """Return the number of iterations to run before :meth:`look`, at least 1 and at most ``most``."""
        if not self._pace:
            return 1
        return max(1, min(most, int(min(_LISTENS, self._seconds) / self._pace)))

    def took(self, iterations: int, seconds: float) -> None:
        """Take note of the seconds of the last iterations."""
        self._pace = max(seconds, 1e-9) / iterations

    def look(self, past: Callable[[], Past], finished: bool = False) -> None:
        """Write a checkpoint if one is due, a signal has come, or the training has finished.

        Raises:
            Interrupted: If a signal has come; the checkpoint is written.
            MnistbenchError: If the file cannot be written.
        """
        came = self._signal
        if not (came or finished or time.monotonic() - self._written >= self._seconds):
            return
        kept = past()
        self._compose(kept).write(self._path)
        self._written = time.monotonic()
        if came:
            raise Interrupted(came, str(self._path), kept.state.iteration)

    def require_no_signal(self) -> None:
        """Raise Interrupted if a signal has come; nothing is written."""
        if self._signal is not None:
            raise Interrupted(self._signal)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Let Ctrl-C and SIGTERM wait for the end of an iteration and its checkpoint; a second one does not wait.

        Signals come to the main thread; elsewhere, and for one that the process ignores, nothing changes.
        """
        before = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    before[number] = signal.signal(number, self._heard)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None:
            raise Interrupted(number)
        self._signal = number
