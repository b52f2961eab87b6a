"""Form of a machine's description."""

from __future__ import annotations

from typing import Any

from mnistbench.results.merging.forms import items, mapping, number, optional, record, require_fields, text, whole

THREADS = whole(1, 1 << 16)
"""Form of a number of threads, or of CPUs."""

VERSIONS = mapping(text(64, least=1), text(100), 64)
"""Form of versions by library."""

_IDENTIFYING = {
    "name": text(120, least=1),
    # These become the folder's name, for which 255 characters are allowed.
    **{"vendor": text(32, least=1), "microarchitecture": text(64), "gpu": optional(text(80))},
    **dict.fromkeys(("cpu", "model"), text(120)),
    "instruction_sets": items(text(32), 64),
    "usable_cpus": THREADS,
    "memory_gib": number(0, 1 << 30),
    "hypervisor": optional(text(120)),
}
_MACHINE = record(
    {"name": text(120, least=1)},
    {**_IDENTIFYING, **dict.fromkeys(("architecture", "system", "kernel"), text(120)), "versions": VERSIONS},
)


def machine(value: Any, where: str) -> None:
    """Raise a RowError unless a value describes a machine: by all that tells it apart, or as of old by its name."""
    _MACHINE(value, where)
    if "microarchitecture" in value:
        require_fields(value, where, _IDENTIFYING, value)
