"""Probes of a CPU's limits: rounds with a known amount of work, of which the fastest counts.

A disturbance can only make a round slower, so the fastest of many counts. Rounds are spread over seconds, and those of
different limits are interleaved, so only a disturbance that lasts for the whole measurement can lower a limit.
"""

from __future__ import annotations

import importlib
import platform
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from mnistbench import machine
from mnistbench.machine.rates import QUIET, Blas
from mnistbench.task.workload import DTYPES, DType
from mnistbench.threads import usable_cpus

_ROUND = 0.01
"""Least seconds per round, reached by doubling its work; starting the threads takes less than 1 % of that."""

_STEPS = 10_000
"""Multiply-adds per chain in a unit of work: about 10 µs."""

_PRODUCT_SIZE = 2048
"""Rows and columns of the matrices. A product of 17 GFLOP takes half a second on a slow processor, and is large enough
for a fast one."""

_LARGEST = 1 << 30
"""Bytes read to measure memory, at most."""


K = TypeVar("K")


class Probe(NamedTuple):
    """Work whose rate is measured.

    Attributes:
        work: Function of a thread's number and a number of units, which does that many units of work in the thread.
        amount: Size of a unit over all threads, in floating-point operations or bytes.
    """

    work: Callable[[int, int], object]
    amount: float


class Rate(NamedTuple):
    """Best rate of a probe.

    Attributes:
        value: Floating-point operations or bytes per second.
        share: Fraction of the wanted CPU time that the threads of that round got.
    """

    value: float
    share: float


def best_rates(probes: Mapping[K, Probe], threads: int, seconds: float, busy: int | None = None) -> dict[K, Rate]:
    """Measure the best rate of each probe in interleaved rounds, at least one of each.

    Measuring goes on for up to ``3 * seconds`` while the best round of some probe had to share the CPUs with other
    processes.

    Args:
        probes: Probes, each under a key of its own.
        threads: Number of threads that do the work.
        seconds: Time for all probes together.
        busy: Number of threads that compute, if the work itself starts threads; ``threads`` by default.
    """
    wanted = min(busy or threads, usable_cpus())
    with ThreadPoolExecutor(threads) as pool:
        units = dict.fromkeys(probes, 1)
        best = dict.fromkeys(probes, Rate(0.0, 0.0))
        for probe in probes.values():
            _round(pool, probe, threads, 1)  # compiles the loop and fetches its data
        start = time.perf_counter()
        while True:
            for name, probe in probes.items():
                took, cpu = _round(pool, probe, threads, units[name])
                best[name] = max(best[name], Rate(probe.amount * units[name] / took, cpu / (took * wanted)))
                if took < _ROUND:
                    units[name] *= 2
            spent = time.perf_counter() - start
            quiet = all(rate.share >= QUIET for rate in best.values())
            if spent >= (seconds if quiet else 3 * seconds):
                return best


def _round(pool: ThreadPoolExecutor, probe: Probe, threads: int, units: int) -> tuple[float, float]:
    """Run one round in all threads; return its seconds and the CPU seconds of the process."""
    start, cpu = time.perf_counter(), time.process_time()
    for done in [pool.submit(probe.work, thread, units) for thread in range(threads)]:
        done.result()
    return time.perf_counter() - start, time.process_time() - cpu


@cache
def compiled_loops() -> Any:
    """Return the module :mod:`mnistbench.machine.kernels`, or None if Numba cannot compile it here."""
    try:
        import numba

        return None if numba.config.DISABLE_JIT else importlib.import_module("mnistbench.machine.kernels")
    except Exception:  # a missing or damaged library; its errors have no common base class
        return None


def arithmetic(threads: int) -> dict[tuple[DType, int], Probe]:
    """Return a probe of multiply-adds in registers for each dtype and width of vectors in bytes.

    Empty without Numba, and where multiply-adds are not the limit: without fused multiply-adds, and on CPUs other than
    x86-64, which may have faster matrix units.
    """
    kernels = compiled_loops()
    if kernels is None or platform.machine().lower() not in ("x86_64", "amd64") or not kernels.has_multiply_add():
        return {}
    return {
        (dtype, width): _chains(kernels, dtype, width, threads) for dtype in DTYPES for width in kernels.vector_widths()
    }


def _chains(kernels: Any, dtype: DType, width: int, threads: int) -> Probe:
    value, run = np.dtype(dtype).type(0.5), kernels.chains(width)
    flops = 2 * kernels.CHAINS * (width // value.itemsize) * _STEPS
    return Probe(lambda thread, units: run(value, units * _STEPS), flops * threads)


class Place(NamedTuple):
    """A level of the memory hierarchy and the working set that measures it.

    Attributes:
        name: "L2", "L3" or "memory".
        holds: Bytes in all caches of this level that the threads can use; None for memory.
        working_set: Bytes, of all threads together, that are read repeatedly.
    """

    name: str
    holds: int | None
    working_set: int


def places(threads: int) -> list[Place]:
    """Return the L2 and L3 caches of known size, and memory, nearest first; without Numba only memory.

    NumPy's sum reads caches more slowly than a compiled loop, so they would seem slower than what backends reach.

    A cache too small for a cyclically read working set has evicted each part before it is read again. The working set
    is half of L2 for L2, the mean of both sizes for L3, and four times the larger cache for memory, but at least 64
    MiB, and at most 1 GiB or an eighth of the memory.
    """
    sizes = {cache.level: cache.held_by(threads) for cache in machine.caches()}
    found, nearer = [], 0
    for level in (2, 3):
        # Skip an L3 cache that is hardly larger than L2.
        if (size := sizes.get(level, 0)) > 1.5 * nearer:
            found.append(Place(f"L{level}", size, (nearer + size) // 2))
            nearer = size
    most = min(_LARGEST, int(machine.memory_gib() * 2**30 / 8))
    return [*(found if compiled_loops() else []), Place("memory", None, min(most, max(1 << 26, 4 * nearer)))]


def reading(size: int, threads: int) -> Probe:
    """Return a probe that reads ``size`` bytes repeatedly, each thread its own part.

    A thread allocates and first writes its part itself, so that the part lies in the memory nearest to it (NUMA).
    """
    words = max(1, size // threads // 8)
    parts: dict[int, NDArray[np.uint64]] = {}
    kernels = compiled_loops()

    def work(thread: int, units: int) -> None:
        if thread not in parts:
            parts[thread] = _ones(words)
        if kernels:
            kernels.read(parts[thread], units)
        else:
            for _ in range(units):
                parts[thread].sum()

    return Probe(work, 8.0 * words * threads)


def _ones(count: int) -> NDArray[np.uint64]:
    """Return ``count`` ones, aligned to 64 bytes, the largest vector size."""
    words = np.ones(count + 8, np.uint64)
    first = -words.ctypes.data % 64 // 8
    return words[first : first + count]


def product(dtype: DType, threads: int) -> Probe:
    """Return a probe of a square matrix product by NumPy. One thread runs it; BLAS uses ``threads`` threads."""
    rng = np.random.default_rng(0)
    left, right = (rng.random((_PRODUCT_SIZE, _PRODUCT_SIZE)).astype(dtype) for _ in range(2))
    result = np.empty_like(left)
    pools = ThreadpoolController().select(user_api="blas")

    def work(thread: int, units: int) -> None:
        with pools.limit(limits=threads):
            for _ in range(units):
                np.matmul(left, right, out=result)

    return Probe(work, 2.0 * _PRODUCT_SIZE**3)


def blas() -> Blas | None:
    """Return the BLAS library that NumPy uses; None if unknown."""
    pools = ThreadpoolController().select(user_api="blas").info()
    # Other packages may load a BLAS library of their own.
    pools.sort(key=lambda pool: "numpy" not in pool["filepath"])
    for pool in pools:
        return Blas(pool["internal_api"], pool["version"], pool.get("architecture"))
    return None
