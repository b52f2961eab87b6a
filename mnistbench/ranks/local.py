"""Ranks as threads of one process, which exchange through its memory: for tests, and where there is no MPI."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, NoReturn, TypeVar

from mnistbench.exceptions import RankFailed
from mnistbench.ranks.exchange import Exchange
from mnistbench.ranks.team import Team

Result = TypeVar("Result")

_PATIENCE = 120.0
"""Seconds to wait for a vector, which the other rank sends at about the same time."""


class _Failure:
    """What a queue holds once a rank has failed."""

    def __init__(self, message: str) -> None:
        self.message = message


class _Hub:
    """Queues of vectors and of values from every rank to every other."""

    def __init__(self, size: int) -> None:
        self.queues: dict[tuple[str, int, int], SimpleQueue[Any]] = {
            (kind, sender, receiver): SimpleQueue()
            for kind in ("vector", "value")
            for sender in range(size)
            for receiver in range(size)
        }
        self._lock = threading.Lock()
        self._failure: _Failure | None = None

    def fail(self, message: str) -> _Failure:
        """Let whoever waits fail too; return the first failure."""
        with self._lock:
            if self._failure is None:
                self._failure = _Failure(message)
                for queue in self.queues.values():
                    queue.put(self._failure)
            return self._failure


class Local(Exchange):
    """Rank that is a thread of this process."""

    library, transport, apart = "none", "memory of one process", False

    def __init__(self, rank: int, size: int, hub: _Hub) -> None:
        super().__init__(rank, size)
        self._hub = hub

    def swap(self, rank: int, vector: Any, room: Any) -> None:
        self.send(rank, vector)
        self.receive(rank, room)

    def send(self, rank: int, vector: Any) -> None:
        self._hub.queues["vector", self.rank, rank].put(vector.copy())

    def receive(self, rank: int, room: Any) -> None:
        try:
            room[:] = self._got("vector", rank, _PATIENCE)
        except Empty:
            self.abort(f"rank {rank}: has sent nothing for {_PATIENCE:g} s")

    def tell(self, rank: int, value: Any) -> None:
        self._hub.queues["value", self.rank, rank].put(value)

    def hear(self, rank: int) -> Any:
        return self._got("value", rank, None)

    def _got(self, kind: str, rank: int, timeout: float | None) -> Any:
        queue = self._hub.queues[kind, rank, self.rank]
        found = queue.get(timeout=timeout)
        if isinstance(found, _Failure):
            queue.put(found)  # for whoever waits next
            raise RankFailed(found.message)
        return found

    def abort(self, message: str, status: int = 2) -> NoReturn:
        raise RankFailed(self._hub.fail(message).message)


def run(ranks: int, main: Callable[[Team], Result]) -> Result:
    """Call ``main`` with the team of ``ranks`` ranks, all of them threads of this process, and return its result.

    Raises:
        RankFailed: If a rank failed amid an exchange.
    """
    hub = _Hub(ranks)
    teams = [Team(Local(rank, ranks, hub)) for rank in range(ranks)]
    followers = [threading.Thread(target=_follow, args=(team,), daemon=True) for team in teams[1:]]
    for follower in followers:
        follower.start()
    try:
        with teams[0] as team:
            return main(team)
    finally:
        for follower in followers:
            follower.join()


def _follow(team: Team) -> None:
    try:
        team.follow()
    except RankFailed:
        return  # the leader raises it
