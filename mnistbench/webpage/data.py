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
from mnistbench.task.workload import Workload
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
    described = _machines(machines)
    for place, machine in enumerate(described):
        days = sorted(run["measured"][:10] for run in found.runs if run["machine"] == place)
        machine["facts"].append(("measured on", days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"))
    measured = [row for one in machines for row in one.rows]
    values = {
        "format": FORMAT,
        "machines": described,
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
    identifiers, names = _Names("{}-{}"), _Names()
    return [
        {
            "id": identifiers.free(one.machine.folder or "machine"),
            "label": names.free(named(one.label, 120)),
            "facts": [*_facts(one.machine)],
        }
        for one in machines
    ]


class _Names:
    """Names of which no two are the same, even where capitals are not told apart."""

    def __init__(self, form: str = "{} ({})") -> None:
        self._form = form
        self._taken: set[str] = set()

    def free(self, wanted: str) -> str:
        """Return a name, with the first number from 2 on that makes it a new one."""
        name, number = wanted, 2
        while name.casefold() in self._taken:
            name, number = self._form.format(wanted, number), number + 1
        self._taken.add(name.casefold())
        return name


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
            ranks = found["ranks"] and (found["ranks"]["count"], found["ranks"]["hosts"])
            last[(workload, found["backend"], found["dtype"], found["device"], ranks, *place)] = len(self.rows)
            self.rows.append({"run": run, "workload": workload, "latest": False, **found})
        for place_of_row in last.values():
            self.rows[place_of_row]["latest"] = True
        for run, of_run in members.items():
            self.runs[run]["command"] = _command(of_run)

    def _run(self, machine: int, row: Row) -> int:
        """Return the place of a row's run."""
        origin = row.origin
        identity = (machine, *map(plain, origin.run))
        if identity not in self._runs:
            self._runs[identity] = len(self.runs)
            self.runs.append(
                {
                    "machine": machine,
                    "commit": plain(origin.commit, 64),
                    "isHash": commands.commit(row) is not None,
                    "folder": plain(origin.folder, 120),
                    "dirty": bool(origin.dirty),
                    "committed": origin.commit_date and plain(origin.commit_date, 40),
                    "measured": plain(origin.date, 40),
                    "file": plain(origin.file, 80),
                    "system": plain(origin.system, 80),
                    "python": plain(origin.python, 40),
                    "merged": None if origin.merged is None else plain(origin.merged, 40),
                }
            )
        return self._runs[identity]

    def _workload(self, row: Row) -> int:
        """Return the place of a row's workload; those that share a name and differ are different ones."""
        task = row.workload
        if row.size is not None:
            key, told = storage.SCALING, "the same training in many sizes, of the data and of one hidden layer"
        else:
            key = json.dumps({k: v for k, v in task.describe().items() if k != "dtype"}, sort_keys=True, default=str)
            told = (
                f"{words.counted(task.iterations, 'iteration')} on {words.counted(task.images, 'image')}, "
                f"network {task.network}, {training_summary(task)}"
            )
        if key not in self._workloads:
            options = None if row.size else _options(row)
            name, work = (named(task.name), 0) if options is None else (_name(task, options[1]), _work(task))
            entry = {"name": name, "task": plain(told), "scaling": row.size is not None}
            entry["options"] = None if options is None else shlex.join(options)
            self._workloads[key] = entry | {"rank": (row.size is not None, _order(task.name), work)}
        return [*self._workloads].index(key)

    def named_workloads(self) -> list[dict[str, Any]]:
        """Return the workloads, each with a label that no other has, and its rank: presets first, then by size."""
        found, names = [*self._workloads.values()], _Names()
        for entry in sorted(found, key=lambda one: one["options"] is None):  # presets and variants keep their names
            entry["label"] = names.free(entry["name"])
        ranks = sorted(entry["rank"] for entry in found)
        for entry in found:
            entry["rank"] = ranks.index(entry["rank"])
        return found


def _order(name: object) -> int:
    """Return a preset's place; other workloads follow."""
    return [*PRESETS, name].index(name)


def _name(task: Workload, preset: str) -> str:
    """Return the name of a preset, or the sizes of a variant of it; a seed is named too."""
    seed = f", seed {task.seed}" * bool(task.seed)
    if task.name in PRESETS:
        return task.name + seed
    layers = " and ".join(f"{units:,}" for units in task.network.sizes[1:-1])
    images, iterations = words.counted(task.images, "image"), words.counted(task.iterations, "iteration")
    return f"{preset}: " * (preset != "classic") + f"{layers} hidden units, {images}, {iterations}{seed}"


def _work(task: Workload) -> float:
    return float(task.dense_flops * task.iterations)


def _options(row: Row) -> list[str] | None:
    """Return the options that give a row's workload to ``mnistbench compare``, or None."""
    try:
        return commands.options(row.workload)
    except DAMAGED:
        return None


def _command(rows: Sequence[Row]) -> list[str]:
    try:
        return commands.repeat(rows)
    except DAMAGED:
        return []
