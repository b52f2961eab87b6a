"""Options that several commands have, the console, and how an error is printed."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from mnistbench.exceptions import OptionError
from mnistbench.task.presets import PRESETS
from mnistbench.task.workload import DTYPES, DType
from mnistbench.words import one_line, visible

if TYPE_CHECKING:
    from mnistbench.datasets import Dataset
    from mnistbench.prediction.inputs import Inputs

Told = TypeVar("Told", "Dataset", "Inputs")

out = Console(highlight=False, markup=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)

Data = Annotated[
    Path | None,
    typer.Option("--data", help="CSV or .npz file, or folder of IDX files (default: the embedded MNIST)."),
]
Threads = Annotated[
    int | None, typer.Option("--threads", help="Number of CPU threads (default: OMP_NUM_THREADS, or all usable CPUs).")
]
Ranks = Annotated[
    int | None,
    typer.Option(
        "--ranks",
        help="Number of processes that share the images, started by mpiexec -n N python -m mpi4py -m mnistbench ...; "
        "--threads is then that of each.",
    ),
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
    print(f"mnistbench: {visible(one_line(message))}", file=sys.stderr)


def told(dataset: Told) -> Told:
    """Print on standard error what was understood of the source of a data set or of inputs, and return them."""
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


def require_different(outputs: Iterable[tuple[str, Path | None]], inputs: Iterable[tuple[str, Path | None]]) -> None:
    """Refuse two outputs that are the same file, and one that would replace an input or a file of a data folder.

    Args:
        outputs: Names of options such as "--save" and the files that they name; None for one that is not given.
        inputs: Names of arguments and the files or folders that they name.

    Raises:
        OptionError: If two are the same, also by a link.
    """
    given = [(name, path) for name, path in inputs if path is not None]
    seen = {path.resolve(): name for name, path in given if not path.is_dir()}
    folders = {path.resolve(): name for name, path in given if path.is_dir()}
    for name, path in outputs:
        if path is None:
            continue
        place = path.resolve()
        other = seen.setdefault(place, name)
        if other == name and _DATA_FILE.search(path.name) and path.exists():
            other = folders.get(place.parent, name)
        if other != name:
            raise OptionError(f"{name} {path}: is the file of {other} too; give another one")


_DATA_FILE = re.compile("train|test|t10k", re.IGNORECASE)


def plain_table(show_header: bool = True) -> Table:
    """Return an empty table without rules."""
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=show_header)
