"""The command ``merge``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnistbench.cli.common import Results, complain, out
from mnistbench.words import counted, visible

if TYPE_CHECKING:
    from mnistbench.results.merging import Merged, Refused


def merge(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER", help="Folders of results, as other machines have stored them.")
    ],
    results: Results = Path("results"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing; show what would be merged.")] = False,
) -> None:
    """Merge results of other machines into one's own, and redraw the charts.

    Every row is checked: its form, whether its numbers follow from each other, and whether its machine's limits allow
    them. A row that is stored already is left out, and one that differs from it is refused. What is stored stays
    unchanged. Exits with 0 if all rows are merged or were there, and with 1 if some were refused; the others are merged
    even so.
    """
    from mnistbench.results import merging

    files = [path for folder in folders for path in merging.sources(folder)]
    found: list[Merged | Refused] = []
    for one in merging.merge(files, results, dry_run):
        found.append(one)
        if isinstance(one, merging.Refused):
            complain(f"{one.where}: refused: {one.reason}")
        else:
            out.print(visible(_told(one, dry_run)))
    merged = [one for one in found if isinstance(one, merging.Merged)]
    refused = [one for one in found if isinstance(one, merging.Refused)]
    new, present = sum(one.new for one in merged), sum(one.present for one in merged)
    out.print(f"{_verb(dry_run)} {counted(new, 'row')}; {present:,} stored already; {_refused(refused)} refused")
    if any(one.new or one.present for one in merged) and not dry_run:  # also after a merge that was cut off
        from mnistbench import report

        for path in report.write(results):
            out.print(f"wrote {path}")
    raise typer.Exit(1 if refused else 0)


def _verb(dry_run: bool) -> str:
    return "would merge" if dry_run else "merged"


def _refused(refused: Sequence[Refused]) -> str:
    """Count the files and the rows that were refused, in words."""
    rows = sum(bool(one.place) for one in refused)
    found = {"file": len(refused) - rows, "row": rows}
    return " and ".join(counted(number, what) for what, number in found.items() if number) or "0"


def _told(one: Merged, dry_run: bool) -> str:
    """Say on one line what became of a file."""
    parts = [f"{_verb(dry_run)} {counted(one.new, 'row')} into {one.target}"] if one.new else []
    if one.present:
        parts.append(f"{one.present:,} stored already" if one.new else f"{counted(one.present, 'row')} stored already")
    if one.others:
        parts.append(f"{one.others:,} {'is no row' if one.others == 1 else 'are no rows'}, and left out")
    return f"{one.source}: {', '.join(parts)}"
