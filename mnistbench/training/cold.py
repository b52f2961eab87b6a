"""Cold starts: costs of training in a new process, measured by running several."""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Self

import mnistbench.backends as registry
from mnistbench import threads as thread_limits
from mnistbench.exceptions import MnistbenchError
from mnistbench.task.workload import Workload
from mnistbench.timing.clock import timed

MOST = 5
"""Largest number of processes with empty caches for a backend and a dtype."""

CACHES = ("NUMBA_CACHE_DIR", "CUPY_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
"""Variables that name the disk caches of compiled code: Numba's, CuPy's, PyTorch's for the CPU and for a GPU."""

_KERNELS = ("Haswell", "Zen", "SkylakeX", "NEOVERSEN1", "NEOVERSEV1", "ARMV8")
"""Kernels that NumPy's builds of OpenBLAS may hold, by the names of processors."""

Case = tuple[str, Workload]
"""A backend's name, and what it trains."""


@dataclass(frozen=True)
class Process:
    """What a new process cost.

    Attributes:
        costs: Seconds by name, as :class:`mnistbench.timing.clock.Costs` gives them; ``train`` is of ``iterations``.
        iterations: Number of iterations that were trained, from the first on.
        baseline_memory: Resident memory in bytes once the backend's libraries were imported; None if unknown.
        peak_memory: Peak of the resident memory in bytes; None if unknown.
        blas: Processor whose kernels NumPy's library for products chose, such as "SkylakeX"; None if unknown.
    """

    costs: Mapping[str, float]
    iterations: int
    baseline_memory: int | None
    peak_memory: int | None
    blas: str | None = None

    def training(self, iterations: int) -> float:
        """Return the seconds of a training of ``iterations``, scaled if it was cut."""
        return self.costs["train"] / self.iterations * iterations


@dataclass(frozen=True)
class ColdStart:
    """Costs of the first processes on a machine.

    Attributes:
        empty: Processes with empty caches of compiled code.
        filled: Processes after one of those that filled a cache.
        kernels: Processes of the backend numpy in which OpenBLAS was told to take other kernels than it had chosen.
    """

    empty: tuple[Process, ...] = ()
    filled: tuple[Process, ...] = ()
    kernels: tuple[Process, ...] = ()

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """Read the result of :meth:`as_dict`.

        Raises:
            KeyError, TypeError: If it is damaged.
        """
        return cls(**{name: tuple(Process(**process) for process in record.get(name, ())) for name in _KINDS})

    def as_dict(self) -> dict[str, Any]:
        """Return the processes as JSON values."""
        return {name: [asdict(process) for process in getattr(self, name)] for name in _KINDS}

    def __add__(self, other: ColdStart) -> ColdStart:
        return ColdStart(*(getattr(self, name) + getattr(other, name) for name in _KINDS))

    def cost(self, name: str) -> list[float]:
        """List the seconds of a cost in each process with empty caches."""
        return [process.costs[name] for process in self.empty]

    def cached(self) -> list[float]:
        """List the seconds of compiling, in the first iteration too, in each process with filled caches."""
        return [process.costs["compile"] + max(0.0, process.costs["first_call"]) for process in self.filled]

    def training(self, iterations: int) -> list[float]:
        """List the seconds of a training of ``iterations`` in each process with empty caches, scaled if it was cut."""
        return [process.training(iterations) for process in self.empty]

    @property
    def costs(self) -> dict[str, float]:
        """Median of each cost over the processes with empty caches, without ``train``."""
        names = [name for name in self.empty[0].costs if name != "train"]
        return {name: statistics.median(self.cost(name)) for name in names}

    @property
    def compile_cached(self) -> float | None:
        """Median of :meth:`cached`; None if nothing was cached."""
        return statistics.median(self.cached()) if self.filled else None

    @property
    def peak_memory(self) -> int | None:
        """Largest peak of a process with empty caches in bytes; None if unknown."""
        return max((process.peak_memory for process in self.empty if process.peak_memory is not None), default=None)


_KINDS = tuple(kind.name for kind in fields(ColdStart))


def measure(
    cases: Sequence[Case],
    threads: int | None,
    seconds: float,
    keep: Path | None = None,
    kernels: bool = False,
    starting: Callable[[Case], None] = lambda case: None,
) -> list[ColdStart | MnistbenchError]:
    """Train each case on MNIST in new processes, in random order.

    A case gets :data:`MOST` processes with empty caches, or as many as start within its ``seconds``. The compilers'
    disk caches are moved to an empty folder meanwhile. What fills it is followed by a process that finds it filled.
    JAX has such a cache only if its user asked for it.

    Args:
        seconds: Seconds of the processes of a case, after which none starts, and of a training, which is cut there.
        keep: Folder to which the compiled code is copied, for a process with its caches there.
        kernels: Whether to train the backend numpy with the other kernels of OpenBLAS too.
        starting: Called with each case before its processes start.

    Returns:
        For each case its costs, or the error of the first process that failed.
    """
    found: list[ColdStart | MnistbenchError] = [ColdStart() for _ in cases]
    spent = [0.0] * len(cases)
    for _ in range(MOST):
        for place in random.sample(range(len(cases)), len(cases)):
            so_far = found[place]
            if isinstance(so_far, MnistbenchError) or (so_far.empty and spent[place] >= seconds):
                continue
            starting(cases[place])
            try:
                options = _options(*cases[place], threads, seconds)
                one, took = timed(lambda: _start(options, keep))  # noqa: B023 - called at once
                if kernels and options["backend"] == "numpy":
                    one += ColdStart(kernels=tuple(_run(options, _with(name)) for name in other_kernels()))
                found[place], spent[place] = so_far + one, spent[place] + took
            except MnistbenchError as error:
                found[place] = error
    return found


def _options(backend: str, workload: Workload, threads: int | None, seconds: float) -> dict[str, Any]:
    return {"backend": backend, "threads": threads, "workload": workload.describe(), "seconds": seconds}


def _start(options: Mapping[str, Any], keep: Path | None) -> ColdStart:
    """Train in a process with empty caches, and if it fills them in another."""
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | dict.fromkeys(CACHES, cache)
        if "JAX_COMPILATION_CACHE_DIR" in environment:
            environment["JAX_COMPILATION_CACHE_DIR"] = cache
        first = _run(options, environment)
        filled = any(path.is_file() for path in Path(cache).rglob("*"))
        if keep is not None:
            shutil.copytree(cache, keep, dirs_exist_ok=True)
        return ColdStart((first,), (_run(options, environment),) if filled else ())


@cache
def other_kernels() -> list[str]:
    """List the kernels that NumPy's OpenBLAS can be told to take here, besides those that it chooses itself."""
    command = [
        sys.executable,
        "-c",
        "from mnistbench.machine import probes; print(getattr(probes.blas(), 'kernel', ''))",
    ]
    found: dict[str, str] = {}
    for name in ("", *_KERNELS):
        # One that the library lacks changes nothing, and one that the processor cannot run ends the process.
        process = subprocess.run(command, capture_output=True, text=True, env=_with(name), check=False)
        if process.returncode == 0:
            found.setdefault(process.stdout.strip(), name)
    return [name for name in found.values() if name]


def _with(kernel: str) -> dict[str, str]:
    """Return the environment with these kernels of OpenBLAS, or with those it chooses itself if it is empty."""
    return os.environ | ({"OPENBLAS_CORETYPE": kernel} if kernel else {})


def _run(options: Mapping[str, Any], environment: dict[str, str]) -> Process:
    """Train in one new process."""
    command = [sys.executable, "-c", f"from {__name__} import child; child()", json.dumps(options)]
    process = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if process.returncode:
        last = process.stderr.strip().splitlines()[-1:] or [f"exit status {process.returncode}"]
        raise MnistbenchError(f"a new process that trains with {options['backend']} failed: {last[0]}")
    return Process(**json.loads(process.stdout))


def child() -> None:
    """Train in the new process, on the embedded MNIST or, if that has too few images, on copies; print the costs."""
    options = json.loads(sys.argv[1])
    try:
        thread_limits.limit(options["threads"])
        backend = registry.get_backend(options["backend"])  # before NumPy is loaded, so that its import time counts

        from mnistbench import machine
        from mnistbench.datasets import load_images
        from mnistbench.machine import probes
        from mnistbench.reference.parameters import Parameters
        from mnistbench.training.loop import load

        baseline = machine.resident_memory()
        workload = Workload.from_description(options["workload"])
        images = load_images(workload.images, workload.seed)
        initial = Parameters.initial(workload.network, workload.seed, workload.recipe.initializer)
        trainer, costs = load(backend, workload, images, initial.astype(workload.dtype), options["threads"])
        with trainer:
            costs.import_ = registry.import_seconds(backend.name)
            costs.compile += registry.probe_seconds(backend.name)
            one = timed(lambda: trainer.advance(1))[1]
            iterations = max(1, min(workload.iterations, int(options["seconds"] / max(one, 1e-9))))
            trainer.reset(initial)
            costs.train = timed(lambda: trainer.advance(iterations))[1]
    except MnistbenchError as error:
        sys.exit(str(error))
    blas = probes.blas()
    found = Process(costs.as_dict(), iterations, baseline, machine.peak_memory(), None if blas is None else blas.kernel)
    print(json.dumps(asdict(found)))
