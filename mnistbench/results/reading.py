"""Reading of JSON files that others may have written: bounded in size, depth and digits, and of one meaning."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnistbench import words
from mnistbench.exceptions import MnistbenchError

LARGEST = 32 << 20
"""Bytes of the largest file of others that is read; a run of a thousand rows has a sixth of them."""

MOST_VALUES = 2_000_000
"""Most values of a file of others, by its commas and brackets; a run of a thousand rows has a fifth of them."""

DEEPEST = 12
"""Deepest nesting of lists and objects that is read; a row's has 8 levels."""

DAMAGED = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MnistbenchError)
"""Exceptions that reading a damaged file raises."""

_LONGEST = 20  # digits of a whole number, as many as one of 64 bits has


def read_object(path: Path, strict: bool = False) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Args:
        strict: Whether to refuse what only somebody else's file would be: a symbolic link, or one of more than
            :data:`LARGEST` bytes or :data:`MOST_VALUES` values, which take much more memory than their text.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no regular file, too large, no JSON in UTF-8, ambiguous, nested too deeply, or no object.
    """
    try:
        text = _content(path, strict).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"is not in UTF-8 at byte {error.start:,}") from error
    if strict and sum(map(text.count, ",[{")) > MOST_VALUES:
        raise ValueError(f"has more than {MOST_VALUES:,} values, the most that are read")
    try:
        found = json.loads(text, object_pairs_hook=_object, parse_int=_whole)
    except json.JSONDecodeError as error:
        raise ValueError(f"is no JSON: {error}") from error
    except RecursionError:
        raise ValueError("lists and objects are nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("holds no JSON object")
    _require_shallow(found)
    return found


def _content(path: Path, strict: bool) -> bytes:
    """Return a regular file's content; a device or a pipe is not waited for."""
    if path.is_symlink() and strict:
        raise ValueError("is a symbolic link; copy the file itself")
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    file = os.open(path, flags | (getattr(os, "O_NOFOLLOW", 0) if strict else 0))
    with os.fdopen(file, "rb") as opened:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("is no regular file")
        content = opened.read(LARGEST + 1 if strict else -1)
    if strict and len(content) > LARGEST:
        raise ValueError(f"is larger than {words.size(LARGEST)}, the most that is read")
    return content


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        for name, _ in pairs:
            if name not in found:
                raise ValueError(f"an object has two values of {quoted(name)}")
            del found[name]
    return found


def _whole(digits: str) -> int:
    if len(digits) > _LONGEST:
        raise ValueError(f"a whole number has {len(digits)} digits, more than {_LONGEST}")
    return int(digits)


def _require_shallow(value: Any) -> None:
    """Raise a ValueError if a value is nested too deeply."""
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [
            inner
            for one in level
            if isinstance(one, (dict, list))
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return
    raise ValueError("lists and objects are nested too deeply")


def quoted(text: str) -> str:
    """Quote a text of a file for a message, on one line: of a long one, the beginning."""
    return f"'{words.visible(text if len(text) <= 60 else text[:57] + '...')}'"


def shown(value: Any) -> Any:
    """Return a JSON value with :func:`mnistbench.words.visible` texts, for whatever will print it."""
    if isinstance(value, str):
        return words.visible(value)
    if isinstance(value, Mapping):
        return {words.visible(str(name)): shown(one) for name, one in value.items()}
    return [*map(shown, value)] if isinstance(value, list) else value
