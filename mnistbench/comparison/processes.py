"""Who takes part: a backend in a dtype, in this process or in one of its own.

A contender in a process of its own is a :class:`RemoteTrainer`: the same interface, each call sent through a pipe.
The clock runs beside the trainer, on the other side of the pipe, so that the pipe is in no time.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import threadpoolctl
from numpy.typing import NDArray

import mnistbench.backends as registry
from mnistbench import exceptions, words
from mnistbench import threads as thread_limits
from mnistbench.backends import Description, Metrics, Trainer
from mnistbench.datasets import Dataset
from mnistbench.exceptions import BackendUnavailable, MnistbenchError
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Workload
from mnistbench.timing.clock import timed

_ENDING = 1.0  # seconds that a process gets to end by itself


@dataclass(frozen=True)
class Round:
    """What one timed round showed.

    Attributes:
        seconds: that ``advance`` took.
        metrics: what it returned.
        late: seconds that reading the parameters took longer the first time after it than the second. A trainer
            whose ``advance`` returns before its work is done has to finish the work then.
        parameters: after the round.
    """

    seconds: float
    metrics: Metrics
    late: float
    parameters: Parameters


def timed_round(trainer: Trainer, iterations: int) -> Round:
    """Advance a trainer under the clock, on whichever side of a pipe it is."""
    if isinstance(trainer, RemoteTrainer):
        return trainer.timed_round(iterations)
    metrics, seconds = timed(lambda: trainer.advance(iterations))
    parameters, first = timed(trainer.parameters)
    _, again = timed(trainer.parameters)
    return Round(seconds, metrics, first - again, parameters)


def start(
    backend: str, workload: Workload, dataset: Dataset, initial: Parameters, threads: int | None, isolate: bool
) -> Trainer:
    """Start a trainer, warmed up, here or in a process of its own.

    Raises:
        UnknownBackend, BackendUnavailable, UnsupportedWorkload: as :meth:`Backend.start`.
    """
    if isolate:
        return RemoteTrainer(backend, workload, dataset, initial, threads)
    chosen = registry.get_backend(backend)
    chosen.warm_up(workload, threads)
    return chosen.start(workload, dataset, initial, threads)


def available_elsewhere() -> list[str]:
    """List the backends that can run here, asked in another process: no library is loaded in this one.

    Raises:
        MnistbenchError: the process failed.
    """
    command = [sys.executable, "-m", "mnistbench", "backends", "--json"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        raise MnistbenchError(f"a process that lists the backends failed: {found.stderr.strip()[-200:]}")
    return [name for name, availability in json.loads(found.stdout).items() if availability["usable"]]


def clashing_libraries() -> str | None:
    """Libraries in this process that are known to deadlock or crash together, in words, or None.

    Intel's OpenMP (libiomp) and LLVM's (libomp) in one Linux process, see "Multiple OpenMP runtimes" in the
    documentation of threadpoolctl.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # threadpoolctl warns of the same
        prefixes = {library["prefix"] for library in threadpoolctl.threadpool_info()}
    return "libiomp and libomp" if {"libiomp", "libomp"} <= prefixes else None


class RemoteTrainer(Trainer):
    """A trainer in a process of its own, which starts with it and ends with it.

    Raises:
        MnistbenchError: the process ended before its time; or what the backend raised there.
    """

    def __init__(
        self, backend: str, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None
    ) -> None:
        super().__init__(workload)
        context = multiprocessing.get_context("spawn")  # a fork would share the thread pools that are to be apart
        self._backend = backend
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, backend, workload, threads), daemon=True)
        try:
            with theirs, _ignoring_interrupts():  # which the new process inherits: this one handles Ctrl-C
                self._process.start()
            self._call("start", dataset, parameters)
        except BaseException:
            self.close()
            raise

    def advance(self, iterations: int) -> Metrics:
        metrics: Metrics = self._call("advance", iterations)
        return metrics

    def reset(self, parameters: Parameters) -> None:
        self._call("reset", parameters)

    def parameters(self) -> Parameters:
        parameters: Parameters = self._call("parameters")
        return parameters

    def gradients(self) -> Parameters:
        gradients: Parameters = self._call("gradients")
        return gradients

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        labels: NDArray[np.int64] = self._call("predict", images)
        return labels

    def describe(self) -> Description:
        description: Description = self._call("describe")
        return description

    def timed_round(self, iterations: int) -> Round:
        """:func:`timed_round` on the other side."""
        found: Round = self._call("timed_round", iterations)
        return found

    def close(self) -> None:
        try:
            self._pipe.close()  # which ends the loop on the other side
            if self._process.pid is not None:
                self._process.join(_ENDING)
        finally:
            if self._process.pid is not None:
                self._process.kill()
                self._process.join()

    def _call(self, name: str, *arguments: Any) -> Any:
        try:
            self._pipe.send((name, arguments))
            result = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise MnistbenchError(
                f"the process of backend {self._backend} ended unexpectedly; a script that compares in processes "
                "must do so below 'if __name__ == \"__main__\":'"
            ) from error
        if isinstance(result, _Raised):
            raise result.rebuilt()
        return result


@contextlib.contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # signals belong to the main thread
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@dataclass(frozen=True)
class _Raised:
    """An exception on its way through the pipe: the name of its class here, and what it is made from."""

    kind: str
    arguments: tuple[Any, ...]

    @classmethod
    def of(cls, backend: str, error: Exception) -> _Raised:
        if isinstance(error, BackendUnavailable):
            return cls("BackendUnavailable", (backend, error.reason, error.fix))
        if isinstance(error, MnistbenchError) and "__init__" not in vars(type(error)):
            return cls(type(error).__name__, (str(error),))
        # Others may need what their library needs.
        return cls("MnistbenchError", (words.exception(error),))

    def rebuilt(self) -> Exception:
        error: Exception = getattr(exceptions, self.kind)(*self.arguments)
        return error


def _serve(pipe: Connection, backend: str, workload: Workload, threads: int | None) -> None:
    """The other side: answers calls until the pipe is closed."""
    os.dup2(2, 1)  # what a library prints belongs to no output of the command
    thread_limits.limit(threads)
    trainer: Trainer | None = None
    with contextlib.suppress(EOFError, OSError):
        while True:
            name, arguments = pipe.recv()
            try:
                result: Any = None
                if trainer is None:
                    dataset, initial = arguments
                    trainer = start(backend, workload, dataset, initial, threads, isolate=False)
                elif name == "timed_round":
                    result = timed_round(trainer, *arguments)
                else:
                    result = getattr(trainer, name)(*arguments)
            except Exception as error:
                result = _Raised.of(backend, error)
            pipe.send(result)
