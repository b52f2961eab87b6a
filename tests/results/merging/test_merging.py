"""What is merged, and into which files; nothing stored is changed."""

from __future__ import annotations

import copy
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from mnistbench import report
from mnistbench.exceptions import MnistbenchError
from mnistbench.machine.identity import Machine
from mnistbench.results import merging, reproduction, storage, stored
from mnistbench.results.merging import Merged, Refused
from tests.support.merging import (
    AMD,
    ERRORS,
    INTEL,
    RESULTS,
    RUN,
    contents,
    counts,
    few,
    later,
    merged,
    theirs,
)
from tests.support.paths import ROOT


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
    merged = re.compile(r" Merged from others' results: [\d,]+ of [\d,]+ rows?\.")
    return [merged.sub("", section).strip() for section in found if section.startswith(vendor)]


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


def test_a_conflict_within_a_merge_names_what_was_stored(tmp_path: Path) -> None:
    source, own, other = theirs(tmp_path, few(RUN)), tmp_path / "own", few(RUN)
    other["benchmarks"][0]["extra_info"]["kernel"] = "faster"
    theirs(tmp_path, other, "0002_classic_494d741.json")
    theirs(tmp_path, few(RUN) | {"code_sha256": "0" * 64}, "0003_classic_494d741.json")
    reasons = [one.reason for one in merged(source, own) if isinstance(one, Refused)]
    kept = own / AMD / "0001_classic_494d741.json"
    assert reasons == [
        f"differs from the same row in {kept}, which is kept",
        f"says otherwise of the same run than {kept}, which is kept",
    ]


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
        theirs(tmp_path, later(few(RUN), place), f"000{place}_classic_494d741.json")
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
    (found,) = merged(theirs(tmp_path, later(few(RUN), 0)), own)
    assert isinstance(found, Merged)
    assert found.target == own / AMD / "0015_classic_494d741.json"
    found.target.rename(own / AMD / "9999_classic_494d741.json")
    with pytest.raises(MnistbenchError, match="the number 9,999 is taken"):
        merged(theirs(tmp_path, later(few(RUN), 1)), own)


def test_another_machine_s_folder_is_refused(tmp_path: Path) -> None:
    own = tmp_path / "own"
    merged(theirs(tmp_path, few(RUN)), own)
    pretender = {**few(RUN), "machine_info": {"name": "AMD znver5, 2 CPUs, 79b50d"}}
    assert Machine.read(pretender["machine_info"]).folder == AMD
    (found,) = merged(theirs(tmp_path, pretender), own)
    assert isinstance(found, Refused)
    assert found.reason.startswith(f"the machine's folder {AMD} holds results of another machine")


def test_nobody_renames_one_s_own_machine(tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / AMD).mkdir(parents=True)
    shutil.copy(RESULTS / AMD / "0014_classic_494d741.json", own / AMD)
    other = later(few(RUN), 0)
    other["machine_info"] |= {"name": "The Fastest", "microarchitecture": "zzz"}
    assert counts(merged(theirs(tmp_path, other), own)) == (2, 0, 0)
    assert counts(merged(theirs(tmp_path, other), own)) == (0, 2, 0)
    assert {path.name for path in own.iterdir()} == {AMD}
    assert {str(row.origin.machine) for row in storage.load(own / AMD)} == {RUN["machine_info"]["name"]}
    assert stored.read(own)[0].machine.folder == AMD
    errors = copy.deepcopy(ERRORS)
    errors["machine"] = other["machine_info"]
    merged(theirs(tmp_path, errors, "errors_simard.json"), own)
    assert json.loads((own / AMD / "errors_simard.json").read_text("utf-8"))["machine"]["microarchitecture"] == "znver5"


def test_one_s_own_names_count_even_if_a_merged_row_was_there_before(tmp_path: Path) -> None:
    own, other = tmp_path / "own", later(few(RUN), 0)
    other["machine_info"]["microarchitecture"] = "zzz"
    merged(theirs(tmp_path, other), own)
    assert [machine.label for machine in stored.read(own)] == ["AMD EPYC (zzz), 2 CPUs"]
    (own / AMD).mkdir()
    shutil.copy(RESULTS / AMD / "0014_classic_494d741.json", own / AMD)
    assert [machine.label for machine in stored.read(own)] == ["AMD EPYC (znver5), 2 CPUs"]
    assert counts(merged(theirs(tmp_path, other), own)) == (0, 2, 0)
    (found,) = merged(theirs(tmp_path, later(few(RUN), 1)), own)
    assert isinstance(found, Merged)
    assert found.target == own / AMD / "0015_classic_494d741.json"


def test_a_new_machine_is_named_by_what_it_is(tmp_path: Path) -> None:
    other = few(RUN)
    other["machine_info"] |= {"name": "The Fastest", "usable_cpus": 2, "gpu": "Some GPU"}
    merged(theirs(tmp_path, other), tmp_path)
    (machine,) = stored.read(tmp_path)
    assert machine.label == "AMD EPYC (znver5), 2 CPUs, Some GPU"


def test_the_same_run_in_another_form_is_no_other(tmp_path: Path) -> None:
    own = tmp_path / "own"
    merged(theirs(tmp_path, RUN), own)
    before = contents(own)
    for change, reason in (
        ({"datetime": RUN["datetime"].replace("+00:00", "Z")}, "and not in UTC in the form"),
        ({"datetime": "2026-11-27T18:00:00.10+00:00"}, "and not in UTC in the form"),
        ({"commit_info": RUN["commit_info"] | {"id": "494d741"}}, "says otherwise of the same run than"),
        ({"datetime": "2026-11-27T18:00:00+00:00"}, f"has the rounds of a row in {own / AMD}"),
        ({"machine_info": RUN["machine_info"] | {"memory_gib": 99}}, f"has the rounds of a row in {own / AMD}"),
    ):
        for found in merged(theirs(tmp_path, few(RUN) | change), own):
            assert isinstance(found, Refused)
            assert reason in found.reason
    assert contents(own) == before


def test_a_user_s_own_benchmarks_are_left_out(tmp_path: Path) -> None:
    document = few(RUN)
    document["benchmarks"].insert(1, {"name": "test_mine", "extra_info": {"mine": 1}, "stats": {"data": [1.0]}})
    document["benchmarks"][2]["extra_info"]["threads"] = 0
    (refused, found) = merged(theirs(tmp_path, document), tmp_path / "own")
    assert isinstance(refused, Refused)
    assert refused.place == "row 3"
    assert isinstance(found, Merged)
    assert (found.new, found.others) == (1, 1)
    assert len(storage.load(tmp_path / "own" / AMD)) == 1


def test_two_merges_at_once(tmp_path: Path) -> None:
    own, source = tmp_path / "own", theirs(tmp_path, RUN)
    first = merging.merge(merging.sources(source), own)
    assert counts([next(first)]) == (5, 0, 0)
    with pytest.raises(MnistbenchError, match=r"own: another process merges results into this folder; try again"):
        merged(source, own)
    assert [*first] == []
    assert counts(merged(source, own)) == (0, 5, 0)
    assert [path.name for path in own.rglob("*") if path.is_file()] == ["0001_classic_494d741.json"]


def test_a_training_that_is_stored_meanwhile_is_kept(tmp_path: Path) -> None:
    own, (first, second, third) = tmp_path / "own", ERRORS["runs"]
    for name, run in (("a", first), ("b", second)):
        document = {**ERRORS, "runs": [run], "mean_test_error": {"numba float32": run["test_error"]}}
        path = tmp_path / "theirs" / name / "errors_simard.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(document), encoding="utf-8")
    merge = merging.merge(merging.sources(tmp_path / "theirs"), own)
    next(merge)
    reproduction._store(own / INTEL / "errors_simard.json", "simard", third)
    assert counts([*merge]) == (1, 0, 0)
    assert [run.workload.seed for run in reproduction.load(own / INTEL)] == [0, 1, 2]


def test_what_is_merged_never_counts_in_place_of_one_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "results"
    (own / AMD).mkdir(parents=True)
    (own / AMD / "0001_classic_494d741.json").write_text(json.dumps(few(RUN, 3)), encoding="utf-8")
    (tmp_path / "README.md").write_text(f"{report._BEGIN.format('results')}{report._END.format('results')}", "utf-8")
    monkeypatch.setattr(report, "_stale_pictures", lambda machines: [])
    report.write(own, project=True)
    before = (tmp_path / "README.md").read_text(encoding="utf-8")
    other = later(RUN, 59)
    merged(theirs(tmp_path, other), own)
    rows = storage.load(own / AMD)
    assert [row.origin.merged is None for row in rows] == [True] * 3 + [False] * 5
    found = storage.latest(rows)
    assert len(found) == 5
    assert sum(row.origin.merged is None for row in found) == 3
    report.write(own, project=True)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == before
    assert "Merged from others' results: 2 of 5 rows." in (own / "README.md").read_text(encoding="utf-8")
