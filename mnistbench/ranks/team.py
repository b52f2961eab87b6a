"""The leader, which runs the program, and the servants, which do what it tells them to."""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mnistbench import exceptions, threads, words
from mnistbench.exceptions import BackendUnavailable, MnistbenchError, RankFailed
from mnistbench.ranks.address import free_address

if TYPE_CHECKING:
    from pathlib import Path

    from mnistbench.backends.base import Carrier
    from mnistbench.datasets import Dataset
    from mnistbench.ranks.exchange import Exchange
    from mnistbench.ranks.member import Member
    from mnistbench.ranks.trainer import RanksBackend
    from mnistbench.reference.evaluation import Score
    from mnistbench.reference.parameters import Parameters
    from mnistbench.task.recipe import Activation
    from mnistbench.timing.noise import Watch

_END = "end"


@dataclass(frozen=True)
class Place:
    """Where a rank runs.

    Attributes:
        host: Name of its machine, which is compared and not shown.
        cpus: Numbers of the CPUs that it may use.
        threads: Number of its threads.
    """

    host: str
    cpus: frozenset[int]
    threads: int


class Team:
    """All ranks, as one of them sees them. On rank 0 a context manager; leaving it ends the service of the others.

    Attributes:
        exchange: Connection to the others.
        places: Where each rank runs; known once the threads are limited.
        may_share_cores: Whether ranks that wait for each other's CPUs may be timed.
    """

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self._member: Member | None = None
        self._calling = False
        self._handles = itertools.count()
        self._carriers: dict[str, Carrier] = {}
        self.places: list[Place] = []
        self.may_share_cores = False

    @property
    def size(self) -> int:
        """Number of ranks."""
        return self.exchange.size

    @property
    def leads(self) -> bool:
        """Whether this is rank 0."""
        return self.exchange.rank == 0

    def limit_threads(self, number: int | None) -> int:
        """Set the number of threads of each rank before libraries are loaded, and return that of rank 0.

        Args:
            number: Number of threads; None for an equal part of the CPUs that the ranks of a host may use.

        Raises:
            OptionError: If the number is out of range.
        """
        places = self.call("place")
        alike = [[other for other in places if other.host == own.host] for own in places]
        shared = [len(frozenset.union(*(other.cpus for other in group))) // len(group) for group in alike]
        wanted = [max(1, count) if number is None else number for count in shared]
        self.places = self.call("limit_threads", each=[(count,) for count in wanted])
        return self.places[0].threads

    @property
    def shares_cores(self) -> bool:
        """Whether the ranks of a host have more threads than they may use CPUs together."""
        for own in self.places:
            group = [other for other in self.places if other.host == own.host]
            cpus = frozenset.union(*(other.cpus for other in group))
            if sum(other.threads for other in group) > len(cpus):
                return True
        return False

    def watch(self) -> Watch:
        """Return a watch of this rank's host, where the work of the other ranks is no disturbance."""
        from mnistbench.timing.noise import Watch  # which loads NumPy

        here = [rank for rank, place in enumerate(self.places) if place.host == self.places[0].host]
        cpus = frozenset[int]().union(*(self.places[rank].cpus for rank in here))

        def beside() -> float:
            used = self.call("cpu_seconds")
            return float(sum(used[rank] for rank in here[1:]))

        return Watch(cpus, beside)

    def backends(self) -> list[str]:
        """List the backends that can run here and share a workload among ranks."""
        import mnistbench.backends as registry

        found = [(name, registry.get_backend(name)) for name in registry.list_backends(usable=True)]
        return [name for name, backend in found if backend.ranks and (self.exchange.apart or not backend.peers)]

    def backend(self, name: str) -> RanksBackend:
        """Return the backend called ``name`` on all ranks.

        Raises:
            UnknownBackend, BackendUnavailable: It does not exist, or cannot run on rank 0.
            UnsupportedWorkload: Ranks cannot share its workloads.
        """
        from mnistbench.ranks.trainer import RanksBackend

        return RanksBackend(self, name)

    def load_data(
        self,
        source: str | Path | None = None,
        seed: int = 0,
        train_size: int | None = None,
        dev_size: int | None = None,
    ) -> Dataset:
        """Load each rank's share as :func:`mnistbench.load_data` does, and return rank 0's, with dev and test.

        Raises:
            DataError, OptionError: As :func:`mnistbench.load_data`, on whatever rank.
        """
        return self._loaded("load_data", source, seed, train_size, dev_size)

    def load_images(self, count: int, seed: int = 0) -> Dataset:
        """Load each rank's share as :func:`mnistbench.load_images` does, and return rank 0's, with dev.

        Raises:
            DataError, OptionError: As :func:`mnistbench.load_images`, on whatever rank.
        """
        return self._loaded("load_images", count, seed)

    def _loaded(self, name: str, *arguments: Any) -> Dataset:
        self.call("load", name, *arguments)
        dataset = self._own.dataset
        assert dataset is not None, "it was loaded"
        return dataset

    def digest(self, dataset: Dataset) -> str:
        """Return the digest of all ranks' images, of which ``dataset`` has rank 0's, or of a data set that has all."""
        from mnistbench.datasets import combined_digest

        return combined_digest([dataset.digest_part()] if dataset.share is None else self.call("digest_part"))

    def score_training(self, parameters: Parameters, activation: Activation) -> Score:
        """Score parameters on the training images that the ranks have loaded."""
        from mnistbench.reference.evaluation import Score

        parts = self.call("score_training", parameters, activation)
        images = sum(count for count, _, _ in parts)
        loss, right = (sum(count * part[i] for count, *part in parts) / images for i in range(2))
        return Score(loss, right)

    def connect(self, backend: str) -> Carrier:
        """Let the ranks join each other in a backend of peers, once; return what carries their messages.

        Raises:
            BackendUnavailable: It cannot run on a rank.
        """
        if backend not in self._carriers:
            self.call("find", backend)
            others = (place.host for place in self.places if place.host != self.places[0].host)
            self._carriers[backend] = self.call("connect", backend, free_address(next(others, None)))[0]
        return self._carriers[backend]

    def handle(self) -> int:
        """Return a number that no trainer of this team has."""
        return next(self._handles)

    def call(self, name: str, *arguments: Any, each: Sequence[tuple[Any, ...]] | None = None) -> list[Any]:
        """Let every rank do something, and return their answers.

        Args:
            name: Name of a method of :class:`mnistbench.ranks.member.Member`.
            arguments: Arguments for every rank.
            each: Further arguments of each rank.

        Raises:
            MnistbenchError: What the first rank that failed has raised.
        """
        self._calling = True
        for rank in range(1, self.size):
            self.exchange.tell(rank, (name, (*arguments, *(each[rank] if each else ()))))
        answers = [self._do(name, (*arguments, *(each[0] if each else ())))]
        answers += [self.exchange.hear(rank) for rank in range(1, self.size)]
        self._calling = False
        for rank, answer in enumerate(answers):
            if isinstance(answer, Raised):
                raise answer.rebuilt(rank if self.size > 1 else None)
        return answers

    def lead(self, name: str, *arguments: Any) -> Any:
        """Let rank 0 alone do something, as by :meth:`call`, and return its answer."""
        answer = self._do(name, arguments)
        if isinstance(answer, Raised):
            raise answer.rebuilt()
        return answer

    @property
    def _own(self) -> Member:
        if self._member is None:
            from mnistbench.ranks.member import Member  # which loads NumPy, after the number of threads is set

            self._member = Member(self.exchange)
        return self._member

    def _do(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """Do what every rank was told to, and return the result, or what was raised."""
        try:
            if name in ("place", "limit_threads"):
                return _place(*arguments)
            return getattr(self._own, name)(*arguments)
        except RankFailed:
            raise
        except Exception as error:
            return Raised.of(error)

    def serve(self) -> None:
        """Do what the leader tells, until it ends the service. Ctrl-C and SIGTERM are the leader's to answer."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
        while True:
            name, arguments = self.exchange.hear(0)
            if name == _END:
                self._leave()
                return
            self.exchange.tell(0, self._do(name, arguments))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._calling:  # the others may be amid anything
            self.exchange.abort(words.exception(error) if error else "rank 0 ended amid a call")
        for rank in range(1, self.size):
            self.exchange.tell(rank, (_END, ()))
        self._leave()

    def _leave(self) -> None:
        if self._member is not None:
            self._member.leave()


def _place(number: int | None = None) -> Place:
    """Return where this rank runs, with ``number`` threads, if given, of all libraries that are loaded later."""
    import os
    import platform

    count = 1 if number is None else threads.limit(number)
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return Place(platform.node(), frozenset(cpus), count)


@dataclass(frozen=True)
class Raised:
    """Exception that is sent to another process: the name and the arguments of its class in this package."""

    kind: str
    arguments: tuple[Any, ...]

    @classmethod
    def of(cls, error: Exception) -> Raised:
        """Describe an exception; of another package's, whose library may be missing elsewhere, only what it says."""
        if isinstance(error, BackendUnavailable):
            return cls("BackendUnavailable", (error.name, error.reason, error.fix))
        if isinstance(error, MnistbenchError) and "__init__" not in vars(type(error)):
            return cls(type(error).__name__, (str(error),))
        return cls("MnistbenchError", (words.exception(error),))

    def rebuilt(self, rank: int | None = None) -> Exception:
        """Return the exception, with the number of the rank that raised it unless that is rank 0."""
        arguments = self.arguments
        if rank and len(arguments) == 1:
            arguments = (f"rank {rank}: {arguments[0]}",)
        error: Exception = getattr(exceptions, self.kind)(*arguments)
        return error
