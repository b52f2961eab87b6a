"""``verify`` and ``compare``: are the numbers the same, and who is faster?"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

import mnistbench.backends as registry
from mnistbench import threads
from mnistbench.cli.common import Json, Seed, Threads, dtype_named, out, plain_table
from mnistbench.task.presets import PRESETS
from mnistbench.task.workload import DTYPES

if TYPE_CHECKING:
    from mnistbench.agreement import Agreement
    from mnistbench.comparison import Comparison

BackendNames = Annotated[
    list[str] | None, typer.Option("--backend", help="A backend; give it again for more. All available by default.")
]
DTypeNames = Annotated[list[str] | None, typer.Option("--dtype", help="float32 or float64; both by default.")]
WorkloadName = Annotated[str, typer.Option("--workload", help=f"A preset: {', '.join(PRESETS)}.")]


def verify(
    backend: BackendNames = None,
    dtype: DTypeNames = None,
    workload: WorkloadName = "classic",
    threads_: Threads = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Compare every available backend with the float64 reference; exit with 1 if any disagrees."""
    threads.limit(threads_)
    from mnistbench import agreement

    dtypes = [dtype_named(name) for name in dtype or DTYPES]
    with out.status("computing the reference ...") as status:

        def report(outcome: Agreement) -> None:
            status.update(f"{outcome.backend} {outcome.dtype}: {'agrees' if outcome.passed else 'DISAGREES'} ...")

        outcomes = agreement.verify(backend, dtypes, workload, seed, threads_, report)
    if as_json:
        print(json.dumps([_agreement_record(outcome) for outcome in outcomes]))
    else:
        out.print(_agreement_table(outcomes))
        for name in registry.names() if backend is None else []:
            if not (found := registry.availability(name)).usable:
                out.print(f"not compared: {name} is unavailable: {found.reason}", style="dim")
    if not all(outcome.passed for outcome in outcomes):
        raise typer.Exit(1)


def _agreement_record(outcome: Agreement) -> dict[str, Any]:
    return {
        "backend": outcome.backend,
        "dtype": outcome.dtype,
        "passed": outcome.passed,
        "summary": outcome.summary(),
        "checks": len(outcome.checks),
        "trajectory": [(k, error if math.isfinite(error) else None) for k, error in outcome.trajectory()],
    }


def _agreement_table(outcomes: list[Agreement]) -> Table:
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


def compare(
    backend: Annotated[
        list[str] | None, typer.Argument(metavar="BACKEND...", help="Who takes part; all available by default.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="How often everybody trains; from 5 on, differences are tested.")] = 7,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="Whom ratios are over: numpy, or 'numpy float64' for all dtypes. By default numpy, or else the first."
        ),
    ] = None,
    dtype: Annotated[
        list[str] | None, typer.Option("--dtype", help="float32 or float64, or both; float32 by default.")
    ] = None,
    workload: WorkloadName = "classic",
    images: Annotated[
        int | None, typer.Option(help="So many instead of the workload's; beyond 59,000, moved copies.")
    ] = None,
    hidden: Annotated[int | None, typer.Option(help="So many hidden units instead of the workload's.")] = None,
    iterations: Annotated[int | None, typer.Option(help="So many iterations instead of the workload's.")] = None,
    threads_: Threads = None,
    seed: Seed = 0,
    isolate: Annotated[bool, typer.Option(help="A process for each; also done where libraries clash.")] = False,
    results: Annotated[
        Path | None, typer.Option("--results", help="Store the rows in this folder and draw its charts anew.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Race backends against each other: interleaved rounds, paired ratios, intervals, and whether they differ."""
    threads.limit(threads_)
    dtypes = [dtype_named(name) for name in dtype or ["float32"]]
    from mnistbench import comparison
    from mnistbench.comparison import storing
    from mnistbench.comparison.processes import available_elsewhere
    from mnistbench.comparison.table import table
    from mnistbench.datasets import load_images
    from mnistbench.task.presets import variant

    task = variant(workload, seed, images, hidden, iterations)
    if results is not None:
        storing.require_writable(results)
    with _live(lambda running: table(running, True), quiet=as_json) as show:
        found = comparison.compare(
            backend or (available_elsewhere() if isolate else registry.available()),
            dtypes,
            task,
            load_images(task.images, seed),
            rounds=rounds,
            baseline=baseline,
            threads=threads_,
            isolate=isolate,
            progress=show,
        )
    if as_json:
        print(json.dumps(storing.record(found), allow_nan=False), flush=True)
    else:
        out.print(table(found, False))
    if results is not None:
        for path in storing.store(found, results, threads_):
            if not as_json:
                out.print(f"wrote {path}")
    if any(contender.problem for contender in found.contenders):
        raise typer.Exit(1)


@contextmanager
def _live(render: Callable[[Comparison], RenderableType], quiet: bool) -> Iterator[Callable[[Comparison], None]]:
    """What to do while a comparison runs: a table that is drawn anew, or a line for each round when piped."""
    if quiet:
        yield lambda comparison: None
    elif out.is_terminal:
        # No thread that draws by itself: it would take CPU time from whoever is being timed.
        with Live(Text("computing the reference"), console=out, auto_refresh=False, transient=True) as live:
            yield lambda comparison: live.update(render(comparison), refresh=True)
    else:
        yield _print_new_rounds()


def _print_new_rounds() -> Callable[[Comparison], None]:
    """Print each timed round once."""
    printed: Counter[str] = Counter()

    def show(comparison: Comparison) -> None:
        for contender in comparison.contenders:
            if len(contender.samples) > printed[contender.label]:
                printed[contender.label] += 1
                print(
                    f"Round: {printed[contender.label]}, {contender.label}: {contender.samples[-1]:.4f} s", flush=True
                )

    return show
