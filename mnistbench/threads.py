"""How many threads the array libraries may use: asked for before they load, read back after.

A library fixes the size of its thread pool when it is loaded, so the variables have to be set before that. This
module therefore imports none of them; a command line calls :func:`limit` first and imports the rest afterwards.
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
    """Logical CPUs that this process may run on; taskset and cpusets make them fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resolve(threads: int | None) -> int:
    """The number asked for, or all usable CPUs for None.

    Raises:
        OptionError: fewer than 1.
    """
    if threads is not None and threads < 1:
        raise OptionError(f"{threads} threads: at least 1 is needed")
    return usable_cpus() if threads is None else threads


def limit(threads: int | None) -> None:
    """Prepare the environment of this process for libraries that are not loaded yet.

    None leaves the number of threads to each library. OpenMP threads that wait are told to sleep: a spinning wait
    halves the speed as soon as another process wants a core. But not at once, where that can be said, which is GNU's
    OpenMP: waking for every operation on a small batch takes longer than the operation. An epoch of 784-800-10 in
    batches of 128 took PyTorch 1.01 s with threads that sleep at once, 0.62 s after so many turns, and 0.58 s with
    threads that spin.

    Raises:
        OptionError: fewer than 1 thread.
    """
    resolve(threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    if threads is not None:
        os.environ.update(dict.fromkeys(_VARIABLES, str(threads)))
