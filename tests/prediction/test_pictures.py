"""Pictures of digits in MNIST's form, whatever they look like; and what is no picture of a digit, in one line."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mnistbench.datasets import Dataset
from mnistbench.exceptions import DataError
from mnistbench.prediction.pictures import BOX, SIDE, in_mnist_form, list_pictures, read_picture


def test_mnists_own_images_are_in_that_form(small_dataset: Dataset) -> None:
    """Bit for bit, if the brightest pixel has 255."""
    assert small_dataset.test
    for image in small_dataset.test.images[:1000].reshape(-1, SIDE, SIDE):
        expected = np.rint(image * (255 / image.max()))
        np.testing.assert_array_equal(in_mnist_form(image), expected)


INK = arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=90), elements=st.integers(0, 255))


@settings(max_examples=200)
@given(INK.filter(lambda ink: ink.any()))
def test_any_ink_is_scaled_into_the_box_and_centred_by_mass(ink: NDArray[np.uint8]) -> None:
    found = in_mnist_form(ink)
    assert (found.shape, str(found.dtype), int(found.max())) == ((SIDE, SIDE), "uint8", 255)
    rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
    assert max(np.ptp(rows), np.ptp(columns)) < BOX
    weights = found.astype(float)
    for axis, places in ((1, rows), (0, columns)):
        masses = weights.sum(axis=axis)
        centre = (masses * np.arange(SIDE)).sum() / masses.sum()
        cut_short = places[0] == 0 or places[-1] == SIDE - 1
        assert abs(centre - SIDE / 2) <= 0.5 + 1e-9 or cut_short or len(places) < BOX


def seven(size: tuple[int, int] = (400, 300), width: int = 24, ink: Any = 0, paper: Any = 255, mode: str = "L") -> Any:
    """Draw a digit, off centre."""
    image = Image.new(mode, size, paper)
    ImageDraw.Draw(image).line([(150, 60), (290, 60), (200, 250)], fill=ink, width=width)
    return image


PLAIN = in_mnist_form(255 - np.asarray(seven()))


def apart(found: NDArray[np.uint8], expected: NDArray[np.uint8]) -> float:
    """Mean difference of the pixels; a centre of mass between two of them may be rounded either way."""
    shifts = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    return min(float(np.abs(np.roll(found, by, (0, 1)).astype(float) - expected).mean()) for by in shifts)


def read(image: Any, path: Path, **how: Any) -> NDArray[np.uint8]:
    image.save(path, **how)
    return read_picture(path)


VARIANTS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "dark on light": (seven(), "png", {}),
    "light on dark": (seven(ink=255, paper=0), "png", {}),
    "grey on grey": (seven(ink=100, paper=140), "png", {}),
    "blue on yellow": (seven(ink=(20, 30, 160), paper=(250, 240, 180), mode="RGB"), "png", {}),
    "red on a green as light": (seven(ink=(200, 0, 0), paper=(0, 102, 0), mode="RGB"), "png", {}),
    "black on transparent": (seven(ink=(0, 0, 0, 255), paper=(0, 0, 0, 0), mode="RGBA"), "png", {}),
    "white on transparent": (seven(ink=(255, 255, 255, 255), paper=(255, 255, 255, 0), mode="RGBA"), "png", {}),
    "grey and transparent": (seven(ink=(0, 255), paper=(0, 0), mode="LA"), "png", {}),
    "a palette": (seven(ink=(20, 30, 160), paper=(250, 240, 180), mode="RGB").quantize(4), "gif", {}),
    "one bit": (seven(mode="1"), "png", {}),
    "16 bits": (Image.fromarray(np.asarray(seven()).astype(np.uint16) * 257), "png", {}),
    "floats": (Image.fromarray(np.asarray(seven()).astype(np.float32) / 255), "tiff", {}),
    "CMYK": (seven().convert("RGB").convert("CMYK"), "jpg", {"quality": 95}),
    "a bad JPEG": (seven(), "jpg", {"quality": 30}),
    "large": (seven().resize((4000, 3000)), "png", {}),
    "turned by the camera": (
        seven().rotate(90, expand=True),
        "jpg",
        {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"},
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_however_it_is_drawn_it_is_the_same_digit(tmp_path: Path, name: str) -> None:
    image, kind, how = VARIANTS[name]
    found = read(image, tmp_path / f"seven.{kind}", **how)
    assert apart(found, PLAIN) < 3


def test_a_solid_page_with_transparent_corners_has_its_own_background(tmp_path: Path) -> None:
    page = seven().convert("RGBA")
    for corner in ((0, 0), (0, 299), (399, 0), (399, 299)):
        ImageDraw.Draw(page).ellipse([at + shift for shift in (-20, 20) for at in corner], fill=(0, 0, 0, 0))
    assert apart(read(page, tmp_path / "page.png"), PLAIN) < 1


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(2, 8), st.integers(-40, 40))
def test_noise_and_shade_of_a_photograph_are_no_ink(
    tmp_path_factory: pytest.TempPathFactory, seed: int, noise: int, shade: int
) -> None:
    rng = np.random.default_rng(seed)
    pixels = np.asarray(seven(ink=40, paper=190)).astype(float)
    pixels += rng.normal(0, noise, pixels.shape) + np.linspace(0, shade, 400)
    photograph = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    found = read(photograph, tmp_path_factory.mktemp("photograph") / "seven.png")
    assert apart(found, PLAIN) < 6


def test_a_thin_line_is_not_faint(tmp_path: Path) -> None:
    found = read(seven(width=2), tmp_path / "thin.png")
    assert found.max() == 255
    assert (found > 60).sum() > 20


def png_of(width: int, height: int) -> bytes:
    """A PNG file of a large picture in a few bytes."""
    chunks = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0), b"IDAT" + zlib.compress(bytes(10**6))
    parts = [struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def broken_pictures(folder: Path) -> dict[str, str]:
    """Write files that show no digit; return what is said of each."""
    seven().save(folder / "whole.png")
    whole = (folder / "whole.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("no picture")
    (folder / "empty.png").touch()
    (folder / "bomb.png").write_bytes(png_of(60_000, 60_000))
    (folder / "large.png").write_bytes(png_of(10_001, 10_000))
    (folder / "script.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    Image.new("L", (50, 50), 200).save(folder / "white.png")
    Image.new("RGBA", (50, 50), (0, 0, 0, 0)).save(folder / "nothing.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90), np.uint8)).save(folder / "noise.png")
    frames = [seven(), seven(width=9)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    return {
        "cut.png": "cannot be read: ",
        "text.png": "not a picture that can be read; PNG and JPEG can",
        "empty.png": "not a picture that can be read",
        "bomb.png": "is enormous; give one of at most 100,000,000 pixels",
        "large.png": "is enormous; give one of at most 100,000,000 pixels, not 10,001 x 10,000",
        "script.eps": "not a picture that can be read",
        "white.png": "is blank: nothing stands out from its background",
        "nothing.png": "is blank: ",
        "noise.png": "shows no digit: its background is as uneven as what is on it",
        "moving.gif": "is animated, or has several pages: 2 pictures; give one of them",
        "none.png": "no such file",
    }


def test_what_shows_no_digit_is_refused_in_one_line(tmp_path: Path) -> None:
    for name, said in broken_pictures(tmp_path).items():
        with pytest.raises(DataError) as caught:
            read_picture(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: {said}")
        assert str(caught.value).isprintable()


@settings(max_examples=100)
@given(st.floats(0, 1, exclude_max=True), st.integers(1, 255), st.sampled_from(["png", "jpg", "gif", "bmp", "tiff"]))
def test_a_damaged_picture_is_refused_in_one_line_or_read(
    tmp_path_factory: pytest.TempPathFactory, place: float, bits: int, kind: str
) -> None:
    path = tmp_path_factory.mktemp("damaged") / f"seven.{kind}"
    seven((60, 60), 3).save(path)
    content = bytearray(path.read_bytes())
    content[int(place * min(400, len(content)))] ^= bits
    path.write_bytes(content)
    try:
        assert read_picture(path).shape == (SIDE, SIDE)
    except DataError as error:
        assert str(error).isprintable()  # noqa: PT017 - either may happen


def test_folders_stand_for_their_pictures(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "c.txt", ".hidden.png", "d.eps", "e.pdf"):
        (tmp_path / name).touch()
    (tmp_path / "inner.png").mkdir()
    own = Path("elsewhere.txt")
    assert list_pictures([own, tmp_path]) == [own, tmp_path / "a.JPG", tmp_path / "b.png"]
    with pytest.raises(DataError, match="holds no pictures"):
        list_pictures([tmp_path / "inner.png"])
