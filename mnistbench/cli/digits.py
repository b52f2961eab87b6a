"""Images of digits in characters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mnistbench.words import percent

_SHADES = " .:-=+*#%@"
_BAR = 30


def side_by_side(images: NDArray[np.uint8], captions: Sequence[str], room: int) -> Iterator[str]:
    """Draw images (k, height, width) below their captions, in lines of at most ``room`` characters."""
    width = max(images.shape[2], *map(len, captions)) + 2
    per_line = max(1, room // width)
    for first in range(0, len(images), per_line):
        part = slice(first, first + per_line)
        yield "".join(caption.ljust(width) for caption in captions[part]).rstrip()
        for row in zip(*map(drawn, images[part]), strict=True):
            yield "".join(line.ljust(width) for line in row).rstrip()


def drawn(image: NDArray[np.uint8]) -> list[str]:
    """Draw an image (height, width) in lines; each shows two rows of pixels."""
    lines = [image[row : row + 2].mean(axis=0) for row in range(0, len(image), 2)]
    return ["".join(_SHADES[int(value) * len(_SHADES) // 256] for value in line) for line in lines]


def beside_probabilities(image: NDArray[np.uint8], probabilities: NDArray[np.float64]) -> Iterator[str]:
    """Draw an image (height, width) beside a bar for the probability of each class."""
    lines = drawn(image)
    bars = [
        f"{digit:>3} {percent(float(share)):>6} {'#' * round(_BAR * float(share))}".rstrip()
        for digit, share in enumerate(probabilities)
    ]
    for row in range(max(len(lines), len(bars))):
        left = lines[row] if row < len(lines) else ""
        right = bars[row] if row < len(bars) else ""
        yield f"{left:<{image.shape[1] + 2}}{right}".rstrip()
