"""What machine this is: read from it, never typed by hand."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
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
    return {
        "name": f"{cpu_name()}, {usable_cpus()} CPUs",
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
