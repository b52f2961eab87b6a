"""The images as the kernels read them: chunks of one pixel of some images, those that are all zero left out.

A *group* is as many images as a vector has lanes; a *pair* is two groups that are computed together. A *chunk* is
one pixel of one group: a byte for each image. Each chunk that is not all zero is stored twice, in the order in
which each pass over the images meets it:

- for Z1 = W1 X, pair by pair: the pixels that both groups use, then those of the first alone, then of the second;
- for dW1 = dZ1 Xᵀ, block by block, and in a block by pixels: for two neighbouring pixels at a time, the groups that
  use either. A *block* is as many pairs as fit the cache while both passes work on them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mnistbench.backends.numba.simd.cache import entry_point, kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

NO_IMAGE = -1
"""The label in lanes that the last pair has too many."""


class Packed(NamedTuple):
    """One thread's images.

    Attributes:
        label: (pairs * 2 * lanes,) the label of each image, or NO_IMAGE.
        block_pair: (blocks + 1,) the first pair of each block.
        part: (3 * pairs + 1,) where in ``pixel`` the three parts of each pair begin: both groups', the first's, the
            second's.
        pair_chunk: (pairs + 1,) where in ``chunk`` those of each pair begin, in bytes.
        pixel: the pixel of each entry. An entry of both groups has two chunks, the others one.
        chunk: the chunks.
        block_run: (blocks + 1,) the first run of each block. A run is two pixels of a block.
        run_pixels: the number of the two pixels of each run: 3 stands for pixels 6 and 7.
        run_member: (runs + 1,) where in ``member`` those of each run begin.
        member: for each entry of a run its group, counted in the block.
        member_chunk: for each entry of a run the chunks of the first and of the second pixel.
    """

    label: NDArray[np.int32]
    block_pair: NDArray[np.int64]
    part: NDArray[np.int64]
    pair_chunk: NDArray[np.int64]
    pixel: NDArray[np.unsignedinteger]
    chunk: NDArray[np.uint8]
    block_run: NDArray[np.int64]
    run_pixels: NDArray[np.unsignedinteger]
    run_member: NDArray[np.int64]
    member: NDArray[np.uint8]
    member_chunk: NDArray[np.uint8]


@kernel
def _mark_used(
    images: NDArray[np.uint8], order: NDArray[np.int64], lanes: int, group: int, used: NDArray[np.uint8]
) -> None:
    """used[p] := whether any image of the group has ink in pixel p."""
    for p in range(len(used)):
        used[p] = 0
    for i in range(group * lanes, min(group * lanes + lanes, len(order))):
        row = images[order[i]]
        for p in range(len(row)):
            used[p] |= row[p]
    for p in range(len(used)):
        used[p] = used[p] != 0


@entry_point
def count_chunks(
    images: NDArray[np.uint8], order: NDArray[np.int64], lanes: int, first: int, counts: NDArray[np.int64]
) -> None:
    """counts[i] := how many chunks of pair ``first + i`` are not all zero."""
    used = np.empty(images.shape[1], np.uint8)
    for i in range(len(counts)):
        counts[i] = 0
        for group in (2 * (first + i), 2 * (first + i) + 1):
            _mark_used(images, order, lanes, group, used)
            for p in range(len(used)):
                counts[i] += used[p]


@kernel
def _fill_tile(
    images: NDArray[np.uint8], order: NDArray[np.int64], lanes: int, group: int, tile: NDArray[np.uint8]
) -> None:
    """tile[p, lane] := pixel p of the images of a group; 0 where there is no image."""
    for lane in range(lanes):
        i = group * lanes + lane
        if i < len(order):
            row = images[order[i]]
            for p in range(len(row)):
                tile[p, lane] = row[p]
        else:
            for p in range(len(tile)):
                tile[p, lane] = 0


@entry_point
def pack(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    order: NDArray[np.int64],
    lanes: int,
    blocks: int,
    index_like: NDArray[np.unsignedinteger],
) -> Packed:
    """Pack images[order] for one thread, in ``blocks`` equal blocks; pixel numbers get the dtype of index_like."""
    pixels = (images.shape[1] + 1) // 2 * 2
    pairs = (len(order) + 2 * lanes - 1) // (2 * lanes)
    groups = 2 * pairs
    used = np.zeros((groups, pixels), np.uint8)
    for group in range(groups):
        _mark_used(images, order, lanes, group, used[group, : images.shape[1]])
    label = np.empty(groups * lanes, np.int32)
    for i in range(len(label)):
        label[i] = labels[order[i]] if i < len(order) else NO_IMAGE
    block_pair = np.empty(blocks + 1, np.int64)
    for block in range(blocks + 1):
        block_pair[block] = block * pairs // blocks

    # How much of everything.
    part = np.zeros(3 * pairs + 1, np.int64)
    pair_chunk = np.zeros(pairs + 1, np.int64)
    for pair in range(pairs):
        both, first, second = _count_parts(used[2 * pair], used[2 * pair + 1])
        part[3 * pair + 1] = part[3 * pair] + both
        part[3 * pair + 2] = part[3 * pair + 1] + first
        part[3 * pair + 3] = part[3 * pair + 2] + second
        pair_chunk[pair + 1] = pair_chunk[pair] + lanes * (2 * both + first + second)
    pixel = np.empty(part[3 * pairs], index_like.dtype)
    chunk = np.empty(pair_chunk[pairs], np.uint8)
    block_run = np.zeros(blocks + 1, np.int64)
    entries = 0
    count = np.zeros(pixels // 2, np.int64)
    for block in range(blocks):
        _count_members(used, 2 * block_pair[block], 2 * block_pair[block + 1], count)
        block_run[block + 1] = block_run[block]
        for q in range(pixels // 2):
            entries += count[q]
            block_run[block + 1] += count[q] > 0
    run_pixels = np.empty(block_run[blocks], index_like.dtype)
    run_member = np.zeros(block_run[blocks] + 1, np.int64)
    member = np.empty(entries, np.uint8)
    member_chunk = np.empty((2 * entries, lanes), np.uint8)

    tiles = np.zeros((2, pixels, lanes), np.uint8)
    place = np.zeros(pixels // 2, np.int64)
    run = 0
    for block in range(blocks):
        first = 2 * block_pair[block]
        last = 2 * block_pair[block + 1]
        _count_members(used, first, last, count)
        # Runs of equal length side by side: then the CPU predicts where the kernel's loop over a run ends.
        for length in range(1, last - first + 1):
            for q in range(pixels // 2):
                if count[q] == length:
                    run_pixels[run] = q
                    place[q] = run_member[run]
                    run_member[run + 1] = run_member[run] + length
                    run += 1
        for pair in range(block_pair[block], block_pair[block + 1]):
            for half in range(2):
                group = 2 * pair + half
                _fill_tile(images, order, lanes, group, tiles[half, : images.shape[1]])
                for q in range(pixels // 2):
                    if used[group, 2 * q] | used[group, 2 * q + 1]:
                        member[place[q]] = group - first
                        for lane in range(lanes):
                            member_chunk[2 * place[q], lane] = tiles[half, 2 * q, lane]
                            member_chunk[2 * place[q] + 1, lane] = tiles[half, 2 * q + 1, lane]
                        place[q] += 1
            _write_parts(pair, used[2 * pair], used[2 * pair + 1], tiles, part, pair_chunk, pixel, chunk)
    return Packed(
        label,
        block_pair,
        part,
        pair_chunk,
        pixel,
        chunk,
        block_run,
        run_pixels,
        run_member,
        member,
        member_chunk.reshape(-1),
    )


@kernel
def _count_members(used: NDArray[np.uint8], first: int, last: int, count: NDArray[np.int64]) -> None:
    """count[q] := how many of the groups first to last use pixel 2q or 2q + 1."""
    for q in range(len(count)):
        count[q] = 0
    for group in range(first, last):
        for q in range(len(count)):
            count[q] += used[group, 2 * q] | used[group, 2 * q + 1]


@kernel
def _count_parts(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> tuple[int, int, int]:
    """How many pixels both groups use, only the first, and only the second."""
    both, only_first, only_second = 0, 0, 0
    for p in range(len(first)):
        both += first[p] & second[p]
        only_first += first[p] & ~second[p] & 1
        only_second += second[p] & ~first[p] & 1
    return both, only_first, only_second


@kernel
def _write_parts(
    pair: int,
    first: NDArray[np.uint8],
    second: NDArray[np.uint8],
    tiles: NDArray[np.uint8],
    part: NDArray[np.int64],
    pair_chunk: NDArray[np.int64],
    pixel: NDArray[np.unsignedinteger],
    chunk: NDArray[np.uint8],
) -> None:
    """Write a pair's pixels and chunks, in its three parts."""
    lanes = tiles.shape[2]
    entry = part[3 * pair]
    byte = pair_chunk[pair]
    for kind in range(3):
        for p in range(len(first)):
            if first[p] == (kind != 2) and second[p] == (kind != 1):
                pixel[entry] = p
                entry += 1
                for half in range(2):
                    if kind == 0 or kind == half + 1:
                        for lane in range(lanes):
                            chunk[byte + lane] = tiles[half, p, lane]
                        byte += lanes
