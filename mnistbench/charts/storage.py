"""Keeping charts: the same bytes for the same data, and inside an SVG a digest of what it was drawn from."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from matplotlib.figure import Figure

from mnistbench.charts.page import DPI, styled
from mnistbench.files import write_atomically

VERSION = 1
"""Raised when charts of the same rows look different: stored ones are then stale."""

_DESCRIPTION = "{http://purl.org/dc/elements/1.1/}description"


def write(figure: Figure, path: Path, source: str = "") -> None:
    """Write ``figure`` to one file, as SVG or PNG by the end of its name. The same figure gives the same bytes.

    Args:
        figure: what to write.
        path: the file.
        source: one line, such as a :func:`digest`, that an SVG keeps for :func:`stored_source`.

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
    """What :func:`write` was given as ``source`` for this .svg file, or None."""
    try:
        for _, element in ElementTree.iterparse(path):
            if element.tag == _DESCRIPTION:
                return element.text
    except (OSError, ElementTree.ParseError):
        pass
    return None


def digest(drawn: str) -> str:
    """The SHA-256, in hexadecimal, of what a chart shows, as text, and of :data:`VERSION`."""
    return hashlib.sha256(f"{VERSION}\n{drawn}".encode()).hexdigest()
