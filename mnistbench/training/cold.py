"""What a backend costs a process that has just started: run one, and ask it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace

import mnistbench.backends as registry
from mnistbench import threads as thread_limits
from mnistbench.exceptions import MnistbenchError
from mnistbench.task.workload import Workload
from mnistbench.timing.clock import Costs

# Compiling longer than this is worth asking what it costs the next process, which finds the result on disk.
_WORTH_CACHING = 0.05

# Where Numba, CuPy, and PyTorch, for the CPU and for a GPU, keep what they compiled.
_CACHES = ("NUMBA_CACHE_DIR", "CUPY_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")


@dataclass(frozen=True)
class ColdStart:
    """What the first process on a machine pays.

    Attributes:
        costs: with nothing compiled before; ``train`` is that of one iteration only.
        compile_cached: what a later process pays for compiling, in seconds; None where compiling costs nothing.
        peak_memory: the largest resident memory of the process in bytes; None where the system does not tell.
    """

    costs: Costs
    compile_cached: float | None
    peak_memory: int | None


def measure(backend: str, workload: Workload, threads: int | None) -> ColdStart:
    """Train one iteration of a workload on MNIST in a new process, and again in another.

    The compilers' disk caches are moved to an empty folder for it. JAX has one only where its user asks for it.

    Raises:
        MnistbenchError: the process failed; the message is the last line it wrote.
    """
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | dict.fromkeys(_CACHES, cache)
        if "JAX_COMPILATION_CACHE_DIR" in environment:
            environment["JAX_COMPILATION_CACHE_DIR"] = cache
        first, peak_memory = _run(backend, workload, threads, environment)
        cached = None
        if first.compile > _WORTH_CACHING:
            cached = _run(backend, workload, threads, environment)[0].compile
    return ColdStart(first, cached, peak_memory)


def _run(
    backend: str, workload: Workload, threads: int | None, environment: dict[str, str]
) -> tuple[Costs, int | None]:
    """One process: its costs, and its peak memory in bytes."""
    options = {"backend": backend, "threads": threads, "workload": workload.describe()}
    command = [sys.executable, "-c", f"from {__name__} import child; child()", json.dumps(options)]
    process = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if process.returncode:
        last = process.stderr.strip().splitlines()[-1:] or [f"exit status {process.returncode}"]
        raise MnistbenchError(f"a new process that trains with {backend} failed: {last[0]}")
    record = json.loads(process.stdout)
    costs = record["costs"]
    return Costs(costs["import"], costs["load"], costs["compile"], costs["train"]), record["peak_memory_bytes"]


def child() -> None:
    """What the new process does: one iteration on the embedded MNIST, or on copies beyond its number of images."""
    options = json.loads(sys.argv[1])
    try:
        thread_limits.limit(options["threads"])
        registry.require(options["backend"])  # before NumPy is loaded, so that its import is in the backend's

        from mnistbench import machine
        from mnistbench.datasets.copies import load_images
        from mnistbench.training import loop

        workload = replace(Workload.from_description(options["workload"]), iterations=1)
        images = load_images(workload.images, workload.seed)
        result = loop.train_workload(workload, images, options["backend"], threads=options["threads"])
    except MnistbenchError as error:
        sys.exit(str(error))
    print(json.dumps({"costs": result.costs.as_dict(), "peak_memory_bytes": machine.peak_memory()}))
