"""Atomic writing: all of the new content or all of the old, no other file, and one line for an error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pytest

from mnistbench.exceptions import MnistbenchError
from mnistbench.files import locked, require_writable, write_atomically, write_text


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3), MemoryError()])
def test_an_exception_leaves_the_old_content(tmp_path: Path, old: bytes | None, error: BaseException) -> None:
    path = tmp_path / "model.npz"
    if old is not None:
        path.write_bytes(old)
    before = listing(tmp_path)

    def write(file: BinaryIO) -> None:
        file.write(b"half of the new")
        file.flush()
        assert listing(tmp_path) != before, "written elsewhere first"
        assert (path.read_bytes() if path.exists() else None) == old
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, write)
    assert listing(tmp_path) == before
    assert (path.read_bytes() if path.exists() else None) == old


def test_an_error_of_the_disk_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    path.write_bytes(b"old")

    def write(file: BinaryIO) -> None:
        file.write(b"x")
        raise OSError(28, os.strerror(28))

    with pytest.raises(MnistbenchError) as caught:
        write_atomically(path, write)
    assert str(caught.value) == f"{path}: cannot be written: {os.strerror(28)}"
    assert listing(tmp_path) == ["model.npz"]
    assert path.read_bytes() == b"old"


def test_new_content_replaces_the_old(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "notes.txt"
    write_text(path, "first")
    write_text(path, "größer: 870 µs\n")
    assert path.read_bytes() == "größer: 870 µs\n".encode()
    assert listing(tmp_path) == ["a", "a/b", "a/b/notes.txt"]


@pytest.mark.process
def test_a_killed_process_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    path.write_bytes(b"old")
    code = (
        "import os, signal, sys; from pathlib import Path; from mnistbench.files import write_atomically\n"
        "def write(file): file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomically(Path(sys.argv[1]), write)"
    )
    process = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert process.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"


def test_below_a_file_or_over_a_folder_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "model.npz", tmp_path / "file" / "deeper" / "model.npz", tmp_path / "folder"):
        for attempt in (partial(write_text, path, "x"), partial(require_writable, path)):
            with pytest.raises(MnistbenchError) as caught:
                attempt()
            message = str(caught.value)
            assert message.startswith((f"{path}: cannot be written: ", f"{tmp_path / 'folder'}: "))
            assert message.isprintable()
    assert listing(tmp_path) == ["file", "folder"]
    assert (tmp_path / "file").read_bytes() == b"content"


def test_asking_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    require_writable(path)
    assert listing(tmp_path) == []
    path.write_bytes(b"old")
    require_writable(path)
    assert listing(tmp_path) == ["model.npz"]
    assert path.read_bytes() == b"old"


def test_a_long_name_is_refused_beforehand(tmp_path: Path) -> None:
    """The temporary name would be longer still."""
    with pytest.raises(MnistbenchError, match="cannot be written"):
        require_writable(tmp_path / ("x" * 300))
    assert listing(tmp_path) == []


def test_where_a_link_leads_is_written_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    target, link = tmp_path / "other" / "model.npz", tmp_path / "link.npz"
    link.symlink_to(target)
    for content in ("new", "newer"):
        require_writable(link)
        write_text(link, content)
        assert (target.read_text(encoding="utf-8"), link.is_symlink()) == (content, True)
    assert listing(tmp_path) == ["link.npz", "other", "other/model.npz"]


@pytest.mark.skipif(sys.platform == "win32", reason="no named pipes")
def test_what_is_no_regular_file_is_left(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link):
        for attempt in (partial(write_text, path, "x"), partial(require_writable, path)):
            with pytest.raises(MnistbenchError, match="is no regular file; give the name of one"):
                attempt()
    assert pipe.is_fifo()
    assert listing(tmp_path) == ["link", "pipe"]


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / ".lock"
    for _ in range(2):
        with locked(path, "writes here"):
            assert listing(tmp_path) == ["new", "new/.lock"]
            with (
                pytest.raises(MnistbenchError, match=r"new: another process writes here; try again when it has ended"),
                locked(path, "writes here", patience=0.05),
            ):
                pytest.fail("two hold it")
        assert listing(tmp_path) == ["new"]
    path.touch()  # of a process that was killed
    with locked(path, "writes here"):
        pass


@pytest.mark.process
def test_of_processes_that_lock_a_file_one_at_a_time_changes_it(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from mnistbench.files import locked
folder = Path(sys.argv[1])
for _ in range(100):
    with locked(folder / ".lock", "counts", patience=30):
        (folder / "count").write_text(str(int((folder / "count").read_text()) + 1))
"""
    (tmp_path / "count").write_text("0")
    command = [sys.executable, "-c", program, str(tmp_path)]
    running = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "300"
    assert listing(tmp_path) == ["count"]
