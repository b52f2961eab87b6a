"""The command ``verify``."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

import mnistbench.backends as registry
from mnistbench.cli.common import Json, Ranks, Seed, Threads, WorkloadName, dtype_named, out, plain_table
from mnistbench.cli.ranks import team_of
from mnistbench.exceptions import OptionError
from mnistbench.task.workload import DTYPES

if TYPE_CHECKING:
    from mnistbench.agreement import Agreement
    from mnistbench.ranks import Team


def verify(
    backend: Annotated[
        list[str] | None, typer.Option("--backend", help="Backend; repeat for more (default: all available).")
    ] = None,
    dtype: Annotated[
        list[str] | None, typer.Option("--dtype", help="float32 or float64; repeat for both (default: both).")
    ] = None,
    workload: WorkloadName = "classic",
    threads_: Threads = None,
    seed: Seed = 0,
    reference_only: Annotated[
        bool, typer.Option("--reference-only", help="Compare nothing: compute the reference and keep it for later.")
    ] = False,
    ranks: Ranks = None,
    as_json: Json = False,
) -> None:
    """Compare backends with the float64 reference; exit with 1 if one disagrees."""
    with team_of(ranks, threads_) as team:
        if reference_only:
            _keep(workload, seed, bool(backend or dtype or as_json or team))
        elif not _verify(backend, dtype, workload, seed, threads_, team, as_json):
            raise typer.Exit(1)


def _verify(
    backend: list[str] | None,
    dtype: list[str] | None,
    workload: str,
    seed: int,
    threads: int | None,
    team: Team | None,
    as_json: bool,
) -> bool:
    """Compare, print, and return whether all agree."""
    from mnistbench import agreement

    dtypes = [dtype_named(name) for name in dtype or DTYPES]
    with out.status("computing the reference ...") as status:

        def report(outcome: Agreement) -> None:
            status.update(f"{outcome.backend} {outcome.dtype}: {'agrees' if outcome.passed else 'DISAGREES'} ...")

        outcomes = agreement.verify(backend, dtypes, workload, seed, threads, report, team)
    if as_json:
        print(json.dumps([_record(outcome) for outcome in outcomes]))
    else:
        out.print(_table(outcomes))
        for name in registry.list_backends() if backend is None else []:
            if not (found := registry.availability(name)).usable:
                out.print(f"not compared: {name} is unavailable: {found.reason}", style="dim")
    return all(outcome.passed for outcome in outcomes)


def _keep(workload: str, seed: int, others: bool) -> None:
    """Compute and keep the reference of a preset, and print where; ``others`` says whether other options were given."""
    if others:
        raise OptionError("--reference-only: compares nothing; leave out --backend, --dtype, --ranks and --json")
    from mnistbench.agreement import kept
    from mnistbench.datasets import load_images
    from mnistbench.task.presets import preset

    task = preset(workload, "float64", seed)
    with out.status("computing the reference ..."):
        paths = kept.compute(task, load_images(task.images, seed))
    for path in paths:
        out.print(f"kept {path}")


def _record(outcome: Agreement) -> dict[str, Any]:
    return {
        "backend": outcome.backend,
        "dtype": outcome.dtype,
        "passed": outcome.passed,
        "summary": outcome.summary(),
        "checks": len(outcome.checks),
        "trajectory": [(k, error if math.isfinite(error) else None) for k, error in outcome.trajectory()],
    }


def _table(outcomes: list[Agreement]) -> Table:
    table = plain_table()
    for heading in ("backend", "dtype", "verdict", "checks", "parameters", "nearest to its tolerance"):
        right = heading in ("checks", "parameters")
        wide = heading == "nearest to its tolerance"
        table.add_column(heading, no_wrap=not wide, justify="right" if right else "left")
    for outcome in outcomes:
        verdict = Text("agrees", style="green") if outcome.passed else Text("DISAGREES", style="bold red")
        last = outcome.trajectory()[-1:]
        error = f"{last[0][1]:.1e}" if last else ""
        table.add_row(outcome.backend, outcome.dtype, verdict, str(len(outcome.checks)), error, outcome.summary())
    return table
