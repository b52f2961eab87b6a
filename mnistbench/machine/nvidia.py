"""Clocks of an NVIDIA GPU under load, and why they were held down, as nvidia-smi tells them."""

from __future__ import annotations

import ctypes
import subprocess
import time
from collections.abc import Callable
from typing import Any

from mnistbench import machine
from mnistbench.timing.clock import timed

# Fields of the query, and the bits of the reasons for lower clocks other than idleness. The reasons have the first name
# since driver 535, and the second before; a field that nvidia-smi does not know fails the query.
_QUERY = ("driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem")
_REASONS = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")
_ANSWER_SECONDS = 10.0
_THROTTLED = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "temperature",
    0x40: "temperature",
    0x80: "power brake",
}

_BUSY = 0.025
"""Least seconds of the work that is repeated during a query, once its length is known."""


def bus_id(ordinal: int = 0) -> str | None:
    """Return the PCI bus id of a CUDA device by its number in this process; None if the driver does not tell it.

    It names the same device to nvidia-smi and NVML, whose own numbers know no CUDA_VISIBLE_DEVICES. The process must
    compute with CUDA already, since this initializes it.
    """
    device, name = ctypes.c_int(), ctypes.create_string_buffer(32)
    try:
        cuda = ctypes.CDLL(machine.CUDA)
        failed = (
            cuda.cuInit(0)
            or cuda.cuDeviceGet(ctypes.byref(device), ordinal)
            or cuda.cuDeviceGetPCIBusId(name, len(name), device)
        )
    except (OSError, AttributeError):
        return None
    return None if failed else name.value.decode()


def under_load(repeat: Callable[[int], object], bus: str | None) -> dict[str, Any]:
    """Query a GPU as :func:`ask` does while it runs iterations; empty without a bus id.

    Args:
        repeat: Run a number of iterations without side effects, and wait for the device.
    """
    count = 1

    def work() -> None:
        nonlocal count
        if timed(lambda: repeat(count))[1] < _BUSY:
            count *= 2

    return {} if bus is None else ask(bus, work)


def ask(bus: str, work: Callable[[], None]) -> dict[str, Any]:
    """Query driver version, clocks and throttling during ``work``, which is repeated until nvidia-smi answers.

    The clocks of an idle device recover at once. Missing fields are left out; without nvidia-smi the result is empty.
    """
    for reasons in _REASONS:
        command = [
            "nvidia-smi",
            f"--query-gpu={','.join((*_QUERY, reasons))}",
            "--format=csv,noheader,nounits",
            f"--id={bus}",
        ]
        try:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        except OSError:
            return {}
        with process:
            end = time.monotonic() + _ANSWER_SECONDS
            while process.poll() is None and time.monotonic() < end:
                work()
            process.kill()  # in case it hangs
            answer, _ = process.communicate()
        if process.returncode == 0:
            return read_nvidia_smi(answer)
    return {}


def read_nvidia_smi(answer: str) -> dict[str, Any]:
    """Parse an answer of nvidia-smi, one line of comma-separated values."""
    driver_version, *numbers = (field.strip() for field in answer.split(","))
    found: dict[str, Any] = {"driver_version": driver_version}
    names = ("clock_sm_mhz", "clock_sm_max_mhz", "clock_memory_mhz")
    found.update({name: int(value) for name, value in zip(names, numbers, strict=False) if value.isdecimal()})
    if numbers and numbers[-1].startswith("0x"):
        active = int(numbers[-1], 16)
        reasons = dict.fromkeys(words for bit, words in _THROTTLED.items() if active & bit)
        found["throttled"] = ", ".join(reasons) or None
    return found
