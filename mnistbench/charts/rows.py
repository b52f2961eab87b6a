"""What the charts read from the rows beyond their numbers: the task, the machine, the settings, in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import pandas as pd

from mnistbench.exceptions import DataError

Record = dict[str, Any]


def records(rows: pd.DataFrame) -> list[Record]:
    """The rows as dictionaries.

    Raises:
        DataError: there are none.
    """
    if rows.empty:
        raise DataError("charts: no validated results to draw; measure a backend that agrees with the reference")
    return cast(list[Record], rows.to_dict("records"))


def _only(values: Iterable[str], joined: str = "") -> str:
    """The value, if all are the same; else all of them ``joined`` by that, or nothing."""
    different = list(dict.fromkeys(values))
    return different[0] if len(different) == 1 else joined.join(different) if joined else ""


def task(rows: pd.DataFrame) -> str:
    """The workload in words, from the rows and, where it has them, their attribute "images"."""
    iterations = _only((f"{row['iterations']:,} iterations" for row in records(rows)), " or ")
    images = rows.attrs.get("images")
    return iterations if images is None else f"{iterations} on {int(images):,} images"


def setting(row: Record) -> str:
    """Device and threads of a row."""
    threads = row["threads"]
    return f"{row['device']}, {threads} thread{'' if threads == 1 else 's'}"


def provenance(rows: Sequence[Record]) -> tuple[str, str]:
    """The setting that all rows share, if they do, and the line that says where they were measured."""
    shared = _only(setting(row) for row in rows)
    machine = _only((row["machine"] for row in rows), "; ")
    workload = _only((row["workload"] for row in rows), ", ")
    # The device may be what the machine is named for.
    named = _only(row["device"] for row in rows)
    running = shared.removeprefix(f"{named}, ") if named and named in machine else shared
    where = ", ".join(part for part in (machine, running) if part)
    return shared, f"Workload {workload}, on {where}."
