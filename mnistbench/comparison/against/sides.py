"""The two sides of a gate, and their processes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mnistbench
from mnistbench import machine, words
from mnistbench.backends import Metrics
from mnistbench.exceptions import MnistbenchError
from mnistbench.reference.parameters import Parameters, load_model
from mnistbench.task.workload import Workload

_WORKER = Path(__file__).with_name("worker.py")
_ENDING = 2.0  # seconds that a process has to end by itself


@dataclass(frozen=True)
class Side:
    """A revision of this package that can be run.

    Attributes:
        name: Name in tables: "now", "v0.1".
        revision: Exact revision: a commit, a digest of a wheel.
        python: Interpreter.
        home: Folder that the package lies in: a checkout, or an environment of its own.
        path: Folder that the interpreter has to be told of, or None.
    """

    name: str
    revision: str
    python: Path
    home: Path
    path: Path | None = None

    @classmethod
    def now(cls) -> Side:
        """Return the package that is running."""
        home = Path(mnistbench.__file__).resolve().parents[1]
        found = machine.commit()
        return cls("now", found["id"] + (" and changes" if found["dirty"] else ""), Path(sys.executable), home, home)

    def environment(self) -> dict[str, str]:
        """Return the environment variables of the side's processes, which must not lead to the other side's files."""
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        if self.path is not None:
            variables["PYTHONPATH"] = os.pathsep.join([str(self.path), *filter(None, [os.environ.get("PYTHONPATH")])])
        return variables


class Process:
    """A process of one side that trains one workload. Methods raise a MnistbenchError if it fails."""

    def __init__(self, side: Side, backend: str, workload: Workload, threads: int | None, folder: Path) -> None:
        self.side = side
        self.threads = 0
        self.versions: dict[str, str] = {}
        self._model = folder / f"{side.name == 'now'}.npz"
        options = {"backend": backend, "workload": workload.describe(), "threads": threads, "model": str(self._model)}
        self._errors = (folder / f"{side.name == 'now'}.txt").open("w+", encoding="utf-8", errors="replace")
        try:
            self._process = subprocess.Popen(
                # -P: modules beside the script are none of the side's.
                [side.python, "-P", _WORKER, json.dumps(options)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                encoding="utf-8",
                env=side.environment(),
            )
        except OSError as error:
            self._errors.close()
            raise MnistbenchError(
                f"{side.name}: {side.python} does not start: {error.strerror}; delete {side.home} to install it anew"
            ) from error

    def wait(self) -> None:
        """Wait until the process is warm."""
        found = self._answer()
        package = Path(found["package"]).resolve()
        if not package.is_relative_to(self.side.home.resolve()):
            raise MnistbenchError(f"{self.side.name}: its interpreter runs {package.parent}, not {self.side.home}")
        self.threads, self.versions = found["threads"], found["versions"]

    def advance(self, iterations: int) -> float:
        """Return the seconds of the next ``iterations`` iterations, which are the first ones if fewer are left."""
        return float(self._ask(iterations))

    def result(self) -> tuple[Metrics, Parameters]:
        """Finish the training in progress; return the last iteration's metrics, and the parameters after it."""
        metrics = self._ask(0)
        return Metrics(metrics["loss"], metrics["accuracy"]), load_model(self._model).parameters

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            self._process.wait(_ENDING)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
            self._errors.close()

    def _ask(self, iterations: int) -> Any:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended, and its answer will tell
            self._process.stdin.write(f"{iterations}\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return json.loads(line)
        status = self._process.wait()
        self._errors.seek(0)
        last = self._errors.read().strip().splitlines()[-1:] or [f"it ended with status {status}"]
        raise MnistbenchError(f"{self.side.name} failed: {words.one_line(last[0])}")


@contextmanager
def together(
    sides: tuple[Side, Side], order: Sequence[int], backend: str, workload: Workload, threads: int | None
) -> Iterator[tuple[Process, Process]]:
    """Start a process of each side, in an order, and yield both when they are warm."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        started: dict[int, Process] = {}
        for place in order:
            started[place] = Process(sides[place], backend, workload, threads, folder)
            stack.callback(started[place].close)
        pair = started[0], started[1]
        for process in pair:
            process.wait()
        yield pair
