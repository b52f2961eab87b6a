"""The command ``machine``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from mnistbench import words
from mnistbench.cli.common import Json, Ranks, Threads, out, plain_table
from mnistbench.cli.ranks import team_of
from mnistbench.exceptions import OptionError

if TYPE_CHECKING:
    from mnistbench.ranks import Team


def machine(
    threads_: Threads = None,
    again: Annotated[bool, typer.Option("--again", help="Measure again, and replace the stored rates.")] = False,
    ranks: Ranks = None,
    as_json: Json = False,
) -> None:
    """Show this machine and its peak rates, which are measured once and then stored; with --ranks, their exchange."""
    with team_of(ranks, threads_) as team:
        if team is not None:
            if again:
                raise OptionError("--again has no effect with --ranks, whose exchange is measured every time")
            _measure_exchange(team, as_json)
            return
        from mnistbench.machine import limits, overview

        with out.status("measuring the machine's limits ..."):
            found = limits.limits(threads_, again)
        if as_json:
            print(json.dumps(overview.record(found)))
            return
        table = plain_table(show_header=False)
        for line in overview.rows(found):
            table.add_row(*line)
        out.print(table)
        for note in overview.notes(found):
            out.print(note)


def _measure_exchange(team: Team, as_json: bool) -> None:
    """Print what sums of vectors take over the team's ranks."""
    from mnistbench.ranks.measuring import SIZES, time_sums

    with out.status("measuring the exchange ..."):
        found = [time_sums(team, size) for size in SIZES]
    exchange, hosts, shared = team.exchange, team.hosts, team.shares_cores
    if as_json:
        told = {"ranks": team.size, "hosts": hosts, "library": exchange.library, "transport": exchange.transport}
        print(json.dumps(told | {"shared_cores": shared, "exchange": [one.as_dict() for one in found]}))
        return
    table = plain_table()
    for heading in ("vector", "a sum", "half of them", "rate", "sums"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in found:
        low, high = (words.seconds(end) for end in one.quartiles)
        rate = words.quantity(one.bytes_per_second, "B/s")
        table.add_row(
            words.size(one.bytes), words.seconds(one.timing.value), f"{low} to {high}", rate, f"{one.count:,}"
        )
    out.print(
        f"{words.counted(team.size, 'rank')} on {words.counted(hosts, 'host')}, "
        f"{exchange.library} over {exchange.transport}"
    )
    out.print(table)
    out.print("a sum: median of the slowest rank's seconds; rate: bytes of a vector in that time")
    if shared:
        out.print("warning: the ranks have more threads than CPUs, and wait for each other")
