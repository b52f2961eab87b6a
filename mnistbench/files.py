"""Atomic writing of files, of which a reader never sees a part, and the folder of what can be made anew."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from mnistbench.exceptions import MnistbenchError

_LITTER_SECONDS = 3600.0


def cache_folder() -> Path:
    """Return the folder of what was measured or built and can be again.

    ``MNISTBENCH_CACHE_DIR`` names it; by default it is the user's cache folder.
    """
    if named := os.environ.get("MNISTBENCH_CACHE_DIR"):
        return Path(named)
    import platformdirs  # a machine that is told the folder may lack it

    return Path(platformdirs.user_cache_dir("mnistbench", appauthor=False))


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Call ``write`` on a temporary file beside ``path``, flush it to disk, and rename it to ``path``.

    Where ``path`` is a symbolic link, the file that it leads to is written. What exists and is no regular file, such as
    a device, is refused.

    Missing folders are created. Whatever goes wrong, Ctrl-C included, ``path`` holds either its old or its new content
    and the temporary file is removed.

    Raises:
        MnistbenchError: If the folder or the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    _publish(target, write, lambda temporary: bool(temporary.replace(target)))


def create_text(path: Path, text: str) -> bool:
    """Write a file that does not exist yet, as :func:`write_atomically` does; return False if it exists.

    Of several processes that create the same file, one succeeds.

    Raises:
        MnistbenchError: If the folder or the file cannot be written.
    """
    return _publish(path, lambda file: file.write(text.encode()), lambda temporary: _claim(temporary, path))


def _claim(temporary: Path, path: Path) -> bool:
    """Give a file a second name, unless that is taken."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        return False
    except OSError:  # the file system has no hard links
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            return False
        temporary.replace(path)
    return True


def _publish(path: Path, write: Callable[[BinaryIO], object], publish: Callable[[Path], bool]) -> bool:
    """Write a temporary file beside ``path``, and call ``publish`` on it; return what that returns."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        _require_regular(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        return publish(temporary)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_litter(folder: Path, pattern: str) -> None:
    """Remove the temporary files beside the files that match ``pattern``, of processes that were killed while writing.

    A temporary file of the last hour may be one that another process is writing.
    """
    for path in folder.glob(f".{pattern}.*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _LITTER_SECONDS:
                path.unlink()


def require_writable(path: Path) -> None:
    """Check in advance that a file can be written to ``path``, and leave nothing behind.

    Raises:
        MnistbenchError: If the file cannot be written.
    """
    try:
        _require_regular(path)
        target = Path(os.path.realpath(path))
        folder = next(folder for folder in target.parents if folder.exists())
        probe = folder / f".{path.name[:64]}.{secrets.token_hex(4)}.tmp"
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise _unwritable(path, error) from error


def _require_regular(path: Path) -> None:
    """Raise a MnistbenchError if a path exists and is no regular file, and an OSError if its name is too long."""
    if path.is_dir():
        raise MnistbenchError(f"{path}: is a folder; give the name of a file")
    if path.exists() and not path.is_file():
        raise MnistbenchError(f"{path}: is no regular file; give the name of one")


def _unwritable(path: Path, error: OSError) -> MnistbenchError:
    return MnistbenchError(f"{path}: cannot be written: {error.strerror or error}")


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 with :func:`write_atomically`."""
    write_atomically(path, lambda file: file.write(text.encode()))


@contextlib.contextmanager
def locked(path: Path, doing: str, patience: float = 0.0) -> Iterator[None]:
    """Hold a lock that no other process holds at the same time: a file that is there meanwhile.

    The system releases it however the process ends. Where the file system has no locks, nothing is locked.

    Args:
        path: Path of the lock's file; missing folders are created.
        doing: What the other process does, in words, for the error.
        patience: Seconds to wait for another process.

    Raises:
        MnistbenchError: If another process holds it, or the file cannot be written.
    """
    end = time.monotonic() + patience
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while (file := _lock(path)) is None:
            if time.monotonic() >= end:
                raise MnistbenchError(f"{path.parent}: another process {doing}; try again when it has ended")
            time.sleep(0.01)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows removes no open file; without a lock on it, it does no harm
            path.unlink()
        file.close()


def _lock(path: Path) -> BinaryIO | None:
    """Open a file and lock it; return None if another process has locked it, or has just removed it."""
    file = path.open("ab")
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.close()
        return None
    except OSError:  # the file system has no locks
        return file
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(path.stat(), os.fstat(file.fileno())):
            return file
    file.close()
    return None
