"""Index of the results of one's own folder: which runs and rows are there, and which machines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnistbench.exceptions import RowError
from mnistbench.machine.identity import Machine
from mnistbench.results import reproduction, storage
from mnistbench.results.origin import Origin
from mnistbench.results.row import Row

_NOT_OF_A_RUN = ("benchmarks", "finished", "process")
"""Fields of a document that change while a run goes on."""

Identity = tuple[Any, ...]


def canonical(value: Any) -> str:
    """Write a JSON value in the one way that does not depend on the order of fields or on how numbers are written."""
    return json.dumps(_plain(value), sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [*map(_plain, value)]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def of_run(origin: Origin) -> Identity:
    """Return what no two runs have in common: machine, time and commit."""
    return origin.machine, origin.date, origin.commit


def of_row(row: Row) -> Identity:
    """Return what no two rows have in common."""
    return of_run(row.origin), row.backend, row.workload, row.device, row.threads, row.size


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
        machines: Machines by the names of their folders.
    """

    folder: Path
    runs: dict[Identity, Known] = field(default_factory=dict)
    rows: dict[Identity, Known] = field(default_factory=dict)
    machines: dict[str, Machine] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> Index:
        """Read a folder of results, which may be missing.

        Raises:
            MnistbenchError: If a file in it is damaged.
        """
        index = cls(folder)
        for machine in sorted({path.parent for path in folder.glob(f"*/{storage.PATTERN}")}):
            for path, document, rows in storage.documents(machine):
                for entry, row in zip(storage.entries(document), rows, strict=True):
                    index.add(row, entry, document, str(path))
        for machine in reproduction.machines(folder):
            for run in reproduction.load(machine):
                index.machines.setdefault(run.origin.machine.folder, run.origin.machine)
        return index

    def add(self, row: Row, entry: Mapping[str, Any], document: Mapping[str, Any], where: str) -> None:
        """Add a row of a document that ``where`` stores."""
        self.rows.setdefault(of_row(row), Known(where, canonical(entry)))
        self.runs.setdefault(of_run(row.origin), Known(where, _header(document)))
        self.machines.setdefault(row.origin.machine.folder, row.origin.machine)

    def holds(self, row: Row, entry: Mapping[str, Any]) -> bool:
        """Whether a row is stored.

        Raises:
            RowError: If another row with its identity is.
        """
        known = self.rows.get(of_row(row))
        if known is not None and known.content != canonical(entry):
            raise RowError(f"differs from the same row in {known.where}, which is kept")
        return known is not None

    def require_agreement(self, origin: Origin, document: Mapping[str, Any]) -> None:
        """Raise a RowError if a document says otherwise of its run than a stored one does."""
        known = self.runs.get(of_run(origin))
        if known is not None and known.content != _header(document):
            raise RowError(f"says otherwise of the same run than {known.where}, which is kept")

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
    return canonical({name: value for name, value in document.items() if name not in _NOT_OF_A_RUN})
