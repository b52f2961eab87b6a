"""The leader, which runs the program, and its followers, which do what it tells them to."""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mnistbench import words
from mnistbench.exceptions import OptionError, RankFailed
from mnistbench.ranks.address import free_address
from mnistbench.ranks.places import Place, are_crowded, default_threads
from mnistbench.ranks.raised import Raised, ending

if TYPE_CHECKING:
    from pathlib import Path

    from mnistbench.backends.base import Carrier
    from mnistbench.datasets import Dataset, Split
    from mnistbench.ranks.exchange import Exchange
    from mnistbench.ranks.member import Member
    from mnistbench.ranks.trainer import RanksBackend
    from mnistbench.reference.evaluation import Score
    from mnistbench.reference.parameters import Parameters
    from mnistbench.task.recipe import Activation
    from mnistbench.timing.noise import Watch

_END = "end"


class Team:
    """All ranks, as one of them sees them. On rank 0 a context manager; leaving it ends the service of the others.

    Attributes:
        exchange: Connection to the others.
        may_share_cores: Whether ranks that wait for each other's CPUs may be timed.
    """

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self._member: Member | None = None
        self._places: list[Place] = []
        self._loaded: Split | None = None
        self._refusal = ""  # why nothing can be called now
        self._handles = itertools.count()
        self._carriers: dict[str, Carrier] = {}
        self.may_share_cores = False

    @property
    def size(self) -> int:
        """Number of ranks."""
        return self.exchange.size

    @property
    def leads(self) -> bool:
        """Whether this is rank 0."""
        return self.exchange.rank == 0

    @property
    def places(self) -> list[Place]:
        """Where each rank runs."""
        if not self._places:
            self.limit_threads(None)
        return self._places

    @places.setter
    def places(self, places: list[Place]) -> None:
        self._places = places

    @property
    def hosts(self) -> int:
        """Number of machines that the ranks run on."""
        return len({place.host for place in self.places})

    def limit_threads(self, number: int | None) -> int:
        """Set the number of threads of each rank before libraries are loaded, and return that of rank 0.

        Args:
            number: Number of threads; None for what a rank's environment asks for, or its part of the host's CPUs.

        Raises:
            OptionError: If the number is out of range.
        """
        found = self.call("place")
        counts = default_threads(found) if number is None else [number] * self.size
        self._places = self.call("place", each=lambda rank: (counts[rank],))
        return self._places[0].threads

    @property
    def shares_cores(self) -> bool:
        """Whether ranks have more threads than they may use CPUs."""
        return are_crowded(self.places)

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
        return self._load("load_data", source, seed, train_size, dev_size)

    def load_images(self, count: int, seed: int = 0) -> Dataset:
        """Load each rank's share as :func:`mnistbench.load_images` does, and return rank 0's, with dev.

        Raises:
            DataError, OptionError: As :func:`mnistbench.load_images`, on whatever rank.
        """
        return self._load("load_images", count, seed)

    def _load(self, name: str, *arguments: Any) -> Dataset:
        self._loaded = None
        self.call("load", name, *arguments)
        dataset = self._own.dataset
        assert dataset is not None, "it was loaded"
        self._loaded = dataset.train
        return dataset

    def require_loaded(self, dataset: Dataset) -> None:
        """Raise an OptionError unless the ranks hold the shares of a data set of which ``dataset`` has rank 0's."""
        if dataset.train is not self._loaded:
            raise OptionError(
                f"{dataset.source}: is not what the ranks have loaded last; load it by the team, one after the other"
            )

    def digest(self, dataset: Dataset) -> str:
        """Return the digest of a data set's images on all ranks, or of one that is on rank 0 alone."""
        from mnistbench.datasets import combined_digest

        return combined_digest([dataset.digest_part()] if dataset.share is None else self.call("digest_part"))

    def score_training(self, parameters: Parameters, activation: Activation) -> Score:
        """Score parameters on the training images that the ranks have loaded."""
        from mnistbench.reference.evaluation import Score

        parts = self.call("score_training", parameters, activation)
        images = sum(count for count, _ in parts)
        loss = sum(count * score.loss for count, score in parts)
        right = sum(count * score.accuracy for count, score in parts)
        return Score(loss / images, right / images)

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

    def call(self, name: str, *arguments: Any, each: Callable[[int], tuple[Any, ...]] = lambda rank: ()) -> list[Any]:
        """Let every rank do something, and return their answers.

        Args:
            name: Name of a method of :class:`mnistbench.ranks.member.Member`, or "place".
            arguments: Arguments for every rank.
            each: Function from a rank's number to its further arguments.

        Raises:
            MnistbenchError: What the first rank that failed has raised.
            RankFailed: If the team has ended, or an earlier call was broken off.
        """
        if not self.leads:
            raise RankFailed(f"rank {self.exchange.rank}: only rank 0 calls the others")
        if self._refusal:
            raise RankFailed(self._refusal)
        self._refusal = "an earlier call of the ranks was broken off"
        for rank in range(1, self.size):
            self.exchange.tell(rank, (name, (*arguments, *each(rank))))
        answers: list[Any] = []
        own: Exception | None = None
        try:
            answers.append(self._do(name, (*arguments, *each(0))))
        except RankFailed:
            raise
        except Exception as error:
            own = error
        answers += [self.exchange.hear(rank) for rank in range(1, self.size)]
        self._refusal = ""
        if own is not None:
            raise own
        for rank, answer in enumerate(answers):
            if isinstance(answer, Raised):
                raise answer.rebuilt(rank)
        return answers

    def lead(self, name: str, *arguments: Any) -> Any:
        """Let rank 0 alone do something, as by :meth:`call`, and return its answer."""
        return self._do(name, arguments)

    @property
    def _own(self) -> Member:
        if self._member is None:
            from mnistbench.ranks.member import Member  # which loads NumPy, after the number of threads is set

            self._member = Member(self.exchange)
        return self._member

    def _do(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """Do what every rank was told to."""
        if name == "place":
            return Place.here(self.exchange.apart, *arguments)
        return getattr(self._own, name)(*arguments)

    def follow(self) -> None:
        """Do what the leader tells, until it has no more to tell. Ctrl-C and SIGTERM are the leader's to answer.

        Raises:
            RankFailed: If another rank failed amid an exchange, and this one is no process of its own.
        """
        try:
            with _deaf():
                while (told := self.exchange.hear(0)) != _END:
                    self.exchange.tell(0, self._answer(*told))
                self._leave()
        except RankFailed:
            raise
        except BaseException as error:  # the leader waits for an answer
            self.exchange.abort(f"rank {self.exchange.rank}: {words.exception(error)}")

    def _answer(self, name: str, arguments: tuple[Any, ...]) -> Any:
        try:
            return self._do(name, arguments)
        except RankFailed:
            raise
        except Exception as error:
            return Raised.of(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._refusal:  # the others may be amid anything
            self.exchange.abort(*(ending(error) if error else (self._refusal,)))
        for rank in range(1, self.size):
            self.exchange.tell(rank, _END)
        self._leave()

    def _leave(self) -> None:
        self._refusal = "the team has ended"
        if self._member is not None:
            self._member.leave()
        self.exchange.close()


@contextmanager
def _deaf() -> Iterator[None]:
    """Ignore Ctrl-C and SIGTERM, in the main thread; in others they do not come."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
