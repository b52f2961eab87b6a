"""Trainers of a comparison, in this process or in processes of their own.

A :class:`RemoteTrainer` sends each call through a pipe to its process. ``advance`` is timed in that process, without
the pipe, and a whole round in this one.
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
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import threadpoolctl
from numpy.typing import NDArray

import mnistbench.backends as registry
from mnistbench import threads as thread_limits
from mnistbench.backends import Description, Metrics, Trainer
from mnistbench.datasets import Dataset
from mnistbench.exceptions import MnistbenchError
from mnistbench.measurement import LATE
from mnistbench.measurement.rounds import Round, timed_round
from mnistbench.ranks.raised import Raised
from mnistbench.ranks.team import Team
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Workload
from mnistbench.timing.clock import timed

_ENDING = 1.0  # seconds that a process has to end by itself


_CALL = 0.01  # seconds that sending a call and its result may take, with the parameters


def remote_round(trainer: Trainer, initial: Parameters, iterations: int) -> Round:
    """Time a round in a remote trainer's process, and in this one, where nothing of the trainer's can be."""
    assert isinstance(trainer, RemoteTrainer), "others have no process of their own"
    found, seen = timed(lambda: trainer.timed_round(initial, iterations))
    return replace(found, whole=seen) if seen > (1 + LATE) * found.whole + _CALL else found


def start(
    backend: str,
    workload: Workload,
    dataset: Dataset,
    initial: Parameters,
    threads: int | None,
    isolate: bool,
    team: Team | None = None,
) -> Trainer:
    """Warm up a backend and start a trainer: here, on a team's ranks, or in a process of its own.

    Raises:
        UnsupportedWorkload, BackendUnavailable: As :meth:`Backend.start`.
    """
    if isolate:
        return RemoteTrainer(backend, workload, dataset, initial, threads)
    chosen = team.backend(backend) if team else registry.get_backend(backend)
    chosen.warm_up(workload, threads)
    return chosen.start(workload, dataset, initial, threads)


def available_elsewhere() -> list[str]:
    """List the backends that can run here; another process asks, so no library is loaded in this one.

    Raises:
        MnistbenchError: If the process failed.
    """
    command = [sys.executable, "-m", "mnistbench", "backends", "--json"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        raise MnistbenchError(f"a process that lists the backends failed: {found.stderr.strip()[-200:]}")
    return [name for name, availability in json.loads(found.stdout).items() if availability["usable"]]


def clashing_libraries() -> str | None:
    """Name libraries in this process that may deadlock or crash together, or return None.

    These are Intel's OpenMP (libiomp) and LLVM's (libomp); see "Multiple OpenMP runtimes" in threadpoolctl's
    documentation.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # threadpoolctl warns of the same
        prefixes = {library["prefix"] for library in threadpoolctl.threadpool_info()}
    return "libiomp and libomp" if {"libiomp", "libomp"} <= prefixes else None


class RemoteTrainer(Trainer):
    """Trainer in a process of its own, which starts and ends with it.

    Raises:
        MnistbenchError: If the process ended unexpectedly. Errors of the backend are raised here too.
    """

    def __init__(
        self, backend: str, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None
    ) -> None:
        super().__init__(workload)
        context = multiprocessing.get_context("spawn")  # a fork would share thread pools
        self._backend = backend
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, backend, workload, threads), daemon=True)
        try:
            with theirs, _ignoring_interrupts():  # inherited by the new process: only this one handles Ctrl-C
                self._process.start()
            self._call("start", dataset.training_only(), parameters)
        except BaseException:
            self.close()
            raise

    def advance(self, iterations: int) -> Metrics:
        return self._call("advance", iterations)  # type: ignore[no-any-return]

    def reset(self, parameters: Parameters) -> None:
        self._call("reset", parameters)

    def parameters(self) -> Parameters:
        return self._call("parameters")  # type: ignore[no-any-return]

    def gradients(self) -> Parameters:
        return self._call("gradients")  # type: ignore[no-any-return]

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        return self._call("predict", images)  # type: ignore[no-any-return]

    def describe(self) -> Description:
        return self._call("describe")  # type: ignore[no-any-return]

    def timed_round(self, initial: Parameters, iterations: int) -> Round:
        """Call :func:`timed_round` in the trainer's process."""
        return self._call("timed_round", initial, iterations)  # type: ignore[no-any-return]

    def close(self) -> None:
        try:
            self._pipe.close()  # ends the loop in the other process
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
        if isinstance(result, Raised):
            raise result.rebuilt()
        return result


@contextlib.contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set signal handlers
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _serve(pipe: Connection, backend: str, workload: Workload, threads: int | None) -> None:
    """Answer calls until the pipe is closed; runs in the other process."""
    os.dup2(2, 1)  # keep prints of libraries out of the command's output
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
                result = Raised.of(error)
            pipe.send(result)
