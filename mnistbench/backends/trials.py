"""Trials of trainers, for backends that try several ways to compute and keep the fastest."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Generic, TypeVar

from mnistbench import words
from mnistbench.backends.base import Trainer
from mnistbench.datasets import Dataset
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Workload
from mnistbench.timing.clock import timed

Way = TypeVar("Way")

_tuning = 0.0
_chosen: dict[str, str] = {}
_settled: dict[str, str] = {}

_REASON = 200
"""Number of characters of an error's message that are kept."""


def tuning_seconds() -> float:
    """Return the seconds that trials have taken in this process, without what the fastest ways took to start."""
    return _tuning


def choices() -> dict[str, str]:
    """Return the ways that trials have chosen in this process, in words, by what was tried."""
    return dict(_chosen)


def settle(chosen: Mapping[str, str]) -> None:
    """Let the trials that follow choose what those of another process chose, as :func:`choices` told it.

    Ways compute the same numbers with other roundings, so only a training on the same way ends in the same bits.
    """
    _settled.update(chosen)


def trial_of(workload: Workload, image_shape: tuple[int, int] | None = None) -> tuple[Workload, Dataset, Parameters]:
    """Return what ways to compute a workload are tried on: white images, small weights, and a rate that keeps them.

    Large weights or steps make some gradients smaller than any normal number, with which CPUs are slow: PyTorch took
    3.8 s an iteration, and 0.2 s where such numbers were taken for 0 (128 hidden units, float64).
    """
    network = workload.network
    dataset = Dataset.blank(network, workload.images, image_shape)
    return replace(workload, learning_rate=1e-6), dataset, Parameters.initial(network, 0, "xavier")


class Trials(Generic[Way]):
    """Trials of ways to compute the same.

    Attributes:
        fastest: Fastest way tried so far, or the one that is settled.
    """

    fastest: Way

    def __init__(self, start: Callable[[Way], Trainer], what: str) -> None:
        """Prepare to start trainers by ``start``, a function of the way; ``what`` tells these trials from others."""
        self._start, self._what = start, what
        self._seconds = math.inf
        self._starting = 0.0

    def run(self, way: Way) -> None:
        """Time three iterations on a way five times, after its start and a warm-up, and keep it if it is the fastest.

        It raises what the trainer raises, and the way is then out.
        """
        global _tuning
        began = time.perf_counter()
        try:
            with self._start(way) as trainer:
                trainer.advance(2)
                starting = time.perf_counter() - began
                seconds = min(timed(lambda: trainer.advance(3))[1] for _ in range(5))
        finally:
            _tuning += time.perf_counter() - began
        if _settled.get(self._what) == str(way):
            seconds = 0.0
        if seconds < self._seconds:
            _chosen[self._what] = str(way)
            _tuning += self._starting - starting  # whoever trains on the fastest way would have to start it anyway
            self.fastest, self._seconds, self._starting = way, seconds, starting


def fastest(
    plain: Iterable[Way], others: Callable[[Way], Iterable[Way]], start: Callable[[Way], Trainer], what: str
) -> tuple[Way, str | None]:
    """Return the fastest way to compute, and in words the ways that failed, or None.

    Args:
        plain: Ways that must work.
        others: Function from the fastest of those to ways that may fail, as those do that need a compiler.
        start: Function that starts a trainer on a way.
        what: What is computed, which tells these trials from others.
    """
    trials, failed = Trials(start, what), []
    with warnings.catch_warnings():
        # A process may make errors of warnings; a library that only warns has not failed.
        warnings.simplefilter("ignore")
        for way in plain:
            trials.run(way)
        for way in others(trials.fastest):
            try:
                trials.run(way)
            except Exception as error:  # a compiler may fail with any exception
                failed.append(f"{way} failed: {words.exception(error)[:_REASON]}")
    return trials.fastest, "; ".join(failed) or None
