"""What a rank does when the leader tells it to, on its own share of the images."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import mnistbench.backends as registry
from mnistbench.backends import Description, Metrics, Trainer, trials
from mnistbench.backends.base import Carrier
from mnistbench.exceptions import RankFailed
from mnistbench.ranks.raised import ending
from mnistbench.reference.evaluation import Score, score
from mnistbench.reference.parameters import Parameters
from mnistbench.timing import noise

if TYPE_CHECKING:
    from mnistbench.datasets import Dataset
    from mnistbench.ranks.exchange import Exchange
    from mnistbench.reference.mlp import State
    from mnistbench.task.recipe import Activation
    from mnistbench.task.workload import Workload


_GRACE = 2.0
"""Seconds that a rank waits, once its own library tells that another has ended, before it says so."""


@dataclass
class _Running:
    """A trainer, the number of iterations done, and whether the ranks' vectors are known to be of one length."""

    trainer: Trainer
    peer: bool
    iteration: int = 0
    alike: bool = False


@dataclass(frozen=True)
class Spent:
    """What a call of ``advance`` cost a rank.

    Attributes:
        cpu: CPU seconds of its process, of all threads; 0 if that is not its own.
        exchange: Seconds that an iteration spent in the exchange, waiting included; None if the backend exchanges by
            itself.
    """

    cpu: float = 0.0
    exchange: float | None = 0.0


class Member:
    """Data and trainers of one rank. Trainers have numbers, since a comparison has several at a time.

    Attributes:
        dataset: Data set with this rank's share of the training images, the last that was loaded.
    """

    def __init__(self, exchange: Exchange) -> None:
        self.dataset: Dataset | None = None
        self._exchange = exchange
        self._running: dict[int, _Running] = {}
        self._connected: list[str] = []
        self._found: dict[tuple[Any, ...], dict[Any, Any]] = {}

    def load(self, name: str, *arguments: Any) -> None:
        """Load this rank's share of a data set by the function of :mod:`mnistbench.datasets` called ``name``."""
        from mnistbench import datasets

        self.dataset = getattr(datasets, name)(*arguments, rank=self._exchange.rank, ranks=self._exchange.size)

    def digest_part(self) -> int:
        """Return what this rank's images add to the digest of all."""
        assert self.dataset is not None, "a training has loaded it"
        return self.dataset.digest_part()

    def score_training(self, parameters: Parameters, activation: Activation) -> tuple[int, Score]:
        """Return the number of this rank's training images, and the score of parameters on them."""
        assert self.dataset is not None, "a training has loaded it"
        return len(self.dataset.train), score(parameters, self.dataset.train, activation)

    def find(self, backend: str) -> None:
        """Load a backend's library."""
        registry.get_backend(backend)

    def connect(self, backend: str, address: str) -> Carrier:
        """Join the other ranks in a backend of peers."""
        with self._together():
            found = registry.get_backend(backend).connect(self._exchange.rank, self._exchange.size, address)
        self._connected.append(backend)
        return found

    def leave(self) -> None:
        """Leave the other ranks in all backends that have joined them."""
        while self._connected:
            registry.get_backend(self._connected.pop()).disconnect()

    def warm_up(self, backend: str, workload: Workload, ways: dict[str, str] | None, threads: int | None) -> None:
        """Do the one-time work of a backend; ``ways`` as for :meth:`start`."""
        with self._settled(ways):
            registry.get_backend(backend).warm_up_split(workload, threads)

    def start(
        self,
        number: int,
        backend: str,
        workload: Workload,
        parameters: Parameters,
        ways: dict[str, str] | None,
        threads: int | None,
        dataset: Dataset | None,
    ) -> None:
        """Start a trainer, unless it has started.

        Args:
            ways: Ways to compute that rank 0 has chosen, by what was tried; None for this rank's own choice.
            dataset: Data set with this rank's share; None for the one that was loaded.
        """
        if number in self._running:
            return
        own, found = self.dataset if dataset is None else dataset, registry.get_backend(backend)
        assert own is not None, "a data set was loaded"
        with self._settled(ways):
            self._running[number] = _Running(found.start(workload, own, parameters, threads), found.peers)

    def _settled(self, ways: dict[str, str] | None) -> AbstractContextManager[object]:
        """Let trials choose the given ways; rank 0 has chosen them already."""
        if ways is None or self._exchange.rank == 0:
            return nullcontext()
        return trials.session(ways, self._found.setdefault(tuple(sorted(ways.items())), {}))

    def close(self, number: int) -> None:
        """Free a trainer's device."""
        if number in self._running:
            self._running.pop(number).trainer.close()

    def advance(self, number: int, iterations: int) -> tuple[Metrics, Spent]:
        """Run iterations together with the other ranks; return the metrics of all ranks' images, and what it cost."""
        running, before, used = self._running[number], self._exchange.seconds, time.process_time()
        if running.peer:
            with self._together():
                found = running.trainer.advance(iterations)
            return found, Spent(time.process_time() - used, None)
        with self._together():
            for sums in running.trainer.split(iterations):
                self._require_alike(running, len(sums.gradients))
                self._exchange.sum(sums.gradients)
            scores = sums.scores.copy()
            self._exchange.sum(scores)
        running.iteration += iterations
        used = time.process_time() - used if self._exchange.apart else 0.0
        loss, hits = scores / running.trainer.workload.images_of(running.iteration - 1)
        spent = Spent(used, (self._exchange.seconds - before) / iterations)
        return Metrics(loss=float(loss), accuracy=float(hits)), spent

    def time_parts(self, number: int, iterations: int) -> list[float]:
        """Return the seconds of each of some iterations over this rank's images alone, which the ranks begin together.

        The parameters are then no longer those of the other ranks, until a reset.
        """
        with self._together():
            self._exchange.sum(np.zeros(1))
        begun, found = time.perf_counter(), []
        for _ in self._running[number].trainer.split(iterations):
            now = time.perf_counter()
            found.append(now - begun)
            begun = now
        return found

    def time_sums(self, size: int, count: int) -> list[float]:
        """Return the seconds of each of ``count`` sums of vectors of ``size`` bytes, which the ranks begin together."""
        vector, beginning, found = np.zeros(size // 4, np.float32), np.zeros(1, np.float32), []
        with self._together():
            for _ in range(count):
                self._exchange.sum(beginning)
                begun = time.perf_counter()
                self._exchange.sum(vector)
                found.append(time.perf_counter() - begun)
        return found

    def cpu_seconds(self) -> float:
        """Return the CPU seconds that this rank's process has used; 0 if that is not its own."""
        return noise.own_seconds() if self._exchange.apart else 0.0

    def gradients(self, number: int) -> Parameters:
        """Return the gradients of all ranks' images."""
        running = self._running[number]
        if running.peer:
            with self._together():
                return running.trainer.gradients()
        with self._together(), closing(running.trainer.split(1)) as split:
            sums = next(split)
            self._require_alike(running, len(sums.gradients))
            self._exchange.sum(sums.gradients)
            return running.trainer.mean_gradients(sums)

    @contextmanager
    def _together(self) -> Iterator[None]:
        """End all ranks if this one fails: the others wait for what it owes them."""
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # a diverging run shows in the loss
                yield
        except RankFailed as error:
            if not self._exchange.apart:
                raise
            time.sleep(_GRACE)  # the rank that has failed says why, and ends this one
            self._exchange.abort(f"rank {self._exchange.rank}: {error}")
        except BaseException as error:
            rank, (line, status) = self._exchange.rank, ending(error)
            self._exchange.abort(f"rank {rank}: {line}" if rank else line, status)

    def _require_alike(self, running: _Running, length: int) -> None:
        """Abort if the ranks' vectors differ in length, as those of CPUs with other vector registers do."""
        if not running.alike:
            total = np.array([float(length)])
            self._exchange.sum(total)
            if total[0] != length * self._exchange.size:
                raise RankFailed("sums of other lengths than other ranks have; CPUs with the same vectors are needed")
            running.alike = True

    def reset(self, number: int, parameters: Parameters) -> None:
        """Restart a trainer."""
        running = self._running[number]
        running.trainer.reset(parameters)
        running.iteration = 0

    def restore(self, number: int, state: State) -> None:
        """Let a trainer go on from a state."""
        running = self._running[number]
        running.trainer.restore(state)
        running.iteration = state.iteration

    def parameters(self, number: int) -> tuple[Parameters | None, bytes]:
        """Return a trainer's parameters, on rank 0, and their digest."""
        found = self._running[number].trainer.parameters()
        return None if self._exchange.rank else found, _digest([found])

    def keeps_state(self, number: int) -> bool:
        """Return whether a trainer keeps the state of its training."""
        return self._running[number].trainer.keeps_state

    def moments(self, number: int) -> tuple[list[Parameters] | None, bytes]:
        """Return the moments of a trainer's optimizer, on rank 0, and their digest."""
        found = self._running[number].trainer.moments()
        return None if self._exchange.rank else found, _digest(found)

    def describe(self, number: int) -> Description:
        """Describe a trainer."""
        return self._running[number].trainer.describe()


def _digest(values: Sequence[Parameters]) -> bytes:
    """Return the digest of the bits of parameters."""
    digest = hashlib.sha256()
    for one in values:
        for array in one.arrays():
            lost = np.isnan(array)  # which of two NaN is kept depends on their order
            digest.update(np.ascontiguousarray(np.where(lost, np.nan, array) if lost.any() else array).data)
    return digest.digest()
