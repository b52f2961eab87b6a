"""Limits of the machine: rates that no computation on it can exceed, measured once and stored.

They are measured because data sheets do not tell the clock under load, nor how many cores and how much of a shared
cache are really available. A matrix product does not set the multiply-add limit, because the BLAS library may have
chosen the wrong kernel; its rate is stored as a limit of its own, that of NumPy.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mnistbench import machine
from mnistbench.exceptions import MnistbenchError
from mnistbench.files import cache_folder, write_text
from mnistbench.machine import probes
from mnistbench.machine.rates import GpuLimits, Level, Limits
from mnistbench.task.workload import DTYPES
from mnistbench.threads import resolve

METHOD = 2
"""Version of the method; incremented whenever the same machine would give other limits."""

_SECONDS = 4.0
_PRODUCT_SECONDS = 0.5

_LIBRARIES = ("numpy", "numba", "llvmlite", "cupy", "cupy-cuda12x", "cupy-cuda13x")
"""Libraries that take the measurements."""

_known: dict[Path, Limits] = {}
"""Limits that this process has measured or read, by the file that stores them."""


def limits(threads: int | None = None, again: bool = False) -> Limits:
    """Return the stored limits for ``threads`` threads, or measure and store them.

    A damaged file is replaced by a new measurement. If the file cannot be written, the limits stay in this process
    only. A measurement that other processes disturbed is never stored, and this process uses it only if there is no
    other. Without a GPU's limits where CuPy could measure them, it is not stored either.

    Args:
        threads: Number of CPU threads; None for all usable CPUs.
        again: Whether to measure even if limits are stored.

    Raises:
        OptionError: If ``threads`` is less than 1.
    """
    count = resolve(threads)
    key = _key(count)
    path = _path(key)
    kept = _known.get(path) or _read(path, key)
    found = measure(count) if again or kept is None else kept
    if found is not kept and not found.disturbed and not _lacks_gpu(found):
        with contextlib.suppress(MnistbenchError):
            write_text(path, json.dumps({"key": key, "limits": found.as_dict()}, indent=1) + "\n")
    _known[path] = kept if kept is not None and found.disturbed else found
    return found


def file_for(threads: int | None) -> Path:
    """Return the file that stores the limits for ``threads`` threads.

    It lies in :func:`cache_folder`. There is one file for each machine, number of threads, BLAS kernel, and set of
    versions of the measuring libraries.
    """
    return _path(_key(resolve(threads)))


def _path(key: dict[str, Any]) -> Path:
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
    return cache_folder() / f"limits-{machine.folder_name()[:80]}-{key['threads']}-threads-{digest}.json"


def _key(threads: int) -> dict[str, Any]:
    """Return everything that the limits depend on."""
    versions = machine.versions()
    if probes.compiled_loops() is None:
        versions = {name: version for name, version in versions.items() if name not in ("numba", "llvmlite")}
    return {
        "method": METHOD,
        "machine": machine.this().facts,
        "caches": [asdict(cache) for cache in machine.caches()],
        "threads": threads,
        "blas": str(probes.blas()),
        "versions": {name: versions[name] for name in _LIBRARIES if name in versions},
    }


def _read(path: Path, key: dict[str, Any]) -> Limits | None:
    """Read stored limits; None if the file is missing, damaged, or of another machine."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return Limits.from_dict(document["limits"]) if document["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def measure(threads: int) -> Limits:
    """Measure the limits for ``threads`` threads.

    This takes about six seconds, two more the first time for compilation, and up to three times as long if other
    processes use the CPUs.
    """
    places = probes.places(threads)
    reading = {place.name: probes.reading(place.working_set, threads) for place in places}
    arithmetic = probes.arithmetic(threads)
    together: dict[Any, probes.Probe] = {**arithmetic, **reading}
    best = probes.best_rates(together, threads, _SECONDS)
    peaks: dict[str, float] = {}
    for dtype, width in arithmetic:
        peaks[dtype] = max(peaks.get(dtype, 0.0), best[dtype, width].value)
    product: dict[str, probes.Rate] = {}
    for dtype in DTYPES:
        product |= probes.best_rates({dtype: probes.product(dtype, threads)}, 1, _PRODUCT_SECONDS, busy=threads)
    return Limits(
        multiply_add=peaks,
        levels=tuple(Level(place.name, place.holds, best[place.name].value) for place in places),
        threads=threads,
        product={dtype: rate.value for dtype, rate in product.items()},
        blas=probes.blas(),
        gpu=_gpu(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        cpu_share=min(rate.share for rate in (*best.values(), *product.values())),
    )


def _lacks_gpu(found: Limits) -> bool:
    """Whether a GPU that CuPy should be able to measure was not: its next rows must not go without a bound."""
    return found.gpu is None and machine.gpu_name() is not None and importlib.util.find_spec("cupy") is not None


def _gpu() -> GpuLimits | None:
    """Measure the limits of the GPU; None if there is none that CuPy can use."""
    if machine.gpu_name() is None:
        return None
    try:
        from mnistbench.machine import gpu

        return gpu.measure()
    except Exception:  # CuPy is missing or cannot run here; its errors have no common base class
        return None
