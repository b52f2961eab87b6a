"""What the machine can do at best: the rates that no computation on it can exceed, measured once and kept.

Measured and not looked up: the clock under load, and how many cores and how much of a shared cache there really are,
differ from a data sheet. A matrix product alone would not do, because a BLAS library that chose the wrong kernel would
set the limit; its rate is a limit of its own, of what NumPy can do here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import platformdirs

from mnistbench import machine
from mnistbench.exceptions import MnistbenchError
from mnistbench.files import write_text
from mnistbench.machine import probes
from mnistbench.machine.rates import GpuLimits, Level, Limits
from mnistbench.task.workload import DTYPES
from mnistbench.threads import resolve, usable_cpus

METHOD = 1
"""Raised when the same machine would be measured to be another."""

_SECONDS = 4.0
_PRODUCT_SECONDS = 0.5

_LIBRARIES = ("numpy", "numba", "llvmlite", "cupy", "cupy-cuda12x", "cupy-cuda13x")
"""Those that measure."""

_known: dict[Path, Limits] = {}
"""What this process has measured or read, by the file it is kept in."""


def limits(threads: int | None = None, again: bool = False) -> Limits:
    """The limits for so many threads, None for all CPUs: those kept, or measured now and kept.

    A file that is damaged is measured anew. Where none can be written, only this process keeps the limits; so it does
    with a measurement that other processes disturbed, if it has no other.

    Args:
        threads: of the CPU.
        again: measure now in any case.

    Raises:
        OptionError: fewer than 1 thread.
    """
    count = resolve(threads)
    key = _key(count)
    path = _path(key)
    kept = _known.get(path) or _read(path, key)
    found = measure(count) if again or kept is None else kept
    if found is not kept and not found.disturbed:
        with contextlib.suppress(MnistbenchError):
            write_text(path, json.dumps({"key": key, "limits": found.as_dict()}, indent=1) + "\n")
    _known[path] = kept if kept is not None and found.disturbed else found
    return found


def file_for(threads: int | None) -> Path:
    """The file in which the limits for so many threads are kept, in the folder that ``MNISTBENCH_CACHE_DIR`` names,
    else in the user's cache folder. One for each machine, BLAS kernel, and version of what measures."""
    return _path(_key(resolve(threads)))


def _path(key: dict[str, Any]) -> Path:
    folder = os.environ.get("MNISTBENCH_CACHE_DIR") or platformdirs.user_cache_dir("mnistbench", appauthor=False)
    cpu = re.sub(r"[^a-z0-9]+", "-", key["cpu"].lower()).strip("-")
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
    return Path(folder) / f"limits-{cpu[:80]}-{key['threads']}-threads-{digest}.json"


def _key(threads: int) -> dict[str, Any]:
    """What the limits depend on."""
    versions = machine.versions()
    return {
        "method": METHOD,
        "cpu": machine.cpu_name(),
        "caches": [asdict(cache) for cache in machine.caches()],
        "usable_cpus": usable_cpus(),
        "threads": threads,
        "gpu": machine.gpu_name(),
        "blas": str(probes.blas()),
        "versions": {name: versions[name] for name in _LIBRARIES if name in versions},
    }


def _read(path: Path, key: dict[str, Any]) -> Limits | None:
    """The limits that are kept there, if they are of this machine and nothing is wrong with the file."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return Limits.from_dict(document["limits"]) if document["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def measure(threads: int) -> Limits:
    """Measure the limits for so many threads, in some six seconds, and two more the first time for compiling.

    Three times as long where other processes are in the way.
    """
    places = probes.places(threads)
    reading = {place.name: probes.reading(place.working_set, threads) for place in places}
    best = probes.best_rates({**probes.arithmetic(threads), **reading}, threads, _SECONDS)
    product: dict[str, probes.Rate] = {}
    for dtype in DTYPES:
        product |= probes.best_rates({dtype: probes.product(dtype, threads)}, 1, _PRODUCT_SECONDS, busy=threads)
    return Limits(
        multiply_add={dtype: best[dtype].value for dtype in DTYPES if dtype in best},
        levels=tuple(Level(place.name, place.holds, best[place.name].value) for place in places),
        threads=threads,
        product={dtype: rate.value for dtype, rate in product.items()},
        blas=probes.blas(),
        gpu=_gpu(),
        cpu_share=min(rate.share for rate in (*best.values(), *product.values())),
    )


def _gpu() -> GpuLimits | None:
    """The limits of the GPU, where the driver knows one and CuPy can use it."""
    if machine.gpu_name() is None:
        return None
    try:
        from mnistbench.machine import gpu

        return gpu.measure()
    except Exception:  # no CuPy, or one that cannot run here: its errors have no base class of their own
        return None
