"""Several ranks train one workload: each holds a share of the images, and they add up what an iteration needs.

Rank 0 leads: it runs the program, and tells the others what to do by one small message a call. README.md has the
protocol. MPI's launcher starts the program in several processes, and it calls :func:`on_ranks`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mnistbench.ranks.team import Team

__all__ = ["Team", "join", "on_ranks"]

Result = TypeVar("Result")


def join(ranks: int) -> Team:
    """Return this process's connection to the others that MPI has started.

    Raises:
        OptionError: If mpi4py or its MPI is missing, or ``ranks`` is not the number of processes that were started.
    """
    from mnistbench.ranks.mpi import Mpi

    return Team(Mpi(ranks))


def on_ranks(ranks: int, main: Callable[[Team], Result], threads: int | None = None) -> Result | None:
    """Call ``main`` with the team of all processes that MPI has started, on the first of them; the others follow it.

    Args:
        ranks: Number of processes, such as ``4`` for a program that ``mpiexec -n 4 python -m mpi4py`` starts.
        main: Function of the team; it passes the team to :func:`mnistbench.train`.
        threads: Number of threads of each rank; by default as for :meth:`Team.limit_threads`.

    Returns:
        What ``main`` returns; None on the other processes.

    Raises:
        OptionError: As :func:`join`, or if the number of threads is out of range.
    """
    team = join(ranks)
    if not team.leads:
        team.follow()
        return None
    with team:
        team.limit_threads(threads)
        return main(team)
