"""What the page is told: stored rows as JSON values."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mnistbench.backends as registry
from mnistbench import words
from mnistbench.exceptions import MnistbenchError
from mnistbench.machine.identity import Machine
from mnistbench.results import storage, stored
from mnistbench.results.row import Row
from mnistbench.task.presets import PRESETS
from mnistbench.task.summary import training_summary
from mnistbench.timing.statistics import NOISY_SPREAD, signed_rank_bound, student_quantile
from mnistbench.webpage import commands
from mnistbench.webpage.record import DAMAGED, named, plain, record

FORMAT = 1
"""Version of the page's data, which its downloads name."""

LEVEL = 0.95
"""Confidence level of the intervals that the page computes."""


@dataclass(frozen=True)
class Contents:
    """What the page shows.

    Attributes:
        values: All of it as JSON values.
        measured: The rows, in the order of ``values["rows"]``.
    """

    values: dict[str, Any]
    measured: list[Row]


def contents(results: Path, commits_at: str | None = None) -> Contents:
    """Read a folder of results, and return what the page shows of them.

    Args:
        commits_at: Address that a commit's hash is appended to, or None if it is not known.

    Raises:
        MnistbenchError: If there are no results, or a file is damaged.
    """
    machines = [one for one in stored.read(results) if one.rows]
    if not machines:
        raise MnistbenchError(f"{results}: holds test errors alone, which are no rows; see its README.md")
    found = _Contents()
    for place, one in enumerate(machines):
        found.add(place, one.rows)
    measured = [row for one in machines for row in one.rows]
    values = {
        "format": FORMAT,
        "machines": _machines(machines),
        "workloads": found.named_workloads(),
        "runs": found.runs,
        "rows": found.rows,
        "backends": _backends(measured),
        "colours": _colours(measured),
        "student": _student(measured),
        "signedRank": _signed_rank(measured),
        "noisy": NOISY_SPREAD,
        "level": LEVEL,
        "commitsAt": commits_at,
    }
    return Contents(values, measured)


def _machines(machines: Sequence[stored.Stored]) -> list[dict[str, Any]]:
    """Describe the machines; the identifiers, which links hold, are different and safe."""
    seen: dict[str, int] = {}
    found = []
    for one in machines:
        folder = one.machine.folder or "machine"
        seen[folder] = seen.get(folder, 0) + 1
        identifier = folder if seen[folder] == 1 else f"{folder}-{seen[folder]}"
        found.append({"id": identifier, "label": named(one.label, 120), "facts": [*_facts(one.machine)]})
    return found


def _facts(machine: Machine) -> Iterator[tuple[str, str]]:
    """Yield what is known of a machine: names and values."""
    yield "processor", plain(machine.cpu)
    if machine.vendor:
        sets = ", ".join(map(plain, machine.instruction_sets))
        yield "model", plain(f"{machine.vendor} {machine.model}")
        yield "microarchitecture", plain(f"{machine.microarchitecture}, {sets}")
        yield "CPUs in effect", plain(machine.cpus)
        yield "memory", plain(f"{machine.memory_gib} GiB")
        yield "hypervisor", plain(machine.hypervisor or "none")
    if machine.gpu:
        yield "GPU", plain(machine.gpu)


def _backends(rows: Sequence[Row]) -> list[str]:
    """List the backends that have rows, in the registry's order, others after them by name."""
    rank = {name: place for place, name in enumerate(registry.list_backends())}
    names = {named(row.backend) for row in rows}
    return sorted(names, key=lambda name: (rank.get(name, len(rank)), name))


def _colours(rows: Sequence[Row]) -> dict[str, int]:
    """Return the place of each backend's colour: a registered one always has the same."""
    known = registry.list_backends()
    others = [name for name in _backends(rows) if name not in known]
    return {name: [*known, *others].index(name) for name in _backends(rows)}


def _student(rows: Sequence[Row]) -> dict[str, float]:
    """Return Student's quantiles that the page needs, by their degrees of freedom."""
    freedoms = {len(row.processes) - 1 for row in rows if row.processes and len(row.processes) > 1}
    return {str(freedom): student_quantile(freedom, (1 + LEVEL) / 2) for freedom in sorted(freedoms)}


def _signed_rank(rows: Sequence[Row]) -> dict[str, int]:
    """Return the places of the ends of the signed-rank intervals, by the number of rounds of a single process."""
    counts = {len(row.samples) for row in rows if row.interleaved and len(row.processes or (1,)) == 1}
    return {str(count): signed_rank_bound(count, (1 - LEVEL) / 2) for count in sorted(counts)}


class _Contents:
    """Rows, runs and workloads, which refer to each other by their places.

    Attributes:
        rows, runs: JSON values.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.runs: list[dict[str, Any]] = []
        self._runs: dict[tuple[Any, ...], int] = {}
        self._workloads: dict[str, dict[str, Any]] = {}

    def add(self, machine: int, rows: Sequence[Row]) -> None:
        """Add the rows of a machine."""
        last: dict[tuple[Any, ...], int] = {}
        members: dict[int, list[Row]] = {}
        for row in rows:
            run = self._run(machine, row)
            members.setdefault(run, []).append(row)
            workload = self._workload(row)
            found = record(row)
            size = found["size"]
            place = [found["threads"]] if size is None else [size[name] for name in ("images", "hidden", "threads")]
            last[(workload, found["backend"], found["dtype"], found["device"], *place)] = len(self.rows)
            self.rows.append({"run": run, "workload": workload, "latest": False, **found})
        for place_of_row in last.values():
            self.rows[place_of_row]["latest"] = True
        for run, of_run in members.items():
            self.runs[run]["command"] = _command(of_run)

    def _run(self, machine: int, row: Row) -> int:
        """Return the place of a row's run."""
        origin = row.origin
        identity = (machine, plain(origin.file), plain(origin.date))
        if identity not in self._runs:
            self._runs[identity] = len(self.runs)
            self.runs.append(
                {
                    "machine": machine,
                    "commit": plain(origin.commit, 64),
                    "isHash": commands.commit(row) is not None,
                    "dirty": bool(origin.dirty),
                    "committed": origin.commit_date and plain(origin.commit_date, 40),
                    "measured": plain(origin.date, 40),
                    "file": plain(origin.file, 80),
                }
            )
        return self._runs[identity]

    def _workload(self, row: Row) -> int:
        """Return the place of a row's workload; those that share a name and differ are different ones."""
        task = row.workload
        if row.size is not None:
            key, told = storage.SCALING, "one iteration in many sizes: 784 pixels, hidden units, 10 classes"
        else:
            key = json.dumps({k: v for k, v in task.describe().items() if k != "dtype"}, sort_keys=True, default=str)
            told = (
                f"{words.counted(task.iterations, 'iteration')} on {words.counted(task.images, 'image')}, "
                f"network {task.network}, {training_summary(task)}"
            )
        if key not in self._workloads:
            entry = {"name": named(task.name), "task": plain(told), "scaling": row.size is not None}
            self._workloads[key] = entry | {"options": None if row.size else _options(row)}
        return [*self._workloads].index(key)

    def named_workloads(self) -> list[dict[str, Any]]:
        """Return the workloads with the names of presets first, each with a label that no other has."""
        found = [*self._workloads.values()]
        seen: dict[str, int] = {}
        for entry in found:
            seen[entry["name"]] = seen.get(entry["name"], 0) + 1
            entry["label"] = entry["name"] + f" ({seen[entry['name']]})" * (seen[entry["name"]] > 1)
            entry["rank"] = [*PRESETS, entry["name"]].index(entry["name"]) + len(PRESETS) * entry["scaling"]
        return found


def _options(row: Row) -> str | None:
    """Return the options that give a row's workload to ``mnistbench compare``, or None."""
    try:
        found = commands.options(row.workload)
    except DAMAGED:
        return None
    return None if found is None else shlex.join(found)


def _command(rows: Sequence[Row]) -> list[str]:
    try:
        return commands.repeat(rows)
    except DAMAGED:
        return []
