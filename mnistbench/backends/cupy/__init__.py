"""CuPy: the reference's array operations on an NVIDIA GPU, one kernel launch for each.

The data and the parameters stay on the GPU; what an iteration costs is the launches, and reading the images from
memory in each of the two large matrix products. float32 products are computed in float32: TF32, which rounds
operands to 10 bits, is used by CuPy only when its ``CUPY_TF32`` variable asks for it, and then refused here.
"""

from __future__ import annotations

import os
from typing import Any

import cupy as cp
import numpy as np
from cupy.cuda import runtime

from mnistbench.backends.base import Availability, Backend
from mnistbench.backends.cupy.arrays import ArrayTrainer
from mnistbench.datasets import Dataset, Split
from mnistbench.errors import BackendUnavailable
from mnistbench.network import Parameters
from mnistbench.workload import Workload


class CupyTrainer(ArrayTrainer):
    """The arrays on the current CUDA device; leaving it returns their memory to the device."""

    def close(self) -> None:
        super().close()
        cp.get_default_memory_pool().free_all_blocks()


class CupyBackend(Backend):
    """CuPy on the current CUDA device."""

    name = "cupy"

    def availability(self) -> Availability:
        version = str(cp.__version__)
        try:
            count = runtime.getDeviceCount()
        except runtime.CUDARuntimeError as error:
            reason = f"no usable NVIDIA GPU: {' '.join(str(error).split())}"
            fix = "needs an NVIDIA GPU, and a driver for at least the CUDA version CuPy was built for (see nvidia-smi)"
            return Availability(usable=False, version=version, reason=reason, fix=fix)
        if count == 0:
            return Availability(usable=False, version=version, reason="no NVIDIA GPU", fix="needs an NVIDIA GPU")
        if os.environ.get("CUPY_TF32", "0") not in ("", "0"):
            reason = "CUPY_TF32 is set, so float32 products would be rounded to 10 bits"
            return Availability(usable=False, version=version, reason=reason, fix="unset CUPY_TF32")
        return Availability(usable=True, version=version, device=_device_name())

    def warm_up(self, workload: Workload, threads: int | None = None) -> None:
        """Create the CUDA context and load the libraries and kernels, by training two images."""
        network = workload.network
        two = Split(np.zeros((2, network.inputs), np.uint8), np.zeros(2, np.int64))
        tiny = Dataset("two blank images", (1, network.inputs), network.outputs, two, two, None)
        with self.start(workload, tiny, Parameters.initial(network, workload.seed), threads) as trainer:
            trainer.advance(1)

    def start(
        self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None = None
    ) -> CupyTrainer:
        self.require(workload)
        try:
            return CupyTrainer(cp, cp.asnumpy, _facts(), workload, dataset, parameters)
        except cp.cuda.memory.OutOfMemoryError as error:
            free, total = runtime.memGetInfo()
            reason = (
                f"{workload.images:,} images in {workload.dtype} do not fit into the GPU's memory: "
                f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB are free"
            )
            raise BackendUnavailable(self.name, reason, "use fewer images (--train-size)") from error


def _device_name() -> str:
    name = runtime.getDeviceProperties(cp.cuda.Device().id)["name"]
    return name.decode() if isinstance(name, bytes) else str(name)


def _facts() -> dict[str, Any]:
    """What describes this GPU and the software that drives it."""
    return {
        "device": _device_name(),
        "threads": 1,
        "versions": {
            "cupy": str(cp.__version__),
            "cuda": str(runtime.runtimeGetVersion()),
            "cuda driver": str(runtime.driverGetVersion()),
        },
        "kernel": "CuPy array operations, cuBLAS products",
        "skips": None,
    }
