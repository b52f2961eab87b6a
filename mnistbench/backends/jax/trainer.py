"""The common part of JAX's trainers, of a process by itself and of a rank."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import jax
import jaxlib
import numpy as np
from numpy.typing import NDArray

from mnistbench import words
from mnistbench.backends.base import Arithmetic, Description, Trainer
from mnistbench.backends.jax import device, group
from mnistbench.exceptions import BackendUnavailable, RankFailed
from mnistbench.machine import nvidia
from mnistbench.task.share import Share
from mnistbench.task.workload import Workload


class DeviceTrainer(Trainer):
    """The common part of JAX's trainers; subclasses have data and programs."""

    def __init__(self, workload: Workload, threads: int, failed: str | None = None, share: Share | None = None) -> None:
        super().__init__(workload)
        self._threads, self._failed, self._share = threads, failed, share
        self._most = -(-workload.images // (share.ranks if share else 1))  # images of a rank that has most

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Enable 64-bit types for float64 only, whatever the process has set."""
        with jax.enable_x64(self.workload.dtype == "float64"):
            try:
                yield
            except jax.errors.JaxRuntimeError as error:
                if "gloo" in str(error).lower() or "nccl" in str(error).lower():
                    raise RankFailed(f"another rank has ended: {words.exception(error)}") from error
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                what = f"{self.workload.images:,} images in {self.workload.dtype}"
                reason = f"{what} do not fit into the memory of the {device.device().name}"
                raise BackendUnavailable(device.NAME, reason, "use fewer images (--train-size)") from error

    def _placed(self, array: NDArray[Any], dtype: str) -> Any:
        """Copy an array to the device; JAX alone might share the caller's memory."""
        return self._shared(np.array(array, dtype), group.ALL)

    def _parted(self, array: NDArray[Any], dtype: str) -> Any:
        """Copy a rank's part of an array to the device; those of all ranks have the same shape."""
        return self._shared(np.array(array, dtype), group.EACH)

    def _shared(self, array: Any, place: Any) -> Any:
        return jax.device_put(array, device.device().device) if self._share is None else group.shared(array, place)

    def _scalar(self, value: float) -> Any:
        return np.dtype(self.workload.dtype).type(value)

    def _no_metrics(self) -> tuple[Any, Any]:
        """Return a loss and a number of hits, as a loop starts from."""
        whole = "int64" if self.workload.dtype == "float64" else "int32"  # as JAX sums where it has 64-bit types
        return self._placed(np.zeros(()), self.workload.dtype), self._placed(np.zeros(()), whole)

    def _levels(self) -> Any:
        """Return the table of :func:`widened`."""
        return np.arange(256, dtype=self.workload.dtype) / self._scalar(255)

    @abstractmethod
    def _repeat(self, iterations: int) -> None:
        """Run some iterations without side effects, and wait for the device."""

    def _described(self, kernel: str, bytes_read: int, arithmetic: Arithmetic) -> Description:
        versions = {"jax": jax.__version__, "jaxlib": jaxlib.__version__, "numpy": np.__version__}
        found = Description(
            device.device().name, self._threads, versions, kernel, None, bytes_read, failed=self._failed
        )
        if found.device == "CPU":
            return found
        gpu = self._measured()
        if "driver_version" in gpu:
            versions["nvidia driver"] = gpu.pop("driver_version")
        return replace(found, gpu=gpu, arithmetic=arithmetic)

    def _measured(self) -> dict[str, Any]:
        """Return the GPU's memory in bytes that JAX may use, the most that it has held in this process, and clocks."""
        own = device.device().device
        memory = own.memory_stats() or {}
        names = {"memory_bytes": "bytes_limit", "peak_memory_bytes": "peak_bytes_in_use"}
        found = {name: int(memory[theirs]) for name, theirs in names.items() if theirs in memory}
        capability = str(getattr(own, "compute_capability", "")).replace(".", "")
        if self._share is not None:  # the ranks would repeat another number of iterations each
            return {**found, "compute_capability": capability or None}
        with self._computing():
            clocks = nvidia.under_load(self._repeat, nvidia.bus_id(own.id))
        return {**found, "compute_capability": capability or None, **clocks}
