"""Merging the results of other machines into one's own folder of results.

What others measured is an untrusted input. A file is read within bounds (:mod:`mnistbench.results.reading`), its form
is checked (:mod:`.schema`), and every row is compared with itself and with the limits that its machine states
(:mod:`.plausibility`). A folder is named by what the machine is, and a file by the names of a workload and a commit,
whose forms are checked; no other text of a row becomes part of a path. A row that is stored already is not stored again
(:mod:`.stored`), and nothing stored is changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnistbench import words
from mnistbench.exceptions import MnistbenchError, RowError
from mnistbench.results import storage
from mnistbench.results.merging import schema, trainings
from mnistbench.results.merging.plausibility import examined, require_dates
from mnistbench.results.merging.stored import Index
from mnistbench.results.origin import Origin
from mnistbench.results.reading import DAMAGED, read_object
from mnistbench.results.reproduction import PREFIX
from mnistbench.results.row import Row

__all__ = ["Merged", "Refused", "merge", "sources"]


@dataclass(frozen=True)
class Merged:
    """File of which everything that was believed is now stored.

    Attributes:
        source: File that was read.
        target: File that holds what was new, or would hold it; None if nothing was.
        new: Number of rows, or of trainings, that were new.
        present: Number of those that were stored already.
    """

    source: Path
    target: Path | None
    new: int
    present: int


@dataclass(frozen=True)
class Refused:
    """File, or row of one, that was not merged.

    Attributes:
        where: The file, and the place in it.
        reason: Reason in words, on one line.
    """

    where: str
    reason: str


@dataclass
class _Into:
    """Where results are merged into.

    Attributes:
        index: What is stored, or would be.
        dry_run: Whether to write nothing.
        targets: Files of test errors by path.
    """

    index: Index
    dry_run: bool
    targets: dict[Path, trainings.Target] = field(default_factory=dict)


def sources(folder: Path) -> list[Path]:
    """List the JSON files of a folder of results, or of a single machine's folder: runs from the oldest, then errors.

    Raises:
        MnistbenchError: If there are none, or the folder cannot be read.
    """
    if not folder.is_dir():
        raise MnistbenchError(f"{folder}: is no folder; give a folder of results, such as --results writes")
    if folder.is_symlink():
        folder = folder.resolve()
    found = sorted({*folder.glob("*.json"), *folder.glob("*/*.json")})
    if not found:
        raise MnistbenchError(f"{folder}: holds no results; give a folder such as --results writes")
    return sorted(found, key=lambda path: (path.parent, path.name.startswith(PREFIX), path.name))


def merge(paths: Sequence[Path], results: Path, dry_run: bool = False) -> Iterator[Merged | Refused]:
    """Merge files into a folder of results, one after the other, and yield what became of each.

    Whatever stops it, the files stored so far are complete; the next call goes on.

    Args:
        paths: Files, such as :func:`sources` lists.
        results: Folder of results, which may be missing.
        dry_run: Whether to write nothing.

    Raises:
        MnistbenchError: If a file of one's own results is damaged, or a file cannot be written.
    """
    into = _Into(Index.of(results), dry_run)
    for path in paths:
        try:
            document = _read(path)
            yield from (_trainings if path.name.startswith(PREFIX) else _rows)(path, document, into)
        except RowError as error:
            yield Refused(str(path), words.one_line(error))


def _read(path: Path) -> dict[str, Any]:
    """Read a file; raise a RowError if it is none of results."""
    if path.parent.is_symlink():
        raise RowError("lies in a folder that is a symbolic link; give that folder itself")
    if not (path.name.startswith(PREFIX) or path.match(storage.PATTERN)):
        raise RowError(
            "is no file of results by its name; those are NNNN_<workload>_<commit>.json and errors_<name>.json"
        )
    try:
        return read_object(path, strict=True)
    except DAMAGED as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else words.one_line(error)
        raise RowError(reason) from error


def _rows(path: Path, document: Mapping[str, Any], into: _Into) -> Iterator[Merged | Refused]:
    """Merge the rows of a run."""
    origin, index = _origin(path, document), into.index
    index.require_agreement(origin, document)
    folder = index.folder_for(origin.machine)
    new: list[tuple[Row, Mapping[str, Any]]] = []
    present = 0
    for place, entry in enumerate(document["benchmarks"], 1):
        try:
            row = examined(entry, origin)
            if index.holds(row, entry):
                present += 1
                continue
            new.append((row, entry))
            index.add(row, entry, document, str(path))
        except RowError as error:
            yield Refused(f"{path}, row {place}", words.one_line(error))
    target = _store(folder, origin, document, new, into.dry_run) if new else None
    if new or present:
        yield Merged(path, target, len(new), present)


def _origin(path: Path, document: Mapping[str, Any]) -> Origin:
    """Read the origin of a document's rows; raise a RowError if it is not believed."""
    schema.HEADER(document, "")
    try:
        origin = Origin.of(document, path.name)
        require_dates(origin.date, origin.commit_date)
    except DAMAGED as error:
        raise RowError(words.exception(error)) from error
    return origin


def _store(
    folder: Path,
    origin: Origin,
    document: Mapping[str, Any],
    new: Sequence[tuple[Row, Mapping[str, Any]]],
    dry_run: bool,
) -> Path:
    """Store the new rows of a run under the next number, and return the file.

    The run counts as finished, so that none here goes on with it.
    """
    names = "-".join(sorted({row.workload.name for row, _ in new}))
    name = f"{names if len(names) <= 100 else 'several'}_{origin.commit[:7]}"
    if dry_run:
        return folder / f"NNNN_{name}.json"
    stored = {key: value for key, value in document.items() if key != "process"}
    stored |= {"benchmarks": [entry for _, entry in new]} | ({"finished": True} if "finished" in document else {})
    return storage.store(folder, name, stored)


def _trainings(path: Path, document: Mapping[str, Any], into: _Into) -> Iterator[Merged | Refused]:
    """Merge the trainings of a file of test errors."""
    machine, runs = trainings.checked(document)
    target = into.index.folder_for(machine) / f"{PREFIX}{document['workload']['name']}.json"
    found = into.targets.get(target) or trainings.Target.of(target, document)
    new = present = 0
    for place, run in enumerate(runs, 1):
        try:
            trainings.examine(run, document)
            added = found.add(run)
            new, present = new + added, present + (not added)
        except RowError as error:
            yield Refused(f"{path}, training {place}", words.one_line(error))
    if new:
        into.targets[target] = found
        into.index.machines.setdefault(machine.folder, machine)
    if new and not into.dry_run:
        found.write()
    if new or present:
        yield Merged(path, target if new else None, new, present)
