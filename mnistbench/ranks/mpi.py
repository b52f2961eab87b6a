"""Ranks as processes that MPI has started, through mpi4py."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from mnistbench.exceptions import OptionError
from mnistbench.ranks.exchange import Exchange
from mnistbench.ranks.launcher import launched
from mnistbench.words import one_line

_VECTOR, _VALUE = 1, 2  # tags of messages

_SPINS = 0.005
"""Seconds that a rank polls for a value without sleeping, so that it hears calls in close succession at once."""

_MOST_NAP = 0.02
"""Seconds that it sleeps between polls at most, later; before that an eighth of the time that it has waited."""

_TEXT = 160  # characters of what MPI says of an error


class Mpi(Exchange):
    """Rank that is a process of MPI's world."""

    def __init__(self, ranks: int) -> None:
        """Connect to the other processes.

        Raises:
            OptionError: If mpi4py or its MPI is missing, or ``ranks`` is not the number of processes that were started.
        """
        try:
            from mpi4py import MPI
        except (ImportError, RuntimeError) as error:
            raise OptionError(
                f"--ranks {ranks}: MPI cannot be loaded ({one_line(str(error))}); pip install 'mnistbench[mpi]'"
            ) from error
        world, self.library = MPI.COMM_WORLD, _named(MPI.Get_library_version())
        require_started(ranks, world.size, self.library)
        super().__init__(world.rank, world.size)
        self._comm = world.Dup()
        self._error: type[Exception] = MPI.Exception
        hosts = set(self._comm.allgather(MPI.Get_processor_name()))
        self.transport = "shared memory" if len(hosts) == 1 else "network"

    def swap(self, rank: int, vector: Any, room: Any) -> None:
        self._through(rank, self._comm.Sendrecv, vector, rank, _VECTOR, room, rank, _VECTOR)

    def send(self, rank: int, vector: Any) -> None:
        self._through(rank, self._comm.Send, vector, rank, _VECTOR)

    def receive(self, rank: int, room: Any) -> None:
        self._through(rank, self._comm.Recv, room, rank, _VECTOR)

    def tell(self, rank: int, value: Any) -> None:
        self._through(rank, self._comm.send, value, rank, _VALUE)

    def hear(self, rank: int) -> Any:
        begin = time.perf_counter()
        while not self._through(rank, self._comm.iprobe, rank, _VALUE):
            waited = time.perf_counter() - begin
            time.sleep(0 if waited < _SPINS else min(_MOST_NAP, waited / 8))
        return self._through(rank, self._comm.recv, None, rank, _VALUE)

    def _through(self, rank: int, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except self._error as error:
            self.abort(f"rank {rank}: has ended, or its message was lost: {one_line(str(error))[:_TEXT]}")

    def abort(self, message: str, status: int = 2) -> NoReturn:
        try:
            with contextlib.suppress(OSError, ValueError):  # a closed pipe, a full disk
                sys.stdout.flush()
            with contextlib.suppress(OSError, ValueError):
                print(f"mnistbench: {one_line(message)}", file=sys.stderr, flush=True)
        finally:
            self._comm.Abort(status)
        raise AssertionError("MPI_Abort has returned")

    def close(self) -> None:
        self._comm.Free()


def require_started(ranks: int, found: int, library: str = "MPI") -> None:
    """Raise an OptionError unless MPI has found as many processes as ``ranks``."""
    if ranks < 1:
        raise OptionError(f"--ranks {ranks}: at least 1 is needed")
    if found == ranks:
        return
    started = (launched() or (0, 1))[1]
    if found == 1 and started == ranks:
        raise OptionError(
            f"--ranks {ranks}: {started} processes were started, each alone for {library}, by the launcher of another "
            "MPI; use its own launcher, or build mpi4py for that one"
        )
    count = "1 process was" if found == 1 else f"{found} processes were"
    command = f"mpiexec -n {ranks} python -m mpi4py -m mnistbench ... --ranks {ranks}"
    raise OptionError(f"--ranks {ranks}: {count} started; start {ranks}: {command}")


def _named(version: str) -> str:
    """Return the name and number of what MPI says of its version: "MPICH 5.0.2", "Open MPI v5.0.8"."""
    first = one_line(re.split(r"[\n,\0]", version)[0])
    return re.sub(r"\s*Version:\s*", " ", first)[:60]
