"""The registry: a backend's name to its class, imported on first use.

Importing this package loads no backend library. Another package adds a backend by an entry point in the group
``mnistbench.backends``, whose name is the backend's and whose value is ``module:Class``.
"""

from __future__ import annotations

import difflib
import importlib
from functools import cache
from importlib.metadata import entry_points

from mnistbench.backends.base import Availability, Backend, Metrics, Trainer
from mnistbench.errors import BackendUnavailable, UnknownBackend

__all__ = ["Availability", "Backend", "Metrics", "Trainer", "available", "get", "names"]

# In the order of tables and charts: from what everybody has to what few have.
_BUILT_IN = {
    "numpy": "mnistbench.backends.numpy:NumpyBackend",
    "numba": "mnistbench.backends.numba:NumbaBackend",
    "cupy": "mnistbench.backends.cupy:CupyBackend",
}


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
    """The backend of that name. Its library is not loaded yet.

    Raises:
        UnknownBackend: there is none of that name.
        BackendUnavailable: another package's module for it cannot be imported.
    """
    registered = _registered()
    if name not in registered:
        close = difflib.get_close_matches(name, registered, n=1)
        hint = f"did you mean {close[0]}?" if close else f"choose from {', '.join(registered)}"
        raise UnknownBackend(f"backend {name!r} does not exist; {hint}")
    module, _, attribute = registered[name].partition(":")
    try:
        backend: Backend = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError) as error:
        raise BackendUnavailable(f"backend {name}: {registered[name]} cannot be imported: {error}") from error
    return backend


def available() -> list[str]:
    """The names of the backends that can run here, in order. Imports every installed backend library."""
    return [name for name in names() if get(name).availability().usable]
