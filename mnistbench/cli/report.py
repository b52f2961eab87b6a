"""The command ``report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnistbench.cli.common import out
from mnistbench.words import counted, size


def report(
    results: Annotated[Path, typer.Argument(help="Folder of stored measurements.")] = Path("results"),
    output: Annotated[Path, typer.Option(help="File of the page.")] = Path("report.html"),
    project: Annotated[
        str | None, typer.Option(help="Address of the repository, to link to commits: https://HOST/OWNER/NAME.")
    ] = None,
) -> None:
    """Write one HTML file to compare all stored measurements: charts, choices, every raw round. It needs no network."""
    from mnistbench import webpage
    from mnistbench.files import require_writable

    require_writable(output)
    rows = webpage.write(results, output, project)
    out.print(f"wrote {output}: {counted(rows, 'row')}, {size(output.stat().st_size)}; open it in a browser")
