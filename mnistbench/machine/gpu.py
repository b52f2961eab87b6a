"""The limits of an NVIDIA GPU, measured through CuPy. Importing this module needs it.

The loops are those of ``limits.cu``: multiply-adds in registers, and sums of what is read. They are timed on the
device, by CUDA events; the launch latency is the host's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cupy as cp
import numpy as np

from mnistbench.machine.rates import GpuLimits, Level
from mnistbench.task.workload import DTYPES, DType

CHAINS = 8
"""Multiply-adds of a thread that do not wait for each other; with the other threads of a multiprocessor far more than
the four cycles that one takes can hide."""

_THREADS = 256
"""Of a block."""

_ROUND, _ROUNDS = 0.005, 20
"""Seconds of a round, and how many: the best counts, after the clock had time to rise."""

_LAUNCHES = 1000

_LARGEST = 1 << 30
"""Bytes read to measure memory, at least where there are so many."""


def measure() -> GpuLimits:
    """Measure the limits of the current device, in a second or two.

    The second-level cache is read in a quarter of its size, since some GPUs have it in two halves that hold the same.
    Memory is read in a gibibyte, or eight times the cache if that is more, as far as half of what is free goes.

    Raises:
        Exception: whatever CuPy raises where it cannot use the device, or has no memory for it.
    """
    device = cp.cuda.Device()
    facts = device.attributes
    # As many threads as run at once.
    blocks = int(facts["MultiProcessorCount"]) * (int(facts["MaxThreadsPerMultiProcessor"]) // _THREADS)
    cache = int(facts["L2CacheSize"])
    memory = min(max(_LARGEST, 8 * cache), int(device.mem_info[0]) // 2)
    levels = (
        Level("L2", cache, _reading(cache // 4, blocks)),
        Level("memory", None, _reading(memory, blocks)),
    )
    name = cp.cuda.runtime.getDeviceProperties(device.id)["name"]
    found = GpuLimits(
        multiply_add={dtype: _arithmetic(dtype, blocks) for dtype in DTYPES},
        levels=levels,
        name=name.decode() if isinstance(name, bytes) else str(name),
        launch_latency=_latency(),
    )
    cp.get_default_memory_pool().free_all_blocks()
    return found


def module(dtype: DType) -> Any:
    """The compiled loops, with multiply-adds in that dtype."""
    real = {"float32": "float", "float64": "double"}[dtype]
    source = Path(__file__).with_name("limits.cu").read_text(encoding="utf-8")
    return cp.RawModule(code=source, options=("-std=c++17", f"-DREAL={real}", f"-DCHAINS={CHAINS}"))


def _arithmetic(dtype: DType, blocks: int) -> float:
    """Floating-point operations a second, a multiply-add counting as two."""
    kernel = module(dtype).get_function("multiply_adds")
    results = cp.empty(blocks * _THREADS, dtype)
    value = np.dtype(dtype).type(0.5)

    def work(steps: int) -> None:
        kernel((blocks,), (_THREADS,), (results, value, np.int32(steps)))

    return 2.0 * CHAINS * blocks * _THREADS * _best_rate(work)


def _reading(size: int, blocks: int) -> float:
    """Bytes a second of a working set of ``size`` bytes."""
    kernel = module("float32").get_function("read_words")
    results = cp.empty(blocks * _THREADS, "uint64")
    pairs = max(1, size // 16)
    words = cp.ones(2 * pairs, "uint64")

    def work(passes: int) -> None:
        kernel((blocks,), (_THREADS,), (results, words, np.int64(pairs), np.int32(passes)))

    return 16.0 * pairs * _best_rate(work)


def _best_rate(work: Callable[[int], None]) -> float:
    """The most units of work a second; ``work`` launches as many as it is given."""
    units = 1
    _seconds(work, units)  # which loads the kernel
    while (took := _seconds(work, units)) < _ROUND / 2:
        units *= 2
    units = max(1, round(units * _ROUND / took))
    return max(units / _seconds(work, units) for _ in range(_ROUNDS))


def _seconds(work: Callable[[int], None], units: int) -> float:
    """How long the device takes."""
    start, stop = cp.cuda.Event(), cp.cuda.Event()
    start.record()
    work(units)
    stop.record()
    stop.synchronize()
    return float(cp.cuda.get_elapsed_time(start, stop)) / 1e3


def _latency() -> float:
    """The median of many launches of an empty kernel, each waited for, in seconds."""
    kernel = module("float32").get_function("nothing")
    stream = cp.cuda.get_current_stream()
    seconds = []
    for _ in range(_LAUNCHES):
        start = time.perf_counter()
        kernel((1,), (1,), ())
        stream.synchronize()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))
