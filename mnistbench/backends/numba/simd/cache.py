"""How the kernels are compiled, and a disk cache that knows when they have changed.

Numba's cache stores the machine code of a function with the date of the one file the function is in. The kernels
are spread over files, and machine code contains all that it calls: after an edit of ``vector.py``, Numba would go
on running the old code. Machine code also contains the values of the constants that it uses, of the reference and the
task too. Here it is stored with a digest of every source file that it can come from. Numba itself adds its version, the
CPU and the types to the key.

The folder is Numba's choice: ``NUMBA_CACHE_DIR``, else ``__pycache__`` beside the source, else the user's cache.
The cache only ever saves time: whatever goes wrong with it, the kernel is compiled.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile

Function = TypeVar("Function", bound=Callable[..., Any])


SOURCES = "backends/numba", "reference", "task"
"""The folders of the package that machine code can come from: a kernel's module imports no others of the package."""


@functools.cache
def _digest() -> str:
    """A digest of the source files in ``SOURCES``."""
    digest = hashlib.sha256()
    package = Path(__file__).parents[3]
    for path in sorted(path for folder in SOURCES for path in (package / folder).rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


class _SourceCache(FunctionCache):  # type: ignore[misc]
    """Numba's cache of a function, with a digest of the sources in place of the date of one file."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = IndexDataCacheFile(self._cache_path, self._impl.filename_base, _digest())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The stored machine code for a signature, or None."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a damaged index, or one that names classes which are gone: start a new one
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Store machine code, if the folder can be written and the disk is not full."""
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)


def kernel(function: Function) -> Function:
    """Compile ``function`` where another kernel calls it.

    It releases the interpreter's lock, and divides by zero as IEEE 754 does, without a test.
    """
    compiled: Function = numba.njit(nogil=True, error_model="numpy")(function)
    return compiled


def reassociating_kernel(function: Function) -> Function:
    """A kernel whose sums LLVM may do in any order: for choices where a last bit does not matter."""
    compiled: Function = numba.njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})(function)
    return compiled


def entry_point(function: Function) -> Function:
    """A kernel that Python calls: its machine code, with all that it calls, is kept on disk."""
    compiled: Any = kernel(function)
    with contextlib.suppress(RuntimeError, OSError):  # no folder can be written
        compiled._cache = _SourceCache(function)
    result: Function = compiled
    return result
