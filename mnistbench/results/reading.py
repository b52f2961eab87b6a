"""Reading of JSON files that others may have written: bounded in size, depth and numbers, and of one meaning."""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from mnistbench import words
from mnistbench.exceptions import MnistbenchError

LARGEST = 32 << 20
"""Bytes of the largest file that is read; a run of a thousand rows has a sixth of them."""

DEEPEST = 12
"""Deepest nesting of lists and objects that is read; a row's has 8 levels."""

DAMAGED = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MnistbenchError)
"""Exceptions that reading a damaged file raises."""

_LONGEST = 20  # digits of a whole number, as many as one of 64 bits has


def read_object(path: Path, strict: bool = False) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Args:
        strict: Whether to refuse what only somebody else's file would have: symbolic links, numbers that are not
            finite, and characters that are not printable.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no regular file, too large, no JSON in UTF-8, ambiguous, nested too deeply, or no object.
    """
    try:
        text = _content(path, follow=not strict).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"is not in UTF-8 at byte {error.start:,}") from error
    finite = _finite if strict else float
    try:
        found = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_whole,
            parse_float=finite,
            parse_constant=_not_finite if strict else None,
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"is no JSON: {error}") from error
    except RecursionError:
        raise ValueError("lists and objects are nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("holds no JSON object")
    _require_shallow(found, strict)
    return found


def _content(path: Path, follow: bool) -> bytes:
    """Return a regular file's content; a device or a pipe is not waited for."""
    if path.is_symlink() and not follow:
        raise ValueError("is a symbolic link; copy the file itself")
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    file = os.open(path, flags | (0 if follow else getattr(os, "O_NOFOLLOW", 0)))
    with os.fdopen(file, "rb") as opened:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("is no regular file")
        content = opened.read(LARGEST + 1)
    if len(content) > LARGEST:
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


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {quoted(text)} is not finite")
    return value


def _not_finite(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _require_shallow(value: Any, printable: bool) -> None:
    """Raise a ValueError if a value is nested too deeply, or a text in it is not printable where it has to be."""
    level = [value]
    for _ in range(DEEPEST + 1):
        if printable:
            keys = [key for one in level if isinstance(one, dict) for key in one]
            for text in (*keys, *(one for one in level if isinstance(one, str))):
                if not text.isprintable():
                    raise ValueError(f"the text {quoted(text)} is not printable")
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
