"""JAX's device, threads and dtypes, for both trainers of the backend ``jax``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
from numpy.typing import NDArray

from mnistbench.backends.base import Description, Trainer
from mnistbench.exceptions import BackendUnavailable, OptionError
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Workload
from mnistbench.threads import allowed_cpus, resolve

NAME = "jax"

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
    found = jax.devices()[0]
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
    if 1 < threads < pool:
        raise OptionError(
            f"{threads} threads: JAX has had {pool} since it was first used in this process, and can use all or one; "
            f"set the environment variable PJRT_NPROC={threads} before that, or --threads {threads} for a new process"
        )
    return threads


def alone(threads: int) -> bool:
    """Whether to compute on the calling thread alone."""
    return device().name == "CPU" and threads == 1 < device().pool


def compiled(function: Callable[..., Any], alone: bool) -> Callable[..., Any]:
    """Compile a function for the thread pool, or for the calling thread alone."""
    options = {"xla_cpu_multi_thread_eigen": False} if alone else None
    program: Callable[..., Any] = jax.jit(function, compiler_options=options)
    return program


def widened(images: Any, levels: Any) -> Any:
    """Convert bytes to [0, 1] by a table of the 256 values: XLA compiles a division by 255 to an inexact product."""
    return levels[images]


def on_host(arrays: Any) -> Parameters:
    """Copy W1, b1, W2, b2, ... to the host."""
    return Parameters.from_arrays(np.array(array) for array in arrays)


class DeviceTrainer(Trainer):
    """The common part of JAX's trainers; subclasses have data and programs."""

    def __init__(self, workload: Workload, threads: int) -> None:
        super().__init__(workload)
        self._threads = threads

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Enable 64-bit types for float64 only, whatever the process has set."""
        with jax.enable_x64(self.workload.dtype == "float64"):
            try:
                yield
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                what = f"{self.workload.images:,} images in {self.workload.dtype}"
                reason = f"{what} do not fit into the memory of the {device().name}"
                raise BackendUnavailable(NAME, reason, "use fewer images (--train-size)") from error

    def _placed(self, array: NDArray[Any], dtype: str) -> Any:
        """Copy an array to the device; JAX alone might share the caller's memory."""
        return jax.device_put(np.array(array, dtype), device().device)

    def _scalar(self, value: float) -> Any:
        return np.dtype(self.workload.dtype).type(value)

    def _levels(self) -> Any:
        """Return the table of :func:`widened`."""
        return np.arange(256, dtype=self.workload.dtype) / self._scalar(255)

    def _described(self, kernel: str, bytes_read: int) -> Description:
        versions = {"jax": jax.__version__, "jaxlib": jaxlib.__version__, "numpy": np.__version__}
        return Description(device().name, self._threads, versions, kernel, bytes_read=bytes_read)
