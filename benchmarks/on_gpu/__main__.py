"""The command line of ``benchmarks/gpu.sh``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.on_gpu.parts import PARTS
from benchmarks.on_gpu.session import Session
from mnistbench.exceptions import MnistbenchError
from mnistbench.words import one_line

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: list[str]) -> int:
    """Run the parts; return 0 if none failed, 1 if one did, 130 if interrupted, 2 without a GPU or by misuse."""
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(prog="gpu.sh", description="Measure what only a machine with a GPU can show.")
    parser.add_argument("folder", nargs="?", type=Path, metavar="FOLDER", help="where to store results")
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="seconds of all parts together")
    parser.add_argument("--parts", metavar="NAME,...", help=f"parts to run, after canary: {', '.join(names[1:])}")
    parser.add_argument("--from", dest="origin", type=Path, default=Path.cwd(), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    chosen = names if given.parts is None else given.parts.split(",")
    if unknown := [name for name in chosen if name not in names]:
        parser.error(f"--parts {unknown[0]}: choose from {', '.join(names)}")
    if given.budget is not None and not given.budget > 0:
        parser.error(f"--budget {given.budget:g}: give the seconds that may be spent")
    folder = (given.origin / given.folder).resolve() if given.folder else ROOT / "results"
    # Without a GPU nothing else is worth starting.
    wanted = [part for part in PARTS if part.name in ("canary", *chosen)]
    try:
        return Session(folder, given.budget, ROOT).run(wanted)
    except MnistbenchError as error:
        print(f"gpu.sh: {one_line(error)}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
