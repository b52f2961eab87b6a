"""All stored results of a folder, machine by machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mnistbench.exceptions import MnistbenchError
from mnistbench.machine.identity import Machine, labels
from mnistbench.results import reproduction, storage
from mnistbench.results.reproduction import Run
from mnistbench.results.row import Row


@dataclass(frozen=True)
class Stored:
    """Everything stored of one machine, whatever folder it lies in.

    Attributes:
        label: The machine's label, which no other machine of the folder has.
        rows: Its rows, oldest first.
        errors: Its trainings of presets.
    """

    machine: Machine
    label: str
    rows: list[Row]
    errors: list[Run]


def folders(results: Path) -> list[Path]:
    """Find the folders of machines with stored results.

    Raises:
        MnistbenchError: If there are none.
    """
    timed = {path.parent for path in results.glob(f"*/{storage.PATTERN}")}
    found = sorted(timed | reproduction.machines(results))
    if not found:
        raise MnistbenchError(f"{results}: holds no results; measure some with 'pytest benchmarks/'")
    return found


def read(results: Path) -> list[Stored]:
    """Read every file once, and take the rows of each machine together.

    Raises:
        MnistbenchError: If there are no results, or a file is damaged.
    """
    rows: dict[Machine, list[Row]] = {}
    errors: dict[Machine, list[Run]] = {}
    for path in folders(results):
        for row in storage.load(path):
            rows.setdefault(row.origin.machine, []).append(row)
        for run in reproduction.load(path):
            errors.setdefault(run.origin.machine, []).append(run)
    for of_machine in rows.values():
        of_machine.sort(key=lambda row: str(row.origin.date))
    # Equal machines may differ in name, if another LLVM named them; the last name counts, of one's own rows first.
    named = [_last_own(rows.get(machine) or errors[machine]) for machine in dict.fromkeys([*rows, *errors])]
    return [
        Stored(machine, label, rows.get(machine, []), errors.get(machine, []))
        for machine, label in labels(named).items()
    ]


def _last_own(measured: Sequence[Row] | Sequence[Run]) -> Machine:
    """Return the machine as the last of its rows or trainings names it, those of one's own before merged ones."""
    own = [one for one in measured if one.origin.merged is None]
    return (own or measured)[-1].origin.machine
