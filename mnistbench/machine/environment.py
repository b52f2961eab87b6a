"""Environment of a run: what it has to be repeated in, besides the machine and the code.

Nothing of it identifies the machine's owner: of every path only the last part is kept.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import threadpoolctl

from mnistbench.machine import processor
from mnistbench.threads import allowed_cpus, quota

_VARIABLES = re.compile(
    r"(?!\w+_DIR$)(OMP|GOMP|KMP|OPENBLAS|GOTO|MKL|BLIS|VECLIB|NUMBA|NPY|JAX|XLA|PJRT|TORCH|TORCHINDUCTOR|PYTORCH|TRITON|CUPY|CUDA"
    r"|NVIDIA|MALLOC|GLIBC|MIMALLOC|PYTHON|DYLD|LD)_\w+|NPROC|PYTHON(HASHSEED|MALLOC|OPTIMIZE)"
)
"""Environment variables that libraries for arrays, their compilers and allocators, and the loader read, except names of
folders."""


def environment(root: Path = Path("/")) -> dict[str, Any]:
    """Describe the environment of this process as JSON values; what the system does not tell is None.

    Args:
        root: Root of the file system that describes the machine.
    """
    return {
        "processor": processor.details(root),
        "cpus": {
            "allowed": allowed_cpus(),
            "quota": quota(root),
            "simultaneous_multithreading": _told(root / "sys/devices/system/cpu/smt/active"),
            "governor": _told(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            "boost": _told(root / "sys/devices/system/cpu/cpufreq/boost"),
            "isolated": _told(root / "sys/devices/system/cpu/isolated"),
        },
        "memory": {
            "huge_pages": _chosen(root / "sys/kernel/mm/transparent_hugepage/enabled"),
            "numa_balancing": _told(root / "proc/sys/kernel/numa_balancing"),
            "address_randomization": _told(root / "proc/sys/kernel/randomize_va_space"),
        },
        "clock_source": _told(root / "sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "variables": {
            name: _anonymous(value) for name, value in sorted(os.environ.items()) if _VARIABLES.fullmatch(name)
        },
        "blas": [
            {key: library.get(key) for key in ("internal_api", "version", "architecture", "num_threads")}
            for library in threadpoolctl.threadpool_info()
        ],
        "command": [_anonymous(argument) for argument in (Path(sys.argv[0]).name, *sys.argv[1:])],
    }


def _told(path: Path) -> str | None:
    """Return the text of a small file; None if it is empty or cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None


def _chosen(path: Path) -> str | None:
    """Return the choice that a file such as "always [madvise] never" marks."""
    found = re.search(r"\[(\w+)\]", _told(path) or "")
    return found and found[1]


def _anonymous(text: str) -> str:
    """Return a text with the last part alone of each absolute path in it."""
    return re.sub(r"(?:[A-Za-z]:)?(?:[/\\][^/\\:=,;\s]+)+", lambda path: re.split(r"[/\\]", path[0])[-1], text)
