"""The choice of tiles that fit the host's registers, and the conversion of parameters to the kernels' layout."""

from __future__ import annotations

import numpy as np

from mnistbench.backends.numba.classic.kernels import Sizes, Tile
from mnistbench.backends.numba.simd.host import Host
from mnistbench.reference.parameters import Array, Parameters
from mnistbench.task.workload import DType, Network


def tile_size(units: int, largest: int) -> int:
    """Choose the even number of units, up to ``largest``, to compute together: least padding, then the largest.

    Sizes below two thirds of ``largest`` are considered only where one such tile holds all units.
    """
    sizes = [size for size in range(2, largest + 1, 2) if 3 * size >= 2 * largest or size >= units]
    return min(sizes, key=lambda size: (-(-units // size) * (2 * size + 1), -size))


def choose_tile(host: Host, network: Network, dtype: DType) -> Tile:
    """Choose tiles that use most of the registers: two accumulators per unit, and the rest for operands."""
    lanes = host.vector_bytes // np.dtype(dtype).itemsize
    largest = 12 if host.registers == 32 else 6
    hidden = tile_size(network.hidden[0], largest)
    classes = tile_size(network.outputs, largest)
    return Tile((None,) * lanes, (None,) * hidden, (None,) * classes)


BLOCK_PAIRS = 28
"""Largest number of pairs in a block: 36 kB of Z1 for 10 hidden units fit an L1 cache of 48 kB."""

BLOCK_BYTES = 1 << 20
"""Largest size of a block's Z1 and Z2, unless one pair needs more: half an L2 cache."""


def choose_sizes(network: Network, tile: Tile, dtype: DType) -> Sizes:
    """Compute the padded sizes of the network and the offset of each array of its parameters."""
    pixels = -(-network.inputs // 2) * 2
    hidden = -(-network.hidden[0] // len(tile.hidden)) * len(tile.hidden)
    classes = -(-network.outputs // len(tile.classes)) * len(tile.classes)
    b1 = pixels * hidden
    W2 = b1 + hidden
    b2 = W2 + hidden * classes
    pair_bytes = (hidden + classes) * 2 * len(tile.lanes) * np.dtype(dtype).itemsize
    pairs = max(1, min(BLOCK_PAIRS, BLOCK_BYTES // pair_bytes))
    return Sizes(pixels, hidden, classes, network.outputs, b1, W2, b2, b2 + classes, pairs)


def to_layout(parameters: Parameters, tile: Tile, sizes: Sizes, out: Array) -> None:
    """Write parameters to ``out`` in the layout of :class:`Sizes`; padding becomes zero."""
    (W1, W2), (b1, b2) = parameters.weights, parameters.biases
    out[:] = 0
    padded = np.zeros((sizes.hidden, sizes.pixels), out.dtype)
    padded[: W1.shape[0], : W1.shape[1]] = W1
    tiles = padded.reshape(-1, len(tile.hidden), sizes.pixels)
    out[: sizes.b1] = tiles.transpose(0, 2, 1).reshape(-1)
    out[sizes.b1 : sizes.b1 + len(b1)] = b1[:, 0]
    out[sizes.W2 : sizes.b2].reshape(sizes.hidden, sizes.classes)[: W2.shape[1], : W2.shape[0]] = W2.T
    out[sizes.b2 : sizes.b2 + len(b2)] = b2[:, 0]


def from_layout(vector: Array, tile: Tile, sizes: Sizes, network: Network) -> Parameters:
    """Return copies of the arrays in a vector in the layout of :func:`to_layout`."""
    tiles = vector[: sizes.b1].reshape(-1, sizes.pixels, len(tile.hidden))
    W1 = tiles.transpose(0, 2, 1).reshape(sizes.hidden, sizes.pixels)
    W2 = vector[sizes.W2 : sizes.b2].reshape(sizes.hidden, sizes.classes).T
    hidden = network.hidden[0]
    b1, b2 = vector[sizes.b1 : sizes.b1 + hidden, None], vector[sizes.b2 : sizes.b2 + network.outputs, None]
    weights = [W1[:hidden, : network.inputs].copy(), W2[: network.outputs, :hidden].copy()]
    return Parameters(weights, [b1.copy(), b2.copy()])
