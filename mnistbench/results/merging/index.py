"""Index of the results of one's own folder: which runs and rows are there, and which machines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from mnistbench.exceptions import RowError
from mnistbench.machine import name_of
from mnistbench.machine.identity import Machine
from mnistbench.machine.processor import Processor
from mnistbench.results import reproduction, storage
from mnistbench.results.origin import Origin
from mnistbench.results.row import Row

_NOT_OF_A_RUN = ("benchmarks", "finished", "process", "merged")
"""Fields of a document that change while a run goes on, or where it is merged."""

_NOT_OF_A_MACHINE = ("name", "microarchitecture")
"""Fields of a machine that two descriptions of it may differ in."""

Identity = tuple[Any, ...]


def canonical(value: Any) -> str:
    """Write a JSON value in a form that depends neither on the order of fields nor on how numbers are written."""
    return json.dumps(_plain(value), sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [*map(_plain, value)]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def of_run(origin: Origin) -> Identity:
    """Return what no two runs have in common: machine and time."""
    return origin.machine, origin.date


def of_row(row: Row) -> Identity:
    """Return what no two rows have in common."""
    return of_run(row.origin), *_case(row)


def of_rounds(row: Row) -> Identity:
    """Return what no two measurements have in common, whatever date they state: random seeds, or seconds.

    The seconds of a single round may be equal by chance, where the clock is coarse; then the date counts too.
    """
    rounds = row.proof.seeds if row.proof and row.proof.seeds else row.samples
    return rounds, *(_case(row) if len(rounds) > 1 else of_row(row))


def _case(row: Row) -> Identity:
    return row.backend, row.workload, row.device, row.threads, row.size


@dataclass
class Known:
    """Something stored: where, and its content in the form of :func:`canonical`."""

    where: str
    content: str


@dataclass
class Index:
    """Index of a folder of results.

    Attributes:
        folder: Folder of results.
        runs, rows: Stored runs, without their rows, and rows, by identity.
        rounds: Stored rows by :func:`of_rounds`.
        machines: Machines by the names of their folders.
        named: Machines by themselves, each as its latest row names it, one's own before merged ones and trainings.
            With it, whether it is so named by one's own row, and the date.
    """

    folder: Path
    runs: dict[Identity, Known] = field(default_factory=dict)
    rows: dict[Identity, Known] = field(default_factory=dict)
    rounds: dict[Identity, Known] = field(default_factory=dict)
    machines: dict[str, Machine] = field(default_factory=dict)
    named: dict[Machine, tuple[tuple[bool, str], Machine]] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Read a folder of results, which may be missing.

        Raises:
            MnistbenchError: If a file in it is damaged.
        """
        index = cls(folder)
        for path in sorted({path.parent for path in folder.glob(f"*/{storage.PATTERN}")}):
            for file, document, rows in storage.documents(path):
                for entry, row in zip(storage.entries(document), rows, strict=True):
                    index.add(row, entry, document, str(file), own=row.origin.merged is None)
        for path in reproduction.machines(folder):
            for run in reproduction.load(path):
                index.add_machine(run.origin.machine, run.origin.date)
        return index

    def add(
        self, row: Row, entry: Mapping[str, Any], document: Mapping[str, Any], where: str, own: bool = False
    ) -> None:
        """Add a row of a document that ``where`` stores; ``own`` says whether it is one's own."""
        known = self.rows.setdefault(of_row(row), Known(where, canonical(entry)))
        self.rounds.setdefault(of_rounds(row), known)
        self.runs.setdefault(of_run(row.origin), Known(where, _header(document)))
        self.add_machine(row.origin.machine, row.origin.date, own)

    def add_machine(self, machine: Machine, date: str, own: bool = False) -> None:
        """Add a machine, which something of this date names: a row of one's own, or something else."""
        self.machines.setdefault(machine.folder, machine)
        if machine not in self.named or self.named[machine][0] <= (own, date):
            self.named[machine] = (own, date), machine

    def moved(self, row: Row, where: str) -> None:
        """Note where a row that was added, and its run if that was new, are stored now."""
        known, run = self.rows[of_row(row)], self.runs[of_run(row.origin)]
        run.where = where if run.where == known.where else run.where
        known.where = where

    def holds(self, row: Row, entry: Mapping[str, Any]) -> bool:
        """Whether a row is stored.

        Raises:
            RowError: If another row with its identity is, or the same rounds under another date or machine.
        """
        known = self.rows.get(of_row(row))
        if known is None:
            if (same := self.rounds.get(of_rounds(row))) is not None:
                raise RowError(f"has the rounds of a row in {same.where}, and another date or machine")
            return False
        if known.content != canonical(entry):
            raise RowError(f"differs from the same row in {known.where}, which is kept")
        return True

    def require_same_header(self, origin: Origin, document: Mapping[str, Any]) -> None:
        """Raise a RowError if a document says otherwise of its run than a stored one does."""
        known = self.runs.get(of_run(origin))
        if known is not None and known.content != _header(document):
            raise RowError(f"says otherwise of the same run than {known.where}, which is kept")

    def as_named_here(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return a machine's description with the names that one's own results have for it.

        Whoever describes a machine cannot rename one's own. A new one's name is made of the facts, which tell it apart.
        """
        machine = Machine.read(record)
        if machine in self.named:
            _, own = self.named[machine]
            return {**record, "name": own.name} | (
                {"microarchitecture": own.microarchitecture} if machine.vendor else {}
            )
        if not machine.vendor:
            return {**record}
        facts = (machine.cpu, machine.vendor, machine.model, machine.microarchitecture, machine.instruction_sets)
        return {**record, "name": name_of(Processor(*facts, machine.hypervisor is not None), machine.cpus, machine.gpu)}

    def folder_for(self, machine: Machine) -> Path:
        """Return the folder for a machine's results, named by what the machine is.

        Raises:
            RowError: If it is that of another machine.
        """
        name = machine.folder
        other = self.machines.get(name, machine)
        if other != machine:
            raise RowError(f"the machine's folder {name} holds results of another machine, {other.name}")
        return self.folder / name


def _header(document: Mapping[str, Any]) -> str:
    header = {name: value for name, value in document.items() if name not in _NOT_OF_A_RUN}
    machine = header["machine_info"]
    return canonical(
        header | {"machine_info": {name: machine[name] for name in machine if name not in _NOT_OF_A_MACHINE}}
    )
