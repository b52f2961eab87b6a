"""Storing rows: a run is one file, which grows by a row whenever one is known, and is finished or resumed.

Until the end the file says ``"finished": false``, and a run that was cut off can be resumed. A finished file is never
written again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import psutil

from mnistbench import machine
from mnistbench.exceptions import MnistbenchError
from mnistbench.files import write_text
from mnistbench.machine.environment import environment
from mnistbench.results import storage
from mnistbench.results.reading import DAMAGED, read_object
from mnistbench.results.row import Row


def require_benchmark() -> None:
    """Check that pytest-benchmark is installed, whose format the files have.

    Raises:
        MnistbenchError: If it is not.
    """
    try:
        import pytest_benchmark.stats  # noqa: F401
    except ImportError as error:
        raise MnistbenchError("storing rows needs pytest-benchmark: pip install 'mnistbench[bench]'") from error


def entry(row: Row) -> dict[str, Any]:
    """Return a row of training as an entry of pytest-benchmark; other benchmarks replace its names."""
    from pytest_benchmark.stats import Stats

    name = storage.case_name(row.workload, row.backend, row.threads, row.ranks)
    stats: Any = Stats()  # type: ignore[no-untyped-call]
    for seconds in row.samples:
        stats.update(seconds)
    return {
        "group": row.dtype,
        "name": name,
        "fullname": storage.full_name(name),
        "params": {"backend_name": row.backend, "dtype": row.dtype},
        "param": f"{row.backend}-{row.dtype}",
        "extra_info": row.as_dict(),
        "options": {},
        "stats": stats.as_dict() | {"data": stats.data, "iterations": 1},
    }


class Run:
    """Rows of one run, and the file that stores them from the first row on.

    Attributes:
        document: The file's content. It keeps every row, also one that could not be written.
        path: Path of the file; None before the first row.
    """

    def __init__(self, folder: Path, workload: str, options: Mapping[str, Any], code: Sequence[str] = ()) -> None:
        """Begin a run.

        Args:
            folder: Folder of this machine's results.
            workload: First part of the file's name.
            options: Options that the rows depend on, as JSON values.
            code: Paths in the checkout that count as code besides the package.

        Raises:
            MnistbenchError: If pytest-benchmark is not installed.
        """
        require_benchmark()
        import pytest_benchmark

        self.path: Path | None = None
        commit = machine.commit(*code)
        self._folder, self._name = folder, f"{workload}_{commit['id'][:7]}"
        self.document: dict[str, Any] = {
            "machine_info": {**machine.describe(), "versions": machine.versions()},
            "commit_info": commit,
            "benchmarks": [],
            "datetime": datetime.now(UTC).isoformat(),
            "version": pytest_benchmark.__version__,
            "finished": False,
            "options": dict(options),
            "code_sha256": _digest(code),
            "environment": environment(),
            "process": _this_process(),
        }

    @classmethod
    def resume(cls, folder: Path, workload: str, options: Mapping[str, Any], code: Sequence[str] = ()) -> Self:
        """Go on with the folder's last unfinished run of a workload and a command, and write that this process does.

        Raises:
            MnistbenchError: If there is none, it still runs, something has changed since, or it cannot be written.
        """
        run = cls(folder, workload, options, code)
        for path in sorted(folder.glob(f"[0-9][0-9][0-9][0-9]_{workload}_*.json"), reverse=True):
            with contextlib.suppress(*DAMAGED):
                document = read_object(path)
                if document.get("finished", True) is False and document["options"]["command"] == options["command"]:
                    break
        else:
            raise MnistbenchError(f"{folder}: holds no unfinished run of {workload}; leave out --resume")
        if changed := run._changed_since(document):
            raise MnistbenchError(f"{path}: cannot be resumed: {changed}; leave out --resume to start a new run")
        run.path, run.document = path, document | {"process": _this_process()}
        run._write()  # at once, or another process could resume it too
        return run

    def _changed_since(self, document: Mapping[str, Any]) -> str | None:
        """Say why an unfinished run cannot be resumed, or return None."""
        if running := _running(document.get("process")):
            return f"process {running} still measures"
        now = json.loads(json.dumps(self.document))
        for what in ("code_sha256", "options", "machine_info"):
            if (old := document.get(what)) != now[what]:
                return _difference(what, old, now[what])
        variables = [one.get("environment", {}).get("variables", {}) for one in (document, now)]
        if variables[0] != variables[1]:
            return _difference("environment", *variables)
        if document["commit_info"]["id"] != now["commit_info"]["id"]:
            return f"it is of commit {document['commit_info']['id'][:7]}"
        return None

    def rows(self) -> list[Row]:
        """Return the rows so far."""
        return storage.rows_of(self.document, self.path.name if self.path else "")

    def measured(self) -> dict[str, Row]:
        """Return the results so far by the ``param`` of their entries; a row that is no result is none."""
        entries = self.document["benchmarks"]
        return {one["param"]: row for one, row in zip(entries, self.rows(), strict=True) if row.validated}

    def add(self, entry: dict[str, Any]) -> None:
        """Add an entry, in place of one with the same ``param``, and write the file.

        Raises:
            MnistbenchError: If it cannot be written; the entry is kept, and written with the next one.
        """
        others = [one for one in self.document["benchmarks"] if one["param"] != entry["param"]]
        self.document["benchmarks"] = [*others, entry]
        self._write()

    def finish(self) -> Path:
        """Mark the run as finished, write the file, and return it.

        Raises:
            MnistbenchError: If it cannot be written; the message says where the rows are then.
        """
        self.document |= {"finished": True}
        self.document.pop("process", None)
        return self.save()

    def save(self) -> Path:
        """Write the file, or where that fails another one in the folder for temporary files; return it.

        Raises:
            MnistbenchError: If it had to be the other one, or none could be written.
        """
        try:
            return self._write()
        except MnistbenchError as error:
            try:
                kept = storage.store(Path(tempfile.gettempdir()) / "mnistbench", self._name, self.document)
            except MnistbenchError:
                raise error from None
            raise MnistbenchError(f"{error}; all that was measured is in {kept}") from error

    def _write(self) -> Path:
        if self.path is None:
            self.path = storage.store(self._folder, self._name, self.document)
        else:
            write_text(self.path, storage.as_text(self.document))
        return self.path


def _this_process() -> dict[str, float]:
    return {"pid": os.getpid(), "started": psutil.Process().create_time()}


def _running(process: Mapping[str, Any] | None) -> int | None:
    """Return the number of a process of :func:`_this_process` if it still runs, and is not this one."""
    with contextlib.suppress(psutil.Error):
        if process and process["pid"] != os.getpid():
            found = psutil.Process(process["pid"])
            # In a container nobody may wait for what was killed.
            if abs(found.create_time() - process["started"]) < 1 and found.status() != psutil.STATUS_ZOMBIE:
                return int(found.pid)
    return None


def _digest(code: Sequence[str]) -> str:
    """Return a digest of the package's sources and of those in ``code``."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for top in (package, *(package.parent / path for path in code)):
        files = [top] if top.is_file() else sorted(path for path in top.rglob("*") if path.suffix in _SOURCES)
        for path in files:
            digest.update(str(path.relative_to(package.parent)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


_SOURCES = {".py", ".cu", ".cuh"}


def _difference(what: str, old: Any, now: Any) -> str:
    """Describe the first difference of two values, in a few words."""
    if what == "code_sha256":
        return "the code has changed since"
    if isinstance(old, dict) and isinstance(now, dict):
        key = next(key for key in (*old, *now) if old.get(key) != now.get(key))
        return _difference(key, old.get(key), now.get(key))
    return f"{what.replace('_', ' ')} was {old}, and is {now}"
