"""What a machine cannot have done, by the limits that it states and by what no machine does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from mnistbench import words
from mnistbench.machine.bounds import Speed
from mnistbench.machine.identity import Machine
from mnistbench.measurement.bound import least_flops_of
from mnistbench.results.merging.embedded import embedded, is_embedded
from mnistbench.results.reading import quoted
from mnistbench.results.row import Row
from mnistbench.task.workload import Workload

_OF_A_THREAD, _OF_A_GPU = 4e12, 2e16
"""Operations per second that no thread of a CPU and no GPU exceeds, matrix units included."""

_FEWEST = 0.05
"""Least fraction of the dense operations that a training with dropout or distorted images makes: four fifths of the
pixels are 0, and dropout leaves out half of the units."""


def wrong_device(device: str, machine: Machine) -> str | None:
    """Describe in words that a machine has no such device, or return None; all may be, where only a name is known."""
    if not machine.vendor or device in ("CPU", machine.gpu):
        return None
    has = "has no GPU" if machine.gpu is None else f"has {quoted(machine.gpu)}"
    return f"device is {quoted(device)}, and the machine {has}"


def of_machine(row: Row, machine: Machine) -> Iterator[str]:
    """Yield what the machine of a row cannot have done, whatever its rate."""
    if problem := wrong_device(row.device, machine):
        yield problem
    if row.device == "CPU" and row.gpu:
        yield "gpu reports a GPU, and the device is the CPU"
    gpu = None if row.limits is None else row.limits.gpu
    expected = machine.gpu if machine.vendor else row.device
    if gpu is not None and gpu.name != expected and not (expected == "CPU" and not machine.vendor):
        yield f"limits are of the GPU {quoted(gpu.name)}, and the machine's is {quoted(expected or 'none')}"
    of_host = max(1, row.threads // row.speed.devices)  # as the limits of ranks are measured
    if row.limits is not None and row.device == "CPU" and row.limits.threads != of_host:
        yield f"limits are of {words.counted(row.limits.threads, 'thread')}, and the row is of {row.threads}"
    yield from _memory(row, machine)


def _memory(row: Row, machine: Machine) -> Iterator[str]:
    """Yield what does not fit into the machine, or into a process."""
    most = machine.memory_gib * 2**30
    peaks = [] if row.cold is None else [*row.cold.empty, *row.cold.filled, *row.cold.kernels]
    for name, used in [
        ("peak_memory_bytes", row.peak_memory_bytes),
        *(("peak_memory of a new process", process.peak_memory) for process in peaks),
        *(("baseline_memory of a new process", process.baseline_memory) for process in peaks),
    ]:
        if most and used is not None and used > most:
            yield f"{name} is {words.size(used)}, and the machine has {words.size(most)}"
    for process in peaks:
        before, peak = process.baseline_memory, process.peak_memory
        if before is not None and peak is not None and before > peak:
            yield f"a new process began with {words.size(before)}, above its peak of {words.size(peak)}"


def of_rate(row: Row, record: Mapping[str, Any], machine: Machine) -> Iterator[str]:
    """Yield the limit that the fastest round of a result exceeds, or that it does not state."""
    least = None
    if is_embedded(row.workload):
        least = least_flops_of(row.workload, embedded(row.workload.images, row.workload.seed).pixels)
    speed = replace(row.speed, seconds=min(row.samples), least_flops=least)
    if row.arithmetic is not None:
        speed = replace(speed, bits=row.arithmetic.bits, products=row.arithmetic.products)
    if row.limits is None:
        yield from _above_earlier_peak(speed, record.get("peak_flops_per_second"))
    elif row.device == "CPU" and row.dtype not in row.limits.multiply_add and machine.vendor != "Apple":
        yield f"limits, multiply_add has no {row.dtype}, which is unknown of Apple's CPUs alone"
    elif problem := speed.above(row.limits):
        yield problem
    if problem := too_fast(row.workload, speed.seconds, row.device, row.threads, machine, least, speed.devices):
        yield problem


def _above_earlier_peak(speed: Speed, peak: float | None) -> Iterator[str]:
    """Yield that a speed is above the peak that rows of earlier versions have, or that there is none."""
    if peak is None:
        yield "limits are missing, which a result has"
    elif speed.skips is None and speed.flops_per_second > peak:
        found, most = (words.quantity(rate, "FLOP/s") for rate in (speed.flops_per_second, peak))
        yield f"{found} is above the machine's peak of {most}, and nothing is skipped"


def too_fast(
    workload: Workload,
    seconds: float,
    device: str,
    threads: int,
    machine: Machine,
    least: float | None = None,
    devices: int = 1,
) -> str | None:
    """Describe in words a rate that no machine reaches, whatever limits it states, or return None.

    Args:
        seconds: Seconds of all iterations.
        least: Floating-point operations of an iteration that cannot be skipped; None if unknown.
        devices: Number of GPUs, or of hosts.
    """
    cpus = min(threads, machine.cpus * devices) if machine.cpus else threads
    most = _OF_A_THREAD * cpus if device == "CPU" else _OF_A_GPU * devices
    rate = (_FEWEST * workload.dense_flops if least is None else least) * workload.iterations / max(seconds, 1e-9)
    if rate <= most:
        return None
    found, limit = (words.quantity(value, "FLOP/s") for value in (rate, most))
    return f"{found} at least is above the {limit} that {'its threads' if device == 'CPU' else 'a GPU'} can reach"
