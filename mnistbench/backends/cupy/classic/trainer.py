"""The persistent kernel (``kernel/gradient_descent.cu``): all iterations in one launch, compiled at run time."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import cupy as cp
import numpy as np
from cupy.cuda import driver
from numpy.typing import NDArray

from mnistbench.backends.base import Arithmetic, Description, Metrics, Sums, Trainer
from mnistbench.backends.cupy.classic import epochs, layout
from mnistbench.backends.cupy.classic.dealing import Dealt, deal
from mnistbench.backends.cupy.device import Stopwatch, described, properties, refusal
from mnistbench.backends.cupy.sums import mean_of, sums_of
from mnistbench.datasets import Dataset
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Workload

# Images to pack at a time, whole tiles: it limits the device memory for packing.
_PACK_IMAGES = 262_144


class PersistentTrainer(Trainer):
    """Hold the images as blocks of bytes, labels, parameters and gradient sums on the current CUDA device.

    Pixels outside ``kept`` are zero in every image and left out: the gradients of their weights are zero. Of several
    ranks they keep all: a pixel may be zero in the images of one of them.
    """

    def __init__(
        self,
        name: str,
        plan: layout.Plan,
        kernel: Any,
        kept: NDArray[np.intp],
        dealt: Dealt,
        workload: Workload,
        dataset: Dataset,
        parameters: Parameters,
    ) -> None:
        super().__init__(workload)
        self._plan, self._kernel, self._kept = plan, kernel, kept
        self._stopwatch, self._refusal = Stopwatch(), partial(refusal, name, workload)
        shares, places = layout.pack_shares(plan, dealt.quads)
        self._labels = cp.asarray(dataset.train.labels[dealt.order].astype(np.uint8))
        self._shares, self._places = cp.asarray(shares.view(np.uint8)), cp.asarray(places)
        self._parameters = cp.empty((plan.length, plan.words), plan.dtype)
        self._values, self._epoch = self._parameters[:, 0], epochs.FIRST
        self._partials = cp.zeros((plan.blocks, plan.length, plan.words), plan.dtype)  # a block leaves quads out
        if plan.epochs:
            self._unsent = epochs.unsent(plan, dealt.quads)
            self._count_epochs_anew()
        self._metrics = cp.empty((plan.blocks, 2), "float64")
        self._arrivals = cp.empty(1, "uint32")
        self._images = cp.zeros((plan.cells + plan.slack, layout.BLOCK * layout.BLOCK), "uint8")
        for (first_cell, first, count, quads), listed in zip(shares.tolist(), dealt.quads, strict=True):
            for begin in range(0, count, _PACK_IMAGES):
                rows = dealt.order[first + begin : first + min(begin + _PACK_IMAGES, count)]
                part = cp.asarray(dataset.train.images[rows])
                packed = layout.pack_images(cp, part, kept, listed, quads, plan.matrix_units)
                start = first_cell + begin // layout.BLOCK * quads
                self._images[start : start + len(packed)] = packed
        self.reset(parameters)
        cp.cuda.get_current_stream().synchronize()  # the data is on the device when start returns

    def _launch(self, iterations: int, gradients: Any = None) -> None:
        """Queue ``iterations`` iterations; with ``gradients``, write the gradients there and keep the parameters."""
        plan = self._plan
        if plan.epochs and self._epoch + iterations >= epochs.LASTING:
            self._count_epochs_anew()
        first_epoch = self._epoch
        self._arrivals.data.memset_async(0, self._arrivals.nbytes)
        arguments = (
            self._images,
            self._labels,
            self._shares,
            self._places,
            self._parameters,
            np.uintp(0) if gradients is None else gradients,
            self._partials,
            self._metrics,
            self._arrivals,
            np.int32(plan.images),
            np.int32(plan.all_quads),
            np.int32(plan.quads),
            np.int32(iterations),
            np.dtype(plan.dtype).type(self.workload.learning_rate),
            np.int32(plan.resident_cells),
            np.int32(plan.chunk),
            np.uint32(first_epoch),
        )
        # The function itself: CuPy before 14.2 links a library to modules that are compiled for cooperative launches.
        launch = self._kernel.kernel
        if plan.epochs:
            self._epoch = epochs.LASTING  # whatever interrupts the launch, the next one counts anew
        launch((plan.blocks,), (plan.threads,), arguments, plan.shared_bytes, enable_cooperative_groups=True)
        if plan.epochs:
            self._epoch = first_epoch + iterations

    def _count_epochs_anew(self) -> None:
        """Begin with the first epoch, as if no sum had been sent: epochs are 32 bits."""
        self._epoch = epochs.LASTING  # until all is done: an interrupt may come
        self._parameters.view("uint32")[:, 1] = epochs.FIRST
        self._partials.view("uint32")[..., 1] = cp.asarray(self._unsent)
        self._epoch = epochs.FIRST

    def advance(self, iterations: int) -> Metrics:
        with self._refusal(), self._stopwatch.measure(iterations):
            self._launch(iterations)
        loss, hits = cp.asnumpy(self._metrics).sum(axis=0) / self._plan.images
        return Metrics(loss=float(loss), accuracy=float(hits))

    def reset(self, parameters: Parameters) -> None:
        self._initial = parameters.astype(self.workload.dtype)
        values = layout.pack_parameters(self._plan, self._initial, self._kept)
        self._parameters.set(epochs.with_epoch(self._plan, values, self._epoch))

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

    def split(self, iterations: int) -> Generator[Sums]:
        for _ in range(iterations):
            gradients = self.gradients()
            scores = cp.asnumpy(self._metrics).sum(axis=0) / self._plan.images
            sums = sums_of(gradients, self._plan.images, self.workload.images, scores)
            yield sums
            mean = layout.pack_parameters(self._plan, self.mean_gradients(sums), self._kept)
            rate = np.dtype(self._plan.dtype).type(self.workload.learning_rate)
            with self._refusal():
                # The host multiplies, and the device subtracts: a product in a difference would round otherwise there.
                self._values -= cp.asarray(rate * mean)

    def mean_gradients(self, sums: Sums) -> Parameters:
        return mean_of(sums.gradients, self._initial)

    def _repeat(self, iterations: int) -> None:
        self._launch(iterations, cp.empty_like(self._values))

    @property
    def plan(self) -> layout.Plan:
        """Sizes and launch parameters."""
        return self._plan

    @property
    def device_seconds(self) -> float:
        """Median time on the device of the longest calls of :meth:`advance`."""
        return float(self._stopwatch.describe()["device_seconds"])

    def describe(self) -> Description:
        pixels = self.workload.network.inputs
        left_out = pixels - self._kept.size
        skips = f"{left_out} of {pixels} pixels, which are zero in every image" if left_out else None
        if (left := 1 - self._plan.stored_share) > 0:
            blocks = f"{left:.0%} of the others' quads, which are zero in all images of a block"
            skips = f"{skips}; {blocks}" if skips else blocks
        # Each digit is a product of bytes.
        arithmetic = Arithmetic(8, self._plan.digits) if self._plan.matrix_units else Arithmetic()
        found = described(self._stopwatch, self._repeat, str(self._plan), self._plan.bytes_read, skips, arithmetic)
        registers, local_bytes = int(self._kernel.num_regs), int(self._kernel.local_size_bytes)
        own = {"registers": registers, "local_bytes": local_bytes, "shared_bytes": self._plan.shared_bytes}
        return replace(found, gpu={**(found.gpu or {}), **own})

    def close(self) -> None:
        del self._images, self._labels, self._shares, self._places
        del self._parameters, self._values, self._partials, self._metrics, self._arrivals
        cp.get_default_memory_pool().free_all_blocks()


@dataclass(frozen=True)
class Variant:
    """How the kernel computes, where that is not what the plan chooses.

    Attributes:
        digits: Bytes of a factor on matrix units, 0 for multiply-adds; None for what the plan chooses.
        similar: Whether blocks get similar images, of which they leave more quads of pixels out.
        profiled: Whether the kernel notes the clock at the ends of an iteration's phases.
        epochs: Whether blocks wait for data with epochs in place of grid barriers; in float32 only.
    """

    digits: int | None = None
    similar: bool = True
    profiled: bool = False
    epochs: bool = False


def load(
    name: str, workload: Workload, dataset: Dataset, parameters: Parameters, variant: Variant | None = None
) -> PersistentTrainer | str:
    """Load a classic workload for the kernel on the current device; return the reason, in words, if that cannot be."""
    variant = variant or Variant()
    if dataset.share is None:
        workload = replace(workload, images=len(dataset.train))  # fewer in a warm-up
        kept = np.flatnonzero(np.bitwise_or.reduce(dataset.train.images, axis=0))
    else:
        kept = np.arange(dataset.pixels)
    device, own = properties(), replace(workload, images=len(dataset.train))
    blocks = layout.blocks_of(own.images, device)
    dealt = deal(dataset.train.images, dataset.image_shape, kept, blocks, variant.similar)
    plan = layout.plan(own, kept.size, device, variant.digits, dealt.shares, variant.epochs)
    if isinstance(plan, str):
        return plan
    kernel = compiled(plan, device, variant.profiled)
    if (at_once := blocks_at_once(kernel, plan, device)) < plan.blocks:
        return f"of its {plan.blocks} blocks {at_once} can run at once"
    return PersistentTrainer(name, plan, kernel, kept, dealt, workload, dataset, parameters)


@cache
def _module(matrix_units: bool, macros: tuple[tuple[str, str], ...]) -> Any:
    """Compile the source."""
    options = ("-std=c++17", *(f"-D{name}={value}" for name, value in macros))
    return cp.RawModule(code=layout.source(matrix_units), options=options)


def module(plan: layout.Plan, profiled: bool = False) -> Any:
    """Return the compiled source."""
    macros = plan.macros | ({"PROFILE": "1"} if profiled else {})
    return _module(plan.matrix_units, tuple(macros.items()))


def compiled(plan: layout.Plan, device: layout.Device, profiled: bool = False) -> Any:
    """Return the kernel with all of a block's shared memory allowed, as trainers of other plans may share it."""
    kernel = module(plan, profiled).get_function("gradient_descent")
    kernel.max_dynamic_shared_size_bytes = device.shared_bytes
    return kernel


def blocks_at_once(kernel: Any, plan: layout.Plan, device: layout.Device) -> int:
    """Return the number of the plan's blocks that the device runs at once: CuPy launches no more, only warning."""
    blocks = driver.occupancyMaxActiveBlocksPerMultiprocessor(kernel.kernel.ptr, plan.threads, plan.shared_bytes)
    return int(blocks) * device.multiprocessors
