"""Merging the results of other machines into one's own folder of results.

What others measured is an untrusted input. A file is read within bounds (:mod:`mnistbench.results.reading`), its form
is checked (:mod:`.schema`), and every row is compared with itself and with the limits that its machine states
(:mod:`.plausibility`). A folder is named by what the machine is, and a file by the names of a workload and a commit,
whose forms are checked; no other text of a row becomes part of a path. A row that is stored already is not stored again
(:mod:`.index`); no stored row or training is changed, and what is merged counts less than one's own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mnistbench import words
from mnistbench.exceptions import MnistbenchError, RowError
from mnistbench.files import locked
from mnistbench.machine.identity import Machine
from mnistbench.results import storage
from mnistbench.results.merging import schema, trainings
from mnistbench.results.merging.index import Index
from mnistbench.results.merging.plausibility import believed, require_dates
from mnistbench.results.origin import Origin
from mnistbench.results.reading import DAMAGED, read_object
from mnistbench.results.reproduction import PREFIX, changing
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
        others: Number of entries that are no rows, such as a user's own benchmarks; they are left out.
    """

    source: Path
    target: Path | None
    new: int
    present: int
    others: int = 0


@dataclass(frozen=True)
class Refused:
    """File, or row of one, that was not merged.

    Attributes:
        source: File that was read.
        place: Place in it, such as "row 2" or "training 1"; empty if it is the whole file.
        reason: Reason in words, on one line.
    """

    source: Path
    place: str
    reason: str

    @property
    def where(self) -> str:
        """The file, and the place in it."""
        return f"{self.source}, {self.place}" if self.place else str(self.source)


@dataclass
class _Into:
    """Where results are merged into.

    Attributes:
        index: What is stored, or would be.
        dry_run: Whether to write nothing.
        targets: Files of test errors by path, as a dry run would have left them.
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
    found = {*folder.glob("*.json"), *folder.glob("*/*.json")}
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
        MnistbenchError: If a file of one's own results is damaged, a file cannot be written, or another process merges
            into the folder.
    """
    if dry_run:
        yield from _merge(paths, results, dry_run)
        return
    missing = not results.exists()
    try:
        with locked(results / ".merge.lock", "merges results into this folder"):
            yield from _merge(paths, results, dry_run)
    finally:
        if missing:
            with contextlib.suppress(OSError):  # where nothing was merged, it is empty
                results.rmdir()


def _merge(paths: Sequence[Path], results: Path, dry_run: bool) -> Iterator[Merged | Refused]:
    into = _Into(Index.of(results), dry_run)
    for path in paths:
        try:
            document = _read(path)
            yield from (_trainings if path.name.startswith(PREFIX) else _rows)(path, document, into)
        except RowError as error:
            yield Refused(path, "", words.one_line(error))


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


def _rows(path: Path, document: dict[str, Any], into: _Into) -> Iterator[Merged | Refused]:
    """Merge the rows of a run."""
    index = into.index
    origin = _origin(path, document, index)
    index.require_same_header(origin, document)
    folder = index.folder_for(origin.machine)
    new: list[tuple[Row, Mapping[str, Any]]] = []
    present = others = 0
    for place, entry in enumerate(document["benchmarks"], 1):
        if _is_other(entry):
            others += 1
            continue
        try:
            row = believed(entry, origin)
            if index.holds(row, entry):
                present += 1
                continue
            new.append((row, entry))
            index.add(row, entry, document, str(path))
        except RowError as error:
            yield Refused(path, f"row {place}", words.one_line(error))
    target = _store(folder, origin, document, new, into.dry_run) if new else None
    for row, _ in new:
        index.moved(row, str(target))
    if new or present or others:
        yield Merged(path, target, len(new), present, others)


def _is_other(entry: Any) -> bool:
    """Whether an entry of pytest-benchmark is none of this package, as one of a user's own benchmarks."""
    return isinstance(entry, dict) and isinstance(info := entry.get("extra_info"), dict) and "schema" not in info


def _origin(path: Path, document: dict[str, Any], index: Index) -> Origin:
    """Read the origin of a document's rows, and let the document name the machine as one's own results do.

    Raises:
        RowError: If it is not believed.
    """
    schema.HEADER(document, "")
    try:
        document["machine_info"] = index.as_named_here(document["machine_info"])
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

    It says when it was merged. The run counts as finished, so that none here goes on with it.
    """
    names = "-".join(sorted({row.workload.name for row, _ in new}))
    name = f"{names if len(names) <= 100 else 'several'}_{origin.commit[:7]}"
    if dry_run:
        return folder / f"NNNN_{name}.json"
    stored = {key: value for key, value in document.items() if key != "process"}
    stored |= {"benchmarks": [entry for _, entry in new], "merged": datetime.now(UTC).isoformat()}
    return storage.store(folder, name, stored | ({"finished": True} if "finished" in document else {}))


def _trainings(path: Path, document: dict[str, Any], into: _Into) -> Iterator[Merged | Refused]:
    """Merge the trainings of a file of test errors."""
    accepted: list[tuple[int, Mapping[str, Any]]] = []
    for place, run in enumerate(trainings.of_document(document), 1):
        try:
            if isinstance(run, RowError):
                raise run
            trainings.require_believable(run, document)
            accepted.append((place, run))
        except RowError as error:
            yield Refused(path, f"training {place}", words.one_line(error))
    if not accepted:
        return
    document["machine"] = into.index.as_named_here(document["machine"])
    machine = Machine.read(document["machine"])
    target = into.index.folder_for(machine) / f"{PREFIX}{document['workload']['name']}.json"
    with contextlib.nullcontext() if into.dry_run else changing(target):
        # Read now, since a training may have been stored meanwhile.
        found = into.targets.get(target) or trainings.Target.of(target, document)
        new = present = 0
        for place, run in accepted:
            try:
                added = found.add(run)
                new, present = new + added, present + (not added)
            except RowError as error:
                yield Refused(path, f"training {place}", words.one_line(error))
        if new and not into.dry_run:
            found.write()
    if new:
        into.index.add_machine(machine, "")
        if into.dry_run:
            into.targets[target] = found
    if new or present:
        yield Merged(path, target if new else None, new, present)
