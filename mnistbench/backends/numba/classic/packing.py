"""The images in the kernels' layout: chunks that are not all zero.

A *group* has one image per lane of a vector; a *pair* is two groups that are computed together. A *chunk* is one pixel
of one group: a byte for each image. A *block* is as many pairs as fit the cache during both passes. Each chunk that is
not all zero is stored twice, in the order of each pass over the images:

- for Z1 = W1 X, pair by pair: the pixels that both groups use, then those of the first only, then of the second only;
- for dW1 = dZ1 Xᵀ, block by block, in a *run* for each two neighbouring pixels: the groups that use either pixel.

This is NumPy, block by block, since compiling the same loops takes seconds and they are no faster.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mnistbench.backends.numba.simd import Bytes, Indices, Ints

NO_IMAGE = -1
"""Label of the padding lanes in the last pair."""

_PAIRS = 32
"""Number of pairs whose chunks are counted together: of 32 images each, they fit an L2 cache."""


class Packed(NamedTuple):
    """All images.

    Attributes:
        task_block: (tasks + 1,) first block of each task.
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

    task_block: Ints
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


class Block(NamedTuple):
    """One block's images, as in :class:`Packed`, with numbers of entries in place of offsets.

    Attributes:
        parts: (pairs, 3) number of entries of each part.
        runs: Half the index of the first pixel of each run.
        lengths: Number of entries of each run.
    """

    label: NDArray[np.int32]
    parts: Ints
    pixel: Indices
    chunk: Bytes
    runs: Indices
    lengths: Ints
    member: Bytes
    member_chunk: Bytes


def count_chunks(images: Bytes, order: Ints, lanes: int) -> Ints:
    """Count the chunks that are not all zero of each pair of images[order]."""
    pairs = -(-len(order) // (2 * lanes))
    found = [
        _used(_rows(images, order, lanes, first, min(first + _PAIRS, pairs)), lanes)
        for first in range(0, pairs, _PAIRS)
    ]
    return np.concatenate([np.count_nonzero(used.reshape(len(used) // 2, -1), axis=1) for used in found])


def join(blocks: list[Block], lanes: int, task_block: Ints) -> Packed:
    """Join packed blocks, in order."""
    arrays = {name: np.concatenate([getattr(block, name) for block in blocks]) for name in Block._fields}
    parts = arrays["parts"]
    return Packed(
        task_block=task_block,
        label=arrays["label"],
        block_pair=_offsets([len(block.parts) for block in blocks]),
        part=_offsets(parts.reshape(-1)),
        pair_chunk=_offsets(lanes * (2 * parts[:, 0] + parts[:, 1] + parts[:, 2])),
        pixel=arrays["pixel"],
        chunk=arrays["chunk"],
        block_run=_offsets([len(block.runs) for block in blocks]),
        run_pixels=arrays["runs"],
        run_member=_offsets(arrays["lengths"]),
        member=arrays["member"],
        member_chunk=arrays["member_chunk"],
    )


def pack_block(images: Bytes, labels: Ints, order: Ints, lanes: int, first: int, last: int) -> Block:
    """Pack pairs ``first`` to ``last`` of images[order]."""
    rows = _rows(images, order, lanes, first, last)
    groups, pixels = len(rows) // lanes, rows.shape[1]
    used = _used(rows, lanes)
    # A chunk is one item, [group][pixel], and so are those of two neighbouring pixels.
    tiles = np.ascontiguousarray(rows.reshape(groups, lanes, pixels).swapaxes(1, 2)).reshape(-1)
    chunks, twins = tiles.view(f"V{lanes}"), tiles.view(f"V{2 * lanes}")
    index = np.uint16 if images.shape[1] < 2**16 else np.uint32

    first_uses, second_uses = used[0::2], used[1::2]
    parts = np.stack([first_uses & second_uses, first_uses & ~second_uses, second_uses & ~first_uses], axis=1)
    part, pixel = np.nonzero(parts.reshape(-1, pixels))
    pair, kind = np.divmod(part, 3)
    # An entry of both groups has the first's chunk and then the second's; one of the second only has the second's.
    places = np.repeat((2 * pair + (kind == 2)) * pixels + pixel, 1 + (kind == 0))
    places[_offsets(1 + (kind == 0))[1:][kind == 0] - 1] += pixels

    either = used[:, 0::2] | used[:, 1::2]
    lengths = np.count_nonzero(either, axis=0)
    # Sort runs by length, so that the CPU predicts the end of the kernel's loop over a run.
    runs = np.argsort(lengths, kind="stable")[np.count_nonzero(lengths == 0) :]
    run, member = np.nonzero(either[:, runs].T)

    label = np.full(groups * lanes, NO_IMAGE, np.int32)
    own = order[first * 2 * lanes : last * 2 * lanes]
    label[: len(own)] = labels[own]
    return Block(
        label=label,
        parts=np.count_nonzero(parts, axis=2),
        pixel=pixel.astype(index),
        chunk=chunks[places].view(np.uint8),
        runs=runs.astype(index),
        lengths=lengths[runs],
        member=member.astype(np.uint8),
        member_chunk=twins[member * (pixels // 2) + runs[run]].view(np.uint8),
    )


def _rows(images: Bytes, order: Ints, lanes: int, first: int, last: int) -> Bytes:
    """Return the images of pairs ``first`` to ``last``; the last pair's images, and the pixels, are padded by zeros.

    The number of pixels becomes even.
    """
    own = order[first * 2 * lanes : last * 2 * lanes]
    pixels = images.shape[1]
    rows = np.zeros(((last - first) * 2 * lanes, pixels + pixels % 2), np.uint8)
    rows[: len(own), :pixels] = images[own]
    return rows


def _used(rows: Bytes, lanes: int) -> NDArray[np.bool_]:
    """Return whether each pixel is not zero in any image of a group, (groups, pixels)."""
    inked: NDArray[np.bool_] = np.bitwise_or.reduce(rows.reshape(-1, lanes, rows.shape[1]), axis=1) != 0
    return inked


def _offsets(counts: ArrayLike) -> Ints:
    """Return the offsets of neighbouring parts from their numbers of entries, and the end of the last."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
