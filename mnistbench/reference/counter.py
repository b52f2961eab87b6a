"""Counter-based random numbers for dropout and distortions: functions of the seed, the epoch, the image and the unit.

There is no generator state, so every backend computes the same numbers in any order. The function is Threefry-2x32 with
20 rounds (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011): additions, rotations
and exclusive ors of 32-bit words, which every device supports. The order of an epoch's images is not counter-based: the
host draws it (:func:`mnistbench.reference.mlp.epoch_order`).

    key     = threefry((seed mod 2³², seed / 2³² mod 2³²), (purpose, epoch))     one for each purpose and epoch
    words   = threefry(key, (image, unit))                                       two words of 32 random bits

``image`` is the index of an image in the training set; the meaning of ``unit`` depends on the purpose.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]

# Purposes. Dropout of hidden layer l, counted from 0, has DROPOUT + l.
PLACE = 1
ELASTIC = 2
DROPOUT = 16

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
"""Rotations in bits: the first four for rounds 0 to 3, the second four for rounds 4 to 7, alternating."""

PARITY = 0x1BD11BDA
"""Constant of the key schedule."""


def threefry(key: tuple[int, int], counter: tuple[Any, Any]) -> tuple[Words, Words]:
    """Compute two words for each pair of counters, which are integers below 2³² or arrays of them that broadcast."""
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


def keys(seed: int, purposes: Any, epochs: Any) -> tuple[Words, Words]:
    """Compute the two words of the keys of purposes in epochs, integers or arrays of them that broadcast.

    The lowest 64 bits of ``seed`` are used.
    """
    return threefry((seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF), (purposes, epochs & 0xFFFFFFFF))


def key(seed: int, purpose: int, epoch: int) -> tuple[int, int]:
    """Compute the key of one purpose in one epoch, as :func:`keys` does."""
    first, second = keys(seed, purpose, epoch)
    return int(first), int(second)


def drop_below(rate: float) -> int:
    """Return the threshold below which a unit's word drops the unit: the fraction ``rate`` of 2³²."""
    return min(round(rate * 2**32), 2**32 - 1)


def kept(seed: int, epoch: int, layer: int, images: NDArray[np.int64], units: int, rate: float) -> NDArray[np.bool_]:
    """Return a mask (units, images) of the units of a hidden layer, counted from 0, that dropout keeps.

    Two units share a counter: the first word of (image, j) is for unit 2 j, the second for unit 2 j + 1.
    """
    pairs = np.arange((units + 1) // 2)[:, None]
    words = np.stack(threefry(key(seed, DROPOUT + layer, epoch), (images[None, :], pairs)), axis=1)
    both: NDArray[np.bool_] = words.reshape(-1, len(images))[:units] >= np.uint64(drop_below(rate))
    return both
