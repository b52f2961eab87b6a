"""``backends``, ``machine`` and ``charts``: what there is, and what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

import mnistbench.backends as registry
from mnistbench import threads
from mnistbench.cli.common import Json, Results, Threads, out, plain_table, require_picture
from mnistbench.exceptions import OptionError


def backends(as_json: Json = False) -> None:
    """List the backends: version and device, or why one is unavailable here and how to get it."""
    threads.limit(None)
    found = {name: registry.availability(name) for name in registry.names()}
    if as_json:
        print(json.dumps({name: vars(availability) for name, availability in found.items()}))
        return
    table = plain_table()
    for heading in ("backend", "available", "version", "device"):
        table.add_column(heading, no_wrap=heading != "device")
    for name, availability in found.items():
        where = availability.device or "; ".join(filter(None, (availability.reason, availability.fix)))
        table.add_row(name, "yes" if availability.usable else "no", availability.version or "", where)
    out.print(table)


def machine(
    threads_: Threads = None,
    again: Annotated[bool, typer.Option("--again", help="Measure now, and keep that.")] = False,
    as_json: Json = False,
) -> None:
    """Show this machine and the rates that no computation on it can exceed: measured once, then kept."""
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


def charts(
    results: Results = Path("results"),
    check: Annotated[bool, typer.Option(help="Write nothing; exit with 1 if anything is stale.")] = False,
    history: Annotated[
        bool, typer.Option("--history", help="Draw instead what one backend took at every commit.")
    ] = False,
    backend: Annotated[str | None, typer.Option(help="Whose history; numba by default.")] = None,
    workload: Annotated[str | None, typer.Option(help="Of which workload; classic by default.")] = None,
    output: Annotated[Path | None, typer.Option(help="The .svg or .png file; history.svg by default.")] = None,
) -> None:
    """Draw the charts and the tables of the stored measurements anew, also in a README.md beside their folder."""
    from mnistbench.results import report

    if history:
        _draw_history(results, backend or "numba", workload or "classic", output or Path("history.svg"), check)
        return
    for option, value in {"backend": backend, "workload": workload, "output": output}.items():
        if value is not None:
            raise OptionError(f"--{option}: is for --history only")
    if check:
        stale = report.stale(results)
        for path in stale:
            out.print(f"{path} is stale: run 'mnistbench charts'")
        raise typer.Exit(1 if stale else 0)
    for path in report.write(results):
        out.print(str(path))


def _draw_history(results: Path, backend: str, workload: str, output: Path, check: bool) -> None:
    from mnistbench import charts
    from mnistbench.files import require_writable
    from mnistbench.results import report

    if check:
        raise OptionError("--check: not with --history, which is drawn on demand and never stale")
    require_picture(output, "--output")
    require_writable(output)
    rows = report.history(results, backend, workload)
    charts.write(charts.history(rows), output)
    out.print(f"wrote {output}: {len(rows)} rows of {rows['commit'].nunique()} commits")
    if spread := report.spread(rows):
        out.print(f"noise: the rounds of a row differ by {spread[0]:.1%} to {spread[1]:.1%} of their median")
