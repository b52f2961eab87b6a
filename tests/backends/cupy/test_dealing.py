"""Images dealt to the blocks of CuPy's persistent kernel, and the quads of pixels that blocks store."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mnistbench.backends.cupy.classic import dealing
from mnistbench.backends.cupy.classic.dealing import deal
from mnistbench.backends.cupy.classic.layout import BLOCK, TILE_IMAGES, WARPS


@settings(max_examples=50, deadline=None)
@given(
    images=st.integers(1, 900),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    most=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_every_image_is_in_one_block_with_all_that_is_not_zero_in_it(
    images: int, shape: tuple[int, int], most: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    content = rng.integers(1, 256, (images, shape[0] * shape[1]), dtype=np.uint8)
    content[rng.random(content.shape) < rng.choice([0.1, 0.7, 0.99])] = 0
    kept, tiles = np.flatnonzero(content.any(axis=0)), -(-images // TILE_IMAGES)
    blocks = min(most, tiles)
    dealt = deal(content, shape, kept, blocks)
    assert sorted(dealt.order) == list(range(images))
    assert len(dealt.counts) == len(dealt.quads) <= blocks
    assert sum(dealt.counts) == images
    assert all(count % TILE_IMAGES == 0 for count in dealt.counts[:-1])
    assert max(dealt.counts) <= TILE_IMAGES * max(WARPS, -(-tiles // blocks))
    for end, count, quads in zip(np.cumsum(dealt.counts), dealt.counts, dealt.quads, strict=True):
        own = content[dealt.order[end - count : end]][:, kept] != 0
        used = np.zeros(-(-(len(kept) + 1) // BLOCK) * BLOCK, bool)
        used[: len(kept)], used[len(kept)] = own.any(axis=0), True  # the bias's pixel too
        assert quads.tolist() == np.flatnonzero(used.reshape(-1, BLOCK).any(axis=1)).tolist()


def test_the_cut_makes_the_largest_block_as_small_as_possible() -> None:
    # Two kinds of tiles, of 3 quads and of 12: four of the narrow cost as much as one of the wide.
    narrow, wide = 0b111, 0xFFF000
    assert dealing._cut([narrow] * 8 + [wide] * 2, 4) == [4, 4, 1, 1]
    assert dealing._cut([narrow] * 40, 2) == [20, 20]
    assert dealing._cut([narrow] * 16 + [wide], 3) == [8, 8, 1]


def test_of_very_many_images_the_order_and_all_quads_are_kept() -> None:
    images = np.zeros((2 * dealing._SIMILAR + 1, 1), np.uint8)
    dealt = deal(images, (1, 1), np.arange(1), 2)
    assert np.array_equal(dealt.order, np.arange(len(images)))
    assert dealt.shares.tolist() == [[1024, 1], [1025, 1]]
