"""The ranks' processes in ``jax.distributed``: one device of each. Collectives are gloo's on CPUs, NCCL's on GPUs.

A program of all ranks has one collective at a time: two that do not wait for each other might run in another order on
another rank.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import accumulate
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.backend import clear_backends
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mnistbench.backends.base import Carrier
from mnistbench.backends.jax import device

_AXIS = "ranks"

EACH = PartitionSpec(_AXIS)
"""Place of an array of which every rank has a part, along the first axis."""

ALL = PartitionSpec()
"""Place of an array that every rank has."""

_CHUNK = 4096
"""Hits are added up as two numbers, of which float32 holds each exactly."""


def connect(rank: int, size: int, address: str) -> Carrier:
    """Join the other ranks, as :meth:`mnistbench.backends.base.Backend.connect` has it."""
    clear_backends()  # JAX joins only before its first client, which may have been asked for its device
    device.device.cache_clear()
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    if hasattr(jax.config, "jax_enable_preemption_service"):  # it would take SIGTERM, which the leader answers
        jax.config.update("jax_enable_preemption_service", False)
    with _silence():
        # By itself JAX would listen at every address of the machine, and ask the launcher.
        jax.distributed.initialize(
            address, size, rank, cluster_detection_method="deactivate", coordinator_bind_address=address
        )
        jax.block_until_ready(program(total, (EACH, EACH))(*(shared(np.zeros(1, np.float32), EACH),) * 2))
    on_cpu = device.device().name == "CPU"
    return Carrier(f"{'gloo' if on_cpu else 'NCCL'} of JAX {jax.__version__}", "TCP" if on_cpu else "GPU links")


def disconnect() -> None:
    """Leave the other ranks."""
    mesh.cache_clear()
    jax.distributed.shutdown()


def is_joined() -> bool:
    """Whether this process has joined others."""
    return bool(jax.distributed.is_initialized())


def ranks() -> int:
    """Return the number of ranks, 1 for a process by itself."""
    return int(jax.process_count())


@contextmanager
def _silence() -> Iterator[None]:
    """Drop what C++ writes to stdout: gloo tells there that it is connected."""
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@cache
def mesh() -> Mesh:
    """Return the first device of each process that has joined; another one each time that they join."""
    first = {one.process_index: one for one in reversed(jax.devices())}
    return Mesh(np.array([first[process] for process in sorted(first)]), (_AXIS,))


def shared(array: Any, place: PartitionSpec) -> Any:
    """Make an array of all ranks of each one's part, which all have one shape, or of the array that all have."""
    own = jax.device_put(array, device.device().device)
    shape = own.shape if place == ALL else (len(own) * ranks(), *own.shape[1:])
    return jax.make_array_from_single_device_arrays(shape, NamedSharding(mesh(), place), [own])


def program(function: Callable[..., Any], places: Any) -> Callable[..., Any]:
    """Compile a function that every rank computes of its parts of the arguments, with the same result.

    Args:
        places: :data:`EACH` or :data:`ALL` for every argument, or a tree of them.
    """
    # What is the same on all ranks cannot be told by types: the loop's metrics are sums only at its end.
    found: Callable[..., Any] = jax.jit(
        jax.shard_map(function, mesh=mesh(), in_specs=places, out_specs=ALL, check_vma=False)
    )
    return found


def added(arrays: Sequence[Any]) -> list[Any]:
    """Add up arrays over all ranks, inside a program: in one vector, with the same bits on each."""
    ends = [*accumulate(array.size for array in arrays)]
    vector = jax.lax.psum(jnp.concatenate([array.ravel() for array in arrays]), _AXIS)
    parts = jnp.split(vector, ends[:-1])
    return [part.reshape(array.shape) for part, array in zip(parts, arrays, strict=True)]


def total(loss: Any, hits: Any) -> tuple[Any, Any]:
    """Add up a loss and a number of hits over all ranks, inside a program."""
    whole = hits.astype("int32")
    found, high, low = added([loss, (whole // _CHUNK).astype(loss.dtype), (whole % _CHUNK).astype(loss.dtype)])
    return found, (high * _CHUNK).astype(hits.dtype) + low.astype(hits.dtype)
