"""Find what a machine can see of bad prose in docstrings, comments and help texts. Exit status 1 if there is any."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

BEGINNINGS = {r"Of\b": "begin with a noun or a verb"}
PHRASES = {
    r"^ *(?:#|//) Of\b": "begin with a noun or a verb",
    r"<!-- gap": "fill the gap",
    r"\bso many\b": "name the parameter",
    r"\bas (it|they) (is|are|stands?)\b": "say which state is meant: unchanged, without augmentation, ...",
}


def complaints(path: Path) -> list[str]:
    """What is wrong in a file, a line for each."""
    text = path.read_text(encoding="utf-8")
    found = []
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found += [(node.lineno, fix) for start, fix in BEGINNINGS.items() if re.match(start, node.value)]
    for phrase, fix in PHRASES.items():
        for match in re.finditer(phrase if phrase.startswith("^") else phrase.replace(" ", r"\s+(?:# )?"), text, re.M):
            found.append((text.count("\n", 0, match.start()) + 1, fix))
    return [f"{path}:{line}: {fix}" for line, fix in sorted(found)]


def main() -> int:
    """Check every file that git knows."""
    names = subprocess.run(["git", "ls-files", "*.py", "*.md", "*.cu*"], capture_output=True, text=True, check=True)
    found = [
        line
        for name in names.stdout.split()
        if Path(name).resolve() != Path(__file__).resolve()
        for line in complaints(Path(name))
    ]
    print("\n".join(found))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
