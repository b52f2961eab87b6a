"""Number of threads that the array libraries may use.

A library fixes the size of its thread pool when it is loaded, and environment variables have to be set before that.
This module therefore imports no array library; the command line calls :func:`limit` before it imports the rest.
"""

from __future__ import annotations

import os

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


def usable_cpus() -> int:
    """Return the number of logical CPUs that this process may run on, as limited by taskset and cpusets."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resolve(threads: int | None) -> int:
    """Return ``threads``; for None the number in ``OMP_NUM_THREADS``, or that of the usable CPUs.

    Raises:
        OptionError: If ``threads`` is less than 1.
    """
    if threads is None:
        return _wanted() or usable_cpus()
    if threads < 1:
        raise OptionError(f"{threads} threads: at least 1 is needed")
    return threads


def _wanted() -> int | None:
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
        OptionError: If ``threads`` is less than 1.
    """
    number = resolve(threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    os.environ.update(dict.fromkeys(_VARIABLES, str(number)))
    return number
