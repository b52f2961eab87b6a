"""The command ``machine``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from mnistbench import threads
from mnistbench.cli.common import Json, Threads, out, plain_table


def machine(
    threads_: Threads = None,
    again: Annotated[bool, typer.Option("--again", help="Measure again, and replace the stored rates.")] = False,
    as_json: Json = False,
) -> None:
    """Show this machine and its peak rates, which are measured once and then stored."""
    threads.limit(threads_)
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
