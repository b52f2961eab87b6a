"""Display of a running benchmark: on a terminal one line that is rewritten, otherwise a line as a case begins and ends.

Nothing is written while a clock runs: the benchmarks report a phase before it begins, and a round between rounds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext

import pytest

from mnistbench import words

_FIRST_CASE = 3, 8.0
"""Guess of a case's seconds before one is done: as many times the reference's, and some for new processes."""


class Progress:
    """Display of the cases of a session."""

    def __init__(self, config: pytest.Config) -> None:
        self._terminal = config.pluginmanager.getplugin("terminalreporter")
        self._capture = config.pluginmanager.getplugin("capturemanager")
        self._cases = self._done = 0
        self._spent = self._guess = 0.0
        self._label, self._outcome = "", ""
        self._began = time.monotonic()

    def expect(self, cases: int) -> None:
        """Set the number of cases to come."""
        self._cases = cases

    def begin(self, label: str) -> None:
        """Begin a case."""
        self._label, self._outcome, self._began = label, "", time.monotonic()
        if not self._rewrites:
            self._line("begins")

    def phase(self, what: str, left: float | None = None) -> None:
        """Show the current phase of the case.

        Args:
            left: Seconds until the end of the case, where they are known.
        """
        if self._rewrites:
            text = f"{self._prefix}{what}{self._left(left)}"
            self._write(lambda: self._terminal.rewrite(text[: self._terminal._tw.fullwidth - 1], erase=True))

    def reference_took(self, seconds: float) -> None:
        """Take the reference's seconds as a measure of the first case."""
        times, more = _FIRST_CASE
        self._guess = times * seconds + more
        self._began += seconds  # no part of the case

    def outcome(self, text: str) -> None:
        """Keep the result of the case for its last line."""
        self._outcome = text

    def end(self, reason: str | None) -> None:
        """End the case, and write its result or else the reason why there is none."""
        spent = time.monotonic() - self._began
        self._spent += spent
        self._line(f"{reason or self._outcome}; took {words.seconds(spent, 2)}")
        self._done += 1

    @property
    def _rewrites(self) -> bool:
        return self._terminal is not None and self._terminal.isatty()

    @property
    def _prefix(self) -> str:
        return f"{self._done + 1} of {self._cases}  {self._label}: "

    def _left(self, of_case: float | None) -> str:
        """Say how long the session will take, if that can be estimated."""
        each = self._spent / self._done if self._done else self._guess
        if not each:
            return ""
        if of_case is None:
            of_case = max(0.0, each - (time.monotonic() - self._began))
        return f"  (about {_duration(of_case + each * (self._cases - self._done - 1))} left)"

    def _line(self, text: str) -> None:
        def write() -> None:
            if self._rewrites:
                self._terminal.rewrite("", erase=True)
                self._terminal.write("\r")
            self._terminal.write_line(f"{self._prefix}{text}")

        self._write(write)

    def _write(self, write: Callable[[], None]) -> None:
        if self._terminal is None:
            return
        with self._capture.global_and_fixture_disabled() if self._capture else nullcontext():
            write()
            self._terminal.flush()


def _duration(seconds: float) -> str:
    """Write a duration as a person would say it: 9.2 s, 40 s, 3 min."""
    if seconds < 10:
        return words.seconds(seconds, 2)
    return f"{10 * math.ceil(seconds / 10)} s" if seconds < 100 else f"{math.ceil(seconds / 60)} min"
