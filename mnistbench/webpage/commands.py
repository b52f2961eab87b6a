"""Commands that repeat a run, made from what its rows say, never copied from them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import replace

from mnistbench.exceptions import MnistbenchError
from mnistbench.results import storage
from mnistbench.results.row import Row
from mnistbench.task.presets import PRESETS, preset, variant
from mnistbench.task.workload import Workload

_HASH = re.compile("[0-9a-f]{7,64}")


def commit(row: Row) -> str | None:
    """Return the row's commit if it is the hash of one, else None."""
    found = row.origin.commit
    return found if isinstance(found, str) and _HASH.fullmatch(found) else None


def repeat(rows: Sequence[Row]) -> list[str]:
    """Return the commands that measure the rows of one run again, in a checkout; none if its workload is unknown.

    Names that rows give are quoted for a shell.
    """
    first, checkout = rows[0], commit(rows[0])
    backends = [*dict.fromkeys(row.backend for row in rows)]
    dtypes = [*dict.fromkeys(row.dtype for row in rows)]
    if first.workload.name == storage.SCALING:
        arguments = ["pytest", "benchmarks/test_scaling.py"]
    elif (task := options(first.workload)) is None:
        return []
    elif first.interleaved:
        rounds, processes = max(len(run) for run in first.runs), len(first.runs)
        arguments = ["mnistbench", "compare", *backends, *task, *_each("--dtype", dtypes)]
        arguments += ["--rounds", str(rounds), "--processes", str(processes), "--threads", str(first.threads)]
    else:
        arguments = ["pytest", "benchmarks/", *task[:2], *_each("--backend", backends), *_each("--dtype", dtypes)]
    command = shlex.join(arguments)
    return [command] if checkout is None else [f"git checkout {checkout}", command]


def _each(option: str, values: Sequence[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def options(workload: Workload) -> list[str] | None:
    """Return the options of ``mnistbench compare`` that give a workload, or None if no preset does."""
    for name in PRESETS:
        if preset(name, workload.dtype, workload.seed) == workload:
            return ["--workload", name, *_seed(workload)]
    for name in PRESETS:
        hidden = workload.network.sizes[1] if len(workload.network.sizes) == 3 else None
        try:
            made = variant(name, workload.seed, workload.images, hidden, workload.iterations)
        except MnistbenchError:
            continue
        if replace(made, dtype=workload.dtype) == workload:
            sizes = {"--images": workload.images, "--hidden": hidden, "--iterations": workload.iterations}
            given = [word for option, size in sizes.items() if size for word in (option, str(size))]
            return ["--workload", name, *given, *_seed(workload)]
    return None


def _seed(workload: Workload) -> list[str]:
    return ["--seed", str(workload.seed)] if workload.seed else []
