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
from numba.core.options import DefaultOptions

Function = TypeVar("Function", bound=Callable[..., Any])

SOURCES = "backends/numba", "backends/similarity", "reference", "task"
"""Folders and modules that machine code can come from. Modules of kernels import nothing else of the package."""


@functools.cache
def _digest() -> str:
    """Return a digest of the source files in ``SOURCES``."""
    digest = hashlib.sha256()
    package = Path(__file__).parents[3]
    sources = [package / source for source in SOURCES]
    modules = [module for source in sources if (module := source.with_suffix(".py")).is_file()]
    for path in sorted([*modules, *(path for source in sources for path in source.rglob("*.py"))]):
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


_LEAN = {"no_cfunc_wrapper": True, "_nrt": False}
"""Numba's private options for less to compile: no wrapper for C, and no reference counts, so no function may allocate
an array."""

_INNER = _LEAN | {"no_cpython_wrapper": True}
"""Options for a function that only compiled code calls: no wrapper for Python either. The wrappers of such functions
took longer to compile than the functions themselves."""


def known(private: dict[str, bool]) -> dict[str, bool]:
    """Return those of Numba's private options that its version has; without them, compiling takes longer."""
    return {name: value for name, value in private.items() if hasattr(DefaultOptions, name)}


def compiler() -> dict[str, Any]:
    """Return the option that compiles inner functions once; without it, compiling takes longer."""
    try:
        from mnistbench.backends.numba.simd import inner
    except ImportError:  # another version of Numba has its private parts elsewhere
        return {}
    return {"pipeline_class": inner.InnerCompiler} if inner.is_supported() else {}


def _compiled(function: Function, **options: Any) -> Function:
    """Compile a function without the GIL, with division by zero as in IEEE 754."""
    compiled: Function = numba.njit(nogil=True, error_model="numpy", **options)(function)
    return compiled


def _inner(function: Function, **options: Any) -> Function:
    """Compile a function that only compiled code calls. A call from Python, which would crash, raises TypeError."""
    compiled: Any = _compiled(function, **options, **known(_INNER), **compiler())

    def refuse(*_: object, **__: object) -> None:
        raise TypeError(f"{compiled.py_func.__name__} can be called by compiled code only")

    compiled._insert, compiled._compile_for_args = lambda *_, **__: None, refuse
    return compiled  # type: ignore[no-any-return]


def kernel(function: Function) -> Function:
    """Compile a function that other kernels call."""
    return _inner(function)


def reassociating_kernel(function: Function) -> Function:
    """Compile a kernel whose sums LLVM may reorder, for decisions that do not depend on the last bit."""
    return _inner(function, fastmath={"reassoc", "contract", "nsz"})


def entry_point(function: Function) -> Function:
    """Compile a function that Python calls, and keep its machine code, callees included, on disk."""
    compiled = _compiled(function, **known(_LEAN))
    with contextlib.suppress(RuntimeError, OSError):  # no folder can be written
        compiled._cache = _SourceCache(function)  # type: ignore[attr-defined]
    return compiled
