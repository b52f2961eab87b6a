"""Runs the tutorial's pages: their Python blocks in order, in one namespace for each page.

A block ``text`` behind a block of Python is what it prints. A number with a decimal point may differ by one in its last
digit; all else may not. The lines of a block ``text measured`` are of the form "what: value", and values may be any:
those on the page are of the machine that it names. A picture is drawn by the page, through ``charts.write``, and keeps
a digest of the page down to the block that draws it.

    python docs/tutorial/run.py            runs all pages, shows what they print, and exits with 1 if one is stale
    python docs/tutorial/run.py 2 --write  runs the second page, and writes its texts and pictures anew
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from threadpoolctl import threadpool_limits

from mnistbench import charts, files
from mnistbench.exceptions import MnistbenchError

FOLDER = Path(__file__).parent
PAGES = sorted(FOLDER.glob("[0-9]-*.md"))

BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text( measured)?\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
"""Block of Python with what it prints: source, " measured" or nothing, and text."""
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")


def agree(text: str, printed: str, measured: bool = False) -> bool:
    """Whether two texts have the same words and numbers that are near enough; if ``measured``, the same beginnings."""
    if measured:
        return _beginnings(text) == _beginnings(printed)
    if _NUMBER.sub("0", text).split() != _NUMBER.sub("0", printed).split():
        return False
    pairs = zip(_NUMBER.findall(text), _NUMBER.findall(printed), strict=True)
    return all(_near(one, other) for one, other in pairs)


def _beginnings(text: str) -> list[str]:
    """Return what stands before the colon of each line."""
    return [line.partition(":")[0] for line in text.splitlines()]


def _near(number: str, other: str) -> bool:
    """Whether two numbers are equal, or differ by at most one in the last decimal of the first."""
    digits, _, exponent = number.partition("e")
    decimals = digits.partition(".")[2]
    last = 10.0 ** (int(exponent or 0) - len(decimals)) if decimals else 0.0
    return abs(float(number.replace(",", "")) - float(other.replace(",", ""))) <= 1.001 * last


@dataclass
class Run:
    """Run of a page so far.

    Attributes:
        page: File of the page.
        folder: Folder of its pictures.
        write: Whether to bring texts and pictures up to date.
        text: The page down to the last block that ran, with its text up to date if ``write``.
        stale: What does not match the page, a line or more each.
        namespace: Names that the blocks share.
    """

    page: Path
    folder: Path = FOLDER
    write: bool = False
    text: str = ""
    stale: list[str] = field(default_factory=list)
    namespace: dict[str, Any] = field(default_factory=lambda: {"__name__": "tutorial"})

    def complete(self) -> Run:
        """Run all blocks and return this run."""
        source, end = self.page.read_text(encoding="utf-8"), 0
        with threadpool_limits(1):  # small matrices; threads would wait for one another
            for found in BLOCK.finditer(source):
                self.text += source[end : found.start()]
                self._block(found)
                end = found.end()
        self.text += source[end:]
        if self.write:
            files.write_text(self.page, self.text)
        return self

    def _block(self, found: re.Match[str]) -> None:
        """Run a block, and compare or rewrite its text, then its pictures."""
        code, measured, text = found.groups(default="")
        line = found.string.count("\n", 0, found.start()) + 1
        figures: list[tuple[Any, Path]] = []
        with (
            contextlib.redirect_stdout(io.StringIO()) as output,
            patch.object(charts, "write", lambda figure, path: figures.append((figure, path))),
        ):
            # Line numbers of errors are those of the page.
            exec(compile("\n" * line + code, self.page, "exec"), self.namespace)
        printed = "\n".join(line.rstrip() for line in output.getvalue().splitlines())
        if printed:
            print(printed)
        same = agree(text, printed, bool(measured))
        if self.write and (measured or not same):
            self.text += f"```python\n{code}```\n" + (f"\n```text{measured}\n{printed}\n```\n" if printed else "")
        else:
            self.text += found[0]
            if not same:
                self.stale.append(f"{self.page.name}:{line}: this block prints\n{printed}")
        for figure, path in figures:
            self._picture(figure, self.folder / path.name)

    def _picture(self, figure: Any, path: Path) -> None:
        """Write a picture, or check that the stored one is of the same page."""
        source = charts.digest(self.text)
        if self.write:
            charts.write(figure, path, source)
        elif charts.stored_source(path) != source:
            self.stale.append(f"{path.name} is of an earlier {self.page.name}: python docs/tutorial/run.py --write")


def main() -> int:
    """Run the pages that the command line names; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("numbers", nargs="*", type=int, metavar="PAGE", help="number of a page (default: all)")
    parser.add_argument("--write", action="store_true", help="write texts and pictures anew")
    options = parser.parse_args()
    stale = []
    for page in PAGES:
        if not options.numbers or int(page.name[0]) in options.numbers:
            print(f"== {page.name}")
            try:
                stale += Run(page, write=options.write).complete().stale
            except MnistbenchError as error:
                stale.append(f"{page.name}: {error}")
    for line in stale:
        print(line, file=sys.stderr)
    return int(bool(stale))


if __name__ == "__main__":
    sys.exit(main())
