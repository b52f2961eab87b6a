"""What a benchmark shows while it runs, on a terminal and elsewhere."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("pytest_benchmark")

from benchmarks import progress
from benchmarks.progress import Progress


class Terminal:
    """A terminal reporter that notes what it writes."""

    def __init__(self, isatty: bool) -> None:
        self.isatty = lambda: isatty
        self.written: list[str] = []
        self._tw = SimpleNamespace(fullwidth=60)

    def rewrite(self, line: str, erase: bool) -> None:
        assert erase
        self.written.append(f"~{line}")

    def write(self, text: str) -> None:
        assert text == "\r"

    def write_line(self, line: str) -> None:
        self.written.append(line)

    def flush(self) -> None:
        pass


class Clock:
    """A clock that is set."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(progress, "time", found)
    return found


def shown(terminal: Terminal | None) -> Progress:
    """The display of two cases."""
    config: Any = SimpleNamespace(pluginmanager=SimpleNamespace(getplugin={"terminalreporter": terminal}.get))
    found = Progress(config)
    found.expect(2)
    return found


def two_cases(found: Progress, clock: Clock) -> None:
    found.begin("numpy-float32")
    found.phase("reference")
    clock.now += 4.0
    found.reference_took(4.0)
    found.phase("cold start")
    clock.now += 5.0
    found.phase("round 2 of 6, 1.02 s", 5.1)
    clock.now += 5.0
    found.outcome("1.02 s (1.00 s to 1.05 s), agrees")
    found.end(None)
    found.begin("numpy-float64")
    found.phase("comparing, which takes a while on a slow machine of this kind")
    clock.now += 1.0
    found.end("NO RESULT: disagrees")


def test_on_a_terminal_one_line_is_rewritten(clock: Clock) -> None:
    terminal = Terminal(isatty=True)
    two_cases(shown(terminal), clock)
    assert terminal.written == [
        "~1 of 2  numpy-float32: reference",
        "~1 of 2  numpy-float32: cold start  (about 40 s left)",
        "~1 of 2  numpy-float32: round 2 of 6, 1.02 s  (about 30 s le",
        "~",
        "1 of 2  numpy-float32: 1.02 s (1.00 s to 1.05 s), agrees; took 10 s",
        "~2 of 2  numpy-float64: comparing, which takes a while on a ",
        "~",
        "2 of 2  numpy-float64: NO RESULT: disagrees; took 1.0 s",
    ]


def test_elsewhere_a_case_is_two_lines(clock: Clock) -> None:
    terminal = Terminal(isatty=False)
    two_cases(shown(terminal), clock)
    assert terminal.written == [
        "1 of 2  numpy-float32: begins",
        "1 of 2  numpy-float32: 1.02 s (1.00 s to 1.05 s), agrees; took 10 s",
        "2 of 2  numpy-float64: begins",
        "2 of 2  numpy-float64: NO RESULT: disagrees; took 1.0 s",
    ]


def test_without_a_terminal_reporter_nothing_is_shown(clock: Clock) -> None:
    two_cases(shown(None), clock)
