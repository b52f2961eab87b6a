"""Trials of trainers, for backends that try several ways to compute and keep the fastest."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Generic, ParamSpec, TypeVar

from mnistbench import words
from mnistbench.backends.base import Trainer
from mnistbench.datasets import Dataset
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Workload
from mnistbench.timing.clock import timed

Way = TypeVar("Way")
Given = ParamSpec("Given")

_tuning = 0.0

_REASON = 200
"""Number of characters of an error's message that are kept."""

_WARM_UP, _ROUND, _ROUNDS = 2, 3, 5
"""Iterations of the warm-up and of each round, and number of rounds."""

ITERATIONS = _WARM_UP + _ROUNDS * _ROUND
"""Number of iterations that a trial runs on a way."""


def tuning_seconds() -> float:
    """Return the seconds that trials have taken in this process, without what the fastest ways took to start."""
    return _tuning


@dataclass(frozen=True)
class Choice(Generic[Way]):
    """What trials have chosen.

    Attributes:
        way: Fastest way to compute, or the one that was settled before.
        failed: Ways that failed, in words, or None.
        what: What was tried, which tells these trials from others.
    """

    way: Way
    failed: str | None
    what: str


@dataclass(frozen=True)
class Session:
    """The choices that one trainer asks for.

    Attributes:
        settled: Ways to choose, in words, by what is tried: :attr:`choices` of another session.
        found: Choices so far, by the function that finds them and its arguments.
    """

    settled: Mapping[str, str]
    found: dict[Any, Choice[Any]] = field(default_factory=dict)

    @property
    def choices(self) -> dict[str, str]:
        """Ways that were chosen, in words, by what was tried."""
        return {choice.what: str(choice.way) for choice in self.found.values()}


_session = Session({})


@contextmanager
def session(settled: Mapping[str, str], found: dict[Any, Choice[Any]] | None = None) -> Iterator[Session]:
    """Record what is asked for, and let trials choose what is ``settled``, if they can; neither outlasts the context.

    Ways compute the same numbers with other roundings, so only a training on the same way ends in the same bits.

    Args:
        settled: Ways to choose, in words, by what is tried.
        found: Choices of earlier sessions with the same settled ways, which need no other trial; those of this one are
            added.
    """
    global _session
    before, _session = _session, Session(settled, {} if found is None else found)
    try:
        yield _session
    finally:
        _session = before


def chosen() -> dict[str, str]:
    """Return :attr:`Session.choices` of the session in progress; without one, all choices of this process."""
    return _session.choices


class Once(Generic[Given, Way]):
    """A decorator: a function that finds a way is called once per process for the same arguments.

    A session in which another way is settled calls it again, and only that session has its choice.
    """

    def __init__(self, find: Callable[Given, Choice[Way]]) -> None:
        self._find = find
        self._kept: dict[Any, Choice[Way]] = {}

    def __call__(self, *given: Given.args, **named: Given.kwargs) -> tuple[Way, str | None]:
        """Return the way, and in words the ways that failed, or None."""
        key = given, tuple(named.items())
        found = _session.found.get((self, key)) if _session.settled else None
        if found is None:
            found = self._kept.get(key)
            if found is None or _session.settled.get(found.what, str(found.way)) != str(found.way):
                found = self._find(*given, **named)
                if found.what not in _session.settled:
                    self._kept[key] = found
            _session.found[self, key] = found
        return found.way, found.failed

    def record(self, way: Way, failed: str, /, *given: Given.args, **named: Given.kwargs) -> None:
        """Record, for the session in progress, the way that runs in place of the found one, and why that one failed."""
        key = self, (given, tuple(named.items()))
        _session.found[key] = Choice(way, failed, _session.found[key].what)

    def cache_clear(self) -> None:
        """Forget what was found."""
        self._kept.clear()


def failure(way: object, error: Exception) -> str:
    """Say in words that a way failed, and why."""
    return f"{way} failed: {words.exception(error)[:_REASON]}"


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
        fastest: Fastest way tried so far.
    """

    fastest: Way

    def __init__(self, start: Callable[[Way], Trainer]) -> None:
        """Prepare to start trainers by ``start``, a function of the way."""
        self._start = start
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
                trainer.advance(_WARM_UP)
                starting = time.perf_counter() - began
                seconds = min(timed(lambda: trainer.advance(_ROUND))[1] for _ in range(_ROUNDS))
        finally:
            _tuning += time.perf_counter() - began
        if seconds < self._seconds:
            _tuning += self._starting - starting  # whoever trains on the fastest way would have to start it anyway
            self.fastest, self._seconds, self._starting = way, seconds, starting


def fastest(
    plain: Iterable[Way], others: Callable[[Way], Iterable[Way]], start: Callable[[Way], Trainer], what: str
) -> Choice[Way]:
    """Return the fastest way to compute; or, without trying others, the way that the session has settled, if it works.

    Args:
        plain: Ways that must work.
        others: Function from the fastest of those to ways that may fail, as those do that need a compiler.
        start: Function that starts a trainer on a way.
        what: What is computed, which tells these trials from others.
    """
    trials, plain = Trials(start), [*plain]
    failed: list[str] = []
    settled = _session.settled.get(what)
    # Which ways may fail depends on the fastest of the plain ones, which may be another one today.
    wanted = [way for one in plain for way in (one, *others(one)) if str(way) == settled] if settled else []
    with warnings.catch_warnings():
        # A process may make errors of warnings; a library that only warns has not failed.
        warnings.simplefilter("ignore")
        if wanted and not _fails(trials, wanted[0], failed):
            return Choice(wanted[0], None, what)
        for way in plain:
            trials.run(way)
        for way in others(trials.fastest):
            if way not in wanted:
                _fails(trials, way, failed)
    return Choice(trials.fastest, "; ".join(failed) or None, what)


def _fails(trials: Trials[Way], way: Way, failed: list[str]) -> bool:
    """Try a way that may fail; return whether it does, and add why to ``failed``."""
    try:
        trials.run(way)
    except Exception as error:  # a compiler may fail with any exception
        failed.append(failure(way, error))
        return True
    return False
