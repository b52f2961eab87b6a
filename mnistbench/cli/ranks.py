"""Commands that several ranks run together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from mnistbench import threads
from mnistbench.exceptions import OptionError
from mnistbench.ranks import join
from mnistbench.ranks.launcher import launched
from mnistbench.ranks.mpi import require_started

if TYPE_CHECKING:
    from mnistbench.ranks import Team


@contextmanager
def team_of(ranks: int | None, number: int | None) -> Iterator[Team | None]:
    """Set the thread limits, and let rank 0 go on with its team; the other ranks follow it, and exit.

    Args:
        ranks: Number of ranks; None for a command that runs in one process, without a team.
        number: Number of threads of each rank, as it was given.

    Raises:
        OptionError: If ``ranks`` is not the number of processes that were started. Only the first one raises it.
    """
    place, processes = launched() or (0, 1)
    if processes > 1 and ranks != processes and place:
        raise typer.Exit  # the first process says what is wrong
    if ranks is None:
        if processes > 1:
            raise OptionError(f"{processes} processes were started together; give --ranks {processes}, or start one")
        threads.limit(number)
        yield None
        return
    if processes > 1:
        require_started(ranks, processes)
    team = join(ranks)
    if not team.leads:
        team.follow()
        raise typer.Exit
    with team:
        team.limit_threads(number)
        yield team
