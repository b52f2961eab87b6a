"""Storing: a row is on disk when it is known, no run takes another's place, and what was cut off is resumed."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import pytest

from mnistbench import machine
from mnistbench.exceptions import MnistbenchError
from mnistbench.results import runs, storage
from tests.support.rows import document, row

pytest.importorskip("pytest_benchmark")

OPTIONS = {"command": "pytest benchmarks/", "rounds": 7}
KILLS = int(os.environ.get("MNISTBENCH_KILLS", "20"))
"""How many processes are killed."""


def entry(backend: str = "numpy", dtype: str = "float64", **changes: Any) -> dict[str, Any]:
    return runs.entry(row(backend, dtype, 1.0, **changes))


def begun(folder: Path, **options: Any) -> runs.Run:
    return runs.Run(folder, "classic", OPTIONS | options)


def cut_off(folder: Path, *entries: dict[str, Any], **changes: Any) -> Path:
    """A run of a process that has ended."""
    run = begun(folder)
    run.document["process"] = {"pid": 2**22 + 1, "started": 0.0}
    run.document |= changes
    for one in entries:
        run.add(one)
    assert run.path is not None
    return run.path


def stored(path: Path) -> list[tuple[str, str]]:
    return [(row.backend, row.dtype) for row in storage.load(path.parent) if row.origin.file == path.name]


def test_a_row_is_on_disk_when_it_is_known(tmp_path: Path) -> None:
    run = begun(tmp_path / "machine")
    assert not (tmp_path / "machine").exists(), "a run without rows leaves nothing"
    run.add(entry("numpy"))
    assert run.path is not None
    assert stored(run.path) == [("numpy", "float64")]
    assert json.loads(run.path.read_text(encoding="utf-8"))["finished"] is False
    run.add(entry("numba"))
    assert stored(run.path) == [("numpy", "float64"), ("numba", "float64")]
    assert run.finish() == run.path
    assert json.loads(run.path.read_text(encoding="utf-8"))["finished"] is True
    assert '"process"' not in run.path.read_text(encoding="utf-8")
    assert [*run.path.parent.iterdir()] == [run.path]


def test_a_run_is_resumed(tmp_path: Path) -> None:
    path = cut_off(tmp_path, entry("numpy"), entry("numba", problem="too fast"))
    run = runs.Run.resume(tmp_path, "classic", OPTIONS)
    assert json.loads(path.read_text(encoding="utf-8"))["process"]["pid"] == os.getpid(), "no other resumes it now"
    assert list(run.measured()) == ["numpy-float64"], "what is no result is measured again"
    run.add(entry("numba"))
    assert run.finish() == path
    assert [row.validated for row in storage.load(tmp_path)] == [True, True]
    with pytest.raises(MnistbenchError, match=r"holds no unfinished run of classic; leave out --resume$"):
        runs.Run.resume(tmp_path, "classic", OPTIONS)


def test_the_last_unfinished_run_of_the_workload_is_resumed(tmp_path: Path) -> None:
    storage.store(tmp_path, "classic_0123456", document())
    path = cut_off(tmp_path, entry())
    storage.store(tmp_path, "classic_0123456", document(row("numba", "float32", 1.0)))
    storage.store(tmp_path, "smoke_0123456", document() | {"finished": False})
    cut_off(tmp_path, entry(), options={"command": "compare", "rounds": 7})
    (tmp_path / "0009_classic_0123456.json").write_text("{", encoding="utf-8")
    assert runs.Run.resume(tmp_path, "classic", OPTIONS).path == path


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"options": OPTIONS | {"rounds": None}}, "rounds was None, and is 7"),
        ({"code_sha256": "0"}, "the code has changed since"),
        ({"commit_info": {"id": "0123456789", "dirty": False}}, "it is of commit 0123456"),
        ({"machine_info": machine.describe() | {"memory_gib": 0, "versions": machine.versions()}}, "memory gib was 0"),
        ({"machine_info": machine.describe() | {"versions": machine.versions() | {"numpy": "1"}}}, "numpy was 1, and"),
        ({"process": {"pid": os.getppid(), "started": psutil.Process(os.getppid()).create_time()}}, "still measures"),
    ],
)
def test_what_has_changed_is_not_resumed(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    path = cut_off(tmp_path, entry(), **changes)
    before = path.read_text(encoding="utf-8")
    with pytest.raises(MnistbenchError) as caught:
        runs.Run.resume(tmp_path, "classic", OPTIONS)
    message = str(caught.value)
    assert message.startswith(f"{path}: cannot be resumed: ")
    assert reason in message
    assert "\n" not in message
    assert path.read_text(encoding="utf-8") == before


def test_two_processes_do_not_resume_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even before the first of them has measured anything."""
    cut_off(tmp_path, entry())
    runs.Run.resume(tmp_path, "classic", OPTIONS)
    here = os.getpid()
    monkeypatch.setattr(os, "getpid", os.getppid)
    with pytest.raises(MnistbenchError, match=f"cannot be resumed: process {here} still measures"):
        runs.Run.resume(tmp_path, "classic", OPTIONS)


@pytest.mark.process
@pytest.mark.skipif(os.name != "posix", reason="needs processes that nobody has waited for")
def test_a_killed_process_that_nobody_has_waited_for_measures_no_more(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        found = psutil.Process(process.pid)
        cut_off(tmp_path, entry(), process={"pid": process.pid, "started": found.create_time()})
        process.kill()
        while found.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        runs.Run.resume(tmp_path, "classic", OPTIONS)


def full_disk(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """Let no file grow in these folders."""
    fsync = os.fsync

    def full(descriptor: int) -> None:
        if any(Path(f"/proc/self/fd/{descriptor}").readlink().is_relative_to(folder) for folder in folders):
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_on_a_full_disk_what_was_measured_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, temporary = tmp_path / "results", tmp_path / "temporary"
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    run = begun(results)
    run.add(entry("numpy"))
    with monkeypatch.context() as patch:
        full_disk(patch, results)
        with pytest.raises(MnistbenchError, match=r"cannot be written: No space left on device$"):
            run.add(entry("numba"))
        assert run.path is not None
        assert stored(run.path) == [("numpy", "float64")], "the file is the last good one"
        assert [row.backend for row in run.rows()] == ["numpy", "numba"]
        with pytest.raises(MnistbenchError, match="No space left on device; all that was measured is in ") as caught:
            run.finish()
        kept = Path(str(caught.value).rpartition(" is in ")[2])
        assert stored(kept) == [("numpy", "float64"), ("numba", "float64")]
        full_disk(patch, results, temporary)
        with pytest.raises(MnistbenchError, match=r"No space left on device$"):
            run.save()
    assert run.save() == run.path, "there is space again"
    assert stored(run.path) == [("numpy", "float64"), ("numba", "float64")]
    assert [*results.iterdir()] == [run.path]


def in_processes(count: int, target: Callable[..., None], *arguments: Any) -> None:
    """Call a function in many processes at once, with the number of each."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=target, args=(number, *arguments)) for number in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert {process.exitcode for process in processes} == {0}


FORKS = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")


def _store_some(number: int, folder: Path) -> None:
    for time_ in range(5):
        # Half of the names are the same for all processes.
        name = f"classic_{number}" if time_ % 2 else "classic_same"
        storage.store(folder, name, document(row("numpy", "float64", 1.0 + number)))


@FORKS
@pytest.mark.process
def test_no_two_runs_get_the_same_number(tmp_path: Path) -> None:
    in_processes(12, _store_some, tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 60, "none took another's place"
    assert len({name[:4] for name in names}) == 60
    assert sorted(row.samples[0] for row in storage.load(tmp_path)) == sorted(
        1.0 + k for k in range(12) for _ in range(5)
    )


@FORKS
@pytest.mark.process
def test_without_hard_links_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(self: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", none)
    in_processes(12, _store_some, tmp_path)
    assert len({path.name[:4] for path in tmp_path.iterdir()}) == 60


def _measure_forever(folder: Path, pipe: Connection) -> None:
    run = begun(folder)
    for number in range(10**6):
        run.add(entry("numpy", name=str(number)) | {"param": str(number)})
        pipe.send(number)


@FORKS
@pytest.mark.process
def test_a_killed_run_loses_at_most_the_row_in_progress(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for kill in range(KILLS):
        folder = tmp_path / str(kill)
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_measure_forever, args=(folder, theirs))
        process.start()
        theirs.close()
        assert ours.poll(60), "no row was stored"
        time.sleep(random.uniform(0, 0.1))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        said = -1
        while ours.poll():
            try:
                said = ours.recv()
            except EOFError:
                break
        rows = storage.load(folder)
        assert len(rows) in (said + 1, said + 2)
        run = runs.Run.resume(folder, "classic", OPTIONS)
        assert len(run.measured()) == len(rows)
        run.finish()
        assert len([*folder.glob("*.json")]) == 1


def test_litter_of_killed_processes_is_removed_when_it_is_old(tmp_path: Path) -> None:
    old, new = tmp_path / ".0001_classic_0.json.aaaaaaaa.tmp", tmp_path / ".0001_classic_0.json.bbbbbbbb.tmp"
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    storage.store(tmp_path, "classic_0123456", document())
    assert not old.exists()
    assert new.exists(), "another process may be writing it"


def test_a_file_that_vanishes_while_the_folder_is_read_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.store(tmp_path, "classic_0123456", document(row("numpy", "float64", 1.0)))
    glob = Path.glob
    gone = tmp_path / "0002_classic_0123456.json"
    monkeypatch.setattr(Path, "glob", lambda self, pattern: [*glob(self, pattern), gone])
    assert len(storage.load(tmp_path)) == 1
