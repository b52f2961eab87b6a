"""What the commands share: where they print, options that several have, and what is said of a wrong one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from mnistbench.exceptions import OptionError
from mnistbench.task.workload import DTYPES, DType

out = Console(highlight=False, markup=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)

Data = Annotated[
    Path | None,
    typer.Option("--data", help="A folder of IDX files, or Kaggle's train.csv; the embedded MNIST by default."),
]
Threads = Annotated[int | None, typer.Option("--threads", help="Threads of the CPU; by default all there are.")]
Seed = Annotated[int, typer.Option("--seed", help="Of the initial parameters, the order of the images, and the rest.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Results = Annotated[Path, typer.Option("--results", help="The folder of stored measurements.")]


def complain(message: str) -> None:
    """One line on standard error."""
    print(f"mnistbench: {' '.join(message.split())}", file=sys.stderr)


def dtype_named(name: str) -> DType:
    """The dtype of that name.

    Raises:
        OptionError: there is none.
    """
    if name not in DTYPES:
        raise OptionError(f"--dtype {name}: choose from {', '.join(DTYPES)}")
    return name


def require_picture(path: Path, option: str = "--plot") -> None:
    """Refuse a name that is not of a picture.

    Raises:
        OptionError: it does not end in .png or .svg.
    """
    if path.suffix.lower() not in (".png", ".svg"):
        raise OptionError(f"{option} {path}: give a name that ends in .png or .svg")


def plain_table(show_header: bool = True) -> Table:
    """A table without lines."""
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=show_header)
