"""Random numbers that are a function of where they are used: of the seed, the epoch, the image and the unit.

Nothing is drawn one after the other, so any backend computes any of them wherever and in whatever order it likes, and
all get the same. The function is Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror and Shaw, "Parallel random
numbers: as easy as 1, 2, 3", SC 2011): additions, rotations and exclusive ors of 32-bit words, which every device has.

    key     = threefry((seed mod 2³², seed / 2³² mod 2³²), (purpose, epoch))     one for each use in each epoch
    words   = threefry(key, (image, unit))                                       two words of 32 random bits

``image`` is the place of an image in the training set; of ``unit`` each use says what it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]

# Purposes. A layer's dropout has DROPOUT + the layer, which is 0 for the first hidden one.
SHUFFLE = 0
PLACE = 1
ELASTIC = 2
DROPOUT = 16

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
"""By how many bits: four rounds with the first, four with the second, and so on."""

PARITY = 0x1BD11BDA
"""The constant of the key schedule."""


def threefry(key: tuple[int, int], counter: tuple[Any, Any]) -> tuple[Words, Words]:
    """Two words for each pair of counters, which are whole numbers below 2³² or arrays of them that broadcast."""
    schedule = [np.uint32(word) for word in (key[0], key[1], key[0] ^ key[1] ^ PARITY)]
    x, y = np.broadcast_arrays(np.asarray(counter[0], np.uint32), np.asarray(counter[1], np.uint32))
    with np.errstate(over="ignore"):  # sums are modulo 2³²
        x, y = x + schedule[0], y + schedule[1]
        for group in range(5):
            for bits in ROTATIONS[group % 2]:
                x = x + y
                y = (y << np.uint32(bits) | y >> np.uint32(32 - bits)) ^ x
            x = x + schedule[(group + 1) % 3]
            y = y + schedule[(group + 2) % 3] + np.uint32(group + 1)
    return x, y


def key(seed: int, purpose: int, epoch: int) -> tuple[int, int]:
    """The key of one use in one epoch. Of a seed, the lowest 64 bits count."""
    first, second = threefry((seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF), (purpose, epoch & 0xFFFFFFFF))
    return int(first), int(second)


def shuffled(seed: int, epoch: int, images: int) -> NDArray[np.int64]:
    """The order (images,) of an epoch: sorted by the first word of unit 0, then by place."""
    places = np.arange(images, dtype=np.uint64)
    words, _ = threefry(key(seed, SHUFFLE, epoch), (places, 0))
    return (np.sort(words.astype(np.uint64) << np.uint64(32) | places) & np.uint64(0xFFFFFFFF)).astype(np.int64)


def drop_below(rate: float) -> int:
    """A unit is left out where its word is below this: of 2³² words the fraction ``rate``."""
    return min(round(rate * 2**32), 2**32 - 1)


def kept(seed: int, epoch: int, layer: int, images: NDArray[np.int64], units: int, rate: float) -> NDArray[np.bool_]:
    """Which units of a hidden layer, from 0, dropout keeps: (units, images).

    Two units share a counter: of (image, j), the first word is for unit 2 j and the second for unit 2 j + 1.
    """
    pairs = np.arange((units + 1) // 2)[:, None]
    words = np.stack(threefry(key(seed, DROPOUT + layer, epoch), (images[None, :], pairs)), axis=1)
    both: NDArray[np.bool_] = words.reshape(-1, len(images))[:units] >= np.uint64(drop_below(rate))
    return both
