"""Images of a source: in memory, or read from their file when some of them are taken.

A source larger than memory can be shared by ranks that each take their part: whatever is read goes through blocks of a
few megabytes, of which only the images that were asked for are kept.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnistbench.datasets.emnist import upright

Places = NDArray[np.int64]
"""Numbers of images in the order of their source, from 0."""


class Images(ABC):
    """Images of a source in its order, each of as many pixels."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """Number of images, and number of pixels of each."""

    @abstractmethod
    def parts(self, places: Places) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield consecutive images (k, pixels) some at a time, with the number of the first.

        Args:
            places: Numbers of the images that are needed, ascending. Others are left out, or may hold anything.

        Yields:
            Arrays that hold until the next one is asked for.

        Raises:
            DataError: If what is read is malformed.
            OSError: If a file cannot be read.
        """

    def take(self, *selections: Places) -> list[NDArray[np.uint8]]:
        """Return copies of some images, for each selection an array (k, pixels) in its order, in one pass.

        Args:
            selections: Numbers of images, no number twice in a selection.

        Raises:
            DataError, OSError: As :meth:`parts` does.
        """
        wanted = [_Wanted(places, self.shape[1]) for places in selections]
        for first, part in self.parts(np.sort(np.concatenate(selections))):
            for one in wanted:
                one.fill(first, part)
        assert all(one.missing == 0 for one in wanted)
        return [one.images for one in wanted]

    def read(self) -> NDArray[np.uint8]:
        """Return all images, (m, pixels).

        Raises:
            DataError, OSError: As :meth:`parts` does.
        """
        return self.take(np.arange(self.shape[0]))[0]


class _Wanted:
    """Images that are collected from consecutive parts of their source.

    Attributes:
        images: (k, pixels) in the order that was asked for.
        missing: Number of images that no part has held so far.
    """

    def __init__(self, places: Places, pixels: int) -> None:
        self.images = np.empty((len(places), pixels), np.uint8)
        self.missing = len(places)
        self._order = np.argsort(places)
        self._sorted = places[self._order]

    def fill(self, first: int, part: NDArray[np.uint8]) -> None:
        """Copy what is wanted of a part that begins with image ``first``."""
        low, high = np.searchsorted(self._sorted, (first, first + len(part)))
        self.images[self._order[low:high]] = part[self._sorted[low:high] - first]
        self.missing -= int(high - low)


@dataclass(frozen=True, eq=False)
class Held(Images):
    """Images in memory.

    Attributes:
        array: (m, pixels) uint8.
    """

    array: NDArray[np.uint8]

    @property
    def shape(self) -> tuple[int, int]:
        """Number of images, and number of pixels of each."""
        count, pixels = self.array.shape
        return count, pixels

    def parts(self, places: Places) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield all images at once."""
        yield 0, self.array

    def take(self, *selections: Places) -> list[NDArray[np.uint8]]:
        """Return copies of some images, an array for each selection."""
        return [np.ascontiguousarray(self.array[places]) for places in selections]

    def read(self) -> NDArray[np.uint8]:
        """Return the array itself."""
        return self.array


@dataclass(frozen=True, eq=False)
class Upright(Images):
    """EMNIST's images, turned upright when they are read.

    Attributes:
        stored: Images with rows and columns exchanged.
        image_shape: (height, width) as stored.
    """

    stored: Images
    image_shape: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """Number of images, and number of pixels of each."""
        return self.stored.shape

    def parts(self, places: Places) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield the stored parts, each turned."""
        for first, part in self.stored.parts(places):
            yield first, upright(part, self.image_shape)[0]

    def read(self) -> NDArray[np.uint8]:
        """Return all images, (m, pixels)."""
        return upright(self.stored.read(), self.image_shape)[0]
