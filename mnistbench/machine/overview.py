"""Overview of the machine and its limits, printed by ``mnistbench machine``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mnistbench import machine, words
from mnistbench.machine import limits
from mnistbench.machine.rates import Limits, Rates

WORTH_A_WARNING = 0.7
"""Fraction of the multiply-add peak below which the BLAS library probably does not know the processor."""


def record(found: Limits) -> dict[str, Any]:
    """Return the machine and its limits as JSON values."""
    return {
        "machine": machine.describe(),
        "caches": [vars(cache) for cache in machine.caches()],
        "limits": found.as_dict(),
        "file": _kept_in(found),
    }


def rows(found: Limits) -> Iterator[tuple[str, str, str]]:
    """Yield the table's rows (name, value, remark): the processor, memory and system, then every limit."""
    facts = machine.describe()
    yield "CPU", facts["cpu"], f"{facts['vendor']} {facts['model']}"
    yield "microarchitecture", facts["microarchitecture"], ", ".join(facts["instruction_sets"])
    yield "cores", f"{facts['usable_cpus']} usable", f"the limits are those of {words.counted(found.threads, 'thread')}"
    yield "memory", f"{facts['memory_gib']} GiB", ""
    yield "hypervisor", facts["hypervisor"] or "none", ""
    yield "system", f"{facts['system']} {facts['kernel']}", facts["architecture"]
    for cache in machine.caches():
        yield f"L{cache.level} cache", words.size(cache.bytes), f"for {words.counted(cache.shared_by, 'CPU')}"
    yield "results", machine.folder_name(), "name of the folder for what is measured here"
    yield from _rates(found, "")
    for dtype, rate in found.product.items():
        peak = found.multiply_add.get(dtype)
        share = "" if peak is None else f"{words.percent(rate / peak, 0)} of the multiply-adds, "
        yield (
            f"matrix product {dtype}",
            words.quantity(rate, "FLOP/s"),
            f"{share}by {found.blas or 'an unknown library'}",
        )
    if (gpu := found.gpu) is not None:
        yield "GPU", gpu.name, ""
        yield from _rates(gpu, "GPU ")
        if gpu.matrix is not None:
            yield "GPU matrix units", words.quantity(gpu.matrix, "OP/s"), "operands of 8 bits, at the highest clock"
        yield "GPU launch", words.seconds(gpu.launch_latency), "an empty kernel, until it has finished"


def _rates(rates: Rates, of: str) -> Iterator[tuple[str, str, str]]:
    for dtype, rate in rates.multiply_add.items():
        yield f"{of}multiply-adds {dtype}", words.quantity(rate, "FLOP/s"), "in registers, each counted as two"
    for level in rates.levels:
        holds = "" if level.bytes is None else f"up to {words.size(level.bytes)}"
        yield f"{of}reading {level.name}", words.quantity(level.bytes_per_second, "B/s"), holds


def notes(found: Limits) -> Iterator[str]:
    """Yield a warning if the measurement was disturbed, one per slow matrix product, and where the limits are kept."""
    if found.disturbed:
        yield (
            f"warning: other processes left {words.percent(found.cpu_share, 0)} of the CPU to a measurement, so the "
            "limits may be too low; they are not kept"
        )
    for dtype, rate in found.product.items():
        peak = found.multiply_add.get(dtype)
        if peak is not None and rate < WORTH_A_WARNING * peak:
            yield f"warning: {_slow(found, dtype, rate / peak)}"
    if (path := _kept_in(found)) is not None:
        yield f"The limits are kept in {path}"
    elif not found.disturbed:
        yield "The limits could not be kept."


def _slow(found: Limits, dtype: str, share: float) -> str:
    """Describe a slow matrix product and what to do about it."""
    name = "the BLAS library" if found.blas is None else found.blas.library
    kernel = "its kernel" if found.blas is None or found.blas.kernel is None else f"its {found.blas.kernel} kernel"
    advice = ""
    if name == "openblas":
        advice = "; the environment variable OPENBLAS_CORETYPE, set before Python starts, chooses another"
    return f"{name} with {kernel} reaches {words.percent(share, 0)} of the multiply-add peak in {dtype}{advice}"


def _kept_in(found: Limits) -> str | None:
    """Return the file that stores these limits, or None if it does not."""
    path = limits.file_for(found.threads)
    return str(path) if path.exists() and not found.disturbed else None
