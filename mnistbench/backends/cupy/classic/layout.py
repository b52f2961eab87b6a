"""Sizes of the persistent kernel (``kernel/gradient_descent.cu``) for a device, and the layout of its arrays.

Needs no CuPy. Where :func:`plan` finds no sizes, ``cupy`` uses the array operations of ``plain.py``; ../README.md lists
when.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import DType, Workload

BLOCK = 4
"""Number of images in a group, and of pixels in a quad; images are stored in cells of 16 bytes."""

# Hidden units per pass, by digits: three digits of six units would fill as many tiles as four. Converting the pixels
# costs each pass about as much as two units.
_UNITS = {0: (10, 6, 2), 3: (10, 2), 4: (10, 6, 2)}
_PASS = 2

# Registers per thread, and the largest number of classes that they hold.
_REGISTERS = {"float32": 168, "float64": 255}
_CLASSES = {"float32": 32, "float64": 16}

TILE_IMAGES = 32
"""Images in a tile: blocks have whole tiles, chunks and resident images are counted by them."""

WARPS = 12
"""Warps of a block in float32; each computes a tile of images at a time."""

_TILE = TILE_IMAGES // BLOCK
_WARP = 32

# With matrix units: quads to which a pass's weights are padded, and cells behind the images (OCTET_STEP, SLACK).
_WEIGHT_QUADS = 32
_SLACK = 32

SHARE = np.dtype([("first_cell", "i8"), ("first_image", "i4"), ("images", "i4"), ("quads", "i4")], align=True)
"""A block's share of the images, as in gradient_descent.cu."""


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
        shares: numbers of images and of stored quads of each block.
        all_quads: quads of pixels, the bias's pixel included.
        units: hidden units per pass over the images.
        threads: threads per block.
        digits: bytes of a factor of the products, which matrix units compute in exact integer arithmetic; 0 if
            multiply-adds do.
        resident_cells: cells of images that are kept in shared memory.
        chunk: groups of images per forward and backward pass of a block.
        shared_bytes: shared memory per block.
        epochs: whether blocks wait for data with epochs in place of grid barriers.
    """

    dtype: DType
    images: int
    hidden: int
    classes: int
    shares: tuple[tuple[int, int], ...]
    all_quads: int
    units: int
    passes: int
    threads: int
    digits: int
    resident_cells: int
    chunk: int
    shared_bytes: int
    epochs: bool

    @property
    def matrix_units(self) -> bool:
        """Whether matrix units compute the products."""
        return self.digits > 0

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return len(self.shares)

    @property
    def quads(self) -> int:
        """Most quads that a block stores."""
        return max(quads for _, quads in self.shares)

    @property
    def most_groups(self) -> int:
        """Groups of four images of the block that has most, in whole tiles."""
        return max(groups_of(images) for images, _ in self.shares)

    @property
    def cells(self) -> int:
        """Cells of all images."""
        return sum(groups_of(images) * quads for images, quads in self.shares)

    @property
    def resident_share(self) -> float:
        """Share of the images that are kept in shared memory."""
        kept = (resident_groups(self.resident_cells, images, quads) * quads for images, quads in self.shares)
        return sum(kept) / self.cells

    @property
    def stored_share(self) -> float:
        """Share of the quads that the blocks store."""
        return sum(images * quads for images, quads in self.shares) / (self.images * self.all_quads)

    @property
    def slack(self) -> int:
        """Cells behind the images, which the kernel reads and does not count."""
        return _SLACK if self.matrix_units else 0

    @property
    def bytes_read(self) -> int:
        """Bytes of images per iteration, forward and backward, from shared memory, L2 cache and device memory."""
        return 2 * self.passes * self.cells * BLOCK * BLOCK

    @property
    def class_quads(self) -> int:
        """Quads of classes."""
        return -(-self.classes // 4)

    @property
    def weight_values(self) -> int:
        """Values of W1 and b1, padding included."""
        return self.passes * self.all_quads * self.units * 4

    @property
    def length(self) -> int:
        """Values of all parameters, padding included: an even number of quads."""
        return _up(self.weight_values + self.output_values, 8)

    @property
    def words(self) -> int:
        """Words in which the kernel stores a parameter or a gradient sum: the value and, with epochs, its epoch."""
        return 2 if self.epochs else 1

    @property
    def output_values(self) -> int:
        """Values of W2 and b2, padding included."""
        return (self.passes * self.units + 1) * self.class_quads * 4

    @property
    def macros(self) -> dict[str, str]:
        """Macros that the source is compiled with."""
        real = {"float32": "float", "float64": "double"}[self.dtype]
        sizes = {"UNITS": self.units, "PASSES": self.passes, "CLASSES": self.classes, "THREADS": self.threads}
        if self.digits:
            sizes["DIGITS"] = self.digits
        if self.epochs:
            sizes["EPOCHS"] = 1
        return {"REAL": real, **{name: str(value) for name, value in sizes.items()}}

    def __str__(self) -> str:
        how = {0: "multiply-adds", 3: "integer matrix units with three digits", 4: "integer matrix units"}[self.digits]
        waiting = "epochs in place of grid barriers, " if self.epochs else ""
        return (
            f"one persistent launch, {how}, {waiting}{self.blocks} blocks of {self.threads} threads, "
            f"{self.resident_share:.0%} of the images kept in shared memory"
        )


def groups_of(images: int) -> int:
    """Return the number of groups of a block with ``images`` images, in whole tiles."""
    return _up(-(-images // BLOCK))


def resident_groups(cells: int, images: int, quads: int) -> int:
    """Return how many of a block's groups fit into ``cells`` cells of 16 bytes: all, or whole tiles."""
    return min(groups_of(images), cells // quads // _TILE * _TILE)


def blocks_of(images: int, device: Device) -> int:
    """Return the number of blocks for ``images`` images: one on each multiprocessor, unless some would have none."""
    return min(device.multiprocessors, -(-images // TILE_IMAGES))


def even_shares(images: int, quads: int, blocks: int) -> NDArray[np.int64]:
    """Return the shares of blocks whose numbers of tiles differ by one at most, and which store all quads."""
    bounds = np.minimum(TILE_IMAGES * (-(-images // TILE_IMAGES) * np.arange(blocks + 1) // blocks), images)
    return np.stack([np.diff(bounds), np.full(blocks, quads)], axis=1)


def plan(
    workload: Workload,
    pixels: int,
    device: Device,
    digits: int | None = None,
    shares: NDArray[np.int64] | None = None,
    epochs: bool = False,
) -> Plan | str:
    """Choose sizes for a workload on a device; return the reason, in words, if there are none.

    Args:
        pixels: pixels per image that are not zero in every image.
        digits: bytes of a factor on matrix units: 4, or 3 for less work and precision; 0 for multiply-adds; None for 4
            where device and dtype allow, and else 0.
        shares: numbers of images and of stored quads of each block, (blocks, 2); None for even ones of all quads.
        epochs: whether blocks wait for data with epochs in place of grid barriers; in float32 only.
    """
    dtype, hidden, classes = workload.dtype, workload.network.hidden[0], workload.network.outputs
    threads = device.registers // _REGISTERS[dtype] // _WARP * _WARP
    if digits is None:
        digits = 4 if uses_matrix_units(dtype, device) else 0
    if (reason := _refusal(workload, device, threads, digits, epochs)) is not None:
        return reason
    all_quads = -(-(pixels + 1) // BLOCK)
    if shares is None:
        shares = even_shares(workload.images, all_quads, blocks_of(workload.images, device))
    quads = shares[:, 1] + (2 - shares[:, 1]) % 4 if digits else shares[:, 1]
    for units in sorted(_UNITS[digits], key=lambda units: (-(-hidden // units) * (units + _PASS), -units)):
        passes = -(-hidden // units)
        if passes * units < threads:
            sizes = Plan(
                dtype=dtype,
                images=workload.images,
                hidden=hidden,
                classes=classes,
                shares=tuple(zip(shares[:, 0].tolist(), quads.tolist(), strict=True)),
                all_quads=all_quads,
                units=units,
                passes=passes,
                threads=threads,
                digits=digits,
                resident_cells=0,
                chunk=0,
                shared_bytes=0,
                epochs=epochs,
            )
            if (fitted := _fit(sizes, device)) is not None:
                return fitted
    return f"the weights of {pixels} pixels do not fit into {device.shared_bytes // 1024} KiB of shared memory"


def _refusal(workload: Workload, device: Device, threads: int, digits: int, epochs: bool) -> str | None:
    """Return the reason why no sizes are looked for, or None."""
    dtype, hidden, classes = workload.dtype, workload.network.hidden[0], workload.network.outputs
    if epochs and dtype != "float32":
        return f"a number in {dtype} and its epoch are more than the 8 bytes that a GPU loads as a whole"
    if not device.cooperative:
        return "the device has no cooperative launch"
    if device.compute_capability < 70:
        major, minor = divmod(device.compute_capability, 10)
        return f"compute capability {major}.{minor} is below 7.0"
    if digits and not uses_matrix_units(dtype, device):
        return f"the device has no matrix units that compute {dtype} in integers"
    if classes > _CLASSES[dtype]:
        return f"{classes} classes are more than the {_CLASSES[dtype]} that a thread's registers hold in {dtype}"
    if hidden > threads - 2:
        return f"{hidden} hidden units are more than the {threads - 2} that a block's threads compute in {dtype}"
    return None


def uses_matrix_units(dtype: DType, device: Device) -> bool:
    """Whether a device's matrix units compute the products of this dtype, in exact integer arithmetic."""
    return dtype == "float32" and device.compute_capability >= 80


def _fit(sizes: Plan, device: Device) -> Plan | None:
    """Fill in the chunk and the resident images; return None if the smallest do not fit.

    A chunk's streamed images are read twice; those of all blocks have to fit into half of the L2 cache. Of the chunks
    for which they do, the plan takes the largest that leaves space for half of the images in shared memory, or else the
    one that leaves most.
    """
    cached = device.l2_bytes // 2 // (sizes.blocks * sizes.quads * BLOCK * BLOCK)
    possible = []
    chunk = _up(sizes.most_groups)
    while chunk:
        space = device.shared_bytes - working_bytes(sizes, chunk)
        if space >= 0:
            cells = min(space // (BLOCK * BLOCK), max(groups_of(images) * quads for images, quads in sizes.shares))
            used = working_bytes(sizes, chunk) + cells * BLOCK * BLOCK
            possible.append(replace(sizes, resident_cells=cells, chunk=chunk, shared_bytes=used))
        chunk = _up(chunk // 2) if chunk > _TILE else 0
    twice = [one for one in possible if min(one.chunk, one.most_groups - one.resident_cells // one.quads) <= cached]
    for one in twice:
        if one.resident_share >= 0.5:
            return one
    return max(twice or possible[-1:], key=lambda one: one.resident_share, default=None)


def _up(number: int, step: int = _TILE) -> int:
    """Round up to a multiple, by default to whole tiles."""
    return -(-number // step) * step


def working_bytes(sizes: Plan, chunk: int) -> int:
    """Return a block's shared memory besides images, in the order of gradient_descent() in the kernel."""
    item = np.dtype(sizes.dtype).itemsize
    quad = 4 * item
    hidden = sizes.passes * sizes.units
    activations = chunk * hidden * quad
    errors = chunk * BLOCK * sizes.class_quads * quad
    output_weights = (hidden + 1) * sizes.class_quads * quad
    scales = -(-hidden // 4) * quad
    places = _up(4 * sizes.quads, quad)
    if sizes.matrix_units:
        # A line of weights has as many columns with three digits as with four.
        weights = _up(sizes.quads, _WEIGHT_QUADS) * sizes.units * quad
    else:
        weights = sizes.quads * (sizes.units | 1) * quad
    scratch = sizes.threads * sizes.class_quads * quad
    slack = sizes.slack * BLOCK * BLOCK
    return slack + activations + errors + output_weights + scales + places + max(weights, scratch)


def source(matrix_units: bool) -> str:
    """Return the kernel's four source files as one, with their names for the compiler's messages."""
    folder = resources.files("mnistbench.backends.cupy") / "kernel"
    products = "matrix_units.cuh" if matrix_units else "multiply_add.cuh"
    names = ("common.cuh", "exchange.cuh", products, "gradient_descent.cu")
    return "".join(f'#line 1 "{name}"\n{(folder / name).read_text(encoding="utf-8")}' for name in names)


def pack_shares(plan: Plan, quads: Sequence[NDArray[np.intp]]) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Pack each block's share for the kernel, (blocks,), and the numbers of its quads, (blocks, plan.quads).

    A share has its first cell, the number of its first image, and its numbers of images and quads.
    """
    shares = np.zeros(plan.blocks, SHARE)
    counts, stored = np.array(plan.shares, np.int64).T
    cells = [groups_of(images) * own for images, own in plan.shares]
    shares["first_cell"][1:], shares["first_image"][1:] = np.cumsum(cells[:-1]), np.cumsum(counts[:-1])
    shares["images"], shares["quads"] = counts, stored
    places = np.full((plan.blocks, plan.quads), -1, np.int32)
    for row, own in zip(places, quads, strict=True):
        row[: len(own)] = own
    return shares, places


def pack_images(
    xp: ModuleType, images: Any, kept: NDArray[np.intp], places: NDArray[np.intp], quads: int, matrix_units: bool
) -> Any:
    """Pack images of a block in cells of 16 bytes, (cells, 16) uint8, for the file that multiplies (see there).

    Args:
        images: (m, pixels) uint8; others follow them only if they are whole tiles.
        kept: pixels that are not zero in every image. One of 255, whose weights are the biases, follows the last.
        places: numbers of the quads that are stored.
        quads: number of quads, of which those behind ``places`` are padding.
    """
    pixel = (BLOCK * places[:, None] + np.arange(BLOCK)).ravel()
    stored = np.flatnonzero(pixel < len(kept))
    padded = xp.zeros((groups_of(len(images)) * BLOCK, quads * BLOCK), dtype="uint8")
    padded[: len(images), xp.asarray(stored)] = images[:, xp.asarray(kept[pixel[stored]])]
    padded[: len(images), int(np.flatnonzero(pixel == len(kept))[0])] = 255
    if matrix_units:  # [tile][i][j][image of a pair][octet][quad of it][pixel]: pair 4 j + i of the tile
        cells = padded.reshape(-1, 4, 4, 2, quads // 2, 2, BLOCK).transpose(0, 2, 1, 4, 5, 3, 6)
    else:
        cells = padded.reshape(-1, BLOCK, quads, BLOCK).transpose(0, 2, 1, 3)
    return xp.ascontiguousarray(cells).reshape(-1, BLOCK * BLOCK)


def pack_parameters(plan: Plan, parameters: Parameters, kept: NDArray[np.intp]) -> NDArray[Any]:
    """Pack parameters for the kernel, (length,). ``kept`` has the pixels that are not zero in every image."""
    (W1, W2), (b1, b2) = parameters.weights, parameters.biases
    first = np.zeros((plan.all_quads * BLOCK, plan.passes * plan.units), plan.dtype)
    first[: kept.size, : plan.hidden] = W1[:, kept].T
    first[kept.size, : plan.hidden] = b1[:, 0]
    second = np.zeros((plan.passes * plan.units + 1, plan.class_quads * 4), plan.dtype)
    second[: plan.hidden, : plan.classes] = W2.T
    second[-1, : plan.classes] = b2[:, 0]
    blocks = first.reshape(plan.all_quads, BLOCK, plan.passes, plan.units).transpose(2, 0, 3, 1)
    values = np.zeros(plan.length, plan.dtype)
    values[: plan.weight_values + plan.output_values] = np.concatenate([blocks.ravel(), second.ravel()])
    return values


def unpack_parameters(plan: Plan, values: NDArray[Any], kept: NDArray[np.intp], others: Parameters) -> Parameters:
    """Reverse :func:`pack_parameters`; pixels that are not kept have the weights of ``others``."""
    blocks = values[: plan.weight_values].reshape(plan.passes, plan.all_quads, plan.units, BLOCK)
    first = blocks.transpose(1, 3, 0, 2).reshape(plan.all_quads * BLOCK, plan.passes * plan.units)
    second = values[plan.weight_values :][: plan.output_values].reshape(
        plan.passes * plan.units + 1, plan.class_quads * 4
    )
    W1 = others.weights[0].astype(plan.dtype)
    W1[:, kept] = first[: kept.size, : plan.hidden].T
    b1 = first[kept.size, : plan.hidden, None].copy()
    W2 = second[: plan.hidden, : plan.classes].T.copy()
    b2 = second[-1, : plan.classes, None].copy()
    return Parameters([W1, W2], [b1, b2])
