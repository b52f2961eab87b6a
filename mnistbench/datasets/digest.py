"""A digest of images whose parts add up, so that ranks can tell what they hold together.

It is AdHash (Bellare and Micciancio 1997, "A new paradigm for collision-free hashing"): the sum, modulo 2^256, of a
SHA-256 of every image with its place and label. Whoever holds some of the images computes their part of the sum, and
the total is the same however they are shared. It guards against mistakes, not against attacks: of a sum of this size,
somebody who wants to can find other images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnistbench.datasets.dataset import Split

MODULUS = 1 << 256


def of_split(name: str, image_shape: tuple[int, int], split: Split, first: int = 0) -> int:
    """Return the part of the digest of consecutive images, from 0 to :data:`MODULUS` - 1.

    Each SHA-256 covers the ASCII line "NAME HEIGHT WIDTH" with a line feed; the image's place and label, as 8-byte
    little-endian integers; and its pixels. It is read as a little-endian integer.

    Args:
        name: Name of the split: "train", "dev" or "test".
        image_shape: (height, width).
        split: Images and labels.
        first: Place of the first image.
    """
    height, width = image_shape
    start = hashlib.sha256(f"{name} {height} {width}\n".encode())
    total = 0
    for place, (image, label) in enumerate(zip(split.images, split.labels.tolist(), strict=True), first):
        digest = start.copy()
        digest.update((place | label << 64).to_bytes(16, "little"))
        digest.update(image)
        total += int.from_bytes(digest.digest(), "little")
    return total % MODULUS


def combined_digest(parts: Iterable[int]) -> str:
    """Return the digest of all images from the parts of those who hold them, as 64 hexadecimal digits."""
    return f"{sum(parts) % MODULUS:064x}"
