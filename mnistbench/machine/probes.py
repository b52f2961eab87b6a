"""How the limits of a CPU are measured: rounds of work whose amount is known, of which the best counts.

Whatever disturbs a round makes it slower, so the best of many counts. They are spread over seconds, and those of
different limits take turns, so that a disturbance has to last for all of that to pass for a limit.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from mnistbench import machine
from mnistbench.machine import kernels
from mnistbench.machine.rates import QUIET, Blas
from mnistbench.task.workload import DTYPES, DType
from mnistbench.threads import usable_cpus

_ROUND = 0.01
"""Seconds that a round takes at least, once its work has been doubled often enough: starting its threads is below 1 %
of it."""

_STEPS = 10_000
"""Multiply-adds of each chain in a unit of work: some 10 µs."""

_PRODUCT_SIZE = 2048
"""Rows and columns of the matrices: 17 GFLOP, half a second on a slow processor, large enough for a fast one."""

_LARGEST = 1 << 30
"""Bytes read to measure memory, at most."""


class Probe(NamedTuple):
    """Something whose rate is measured.

    Attributes:
        work: does so many units of it in a thread, given the thread's number and how many.
        amount: what a unit is, of all threads together: floating-point operations, or bytes.
    """

    work: Callable[[int, int], object]
    amount: float


class Rate(NamedTuple):
    """The best rate of a probe.

    Attributes:
        value: in its amounts a second.
        share: of the CPU time that the threads of that round wanted, how much they got.
    """

    value: float
    share: float


def best_rates(probes: Mapping[str, Probe], threads: int, seconds: float, busy: int | None = None) -> dict[str, Rate]:
    """The best rate of each, in rounds that take turns for so many seconds; at least one round of each.

    While a best round had to share the CPUs with other processes they go on, to three times the seconds.

    Args:
        probes: by name.
        threads: that do the work.
        seconds: for all of them together.
        busy: how many threads compute, where the work of one starts others.
    """
    wanted = min(busy or threads, usable_cpus())
    with ThreadPoolExecutor(threads) as pool:
        units = dict.fromkeys(probes, 1)
        best = dict.fromkeys(probes, Rate(0.0, 0.0))
        for probe in probes.values():
            _round(pool, probe, threads, 1)  # which compiles, and fetches what is read
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
    """The seconds that all threads together need, and the CPU seconds of the process meanwhile."""
    start, cpu = time.perf_counter(), time.process_time()
    for done in [pool.submit(probe.work, thread, units) for thread in range(threads)]:
        done.result()
    return time.perf_counter() - start, time.process_time() - cpu


def arithmetic(threads: int) -> dict[str, Probe]:
    """By dtype, multiply-adds in registers; none where they are not the limit: on CPUs other than x86-64, whose matrix
    units are faster, and without fused multiply-adds."""
    if platform.machine().lower() not in ("x86_64", "amd64") or not kernels.has_multiply_add():
        return {}
    return {dtype: _chains(dtype, threads) for dtype in DTYPES}


def _chains(dtype: DType, threads: int) -> Probe:
    value = np.dtype(dtype).type(0.5)
    lanes = kernels.vector_bytes() // value.itemsize
    flops = 2 * kernels.CHAINS * lanes * _STEPS
    return Probe(lambda thread, units: kernels.run_chains(value, units * _STEPS), flops * threads)


class Place(NamedTuple):
    """A place that data is read from, and how to read from there.

    Attributes:
        name: "L2", "L3" or "memory".
        holds: bytes, in all caches of the kind that the threads can use; None for memory.
        working_set: bytes of all threads together that are read over and over to measure it.
    """

    name: str
    holds: int | None
    working_set: int


def places(threads: int) -> list[Place]:
    """The second- and third-level caches whose sizes the system tells, and memory, nearest first.

    A working set goes around: a cache that is too small for it has lost each part when its turn comes again. So half
    of the second level is read from there, what is larger than that and smaller than the third level from the third,
    and several times all caches, as far as there is memory for it, from memory.
    """
    sizes = {cache.level: cache.held_by(threads) for cache in machine.caches()}
    found, nearer = [], 0
    for level in (2, 3):
        # A third level that is hardly larger than the second adds no place of its own.
        if (size := sizes.get(level, 0)) > 1.5 * nearer:
            found.append(Place(f"L{level}", size, (nearer + size) // 2))
            nearer = size
    total = machine.memory_gib()
    most = _LARGEST if total is None else min(_LARGEST, int(total * 2**30 / 8))
    return [*found, Place("memory", None, min(most, max(1 << 26, 4 * nearer)))]


def reading(size: int, threads: int) -> Probe:
    """Read ``size`` bytes over and over, every thread a part of its own, which it writes once, so that the part lies
    in the memory next to it."""
    words = max(1, size // threads // 8)
    parts: dict[int, NDArray[np.uint64]] = {}

    def work(thread: int, units: int) -> None:
        if thread not in parts:
            parts[thread] = _ones(words)
        kernels.read(parts[thread], units)

    return Probe(work, 8.0 * words * threads)


def _ones(count: int) -> NDArray[np.uint64]:
    """So many ones, the first at a multiple of the largest vector's size."""
    words = np.ones(count + 8, np.uint64)
    first = -words.ctypes.data % 64 // 8
    return words[first : first + count]


def product(dtype: DType, threads: int) -> Probe:
    """A square matrix product by NumPy, which shares it out among so many threads of its own: a probe of one thread."""
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
    """The library that does NumPy's matrix products."""
    pools = ThreadpoolController().select(user_api="blas").info()
    # Other packages bring one of their own.
    pools.sort(key=lambda pool: "numpy" not in pool["filepath"])
    for pool in pools:
        return Blas(pool["internal_api"], pool["version"], pool.get("architecture"))
    return None
