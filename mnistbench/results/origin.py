"""Origin of a measurement: which machine, when, and of which code; and what is said of several origins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from mnistbench import words
from mnistbench.machine.identity import Machine

LATER = {"later": True}
"""Marks fields that earlier versions do not have: where there is nothing, they are no part of what is drawn."""

UNDRAWN = {"undrawn": True}
"""Marks fields that no picture shows, which therefore is not drawn again when they change."""


@dataclass(frozen=True)
class Origin:
    """Machine, date and code of a measurement.

    Attributes:
        machine: Machine that it was made on.
        commit: Git commit of the code.
        dirty: Whether the code differed from the commit.
        commit_date: Date of the commit (ISO 8601), or None.
        date: Date of the measurement (ISO 8601).
        file: Name of the file that stores it.
        folder: Name of the folder that the file lies in; "" if it is not stored yet.
        system: Operating system and its kernel; "" if the file does not tell.
        python: Version of Python; "" if the file does not tell.
        merged: When it was merged from somebody else's results (ISO 8601); None for one's own.
    """

    machine: Machine
    commit: str
    dirty: bool
    commit_date: str | None
    date: str
    file: str
    folder: str = field(default="", compare=False, metadata=UNDRAWN)
    system: str = field(default="", compare=False, metadata=UNDRAWN)
    python: str = field(default="", compare=False, metadata=UNDRAWN)
    merged: str | None = field(default=None, metadata=LATER)

    @classmethod
    def of(cls, document: Mapping[str, Any], file: str, folder: str = "") -> Origin:
        """Read the origin of all rows of a pytest-benchmark document.

        Raises:
            KeyError, TypeError, ValueError: If it is damaged.
        """
        commit, machine = document["commit_info"], document["machine_info"]
        if not (isinstance(commit["id"], str) and isinstance(document["datetime"], str)):
            raise TypeError("the commit's id or the date is no text")
        versions = machine.get("versions")
        return cls(
            Machine.read(machine),
            commit["id"],
            commit["dirty"],
            commit.get("time"),
            document["datetime"],
            file,
            folder,
            " ".join(str(machine[name]) for name in ("system", "kernel") if machine.get(name)),
            str(versions.get("python", "")) if isinstance(versions, Mapping) else "",
            document.get("merged"),
        )

    @property
    def run(self) -> tuple[str, str, str]:
        """What the rows of one run share: their folder, their file and its date."""
        return self.folder, self.file, self.date

    @property
    def code(self) -> str:
        """The code in words: the short commit, and whether it was changed."""
        return self.commit[:7] + " with uncommitted changes" * self.dirty


NOWHERE = Origin(Machine.named(""), "", False, None, "", "")
"""Origin of a row that is not stored yet."""


class Measured(Protocol):
    """Something measured: a row, or a training of a preset."""

    @property
    def origin(self) -> Origin:
        """Where it is from."""

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of the libraries that computed it."""


def versions(measured: Iterable[Measured]) -> dict[str, str]:
    """Return the versions of each library, joined by "or" if there are several: "0.67.0 or 0.68.1"."""
    found: dict[str, dict[str, None]] = {}
    for one in measured:
        for name, version in one.versions.items():
            found.setdefault(name, {})[version] = None
    return {name: " or ".join(of_library) for name, of_library in sorted(found.items())}


def mixture(measured: Sequence[Measured]) -> str:
    """Say of how many runs and commits, and of which versions they are; "" if all are of one run."""
    runs, commits = ({getattr(one.origin, name) for one in measured} for name in ("run", "code"))
    if len(runs) == 1:
        return ""
    several = [f"{name} {version}" for name, version in versions(measured).items() if " or " in version]
    *parts, last = [words.counted(len(runs), "run"), words.counted(len(commits), "commit"), *several]
    return f"{', '.join(parts)} and {last}"
