"""Random words and augmentation in JAX, bit for bit those of the reference's ``counter`` and ``augmentation``.

Words are uint32, indices and positions int32; nothing depends on whether JAX has 64-bit types.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from mnistbench.backends.jax.device import matmul
from mnistbench.reference import augmentation, counter
from mnistbench.reference.augmentation import Tables
from mnistbench.task.recipe import Augmentation


def threefry(key: Any, first: Any, second: Any) -> tuple[Any, Any]:
    """Compute two words for each pair of counters (uint32 arrays that broadcast) under the key (2,) uint32."""
    schedule = key[0], key[1], key[0] ^ key[1] ^ np.uint32(counter.PARITY)
    x, y = first + schedule[0], second + schedule[1]
    for group in range(5):
        for bits in counter.ROTATIONS[group % 2]:
            x = x + y
            y = (y << np.uint32(bits) | y >> np.uint32(32 - bits)) ^ x
        x = x + schedule[(group + 1) % 3]
        y = y + schedule[(group + 2) % 3] + np.uint32(group + 1)
    return x, y


def key_of(seed: Any, purpose: int, epoch: Any) -> Any:
    """Derive the key (2,) of a purpose in an epoch from the seed's two words (2,)."""
    return jnp.stack(threefry(seed, np.uint32(purpose), epoch.astype("uint32")))


def kept(seed: Any, epoch: Any, layer: int, places: Any, units: int, rate: float) -> Any:
    """Compute which units of a hidden layer, from 0, dropout keeps: (units, images)."""
    if not (drop := counter.drop_below(rate)):
        return jnp.ones((units, len(places)), bool)
    pairs = jnp.arange((units + 1) // 2, dtype="uint32")[:, None]
    words = threefry(key_of(seed, counter.DROPOUT + layer, epoch), places.astype("uint32"), pairs)
    # Compare with drop - 1, since 2³² is not a word.
    return jnp.stack(words, axis=1).reshape(-1, len(places))[:units] > np.uint32(drop - 1)


def augmented(
    images: Any, places: Any, image_shape: tuple[int, int], change: Augmentation, seed: Any, epoch: Any
) -> Any:
    """Augment images (k, pixels) uint8 for an epoch; ``places`` (k,) are their indices in the training set."""
    height, width = image_shape
    table = augmentation.tables(change, image_shape)
    rows, columns = _turned(table, places, image_shape, key_of(seed, counter.PLACE, epoch))
    if change.elastic_alpha:
        pixels = jnp.arange(height * width, dtype="uint32")
        field = threefry(key_of(seed, counter.ELASTIC, epoch), places.astype("uint32")[:, None], pixels)
        down, right = (_displacements(table, word.reshape(-1, height, width)) for word in field)
        rows, columns = rows + down, columns + right
    return _interpolated(images.reshape(-1, height, width), rows, columns).reshape(images.shape)


def _turned(table: Tables, places: Any, image_shape: tuple[int, int], key: Any) -> tuple[Any, Any]:
    """Compute the source rows and columns (k, height, width) of all pixels of rotated and shifted images."""
    height, width = image_shape
    shifts, angle = threefry(key, places.astype("uint32"), np.uint32(0))
    choices = np.uint32(2 * table.shift + 1)
    down, right = (
        ((half * choices) >> np.uint32(16)).astype("int32")[:, None, None] - np.int32(table.shift)
        for half in (shifts >> np.uint32(16), shifts & np.uint32(0xFFFF))
    )
    chosen = angle >> np.uint32(32 - augmentation.ANGLE_BITS)
    cosine, sine = (jnp.asarray(values)[chosen][:, None, None] for values in (table.cosines, table.sines))
    y = (2 * np.arange(height, dtype=np.int32) - np.int32(height - 1))[:, None]
    x = 2 * np.arange(width, dtype=np.int32) - np.int32(width - 1)
    half, bits = 1 << (augmentation.TURN_BITS - 8), augmentation.TURN_BITS - 7
    turned_y, turned_x = (cosine * y - sine * x + half) >> bits, (sine * y + cosine * x + half) >> bits
    return turned_y + 128 * (height - 1) + 256 * down, turned_x + 128 * (width - 1) + 256 * right


def _displacements(table: Tables, words: Any) -> Any:
    """Compute the elastic displacements in one direction from the pixels' words, both (k, height, width)."""
    field = 2 * (words >> np.uint32(24)).astype("int32") - 255
    # All values are integers below 2²⁴, so float32 is exact.
    smoothed = matmul(
        matmul(table.smooth_rows.astype("float32"), field.astype("float32")), table.smooth_columns.astype("float32")
    ).astype("int32")
    return ((smoothed >> augmentation.FIELD_BITS) * table.bend) >> augmentation.BEND_BITS


def _interpolated(images: Any, rows: Any, columns: Any) -> Any:
    """Interpolate images (k, height, width) at positions in 1/256 pixel; the outside is 0.

    A position's four neighbours are looked up at once, as the bytes of one word.
    """
    k, height, width = images.shape
    wide = jnp.pad(images.astype("uint32"), ((0, 0), (1, 1), (1, 1)))
    four = wide[:, :-1, :-1] | wide[:, :-1, 1:] << 8 | wide[:, 1:, :-1] << 16 | wide[:, 1:, 1:] << 24
    top, left = (rows >> 8) + 1, (columns >> 8) + 1
    inside = (top >= 0) & (top <= height) & (left >= 0) & (left <= width)
    place = jnp.clip(top, 0, height) * (width + 1) + jnp.clip(left, 0, width)
    found = jnp.take_along_axis(four.reshape(k, -1), place.reshape(k, -1), axis=1, mode="clip").reshape(
        k, height, width
    )
    found = jnp.where(inside, found, np.uint32(0))
    a, b, c, d = (((found >> np.uint32(bits)) & np.uint32(255)).astype("int32") for bits in (0, 8, 16, 24))
    down, right = rows & 255, columns & 255
    upper, lower = a * (256 - right) + b * right, c * (256 - right) + d * right
    return ((upper * (256 - down) + lower * down + 2**15) >> 16).astype("uint8")
