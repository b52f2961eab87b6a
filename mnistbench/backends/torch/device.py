"""PyTorch's device, threads and compiler, for both trainers of the backend ``torch``."""

from __future__ import annotations

import threading
import types
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mnistbench.backends.base import Description, Trainer
from mnistbench.backends.trials import Trials, Way
from mnistbench.exceptions import BackendUnavailable
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Workload
from mnistbench.threads import resolve

NAME = "torch"

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


def fastest(
    plain: Iterable[Way], compiled: Callable[[Way], list[Way]], start: Callable[[Way], Trainer], what: str
) -> tuple[Way, str]:
    """Return the fastest way to compute, and a remark on ways that failed.

    Args:
        plain: ways that must work.
        compiled: function from the fastest of those to ways that need a compiler and may fail.
        start: function that starts a trainer on a way.
        what: what is computed, which tells these trials from others.
    """
    trials, remark = Trials(start, f"{NAME}, {what}"), ""
    for way in plain:
        trials.run(way)
    for way in compiled(trials.fastest):
        try:
            trials.run(way)
        except BackendUnavailable:
            raise
        except Exception as error:  # a compiler may fail with any exception
            remark = f" (torch.compile failed: {type(error).__name__})"
    return trials.fastest, remark


class DeviceTrainer(Trainer):
    """The common part of PyTorch's trainers; subclasses have data and steps."""

    def __init__(self, workload: Workload, threads: int) -> None:
        super().__init__(workload)
        self._threads = threads
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

    def _described(self, kernel: str, bytes_read: int) -> Description:
        versions = {"torch": torch.__version__, "numpy": np.__version__}
        return Description(device_name(), self._threads, versions, kernel, bytes_read=bytes_read)

    def close(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
