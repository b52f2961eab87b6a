"""Random words and augmentation in PyTorch, bit for bit those of the reference's ``counter`` and ``augmentation``.

PyTorch has few uint32 operations, so words are int32 of the same bits: sums are modulo 2³², and right shifts mask the
sign's copies. Images are rows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch

from mnistbench.backends.torch import device as torch_device
from mnistbench.backends.torch.device import device
from mnistbench.reference import augmentation, counter
from mnistbench.reference.augmentation import Tables
from mnistbench.task.recipe import Augmentation
from mnistbench.task.workload import DType, Workload

# Added to words, it makes int32 comparisons those of uint32.
_SIGN = -(2**31)


def schedule(seed: int, purpose: int, epoch: int) -> list[int]:
    """Compute the three words, as int32, of the key schedule of a purpose in an epoch."""
    first, second = counter.key(seed, purpose, epoch)
    words = np.array([first, second, first ^ second ^ counter.PARITY], np.uint32).view(np.int32)
    return [int(word) for word in words]


def threefry(schedule: Any, first: Any, second: Any) -> tuple[Any, Any]:
    """Compute two words for each pair of counters (int32 tensors that broadcast) from the key schedule (3,) int32."""
    x, y = first + schedule[0], second + schedule[1]
    for group in range(5):
        for bits in counter.ROTATIONS[group % 2]:
            x = x + y
            y = (y << bits | _right(y, 32 - bits)) ^ x
        x = x + schedule[(group + 1) % 3]
        y = y + (schedule[(group + 2) % 3] + (group + 1))
    return x, y


def _right(words: Any, bits: int) -> Any:
    """Shift right by ``bits`` bits, at least 1, filling with zeros."""
    return words >> bits & (1 << 32 - bits) - 1


def kept(schedule: Any, places: Any, units: int, rate: float) -> Any:
    """Compute which units of a hidden layer dropout keeps, (images, units); ``places`` (images,) int32."""
    pairs = torch.arange((units + 1) // 2, dtype=torch.int32, device=places.device)
    words = torch.stack(threefry(schedule, places[:, None], pairs), dim=2).flatten(1)[:, :units]
    drop = counter.drop_below(rate)
    # Compare with drop - 1, since 2³² is not a word.
    return words + _SIGN > drop - 1 + _SIGN if drop else torch.ones_like(words, dtype=torch.bool)


def tables(change: Augmentation, image_shape: tuple[int, int]) -> Tables:
    """Copy :func:`mnistbench.reference.augmentation.tables` to the device, smoothing matrices in float32."""
    host = augmentation.tables(change, image_shape)
    cosines, sines, rows, columns = (torch.from_numpy(values.copy()).to(device()) for values in host[1:5])
    return Tables(host.shift, cosines, sines, rows.float(), columns.float(), host.bend)


def augmented(images: Any, places: Any, image_shape: tuple[int, int], table: Tables, place: Any, elastic: Any) -> Any:
    """Augment images (k, pixels) uint8 for an epoch; ``places`` (k,) int32 are their indices in the training set.

    Args:
        place, elastic: key schedules of these purposes.
    """
    height, width = image_shape
    rows, columns = _turned(table, places, image_shape, place)
    if table.bend:
        pixels = torch.arange(height * width, dtype=torch.int32, device=images.device)
        field = threefry(elastic, places[:, None], pixels)
        down, right = (_displacements(table, word.reshape(-1, height, width)) for word in field)
        rows, columns = rows + down, columns + right
    return _interpolated(images.reshape(-1, height, width), rows, columns).reshape(images.shape)


def _turned(table: Tables, places: Any, image_shape: tuple[int, int], schedule: Any) -> tuple[Any, Any]:
    """Compute the source rows and columns (k, height, width) of all pixels of rotated and shifted images."""
    height, width = image_shape
    shifts, angle = threefry(schedule, places, torch.zeros_like(places[:1]))
    choices = 2 * table.shift + 1
    down, right = (
        (half * choices >> 16)[:, None, None] - table.shift for half in (_right(shifts, 16), shifts & 0xFFFF)
    )
    chosen = _right(angle, 32 - augmentation.ANGLE_BITS)
    cosine, sine = (values[chosen][:, None, None] for values in (table.cosines, table.sines))
    # Twice the distance from the centre is an integer.
    y = 2 * torch.arange(height, dtype=torch.int32, device=places.device)[:, None] - (height - 1)
    x = 2 * torch.arange(width, dtype=torch.int32, device=places.device) - (width - 1)
    half, bits = 1 << (augmentation.TURN_BITS - 8), augmentation.TURN_BITS - 7
    turned_y, turned_x = cosine * y - sine * x + half >> bits, sine * y + cosine * x + half >> bits
    return turned_y + 128 * (height - 1) + 256 * down, turned_x + 128 * (width - 1) + 256 * right


def _displacements(table: Tables, words: Any) -> Any:
    """Compute the elastic displacements in one direction from the pixels' words, both (k, height, width)."""
    field = 2 * _right(words, 24) - 255
    # All values are integers below 2²⁴, so float32 is exact.
    smoothed = (table.smooth_rows @ field.float() @ table.smooth_columns).int()
    return (smoothed >> augmentation.FIELD_BITS) * table.bend >> augmentation.BEND_BITS


def _interpolated(images: Any, rows: Any, columns: Any) -> Any:
    """Interpolate images (k, height, width) at positions in 1/256 pixel; the outside is 0.

    A position's four neighbours are looked up at once, as the bytes of one word.
    """
    k, height, width = images.shape
    wide = torch.nn.functional.pad(images.int(), (1, 1, 1, 1))
    four = wide[:, :-1, :-1] | wide[:, :-1, 1:] << 8 | wide[:, 1:, :-1] << 16 | wide[:, 1:, 1:] << 24
    top, left = (rows >> 8) + 1, (columns >> 8) + 1
    inside = (top >= 0) & (top <= height) & (left >= 0) & (left <= width)
    place = top.clamp(0, height) * (width + 1) + left.clamp(0, width)
    found = four.reshape(k, -1).gather(1, place.reshape(k, -1).long()).reshape(k, height, width) * inside
    a, b, c, d = (found >> bits & 255 for bits in (0, 8, 16, 24))
    down, right = rows & 255, columns & 255
    upper, lower = a * (256 - right) + b * right, c * (256 - right) + d * right
    return (upper * (256 - down) + lower * down + 2**15 >> 16).to(torch.uint8)


class Draw(NamedTuple):
    """The static part of a batch's random bits: ``images`` per batch, and the workload's options.

    Attributes:
        image_shape: (height, width).
        rates: dropout rates of the hidden layers.
    """

    images: int
    image_shape: tuple[int, int]
    augmentation: Augmentation
    hidden: tuple[int, ...]
    rates: tuple[float, ...]
    dtype: DType

    @classmethod
    def of(cls, workload: Workload, image_shape: tuple[int, int]) -> Draw:
        """Return a workload's."""
        hidden = workload.network.hidden
        rates = workload.recipe.dropout_rates(len(hidden))
        return cls(workload.batch_size, image_shape, workload.recipe.augmentation, hidden, rates, workload.dtype)

    @property
    def words(self) -> int:
        """Number of pairs of random words per batch."""
        height, width = self.image_shape
        pixels = height * width if self.augmentation else 0
        return self.images * (
            pixels + sum(units // 2 for units, rate in zip(self.hidden, self.rates, strict=True) if rate)
        )

    def function(self) -> Callable[..., Any]:
        """Return a function that augments a batch's images and computes each layer's mask (m, units) or None.

        Its arguments are images (m, n) uint8, their indices (m,) int32, and the key schedules (k, 3) int32 of the
        purposes PLACE, ELASTIC and each layer's DROPOUT.
        """
        dtype = getattr(torch, self.dtype)
        table = tables(self.augmentation, self.image_shape)

        def drawn(images: Any, places: Any, schedules: Any) -> tuple[Any, list[Any]]:
            if self.augmentation:
                images = augmented(images, places, self.image_shape, table, schedules[0], schedules[1])
            masks: list[Any] = [None] * len(self.hidden)
            for layer, (units, rate) in enumerate(zip(self.hidden, self.rates, strict=True)):
                if rate:
                    masks[layer] = kept(schedules[2 + layer], places, units, rate).to(dtype) * (1 / (1 - rate))
            return images, masks

        return drawn


@cache
def compiled(draw: Draw, threads: int) -> Callable[..., Any]:
    """Compile the function of ``draw``."""
    return torch_device.compiled(draw.function())
