"""Description of this machine, read from the system and never typed by hand."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from mnistbench import words
from mnistbench.exceptions import OptionError
from mnistbench.machine import processor
from mnistbench.machine.identity import Machine
from mnistbench.threads import allowed_cpus, listed_cpus, usable_cpus

_CPUS = Path("/sys/devices/system/cpu")
"""Folder in which Linux describes the CPUs."""


def memory_gib() -> float:
    """Return the physical memory in GiB."""
    total: int = psutil.virtual_memory().total
    return round(total / 2**30, 1)


def available_memory() -> int:
    """Return how many bytes this process can allocate without swapping, within the container's limit."""
    available: int = psutil.virtual_memory().available
    limit, used = (Path("/sys/fs/cgroup", name) for name in ("memory.max", "memory.current"))
    with contextlib.suppress(OSError, ValueError):  # no such files, or the limit is "max"
        available = min(available, max(0, int(limit.read_text()) - int(used.read_text())))
    return available


@dataclass(frozen=True)
class Cache:
    """A data cache.

    Attributes:
        level: Level of the cache; 1 is the nearest to the CPU.
        bytes: Size of one cache of this level.
        shared_by: Number of logical CPUs that share one.
    """

    level: int
    bytes: int
    shared_by: int

    def held_by(self, threads: int) -> int:
        """Capacity of the caches that ``threads`` threads can use when spread over as many caches as possible.

        Within a CPU quota they still run on any of the allowed CPUs.
        """
        return self.bytes * min(threads, -(-allowed_cpus() // self.shared_by))


def caches() -> list[Cache]:
    """Return the data caches of the first usable CPU, nearest first; empty if unknown."""
    cpu = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    found = []
    for folder in (_CPUS / f"cpu{cpu}" / "cache").glob("index*"):
        try:
            kind, level, size, shared = (
                (folder / name).read_text().strip() for name in ("type", "level", "size", "shared_cpu_list")
            )
            if kind in ("Data", "Unified"):
                found.append(Cache(int(level), _bytes(size), len(listed_cpus(shared))))
        except (OSError, ValueError):
            continue  # some kernels describe only some of the caches
    return sorted(found, key=lambda cache: cache.level)


def _bytes(size: str) -> int:
    """Parse a cache size such as "48K" or "32M" into bytes; raise ValueError if it is none."""
    found = re.fullmatch(r"([1-9]\d*)([KMG]?)", size)
    if found is None:
        raise ValueError(size)
    return int(found[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[found[2]]


def resident_memory() -> int:
    """Return the resident memory of this process in bytes."""
    resident: int = psutil.Process().memory_info().rss
    return resident


def peak_memory() -> int | None:
    """Return the peak resident memory of this process in bytes, or None if unknown.

    On Linux, getrusage would not do: it starts from the peak of the parent process.
    """
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"^VmHWM:\s*(\d+) kB", status.read_text(), re.MULTILINE)):
        return int(found.group(1)) * 1024
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None


@cache
def gpu_name() -> str | None:
    """Return the name of the NVIDIA GPU that is computed on, as its driver reports it; None without one.

    It is CUDA's first device, which CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER choose, and not the first in
    nvidia-smi's list.
    """
    try:
        ctypes.CDLL(CUDA)
    except OSError:
        return None
    # In another process: once CUDA is initialized, processes forked from this one cannot use it.
    command = [sys.executable, "-I", "-c", _FIRST_DEVICE, CUDA]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None


CUDA = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
"""Library of the driver."""

_FIRST_DEVICE = """
import ctypes, sys
cuda, device, name = ctypes.CDLL(sys.argv[1]), ctypes.c_int(), ctypes.create_string_buffer(256)
if not (cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), 0) or cuda.cuDeviceGetName(name, 256, device)):
    print(name.value.decode(errors="replace"))
"""
"""Program that prints the name of CUDA's first device; every function returns 0 on success."""


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed libraries that can influence a result."""
    found = {"python": platform.python_version()}
    libraries = ("numpy", "scipy", "numba", "llvmlite", "threadpoolctl", "jax", "jaxlib", "torch", "triton")
    on_gpu = ("cupy", "cupy-cuda12x", "cupy-cuda13x")
    others = {point.dist.name for point in importlib.metadata.entry_points(group="mnistbench.backends") if point.dist}
    for name in ("mnistbench", *libraries, *on_gpu, "pytest-benchmark", *sorted(others)):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def describe(root: Path = Path("/")) -> dict[str, Any]:
    """Describe the machine as JSON values, without anything that identifies its owner or network.

    Args:
        root: Root of the file system that describes the machine.
    """
    found, gpu, cpus = processor.read(root), gpu_name(), usable_cpus(root)
    return {
        "name": name_of(found, cpus, gpu),
        "gpu": gpu,
        "cpu": found.name,
        "vendor": found.vendor,
        "model": found.model,
        "microarchitecture": found.microarchitecture,
        "instruction_sets": [*found.instruction_sets],
        "architecture": platform.machine(),
        "usable_cpus": cpus,
        "memory_gib": memory_gib(),
        "hypervisor": processor.hypervisor(found.virtual, root),
        "system": platform.system(),
        "kernel": platform.release(),
    }


def name_of(found: processor.Processor, cpus: int, gpu: str | None) -> str:
    """Return a machine's name for people.

    Args:
        found: The machine's processor.
        cpus: Number of CPUs in effect.
        gpu: Name of its GPU, or None.
    """
    return ", ".join(filter(None, (found.title, words.counted(cpus, "CPU"), gpu)))


def this() -> Machine:
    """Return this machine."""
    return Machine.read(describe())


def folder_name() -> str:
    """Return the name of this machine's folder."""
    return this().folder


def commit(*paths: str) -> dict[str, Any]:
    """Describe the Git commit of the checkout that this package runs from, or else the one in MNISTBENCH_COMMIT.

    Args:
        paths: Paths in the checkout that count as code besides the package. Changes elsewhere, such as new files in
            results/, do not make the checkout dirty.

    Returns:
        A dict with ``id`` ("unversioned" if it is not known), ``time`` (of MNISTBENCH_COMMIT_TIME; ISO 8601, or None),
        ``dirty``, ``project`` and ``branch``.
    """
    package = Path(__file__).parents[1]
    top = _git(package, "rev-parse", "--show-toplevel")
    # An installed package may lie in an environment inside another project's checkout.
    if not (top and Path(top).resolve() == package.parent.resolve()):
        return _named_commit()
    return {
        "id": _git(package, "rev-parse", "HEAD") or "unversioned",
        "time": _git(package, "show", "-s", "--format=%cI", "HEAD") or None,
        "dirty": bool(_git(package.parent, "status", "--porcelain", package.name, *paths)),
        "project": "mnistbench",
        "branch": _git(package, "branch", "--show-current"),
    }


def _named_commit() -> dict[str, Any]:
    """Describe the commit that the environment names, where the code was copied without its repository.

    Raises:
        OptionError: If a variable does not have the form of what git prints.
    """
    named, at = os.environ.get("MNISTBENCH_COMMIT", ""), os.environ.get("MNISTBENCH_COMMIT_TIME", "")
    if named and not re.fullmatch(r"[0-9a-f]{7,64}(-dirty)?", named):
        command = "git describe --always --abbrev=40 --exclude='*' --dirty"
        raise OptionError(f"MNISTBENCH_COMMIT={named}: not a commit; give what '{command}' prints")
    try:
        time = datetime.fromisoformat(at).isoformat() if at else None
    except ValueError:
        command = "git show -s --format=%cI"
        raise OptionError(f"MNISTBENCH_COMMIT_TIME={at}: not a time; give what '{command}' prints") from None
    return {
        "id": named.removesuffix("-dirty") or "unversioned",
        "time": time,
        "dirty": named.endswith("-dirty"),
        "project": "mnistbench",
        "branch": "",
    }


def _git(folder: Path, *arguments: str) -> str:
    """Return the output of a git command in ``folder``; empty without git or a repository."""
    with contextlib.suppress(OSError):
        return subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=False
        ).stdout.strip()
    return ""
