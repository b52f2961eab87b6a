"""Ranks as processes that MPI has started, through mpi4py."""

from __future__ import annotations

import re
import sys
import time
from typing import Any, NoReturn

from mnistbench.exceptions import OptionError
from mnistbench.ranks.exchange import Exchange
from mnistbench.words import one_line

_COMMAND = "mpiexec -n {ranks} python -m mpi4py -m mnistbench ... --ranks {ranks}"

_VECTOR, _VALUE = 1, 2  # tags of messages

_SPINS = 0.005
"""Seconds that a rank polls for a value without sleeping, so that commands in close succession are heard at once."""

_NAP = 0.0005
"""Seconds that it sleeps between polls after that."""


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
        world = MPI.COMM_WORLD
        if world.size != ranks:
            count = "1 process was" if world.size == 1 else f"{world.size} processes were"
            raise OptionError(f"--ranks {ranks}: {count} started; start {ranks}: {_COMMAND.format(ranks=ranks)}")
        super().__init__(world.rank, world.size)
        self._comm = world.Dup()
        self._error: type[Exception] = MPI.Exception
        self.library = _named(MPI.Get_library_version())
        hosts = set(self._comm.allgather(MPI.Get_processor_name()))
        self.transport = "shared memory" if len(hosts) == 1 else "network"

    def swap(self, rank: int, vector: Any, room: Any) -> None:
        try:
            self._comm.Sendrecv(vector, rank, _VECTOR, room, rank, _VECTOR)
        except self._error:
            self._lose(rank)

    def send(self, rank: int, vector: Any) -> None:
        try:
            self._comm.Send(vector, rank, _VECTOR)
        except self._error:
            self._lose(rank)

    def receive(self, rank: int, room: Any) -> None:
        try:
            self._comm.Recv(room, rank, _VECTOR)
        except self._error:
            self._lose(rank)

    def _lose(self, rank: int) -> NoReturn:
        self.abort(f"rank {rank}: has ended, or the connection to it is lost")

    def tell(self, rank: int, value: Any) -> None:
        self._comm.send(value, rank, _VALUE)

    def hear(self, rank: int) -> Any:
        patience = time.perf_counter() + _SPINS
        while not self._comm.iprobe(rank, _VALUE):
            time.sleep(0 if time.perf_counter() < patience else _NAP)
        return self._comm.recv(source=rank, tag=_VALUE)

    def abort(self, message: str) -> NoReturn:
        sys.stdout.flush()
        print(f"mnistbench: {one_line(message)}", file=sys.stderr, flush=True)
        self._comm.Abort(2)
        raise AssertionError("MPI_Abort has returned")


def _named(version: str) -> str:
    """Return the name and number of what MPI says of its version: "MPICH 5.0.2", "Open MPI v5.0.8"."""
    first = one_line(re.split(r"[\n,\0]", version)[0])
    return re.sub(r"\s*Version:\s*", " ", first)[:60]
