"""The command ``compare``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.live import Live
from rich.text import Text

import mnistbench.backends as registry
from mnistbench import threads
from mnistbench.cli.against import fraction_of, gate
from mnistbench.cli.common import Json, Seed, Threads, WorkloadName, dtype_named, out
from mnistbench.exceptions import OptionError
from mnistbench.words import seconds

if TYPE_CHECKING:
    from mnistbench.comparison import Comparison


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
        float,
        typer.Option(help="With --against: seconds of measuring per backend and dtype, if it cannot tell before."),
    ] = 300.0,
    as_json: Json = False,
) -> None:
    """Time backends in interleaved rounds; print speedups with intervals, and which backends differ significantly."""
    number = threads.limit(threads_)
    dtypes = [dtype_named(name) for name in dtype or ["float32"]]
    slowdown = fraction_of(fail)
    _refuse_ineffective(context, against)
    if no_cold and results is None and against is None:
        raise OptionError("--no-cold has no effect without --results")
    from mnistbench import comparison
    from mnistbench.comparison import storing
    from mnistbench.comparison.processes import available_elsewhere
    from mnistbench.comparison.table import table
    from mnistbench.datasets import load_images
    from mnistbench.task.presets import variant

    task = variant(workload, seed, images, hidden, iterations)
    if against is not None:
        gate(
            against,
            backend or available_elsewhere(),
            dtypes,
            task,
            fail=slowdown,
            budget=budget,
            threads=number,
            as_json=as_json,
        )
        return
    if results is not None:
        storing.require_writable(results)
    with _live(lambda running: table(running, True), quiet=as_json) as show:
        found = comparison.compare(
            backend or (available_elsewhere() if isolate or processes > 1 else registry.list_backends(usable=True)),
            dtypes,
            task,
            load_images(task.images, seed),
            rounds=rounds,
            processes=processes,
            longest=longest,
            baseline=baseline,
            threads=number,
            isolate=isolate,
            cold_starts=results is not None and not no_cold,
            energies=results is not None,
            callback=show,
        )
    if as_json:
        print(json.dumps(storing.record(found), allow_nan=False), flush=True)
    else:
        out.print(table(found, False))
    if results is not None:
        for path in storing.store(found, results):
            if not as_json:
                out.print(f"wrote {path}")
    if any(contender.problem for contender in found.contenders):
        raise typer.Exit(1)


def _refuse_ineffective(context: typer.Context, against: str | None) -> None:
    """Raise an OptionError if an option was given that has no effect with, or without, ``--against``."""
    of_race = ("rounds", "processes", "longest", "baseline", "isolate", "results", "no_cold")
    names = ("fail", "budget") if against is None else of_race
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            flag = name.replace("_", "-")
            raise OptionError(f"--{flag} has no effect {'without' if against is None else 'with'} --against")


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
