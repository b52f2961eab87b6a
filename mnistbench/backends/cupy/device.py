"""The CUDA device of both CuPy backends: availability, properties, errors and timing."""

from __future__ import annotations

import os
import traceback
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cupy as cp
import numpy as np
from cupy.cuda import runtime

from mnistbench import words
from mnistbench.backends.base import Arithmetic, Availability, Backend, Description, Trainer
from mnistbench.backends.cupy.classic import layout
from mnistbench.datasets import Dataset
from mnistbench.exceptions import BackendUnavailable, MnistbenchError, UnsupportedWorkload
from mnistbench.machine import nvidia
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Workload

_NEEDS = "needs an NVIDIA GPU, and a driver for at least the CUDA version CuPy was built for (see nvidia-smi)"
_LIBRARIES = "CUDA's libraries come with pip install 'mnistbench[cuda12]' or 'mnistbench[cuda13]'"


class CudaBackend(Backend):
    """The common part of the CuPy backends."""

    def availability(self) -> Availability:
        version = str(cp.__version__)
        try:
            count = runtime.getDeviceCount()
        except runtime.CUDARuntimeError as error:
            return Availability(False, version, reason=f"no usable NVIDIA GPU: {words.one_line(error)}", fix=_NEEDS)
        if count == 0:
            return Availability(False, version, reason="no NVIDIA GPU", fix="needs an NVIDIA GPU")
        if os.environ.get("CUPY_TF32", "0") not in ("", "0"):
            reason = "CUPY_TF32 is set, so float32 products would be rounded to 10 bits"
            return Availability(False, version, reason=reason, fix="unset CUPY_TF32")
        return Availability(True, version, device=device_name())

    def warm_up(self, workload: Workload, threads: int | None = None) -> None:
        """Create the CUDA context and load libraries and kernels, by training on two images without zero pixels."""
        parameters = Parameters.initial(workload.network, workload.seed)
        with self.start(workload, Dataset.blank(workload.network, 2), parameters, threads) as trainer:
            trainer.advance(1)

    def load(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> Trainer:
        if not len(dataset.train):
            raise UnsupportedWorkload(f"backend {self.name} needs an image for each rank; start fewer ranks")
        with refusal(self.name, workload, f"{_NEEDS}; {_LIBRARIES}"):
            return self._load(workload, dataset, parameters)

    @abstractmethod
    def _load(self, workload: Workload, dataset: Dataset, parameters: Parameters) -> Trainer:
        """Create the trainer; CUDA's errors are handled by the caller."""


@contextmanager
def refusal(name: str, workload: Workload, fix: str | None = None) -> Iterator[None]:
    """Turn errors of CUDA, its compiler or its libraries into one line.

    Raises:
        BackendUnavailable: with ``fix``, or advice on memory where that is too small.
    """
    try:
        yield
    except MnistbenchError:
        raise
    except cp.cuda.memory.OutOfMemoryError as error:
        traceback.clear_frames(error.__traceback__)  # frames that hold arrays
        cp.get_default_memory_pool().free_all_blocks()
        free, total = runtime.memGetInfo()
        reason = (
            f"{workload.images:,} images in {workload.dtype} do not fit into the GPU's memory: "
            f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB are free"
        )
        raise BackendUnavailable(name, reason, "use fewer images (--train-size)") from error
    # Errors of the runtime and the driver, and missing libraries or headers, are RuntimeErrors.
    except (RuntimeError, ImportError, cp.cuda.compiler.CompileException) as error:
        raise BackendUnavailable(name, words.one_line(error), fix) from error


class Stopwatch:
    """Measure time on the device, by CUDA events on the current stream."""

    def __init__(self) -> None:
        self._seconds: list[float] = []
        self._iterations = 0

    @contextmanager
    def measure(self, iterations: int) -> Iterator[None]:
        """Time the ``with`` block, which runs ``iterations`` iterations, and wait for the device at its end."""
        start, stop = cp.cuda.Event(), cp.cuda.Event()
        start.record()
        yield
        stop.record()
        stop.synchronize()
        if iterations > self._iterations:
            self._iterations, self._seconds = iterations, []
        if iterations == self._iterations:
            self._seconds.append(cp.cuda.get_elapsed_time(start, stop) / 1e3)

    def iterations_in(self, seconds: float) -> int:
        """Estimate the number of iterations in that time: at least 1, and 1 if none was measured yet."""
        return max(1, int(seconds * self._iterations / np.median(self._seconds))) if self._seconds else 1

    def describe(self) -> dict[str, Any]:
        """Return the median time of the longest calls of advance, and their number of iterations."""
        seconds = float(np.median(self._seconds)) if self._seconds else None
        return {"device_seconds": seconds, "device_iterations": self._iterations}


def device_name() -> str:
    """Return the current device's name."""
    name = runtime.getDeviceProperties(cp.cuda.Device().id)["name"]
    return name.decode() if isinstance(name, bytes) else str(name)


def properties() -> layout.Device:
    """Return the current device's properties."""
    device = cp.cuda.Device()
    found = device.attributes
    return layout.Device(
        multiprocessors=found["MultiProcessorCount"],
        shared_bytes=found["MaxSharedMemoryPerBlockOptin"],
        l2_bytes=found["L2CacheSize"],
        registers=found["MaxRegistersPerBlock"],
        compute_capability=int(device.compute_capability),
        cooperative=bool(found["CooperativeLaunch"]),
    )


def described(
    stopwatch: Stopwatch,
    repeat: Callable[[int], None],
    kernel: str,
    bytes_read: int,
    skips: str | None = None,
    arithmetic: Arithmetic | None = None,
    failed: str | None = None,
) -> Description:
    """Describe the GPU, its software and its measurements.

    ``gpu`` has ``memory_bytes``, ``peak_memory_bytes`` (the most that CuPy held since a trainer was last closed),
    ``compute_capability``, ``device_seconds`` and ``device_iterations`` (:class:`Stopwatch`), and, where nvidia-smi
    answers, clocks in MHz under load and at most, and ``throttled``: the reasons for reduced clocks, or None.

    Args:
        repeat: queue the work of some iterations on the current stream without side effects. It keeps the device busy
            during the query: the clocks of an idle device recover at once.
        arithmetic: units that compute the products; None if unknown.
        failed: ways to compute that failed, in words, or None.
    """
    device = cp.cuda.Device()

    def work() -> None:
        repeat(stopwatch.iterations_in(0.05))
        cp.cuda.get_current_stream().synchronize()

    smi = nvidia.ask(str(device.pci_bus_id), work)
    versions = {
        "cupy": str(cp.__version__),
        "cuda": str(runtime.runtimeGetVersion()),
        "cuda driver": str(runtime.driverGetVersion()),
    }
    if "driver_version" in smi:
        versions["nvidia driver"] = smi.pop("driver_version")
    gpu = {
        "memory_bytes": int(device.mem_info[1]),
        "peak_memory_bytes": int(cp.get_default_memory_pool().total_bytes()),
        "compute_capability": str(device.compute_capability),
        **stopwatch.describe(),
        **smi,
    }
    return Description(device_name(), 1, versions, kernel, skips, bytes_read, gpu, failed, arithmetic)
