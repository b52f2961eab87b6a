"""JAX's device, threads and loops, for both trainers of the backend ``jax``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mnistbench.exceptions import OptionError
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Workload
from mnistbench.threads import allowed_cpus, resolve
from mnistbench.words import counted

NAME = "jax"

# Numbers of iterations in a loop on a GPU; the first is that of full batches, and divides their usual numbers.
_LENGTHS: tuple[int, ...] = (10, *range(8, 17))

# float32 products in float32: a GPU's default is TF32, which rounds operands to 10 bits.
matmul = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


class Device(NamedTuple):
    """JAX's device, its name, and the number of threads in the host's pool."""

    device: Any
    name: str
    pool: int


@cache
def device() -> Device:
    """Return JAX's default device: a GPU if JAX sees one. The first use in a process creates JAX's clients.

    It also fixes the size of the thread pool: PJRT_NPROC or NPROC, else the number of allowed CPUs. XLA heeds no quota.
    """
    sizes = [os.environ[name] for name in ("PJRT_NPROC", "NPROC") if os.environ.get(name, "").isdecimal()]
    # By default JAX allocates three quarters of a GPU's memory, which leaves too little for other libraries.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    found = jax.local_devices()[0]
    on_cpu = found.platform == "cpu"
    return Device(
        found, "CPU" if on_cpu else str(found.device_kind), max(1, int(sizes[0])) if sizes else allowed_cpus()
    )


def threads_in_effect(wanted: int | None) -> int:
    """Return the number of threads that ``wanted`` takes effect as.

    Raises:
        OptionError: this process can no longer use that number.
    """
    pool = device().pool
    threads = pool if wanted is None else min(resolve(wanted), pool)
    if device().name != "CPU":
        return 1
    if threads < pool:
        # xla_cpu_multi_thread_eigen=False does not hold a program to the calling thread: two work, by CPU seconds.
        raise OptionError(
            f"{counted(threads, 'thread')}: JAX has had {pool} since it was first used in this process, and uses all; "
            f"set the environment variable PJRT_NPROC={threads} before that, or --threads {threads} for a new process"
        )
    return threads


def looped(length: int | None, count: Any, iterate: Callable[[Any, Any], Any], state: Any) -> Any:
    """Compute ``iterate(i, state)`` for ``count`` iterations in a compiled loop.

    Args:
        length: None where the loop may end at any iteration. On a GPU the host would read after each iteration whether
            there is another one; there it is the number of iterations that are always run, of which those beyond
            ``count`` leave the state unchanged.
    """
    if length is None:
        return jax.lax.fori_loop(0, count, iterate, state)

    def masked(i: Any, before: Any) -> Any:
        return jax.tree.map(lambda new, old: jnp.where(i < count, new, old), iterate(i, before), before)

    return jax.lax.fori_loop(0, length, masked, state)


def loop_length(workload: Workload) -> int | None:
    """Return the argument ``length`` of :func:`looped`: on a GPU the one that wastes fewest iterations of an epoch."""
    if device().name == "CPU":
        return None
    if workload.recipe.batch_size is None:
        return _LENGTHS[0]
    return min(_LENGTHS, key=lambda length: -workload.iterations_per_epoch % length)


def calls(iterations: int, length: int | None) -> Iterator[int]:
    """Yield the iterations of each call of a loop that run ``iterations`` in all, as many as fit ``length`` at once."""
    while iterations > 0:
        yield (count := min(iterations, length or iterations))
        iterations -= count


def widened(images: Any, levels: Any) -> Any:
    """Convert bytes to [0, 1] by a table of the 256 values: XLA compiles a division by 255 to an inexact product."""
    return levels[images]


def on_host(arrays: Any) -> Parameters:
    """Copy W1, b1, W2, b2, ... to the host."""
    return Parameters.from_arrays(np.array(array) for array in arrays)
