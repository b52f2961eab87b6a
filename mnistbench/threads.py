"""Number of threads that the array libraries may use.

A library fixes the size of its thread pool when it is loaded, and environment variables have to be set before that.
This module therefore imports no array library; the command line calls :func:`limit` before it imports the rest.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

from mnistbench.exceptions import OptionError

# OpenMP, the BLAS libraries that NumPy is built with (OpenBLAS, MKL, Apple's Accelerate), Numba's pool, and JAX's.
_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "PJRT_NPROC",
)


def allowed_cpus() -> int:
    """Return the number of logical CPUs that taskset and cpusets allow."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def listed_cpus(text: str) -> set[int]:
    """Parse a list of CPUs as Linux writes it, such as "0-3,8"; raise ValueError if it is none."""
    ends = [[int(end) for end in part.split("-")] for part in text.split(",")]
    return {cpu for pair in ends for cpu in range(pair[0], pair[-1] + 1)}


def usable_cpus(root: Path = Path("/")) -> int:
    """Return the number of logical CPUs in effect: the allowed ones, within the CPU quota.

    A quota of 2.5 CPUs counts as 2, one of less than 1 as 1. The threads of a backend wait for one another after every
    step, and if they use up a quota, the system stops all of them for the rest of a period of 100 ms.

    Args:
        root: Root of the file system that describes the control groups of a container.
    """
    return max(1, math.floor(min([allowed_cpus(), *_quotas(root)])))


def quota(root: Path = Path("/")) -> float | None:
    """Return the CPU quota of this process's control groups, as :func:`usable_cpus` reads it; None without one."""
    return min(_quotas(root), default=None)


def _quotas(root: Path) -> Iterator[float]:
    """Yield the CPUs that each control group around this process may use, if it has a quota (cgroups 1 and 2)."""
    for folder in _control_groups(root):
        with contextlib.suppress(OSError, ValueError):  # no such file, or a quota of "max"
            quota, period = (int(number) for number in (folder / "cpu.max").read_text().split())
            yield quota / period
        with contextlib.suppress(OSError, ValueError):
            quota, period = (int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
            if quota > 0:  # -1 is none
                yield quota / period


def _control_groups(root: Path) -> Iterator[Path]:
    """Yield the folders of the CPU control groups of this process, each followed by those of the groups around it."""
    try:
        told = [(root / "proc" / "self" / name).read_text("utf-8", "replace") for name in ("cgroup", "mountinfo")]
    except OSError:
        return
    mounts = re.findall(r"^\S+ \S+ \S+ (\S+) (\S+) .*- (cgroup2?) \S+ (\S+)$", told[1], re.MULTILINE)
    for controllers, path in re.findall(r"^\d+:(.*?):(/.*)$", told[0], re.MULTILINE):
        for top, point, kind, options in mounts:
            unified = kind == "cgroup2" and not controllers
            if unified or (kind == "cgroup" and "cpu" in controllers.split(",") and "cpu" in options.split(",")):
                # A container may see its own group alone, mounted as if it were the top.
                below = Path(path.removeprefix(top).lstrip("/")) if path.startswith(top) else Path()
                folders = [below, *below.parents] if ".." not in below.parts else [Path()]
                yield from (root / point.lstrip("/") / folder for folder in folders)


def resolve(threads: int | None) -> int:
    """Return ``threads``; for None the number in ``OMP_NUM_THREADS``, or that of the usable CPUs.

    Raises:
        OptionError: If the number is less than 1, or many times that of the CPUs: more than 64, and than four for each.
    """
    if threads is not None and threads < 1:
        raise OptionError(f"{threads} threads: at least 1 is needed")
    asked = wanted() if threads is None else threads
    if asked is not None and asked > (most := most_threads(allowed_cpus())):
        where = "OMP_NUM_THREADS: " if threads is None else ""
        raise OptionError(f"{where}{asked} threads: give at most {most}; this process may use {allowed_cpus()} CPUs")
    return asked or usable_cpus()


def most_threads(cpus: int) -> int:
    """Return the largest number of threads that may be asked for on ``cpus`` CPUs."""
    return max(64, 4 * cpus)


def wanted() -> int | None:
    """Return the number in ``OMP_NUM_THREADS``, the first of a list, or None if there is none."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None


def limit(threads: int | None) -> int:
    """Set the environment variables that give all libraries loaded later the same number of threads; return it.

    Waiting OpenMP threads sleep, because spinning ones halve the speed as soon as another process needs a core. GNU's
    OpenMP lets them spin 30,000 times first, because waking up for each operation takes longer than an operation on a
    small mini-batch. PyTorch needed 1.01 s for an epoch of 784-800-10 with mini-batches of 128 if threads sleep at
    once, 0.62 s if they spin 30,000 times first, and 0.58 s if they always spin.

    Args:
        threads: Number of threads; None as for :func:`resolve`.

    Raises:
        OptionError: As :func:`resolve`.
    """
    number = resolve(threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    os.environ.update(dict.fromkeys(_VARIABLES, str(number)))
    return number
