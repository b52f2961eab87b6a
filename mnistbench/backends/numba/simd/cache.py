"""The decorators that compile kernels, and a disk cache that is invalidated by an edit of any of their sources.

Numba's own cache is keyed on the date of the one file that a function is in. But machine code also contains all inlined
callees and constants, some of them from the reference and the task, so an edit elsewhere would leave stale code in use.
This cache is keyed on a digest of all those sources; Numba adds its version, the CPU and the argument types.

Numba chooses the folder: ``NUMBA_CACHE_DIR``, else ``__pycache__`` beside the source, else the user's cache. Without a
usable cache, kernels are compiled in every process.
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
"""Folders of the package that machine code can come from. Modules of kernels import nothing else of the package."""


@functools.cache
def _digest() -> str:
    """Return a digest of the source files in ``SOURCES``."""
    digest = hashlib.sha256()
    package = Path(__file__).parents[3]
    for path in sorted(path for folder in SOURCES for path in (package / folder).rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


class _SourceCache(FunctionCache):  # type: ignore[misc]
    """Numba's cache of a function, keyed on the digest of the sources instead of the date of one file."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = IndexDataCacheFile(self._cache_path, self._impl.filename_base, _digest())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the stored machine code for a signature, or None."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # the index is damaged or names classes that no longer exist: start a new one
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Store machine code; does nothing where the folder cannot be written or the disk is full."""
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)


def kernel(function: Function) -> Function:
    """Compile a function for other kernels to call: without the GIL, division by zero as in IEEE 754."""
    compiled: Function = numba.njit(nogil=True, error_model="numpy")(function)
    return compiled


def reassociating_kernel(function: Function) -> Function:
    """Compile a kernel whose sums LLVM may reorder, for decisions that do not depend on the last bit."""
    compiled: Function = numba.njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})(function)
    return compiled


def entry_point(function: Function) -> Function:
    """Compile a kernel for Python to call, and keep its machine code, callees included, on disk."""
    compiled = kernel(function)
    with contextlib.suppress(RuntimeError, OSError):  # no folder can be written
        compiled._cache = _SourceCache(function)  # type: ignore[attr-defined]
    return compiled
