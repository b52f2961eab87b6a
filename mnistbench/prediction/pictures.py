"""Pictures of digits brought to MNIST's form, as its authors brought theirs.

"The original black and white images were size normalized to fit in a 20x20 pixel box while preserving their aspect
ratio. The resulting images contain grey levels as result of the anti-aliasing technique used by the normalization
algorithm. [...] the images were centered in a 28x28 image by computing the center of mass of the pixels, and
translating the image so as to position this point at the center of the 28x28 field." Y. LeCun, L. Bottou, Y. Bengio
and P. Haffner, "Gradient-based learning applied to document recognition", Proceedings of the IEEE 86(11), 1998,
section III.

Their pictures were black and white. What is ink in one of any colours is told by its distance from the background,
which is the median colour along the border.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mnistbench.exceptions import DataError
from mnistbench.words import counted, one_line

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 28
"""Height and width of MNIST's images in pixels."""

BOX = 20
"""Height and width of the box that holds the digit."""

MOST_PIXELS = 100_000_000
"""Largest number of pixels of a picture, which take 0.4 GB of memory; phones' cameras have fewer, mostly."""

_ENORMOUS = f"is enormous; give one of at most {MOST_PIXELS:,} pixels"

_LARGE = 1_024  # height or width from which a picture is made smaller before anything else
_FAINT = 20  # distance of ink from the background, of 255, below which a picture is blank
_CUT = 16  # ink, of 255, that may be noise
_MOST_CUT = 110  # ink that is never noise, but a digit that crosses the border
_UNEVEN = 40  # median of what ink there seems to be along the border, above which no digit is told from it
_SMALL = 64  # height or width below which a picture has no noise of single pixels

_DATA = (".csv", ".tsv", ".npz", ".gz", ".zip")

# The formats of pictures among those that Pillow reads; some of the others start programs or hold no picture.
_FORMATS = (
    *("AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "MPO"),
    *("PCX", "PNG", "PPM", "QOI", "SGI", "TGA", "TIFF", "WEBP", "XBM"),
)


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Return the digit in a picture in MNIST's form: (28, 28), ink bright on black.

    The picture may be of any usual format, any size, and dark on light or light on dark; its background
    should be even. What is transparent counts as white under dark ink and as black under light ink.

    Raises:
        DataError: If the picture is missing, cannot be read, is animated, enormous or blank.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as about damaged metadata
            return in_mnist_form(_ink(_opened(path)))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def list_pictures(paths: list[Path]) -> list[Path]:
    """Return the pictures among paths, in place of a folder those in it, by name.

    Raises:
        DataError: If a path does not exist, or a folder has no pictures.
    """
    from PIL import Image

    suffixes = {suffix for suffix, name in Image.registered_extensions().items() if name in _FORMATS}
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(
            one
            for one in path.iterdir()
            if one.suffix.lower() in suffixes and one.is_file() and not one.name.startswith(".")
        )
        if not inside:
            raise DataError(f"{path}: holds no pictures")
        found += inside
    return found


def _opened(path: Path) -> Image:
    """Open a picture, without its transparency, turned as its camera was, and not much larger than needed."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        Image.init()
        with Image.open(path, formats=[name for name in _FORMATS if name in Image.OPEN]) as image:
            _require_one_of_bounded_size(image)
            image.load()
            turned = _in_channels(ImageOps.exif_transpose(image))
            turned.thumbnail((_LARGE, _LARGE), Image.Resampling.BOX)
            return _opaque(turned)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError("no such file") from None
    except IsADirectoryError:
        raise DataError("is a folder") from None
    except UnidentifiedImageError:
        if path.suffix.lower() in _DATA:
            raise DataError(f"not a picture; give data by --data {path}") from None
        raise DataError("not a picture that can be read; PNG and JPEG can") from None
    except Image.DecompressionBombError:
        raise DataError(_ENORMOUS) from None
    except MemoryError:
        raise DataError("does not fit into the memory of this machine") from None
    except Exception as error:  # decoders of damaged pictures raise any
        raise DataError(f"cannot be read: {one_line(error) or type(error).__name__}") from error


def _require_one_of_bounded_size(image: Image) -> None:
    """Look at the header alone, before anything is decompressed."""
    if image.width * image.height > MOST_PIXELS:
        raise DataError(f"{_ENORMOUS}, not {image.width:,} x {image.height:,}")
    # A camera's MPO file has the same scene more than once.
    if image.format != "MPO" and (frames := getattr(image, "n_frames", 1)) > 1:
        raise DataError(f"is animated, or has several pages: {counted(frames, 'picture')}; give one of them")


def _in_channels(image: Image) -> Image:
    """Return a picture of 8 bits in each channel: of grey (L), RGB or RGBA."""
    from PIL import Image

    if image.mode[0] in "IF":  # 16 or 32 bits of grey, which Pillow would cut off at 255
        values = np.nan_to_num(np.asarray(image, np.float32))
        values = (values - values.min()) * (255 / max(float(np.ptp(values)), 1e-9))
        return Image.fromarray(values.astype(np.uint8))
    if image.mode[-1] in "Aa" or "transparency" in image.info:
        return image.convert("RGBA")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _opaque(colours: Image) -> Image:
    """Return a picture on a background of one colour where it was transparent."""
    from PIL import Image

    if colours.mode != "RGBA":
        return colours
    below = Image.new("RGB", colours.size, _behind(np.asarray(colours)))
    below.paste(colours.convert("RGB"), mask=colours.getchannel("A"))
    return below


def _behind(pixels: NDArray[np.uint8]) -> tuple[int, ...]:
    """Return the colour to put behind a picture (height, width, 4): that of its border, or the ink's opposite."""
    border = _border(pixels)
    solid = border[border[:, 3] >= 128, :3]
    if 2 * len(solid) > len(border):
        return tuple(int(value) for value in np.median(solid, axis=0))
    alpha = pixels[..., 3].astype(np.float64)
    mean = (pixels[..., :3].mean(axis=2) * alpha).sum() / max(alpha.sum(), 1.0)
    return (255, 255, 255) if mean < 128 else (0, 0, 0)


def _ink(image: Image) -> NDArray[np.uint8]:
    """Return (height, width): 0 for the background, 255 for the colour farthest from it.

    Raises:
        DataError: If no colour is far from the background, or the background is uneven.
    """
    from PIL import ImageFilter

    ink, usual, rare = _distances(image)
    if usual and min(image.size) >= _SMALL:
        ink, usual, rare = _distances(image.filter(ImageFilter.MedianFilter(3)))
    if usual > _UNEVEN:
        raise DataError("shows no digit: its background is as uneven as what is on it")
    # Nine medians of noise are six standard deviations. A digit may cross the border too.
    ink[ink <= max(_CUT, min(_MOST_CUT, max(9 * usual, 1.5 * rare)))] = 0
    found: NDArray[np.uint8] = np.rint(ink).astype(np.uint8)
    return found


def _distances(image: Image) -> tuple[NDArray[np.float32], float, float]:
    """Return each pixel's distance from the background, 255 for the farthest; its median and 90% along the border."""
    colours = np.asarray(image, np.float32).reshape(image.height, image.width, -1)
    distance = np.abs(colours - np.median(_border(colours), axis=0)).max(axis=2)
    if (most := float(distance.max())) < _FAINT:
        raise DataError("is blank: nothing stands out from its background")
    ink = distance * np.float32(255 / most)
    usual, rare = (float(value) for value in np.quantile(_border(ink), (0.5, 0.9)))
    return ink, usual, rare


def _border(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return the pixels along the border of an array (height, width, ...)."""
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


def in_mnist_form(ink: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scale ink (height, width), not all 0, into the box, and centre it by mass in a field (28, 28)."""
    from PIL import Image

    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    cropped = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    longer = max(cropped.shape)
    height, width = (max(1, round(BOX * side / longer)) for side in cropped.shape)
    picture = Image.fromarray(cropped.astype(np.float32))
    scaled = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    scaled = np.rint(scaled * (255 / scaled.max()))  # a thin line would be faint
    field = np.zeros((SIDE, SIDE), np.uint8)
    top, left = (_offset(scaled.sum(axis=axis)) for axis in (1, 0))
    field[top : top + height, left : left + width] = scaled
    return field


def _offset(masses: NDArray[Any]) -> int:
    """Return where in the field a line of masses begins, so that its centre is nearest to the field's."""
    centre = float((masses * np.arange(len(masses))).sum() / masses.sum())
    return min(max(0, round(SIDE / 2 - centre)), SIDE - len(masses))
