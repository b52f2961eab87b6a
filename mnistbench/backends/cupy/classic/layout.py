"""Sizes of the persistent kernel (``kernel/gradient_descent.cu``) for a device, and the layout of its arrays.

Needs no CuPy. Where :func:`plan` finds no sizes, ``cupy`` uses the array operations of ``plain.py``; ../README.md lists
when.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import resources
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import DType, Workload

BLOCK = 4
"""Number of images in a group, and of pixels in a quad; a group by a quad is a block of 16 bytes."""

# Hidden units per pass. Converting the pixels costs each pass about as much as two units.
_UNITS = (10, 6, 2)
_PASS = 2

# Registers per thread, and the largest number of classes that they hold.
_REGISTERS = {"float32": 168, "float64": 255}
_CLASSES = {"float32": 32, "float64": 16}

# Groups in a warp's tile, by which chunks and resident images are counted, and threads in a warp.
_TILE = 8
_WARP = 32


@dataclass(frozen=True)
class Device:
    """Properties of a GPU.

    Attributes:
        multiprocessors: number of streaming multiprocessors.
        shared_bytes: most shared memory per block.
        l2_bytes: size of the L2 cache.
        registers: registers per block.
        compute_capability: 90 for 9.0.
        cooperative: whether it supports cooperative launches.
    """

    multiprocessors: int
    shared_bytes: int
    l2_bytes: int
    registers: int
    compute_capability: int
    cooperative: bool = True


@dataclass(frozen=True)
class Plan:
    """Compile-time sizes and launch parameters of the kernel.

    Attributes:
        quads: quads of pixels, the bias's pixel included.
        units: hidden units per pass over the images.
        threads: threads per block.
        matrix_units: whether matrix units compute the products, in exact integer arithmetic.
        resident_groups: groups of images that each block keeps in shared memory.
        chunk: groups of images per forward and backward pass of a block.
        shared_bytes: shared memory per block.
    """

    dtype: DType
    images: int
    hidden: int
    classes: int
    quads: int
    units: int
    passes: int
    threads: int
    blocks: int
    matrix_units: bool
    resident_groups: int
    chunk: int
    shared_bytes: int

    @property
    def groups(self) -> int:
        """Groups of four images, in all blocks together."""
        return -(-self.images // BLOCK)

    @property
    def group_bytes(self) -> int:
        """Bytes of a group's images."""
        return self.quads * BLOCK * BLOCK

    @property
    def bytes_read(self) -> int:
        """Bytes of images per iteration, forward and backward, from shared memory, L2 cache and device memory."""
        return 2 * self.passes * self.groups * self.group_bytes

    @property
    def class_quads(self) -> int:
        """Quads of classes."""
        return -(-self.classes // 4)

    @property
    def weight_values(self) -> int:
        """Values of W1 and b1, padding included."""
        return self.passes * self.quads * self.units * 4

    @property
    def length(self) -> int:
        """Values of all parameters, padding included."""
        return self.weight_values + (self.passes * self.units + 1) * self.class_quads * 4

    @property
    def macros(self) -> dict[str, str]:
        """Macros that the source is compiled with."""
        real = {"float32": "float", "float64": "double"}[self.dtype]
        sizes = {"UNITS": self.units, "PASSES": self.passes, "CLASSES": self.classes, "THREADS": self.threads}
        return {"REAL": real, **{name: str(value) for name, value in sizes.items()}}

    def __str__(self) -> str:
        how = "integer matrix units" if self.matrix_units else "multiply-adds"
        largest = -(-self.groups // self.blocks)
        kept = min(1.0, self.resident_groups / largest)
        return (
            f"one persistent launch, {how}, {self.blocks} blocks of {self.threads} threads, "
            f"{kept:.0%} of the images kept in shared memory"
        )


def plan(workload: Workload, pixels: int, device: Device, matrix_units: bool | None = None) -> Plan | str:
    """Choose sizes for a workload on a device; return the reason, in words, if there are none.

    Args:
        pixels: pixels per image that are not zero in every image.
        matrix_units: whether to use matrix units; None where device and dtype allow.
    """
    dtype, hidden, classes = workload.dtype, workload.network.hidden[0], workload.network.outputs
    threads = device.registers // _REGISTERS[dtype] // _WARP * _WARP
    if not device.cooperative:
        return "the device has no cooperative launch"
    if device.compute_capability < 70:
        major, minor = divmod(device.compute_capability, 10)
        return f"compute capability {major}.{minor} is below 7.0"
    if classes > _CLASSES[dtype]:
        return f"{classes} classes are more than the {_CLASSES[dtype]} that a thread's registers hold in {dtype}"
    if hidden > threads - 2:
        return f"{hidden} hidden units are more than the {threads - 2} that a block's threads compute in {dtype}"
    possible = dtype == "float32" and device.compute_capability >= 80
    for units in sorted(_UNITS, key=lambda units: (-(-hidden // units) * (units + _PASS), -units)):
        passes = -(-hidden // units)
        if passes * units < threads:
            blocks = min(device.multiprocessors, -(-workload.images // BLOCK))
            sizes = Plan(
                dtype=dtype,
                images=workload.images,
                hidden=hidden,
                classes=classes,
                quads=-(-(pixels + 1) // BLOCK),
                units=units,
                passes=passes,
                threads=threads,
                blocks=blocks,
                matrix_units=possible if matrix_units is None else matrix_units,
                resident_groups=0,
                chunk=0,
                shared_bytes=0,
            )
            if (fitted := _fit(sizes, device)) is not None:
                return fitted
    return f"the weights of {pixels} pixels do not fit into {device.shared_bytes // 1024} KiB of shared memory"


def _fit(sizes: Plan, device: Device) -> Plan | None:
    """Fill in the chunk and the resident groups; return None if the smallest do not fit.

    A chunk is all of a block's images if they fit. Otherwise the chunks of all blocks fit into half of the L2 cache, so
    that images outside shared memory are read from device memory once per iteration.
    """
    own = _up(-(-sizes.groups // sizes.blocks))
    cached = device.l2_bytes // 2 // (sizes.blocks * sizes.group_bytes) // _TILE * _TILE
    for chunk in (own, max(_TILE, min(own, cached))):
        while chunk > _TILE and working_bytes(sizes, chunk) > device.shared_bytes:
            chunk = _up(chunk // 2) if chunk > 2 * _TILE else _TILE
        working = working_bytes(sizes, chunk)
        resident = min((device.shared_bytes - working) // sizes.group_bytes // _TILE * _TILE, own)
        if resident >= 0 and own - resident <= cached:
            break
    if resident < 0:
        return None
    return replace(sizes, resident_groups=resident, chunk=chunk, shared_bytes=working + resident * sizes.group_bytes)


def _up(groups: int) -> int:
    """Round up to whole tiles."""
    return -(-groups // _TILE) * _TILE


def working_bytes(sizes: Plan, chunk: int) -> int:
    """Return a block's shared memory besides images, in the order of gradient_descent() in the kernel."""
    item = np.dtype(sizes.dtype).itemsize
    quad = 4 * item
    hidden = sizes.passes * sizes.units
    activations = chunk * hidden * quad
    errors = chunk * BLOCK * sizes.class_quads * quad
    output_weights = (hidden + 1) * sizes.class_quads * quad
    scales = -(-hidden // 4) * quad
    units = sizes.units if sizes.matrix_units else sizes.units | 1
    weights = (_up(sizes.quads) if sizes.matrix_units else sizes.quads) * units * quad
    scratch = sizes.threads * sizes.class_quads * quad
    return activations + errors + output_weights + scales + max(weights, scratch)


def source(matrix_units: bool) -> str:
    """Return the kernel's three source files as one, with their names for the compiler's messages."""
    folder = resources.files("mnistbench.backends.cupy") / "kernel"
    names = ("common.cuh", "matrix_units.cuh" if matrix_units else "multiply_add.cuh", "gradient_descent.cu")
    return "".join(f'#line 1 "{name}"\n{(folder / name).read_text(encoding="utf-8")}' for name in names)


def pack_images(xp: ModuleType, images: Any, quads: int) -> Any:
    """Pack images (m, pixels) uint8 as blocks, (groups, quads, 4, 4) uint8: [group][quad][image][pixel].

    A pixel of 255, whose weights are the biases, follows the last pixel of every image; the padding is zero.
    """
    m, pixels = images.shape
    padded = xp.zeros((-(-m // BLOCK) * BLOCK, quads * BLOCK), dtype="uint8")
    padded[:m, :pixels] = images
    padded[:m, pixels] = 255
    return xp.ascontiguousarray(padded.reshape(-1, BLOCK, quads, BLOCK).transpose(0, 2, 1, 3))


def pack_parameters(plan: Plan, parameters: Parameters, kept: NDArray[np.intp]) -> NDArray[Any]:
    """Pack parameters for the kernel, (length,). ``kept`` has the pixels that are not zero in every image."""
    (W1, W2), (b1, b2) = parameters.weights, parameters.biases
    first = np.zeros((plan.quads * BLOCK, plan.passes * plan.units), plan.dtype)
    first[: kept.size, : plan.hidden] = W1[:, kept].T
    first[kept.size, : plan.hidden] = b1[:, 0]
    second = np.zeros((plan.passes * plan.units + 1, plan.class_quads * 4), plan.dtype)
    second[: plan.hidden, : plan.classes] = W2.T
    second[-1, : plan.classes] = b2[:, 0]
    blocks = first.reshape(plan.quads, BLOCK, plan.passes, plan.units).transpose(2, 0, 3, 1)
    return np.concatenate([blocks.ravel(), second.ravel()])


def unpack_parameters(plan: Plan, values: NDArray[Any], kept: NDArray[np.intp], others: Parameters) -> Parameters:
    """Reverse :func:`pack_parameters`; pixels that are not kept have the weights of ``others``."""
    blocks = values[: plan.weight_values].reshape(plan.passes, plan.quads, plan.units, BLOCK)
    first = blocks.transpose(1, 3, 0, 2).reshape(plan.quads * BLOCK, plan.passes * plan.units)
    second = values[plan.weight_values :].reshape(plan.passes * plan.units + 1, plan.class_quads * 4)
    W1 = others.weights[0].astype(plan.dtype)
    W1[:, kept] = first[: kept.size, : plan.hidden].T
    b1 = first[kept.size, : plan.hidden, None].copy()
    W2 = second[: plan.hidden, : plan.classes].T.copy()
    b2 = second[-1, : plan.classes, None].copy()
    return Parameters([W1, W2], [b1, b2])
