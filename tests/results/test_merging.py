"""Merging: what others measured is checked, stored once and never in place of one's own; no text of it is obeyed."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mnistbench import report
from mnistbench.exceptions import MnistbenchError
from mnistbench.machine.identity import Machine
from mnistbench.report import tables
from mnistbench.results import merging, reading, storage
from mnistbench.results.merging import Merged, Refused
from mnistbench.results.merging.plausibility import examined
from mnistbench.results.origin import Origin
from tests.support.attacks import ATTACKS
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


# What is merged.


@pytest.mark.parametrize("machine", [AMD, INTEL])
def test_a_machine_s_folder_becomes_the_same_folder_with_the_same_tables(
    tmp_path: Path, machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = merged(RESULTS / machine, tmp_path / "own")
    new, present, refused = counts(found)
    assert (present, refused) == (0, 0)
    assert [*(tmp_path / "own").iterdir()] == [tmp_path / "own" / machine]
    committed = [row for _, _, rows in storage.documents(RESULTS / machine) for row in rows]
    stored = storage.load(tmp_path / "own" / machine)
    assert [row.as_dict() for row in stored] == [row.as_dict() for row in committed]
    assert new == len(stored) + 3 * len([*(RESULTS / machine).glob("errors_*.json")])
    monkeypatch.setattr(report, "_stale_pictures", lambda machines: [])
    report.write(tmp_path / "own")
    assert sections(tmp_path / "own", machine) == sections(RESULTS, machine)


def sections(folder: Path, machine: str) -> list[str]:
    """The sections of a folder's README on a machine."""
    _, *found = (folder / "README.md").read_text(encoding="utf-8").split("\n## ")
    vendor = "Intel" if machine == INTEL else "AMD"
    return [section.strip() for section in found if section.startswith(vendor)]


def test_two_machines_and_an_earlier_version_merge_and_again_nothing_changes(tmp_path: Path) -> None:
    own, both = tmp_path / "own", tmp_path / "both"
    for path in (f"{AMD}/0014_classic_494d741", f"{INTEL}/0007_classic_4981b8e", f"{INTEL}/errors_simard"):
        (both / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(RESULTS / f"{path}.json", both / f"{path}.json")
    for source, rows in ((both, 13), (ROOT / "tests/results/earlier", 1)):
        assert counts(merged(source, own)) == (rows, 0, 0)
    assert {path.name for path in own.iterdir()} == {AMD, INTEL}
    before = contents(own)
    for source, rows in ((both / AMD, 5), (both, 13), (ROOT / "tests/results/earlier", 1), (own, 14)):
        assert counts(merged(source, own)) == (0, rows, 0)
    assert contents(own) == before


def test_errors_merge_into_the_file_of_their_preset(tmp_path: Path) -> None:
    own, name = tmp_path / "own", "errors_simard.json"
    for runs in (ERRORS["runs"][1:2], ERRORS["runs"]):
        means = {"numba float32": sum(run["test_error"] for run in runs) / len(runs)}
        merged(theirs(tmp_path, {**ERRORS, "runs": runs, "mean_test_error": means}, name), own)
    assert contents(own) == {f"{INTEL}/{name}": (RESULTS / INTEL / name).read_bytes()}


def test_the_same_row_in_another_form_is_present(tmp_path: Path) -> None:
    own = tmp_path / "own"
    assert counts(merged(theirs(tmp_path, RUN), own)) == (5, 0, 0)

    def backwards(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: backwards(value[name]) for name in reversed(value)}
        if isinstance(value, list):
            return [*map(backwards, value)]
        return int(value) if isinstance(value, float) and value.is_integer() else value

    other = backwards(RUN)
    other["benchmarks"].reverse()
    assert counts(merged(theirs(tmp_path, json.dumps(other, separators=(",", ":"))), own)) == (0, 5, 0)


def test_a_run_that_went_on_adds_its_new_rows(tmp_path: Path) -> None:
    own, first = tmp_path / "own", {**few(RUN, 3), "finished": False, "process": {"pid": 1, "started": 0.0}}
    assert counts(merged(theirs(tmp_path, first), own)) == (3, 0, 0)
    stored = json.loads((own / AMD / "0001_classic_494d741.json").read_text(encoding="utf-8"))
    assert stored["finished"] is True
    assert "process" not in stored
    assert counts(merged(theirs(tmp_path, RUN), own)) == (2, 3, 0)
    assert len(storage.load(own / AMD)) == 5


def test_what_is_stored_is_kept_where_another_row_differs(tmp_path: Path) -> None:
    own = tmp_path / "own"
    merged(theirs(tmp_path, RUN), own)
    before = contents(own)
    other = copy.deepcopy(RUN)
    other["benchmarks"][1]["extra_info"]["kernel"] = "faster"
    found = merged(theirs(tmp_path, other), own)
    (refused,) = [one for one in found if isinstance(one, Refused)]
    assert refused.where.endswith("0001_classic_494d741.json, row 2")
    assert refused.reason == f"differs from the same row in {own / AMD / '0001_classic_494d741.json'}, which is kept"
    assert counts(found) == (0, 4, 1)
    (other_run,) = merged(theirs(tmp_path, {**RUN, "code_sha256": "0" * 64}), own)
    assert isinstance(other_run, Refused)
    assert other_run.reason.startswith("says otherwise of the same run than")
    assert contents(own) == before


def test_a_training_that_differs_is_refused(tmp_path: Path) -> None:
    own, name = tmp_path / "own", "errors_simard.json"
    merged(theirs(tmp_path, ERRORS, name), own)
    before = contents(own)
    other = copy.deepcopy(ERRORS)
    other["runs"][0]["kernel"] = "faster"
    found = merged(theirs(tmp_path, other, name), own)
    assert counts(found) == (0, 2, 1)
    assert "differs from that of numba float32 with seed 0" in str(found)
    assert contents(own) == before


def test_a_row_twice_in_a_file_is_one(tmp_path: Path) -> None:
    twice = few(RUN, 1)
    twice["benchmarks"] *= 2
    assert counts(merged(theirs(tmp_path, twice), tmp_path / "own")) == (1, 1, 0)


def test_the_rest_is_merged_where_something_is_refused(tmp_path: Path) -> None:
    document = copy.deepcopy(RUN)
    document["benchmarks"][2]["extra_info"]["threads"] = "two"
    folder = theirs(tmp_path, document)
    theirs(tmp_path, "{", "0002_classic_494d741.json")
    theirs(tmp_path, ERRORS, "errors_simard.json")
    assert counts(merged(folder, tmp_path / "own")) == (7, 0, 2)


def test_a_dry_run_says_the_same_and_writes_nothing(tmp_path: Path) -> None:
    own, document = tmp_path / "own", few(RUN)
    document["benchmarks"].append(document["benchmarks"][0])
    document["benchmarks"].append({})
    folder = theirs(tmp_path, document)
    theirs(tmp_path, ERRORS, "errors_simard.json")
    shutil.copytree(folder / "machine", folder / "twice")
    dry = merged(folder, own, dry_run=True)
    assert not own.exists()
    assert counts(dry) == counts(merged(folder, own)) == (5, 7, 2)
    (first, *_) = [one for one in dry if isinstance(one, Merged)]
    assert first.target == own / AMD / "NNNN_classic_494d741.json"


@pytest.mark.parametrize("stop", range(4))
def test_a_merge_that_is_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int) -> None:
    own, source = tmp_path / "own", theirs(tmp_path, few(RUN))
    for place in range(2, 5):
        other = few(RUN)
        other["datetime"] = f"2026-11-27T18:0{place}:00+00:00"
        theirs(tmp_path, other, f"000{place}_classic_494d741.json")
    store, stored = storage.store, iter(range(stop))

    def stopping(*arguments: Any) -> Path:
        if next(stored, None) is None:
            raise KeyboardInterrupt
        return store(*arguments)

    monkeypatch.setattr(storage, "store", stopping)
    with pytest.raises(KeyboardInterrupt):
        merged(source, own)
    monkeypatch.undo()
    assert counts(merged(source, own)) == (8 - 2 * stop, 2 * stop, 0)
    assert len(storage.load(own / AMD)) == 8


def test_numbers_do_not_collide_and_end(tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / AMD).mkdir(parents=True)
    shutil.copy(RESULTS / AMD / "0014_classic_494d741.json", own / AMD)
    other = {**few(RUN), "datetime": "2026-11-27T18:00:00+00:00"}
    (found,) = merged(theirs(tmp_path, other), own)
    assert isinstance(found, Merged)
    assert found.target == own / AMD / "0015_classic_494d741.json"
    found.target.rename(own / AMD / "9999_classic_494d741.json")
    other = {**other, "datetime": "2026-11-27T18:01:00+00:00"}
    with pytest.raises(MnistbenchError, match="the number 9,999 is taken"):
        merged(theirs(tmp_path, other), own)


# What is refused: files.


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
        (TEXT.replace("10.483945180000092", "NaN"), "NaN is no number"),
        (TEXT.replace("10.483945180000092", "-Infinity"), "-Infinity is no number"),
        (TEXT.replace("10.483945180000092", "1e999"), "'1e999' is not finite"),
        (TEXT.replace("257152000", "9" * 400), "400 digits"),
        (TEXT.replace("257152000", "9" * 5000), "5000 digits"),
        (TEXT.replace('"rounds": 3', '"rounds": ' + "[" * 50 + "]" * 50), "nested too deeply"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        (TEXT.replace('"branch": "main"', '"branch": "\\ud800"'), r"'\ud800' is not printable"),
        (TEXT.replace('"branch": "main"', '"branch": "\\u001b[2J"'), r"'\x1b[2J' is not printable"),
        (TEXT.replace('"branch"', '"\\u202ebranch"'), r"'\u202ebranch' is not printable"),
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


@pytest.mark.parametrize(
    "name", ["1_classic.json", "results.json", "00001_classic.json", "errors.json", "0001_a\nb\x1b[2J.js.json.json"]
)
def test_a_file_of_another_name(tmp_path: Path, name: str) -> None:
    document = RUN if name[:5] != "0001_" else "{}"
    assert refusal(tmp_path, document, name)


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


# What is refused: runs, rows and trainings.


def put(*place: Any) -> Callable[[Any], Change]:
    """A function that makes a change: another value at a place."""

    def make(value: Any) -> Change:
        return lambda document: at(document, *place[:-1]).__setitem__(place[-1], value)

    return make


def without(*place: Any) -> Change:
    return lambda document: at(document, *place[:-1]).__delitem__(place[-1])


ROW = ("benchmarks", 0, "extra_info")
STATS = ("benchmarks", 0, "stats")

LIES: list[tuple[Change, str]] = [
    # The run.
    (without("machine_info"), "machine_info is missing"),
    (without("machine_info", "memory_gib"), "memory_gib of machine_info is missing"),
    (put("extra")(1), "field 'extra' is unknown; if a later version wrote it, update mnistbench"),
    (put("machine_info", "name")("n" * 121), "machine_info, name is 'nnn"),
    (put("machine_info", "memory_gib")(-1), "machine_info, memory_gib is -1, and not a number from 0 to"),
    (put("machine_info", "usable_cpus")(True), "machine_info, usable_cpus is true"),
    (put("commit_info", "id")("main"), "commit_info, id is 'main', and not a commit of 7 to 64 hexadecimal digits"),
    (put("commit_info", "id")("494D741"), "commit_info, id is"),
    (put("commit_info", "id")("../../etc"), "commit_info, id is"),
    (put("commit_info", "dirty")(0), "commit_info, dirty is 0, and not true or false"),
    (put("commit_info", "time")("yesterday"), "commit_info, time is 'yesterday'"),
    (put("commit_info", "time")("2026-12-24T12:00:00+00:00"), "its commit, of 2026-12-24T12:00:00+00:00, is younger"),
    (put("datetime")("2126-11-27T17:36:55+00:00"), "its date 2126-11-27T17:36:55+00:00 is in the future"),
    (put("datetime")("2026-11-27T17:36:55"), "datetime is '2026-11-27T17:36:55'"),
    (put("datetime")("2026-11-27T17:36:55-08:00"), "and not in UTC"),
    (put("datetime")("2026-13-27T17:36:55+00:00"), "datetime is '2026-13"),
    (put("datetime")("\u0662026-11-27T17:36:55+00:00"), "datetime is"),
    (put("benchmarks")([]), "benchmarks has 0 values"),
    (put("benchmarks")({}), "benchmarks is an object, and not a list"),
    # The form of a row.
    (put("benchmarks", 0)(None), "is null, and not an object"),
    (put(*ROW, "schema")(2), "extra_info, schema is 2, and not 1"),
    (put(*ROW, "schema")(True), "extra_info, schema is true, and not 1"),
    (put(*ROW, "backend")("a backend"), "extra_info, backend is 'a backend', and not a name"),
    (put(*ROW, "backend")("../numba"), "extra_info, backend is"),
    (put(*ROW, "threads")(2.0), "extra_info, threads is 2, and not a whole number from 1"),
    (put(*ROW, "threads")(0), "extra_info, threads is 0"),
    (put(*ROW, "kernel")("k" * 1001), "extra_info, kernel is"),
    (put(*ROW, "kernel")(None), "extra_info, kernel is null, and not a text"),
    (put(*ROW, "versions")({"v" + str(i): "1" for i in range(65)}), "has 65 fields, more than 64"),
    (put(*ROW, "gpu")({"throttled": 1}), "extra_info, gpu, throttled is 1, and not a text"),
    (put(*ROW, "gpu")({"clock": {}}), "is an object"),
    (put(*ROW, "costs", "load")("fast"), "extra_info, costs, load is 'fast'"),
    (put(*ROW, "costs", "magic")(1.0), "field 'magic' of extra_info, costs is unknown"),
    (put(*ROW, "data_sha256")("x" * 64), "extra_info, data_sha256 is"),
    (put(*ROW, "workload", "dtype")("float16"), "dtype is 'float16', and not float32 or float64"),
    (put(*ROW, "workload", "network")([784]), "network has 1 value, and not 2 to 64"),
    (put(*ROW, "workload", "iterations")(2**31), "iterations is 2147483648, and not a whole number"),
    (put(*ROW, "workload", "iterations")(10**19), "iterations is"),
    (put(*ROW, "workload", "learning_rate")(0), "learning_rate is 0"),
    (put(*ROW, "workload", "name")("a/b"), "workload, name is 'a/b'"),
    (put(*ROW, "limits", "levels")([]), "levels has 0 values"),
    (put(*ROW, "limits", "multiply_add", "float32")(1e30), "multiply_add, float32 is 1e+30"),
    (put(*ROW, "proof", "checks", 0)("magic"), "proof, checks 1 is 'magic'"),
    (put(*ROW, "proof", "seeds", 0)("xyz"), "proof, seeds 1 is 'xyz'"),
    (put(*ROW, "final", "loss")(-1), "final, loss is -1"),
    (put(*ROW, "final", "test_accuracy")(1.5), "final, test_accuracy is 1.5"),
    (put(*ROW, "final", "train_accuracy")(None), "final, train_accuracy is null, and not a number"),
    (put(*ROW, "final", "loss")(None), "final is {"),
    (put(*ROW, "energy")({"counter": "mine"}), "joules of extra_info, energy is missing"),
    (put(*STATS, "data", 0)(0), "stats, data 1 is 0"),
    (put(*STATS, "data", 0)(-1.0), "stats, data 1 is -1"),
    (put(*STATS, "data")([]), "stats, data has 0 values"),
    (without(*STATS, "median"), "median of stats is missing"),
    # What follows from the rest.
    (put(*ROW, "validated")(False), "validated is False, and the problem None"),
    (put(*ROW, "problem")("wrong"), "validated is True, and the problem wrong"),
    (put(*ROW, "dense_flops")(1), "dense_flops is 1, where the rest of the row gives 1310360000"),
    (put(*ROW, "flops_per_second")(1e12), "flops_per_second is 1e+12, where the rest of the row gives 6.2"),
    (put(*ROW, "fraction_of_peak")(0.5), "fraction_of_peak is 0.5"),
    (put(*ROW, "costs", "train")(1.0), "costs, train is 1, where the rounds give 10.4719"),
    (put(*ROW, "costs", "load")(1e-3), "load is 0.001, where the new processes give 0.19"),
    (put(*ROW, "peak_memory_bytes")(1), "peak_memory_bytes is 1, where the new processes give 230191104"),
    (put(*ROW, "processes")([7, 7]), "15 timings of processes with [7, 7] rounds"),
    (put(*ROW, "processes")([15]), "watched is of 5 processes, where 1 ran"),
    (put(*ROW, "timed")(500), "timed is 500, of 500 iterations"),
    (put(*ROW, "timed")(50), "is 10.5 s, where its clock gives 21.0 s"),
    (put(*ROW, "proof", "seeds")(["1"]), "proof, seeds is of 1 rounds, where 15 were timed"),
    (put(*ROW, "proof", "advance", 3)(0.5), "round 4 is"),
    (put(*ROW, "proof", "cpu")([100.0] * 15), "declares 2 threads, and spent 48 CPU seconds a second"),
    (put(*ROW, "cold", "empty", 0, "iterations")(501), "a new process trained 501 of 500 iterations"),
    (without(*ROW, "cold", "empty", 0, "costs", "import"), "import of extra_info, cold, empty 1, costs is missing"),
    (without(*ROW, "costs", "compile"), "costs are import, load, tuning, first_call, train: some of a new process"),
    (put(*ROW, "hidden")(10), "hidden is 10, where the rest of the row gives None"),
    (put(*STATS, "rounds")(14), "stats, rounds is 14, where the rounds give 15"),
    (put(*STATS, "median")(10.0), "stats, median is 10, where the rounds give 10.4719"),
    (put(*STATS, "total")(157.0), "stats, total is 157"),
    (put(*STATS, "stddev")(0.0), "stats, stddev is 0"),
    (put(*STATS, "q1")(5.0), "stats, q1 is 5, outside of the rounds"),
    # Agreement, task, machine.
    (put(*ROW, "agreement", "passed")(False), "validated is true, and agreement, passed is false"),
    (put(*ROW, "agreement", "tolerance")(1e-9), "passed is true, and the error after 1 iteration is 5×10⁻⁸ of 10⁻⁹"),
    (put(*ROW, "agreement", "tolerance")(1.0), "agreement, tolerance is 1.0, more than"),
    (put(*ROW, "agreement", "summary")("fine"), "does not name the worst comparison"),
    (put(*ROW, "agreement", "summary")("W1 after 0 updates: 1.5 of its tolerance"), "its summary says"),
    (put(*ROW, "agreement", "summary")("W1 after 0 updates: nan of its tolerance"), "its summary says"),
    (put(*ROW, "agreement", "trajectory")([]), "trajectory is empty"),
    (put(*ROW, "agreement", "trajectory", 0, "iteration")(501), "iterations out of order"),
    (put(*ROW, "workload", "learning_rate")(0.2), "workload is named classic, and is not that preset"),
    (put(*ROW, "data_sha256")("0" * 64), "data_sha256 is not that of 41,000 images of MNIST with seed 0"),
    (put(*ROW, "device")("Some GPU"), "and the machine has no GPU"),
    (put(*ROW, "threads")(65), "threads is 65, and the machine has 2 CPUs"),
    (put(*ROW, "peak_memory_bytes")(25 << 30), "peak_memory_bytes is 25 GiB, and the machine has 24 GiB"),
    (put(*ROW, "limits", "threads")(1), "limits are of 1 thread, and the row is of 2"),
]


@pytest.mark.parametrize(("change", "reason"), LIES, ids=[reason for _, reason in LIES])
def test_a_row_that_is_not_believed(tmp_path: Path, change: Change, reason: str) -> None:
    document = few(RUN, 1)
    change(document)
    assert reason in refusal(tmp_path, document)


def test_a_rate_above_the_limits_that_the_machine_states(tmp_path: Path) -> None:
    """Ten times as fast, in every number that follows from the seconds; only the limits and the work are honest."""
    document = few(RUN, 1)
    entry = document["benchmarks"][0]
    row, stats = entry["extra_info"], entry["stats"]
    for name in ("min", "max", "mean", "median", "total", "stddev", "q1", "q3", "ld15iqr", "hd15iqr", "iqr"):
        stats[name] /= 10
    stats["ops"] *= 10
    stats["data"] = [seconds / 10 for seconds in stats["data"]]
    for name in ("advance", "whole", "cpu"):
        row["proof"][name] = [seconds / 10 for seconds in row["proof"][name]]
    row["costs"]["train"] /= 10
    for name in ("flops_per_second", "fraction_of_peak", "bytes_per_second", "fraction_of_bandwidth"):
        row[name] *= 10
    assert "is above the machine's peak of 538 GFLOP/s, and nothing is skipped" in refusal(tmp_path, document)
    row["skips"] = "almost everything"
    row["limits"]["multiply_add"]["float32"] /= 10
    row["fraction_of_peak"] *= 10
    assert "counting only what cannot be skipped" in refusal(tmp_path, document)


def test_a_rate_above_the_peak_that_an_earlier_row_states(tmp_path: Path) -> None:
    document = copy.deepcopy(EARLIER)
    row = document["benchmarks"][0]["extra_info"]
    row["peak_flops_per_second"] /= 20
    row["fraction_of_peak"] *= 20
    assert "is above the machine's peak of 22.2 GFLOP/s" in refusal(tmp_path, document)


def test_the_tolerance_of_a_network_that_is_no_classic_is_of_the_last_checkpoint(tmp_path: Path) -> None:
    document = few(json.loads((RESULTS / AMD / "0013_deep_494d741.json").read_text(encoding="utf-8")), 1)
    agreement = document["benchmarks"][0]["extra_info"]["agreement"]
    agreement["trajectory"][3]["error"] = 2 * agreement["tolerance"]
    assert counts(merged(theirs(tmp_path, document), tmp_path / "own")) == (1, 0, 0)
    agreement["trajectory"][-1]["error"] = 2 * agreement["tolerance"]
    assert counts(merged(theirs(tmp_path, document), tmp_path / "other")) == (0, 0, 1)


LIES_OF_ERRORS: list[tuple[Change, str]] = [
    (put("schema")(2), "schema is 2"),
    (put("workload", "name")("classic"), "workload, name is 'classic'"),
    (put("workload", "learning_rate")(1.0), "workload is named simard, and is not trained as that preset is"),
    (put("published", "test_error")(0.5), "published is not what is published of simard"),
    (put("mean_test_error")({}), "mean_test_error is not the mean of the trainings"),
    (put("runs", 0, "dtype")("float16"), "dtype is 'float16'"),
    (put("runs", 0, "seconds")(1.0), "curve has seconds out of order, or after the end"),
    (put("runs", 0, "costs", "train")(1.0), "costs, train is 1, where seconds is 88"),
    (put("runs", 0, "epochs")(19), "epochs is 19, where the preset has 20"),
    (put("runs", 0, "curve")([{"epoch": 1, "seconds": 1.0, "test_error": 0.0148}]), "a point for each of 20 epochs"),
    (put("runs", 0, "curve", -1, "test_error")(0.5), "where the curve ends at 0.5"),
    (put("runs", 0, "threads")(65), "threads is 65, and the machine has 2 CPUs"),
    (put("runs", 0, "date")("2126-11-27T17:36:55+00:00"), "in the future"),
    (put("runs", 0, "commit")("HEAD"), "commit is 'HEAD'"),
]


@pytest.mark.parametrize(("change", "reason"), LIES_OF_ERRORS, ids=[reason for _, reason in LIES_OF_ERRORS])
def test_a_training_that_is_not_believed(tmp_path: Path, change: Change, reason: str) -> None:
    document = copy.deepcopy(ERRORS)
    document["runs"] = document["runs"][:1]
    document["mean_test_error"] = {"numba float32": document["runs"][0]["test_error"]}
    change(document)
    assert reason in refusal(tmp_path, document, "errors_simard.json")


def test_another_machine_s_folder_is_refused(tmp_path: Path) -> None:
    own = tmp_path / "own"
    merged(theirs(tmp_path, few(RUN)), own)
    pretender = {**few(RUN), "machine_info": {"name": "AMD znver5, 2 CPUs, 79b50d"}}
    assert Machine.read(pretender["machine_info"]).folder == AMD
    (found,) = merged(theirs(tmp_path, pretender), own)
    assert isinstance(found, Refused)
    assert found.reason.startswith(f"the machine's folder {AMD} holds results of another machine")


# No text of a row is obeyed.

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
    """A text is merged, or refused in one printable line; it names no file but where its form is checked.

    Half of the places are tried with each text.
    """
    for number, place in [*enumerate(TEXTS)][ATTACKS.index(attack) % 2 :: 2]:
        document = few(RUN, 1)
        put(*place)(attack)(document)
        document["datetime"] = document["datetime"].replace("17:36", f"17:{number:02}")
        theirs(tmp_path, document, f"{number:04}_classic_494d741.json")
    own = tmp_path / "own"
    for found in merged(tmp_path / "theirs", own):
        assert not isinstance(found, Refused) or found.reason.isprintable()
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
        row = examined(document["benchmarks"][0], Origin.of(document, name))
    except MnistbenchError:
        return
    rows = storage.latest([row])
    assert [*tables.as_text(rows), *tables.as_markdown(rows, rows)]
