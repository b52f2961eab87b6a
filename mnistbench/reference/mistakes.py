"""Mistakes in the arrays given to the tutorial's functions, each told in one line with its cure.

NumPy computes with many of them, and the network learns nothing. What the functions of an iteration check takes no time
that grows with the images: shapes alone. Values are looked at once, before a training.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnistbench.exceptions import DataError

Numbers = NDArray[Any]

_PIXEL = 32
"""Largest value from which on whole numbers are taken for pixels up to 255; counts and levels of others are smaller."""

_LABELS = "labels are whole numbers from 0 to {last} in one row, (m,)"


def check_layer(W1: Numbers, b1: Numbers, X: Numbers) -> None:
    """Check that X (n, m) has an image in each column and b1 (h, 1) a row for each unit of W1 (h, n).

    Raises:
        DataError: If a shape is another one.
    """
    if X.ndim == 2 and X.shape[0] == W1.shape[1] and b1.shape == (W1.shape[0], 1):
        return
    n = W1.shape[1]
    if X.ndim == 2 and X.shape[1] == n != X.shape[0]:
        raise DataError(f"X {X.shape} has an image in each row, and W1 {W1.shape} wants one in each column; use X.T")
    if X.ndim == 1 and len(X) == n:
        raise DataError(f"X {X.shape} is no matrix; use X[:, None], of shape ({n}, 1), for one image")
    if X.ndim != 2 or X.shape[0] != n:
        raise DataError(f"X {X.shape} does not fit W1 {W1.shape}; give ({n}, m), an image in each of m columns")
    raise DataError(f"b1 {b1.shape} does not fit W1 {W1.shape}; give ({len(W1)}, 1), a number for each unit")


def check_count(Y: Numbers, images: int) -> None:
    """Check that there are as many labels as images.

    Raises:
        DataError: If there are not.
    """
    if Y.size != images:
        raise DataError(f"{Y.size:,} labels do not fit {images:,} images; use X and Y of the same rows of the data")


def check_bias_gradients(b1: Numbers, b2: Numbers, db1: Numbers, db2: Numbers) -> None:
    """Check that each unit's bias has a gradient of its own; NumPy would subtract one number from all biases.

    Raises:
        DataError: If a gradient and its bias differ in shape.
    """
    if np.shape(db1) == b1.shape and np.shape(db2) == b2.shape:
        return
    name, bias, found = ("b1", b1, db1) if np.shape(db1) != b1.shape else ("b2", b2, db2)
    cure = f"sum dZ{name[1]} over the images alone, by sum(axis=1, keepdims=True)"
    raise DataError(f"d{name} {np.shape(found)} does not fit {name} {bias.shape}; {cure}")


def wrong_labels(Y: Numbers, outputs: int) -> DataError:
    """Return the error for labels that are not (m,) whole numbers below ``outputs``."""
    want = _LABELS.format(last=outputs - 1)
    if Y.ndim != 1:
        return DataError(f"Y {Y.shape}: {want}; use Y.ravel() for a column, Y.argmax(axis=1) for one-hot rows")
    if not np.issubdtype(Y.dtype, np.integer):
        return DataError(f"Y holds {Y.dtype}: {want}; use Y.astype(int) if they are whole numbers")
    other = int(Y[(outputs <= Y) | (Y < 0)][0])
    cure = f"with more classes, use outputs={int(Y.max()) + 1}" if other > 0 else "leave its image out"
    return DataError(f"Y holds the label {other}: {want}; {cure}")


def check_data(X: Numbers, Y: Numbers, outputs: int) -> None:
    """Check shapes and values of X (n, m) and Y (m,) before a training of ``outputs`` classes.

    Raises:
        DataError: If images lie in rows, are not from 0 to about 1, or have labels that do not fit.
    """
    if X.ndim != 2:
        raise DataError(f"X {X.shape} is no matrix; give (n, m), an image in each of m columns")
    if Y.ndim != 1 or not np.issubdtype(Y.dtype, np.integer):
        raise wrong_labels(Y, outputs)
    if X.shape[0] == Y.size != X.shape[1]:
        raise DataError(f"X {X.shape} has an image in each row, for {Y.size:,} labels; use X.T")
    check_count(Y, X.shape[1])
    if not X.size:
        raise DataError(f"X {X.shape} holds no image; at least one is needed")
    if Y.min() < 0 or Y.max() >= outputs:
        raise wrong_labels(Y, outputs)
    _check_scale(X)


def _check_scale(X: Numbers) -> None:
    """Check that values are finite, and not pixels from 0 to 255."""
    low, high = float(X.min()), float(X.max())
    if not np.isfinite(low) or not np.isfinite(high):
        raise DataError(
            "X holds NaN or infinity; np.argwhere(~np.isfinite(X)) finds them, X = np.nan_to_num(X) fills them"
        )
    if low >= 0 and _PIXEL <= high <= 255 and np.array_equal(X, np.rint(X)):
        raise DataError(f"X holds whole numbers up to {high:g}, so pixels are not scaled; use X / 255")
    if low >= 0 and 0 < high <= 1.0001 / 255:
        raise DataError(f"X holds nothing above {high:.4f}, so pixels are scaled twice; divide by 255 only once")
