"""The command ``errors``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import mnistbench.backends as registry
from mnistbench import threads
from mnistbench.cli.common import Results, Threads, dtype_named, out
from mnistbench.cli.printing import following
from mnistbench.exceptions import OptionError
from mnistbench.task.presets import PUBLISHED
from mnistbench.task.workload import DType

if TYPE_CHECKING:
    from mnistbench.training.result import Progress


def errors(
    workload: Annotated[str, typer.Option(help="Preset with a published test error, or all of them.")] = "all",
    seeds: Annotated[int, typer.Option(help="Number of seeds to train from: 0, 1, ...")] = 3,
    backend: Annotated[str, typer.Option(help="Backend to train with.")] = "numba",
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    results: Results = Path("results"),
    threads_: Threads = None,
) -> None:
    """Train presets, store their test errors beside the published ones, and redraw the charts."""
    threads.limit(threads_)
    registry.get_backend(backend)

    from mnistbench import report
    from mnistbench.results import reproduction

    precision = dtype_named(dtype)
    if seeds < 1:
        raise OptionError(f"--seeds {seeds}: at least 1 is needed")
    names = [*PUBLISHED] if workload == "all" else [workload]
    for name in names:
        reproduction.require(name)
    for name in names:
        out.print(f"wrote {_measure(name, seeds, backend, precision, threads_, results)}")
    for path in report.write(results):
        out.print(f"wrote {path}")


def _measure(name: str, seeds: int, backend: str, dtype: DType, threads_: int | None, results: Path) -> Path:
    """Train one preset from every seed, and return the file with the errors."""
    from mnistbench.results import reproduction

    with following(quiet=False) as follow:

        def show(seed: int, progress: Progress, error: float) -> None:
            if follow:
                follow(f"{name}, seed {seed}", progress, error)

        return reproduction.measure(name, range(seeds), results, backend, dtype, threads_, show)
