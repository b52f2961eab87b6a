"""Arrays that people have, turned into pixels and labels: checked, and refused where their meaning is in doubt."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnistbench.datasets.content import brief, listed, shown
from mnistbench.datasets.images import Held
from mnistbench.datasets.source import LARGEST_LABEL, Labelled, Source
from mnistbench.exceptions import DataError

CHUNK = 1 << 12
"""Number of images checked and converted at a time."""


def as_array(values: Any, name: str) -> NDArray[Any]:
    """Return an array of numbers or texts from an array, a DataFrame or Series, or lists.

    Raises:
        DataError: If the elements are of other kinds, or lists of different lengths.
    """
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, OverflowError, RuntimeError) as error:
        raise DataError(f"{name}: cannot be made an array: {brief(error)}") from error
    if array.dtype == object and array.size and array.ndim:
        array = _plain(array)
    if array.dtype.kind == "S":
        array = np.char.decode(array, "ascii", "replace")
    if array.dtype.kind not in "biufUT":
        raise DataError(f"{name}: elements of type {array.dtype}, not numbers; give a plain array, without gaps")
    return array


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array of objects as one of texts or numbers, if it holds nothing else."""
    kinds = {type(value) for value in array.ravel().tolist()}
    if kinds <= {str}:
        return array.astype(str)
    if kinds <= {int, bool, float}:
        return array.astype(np.float64)
    return array


def as_pictures(array: NDArray[Any], name: str, count: int | None = None) -> NDArray[Any]:
    """Return images (m, height, width) of any dtype from (m, height, width), (m, pixels), or with one channel.

    Args:
        array: Images.
        name: Name of the array, for messages.
        count: Number of labels, by which images in columns are told.

    Raises:
        DataError: If the shape is another.
    """
    shape = array.shape
    if len(shape) == 4 and 1 in (shape[1], shape[3]):
        axis = 3 if shape[3] == 1 else 1
        array = array.squeeze(axis)
    elif len(shape) == 4 and 3 in (shape[1], shape[3]):
        raise DataError(f"{name}: shape {shape}: pictures in colours; give gray ones, the mean of the colours")
    elif len(shape) in (2, 3) and shape[0] != count == shape[-1]:
        turned = "images.T" if len(shape) == 2 else "numpy.moveaxis(images, -1, 0)"
        raise DataError(f"{name}: shape {shape} for {count} labels: images in columns; give {turned}")
    if array.ndim == 2:
        side = math.isqrt(array.shape[1])
        if side * side != array.shape[1] or side < 1:
            raise DataError(
                f"{name}: shape {shape}: {shape[1]} columns, which make no square picture; "
                "give (m, height, width), without a column of labels"
            )
        array = array.reshape(-1, side, side)
    if array.ndim != 3 or 0 in array.shape:
        raise DataError(f"{name}: shape {shape}: give images of shape (m, height, width) or (m, pixels)")
    return array


def as_pixels(parts: Iterable[NDArray[Any]], shape: tuple[int, ...], name: str) -> NDArray[np.uint8]:
    """Return images as pixels (m, height * width), uint8 and C-contiguous, in new memory.

    Args:
        parts: Images in their order, some of them at a time, in arrays whose first axis counts images.
        shape: Shape of all, (m, height, width).
        name: Name of the array, for messages.

    Raises:
        DataError: If a pixel is not a whole number from 0 to 255, or if the largest of all is 1.
    """
    pixels = np.empty((shape[0], math.prod(shape[1:])), np.uint8)
    first = 0
    for part in checked(parts, name):
        pixels[first : first + len(part)] = part
        first += len(part)
    return pixels


def checked(parts: Iterable[NDArray[Any]], name: str) -> Iterator[NDArray[np.uint8]]:
    """Yield parts of images in their order as pixels (k, height * width), as :func:`as_pixels` describes it."""
    first, brightest = 0, 0
    for part in parts:
        _require_pixels(part, name, first)
        brightest = max(brightest, int(part.max()))
        yield part.reshape(len(part), -1).astype(np.uint8, copy=False)
        first += len(part)
    if brightest == 1:
        raise DataError(f"{name}: all pixels are 0 or 1, not from 0 to 255; multiply by 255 if 1 is white")


def _require_pixels(part: NDArray[Any], name: str, start: int) -> None:
    """Raise a DataError if a pixel of images, the first of which is number ``start``, is not allowed."""
    if part.dtype == np.uint8:
        return
    if part.dtype.kind not in "iuf":
        raise DataError(f"{name}: elements of type {part.dtype}; give whole numbers from 0 to 255")
    low, high = part.min(), part.max()
    if not math.isfinite(low) or not math.isfinite(high):
        image = start + int(np.argwhere(~np.isfinite(part))[0, 0])
        raise DataError(f"{name}: image {image} has a pixel that is NaN or infinite; give whole numbers from 0 to 255")
    whole = part.dtype.kind != "f" or bool((part == np.floor(part)).all())
    if whole and low >= 0 and high <= 255:
        return
    found = f"{part.dtype} from {low:g} to {high:g}"
    if low >= 0 and high <= 1:
        cure = "multiply by 255 and round"
    elif low >= 0 and high <= 255:
        cure = "round them"
    elif low >= 0:
        cure = "scale them to 0 to 255 and round"
    else:
        cure = "undo the normalization: scale them to 0 to 255 and round"
    raise DataError(f"{name}: {found}, not whole numbers from 0 to 255; {cure}")


def as_labels(array: NDArray[Any], name: str) -> NDArray[Any]:
    """Return labels (m,): int64 from 0 to 65,535, or texts.

    Raises:
        DataError: If they have another shape, or a label is negative, no whole number, or too large.
    """
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2:
        raise DataError(f"{name}: shape {array.shape}: give one label an image, (m,); of one-hot rows labels.argmax(1)")
    if array.ndim != 1 or not len(array):
        raise DataError(f"{name}: shape {array.shape}: give one label for each image, (m,)")
    texts = array.astype(str) if array.dtype.kind in "UT" else None
    if texts is not None:
        if not _are_numbers(texts):
            return texts
        array = texts.astype(np.int64)
    low, high = array.min(), array.max()
    if array.dtype.kind == "f":
        bad = np.flatnonzero(~np.isfinite(array) | (array != np.floor(array)))
        if len(bad):
            raise DataError(
                f"{name}: label {bad[0]} is {array[bad[0]]:g}, not a whole number; remove or mend its image"
            )
    if low < 0:
        place = int(np.flatnonzero(array < 0)[0])
        raise DataError(f"{name}: label {place} is {array[place]:g}; number the classes from 0")
    if high > LARGEST_LABEL:
        place = int(np.flatnonzero(array > LARGEST_LABEL)[0])
        raise DataError(f"{name}: label {place} is {array[place]:g}, above {LARGEST_LABEL}; number the classes from 0")
    return array.astype(np.int64) if texts is None else texts


def _are_numbers(labels: NDArray[Any]) -> bool:
    """Return whether labels are numbers, or texts that all are whole numbers."""
    return labels.dtype == np.int64 or all(
        text.isascii() and text.isdigit() and len(text) < 10 for text in np.unique(labels).tolist()
    )


def numbered(
    labels: NDArray[Any], test_labels: NDArray[Any] | None, name: str
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None, tuple[str, ...]]:
    """Replace texts by the numbers that they are or, if one of all texts is none, by places in the sorted list of all.

    Args:
        labels: Labels (m,), from :func:`as_labels`.
        test_labels: Those of the test set, if there is one.
        name: Name of the data set, for messages.

    Returns:
        Labels, test labels, and the names of the classes; no names if the labels are numbers already.

    Raises:
        DataError: If one of the two has texts and the other numbers, or a text is empty.
    """
    given = [labels, *([] if test_labels is None else [test_labels])]
    if all(map(_are_numbers, given)):
        return labels.astype(np.int64), None if test_labels is None else test_labels.astype(np.int64), ()
    if any(array.dtype == np.int64 for array in given):
        raise DataError(f"{name}: numbers in one of labels and test_labels, texts in the other; give the same kind")
    names, places = np.unique(np.concatenate(given), return_inverse=True)
    if not all(text.strip() for text in names.tolist()):
        raise DataError(f"{name}: a label is empty; remove or mend its image")
    if len(names) > LARGEST_LABEL:
        raise DataError(
            f"{name}: {len(names)} different labels ({listed([shown(text) for text in names[:3].tolist()])})"
        )
    places = places.reshape(-1).astype(np.int64)
    rest = None if test_labels is None else places[len(labels) :]
    return places[: len(labels)], rest, tuple(names.tolist())


def from_arrays(images: Any, labels: Any, test_images: Any, test_labels: Any, name: str) -> Source:
    """Return the content of arrays, as :meth:`mnistbench.datasets.Dataset.from_arrays` describes it.

    Raises:
        DataError: If the arrays do not belong together, a value is not allowed, or its meaning in doubt.
    """
    if (test_images is None) != (test_labels is None):
        missing = "test_labels" if test_labels is None else "test_images"
        raise DataError(f"{name}: {missing} are missing; give both or neither")
    targets = as_labels(as_array(labels, f"{name}: labels"), f"{name}: labels")
    tested = None
    if test_labels is not None:
        tested = as_labels(as_array(test_labels, f"{name}: test_labels"), f"{name}: test_labels")
    targets, tested, names = numbered(targets, tested, name)

    pictures = _counted(images, len(targets), f"{name}: images")
    test = None
    if tested is not None:
        test_pictures = _counted(test_images, len(tested), f"{name}: test_images")
        require_same_shape(test_pictures.shape, pictures.shape, f"{name}: test_images")
        test_pixels = as_pixels(_parts(test_pictures), test_pictures.shape, f"{name}: test_images")
        test = Labelled(Held(test_pixels), tested)
    pixels = as_pixels(_parts(pictures), pictures.shape, f"{name}: images")
    _, height, width = pictures.shape
    return Source((height, width), Labelled(Held(pixels), targets), test, class_names=names)


def _counted(images: Any, count: int, name: str) -> NDArray[Any]:
    """Return pictures (m, height, width), of which there must be ``count``."""
    pictures = as_pictures(as_array(images, name), name, count)
    if len(pictures) != count:
        raise DataError(f"{name}: {len(pictures)} images, but {count} labels; give one label an image")
    return pictures


def require_same_shape(test: tuple[int, ...], train: tuple[int, ...], name: str) -> None:
    """Raise a DataError unless test images (m, height, width) are as large as the training images."""
    if test[1:] != train[1:]:
        raise DataError(
            f"{name}: images of {test[1]} x {test[2]} pixels, but those to train on have {train[1]} x {train[2]}"
        )


def _parts(pictures: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for first in range(0, len(pictures), CHUNK):
        yield pictures[first : first + CHUNK]
