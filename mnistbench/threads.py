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
    """Return ``threads``, or the number of usable CPUs for None.

    Raises:
        OptionError: If ``threads`` is less than 1.
    """
    if threads is not None and threads < 1:
        raise OptionError(f"{threads} threads: at least 1 is needed")
    return usable_cpus() if threads is None else threads


def limit(threads: int | None) -> None:
    """Set the environment variables that limit the threads of libraries loaded later.

    Waiting OpenMP threads sleep, because spinning ones halve the speed as soon as another process needs a core. GNU's
    OpenMP lets them spin 30,000 times first, because waking up for each operation takes longer than an operation on a
    small mini-batch. PyTorch needed 1.01 s for an epoch of 784-800-10 with mini-batches of 128 if threads sleep at
    once, 0.62 s if they spin 30,000 times first, and 0.58 s if they always spin.

    Args:
        threads: Number of threads; None leaves it to each library.

    Raises:
        OptionError: If ``threads`` is less than 1.
    """
    resolve(threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    if threads is not None:
        os.environ.update(dict.fromkeys(_VARIABLES, str(threads)))
