"""The command ``charts``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnistbench.cli.common import Results, out, require_picture
from mnistbench.exceptions import OptionError
from mnistbench.words import percent


def charts(
    results: Results = Path("results"),
    check: Annotated[bool, typer.Option(help="Write nothing; exit with 1 if a chart or table is stale.")] = False,
    history: Annotated[
        bool, typer.Option("--history", help="Draw one backend's training time by commit instead.")
    ] = False,
    backend: Annotated[str | None, typer.Option(help="Backend of the history (default: numba).")] = None,
    workload: Annotated[str | None, typer.Option(help="Workload of the history (default: classic).")] = None,
    output: Annotated[
        Path | None, typer.Option(help="File of the history, .svg or .png (default: history.svg).")
    ] = None,
) -> None:
    """Bring charts and tables of the stored measurements up to date, those in README.md and docs beside them too."""
    from mnistbench import report

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
    written = report.write(results, project=True)
    for path in written:
        out.print(str(path))
    if not written:
        out.print("nothing to do: every chart and table matches the stored rows")


def _draw_history(results: Path, backend: str, workload: str, output: Path, check: bool) -> None:
    from mnistbench import charts, report
    from mnistbench.files import require_writable

    if check:
        raise OptionError("--check: not with --history, which is drawn on demand and never stale")
    require_picture(output, "--output")
    require_writable(output)
    rows = report.history(results, backend, workload)
    charts.write(charts.history(rows), output)
    out.print(f"wrote {output}: {len(rows)} rows of {len({row.origin.commit for row in rows})} commits")
    if spread := report.spread(rows):
        out.print(f"noise: the rounds of a row scatter by {percent(spread[0])} to {percent(spread[1])} of their median")
