"""Keeping charts: the same bytes for the same data, and inside a digest of what they were drawn from."""

from __future__ import annotations

import hashlib
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from matplotlib.figure import Figure
from PIL import Image

from mnistbench.charts.page import DPI, styled
from mnistbench.files import write_atomically

_DESCRIPTION = "{http://purl.org/dc/elements/1.1/}description"


def save(figure: Figure, path: Path, source: str = "") -> list[Path]:
    """Write ``figure`` as ``path`` with .svg and with .png appended; return both paths.

    ``source``, one line such as a :func:`digest`, is kept in the metadata of both, for :func:`stored_source`.

    Raises:
        MnistbenchError: a file cannot be written.
    """
    written = [path.with_name(f"{path.name}.{kind}") for kind in ("svg", "png")]
    for target in written:
        write(figure, target, source)
    return written


def write(figure: Figure, path: Path, source: str = "") -> None:
    """Write ``figure`` to one file, as SVG or PNG by the end of its name. The same figure gives the same bytes.

    Raises:
        MnistbenchError: the file cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    metadata: dict[str, Any] = {"Description": source} if source else {}
    if kind == "svg":
        metadata["Date"] = None
    with styled():
        write_atomically(path, partial(figure.savefig, format=kind, dpi=DPI, metadata=metadata))


def stored_source(path: Path) -> str | None:
    """What :func:`save` was given as ``source`` for this .svg or .png file, or None."""
    try:
        if path.suffix == ".png":
            with Image.open(path) as image:
                return image.info.get("Description")
        for _, element in ElementTree.iterparse(path):
            if element.tag == _DESCRIPTION:
                return element.text
    except (OSError, ElementTree.ParseError):
        pass
    return None


def digest(rows_json: str) -> str:
    """The SHA-256, in hexadecimal, of that text and of this package's source: of what a chart depends on."""
    sources = [source for source in files(__package__).iterdir() if source.name.endswith(".py")]
    total = hashlib.sha256(hashlib.sha256(rows_json.encode()).digest())
    for source in sorted(sources, key=lambda source: source.name):
        # A checkout may have Windows line ends.
        text = source.read_bytes().replace(b"\r\n", b"\n")
        total.update(hashlib.sha256(source.name.encode()).digest() + hashlib.sha256(text).digest())
    return total.hexdigest()
