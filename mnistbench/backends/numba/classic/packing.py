"""The images in the kernels' layout: chunks that are not all zero.

A *group* has one image per lane of a vector; a *pair* is two groups that are computed together. A *chunk* is one pixel
of one group: a byte for each image. A *block* is as many pairs as fit the cache during both passes. Each chunk that is
not all zero is stored twice, in the order of each pass over the images:

- for Z1 = W1 X, pair by pair: the pixels that both groups use, then those of the first only, then of the second only;
- for dW1 = dZ1 Xᵀ, block by block, in a *run* for each two neighbouring pixels: the groups that use either pixel.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnistbench.backends.numba.simd import Bytes, Indices, Ints
from mnistbench.backends.numba.simd.cache import entry_point, kernel

NO_IMAGE = -1
"""Label of the padding lanes in the last pair."""


class Packed(NamedTuple):
    """One thread's images.

    Attributes:
        label: (pairs * 2 * lanes,) label of each image, or NO_IMAGE.
        block_pair: (blocks + 1,) first pair of each block.
        part: (3 * pairs + 1,) offsets in ``pixel`` of each pair's three parts: both groups, first only, second only.
        pair_chunk: (pairs + 1,) byte offset in ``chunk`` of each pair.
        pixel: Pixel of each entry. An entry of both groups has two chunks, the others one.
        chunk: Bytes of the chunks.
        block_run: (blocks + 1,) first run of each block.
        run_pixels: Half the index of the first pixel of each run: 3 stands for pixels 6 and 7.
        run_member: (runs + 1,) offset in ``member`` of each run.
        member: Group of each entry of a run, counted from the block's first.
        member_chunk: Chunks of the first and second pixel of each entry of a run.
    """

    label: NDArray[np.int32]
    block_pair: Ints
    part: Ints
    pair_chunk: Ints
    pixel: Indices
    chunk: Bytes
    block_run: Ints
    run_pixels: Indices
    run_member: Ints
    member: Bytes
    member_chunk: Bytes


@kernel
def _mark_used(images: Bytes, order: Ints, lanes: int, group: int, used: Bytes) -> None:
    """Set used[p] to whether pixel p is not zero in any image of the group."""
    for p in range(len(used)):
        used[p] = 0
    for i in range(group * lanes, min(group * lanes + lanes, len(order))):
        row = images[order[i]]
        for p in range(len(row)):
            used[p] |= row[p]
    for p in range(len(used)):
        used[p] = used[p] != 0


@entry_point
def count_chunks(images: Bytes, order: Ints, lanes: int, first: int, counts: Ints) -> None:
    """Count the chunks of pair ``first + i`` that are not all zero, into counts[i]."""
    used = np.empty(images.shape[1], np.uint8)
    for i in range(len(counts)):
        counts[i] = 0
        for group in (2 * (first + i), 2 * (first + i) + 1):
            _mark_used(images, order, lanes, group, used)
            for p in range(len(used)):
                counts[i] += used[p]


@kernel
def _fill_tile(images: Bytes, order: Ints, lanes: int, group: int, tile: Bytes) -> None:
    """Copy pixel p of the images of a group to tile[p, lane]; 0 in padding lanes."""
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
def pack(images: Bytes, labels: Ints, order: Ints, lanes: int, blocks: int, index_like: Indices) -> Packed:
    """Pack images[order] for one thread, in ``blocks`` equal blocks; pixel indices get the dtype of ``index_like``."""
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

    # Sizes and offsets.
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
        # Sort runs by length, so that the CPU predicts the end of the kernel's loop over a run.
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
    backward_chunk = member_chunk.reshape(-1)
    return Packed(
        label, block_pair, part, pair_chunk, pixel, chunk, block_run, run_pixels, run_member, member, backward_chunk
    )


@kernel
def _count_members(used: Bytes, first: int, last: int, count: Ints) -> None:
    """Count the groups first to last that use pixel 2q or 2q + 1, into count[q]."""
    for q in range(len(count)):
        count[q] = 0
    for group in range(first, last):
        for q in range(len(count)):
            count[q] += used[group, 2 * q] | used[group, 2 * q + 1]


@kernel
def _count_parts(first: Bytes, second: Bytes) -> tuple[int, int, int]:
    """Count the pixels that both groups use, only the first, and only the second."""
    both, only_first, only_second = 0, 0, 0
    for p in range(len(first)):
        both += first[p] & second[p]
        only_first += first[p] & ~second[p] & 1
        only_second += second[p] & ~first[p] & 1
    return both, only_first, only_second


@kernel
def _write_parts(
    pair: int, first: Bytes, second: Bytes, tiles: Bytes, part: Ints, pair_chunk: Ints, pixel: Indices, chunk: Bytes
) -> None:
    """Write the pixels and chunks of a pair's three parts."""
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
