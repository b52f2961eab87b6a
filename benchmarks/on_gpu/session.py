"""A session on a machine with a GPU: parts in processes of their own, within a budget of seconds.

Whatever ends a session, what was measured before is in the folder: rows once their case or race is done, a part's log
and the outcome of all parts when the part has ended, each file whole or not at all.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from benchmarks.on_gpu.parts import Command, Part, Setting
from mnistbench import files, words

GRACE = 10.0
"""Seconds that an interrupted part has to store what it holds before it is killed."""

OK, FAILED, SKIPPED, INTERRUPTED = "ok", "failed", "skipped", "interrupted"


@dataclass(frozen=True)
class Outcome:
    """What became of a part.

    Attributes:
        status: "ok", "failed", "skipped" or "interrupted".
        seconds: Seconds that it took.
        reason: Why it was skipped or has failed; None if it went well.
    """

    name: str
    status: str
    seconds: float
    reason: str | None = None

    def __str__(self) -> str:
        return f"{self.status:<11}  {self.seconds:6.1f} s  {self.name}" + (f": {self.reason}" if self.reason else "")


class Session:
    """Parts that are run one after the other.

    Attributes:
        outcomes: What became of the parts so far.
    """

    def __init__(self, folder: Path, budget: float | None, root: Path) -> None:
        """Prepare a session that stores its results in ``folder``.

        Args:
            budget: Seconds of all parts together; None for no limit but their own.
            root: Folder of the checkout.

        Raises:
            MnistbenchError: If nothing can be stored in the folder.
        """
        self._root, self._begun, self._budget = root, time.monotonic(), budget
        self._setting = Setting(os.environ.get("PYTHON") or sys.executable, folder)
        self.outcomes: list[Outcome] = []
        files.require_writable(self._setting.own / "parts.json")

    def run(self, parts: Sequence[Part]) -> int:
        """Run the parts, and print what became of them and the rows; return the exit status."""
        with _interruptible():
            try:
                for part in parts:
                    self._add(self._outcome(part))
                    if part.name == "canary":
                        if self.outcomes[-1].status != OK:
                            return 2
                        self._setting = _with_frameworks(self._setting)
            except KeyboardInterrupt:
                for part in parts[len(self.outcomes) :][:1]:
                    self._add(Outcome(part.name, INTERRUPTED, 0.0))
        self._summarize()
        statuses = {outcome.status for outcome in self.outcomes}
        return 130 if INTERRUPTED in statuses else int(FAILED in statuses)

    @property
    def _left(self) -> float:
        """Seconds of the budget that are left."""
        return float("inf") if self._budget is None else self._budget - (time.monotonic() - self._begun)

    def _add(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        record = json.dumps([asdict(one) for one in self.outcomes], indent=1)
        files.write_text(self._setting.own / "parts.json", record + "\n")

    def _outcome(self, part: Part) -> Outcome:
        """Run a part, unless there is too little time or nothing to do."""
        if self._left < part.seconds + GRACE:
            left = max(0.0, self._left - GRACE)
            reason = f"takes up to {part.seconds:g} s, and {left:.0f} s are left"
            return _said(Outcome(part.name, SKIPPED, 0.0, reason))
        seconds = min(part.limit, self._left - GRACE)
        commands = part.commands(replace(self._setting, seconds=seconds))
        if isinstance(commands, str):
            return _said(Outcome(part.name, SKIPPED, 0.0, commands))
        print(f"== {part.name}", flush=True)
        log = self._setting.own / f"{part.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        partial = log.with_name(f".{log.name}.tmp")
        start = time.monotonic()
        end = start + seconds
        try:
            with partial.open("wb") as file:
                reasons = [why for command in commands if (why := self._failure(command, end, file))]
        finally:
            partial.replace(log)
        took = time.monotonic() - start
        return Outcome(part.name, FAILED if reasons else OK, took, "; ".join(reasons) or None)

    def _failure(self, command: Command, end: float, log: IO[bytes]) -> str | None:
        """Run a command up to a moment; return why it failed, or None. Nothing that it started survives it."""
        if time.monotonic() >= end:
            return "there was no time for all of it"
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        try:
            process = subprocess.Popen(
                command,
                cwd=self._root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_interruptible_again,
            )
        except OSError as error:
            return words.exception(error)
        reader = _Reader(process, log)
        try:
            status = process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            _stop(process)
            return f"was stopped after its limit{reader.last()}"
        except BaseException:
            _stop(process)
            raise
        finally:
            _kill_group(process)
            reader.join()
        return None if status == 0 else f"exit status {status}{reader.last()}"

    def _summarize(self) -> None:
        for line in _tables(self._setting.folder):
            print(line)
        print(f"== parts, of which {self._setting.own} holds the logs")
        for outcome in self.outcomes:
            print(outcome)


def _interruptible_again() -> None:
    """Let a process be interrupted whose ancestor, such as nohup's shell, ignored interrupts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class _Reader:
    """A thread that shows a process's output, and copies it to a log."""

    def __init__(self, process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
        self._last = b""
        self._log = log
        self._process = process
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None, "it is a pipe"
        for line in self._process.stdout:
            self._last = line.strip() or self._last
            with contextlib.suppress(ValueError):  # the log was closed, since a process outlived its group
                self._log.write(line)
                self._log.flush()
            sys.stdout.write(line.decode(errors="replace"))
            sys.stdout.flush()

    def join(self) -> None:
        """Wait until all was read, if nothing keeps the pipe open."""
        self._thread.join(2.0)
        if not self._thread.is_alive() and self._process.stdout is not None:
            self._process.stdout.close()

    def last(self) -> str:
        """Return the last line so far, after a comma."""
        self._thread.join(0.5)
        said = words.one_line(self._last.decode(errors="replace"))[:200]
        return f": {said}" if said else ""


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a process and what it started, as Ctrl-C does, and wait a while for its end."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a process and of what it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM end a session as Ctrl-C does, with what it holds stored."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _said(outcome: Outcome) -> Outcome:
    print(f"== {outcome.name} {outcome.status}: {outcome.reason}", flush=True)
    return outcome


def _with_frameworks(setting: Setting) -> Setting:
    """Add the frameworks that the canary has found."""
    try:
        found = json.loads((setting.own / "canary.json").read_text(encoding="utf-8"))["frameworks"]
    except (OSError, ValueError, KeyError, TypeError):
        return setting
    return replace(setting, frameworks=tuple(found))


def _tables(folder: Path) -> Iterator[str]:
    """Yield the tables of the rows of this machine, if there are any."""
    from mnistbench import machine
    from mnistbench.exceptions import MnistbenchError
    from mnistbench.report import tables
    from mnistbench.results import storage

    try:
        rows = storage.load(folder / machine.folder_name())
        for name, found in storage.workloads(rows).items():
            yield f"== {name}"
            yield from tables.as_text(storage.latest(found))
    except MnistbenchError as error:
        yield f"== no table: {words.one_line(error)}"
