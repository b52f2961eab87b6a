"""Options that several commands have, the console, and how an error is printed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from mnistbench.exceptions import OptionError
from mnistbench.task.presets import PRESETS
from mnistbench.task.workload import DTYPES, DType
from mnistbench.words import one_line

if TYPE_CHECKING:
    from mnistbench.datasets import Dataset

out = Console(highlight=False, markup=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)

Data = Annotated[
    Path | None,
    typer.Option("--data", help="CSV or .npz file, or folder of IDX files (default: the embedded MNIST)."),
]
Threads = Annotated[
    int | None, typer.Option("--threads", help="Number of CPU threads (default: OMP_NUM_THREADS, or all usable CPUs).")
]
Seed = Annotated[
    int,
    typer.Option(
        "--seed", help="Seed for everything random: initial parameters, order of the images, dropout, augmentation."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Results = Annotated[Path, typer.Option("--results", help="Folder of stored measurements.")]
WorkloadName = Annotated[str, typer.Option("--workload", help=f"Preset: {', '.join(PRESETS)}.")]


def complain(message: str) -> None:
    """Print one line on standard error."""
    print(f"mnistbench: {one_line(message)}", file=sys.stderr)


def told(dataset: Dataset) -> Dataset:
    """Print on standard error what was understood of a data set's source, and return the data set."""
    for note in dataset.notes:
        complain(f"{dataset.source}: {note}")
    return dataset


def dtype_named(name: str) -> DType:
    """Return the dtype called ``name``; raise an OptionError if there is none."""
    if name not in DTYPES:
        raise OptionError(f"--dtype {name}: choose from {', '.join(DTYPES)}")
    return name


def require_picture(path: Path, option: str = "--plot") -> None:
    """Raise an OptionError unless ``path`` ends in .png or .svg."""
    if path.suffix.lower() not in (".png", ".svg"):
        raise OptionError(f"{option} {path}: give a name that ends in .png or .svg")


def plain_table(show_header: bool = True) -> Table:
    """Return an empty table without rules."""
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=show_header)
