"""Writing charts: the same bytes for the same data, and a digest of the data inside an SVG."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from matplotlib.figure import Figure

from mnistbench.charts.page import DPI, styled
from mnistbench.files import write_atomically

VERSION = 2
"""Version of the drawings; incremented when charts of the same rows look different, which makes stored ones stale."""

_DESCRIPTION = "{http://purl.org/dc/elements/1.1/}description"


def write(figure: Figure, path: Path, source: str = "") -> None:
    """Write ``figure`` as SVG or PNG, by the file's suffix. The same figure gives the same bytes.

    Args:
        source: One line, such as a :func:`digest`, that an SVG keeps for :func:`stored_source`.

    Raises:
        MnistbenchError: If the file cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    metadata: dict[str, Any] = {"Description": source} if source else {}
    if kind == "svg":
        metadata["Date"] = None
    with styled():
        write_atomically(path, partial(figure.savefig, format=kind, dpi=DPI, metadata=metadata))


def stored_source(path: Path) -> str | None:
    """Return the ``source`` that :func:`write` stored in this .svg file, or None."""
    try:
        with path.open("rb") as file:  # which iterparse would leave open
            for _, element in ElementTree.iterparse(file):
                if element.tag == _DESCRIPTION:
                    return element.text
    except (OSError, ElementTree.ParseError):
        pass
    return None


def digest(drawn: str) -> str:
    """Return the hexadecimal SHA-256 of a chart's data, as text, and of :data:`VERSION`."""
    return hashlib.sha256(f"{VERSION}\n{drawn}".encode()).hexdigest()
