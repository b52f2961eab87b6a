"""What PyTorch computes on, and with how many threads: for every trainer of the backend ``torch``."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from mnistbench.backends import trials
from mnistbench.backends.base import Description, Trainer
from mnistbench.exceptions import BackendUnavailable
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Workload
from mnistbench.threads import resolve

NAME = "torch"

# The number of threads and the precision of products are the process's: trainers that set them take turns.
_SETTINGS = threading.Lock()


@cache
def device() -> Any:
    """The GPU where PyTorch sees one, else the CPU."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as of a driver too old for a GPU, which is then not used
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name() -> str:
    """Its name, in words."""
    return "CPU" if device().type == "cpu" else str(torch.cuda.get_device_name(device()))


def threads_in_effect(wanted: int | None) -> int:
    """How many threads of the host to use; None for PyTorch's own choice."""
    if device().type == "cuda":
        return 1
    with _SETTINGS:  # else it may be what a trainer has set for a while
        return int(torch.get_num_threads()) if wanted is None else resolve(wanted)


def widened(images: Any, dtype: Any) -> Any:
    """Bytes to [0, 1], in their order. By a tensor, since dividing by a number multiplies on a GPU."""
    X = images.to(dtype)
    return X.div_(X.new_full((1,), 255))


def on_host(arrays: Iterable[Any]) -> Parameters:
    """Copies of W1, b1, W2, b2, ... on the host; a bias may have one dimension or two."""
    copies = [array.cpu().numpy().copy() for array in arrays]
    return Parameters.from_arrays(array.reshape(len(array), -1) for array in copies)


Way = TypeVar("Way")


def fastest(
    plain: Iterable[Way], compiled: Callable[[Way], list[Way]], start: Callable[[Way], Trainer]
) -> tuple[Way, str]:
    """Return the fastest way to compute, and a remark on those that do not work here.

    Args:
        plain: ways that must work.
        compiled: given the fastest of those, ways that need a compiler, for want of which they may fail.
        start: starts a trainer that computes in a way.
    """
    found = {way: trials.seconds(partial(start, way)) for way in plain}
    remark = ""
    for way in compiled(min(found, key=found.__getitem__)):
        try:
            found[way] = trials.seconds(partial(start, way))
        except BackendUnavailable:
            raise
        except Exception as error:  # whatever a compiler's failure looks like
            remark = f" (torch.compile failed: {type(error).__name__})"
    return min(found, key=found.__getitem__), remark


class DeviceTrainer(Trainer):
    """A trainer of a workload on PyTorch's device; what its data and steps are, a subclass says."""

    def __init__(self, workload: Workload, threads: int) -> None:
        super().__init__(workload)
        self._threads = threads
        self._dtype, self._device = getattr(torch, workload.dtype), device()

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """On the threads asked for, float32 in float32 and not in TF32 or bfloat16, and without autograd."""
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
        """A copy on the device."""
        return torch.from_numpy(np.array(array, dtype)).to(self._device)

    def _described(self, kernel: str, bytes_read: int) -> Description:
        versions = {"torch": torch.__version__, "numpy": np.__version__}
        return Description(device_name(), self._threads, versions, kernel, bytes_read=bytes_read)

    def close(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
