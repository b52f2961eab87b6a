"""The command ``compare``."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.live import Live
from rich.text import Text

import mnistbench.backends as registry
from mnistbench import threads
from mnistbench.cli.against import fraction_of, gate
from mnistbench.cli.common import Json, Ranks, Seed, Threads, WorkloadName, dtype_named, out
from mnistbench.cli.ranks import team_of
from mnistbench.exceptions import OptionError
from mnistbench.words import seconds

if TYPE_CHECKING:
    from mnistbench.comparison import Comparison
    from mnistbench.ranks import Team


def compare(
    context: typer.Context,
    backend: Annotated[list[str] | None, typer.Argument(help="Backends to compare (default: all available).")] = None,
    rounds: Annotated[
        int,
        typer.Option(help="Number of timed rounds per backend and process; a single process takes 6 or more to tell."),
    ] = 7,
    processes: Annotated[
        int,
        typer.Option(help="Number of processes per backend; with 5 of 3 rounds, intervals hold for the next one too."),
    ] = 1,
    longest: Annotated[
        float,
        typer.Option(
            help="Seconds of a round; a longer training ends earlier, and its time is scaled (inf: whole trainings)."
        ),
    ] = 3.0,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="Baseline of the speedups, such as numpy or 'numpy float64' (default: numpy, else the first backend)."
        ),
    ] = None,
    dtype: Annotated[
        list[str] | None, typer.Option("--dtype", help="float32 or float64; repeat for both (default: float32).")
    ] = None,
    workload: WorkloadName = "classic",
    images: Annotated[
        int | None,
        typer.Option(
            help="Number of training images (default: the workload's); above 60,000, shifted copies are added."
        ),
    ] = None,
    hidden: Annotated[int | None, typer.Option(help="Number of hidden units (default: the workload's).")] = None,
    iterations: Annotated[int | None, typer.Option(help="Number of iterations (default: the workload's).")] = None,
    threads_: Threads = None,
    seed: Seed = 0,
    isolate: Annotated[
        bool, typer.Option(help="Run each backend in its own process; always done where libraries clash.")
    ] = False,
    results: Annotated[
        Path | None, typer.Option("--results", help="Store the rows in this folder and redraw its charts.")
    ] = None,
    no_cold: Annotated[
        bool, typer.Option("--no-cold", help="With --results: store rows without the costs of new processes.")
    ] = False,
    against: Annotated[
        str | None,
        typer.Option(
            help="Compare each backend with itself at this tag, branch or commit, or in this wheel; exit with 1 if it "
            "is slower now."
        ),
    ] = None,
    fail: Annotated[str, typer.Option(help="With --against: slowdown that is too much.")] = "5%",
    budget: Annotated[
        float | None,
        typer.Option(
            help="Seconds from the start after which the next round is the last (default: none); with --against, "
            "seconds of measuring per backend and dtype, if it cannot tell before (default: 300)."
        ),
    ] = None,
    ranks: Ranks = None,
    share_cores: Annotated[
        bool, typer.Option("--share-cores", help="With --ranks: time ranks that have more threads than CPUs, too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Time backends in interleaved rounds; print speedups with intervals, and which backends differ significantly."""
    with team_of(ranks, threads_) as team:
        dtypes = [dtype_named(name) for name in dtype or ["float32"]]
        slowdown = fraction_of(fail)
        _refuse_ineffective(context, against, team)
        if no_cold and results is None and against is None:
            raise OptionError("--no-cold has no effect without --results")
        from mnistbench import comparison
        from mnistbench.comparison import storing
        from mnistbench.comparison.processes import available_elsewhere
        from mnistbench.comparison.table import table
        from mnistbench.datasets import load_images
        from mnistbench.task.presets import variant

        task = variant(workload, seed, images, hidden, iterations)
        number = threads.resolve(threads_)
        if against is not None:
            gate(
                against,
                backend or available_elsewhere(),
                dtypes,
                task,
                fail=slowdown,
                budget=300.0 if budget is None else budget,
                threads=number,
                as_json=as_json,
            )
            return
        if results is not None:
            storing.require_writable(results)
        usable = available_elsewhere if isolate or processes > 1 else partial(registry.list_backends, usable=True)
        if team:
            usable, team.may_share_cores = team.backends, share_cores
        with _live(lambda running: table(running, True), quiet=as_json) as show:
            found = comparison.compare(
                backend or usable(),
                dtypes,
                task,
                load_images(task.images, seed),
                rounds=rounds,
                processes=processes,
                longest=longest,
                budget=math.inf if budget is None else budget,
                baseline=baseline,
                threads=number,
                isolate=isolate,
                cold_starts=results is not None and not no_cold and team is None,
                energies=results is not None,
                callback=show,
                team=team,
            )
        _tell(found, results, as_json)
        if any(contender.problem for contender in found.contenders):
            raise typer.Exit(1)


def _tell(found: Comparison, results: Path | None, as_json: bool) -> None:
    """Print a finished comparison, and store its rows in the folder ``results``, if it is given."""
    from mnistbench.comparison import storing
    from mnistbench.comparison.table import table

    if as_json:
        print(json.dumps(storing.record(found), allow_nan=False), flush=True)
    else:
        out.print(table(found, False))
    if results is not None:
        for path in storing.store(found, results):
            if not as_json:
                out.print(f"wrote {path}")


def _refuse_ineffective(context: typer.Context, against: str | None, team: Team | None) -> None:
    """Raise an OptionError if an option was given that has no effect with, or without, another one."""
    of_race = ("rounds", "processes", "longest", "baseline", "isolate", "results", "no_cold", "ranks")
    refused = [("fail", "without --against")] if against is None else []
    refused += [(name, "with --against") for name in of_race if against is not None]
    refused += [(name, "with --ranks") for name in ("processes", "isolate", "no_cold") if team]
    refused += [("share_cores", "without --ranks")] if team is None else []
    for name, where in refused:
        source = context.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            raise OptionError(f"--{name.replace('_', '-')} has no effect {where}")


@contextmanager
def _live(render: Callable[[Comparison], RenderableType], quiet: bool) -> Iterator[Callable[[Comparison], None]]:
    """Show a running comparison: on a terminal as a table that is redrawn, otherwise as a line for each round."""
    if quiet:
        yield lambda comparison: None
    elif out.is_terminal:
        # A thread that refreshes the table would take CPU time from the backend being timed.
        with Live(Text("computing the reference"), console=out, auto_refresh=False, transient=True) as live:
            yield lambda comparison: live.update(render(comparison), refresh=True)
    else:
        yield _print_new_rounds()


def _print_new_rounds() -> Callable[[Comparison], None]:
    """Return a callback that prints each timed round once."""
    printed: Counter[str] = Counter()

    def show(comparison: Comparison) -> None:
        for contender in comparison.contenders:
            if len(contender.samples) > printed[contender.label]:
                printed[contender.label] += 1
                took = seconds(contender.samples[-1], 4)
                print(f"Round: {printed[contender.label]}, {contender.label}: {took}", flush=True)

    return show
