"""The persistent kernel (``kernel/gradient_descent.cu``): all iterations in one launch, compiled at run time."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from typing import Any

import cupy as cp
import numpy as np
from cupy.cuda import driver
from numpy.typing import NDArray

from mnistbench.backends.base import Description, Metrics, Trainer
from mnistbench.backends.cupy.classic import layout
from mnistbench.backends.cupy.device import Stopwatch, described, refusal
from mnistbench.datasets import Dataset
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Workload

# Images to pack at a time, whole groups: it limits the device memory for packing.
_PACK_IMAGES = 262_144


class PersistentTrainer(Trainer):
    """Hold the images as blocks of bytes, labels, parameters and gradient sums on the current CUDA device.

    Pixels outside ``kept`` are zero in every image and left out: the gradients of their weights are zero.
    """

    def __init__(
        self,
        name: str,
        plan: layout.Plan,
        kernel: Any,
        kept: NDArray[np.intp],
        workload: Workload,
        dataset: Dataset,
        parameters: Parameters,
    ) -> None:
        super().__init__(workload)
        self._plan, self._kernel, self._kept = plan, kernel, kept
        self._stopwatch, self._refusal = Stopwatch(), partial(refusal, name, workload)
        images = dataset.train.images
        self._images = cp.empty((plan.groups, plan.quads, layout.BLOCK, layout.BLOCK), "uint8")
        for first in range(0, len(images), _PACK_IMAGES):
            part = cp.asarray(images[first : first + _PACK_IMAGES])[:, cp.asarray(kept)]
            begin = first // layout.BLOCK
            packed = layout.pack_images(cp, part, plan.quads)
            self._images[begin : begin + len(packed)] = packed
        self._labels = cp.asarray(dataset.train.labels.astype(np.uint8))
        self._values = cp.empty(plan.length, plan.dtype)
        self._partials = cp.empty((plan.blocks, plan.length), plan.dtype)
        self._metrics = cp.empty((plan.blocks, 2), "float64")
        self._arrivals = cp.empty(1, "uint32")
        self.reset(parameters)
        cp.cuda.get_current_stream().synchronize()  # the data is on the device when start returns

    def _launch(self, iterations: int, gradients: Any = None) -> None:
        """Queue ``iterations`` iterations; with ``gradients``, write the gradients there and keep the parameters."""
        plan = self._plan
        self._arrivals.data.memset_async(0, self._arrivals.nbytes)
        arguments = (
            self._images,
            self._labels,
            self._values,
            np.uintp(0) if gradients is None else gradients,
            self._partials,
            self._metrics,
            self._arrivals,
            np.int32(plan.images),
            np.int32(plan.quads),
            np.int32(iterations),
            np.dtype(plan.dtype).type(self.workload.learning_rate),
            np.int32(plan.resident_groups),
            np.int32(plan.chunk),
        )
        self._kernel((plan.blocks,), (plan.threads,), arguments, shared_mem=plan.shared_bytes)

    def advance(self, iterations: int) -> Metrics:
        with self._refusal(), self._stopwatch.measure(iterations):
            self._launch(iterations)
        loss, hits = cp.asnumpy(self._metrics).sum(axis=0) / self._plan.images
        return Metrics(loss=float(loss), accuracy=float(hits))

    def reset(self, parameters: Parameters) -> None:
        self._initial = parameters.astype(self.workload.dtype)
        self._values.set(layout.pack_parameters(self._plan, self._initial, self._kept))

    def parameters(self) -> Parameters:
        return layout.unpack_parameters(self._plan, cp.asnumpy(self._values), self._kept, self._initial)

    def gradients(self) -> Parameters:
        with self._refusal():
            gradients = cp.empty_like(self._values)
            self._launch(1, gradients)
            found = cp.asnumpy(gradients)
        zero = Parameters(
            *([np.zeros_like(a) for a in arrays] for arrays in (self._initial.weights, self._initial.biases))
        )
        return layout.unpack_parameters(self._plan, found, self._kept, zero)

    def _repeat(self, iterations: int) -> None:
        self._launch(iterations, cp.empty_like(self._values))

    def describe(self) -> Description:
        pixels = self.workload.network.inputs
        left_out = pixels - self._kept.size
        skips = f"{left_out} of {pixels} pixels, which are zero in every image" if left_out else None
        found = described(self._stopwatch, self._repeat, str(self._plan), self._plan.bytes_read, skips)
        registers, local_bytes = int(self._kernel.num_regs), int(self._kernel.local_size_bytes)
        own = {"registers": registers, "local_bytes": local_bytes, "shared_bytes": self._plan.shared_bytes}
        return replace(found, gpu={**(found.gpu or {}), **own})

    def close(self) -> None:
        del self._images, self._labels, self._values, self._partials, self._metrics, self._arrivals
        cp.get_default_memory_pool().free_all_blocks()


@cache
def _module(matrix_units: bool, macros: tuple[tuple[str, str], ...]) -> Any:
    """Compile the source for cooperative launches, which need no header of cooperative groups."""
    options = ("-std=c++17", *(f"-D{name}={value}" for name, value in macros))
    return cp.RawModule(code=layout.source(matrix_units), options=options, enable_cooperative_groups=True)


def compiled(plan: layout.Plan, device: layout.Device) -> Any:
    """Return the kernel with all of a block's shared memory allowed, as trainers of other plans may share it."""
    kernel = _module(plan.matrix_units, tuple(plan.macros.items())).get_function("gradient_descent")
    kernel.max_dynamic_shared_size_bytes = device.shared_bytes
    return kernel


def blocks_at_once(kernel: Any, plan: layout.Plan, device: layout.Device) -> int:
    """Return the number of the plan's blocks that the device runs at once: CuPy launches no more, only warning."""
    blocks = driver.occupancyMaxActiveBlocksPerMultiprocessor(kernel.kernel.ptr, plan.threads, plan.shared_bytes)
    return int(blocks) * device.multiprocessors
