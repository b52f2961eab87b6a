"""The registry: a backend's name to its class, imported on first use.

Importing this package loads no backend library, so that a backend costs nothing until it is asked for. Another
package adds a backend by an entry point in the group ``mnistbench.backends``, whose name is the backend's and whose
value is ``module:Class``.
"""

from __future__ import annotations

import difflib
import importlib
import time
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from mnistbench.backends.base import Availability, Backend, Description, Metrics, Trainer
from mnistbench.exceptions import BackendUnavailable, UnknownBackend, UnsupportedWorkload

if TYPE_CHECKING:
    from mnistbench.task.workload import Workload

__all__ = [
    "Availability",
    "Backend",
    "Description",
    "Metrics",
    "Trainer",
    "availability",
    "get_backend",
    "import_seconds",
    "list_backends",
    "probe_seconds",
    "refuse_unsupported",
]

# In the order of tables and charts: from what everybody has to what few have.
_BUILT_IN = {
    "numpy": "mnistbench.backends.numpy:NumpyBackend",
    "numba": "mnistbench.backends.numba:NumbaBackend",
    "numba-plain": "mnistbench.backends.numba.plain:NumbaPlainBackend",
    "cupy": "mnistbench.backends.cupy.backend:CupyBackend",
    "cupy-plain": "mnistbench.backends.cupy.plain:CupyPlainBackend",
    "jax": "mnistbench.backends.jax:JaxBackend",
    "torch": "mnistbench.backends.torch:TorchBackend",
}

# How to get the library of a backend that is not installed with the package.
_CUPY = "on a machine with an NVIDIA GPU, pip install 'mnistbench[cuda12]' or 'mnistbench[cuda13]'"
_INSTALL = {
    "cupy": _CUPY,
    "cupy-plain": _CUPY,
    "jax": "pip install 'mnistbench[jax]'",
    "torch": "pip install 'mnistbench[torch]'",
}

_import_seconds: dict[str, float] = {}
_probe_seconds: dict[str, float] = {}


@cache
def _registered() -> dict[str, str]:
    """Every backend's name and where its class is; a name of this package cannot be taken by another."""
    others = {point.name: point.value for point in entry_points(group="mnistbench.backends")}
    return _BUILT_IN | {name: value for name, value in others.items() if name not in _BUILT_IN}


@cache
def _imported(name: str) -> Backend:
    """The backend of that name, usable or not; the first call loads its library.

    Raises:
        UnknownBackend: there is none of that name.
        BackendUnavailable: its library is not installed, or cannot be loaded.
    """
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
    except Exception as error:  # whatever goes wrong in a library that is being loaded, the others still work
        raise BackendUnavailable(name, _one_line(error), _INSTALL.get(name)) from error
    return backend


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, ImportError) else f"{type(error).__name__}: {text}"


def get_backend(name: str) -> Backend:
    """Return the backend of that name, which can run here.

    Raises:
        UnknownBackend: there is none of that name.
        BackendUnavailable: it cannot run here.
    """
    found = availability(name)
    if not found.usable:
        raise BackendUnavailable(name, found.reason or "it is not usable here", found.fix)
    return _imported(name)


def list_backends(*, usable: bool = False) -> list[str]:
    """Return the names of all registered backends, in the order of tables and charts.

    Args:
        usable: only those that can run here, which loads every installed backend library.
    """
    return [name for name in _registered() if not usable or availability(name).usable]


def availability(name: str) -> Availability:
    """Say whether the backend of that name can run here; its library is loaded if it is installed.

    Raises:
        UnknownBackend: there is none of that name.
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
        return Availability(usable=False, reason=_one_line(error))
    return found


def refuse_unsupported(backend: Backend, workload: Workload) -> None:
    """Refuse a workload that a backend does not implement.

    Raises:
        UnsupportedWorkload: naming the option and the backends that do implement it.
    """
    if (option := backend.unsupported(workload)) is None:
        return
    others = [name for name in list_backends(usable=True) if _imported(name).unsupported(workload) is None]
    by_whom = f"use --backend {' or '.join(others)}" if others else "no backend does"
    raise UnsupportedWorkload(f"backend {backend.name} does not implement {option}; {by_whom}")


def import_seconds(name: str) -> float:
    """Return how long loading the backend took in this process: its libraries, as far as they were not loaded.

    Raises:
        UnknownBackend, BackendUnavailable: it cannot be loaded.
    """
    _imported(name)
    return _import_seconds[name]


def probe_seconds(name: str) -> float:
    """Return how long the first :func:`availability` of the backend took, which may create a device's context."""
    return _probe_seconds.get(name, 0.0)
