"""A NumPy model of the matrix units' exact products: factors rounded to integers, digits, and their sums in float32."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mnistbench.reference.parameters import Array

RESOLUTION = {3: 2.0**23, 4: 2.0**30}
"""Multiples of a factor's rounding in its scale, by digits."""

Floats = NDArray[np.float32]


def scale_above(largest: float, digits: int) -> float:
    """Return a power of two greater than ``largest``, at least 2^-60, which ``digits`` digits can write as a factor."""
    reaching = float(np.float32(largest) * np.float32(129 / 128)) if digits == 3 else largest
    return 2.0 ** math.frexp(max(reaching, 2.0**-61))[1]


def as_integers(values: Array, scale: float | NDArray[np.float64], digits: int) -> NDArray[np.int64]:
    """Round values below their scale to integers, which are multiples of scale / RESOLUTION."""
    rounded: NDArray[np.int64] = np.rint(values.astype(np.float64) * (RESOLUTION[digits] / scale)).astype(np.int64)
    return rounded


def digits_of(numbers: NDArray[np.int64], digits: int) -> NDArray[np.int64]:
    """Write integers in digits from -128 to 127 to the base 256, the lowest first along a new first axis."""
    found = np.empty((digits, *numbers.shape), np.int64)
    for digit in found:
        digit[...] = (numbers + 128) % 256 - 128
        numbers = (numbers - digit) // 256
    assert not numbers.any(), "more digits are needed"
    return found


def product(factors: NDArray[np.int64], pixels: NDArray[np.int64], digits: int) -> Floats:
    """Multiply (units, terms) by (terms, rows) exactly, and put the digits' sums together as the kernel does."""
    sums = (digits_of(factors, digits) @ pixels).astype(np.float32)
    lower = sums[0] + np.float32(256) * sums[1]
    upper = sums[2] + np.float32(256) * sums[3] if digits == 4 else sums[2]
    found: Floats = lower + np.float32(65536) * upper
    return found


def result_scale(scale: float | NDArray[np.float64], digits: int) -> Floats:
    """Return what a product's sums are multiplied by: factors have ``scale``, and pixels are bytes."""
    return np.asarray(scale, np.float32) * (np.float32(1 / RESOLUTION[digits]) / np.float32(255))
