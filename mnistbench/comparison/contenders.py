"""Who takes part: a backend in a dtype, in this process or in one of its own.

A contender in a process of its own is a :class:`RemoteTrainer`: the same interface, each call sent through a pipe.
The clock runs beside the trainer, on the other side of the pipe, so that the pipe is in no time.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mnistbench.backends as registry
from mnistbench import threads as thread_limits
from mnistbench.backends import Metrics, Trainer
from mnistbench.datasets import Dataset
from mnistbench.errors import MnistbenchError
from mnistbench.measurement.clock import timed
from mnistbench.network import Parameters
from mnistbench.workload import Workload


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
    """Advance a trainer under the clock."""
    metrics, seconds = timed(lambda: trainer.advance(iterations))
    parameters, first = timed(trainer.parameters)
    _, again = timed(trainer.parameters)
    return Round(seconds, metrics, first - again, parameters)


class RemoteTrainer(Trainer):
    """A trainer in a process of its own, which starts with it and ends with it.

    Raises:
        MnistbenchError: the process ended before its time.
    """

    def __init__(
        self, backend: str, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None
    ) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would share the thread pools that are to be apart
        self._backend = backend
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, backend, workload, threads), daemon=True)
        self._process.start()
        theirs.close()
        try:
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

    def describe(self) -> dict[str, Any]:
        description: dict[str, Any] = self._call("describe")
        return description

    def timed_round(self, iterations: int) -> Round:
        """:func:`timed_round` on the other side."""
        found: Round = self._call("timed_round", iterations)
        return found

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._pipe.close()  # ends the loop on the other side
        self._process.join(5)
        self._process.kill()
        self._process.join()

    def _call(self, name: str, *arguments: Any) -> Any:
        try:
            self._pipe.send((name, arguments))
            result = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise MnistbenchError(f"the process of backend {self._backend} ended unexpectedly") from error
        if isinstance(result, _Raised):
            raise result.error
        return result


@dataclass(frozen=True)
class _Raised:
    """An exception on its way through the pipe."""

    error: Exception


def _serve(pipe: Connection, backend: str, workload: Workload, threads: int | None) -> None:
    """The other side: answers calls until the pipe is closed. Ctrl-C is the parent's to handle."""
    thread_limits.limit(threads)
    trainer: Trainer | None = None
    while True:
        try:
            name, arguments = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            if trainer is None:
                chosen = registry.require(backend)
                chosen.warm_up(workload, threads)
                dataset, parameters = arguments
                trainer = chosen.start(workload, dataset, parameters, threads)
                result: Any = None
            else:
                result = (
                    timed_round(trainer, *arguments) if name == "timed_round" else getattr(trainer, name)(*arguments)
                )
        except KeyboardInterrupt:
            return
        except Exception as error:
            # Only errors of this package can be rebuilt for certain: others may need what their library needs.
            text = " ".join(str(error).split())
            result = _Raised(
                MnistbenchError(text if isinstance(error, MnistbenchError) else f"{type(error).__name__}: {text}")
            )
        pipe.send(result)


def start(
    backend: str, workload: Workload, dataset: Dataset, initial: Parameters, threads: int | None, isolate: bool
) -> Trainer:
    """Start a trainer, warmed up, here or in a process of its own.

    Raises:
        UnknownBackend, BackendUnavailable, UnsupportedWorkload: as :meth:`Backend.start`.
    """
    if isolate:
        return RemoteTrainer(backend, workload, dataset, initial, threads)
    chosen = registry.require(backend)
    chosen.warm_up(workload, threads)
    return chosen.start(workload, dataset, initial, threads)


def run_round(trainer: Trainer, iterations: int) -> Round:
    """Advance under the clock that is beside the trainer."""
    if isinstance(trainer, RemoteTrainer):
        return trainer.timed_round(iterations)
    return timed_round(trainer, iterations)


Prefixes = set[str]


def clashing_libraries(loaded: Callable[[], list[dict[str, Any]]]) -> str | None:
    """Libraries in this process that are known to deadlock or crash together, in words, or None.

    Intel's OpenMP (libiomp) and LLVM's (libomp) in one Linux process, see "Multiple OpenMP runtimes" in the
    documentation of threadpoolctl.

    Args:
        loaded: :func:`threadpoolctl.threadpool_info`.
    """
    prefixes = {library["prefix"] for library in loaded()}
    return "libiomp and libomp" if {"libiomp", "libomp"} <= prefixes else None
