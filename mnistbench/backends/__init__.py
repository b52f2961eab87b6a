"""The registry of backends: a backend's library is loaded when the backend is first asked for, not before.

Another package adds a backend by an entry point in the group ``mnistbench.backends``, whose name is the backend's and
whose value is ``module:Class``.
"""

from __future__ import annotations

import difflib
import importlib
import time
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from mnistbench import words
from mnistbench.backends.base import Arithmetic, Availability, Backend, Description, Metrics, Trainer
from mnistbench.exceptions import BackendUnavailable, MnistbenchError, UnknownBackend, UnsupportedWorkload

if TYPE_CHECKING:
    from mnistbench.task.workload import Workload

__all__ = [
    "Arithmetic",
    "Availability",
    "Backend",
    "Description",
    "Metrics",
    "Trainer",
    "availability",
    "get_backend",
    "import_seconds",
    "is_plain",
    "list_backends",
    "probe_seconds",
    "refuse_unsupported",
]

# In the order of tables and charts, the most widely available first.
_BUILT_IN = {
    "numpy": "mnistbench.backends.numpy:NumpyBackend",
    "numba": "mnistbench.backends.numba:NumbaBackend",
    "numba-plain": "mnistbench.backends.numba.plain:NumbaPlainBackend",
    "cupy": "mnistbench.backends.cupy.backend:CupyBackend",
    "cupy-plain": "mnistbench.backends.cupy.plain:CupyPlainBackend",
    "jax": "mnistbench.backends.jax:JaxBackend",
    "torch": "mnistbench.backends.torch:TorchBackend",
}

# How to install the libraries that are missing, or too old for the others.
_CUPY = "on a machine with an NVIDIA GPU, pip install 'mnistbench[cuda12]' or 'mnistbench[cuda13]'"
_NUMBA = "pip install --upgrade numba"
_INSTALL = {
    "numba": _NUMBA,
    "numba-plain": _NUMBA,
    "cupy": _CUPY,
    "cupy-plain": _CUPY,
    "jax": "pip install 'mnistbench[jax]'",
    "torch": "pip install 'mnistbench[torch]'",
}

_import_seconds: dict[str, float] = {}
_probe_seconds: dict[str, float] = {}


@cache
def _registered() -> dict[str, str]:
    """Map every backend's name to ``module:Class``. Another package cannot take a name of this one."""
    others = {point.name: point.value for point in entry_points(group="mnistbench.backends")}
    return _BUILT_IN | {name: value for name, value in others.items() if name not in _BUILT_IN}


@cache
def _imported(name: str) -> Backend:
    """Return the backend called ``name``, usable or not; the first call loads its library."""
    registered = _registered()
    if name not in registered:
        close = difflib.get_close_matches(name, registered, n=1)
        hint = f"did you mean {close[0]}?" if close else f"choose from {', '.join(registered)}"
        raise UnknownBackend(f"backend {name!r} does not exist; {hint}")
    module, _, attribute = registered[name].partition(":")
    start = time.perf_counter()
    try:
        backend: Backend = getattr(importlib.import_module(module), attribute)()
        _import_seconds[name] = time.perf_counter() - start
    except Exception as error:  # one broken library must not stop the other backends
        fix = None if isinstance(error, MnistbenchError) else _INSTALL.get(name)  # our own message names the remedy
        raise BackendUnavailable(name, words.exception(error), fix) from error
    return backend


def get_backend(name: str) -> Backend:
    """Return the backend called ``name``.

    Raises:
        UnknownBackend: no backend has that name.
        BackendUnavailable: it cannot run here.
    """
    found = availability(name)
    if not found.usable:
        raise BackendUnavailable(name, found.reason or "it is not usable here", found.fix)
    return _imported(name)


def list_backends(*, usable: bool = False) -> list[str]:
    """Return the names of all registered backends, in the order of tables and charts.

    Args:
        usable: list only backends that can run here, which loads every installed backend library.
    """
    return [name for name in _registered() if not usable or availability(name).usable]


def is_plain(name: str) -> bool:
    """Whether the backend called ``name`` is the readable variant of another, by its name."""
    return name.endswith("-plain")


def availability(name: str) -> Availability:
    """Return whether the backend called ``name`` can run here; its library is loaded if it is installed.

    Raises:
        UnknownBackend: no backend has that name.
    """
    try:
        backend = _imported(name)
        start = time.perf_counter()
        found = backend.availability()
        _probe_seconds.setdefault(name, time.perf_counter() - start)
    except BackendUnavailable as error:
        return Availability(usable=False, reason=error.reason, fix=error.fix)
    except UnknownBackend:
        raise
    except Exception as error:
        return Availability(usable=False, reason=words.exception(error))
    return found


def refuse_unsupported(backend: Backend, workload: Workload) -> None:
    """Raise UnsupportedWorkload, naming the option and the backends that implement it, unless ``backend`` does."""
    if (option := backend.unsupported(workload)) is None:
        return
    others = [name for name in list_backends(usable=True) if _imported(name).unsupported(workload) is None]
    by_whom = f"use --backend {' or '.join(others)}" if others else "no backend does"
    raise UnsupportedWorkload(f"backend {backend.name} does not implement {option}; {by_whom}")


def import_seconds(name: str) -> float:
    """Return the seconds that importing the backend, and libraries not yet loaded, took in this process.

    Raises:
        UnknownBackend, BackendUnavailable: the backend cannot be loaded.
    """
    _imported(name)
    return _import_seconds[name]


def probe_seconds(name: str) -> float:
    """Return the seconds that the first :func:`availability` of the backend took; it may create a device context."""
    return _probe_seconds.get(name, 0.0)
