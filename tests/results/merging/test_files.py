"""Files that are not read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mnistbench.exceptions import MnistbenchError
from mnistbench.results import merging, reading
from mnistbench.results.merging import Refused
from tests.support.merging import (
    RUN,
    counts,
    few,
    merged,
    refusal,
    theirs,
)


def test_a_folder_without_results_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MnistbenchError, match="holds no results"):
        merging.sources(tmp_path)
    with pytest.raises(MnistbenchError, match="is no folder"):
        merging.sources(tmp_path / "missing")


TEXT = json.dumps(RUN)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting value"),
        ("[]", "holds no JSON object"),
        ("{}", "machine_info is missing"),
        (TEXT[:-1], "delimiter"),
        (TEXT + "{}", "Extra data"),
        (TEXT.replace('"finished": true', '"finished": true, "finished": true'), "two values of 'finished'"),
        (TEXT.replace("257152000", "9" * 400), "400 digits"),
        (TEXT.replace("257152000", "9" * 5000), "5000 digits"),
        (TEXT.replace('"rounds": 3', '"rounds": ' + "[" * 50 + "]" * 50), "nested too deeply"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        (
            TEXT.replace('"branch": "main"', '"branch": "\\ud800"'),
            r"branch is '\ud800', which is not printable",
        ),
        (
            TEXT.replace('"branch": "main"', '"branch": "\\u001b[2J"'),
            r"branch is '\x1b[2J', which is not printable",
        ),
        (TEXT.replace('"branch"', '"\\u202ebranch"'), r"field '\u202ebranch' of commit_info is unknown"),
    ],
    ids=lambda value: value[:20] if len(value) < 60 else "",
)
def test_a_file_that_is_not_read(tmp_path: Path, text: str, reason: str) -> None:
    assert reason in refusal(tmp_path, text)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "latin-1"])
def test_another_encoding_is_refused(tmp_path: Path, encoding: str) -> None:
    folder = theirs(tmp_path, "")
    text = TEXT.replace('"main"', '"m\u00e4in"')
    (folder / "machine" / "0001_classic_494d741.json").write_bytes(text.encode(encoding))
    assert counts(merged(folder, tmp_path / "own")) == (0, 0, 1)


def test_a_giant_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LARGEST", 1 << 20)
    assert refusal(tmp_path, TEXT + " " * (1 << 20)) == "is larger than 1 MiB, the most that is read"


def test_a_file_of_many_small_values_is_not_read(tmp_path: Path) -> None:
    text = TEXT.removesuffix("}") + ', "environment": [' + "{}," * 1_000_000 + "{}]}"
    assert refusal(tmp_path, text) == "has more than 2,000,000 values, the most that are read"


@pytest.mark.parametrize("name", ["1_classic.json", "results.json", "00001_classic.json", "errors.json"])
def test_a_file_of_another_name(tmp_path: Path, name: str) -> None:
    assert refusal(tmp_path, RUN, name).startswith("is no file of results by its name")


def test_links_and_pipes_are_refused(tmp_path: Path) -> None:
    folder = theirs(tmp_path, few(RUN))
    here = folder / "machine"
    (here / "0002_classic_494d741.json").symlink_to(here / "0001_classic_494d741.json")
    (here / "0003_classic_494d741.json").mkdir()
    os.mkfifo(here / "0004_classic_494d741.json")
    (here / "0005_classic_494d741.json").symlink_to(tmp_path / "missing")
    (folder / "linked").symlink_to(here)
    found = merged(folder, tmp_path / "own")
    reasons = {Path(one.where).relative_to(folder).as_posix(): one.reason for one in found if isinstance(one, Refused)}
    assert counts(found)[0] == 2
    assert reasons.pop("machine/0002_classic_494d741.json") == "is a symbolic link; copy the file itself"
    assert reasons.pop("machine/0003_classic_494d741.json") in ("is no regular file", "Is a directory")
    assert reasons.pop("machine/0004_classic_494d741.json") == "is no regular file"
    assert reasons.pop("machine/0005_classic_494d741.json") == "is a symbolic link; copy the file itself"
    assert reasons
    assert all(name.startswith("linked/") and "symbolic link" in why for name, why in reasons.items())
