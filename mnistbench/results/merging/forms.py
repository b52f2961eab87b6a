"""Forms of JSON values: type, range, length, and the fields that an object has to have and may have."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any

from mnistbench import words
from mnistbench.exceptions import RowError
from mnistbench.results.reading import quoted

Form = Callable[[Any, str], None]
"""Function that raises a RowError unless a value, at a place named in words, has a form."""


def told(value: Any) -> str:
    """Write a value for a message, if it is short."""
    if isinstance(value, str):
        return quoted(value)
    kind = {dict: "an object", list: "a list", type(None): "null"}.get(type(value))
    if kind is None and isinstance(value, float):
        return f"{value:.6g}"
    return kind or str(value).lower()


def _refuse(value: Any, where: str, must: str) -> RowError:
    return RowError(f"{where} is {told(value)}, and not {must}")


def text(most: int = 200, pattern: str = "", least: int = 0, called: str = "") -> Form:
    """Return the form of a text of ``least`` to ``most`` characters that matches a pattern as a whole.

    Args:
        called: The pattern in words.
    """
    compiled = re.compile(pattern, re.ASCII) if pattern else None
    must = called or f"a text of {least} to {most} characters"

    def check(value: Any, where: str) -> None:
        if isinstance(value, str) and not value.isprintable():
            raise RowError(f"{where} is {quoted(value)}, which is not printable")
        fits = isinstance(value, str) and least <= len(value) <= most
        if not fits or (compiled and not compiled.fullmatch(value)):
            raise _refuse(value, where, must)

    return check


def one_of(*values: str | int) -> Form:
    """Return the form of one of several values."""

    def check(value: Any, where: str) -> None:
        if isinstance(value, bool) or not isinstance(value, (str, int)) or value not in values:
            raise _refuse(value, where, " or ".join(map(str, values)))

    return check


def number(low: float, high: float) -> Form:
    """Return the form of a number from ``low`` to ``high``."""

    def check(value: Any, where: str) -> None:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not fits or not (math.isfinite(value) and low <= value <= high):
            raise _refuse(value, where, f"a number from {low:g} to {high:g}")

    return check


def whole(low: int, high: int) -> Form:
    """Return the form of a whole number from ``low`` to ``high``."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise _refuse(value, where, f"a whole number from {low:,} to {high:,}")

    return check


def flag(value: Any, where: str) -> None:
    """Raise a RowError unless a value is true or false."""
    if not isinstance(value, bool):
        raise _refuse(value, where, "true or false")


def optional(form: Form) -> Form:
    """Return the form of null or a value of a form."""

    def check(value: Any, where: str) -> None:
        if value is not None:
            form(value, where)

    return check


def items(form: Form, most: int, least: int = 0) -> Form:
    """Return the form of a list of ``least`` to ``most`` values of a form."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, list):
            raise _refuse(value, where, "a list")
        if not least <= len(value) <= most:
            raise RowError(f"{where} has {words.counted(len(value), 'value')}, and not {least:,} to {most:,}")
        for place, one in enumerate(value, 1):
            form(one, f"{where} {place}")

    return check


def mapping(key: Form, form: Form, most: int) -> Form:
    """Return the form of an object of up to ``most`` fields, whose names and values have forms."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise _refuse(value, where, "an object")
        if len(value) > most:
            raise RowError(f"{where} has {words.counted(len(value), 'field')}, more than {most:,}")
        for name, one in value.items():
            key(name, f"a name in {where}")
            form(one, f"{where}, {quoted(name)}")

    return check


def record(required: Mapping[str, Form], later: Mapping[str, Form] | None = None) -> Form:
    """Return the form of an object.

    Args:
        required: Fields of every version.
        later: Fields that some versions, or some values, do not have.
    """
    known = {**required, **(later or {})}

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise _refuse(value, where, "an object")
        require_fields(value, where, required, known)
        for name, one in value.items():
            known[name](one, f"{where}, {name}" if where else name)

    return check


def require_fields(value: Mapping[str, Any], where: str, required: Collection[str], known: Collection[str]) -> None:
    """Raise a RowError unless an object has all ``required`` fields, and none that is not ``known``."""
    within = f" of {where}" if where else ""
    for name in required:
        if name not in value:
            raise RowError(f"{name}{within} is missing")
    for name in value:
        if name not in known:
            raise RowError(f"field {quoted(name)}{within} is unknown; if a later version wrote it, update mnistbench")


def listed(most: int, least: int = 0) -> Form:
    """Return the form of a list of ``least`` to ``most`` values, which are not looked at."""
    return items(lambda value, where: None, most, least)


_SCALAR = text(1_000)


def scalar(value: Any, where: str) -> None:
    """Raise a RowError unless a value is a printable text, a finite number, true, false or null."""
    if isinstance(value, (dict, list)):
        raise _refuse(value, where, "a text of up to 1,000 characters, a number, true, false or null")
    if isinstance(value, str):
        _SCALAR(value, where)
    elif isinstance(value, float) and not math.isfinite(value):
        raise _refuse(value, where, "a number of JSON")


_ANY_TEXT = text(10_000)


def anything(value: Any, where: str) -> None:
    """Raise a RowError if a value that nothing reads holds a text that is long or not printable, or many values."""
    if isinstance(value, (dict, list)):
        if len(value) > 10_000:
            raise RowError(f"{where} has {words.counted(len(value), 'value')}, more than 10,000")
        for name, one in value.items() if isinstance(value, dict) else enumerate(value, 1):
            anything(name, f"a name in {where}")
            anything(one, f"{where}, {quoted(name) if isinstance(name, str) else name}")
    elif isinstance(value, str):
        _ANY_TEXT(value, where)
    else:
        scalar(value, where)


_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)", re.ASCII)


def date(value: Any, where: str) -> None:
    """Raise a RowError unless a value is a date with a time and a time zone, as git or Python writes it."""
    if isinstance(value, str) and _TIME.fullmatch(value):
        try:
            datetime.fromisoformat(value).astimezone()
        except (ValueError, OverflowError):
            pass
        else:
            return
    raise _refuse(value, where, "a date and time with its zone (ISO 8601)")


def in_utc(value: Any, where: str) -> None:
    """Raise a RowError unless a value is a :func:`date` in UTC, in the form of :func:`datetime.isoformat`.

    In this form alone, dates are in order as texts, and the same date is the same text.
    """
    date(value, where)
    if not value.endswith("+00:00") or datetime.fromisoformat(value).isoformat() != value:
        raise _refuse(value, where, "in UTC in the form 2026-01-31T18:30:00.123456+00:00")
