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
_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9._+-]*")  # which a command does not take for an option


def commit(row: Row) -> str | None:
    """Return the row's commit if it is the hash of one, else None."""
    found = row.origin.commit
    return found if isinstance(found, str) and _HASH.fullmatch(found) else None


def repeat(rows: Sequence[Row]) -> list[str]:
    """Return the commands that measure the rows of one run again, in a checkout.

    There are none if the code had uncommitted changes, or no options give what was measured: another workload, one of
    several ranks, or names that no backend has.
    """
    first, checkout = rows[0], commit(rows[0])
    if first.origin.dirty or any(row.ranks is not None for row in rows):
        return []
    if not all(_NAME.fullmatch(name) for row in rows for name in (row.backend, row.dtype)):
        return []
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
    elif len(task) > 2:
        return []  # a size or a seed, for which the benchmarks have no option
    else:
        arguments = ["pytest", "benchmarks/", *task, *_each("--backend", backends), *_each("--dtype", dtypes)]
        arguments += ["--rounds", str(max(len(row.samples) for row in rows)), "--threads", str(first.threads)]
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
