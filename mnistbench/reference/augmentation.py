"""Data augmentation in integer arithmetic: random rotation, shift and elastic distortion, new in every epoch.

Each pixel of the new image takes the value at some position of the old one (Simard, Steinkraus and Platt, "Best
practices for convolutional neural networks applied to visual document analysis", ICDAR 2003). The position is rotated
around the centre, shifted by whole pixels, the same for the whole image, and moved by an elastic displacement of its
own. The displacements are uniform in each direction, smoothed by a Gaussian so that neighbours move together, and
multiplied by alpha. Values between pixels are interpolated bilinearly; outside the image they are 0.

All arithmetic is in 32-bit integers, so every backend gets the same uint8 images in every dtype. Positions are in 1/256
pixel. The smoothing is two matrix products of integers below 2²⁴, which float32 computes exactly in any order. Random
words (:mod:`mnistbench.reference.counter`) of each image, by purpose:

    PLACE, unit 0          first word: shift of the rows (upper half) and columns (lower half); second: angle
    ELASTIC, unit p        top byte of each word: displacement of pixel p in rows and in columns
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnistbench.reference import counter
from mnistbench.task.recipe import Augmentation

ANGLES = 1024
"""Number of different angles, evenly spaced."""

ANGLE_BITS = 10
"""Number of top bits of a word that select an angle."""

TURN_BITS = 14
"""Fractional bits of sines and cosines."""

FIELD_BITS = 8
"""Fractional bits of the Gaussian's weights, which sum to 2⁸ in each direction."""

BEND_BITS = 14
"""Fractional bits of the smoothed field's factor."""


class Tables(NamedTuple):
    """Integer constants of an augmentation.

    Attributes:
        shift: Largest shift in pixels.
        cosines, sines: (1024,) int32, one of each per angle.
        smooth_rows: (height, height) int32; smooths a field F to smooth_rows F smooth_columns. Empty without elastic
            distortion.
        smooth_columns: (width, width) int32; empty likewise.
        bend: Factor of the smoothed field: displacement = ((field >> 8) * bend) >> 14.
    """

    shift: int
    cosines: NDArray[np.int32]
    sines: NDArray[np.int32]
    smooth_rows: NDArray[np.int32]
    smooth_columns: NDArray[np.int32]
    bend: int


@cache
def tables(augmentation: Augmentation, image_shape: tuple[int, int]) -> Tables:
    """Compute the tables for images of shape (height, width)."""
    angles = np.linspace(-1, 1, ANGLES) * math.radians(augmentation.rotate)
    cosines, sines = (np.rint(values * 2**TURN_BITS).astype(np.int32) for values in (np.cos(angles), np.sin(angles)))
    # For images that are one long row, the smoothing matrices would be larger than the data set.
    height, width = image_shape if augmentation.elastic_alpha else (0, 0)
    return Tables(
        augmentation.shift,
        cosines,
        sines,
        _smoothing(height, augmentation.elastic_sigma),
        _smoothing(width, augmentation.elastic_sigma).T,
        round(augmentation.elastic_alpha / 255 * 2**BEND_BITS),
    )


def _smoothing(size: int, sigma: float) -> NDArray[np.int32]:
    """Return a (size, size) matrix whose row i has the integer weights of a Gaussian around i, cut at the border."""
    reach = math.ceil(3 * sigma)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights = np.rint(weights / weights.sum() * 2**FIELD_BITS).astype(np.int32)
    weights[reach] += 2**FIELD_BITS - weights.sum()
    distance = np.arange(size)[None, :] - np.arange(size)[:, None]
    inside = np.abs(distance) <= reach
    return np.where(inside, weights[np.clip(distance, -reach, reach) + reach], 0).astype(np.int32)


def augmented(
    images: NDArray[np.uint8],
    places: NDArray[np.int64],
    image_shape: tuple[int, int],
    augmentation: Augmentation,
    seed: int,
    epoch: int,
) -> NDArray[np.uint8]:
    """Augment images (k, pixels) for an epoch; ``places`` (k,) are their indices in the training set."""
    height, width = image_shape
    table = tables(augmentation, image_shape)
    rows, columns = _turned(table, places, image_shape, seed, epoch)
    if augmentation.elastic_alpha:
        field = counter.threefry(
            counter.key(seed, counter.ELASTIC, epoch), (places[:, None], np.arange(height * width))
        )
        down, right = (_displacements(table, word, image_shape) for word in field)
        rows, columns = rows + down, columns + right
    return _interpolated(images.reshape(-1, height, width), rows, columns).reshape(images.shape)


def _turned(
    table: Tables, places: NDArray[np.int64], image_shape: tuple[int, int], seed: int, epoch: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Compute each pixel's source position (k, height, width) in rows and columns, after rotation and shift."""
    height, width = image_shape
    shifts, angle = counter.threefry(counter.key(seed, counter.PLACE, epoch), (places, 0))
    choices = np.uint32(2 * table.shift + 1)
    down, right = (
        ((half * choices) >> np.uint32(16)).astype(np.int32)[:, None, None] - table.shift
        for half in (shifts >> np.uint32(16), shifts & np.uint32(0xFFFF))
    )
    chosen = (angle >> np.uint32(32 - ANGLE_BITS)).astype(np.intp)
    cosine, sine = table.cosines[chosen][:, None, None], table.sines[chosen][:, None, None]
    # Coordinates are twice the distance from the centre, which is an integer.
    y = (2 * np.arange(height, dtype=np.int32) - (height - 1))[:, None]
    x = 2 * np.arange(width, dtype=np.int32) - (width - 1)
    half = 1 << (TURN_BITS - 8)
    turned_y = (cosine * y - sine * x + half) >> (TURN_BITS - 7)
    turned_x = (sine * y + cosine * x + half) >> (TURN_BITS - 7)
    return turned_y + 128 * (height - 1) + 256 * down, turned_x + 128 * (width - 1) + 256 * right


def _displacements(table: Tables, words: NDArray[np.uint32], image_shape: tuple[int, int]) -> NDArray[np.int32]:
    """Compute elastic displacements (k, height, width) in one direction from the pixels' words (k, pixels)."""
    field = 2 * (words >> np.uint32(24)).astype(np.int32) - 255  # -255, -253, ..., 255
    # float32 has a fast matrix product, and is exact here: all values are at most 255 * 2¹⁶ < 2²⁴.
    exact = table.smooth_rows.astype(np.float32) @ field.reshape(-1, *image_shape).astype(np.float32)
    smoothed: NDArray[np.int32] = (exact @ table.smooth_columns.astype(np.float32)).astype(np.int32)
    displacements: NDArray[np.int32] = ((smoothed >> FIELD_BITS) * np.int32(table.bend)) >> BEND_BITS
    return displacements


def _interpolated(images: NDArray[np.uint8], rows: NDArray[np.int32], columns: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Interpolate the images (k, height, width) bilinearly at positions in 1/256 pixel."""
    k, height, width = images.shape
    top, left, down, right = rows >> 8, columns >> 8, rows & 255, columns & 255
    image = np.arange(k)[:, None, None]

    def value(row: NDArray[np.int32], column: NDArray[np.int32]) -> NDArray[np.int32]:
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        at = images[image, np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)]
        return np.where(inside, at, 0).astype(np.int32)

    upper = value(top, left) * (256 - right) + value(top, left + 1) * right
    lower = value(top + 1, left) * (256 - right) + value(top + 1, left + 1) * right
    # The sum is exact, at most 255 * 2¹⁶; only the division rounds.
    rounded: NDArray[np.int32] = (upper * (256 - down) + lower * down + 2**15) >> 16
    return rounded.astype(np.uint8)
