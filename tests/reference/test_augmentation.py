"""Augmentation: its effect on images, against SciPy, and the same bytes from every computation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from mnistbench.reference import augmentation, counter
from mnistbench.reference.augmentation import augmented, tables
from mnistbench.task.recipe import Augmentation

shapes = st.tuples(st.integers(1, 20), st.integers(1, 20))
changes = st.builds(Augmentation, st.integers(0, 64), st.floats(0, 180), st.floats(0, 500), st.floats(0.5, 16))


def noise(images: int, shape: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (images, shape[0] * shape[1]), dtype=np.uint8)


def moved(image: NDArray[np.uint8], down: int, right: int) -> NDArray[np.uint8]:
    """Give each pixel the value of the pixel ``down`` rows and ``right`` columns away, or 0."""
    height, width = image.shape
    found = np.zeros_like(image)
    for row in range(height):
        for column in range(width):
            if 0 <= row + down < height and 0 <= column + right < width:
                found[row, column] = image[row + down, column + right]
    return found


def fixed_angle(monkeypatch: pytest.MonkeyPatch, degrees: float) -> None:
    """Rotate every image by ``degrees``."""
    whole = tables(Augmentation(rotate=180.0), (1, 1))
    cosine, sine = (round(f(math.radians(degrees)) * 2**14) for f in (math.cos, math.sin))
    fixed = whole._replace(cosines=np.full(1024, cosine, np.int32), sines=np.full(1024, sine, np.int32))
    monkeypatch.setattr(augmentation, "tables", lambda *_: fixed)


def test_every_whole_shift_occurs_and_is_exact() -> None:
    shape, pixels = (6, 5), noise(1, (6, 5))
    images = np.repeat(pixels, 900, axis=0)
    found = augmented(images, np.arange(900), shape, Augmentation(shift=1), 0, 0)
    possible = {moved(pixels.reshape(shape), i, j).tobytes() for i in (-1, 0, 1) for j in (-1, 0, 1)}
    occurred = [image.tobytes() for image in found]
    assert set(occurred) == possible
    assert all(60 < occurred.count(image) < 140 for image in possible)


@pytest.mark.parametrize("degrees", [0.0, 5.0, -37.0, 90.0, 180.0])
def test_a_rotation_is_scipy_s(monkeypatch: pytest.MonkeyPatch, degrees: float) -> None:
    shape = (9, 12)
    fixed_angle(monkeypatch, degrees)
    rows, columns = np.indices(shape) - np.array([4, 5.5])[:, None, None]
    blobs = np.exp(-((rows - 1) ** 2 + columns**2) / 8) + 0.6 * np.exp(-(rows**2 + (columns - 3) ** 2) / 5)
    image = np.rint(150 * blobs).astype(np.uint8)
    found = augmented(image.reshape(1, -1), np.arange(1), shape, Augmentation(rotate=1.0), 0, 0).reshape(shape)
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    at = np.array([cosine * rows - sine * columns + 4, sine * rows + cosine * columns + 5.5])
    padded = np.pad(image.astype(float), 20)
    expected = ndimage.map_coordinates(padded, at + 20, order=1)
    # A position is off by up to 1/256 pixel in each direction, and neighbours differ by up to 64.
    assert np.abs(found - expected).max() <= 2 * 64 / 256 + 0.5
    if degrees % 90 == 0 and degrees != 90:
        assert np.array_equal(found, image[::-1, ::-1] if degrees else image)


def test_angles_are_spread_evenly() -> None:
    table = tables(Augmentation(rotate=30.0), (4, 4))
    angles = np.degrees(np.arctan2(table.sines, table.cosines))
    np.testing.assert_allclose(angles, np.linspace(-30, 30, 1024), atol=0.01)
    np.testing.assert_allclose(np.hypot(table.sines, table.cosines), 2**14, rtol=1e-4)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 4.0, 16.0])
@pytest.mark.parametrize("shape", [(28, 28), (5, 7), (1, 1), (40, 3)])
def test_the_field_is_smoothed_by_scipy_s_gaussian(shape: tuple[int, int], sigma: float) -> None:
    table = tables(Augmentation(elastic_alpha=34.0, elastic_sigma=sigma), shape)
    field = np.random.default_rng(0).uniform(-1, 1, shape)
    found = table.smooth_rows @ field @ table.smooth_columns / 2**16
    radius = math.ceil(3 * sigma)
    expected = ndimage.gaussian_filter(field, sigma, mode="constant", radius=radius)
    # Each of up to 2 radius + 1 weights is off by up to 2⁻⁹, and the middle one by the sum of these errors.
    assert np.abs(found - expected).max() <= 2 * (2 * radius + 1) * 2**-8
    assert np.sqrt(np.mean((found - expected) ** 2)) <= 0.01


@given(st.floats(0.5, 16), st.integers(1, 40))
def test_weights_of_the_gaussian_are_whole_symmetric_and_sum_to_256(sigma: float, size: int) -> None:
    weights = tables(Augmentation(elastic_alpha=1, elastic_sigma=sigma), (size, 1)).smooth_rows
    assert weights.dtype == np.int32
    assert (weights == weights.T).all()
    assert weights.min() >= 0
    middle = weights[size // 2].sum()
    assert middle == 256 if size > 2 * math.ceil(3 * sigma) else middle <= 256


def test_elastic_displacements_are_as_large_as_alpha_says() -> None:
    """A smoothed uniform field has a standard deviation of sqrt(sum of the squared weights / 3)."""
    shape, change = (41, 41), Augmentation(elastic_alpha=34.0, elastic_sigma=4.0)
    table = tables(change, shape)
    words = counter.threefry(counter.key(0, counter.ELASTIC, 0), (np.arange(300)[:, None], np.arange(41 * 41)))
    found = [augmentation._displacements(table, word, shape)[:, 20, 20] / 256 for word in words]
    weights = table.smooth_rows[20] / 256
    expected = 34 / math.sqrt(3) * float((weights**2).sum())
    for displacements in found:
        assert abs(displacements.mean()) < 5 * expected / math.sqrt(300)
        assert displacements.std() == pytest.approx(expected, rel=0.2)
    assert abs(np.corrcoef(found[0], found[1])[0, 1]) < 0.3


@pytest.mark.parametrize("sigma", [0.5, 4.0, 16.0])
@pytest.mark.parametrize("shape", [(28, 28), (60, 50), (1, 9)])
def test_float32_smooths_exactly(shape: tuple[int, int], sigma: float) -> None:
    """Compare with 64-bit integers, also for the largest values."""
    height, width = shape
    table = tables(Augmentation(elastic_alpha=500.0, elastic_sigma=sigma), shape)
    words = np.random.default_rng(0).integers(0, 2**32, (4, height * width), dtype=np.uint32)
    words[0], words[1] = 0xFFFFFFFF, 0
    field = (2 * (words >> np.uint32(24)).astype(np.int64) - 255).reshape(-1, height, width)
    smoothed = table.smooth_rows.astype(np.int64) @ field @ table.smooth_columns.astype(np.int64)
    assert np.abs(smoothed).max() < 2**24
    expected = ((smoothed >> 8) * table.bend) >> 14
    assert np.abs((smoothed >> 8) * table.bend).max() < 2**31
    assert np.array_equal(augmentation._displacements(table, words, shape), expected)


def by_pixel(image: Any, place: int, shape: tuple[int, int], change: Augmentation, seed: int, epoch: int) -> Any:
    """Augment an image pixel by pixel in Python's integers."""
    height, width = shape
    table = tables(change, shape)
    rows, columns = table.smooth_rows.astype(int).tolist(), table.smooth_columns.astype(int).tolist()
    shifts, angle = map(int, counter.threefry(counter.key(seed, counter.PLACE, epoch), (place, 0)))
    down, right = (((half * (2 * table.shift + 1)) >> 16) - table.shift for half in (shifts >> 16, shifts & 0xFFFF))
    cosine, sine = int(table.cosines[angle >> 22]), int(table.sines[angle >> 22])
    own = counter.key(seed, counter.ELASTIC, epoch)
    words = [list(map(int, counter.threefry(own, (place, pixel)))) for pixel in range(height * width)]

    def displacement(which: int, row: int, column: int) -> int:
        total = 0
        for i in range(height):
            for j in range(width):
                uniform = 2 * (words[i * width + j][which] >> 24) - 255
                total += rows[row][i] * uniform * columns[j][column]
        return ((total >> 8) * table.bend) >> 14

    def value(row: int, column: int) -> int:
        return int(image[row * width + column]) if 0 <= row < height and 0 <= column < width else 0

    found = []
    for row in range(height):
        for column in range(width):
            y, x = 2 * row - (height - 1), 2 * column - (width - 1)
            at_row = ((cosine * y - sine * x + 64) >> 7) + 128 * (height - 1) + 256 * down
            at_column = ((sine * y + cosine * x + 64) >> 7) + 128 * (width - 1) + 256 * right
            if change.elastic_alpha:
                at_row += displacement(0, row, column)
                at_column += displacement(1, row, column)
            (i, u), (j, v) = divmod(at_row, 256), divmod(at_column, 256)
            upper = value(i, j) * (256 - v) + value(i, j + 1) * v
            lower = value(i + 1, j) * (256 - v) + value(i + 1, j + 1) * v
            found.append((upper * (256 - u) + lower * u + 2**15) >> 16)
    return np.array(found, np.uint8)


@example((4, 5), Augmentation(), 0, 0)
@given(st.tuples(st.integers(1, 6), st.integers(1, 6)), changes, st.integers(0, 2**64 - 1), st.integers(0, 99))
def test_no_integer_overflows(shape: tuple[int, int], change: Augmentation, seed: int, epoch: int) -> None:
    image = noise(1, shape, seed % 1000)
    found = augmented(image, np.array([7]), shape, change, seed, epoch)
    expected = by_pixel(image[0], 7, shape, change, seed, epoch) if change else image[0]
    assert np.array_equal(found[0], expected)


@given(shapes, changes, st.lists(st.integers(0, 60_000), min_size=1, max_size=8), st.integers(0, 99))
def test_an_image_is_the_same_in_whatever_batch(
    shape: tuple[int, int], change: Augmentation, places: list[int], epoch: int
) -> None:
    images = noise(len(places), shape)
    found = augmented(images, np.array(places), shape, change, 5, epoch)
    assert (found.dtype, found.shape) == (np.dtype(np.uint8), images.shape)
    for row, place in enumerate(places):
        assert np.array_equal(augmented(images[[row]], np.array([place]), shape, change, 5, epoch)[0], found[row])


@pytest.mark.parametrize("change", [Augmentation(shift=2), Augmentation(rotate=20.0), Augmentation(elastic_alpha=34.0)])
def test_images_differ_by_place_epoch_and_seed_and_the_caller_s_stay(change: Augmentation) -> None:
    shape = (12, 12)
    images = np.repeat(noise(1, shape), 60, axis=0)
    kept = images.copy()
    found = augmented(images, np.arange(60), shape, change, 0, 0)
    assert len({image.tobytes() for image in found}) > 10
    for other in (augmented(images, np.arange(60), shape, change, *at) for at in ((0, 1), (1, 0), (2**40, 0))):
        assert (found != other).any(axis=1).mean() > 0.8
    assert np.array_equal(images, kept)
