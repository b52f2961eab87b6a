"""What machine this is: read from it, never typed by hand."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mnistbench.threads import usable_cpus

_CPUS = Path("/sys/devices/system/cpu")
"""Where Linux describes them."""


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


@dataclass(frozen=True)
class Cache:
    """A cache for data.

    Attributes:
        level: 1 is the nearest to the CPU.
        bytes: of one of its kind.
        shared_by: how many logical CPUs share one.
    """

    level: int
    bytes: int
    shared_by: int

    def held_by(self, threads: int) -> int:
        """How many bytes those hold that so many threads can use, each thread on a CPU as far from the others as
        there are CPUs for."""
        return self.bytes * min(threads, -(-usable_cpus() // self.shared_by))


def caches() -> list[Cache]:
    """The data caches of the first usable CPU, the nearest first; none where the system does not tell."""
    cpu = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    found = []
    for folder in (_CPUS / f"cpu{cpu}" / "cache").glob("index*"):
        try:
            kind, level, size, shared = (
                (folder / name).read_text().strip() for name in ("type", "level", "size", "shared_cpu_list")
            )
            if kind in ("Data", "Unified"):
                found.append(Cache(int(level), _bytes(size), _count_cpus(shared)))
        except (OSError, ValueError):
            continue  # a kernel that tells some and not others
    return sorted(found, key=lambda cache: cache.level)


def _bytes(size: str) -> int:
    """Of "48K" or "32M"; a positive number.

    Raises:
        ValueError: it is none.
    """
    found = re.fullmatch(r"([1-9]\d*)([KMG]?)", size)
    if found is None:
        raise ValueError(size)
    return int(found[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[found[2]]


def _count_cpus(listed: str) -> int:
    """How many "0-3,8" are: 5."""
    ranges = (part.split("-") for part in listed.split(","))
    return sum(int(ends[-1]) - int(ends[0]) + 1 for ends in ranges)


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
    libraries = ("numpy", "numba", "llvmlite", "threadpoolctl", "cupy", "cupy-cuda12x", "cupy-cuda13x")
    for name in ("mnistbench", *libraries, "pytest-benchmark"):
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


def commit(*paths: str) -> dict[str, Any]:
    """The commit of the checkout that this package runs from, and whether its code differs from it.

    Args:
        paths: of the checkout, what counts as its code besides the package; measuring writes to results/, which
            makes no measurement doubtful.

    Returns:
        ``id`` ("unversioned" where the package is not in a checkout of its own), ``time`` (ISO 8601, or None),
        ``dirty``, ``project`` and ``branch``.
    """
    package = Path(__file__).parents[1]
    top = _git(package, "rev-parse", "--show-toplevel")
    # An installed package may lie in an environment inside of somebody else's checkout.
    own = bool(top) and Path(top).resolve() == package.parent.resolve()
    return {
        "id": (_git(package, "rev-parse", "HEAD") if own else "") or "unversioned",
        "time": (_git(package, "show", "-s", "--format=%cI", "HEAD") if own else "") or None,
        "dirty": own and bool(_git(package.parent, "status", "--porcelain", package.name, *paths)),
        "project": "mnistbench",
        "branch": _git(package, "branch", "--show-current") if own else "",
    }


def _git(folder: Path, *arguments: str) -> str:
    """What git says in a folder; nothing where there is no git, or no repository."""
    with contextlib.suppress(OSError):
        return subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=False
        ).stdout.strip()
    return ""


def folder_name() -> str:
    """The machine's name as that of a folder: lower case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", describe()["name"].lower()).strip("-")
