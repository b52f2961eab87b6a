"""PyTorch's device, threads and compiler, for both trainers of the backend ``torch``."""

from __future__ import annotations

import threading
import types
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from mnistbench.backends.base import Arithmetic, Description, Trainer
from mnistbench.exceptions import BackendUnavailable
from mnistbench.machine import nvidia
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Workload
from mnistbench.threads import resolve

NAME = "torch"

Result = TypeVar("Result")

# Runs before a capture.
_WARM_UPS = 3

# The number of threads and the precision of products are per process, so trainers that set them take turns.
_SETTINGS = threading.Lock()


@cache
def device() -> Any:
    """Return the GPU if PyTorch sees one, else the CPU."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as about a driver that is too old
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name() -> str:
    """Return the device's name."""
    return "CPU" if device().type == "cpu" else str(torch.cuda.get_device_name(device()))


def threads_in_effect(wanted: int | None) -> int:
    """Return the number of host threads to use; by default PyTorch's own choice."""
    if device().type == "cuda":
        return 1
    with _SETTINGS:  # not while a trainer has changed the number
        return int(torch.get_num_threads()) if wanted is None else resolve(wanted)


def widened(images: Any, dtype: Any) -> Any:
    """Convert bytes to [0, 1], in the same memory order; by a tensor, as a GPU would multiply by 1/255."""
    X = images.to(dtype)
    return X.div_(X.new_full((1,), 255))


def on_host(arrays: Iterable[Any]) -> Parameters:
    """Copy W1, b1, W2, b2, ... to the host; a bias may have one dimension or two."""
    copies = [array.cpu().numpy().copy() for array in arrays]
    return Parameters.from_arrays(array.reshape(len(array), -1) for array in copies)


def compiled(function: Any) -> Callable[..., Any]:
    """Compile a copy of ``function``: PyTorch caches by code object, and gives up at the ninth size of one."""
    copy = types.FunctionType(function.__code__.replace(), function.__globals__, closure=function.__closure__)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # PyTorch's compiler uses deprecated parts of PyTorch
        found: Callable[..., Any] = torch.compile(copy, dynamic=False)
    return found


def captured(function: Callable[[], Result]) -> tuple[Callable[[], object], Result]:
    """Capture a function as a CUDA graph, after a warm-up that loads libraries and kernels.

    Returns:
        A function that replays the graph, and what ``function`` returned, whose tensors every replay overwrites.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARM_UPS):
            function()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    # What threads of other libraries do in the meantime is not captured, and must not end the capture.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        result = function()
    return graph.replay, result


class DeviceTrainer(Trainer):
    """The common part of PyTorch's trainers; subclasses have data and steps."""

    def __init__(self, workload: Workload, threads: int, failed: str | None = None) -> None:
        super().__init__(workload)
        self._threads, self._failed = threads, failed
        self._dtype, self._device = getattr(torch, workload.dtype), device()

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Set the number of threads, disable TF32 and bfloat16 products, and disable autograd."""
        with _SETTINGS:
            threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
            torch.set_num_threads(self._threads)
            torch.set_float32_matmul_precision("highest")
            try:
                with torch.inference_mode():
                    yield
            except RuntimeError as error:
                if not (isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)):
                    raise
                what = f"{self.workload.images:,} images in {self.workload.dtype}"
                reason = f"{what} do not fit into the memory of the {device_name()}"
                raise BackendUnavailable(NAME, reason, "use fewer images (--train-size)") from error
            finally:
                torch.set_num_threads(threads)
                torch.set_float32_matmul_precision(precision)

    def _placed(self, array: NDArray[Any], dtype: str) -> Any:
        """Copy an array to the device."""
        return torch.from_numpy(np.array(array, dtype)).to(self._device)

    @abstractmethod
    def _repeat(self, iterations: int) -> None:
        """Queue the work of some iterations on the current stream, without side effects."""

    def _described(self, kernel: str, bytes_read: int, arithmetic: Arithmetic) -> Description:
        versions = {"torch": torch.__version__, "numpy": np.__version__}
        found = Description(device_name(), self._threads, versions, kernel, None, bytes_read, failed=self._failed)
        if device().type == "cpu":
            return found
        gpu = self._measured()
        versions["cuda"] = str(torch.version.cuda)
        if "driver_version" in gpu:
            versions["nvidia driver"] = gpu.pop("driver_version")
        return replace(found, gpu=gpu, arithmetic=arithmetic)

    def _measured(self) -> dict[str, Any]:
        """Return the GPU's memory in bytes, the most that PyTorch held of it since a trainer was closed, and clocks."""

        def repeat(iterations: int) -> None:
            self._repeat(iterations)
            torch.cuda.synchronize()

        facts = torch.cuda.get_device_properties(device())
        most = int(torch.cuda.max_memory_reserved())  # before the work below, which is not a training's
        with self._computing():
            clocks = nvidia.under_load(repeat, nvidia.bus_id(torch.cuda.current_device()))
        return {
            "memory_bytes": int(facts.total_memory),
            "peak_memory_bytes": most,
            "compute_capability": f"{facts.major}{facts.minor}",
            **clocks,
        }

    def close(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
