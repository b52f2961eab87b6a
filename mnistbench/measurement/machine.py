"""What machine this is: read from it, never typed by hand."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from mnistbench.threads import usable_cpus


@cache
def cpu_name() -> str:
    """The processor's name as it gives it, without marks and clock rates."""
    name = re.sub(r"\((R|TM|C)\)|\bCPU\b|@.*", " ", _raw_cpu_name(), flags=re.IGNORECASE)
    return " ".join(name.split()) or platform.machine()


def _raw_cpu_name() -> str:
    system = platform.system()
    if system == "Linux":
        text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
        found = re.search(r"^(?:model name|Model|cpu model)\s*:\s*(.+)$", text, re.MULTILINE)
        return found.group(1) if found else platform.machine()
    if system == "Darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return platform.processor()


def memory_gib() -> float | None:
    """Physical memory in GiB, or None where the system does not tell."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def available_memory() -> int | None:
    """Bytes that this process can still use without pushing others out, or None where the system does not tell.

    On Linux, and there also what a container is limited to.
    """
    found = []
    status = Path("/proc/meminfo")
    if status.exists() and (line := re.search(r"^MemAvailable:\s*(\d+) kB", status.read_text(), re.MULTILINE)):
        found.append(int(line.group(1)) * 1024)
    limit, used = (Path("/sys/fs/cgroup", name) for name in ("memory.max", "memory.current"))
    with contextlib.suppress(OSError, ValueError):  # no such files, or the limit is "max"
        found.append(max(0, int(limit.read_text()) - int(used.read_text())))
    return min(found, default=None)


def peak_memory() -> int | None:
    """The largest resident memory of this process so far, in bytes, or None where the system does not tell.

    On Linux not from getrusage: that starts at the peak of the process which started this one.
    """
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"^VmHWM:\s*(\d+) kB", status.read_text(), re.MULTILINE)):
        return int(found.group(1)) * 1024
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None


def gpu_name() -> str | None:
    """The first NVIDIA GPU's name, as its driver gives it, or None."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        names = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return names.strip().splitlines()[0] if names.strip() else None


def versions() -> dict[str, str]:
    """The versions of Python and of the installed libraries that a result can depend on."""
    found = {"python": platform.python_version()}
    for name in ("mnistbench", "numpy", "numba", "llvmlite", "threadpoolctl", "pytest-benchmark"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def describe() -> dict[str, Any]:
    """The machine as JSON values; nothing in it names its owner or its place in a network."""
    gpu = gpu_name()
    return {
        "name": f"{cpu_name()}, {usable_cpus()} CPUs" + (f", {gpu}" if gpu else ""),
        "gpu": gpu,
        "cpu": cpu_name(),
        "architecture": platform.machine(),
        "usable_cpus": usable_cpus(),
        "memory_gib": memory_gib(),
        "system": platform.system(),
        "kernel": platform.release(),
    }


def folder_name() -> str:
    """The machine's name as that of a folder: lower case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", describe()["name"].lower()).strip("-")
