"""Cold starts: costs of training in a new process, measured by running one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import mnistbench.backends as registry
from mnistbench import threads as thread_limits
from mnistbench.exceptions import MnistbenchError
from mnistbench.task.workload import Workload
from mnistbench.timing.clock import Costs

# Seconds of compilation from which a second process is measured, which finds the compiled code on disk.
_WORTH_CACHING = 0.05

CACHES = ("NUMBA_CACHE_DIR", "CUPY_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
"""Variables that name the disk caches of compiled code: Numba's, CuPy's, PyTorch's for the CPU and for a GPU."""


@dataclass(frozen=True)
class ColdStart:
    """Costs of the first process on a machine.

    Attributes:
        costs: Costs with empty compiler caches; ``train`` covers one iteration only.
        compile_cached: Seconds of compilation in a later process; None if the first spent hardly any.
        peak_memory: Peak resident memory of the first process in bytes; None if unknown.
    """

    costs: Costs
    compile_cached: float | None
    peak_memory: int | None


def measure(backend: str, workload: Workload, threads: int | None, keep: Path | None = None) -> ColdStart:
    """Train one iteration of a workload on MNIST in a new process; if that compiles anything, repeat it in a second.

    The compilers' disk caches are moved to an empty folder meanwhile; JAX has one only if its user asked for it.

    Args:
        keep: Folder to which the compiled code is copied, for a process with its caches there.

    Raises:
        MnistbenchError: If the process fails; the message ends with the last line of its stderr.
    """
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | dict.fromkeys(CACHES, cache)
        if "JAX_COMPILATION_CACHE_DIR" in environment:
            environment["JAX_COMPILATION_CACHE_DIR"] = cache
        first, peak_memory = _run(backend, workload, threads, environment)
        cached = None
        if first.compile > _WORTH_CACHING:
            cached = _run(backend, workload, threads, environment)[0].compile
        if keep is not None:
            shutil.copytree(cache, keep, dirs_exist_ok=True)
    return ColdStart(first, cached, peak_memory)


def _run(
    backend: str, workload: Workload, threads: int | None, environment: dict[str, str]
) -> tuple[Costs, int | None]:
    """Train in one new process; return its costs and its peak memory in bytes."""
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
    """Train one iteration in the new process, on the embedded MNIST or, if that has too few images, on copies."""
    options = json.loads(sys.argv[1])
    try:
        thread_limits.limit(options["threads"])
        registry.get_backend(options["backend"])  # before NumPy is loaded, so that its import time counts

        from mnistbench import machine
        from mnistbench.datasets import load_images
        from mnistbench.training.loop import train

        workload = replace(Workload.from_description(options["workload"]), iterations=1)
        images = load_images(workload.images, workload.seed)
        result = train(images, workload=workload, backend=options["backend"], threads=options["threads"])
    except MnistbenchError as error:
        sys.exit(str(error))
    print(json.dumps({"costs": result.costs.as_dict(), "peak_memory_bytes": machine.peak_memory()}))
