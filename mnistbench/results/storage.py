"""Files of rows, and choosing the rows that count.

A file ``results/<machine>/NNNN_<workload>_<commit>.json`` is a document of pytest-benchmark, whose commands can read
it. :mod:`mnistbench.results.runs` writes one for each run. If several runs measured the same backend and dtype on the
same workload, the latest counts.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mnistbench.backends as registry
from mnistbench import words
from mnistbench.backends.base import Ranks
from mnistbench.exceptions import MnistbenchError
from mnistbench.files import create_text, remove_litter
from mnistbench.results.origin import Origin
from mnistbench.results.reading import DAMAGED, read_object, shown
from mnistbench.results.row import SCHEMA, Row, Speedup
from mnistbench.task.workload import Workload
from mnistbench.timing.statistics import ratio_of_processes

SCALING = "scaling"
"""Name of the workloads of the scaling benchmark, which differ in more than the backend."""

PATTERN = "[0-9][0-9][0-9][0-9]_*.json"
"""Names of the files of runs."""

_MOST = 9_999


def case_name(workload: Workload, backend: str, threads: int, ranks: Ranks | None = None) -> str:
    """Return pytest-benchmark's name of a row, which is the same for every measurement of a case."""
    among = "" if ranks is None else f"-{len(ranks.threads)}-ranks"
    return f"{workload.name}-{backend}-{workload.dtype}-{threads}-threads{among}"


def full_name(case: str) -> str:
    """Return a case's name with the path of the benchmark."""
    return f"benchmarks/test_training.py::{case}"


def store(folder: Path, name: str, document: Mapping[str, Any]) -> Path:
    """Write a document under the next free number in ``folder``, which no other process gets; return its path.

    Raises:
        MnistbenchError: If it cannot be written.
    """
    remove_litter(folder, PATTERN)
    taken = [int(path.name[:4]) for path in folder.glob(PATTERN)]
    number = max(taken, default=0) + 1
    while number <= _MOST:
        path = folder / f"{number:04}_{name}.json"
        if create_text(path, as_text(document)):
            if [*folder.glob(f"{number:04}_*.json")] == [path]:
                return path
            # Another process has taken the number under another name. Of two, the later one sees that, or both do.
            path.unlink()
            time.sleep(random.uniform(0, 0.02))
        number += 1
    raise MnistbenchError(f"{folder}: the number {_MOST:,} is taken, which is the last; store in another folder")


def as_text(document: Mapping[str, Any]) -> str:
    """Return a document as the text of its file."""
    return json.dumps(document, indent=1) + "\n"


def load(folder: Path) -> list[Row]:
    """Read every row of every run stored in a machine's folder, oldest first.

    Raises:
        MnistbenchError: If a file is damaged.
    """
    return [row for _, _, rows in documents(folder) for row in rows]


def documents(folder: Path) -> Iterator[tuple[Path, dict[str, Any], list[Row]]]:
    """Yield every file in a machine's folder, oldest first, with its document and its rows.

    Raises:
        MnistbenchError: If a file is damaged.
    """
    for path in sorted(folder.glob(PATTERN)):
        try:
            document = read_object(path)
            rows = rows_of(document, path.name, folder.name)
        except FileNotFoundError:
            continue  # another process found its number taken
        except DAMAGED as error:
            reason = words.exception(error)
            raise MnistbenchError(f"{path}: not a file of measurements ({reason}); remove or restore it") from error
        yield path, document, rows


def rows_of(document: Mapping[str, Any], file: str, folder: str = "") -> list[Row]:
    """Read the rows of a pytest-benchmark document, which ``file`` in ``folder`` stores.

    Raises:
        KeyError, TypeError, ValueError: If it is damaged.
    """
    origin = Origin.of({name: shown(document[name]) for name in _OF_ORIGIN if name in document}, file, folder)
    return [Row.from_dict(shown(one["extra_info"]), one["stats"]["data"], origin) for one in entries(document)]


_OF_ORIGIN = ("machine_info", "commit_info", "datetime", "merged")


def entries(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return those entries of a document that are rows; a user's own benchmarks are none."""
    return [entry for entry in document["benchmarks"] if entry["extra_info"].get("schema") == SCHEMA]


def workloads(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Group the rows by workload, in the order first measured.

    Those of the scaling benchmark are left out, and those of several ranks, which :func:`of_ranks` chooses: a table or
    chart shows what one process does.
    """
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row.workload.name != SCALING and row.ranks is None:
            found.setdefault(row.workload.name, []).append(row)
    return found


def of_ranks(rows: Iterable[Row]) -> list[Row]:
    """Choose the last row of each workload, backend, dtype, device, and number of ranks, threads and hosts."""

    def place(row: Row) -> tuple[Any, ...]:
        return row.workload.name, row.backend, row.dtype, row.device, _among(row)

    return _last([row for row in rows if row.workload.name != SCALING and row.ranks is not None], place)


def _among(row: Row) -> tuple[int, int, int] | None:
    """Return the numbers of ranks, of all their threads, and of hosts."""
    return None if row.ranks is None else (len(row.ranks.threads), row.threads, row.ranks.hosts)


def latest(rows: Sequence[Row]) -> list[Row]:
    """Choose one workload's last row of each backend, dtype, device and number of threads, in the registry's order.

    All rows are of one machine. Those merged from somebody else's results count only where one's own have none. Each
    has its :func:`speedup` over ``numpy`` in float64 and in its own dtype.
    """
    rows = _own_last(rows)
    rank = {name: place for place, name in enumerate(registry.list_backends())}
    chosen = _last(rows, lambda row: (row.backend, row.dtype, row.device, row.threads))
    chosen.sort(key=lambda row: (rank.get(row.backend, len(rank)), row.threads, row.dtype))
    numpy = [row for row in rows if row.backend == "numpy" and row.validated]
    double, single = ([row for row in numpy if row.dtype == dtype] for dtype in ("float64", "float32"))
    return [
        replace(
            row,
            speedup=speedup(row, double),
            in_dtype=speedup(row, double if row.dtype == "float64" else single),
        )
        for row in chosen
    ]


def _own_last(rows: Sequence[Row]) -> list[Row]:
    """Put the rows merged from somebody else's results before one's own."""
    return sorted(rows, key=lambda row: row.origin.merged is None)


def _last(rows: Sequence[Row], identity: Callable[[Row], Any]) -> list[Row]:
    """Choose the last row of each identity, in the order of the rows."""
    found: dict[Any, Row] = {}
    for row in rows:
        found.pop(identity(row), None)
        found[identity(row)] = row
    return [*found.values()]


def speedup(row: Row, baselines: Sequence[Row]) -> Speedup | None:
    """Return the speedup of ``row`` over one of ``baselines``, which are ordered from the oldest to the latest.

    If both ran in the same rounds, it is their ratio within rounds. Else it is the ratio of medians, without an
    interval, at the same number of threads, or for another device at the largest; over a row of the same run if there
    is one, else over the latest. It is None without such a row.
    """
    same_run = [other for other in baselines if other.origin.run == row.origin.run]
    for other in same_run:
        if row.interleaved and [*map(len, other.runs)] == [*map(len, row.runs)]:
            found = ratio_of_processes(other.runs, row.runs)
            return Speedup(found.value, found.low, found.high, found.processes)
    for others in (same_run, baselines):
        medians = {other.threads: other.timing.value for other in others}
        threads = row.threads if row.device == "CPU" else max(medians, default=0)
        if threads in medians:
            return Speedup(medians[threads] / row.timing.value, across_runs=others is baselines)
    return None


def scaling(rows: Sequence[Row]) -> list[Row]:
    """Choose the last row of each backend, dtype and device at each size of the scaling benchmark."""

    def place(row: Row) -> tuple[Any, ...]:
        assert row.size is not None, "as chosen below"
        size = row.workload.images, row.size.hidden, row.size.allowed_threads
        return row.backend, row.dtype, row.device, *size, _among(row)

    return _last([row for row in _own_last(rows) if row.workload.name == SCALING and row.size is not None], place)
