"""Data files as people have them, each made from the same few images of MNIST."""

from __future__ import annotations

import gzip
import io
import pickle
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnistbench.datasets import Split, load_data
from mnistbench.datasets.folders import FILE_NAMES
from tests.support.builders import idx

Kind = Callable[[Path], Path]
"""Writes a kind of data into a folder, and returns the file or folder to give."""

IMAGES = 60
FROM_0 = [f"pixel{k}" for k in range(784)]


def _plain() -> tuple[Split, Split]:
    data = load_data(train_size=IMAGES, dev_size=0)
    assert data.test is not None
    assert set(data.train.labels) == set(range(10))
    return data.train, Split(data.test.images[:30], data.test.labels[:30])


TRAIN, TEST = _plain()
PIXELS = TRAIN.images.tolist()
LABELS = TRAIN.labels.tolist()
ROWS = [[label, *image] for label, image in zip(LABELS, PIXELS, strict=True)]

ACCEPTED: dict[str, Kind] = {}
REFUSED: dict[str, Kind] = {}


def text(rows: Sequence[Sequence[object]], header: Sequence[object] = (), separator: str = ",") -> bytes:
    """Return a CSV file of these cells, with a header if one is given."""
    lines = [*([header] if header else []), *rows]
    return "".join(separator.join(map(str, line)) + "\n" for line in lines).encode()


def npz(**arrays: NDArray[Any]) -> bytes:
    """Return an archive of arrays as ``numpy.savez_compressed`` writes it."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip archive of files."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return content.getvalue()


def file(kinds: dict[str, Kind], kind: str, name: str, content: bytes) -> None:
    """Add a kind that is one file."""

    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    kinds[kind] = write


def folder(kinds: dict[str, Kind], kind: str, files: dict[str, bytes]) -> None:
    """Add a kind that is a folder of files, which may be in folders in it."""

    def write(place: Path) -> Path:
        for name, content in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content)
        return place

    kinds[kind] = write


KAGGLE = text(ROWS, ["label", *FROM_0])
UNLABELLED = text(PIXELS, FROM_0)
GRID = [f"{row}x{column}" for row in range(1, 29) for column in range(1, 29)]
OTHER_ORDER = np.random.default_rng(3).permutation(784)
BACKWARDS = [[row[0], *np.array(row[1:])[OTHER_ORDER]] for row in ROWS]
LETTERS = ["p" + a + b for a in "abcdefghijklmnopqrstuvwxyz" for b in "abcdefghijklmnopqrstuvwxyzABCDEF"][:784]
QUOTED = b"\xef\xbb\xbf\n" + text(
    [[f'"{row[0]}"', *(f"{pixel}.0" for pixel in row[1:])] for row in ROWS],
    [f'"{name}"' for name in ["label", *FROM_0]],
).replace(b"\n", b"\r\n\r\n" + b"," * 784 + b"\r\n")

file(ACCEPTED, "Kaggle's `train.csv`", "train.csv", KAGGLE)
file(
    ACCEPTED,
    "Fashion-MNIST as CSV, pixels counted from 1",
    "f.csv",
    text(ROWS, ["label", *(f"pixel{k + 1}" for k in range(784))]),
)
file(ACCEPTED, '"MNIST in CSV", pixels named `1x1` to `28x28`', "m.csv", text(ROWS, ["label", *GRID]))
file(ACCEPTED, "OpenML's `mnist_784`", "o.csv", text([[*row[1:], row[0]] for row in ROWS], [*FROM_0, "class"]))
file(ACCEPTED, "no header, the label first", "n.csv", text(ROWS))
file(ACCEPTED, "no header, the label last", "n.csv", text([[*row[1:], row[0]] for row in ROWS]))
file(
    ACCEPTED,
    "pixels in another order, with numbers in their names",
    "p.csv",
    text(BACKWARDS, ["label", *np.array(FROM_0)[OTHER_ORDER]]),
)
file(
    ACCEPTED,
    "columns named a, b, c, the label called `Y`",
    "y.csv",
    text([[*row[1:3], row[0], *row[3:]] for row in ROWS], [*LETTERS[:2], "Y", *LETTERS[2:]]),
)
file(
    ACCEPTED,
    "names that pandas gives: 0, 1, 2",
    "d.csv",
    text([[k, *row] for k, row in enumerate(ROWS)], ["", *range(785)]),
)
file(
    ACCEPTED,
    "an index column without a name",
    "i.csv",
    text([[f"row {k}", *row] for k, row in enumerate(ROWS)], ["", "label", *FROM_0]),
)
file(
    ACCEPTED,
    "a column `id`",
    "i.csv",
    text([[row[0], 10**12 + k, *row[1:]] for k, row in enumerate(ROWS)], ["label", "id", *FROM_0]),
)
GRID_ACROSS = [f"x{column}_y{row}" for row in range(28) for column in range(28)]
file(
    ACCEPTED,
    "columns named `x0_y0`, the column first",
    "x.csv",
    text([[row[0], *np.array(row[1:])[OTHER_ORDER]] for row in ROWS], ["label", *np.array(GRID_ACROSS)[OTHER_ORDER]]),
)
file(ACCEPTED, "semicolons", "s.csv", text(ROWS, ["label", *FROM_0], ";"))
file(ACCEPTED, "tabs", "t.tsv", text(ROWS, ["label", *FROM_0], "\t"))
file(
    ACCEPTED,
    "spaces, as `numpy.savetxt` writes",
    "s.txt",
    text([[f"{value:.18e}" for value in row] for row in ROWS], separator=" "),
)
file(ACCEPTED, "quotes, a byte-order mark, empty rows, numbers such as `5.0`", "q.csv", QUOTED)
file(ACCEPTED, "CSV in gzip", "train.csv.gz", gzip.compress(KAGGLE))
file(ACCEPTED, "one CSV file in a zip archive", "train.csv.zip", zipped({"train.csv": KAGGLE}))
folder(
    ACCEPTED,
    "Kaggle's folder with `train.csv` and `test.csv`",
    {"train.csv": KAGGLE, "test.csv": UNLABELLED, "sample_submission.csv": b"ImageId,Label\n1,0\n"},
)
TESTED = text(
    [[label, *image] for label, image in zip(TEST.labels.tolist(), TEST.images.tolist(), strict=True)], ["label", *GRID]
)
folder(
    ACCEPTED,
    "a folder with `mnist_train.csv` and `mnist_test.csv`",
    {"mnist_train.csv": text(ROWS, ["label", *GRID]), "mnist_test.csv": TESTED},
)

X, Y, TX, TY = TRAIN.images.reshape(-1, 28, 28), TRAIN.labels, TEST.images.reshape(-1, 28, 28), TEST.labels
file(
    ACCEPTED,
    "Keras' `mnist.npz`",
    "mnist.npz",
    npz(x_test=TX, x_train=X, y_train=Y.astype(np.uint8), y_test=TY.astype(np.uint8)),
)
file(
    ACCEPTED,
    "`.npz` without a test set",
    "mnist.npz",
    npz(x_train=np.asfortranarray(X)[..., np.newaxis], y_train=Y[:, np.newaxis]),
)
file(
    ACCEPTED,
    "`.npz` of floats from 0 to 255",
    "mnist.npz",
    npz(x_train=TRAIN.images.astype(">f4"), y_train=Y.astype(str)),
)

ARRAYS: tuple[NDArray[Any], ...] = (X, Y, TX, TY)
FOUR = {name: idx(array) for name, array in zip(FILE_NAMES, ARRAYS, strict=True)}
GZIPPED = {name: gzip.compress(content) for name, content in FOUR.items()}
folder(ACCEPTED, "a folder with MNIST's four files", {f"{name}.gz": content for name, content in GZIPPED.items()})
folder(
    ACCEPTED,
    "the four files with dots in their names, not in gzip",
    {name.replace("-idx", ".idx"): content for name, content in FOUR.items()},
)
folder(
    ACCEPTED,
    "the four files each in a folder of its name",
    {f"{name}/{name}": content for name, content in FOUR.items()},
)
folder(ACCEPTED, "`(1)` in the names, from a browser", {f"{name} (1).gz": content for name, content in GZIPPED.items()})
folder(
    ACCEPTED,
    "EMNIST's names",
    {
        f"emnist-digits-{name.replace('t10k', 'test')}.gz": gzip.compress(
            idx(array.transpose(0, 2, 1) if array.ndim == 3 else array)
        )
        for name, array in zip(FILE_NAMES, ARRAYS, strict=True)
    },
)
file(
    ACCEPTED,
    "EMNIST as CSV, no header",
    "emnist-digits-train.csv",
    text([[label, *image.reshape(28, 28).T.ravel()] for label, image in zip(LABELS, TRAIN.images, strict=True)]),
)
folder(
    ACCEPTED,
    "torchvision's folder, above `MNIST/raw`",
    {f"MNIST/raw/{name}.gz": content for name, content in GZIPPED.items()},
)

file(REFUSED, "Kaggle's `test.csv`, without labels", "test.csv", UNLABELLED)
file(
    REFUSED,
    "pixels from 0 to 1",
    "d.csv",
    text([[row[0], *(round(v / 255, 4) for v in row[1:])] for row in ROWS], ["label", *FROM_0]),
)
file(
    REFUSED,
    "pixels 0 and 1",
    "b.csv",
    text([[row[0], *(v // 128 for v in row[1:])] for row in ROWS], ["label", *FROM_0]),
)
file(
    REFUSED,
    "two columns that may be the label",
    "l.csv",
    text([[*row, 0] for row in ROWS], ["label", *FROM_0, "class"]),
)
file(REFUSED, "no header, a single row", "n.csv", text(ROWS[:1]))
file(REFUSED, "no header, an index before the pixels", "n.csv", text([[k, *row[1:]] for k, row in enumerate(ROWS)]))
file(
    REFUSED,
    "no header, nine of ten labels the same, noise in the corners",
    "n.csv",
    text([[int(k % 10 == 0), *row[1:-1], k * k % 7] for k, row in enumerate(ROWS)]),
)
file(REFUSED, "no header, a label at either end", "n.csv", text([[*row[:-1], row[0]] for row in ROWS]))
file(
    REFUSED,
    "a pixel column too few",
    "f.csv",
    text([[*row[:6], *row[7:]] for row in ROWS], ["label", *FROM_0[:5], *FROM_0[6:]]),
)
file(REFUSED, "letters as labels", "l.csv", text([["A", *row[1:]] for row in ROWS], ["label", *FROM_0]))
file(REFUSED, "pictures in colours", "c.csv", text([[row[0], *row[1:], *row[1:], *row[1:]] for row in ROWS]))
file(
    REFUSED,
    "an empty cell",
    "e.csv",
    text([*ROWS[:2], [*ROWS[2][:10], "", *ROWS[2][11:]], *ROWS[3:]], ["label", *FROM_0]),
)
file(REFUSED, "a row cut off", "r.csv", KAGGLE[: KAGGLE.rindex(b",")])
file(REFUSED, "UTF-16", "u.csv", KAGGLE.decode().encode("utf-16"))
file(REFUSED, "a web page", "train.csv", b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>\n")
file(
    REFUSED,
    "a Git LFS pointer",
    "train.csv",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 76775041\n",
)
file(REFUSED, "a pickle", "mnist.pkl.gz", gzip.compress(pickle.dumps((TRAIN.images, TRAIN.labels))))
file(
    REFUSED,
    "an Excel workbook",
    "digits.xlsx",
    zipped({"[Content_Types].xml": b"<?xml", "xl/workbook.xml": b"<?xml"}),
)
file(REFUSED, "a zip archive of several files", "digits.zip", zipped({"train.csv": KAGGLE, "test.csv": UNLABELLED}))
file(REFUSED, "gzip in gzip", "train.csv.gz.gz", gzip.compress(gzip.compress(KAGGLE)))
file(REFUSED, "gzip cut off", "train.csv.gz", gzip.compress(KAGGLE)[:-100])
file(REFUSED, "one of the four IDX files", "train-images-idx3-ubyte.gz", GZIPPED["train-images-idx3-ubyte"])
file(REFUSED, "a single `.npy` array", "x_train.npy", b"\x93NUMPY\x01\0")
file(REFUSED, "a picture", "7.png", b"\x89PNG\r\n\x1a\n")
file(REFUSED, "`.npz` with other names", "m.npz", npz(images=X, labels=Y))
file(REFUSED, "`.npz` with objects", "m.npz", npz(x_train=X, y_train=Y.astype(object)))
file(REFUSED, "`.npz` from 0 to 1", "m.npz", npz(x_train=(X / 255).astype(np.float32), y_train=Y))
EMNIST = ("emnist-digits", "emnist-letters")
folder(
    REFUSED,
    "several of EMNIST's data sets in a folder",
    {f"{flavour}-{name}": content for flavour in EMNIST for name, content in FOUR.items()},
)
folder(
    REFUSED,
    "torchvision's folder with several data sets",
    {f"{name}MNIST/raw/{file}": content for name in ("", "Fashion") for file, content in FOUR.items()},
)
folder(REFUSED, "a folder of pictures", {"7/1.png": b"\x89PNG", "8/1.png": b"\x89PNG"})
folder(REFUSED, "a folder with a CSV file under another name", {"digits.csv": KAGGLE})
folder(
    REFUSED,
    "a folder in which a file is missing",
    {name: content for name, content in FOUR.items() if name != "t10k-labels-idx1-ubyte"},
)
folder(REFUSED, "images and labels of different number", {**FOUR, "train-labels-idx1-ubyte": idx(Y[1:])})
folder(REFUSED, "one class only", {**FOUR, "train-labels-idx1-ubyte": idx(np.full(IMAGES, 3))})
