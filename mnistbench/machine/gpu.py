"""Measurement of the limits of an NVIDIA GPU. Importing this module requires CuPy.

The kernels of ``limits.cu``, multiply-adds in registers and sums of the words read, are timed on the device by CUDA
events. The launch latency is timed on the host.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cupy as cp
import numpy as np

from mnistbench.machine.rates import GpuLimits, Level
from mnistbench.task.workload import DTYPES, DType

CHAINS = 8
"""Independent multiply-adds per thread. Together with the other threads of a multiprocessor, this is far more than is
needed to hide their latency of four cycles."""

_THREADS = 256
"""Threads per block."""

_ROUND, _ROUNDS = 0.005, 20
"""Seconds per round and number of rounds. The best counts, once the clock had time to rise."""

_LAUNCHES = 1000

_LARGEST = 1 << 30
"""Bytes read to measure memory, at least, if half of the free memory allows."""


MATRIX = {
    (7, 0): 1024,
    (7, 2): 2048,
    (7, 5): 2048,
    (8, 0): 4096,
    (8, 6): 2048,
    (8, 7): 4096,
    (8, 9): 2048,
    (9, 0): 8192,
    (10, 0): 16384,
    (10, 3): 16384,
    (11, 0): 16384,
    (12, 0): 2048,
    (12, 1): 2048,
}
"""Operations of a multiprocessor's matrix units in a clock cycle, by compute capability, for dense operands of 8 bits,
or 16 where there are none of 8; a multiply-add is two. They are the rates that NVIDIA prints for V100, Xavier, T4,
A100, GA102, Orin, AD102, H100, B200, B300, Thor, GB202 and GB10, over their multiprocessors and the clock printed with
them."""


def measure() -> GpuLimits:
    """Measure the limits of the current device, in a second or two.

    The working set for the L2 cache is a quarter of its size, since some GPUs split it into two halves with the same
    content. For memory it is 1 GiB or eight times the L2 cache, whichever is larger, but at most half of the free
    memory.

    Raises:
        Exception: Any error of CuPy, if it cannot use the device or runs out of memory.
    """
    device = cp.cuda.Device()
    facts = device.attributes
    # Launch as many threads as can be resident at once.
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
        matrix=_matrix(device.compute_capability, facts),
    )
    cp.get_default_memory_pool().free_all_blocks()
    return found


def module(dtype: DType) -> Any:
    """Return the compiled kernels, with multiply-adds in ``dtype``."""
    real = {"float32": "float", "float64": "double"}[dtype]
    source = Path(__file__).with_name("limits.cu").read_text(encoding="utf-8")
    return cp.RawModule(code=source, options=("-std=c++17", f"-DREAL={real}", f"-DCHAINS={CHAINS}"))


def _matrix(capability: str, facts: Mapping[str, int]) -> float | None:
    """Compute the operations per second of the matrix units at the highest clock; None for an unknown GPU.

    Args:
        capability: Compute capability as CuPy writes it, the digits of both numbers: "90", "120".
        facts: Attributes of the device; its clock rate is in kHz.
    """
    a_cycle = MATRIX.get((int(capability[:-1]), int(capability[-1])))
    return a_cycle and float(a_cycle) * facts["MultiProcessorCount"] * facts["ClockRate"] * 1e3


def _arithmetic(dtype: DType, blocks: int) -> float:
    """Measure floating-point operations per second; a multiply-add counts as two."""
    kernel = module(dtype).get_function("multiply_adds")
    results = cp.empty(blocks * _THREADS, dtype)
    value = np.dtype(dtype).type(0.5)

    def work(steps: int) -> None:
        kernel((blocks,), (_THREADS,), (results, value, np.int32(steps)))

    return 2.0 * CHAINS * blocks * _THREADS * _best_rate(work)


def _reading(size: int, blocks: int) -> float:
    """Measure bytes per second read from a working set of ``size`` bytes."""
    kernel = module("float32").get_function("read_words")
    results = cp.empty(blocks * _THREADS, "uint64")
    pairs = max(1, size // 16)
    words = cp.ones(2 * pairs, "uint64")

    def work(passes: int) -> None:
        kernel((blocks,), (_THREADS,), (results, words, np.int64(pairs), np.int32(passes)))

    return 16.0 * pairs * _best_rate(work)


def _best_rate(work: Callable[[int], None]) -> float:
    """Measure the best rate in units per second; ``work(n)`` launches n units."""
    units = 1
    _seconds(work, units)  # loads the kernel
    while (took := _seconds(work, units)) < _ROUND / 2:
        units *= 2
    units = max(1, round(units * _ROUND / took))
    return max(units / _seconds(work, units) for _ in range(_ROUNDS))


def _seconds(work: Callable[[int], None], units: int) -> float:
    """Time ``units`` units of work on the device, in seconds."""
    start, stop = cp.cuda.Event(), cp.cuda.Event()
    start.record()
    work(units)
    stop.record()
    stop.synchronize()
    return float(cp.cuda.get_elapsed_time(start, stop)) / 1e3


def _latency() -> float:
    """Measure the median time in seconds to launch an empty kernel and wait for it."""
    kernel = module("float32").get_function("nothing")
    stream = cp.cuda.get_current_stream()
    seconds = []
    for _ in range(_LAUNCHES):
        start = time.perf_counter()
        kernel((1,), (1,), ())
        stream.synchronize()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))
