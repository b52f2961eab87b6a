"""Which images a block of the persistent kernel has, and which quads of their pixels it stores.

A block leaves out every quad of pixels that is zero in all of its images. So that there are many, blocks get similar
images: the set is bisected along its principal direction until its parts are those of a few blocks; in each of them
tiles are filled greedily, always with the images that use the fewest new quads; and the row of tiles is cut into blocks
so that the largest product of a block's tiles and quads, its bytes and about its work, is as small as possible.

Needs no CuPy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import or_

import numpy as np
from numpy.typing import NDArray

from mnistbench.backends.cupy.classic.layout import BLOCK, TILE_IMAGES, WARPS
from mnistbench.backends.similarity import ink_of, principal_projections

_SIMILAR = 1_024
"""Most images of an average block that are chosen by similarity: among more, almost every quad is used by some."""

_TOGETHER = 4
"""Number of blocks whose images are the part of the set in which tiles are filled."""

Bits = NDArray[np.uint64]
Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Dealt:
    """Images and quads of the blocks.

    Attributes:
        order: (m,) indices of the images, block by block.
        counts: number of each block's images; a multiple of a tile's, but for the last block.
        quads: numbers of the quads that each block stores, ascending.
    """

    order: Rows
    counts: list[int]
    quads: list[Rows]

    @property
    def shares(self) -> NDArray[np.int64]:
        """Numbers of images and of quads of each block, (blocks, 2)."""
        return np.array([self.counts, [len(own) for own in self.quads]], np.int64).T


def deal(
    images: NDArray[np.uint8], image_shape: tuple[int, int], kept: Rows, blocks: int, similar: bool = True
) -> Dealt:
    """Deal images to at most ``blocks`` blocks, and list the quads that are not zero in all of a block's images.

    Args:
        images: (m, pixels) uint8.
        image_shape: (height, width).
        kept: Pixels that are not zero in every image, in their order. The bias's follows the last. Quads are numbered
            in that order.
        blocks: Most blocks, no more than there are tiles.
        similar: Whether a block's images are chosen by similarity; otherwise, and of very many images, they keep their
            order, and blocks store all quads.
    """
    m, all_quads = len(images), -(-(len(kept) + 1) // BLOCK)
    tiles = -(-m // TILE_IMAGES)
    if not similar or m > _SIMILAR * blocks:
        sizes = np.diff(tiles * np.arange(blocks + 1) // blocks).tolist()
        return Dealt(np.arange(m), _images_in(sizes, m), [np.arange(all_quads)] * blocks)
    used = _used_quads(images, kept)
    parts = _similar_parts(ink_of(images, *image_shape), np.arange(m), -(-blocks // _TOGETHER))
    row = [tile for part in parts for tile in _similar_tiles(used, part, -(-tiles // blocks))]
    unions = [int.from_bytes(np.bitwise_or.reduce(used[tile]).tobytes(), "little") for tile in row]
    sizes = _cut(unions, blocks)
    ends = np.cumsum(sizes)
    of_blocks = [reduce(or_, unions[end - size : end]) for size, end in zip(sizes, ends, strict=True)]
    quads = [np.flatnonzero([bits >> quad & 1 for quad in range(all_quads)]) for bits in of_blocks]
    return Dealt(np.concatenate(row), _images_in(sizes, m), quads)


def _images_in(sizes: list[int], images: int) -> list[int]:
    """Return the numbers of images in blocks of these numbers of tiles, of which the last may not be full."""
    counts = [TILE_IMAGES * size for size in sizes]
    return [*counts[:-1], images - sum(counts[:-1])]


def _used_quads(images: NDArray[np.uint8], kept: Rows) -> Bits:
    """Return one bit for each quad of each image, set where it is not zero, as (images, words); the bias's is set."""
    pixels = np.zeros((len(images), -(-(len(kept) + 1) // BLOCK) * BLOCK), bool)
    pixels[:, : len(kept)] = images[:, kept]
    pixels[:, len(kept)] = True
    bits = np.packbits(pixels.reshape(len(images), -1, BLOCK).any(axis=2), axis=1, bitorder="little")
    padded = np.zeros((len(images), -(-bits.shape[1] // 8) * 8), np.uint8)
    padded[:, : bits.shape[1]] = bits
    return padded.view("<u8")


def _similar_parts(ink: NDArray[np.float32], items: Rows, count: int) -> list[Rows]:
    """Divide images into parts of similar ones, all of whole tiles but the last."""
    if count == 1:
        return [items]
    tiles, left = -(-len(items) // TILE_IMAGES), count // 2
    middle = TILE_IMAGES * (tiles * left // count)
    order = items[np.argpartition(principal_projections(ink[items]), middle)]
    return [*_similar_parts(ink, order[:middle], left), *_similar_parts(ink, order[middle:], count - left)]


def _similar_tiles(used: Bits, items: Rows, together: int) -> list[Rows]:
    """Fill tiles with images, the last with what is left; runs of ``together`` tiles, from the first on, are similar.

    A run begins with the image that has fewest quads and those nearest to it. Of images that use as few new quads,
    those with more of the run's come first.
    """
    tiles: list[Rows] = []
    own = used[items]
    union = own[0]
    while len(items):
        if len(tiles) % together == 0:
            seed = own[np.argmin(np.bitwise_count(own).sum(axis=1))]
            distance, union = np.bitwise_count(own ^ seed).sum(axis=1, dtype=np.int64), np.zeros_like(seed)
        else:
            new, old = (np.bitwise_count(own & mask).sum(axis=1, dtype=np.int64) for mask in (~union, union))
            distance = new * 64 * own.shape[1] - old
        chosen = np.argpartition(distance, TILE_IMAGES)[:TILE_IMAGES] if len(items) > TILE_IMAGES else slice(None)
        tiles.append(items[chosen])
        union = union | np.bitwise_or.reduce(own[chosen], axis=0)
        items, own = np.delete(items, chosen), np.delete(own, chosen, axis=0)
    return tiles


def _cut(unions: list[int], blocks: int) -> list[int]:
    """Cut a row of tiles, given by the bits of their quads, into at most ``blocks`` blocks; return their sizes.

    The largest product of a block's numbers of tiles and quads is the least possible among cuts in which no block has
    more tiles than WARPS, or than an average block if that is more.
    """
    longest = max(WARPS, -(-len(unions) // blocks))

    def sizes(most: int) -> list[int]:
        found, union = [0], 0
        for tile in unions:
            wider = union | tile
            if found[-1] and (found[-1] == longest or (found[-1] + 1) * wider.bit_count() > most):
                found.append(0)
                wider = tile
            found[-1], union = found[-1] + 1, wider
        return found

    few, many = 0, longest * reduce(or_, unions).bit_count()  # the latter is enough
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if len(sizes(middle)) <= blocks else (middle, many)
    return sizes(many)
