"""Other people's files of results, changed and merged."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mnistbench.results import merging
from mnistbench.results.merging import Merged, Refused
from tests.support.paths import ROOT

RESULTS = ROOT / "results"
INTEL, AMD = "intel-emeraldrapids-2-cpus-33cfb4", "amd-znver5-2-cpus-79b50d"
RUN = json.loads((RESULTS / AMD / "0014_classic_494d741.json").read_text(encoding="utf-8"))
ERRORS = json.loads((RESULTS / INTEL / "errors_simard.json").read_text(encoding="utf-8"))
EARLIER = json.loads((ROOT / "tests/results/earlier/0001_classic_8db1c7e.json").read_text(encoding="utf-8"))

Change = Callable[[Any], object]


def few(document: dict[str, Any], rows: int = 2) -> dict[str, Any]:
    """A run with its first rows."""
    return {**copy.deepcopy(document), "benchmarks": copy.deepcopy(document["benchmarks"][:rows])}


def later(document: dict[str, Any], minute: int) -> dict[str, Any]:
    """Another run like a run, measured at a minute of an hour."""
    other = {**copy.deepcopy(document), "datetime": f"2026-11-27T18:{minute:02}:00+00:00"}
    for entry in other["benchmarks"]:
        proof = entry["extra_info"]["proof"]
        proof["seeds"] = [f"{minute + 1:x}{seed[2:]}" for seed in proof["seeds"]]
    return other


def theirs(folder: Path, document: Any, name: str = "0001_classic_494d741.json") -> Path:
    """A folder of results with one file."""
    path = folder / "theirs" / "machine" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return folder / "theirs"


def merged(source: Path, own: Path, dry_run: bool = False) -> list[Merged | Refused]:
    return [*merging.merge(merging.sources(source), own, dry_run)]


def counts(found: list[Merged | Refused]) -> tuple[int, int, int]:
    """Numbers of rows that were new, present and refused."""
    of = [one for one in found if isinstance(one, Merged)]
    return sum(one.new for one in of), sum(one.present for one in of), len(found) - len(of)


def refusal(folder: Path, document: Any, name: str = "0001_classic_494d741.json") -> str:
    """The reason why the only file of a folder, or its only row, is refused; nothing is stored of it."""
    (found,) = merged(theirs(folder, document, name), folder / "own")
    assert isinstance(found, Refused)
    assert contents(folder / "own") == {}
    assert found.reason.isprintable()
    return found.reason


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def at(value: Any, *place: Any) -> Any:
    for key in place:
        value = value[key]
    return value


def put(*place: Any) -> Callable[[Any], Change]:
    """A function that makes a change: another value at a place."""

    def make(value: Any) -> Change:
        return lambda document: at(document, *place[:-1]).__setitem__(place[-1], value)

    return make


def without(*place: Any) -> Change:
    return lambda document: at(document, *place[:-1]).__delitem__(place[-1])


ROW = ("benchmarks", 0, "extra_info")
STATS = ("benchmarks", 0, "stats")
