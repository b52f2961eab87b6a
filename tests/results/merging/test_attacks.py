"""No text of a row is obeyed, and whatever a file says, it is merged or refused."""

from __future__ import annotations

import copy
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mnistbench.exceptions import MnistbenchError
from mnistbench.report import tables
from mnistbench.results import storage
from mnistbench.results.merging import Refused
from mnistbench.results.merging.plausibility import believed
from mnistbench.results.origin import Origin
from tests.support.attacks import ATTACKS
from tests.support.merging import (
    EARLIER,
    ERRORS,
    ROW,
    RUN,
    counts,
    few,
    merged,
    put,
    theirs,
    without,
)

TEXTS: list[tuple[Any, ...]] = [
    ("machine_info", "name"),
    ("machine_info", "microarchitecture"),
    ("machine_info", "vendor"),
    ("machine_info", "cpu"),
    ("commit_info", "id"),
    ("commit_info", "branch"),
    ("datetime",),
    ("version",),
    ("benchmarks", 0, "name"),
    ("benchmarks", 0, "param"),
    (*ROW, "backend"),
    (*ROW, "workload", "name"),
    (*ROW, "device"),
    (*ROW, "kernel"),
    (*ROW, "skips"),
    (*ROW, "failed"),
    (*ROW, "versions", "numpy"),
    (*ROW, "limits", "blas", "library"),
    (*ROW, "limits", "blas", "kernel"),
    (*ROW, "limits", "levels", 0, "name"),
    (*ROW, "cold", "empty", 0, "blas"),
    (*ROW, "cold", "kernels", 0, "blas"),
    (*ROW, "agreement", "summary"),
]


@pytest.mark.parametrize("attack", ATTACKS, ids=ascii)
def test_a_path_has_nothing_of_a_row(tmp_path: Path, attack: str) -> None:
    """A text is merged, or refused in one printable line; it names no file but where its form is checked."""
    document = {**few(RUN, 0), "benchmarks": []}
    for number, place in enumerate(TEXTS):
        other = few(RUN, 1)
        entry = other["benchmarks"][0]
        entry["extra_info"]["backend"] = f"backend{number}"
        put(*place)(attack)(other)
        if place[0] == "benchmarks":
            document["benchmarks"].append(entry)
        else:
            entry["extra_info"]["proof"]["seeds"][0] = f"{number:x}"
            theirs(tmp_path, other, f"{number:04}_classic_494d741.json")
    theirs(tmp_path, document, "1000_classic_494d741.json")
    own = tmp_path / "own"
    found = merged(tmp_path / "theirs", own)
    assert all(one.reason.isprintable() for one in found if isinstance(one, Refused))
    assert sum(counts(found)) == len(TEXTS)
    # As what only has to be printable: the branch, and of the rows 8 texts of any length.
    assert counts(found)[0] >= 9 if attack.isprintable() else counts(found)[0] == 0
    for path in own.rglob("*.json"):
        machine, file = path.relative_to(own).parts
        assert set(machine) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert re.fullmatch(r"\d{4}_classic_494d741.json", file, re.ASCII)
    assert {path.name for path in tmp_path.iterdir()} <= {"own", "theirs"}


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(ATTACKS),
    st.just([]),
    st.just({}),
)


def places(value: Any, *place: Any) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield (*place, key)
        yield from places(value[key], *place, key)


DOCUMENTS = {
    "0001_classic_494d741.json": few(RUN, 1),
    "0001_classic_8db1c7e.json": EARLIER,
    "errors_simard.json": {**ERRORS, "runs": ERRORS["runs"][:1]},
}
PLACES = [(name, place) for name, document in DOCUMENTS.items() for place in places(document)]


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(PLACES), leaves), min_size=1, max_size=3))
def test_whatever_a_file_says_it_is_merged_or_refused(changes: list[tuple[tuple[str, tuple[Any, ...]], Any]]) -> None:
    documents = copy.deepcopy(DOCUMENTS)
    for (name, place), value in changes:
        try:
            put(*place)(value)(documents[name])
        except (LookupError, TypeError, AttributeError):
            continue  # another change has removed the place
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, document in documents.items():
            theirs(folder, document, name)
        found = merged(folder / "theirs", folder / "own")
        assert all(one.reason.isprintable() for one in found if isinstance(one, Refused))
        assert {path.name for path in folder.iterdir()} <= {"own", "theirs"}
        again = merged(folder / "theirs", folder / "own")
        assert counts(again) == (0, counts(found)[0] + counts(found)[1], counts(found)[2])


REMOVED = object()
ROWS = [(name, place) for name, place in PLACES if place[:1] == ("benchmarks",) and len(place) > 3]


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(ROWS), st.one_of(st.just(REMOVED), st.none(), st.just([]), st.just({}), leaves))
def test_what_is_believed_can_be_shown(at_place: tuple[str, tuple[Any, ...]], value: Any) -> None:
    name, place = at_place
    document = copy.deepcopy(DOCUMENTS[name])
    if value is REMOVED:
        without(*place)(document)
    else:
        put(*place)(value)(document)
    try:
        row = believed(document["benchmarks"][0], Origin.of(document, name))
    except MnistbenchError:
        return
    rows = storage.latest([row])
    assert [*tables.as_text(rows), *tables.as_markdown(rows, rows)]
