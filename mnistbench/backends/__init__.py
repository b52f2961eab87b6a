"""The registry: a backend's name to its class, imported on first use.

Importing this package loads no backend library, so that a backend costs nothing until it is asked for. Another
package adds a backend by an entry point in the group ``mnistbench.backends``, whose name is the backend's and whose
value is ``module:Class``.

The module is also a function: ``mnistbench.backends()`` says of every backend whether it can run here.
"""

from __future__ import annotations

import difflib
import importlib
import sys
import time
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType

from mnistbench.backends.base import Availability, Backend, Metrics, Trainer
from mnistbench.exceptions import BackendUnavailable, UnknownBackend

__all__ = [
    "Availability",
    "Backend",
    "Metrics",
    "Trainer",
    "availability",
    "available",
    "get",
    "import_seconds",
    "names",
    "probe_seconds",
    "require",
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


def names() -> list[str]:
    """The names of all registered backends, usable here or not."""
    return list(_registered())


@cache
def get(name: str) -> Backend:
    """The backend of that name; its library is loaded by the first call.

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


def import_seconds(name: str) -> float:
    """What the first :func:`get` of that backend took in this process: its libraries, as far as they were not loaded.

    Raises:
        UnknownBackend, BackendUnavailable: as :func:`get`.
    """
    get(name)
    return _import_seconds[name]


def probe_seconds(name: str) -> float:
    """What the first :func:`availability` of that backend took in this process, which may create a device's context."""
    return _probe_seconds.get(name, 0.0)


def availability(name: str) -> Availability:
    """Whether the backend of that name can run here; its library is loaded if it is installed.

    Raises:
        UnknownBackend: there is none of that name.
    """
    try:
        backend = get(name)
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


def available() -> list[str]:
    """The names of the backends that can run here, in order. Loads every installed backend library."""
    return [name for name in names() if availability(name).usable]


def require(name: str) -> Backend:
    """The backend of that name, which can run here.

    Raises:
        UnknownBackend: there is none of that name.
        BackendUnavailable: it cannot run here.
    """
    found = availability(name)
    if not found.usable:
        raise BackendUnavailable(name, found.reason or "it is not usable here", found.fix)
    return get(name)


class _CallableModule(ModuleType):
    """A package and a function of one name: ``mnistbench.backends.get`` and ``mnistbench.backends()``."""

    def __call__(self) -> dict[str, Availability]:
        """Every registered backend's name, and whether it can run here."""
        return {name: availability(name) for name in names()}


sys.modules[__name__].__class__ = _CallableModule
