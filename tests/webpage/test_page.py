"""The page as a file: small, the same for the same rows, and safe whatever the rows say."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from contextlib import suppress
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from mnistbench import webpage, words
from mnistbench.backends.base import Ranks
from mnistbench.cli import app
from mnistbench.exceptions import MnistbenchError, OptionError
from mnistbench.results import storage
from mnistbench.results.row import Row
from mnistbench.task.presets import preset, variant
from mnistbench.webpage import commands, data
from mnistbench.webpage.markup import Markup, tag
from mnistbench.webpage.record import named, plain, record
from tests.support import builders, pages
from tests.support.rows import PROOF, document, row


class Elements(HTMLParser):
    """Names, attributes and texts of the elements of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if not self.found or self.found[-1][0] not in ("script", "style"):
            self.texts.append(data)


def test_the_page_of_the_committed_results_is_small_and_asks_for_nothing(committed: Path) -> None:
    text = committed.read_text(encoding="utf-8")
    assert len(text.encode()) < 1_500_000
    for name, attributes in Elements(text).found:
        assert name not in ("iframe", "object", "embed", "base", "img", "audio", "video"), name
        assert not any(key.startswith("on") or key == "style" for key in attributes), attributes
        for key in ("src", "href", "action", "srcset"):
            assert (attributes.get(key) or "#").startswith(("#", "data:,")), attributes


def test_the_policy_allows_this_style_and_these_scripts_alone(written: Path) -> None:
    text = written.read_text(encoding="utf-8")
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    rules = dict(rule.strip().partition(" ")[::2] for rule in policy.split(";"))
    assert rules.pop("default-src") == "'none'"
    assert rules.pop("img-src") == "data:"
    assert (rules.pop("base-uri"), rules.pop("form-action")) == ("'none'", "'none'")
    for rule, element in (("style-src", "style"), ("script-src", "script")):
        inside = re.findall(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)
        hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in inside]
        assert rules.pop(rule).split() == [f"'sha256-{one}'" for one in hashes]
    assert (rules.pop("require-trusted-types-for"), rules.pop("trusted-types")) == ("'script'", "'none'")
    assert rules == {}


def test_the_same_rows_give_the_same_bytes(results: Path, written: Path, tmp_path: Path) -> None:
    webpage.write(results, tmp_path / "again.html", "https://example.org/owner/name/")
    assert (tmp_path / "again.html").read_bytes() == written.read_bytes()


def test_every_row_is_readable_without_javascript(written: Path) -> None:
    text = written.read_text(encoding="utf-8")
    values, shown = pages.data_of(text), " ".join(Elements(text).texts)
    for one in values["rows"]:
        told = one["problem"] or words.seconds(one["timing"]["value"])
        assert told in shown
    for run in values["runs"]:
        assert " && ".join(run["command"] or ["no command does"]) in shown
        assert run["commit"] in shown
    assert shown.count("How to read it:") == shown.count("What would make it wrong:") == 3


def test_nothing_of_a_row_becomes_markup(hostile: Path) -> None:
    text = hostile.read_text(encoding="utf-8")
    elements = Elements(text)
    assert [name for name, _ in elements.found if name in ("script", "img")] == ["script"] * 3
    for _, attributes in elements.found:
        assert not any(key.startswith("on") for key in attributes), attributes
        assert (attributes.get("href") or "#").startswith(("#", "data:,")), attributes
    values = pages.data_of(text)
    assert len(values["rows"]) == 4 * len(pages.HOSTILE)
    assert not any(run["isHash"] for run in values["runs"])
    assert {character for character in json.dumps(values, ensure_ascii=False) if not character.isprintable()} == set()


@given(st.text())
def test_markup_holds_any_text_as_text(text: str) -> None:
    found = Elements(tag("p", text, title=text))
    assert [name for name, _ in found.found] == ["p"]
    assert "".join(found.texts) == text.replace("\r\n", "\n").replace("\r", "\n") or "\r" in text or "\0" in text


@settings(max_examples=40)
@given(st.recursive(st.text() | st.integers() | st.none(), lambda inner: st.dictionaries(st.text(), inner)))
def test_json_on_the_page_is_read_back_and_ends_no_element(values: Any) -> None:
    text = webpage.as_data(values)
    assert json.loads(text) == values
    assert not set("<>&") & set(text)


@given(st.text(max_size=500))
def test_a_text_of_a_row_is_one_printable_line(text: str) -> None:
    found = plain(text)
    assert found.isprintable()
    assert len(found) <= 200


def test_markup_is_not_escaped_twice() -> None:
    assert tag("p", tag("b", "1 < 2"), Markup("<i></i>")) == "<p><b>1 &lt; 2</b><i></i></p>"


@pytest.mark.parametrize(
    "samples",
    [(0.0, 1.0), (-1.0,), (float("nan"), 1.0), (float("inf"),), (1e130,), (1e-145,), (1e308, 1e-320)],
    ids=str,
)
def test_a_row_that_no_clock_can_give_is_no_result(samples: tuple[float, ...]) -> None:
    found = record(row("numpy", "float32", 1.0, samples=samples))
    assert found["problem"] is not None
    assert found["timing"] is None
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("field", ["versions", "costs", "kernel", "threads", "bytes_read", "skips", "gpu"])
@pytest.mark.parametrize("value", [[1], {"a": [2]}, "text", True, -1, 1e400])
def test_a_damaged_row_is_told_and_not_fatal(field: str, value: Any) -> None:
    found = record(replace(row("numpy", "float32", 1.0), **{field: value}))
    json.dumps(found, allow_nan=False)
    assert (found["timing"] is None) == (found["problem"] is not None)


def test_tasks_that_share_a_name_are_different_workloads(tmp_path: Path) -> None:
    other = row("numpy", "float32", 1.0, images=1000)
    pages.store(tmp_path / "machine", 1, document(row("numpy", "float32", 9.0), other))
    values = data.contents(tmp_path).values
    assert [one["label"] for one in values["workloads"]] == ["classic", "classic (2)"]
    assert [one["latest"] for one in values["rows"]] == [True, True]


def test_a_seed_and_another_preset_are_named() -> None:
    found = data._Contents()
    tasks = [preset("wide", "float32", 1), replace(variant("wide", 2, 1000, 32, 7), dtype="float32")]
    found.add(0, [replace(row("numpy", "float32", 1.0), workload=task) for task in tasks])
    assert [one["label"] for one in found.named_workloads()] == [
        "wide, seed 1",
        "wide: 32 hidden units, 1,000 images, 7 iterations, seed 2",
    ]


def test_a_variant_is_named_by_its_sizes(tmp_path: Path) -> None:
    pages.store(
        tmp_path / "machine", 1, document(row("numpy", "float32", 1.0, workload="784-10-10x1000x500", images=1000))
    )
    (found,) = data.contents(tmp_path).values["workloads"]
    assert found["label"] == "10 hidden units, 1,000 images, 500 iterations"


def test_no_two_names_are_the_same(tmp_path: Path) -> None:
    kinds: list[dict[str, Any]] = [
        {"iterations": 7},
        {"iterations": 8},
        {"workload": "Classic (2)", "iterations": 9},
        {},
    ]
    for number, kind in enumerate(kinds, 1):
        for machine in ("Box", "BOX", "box 2"):
            pages.store(tmp_path / machine, number, document(row("numpy", "float32", 1.0, **kind), machine=machine))
    values = data.contents(tmp_path).values
    for names in ([one["label"] for one in values["workloads"]], [one["id"] for one in values["machines"]]):
        assert len({name.casefold() for name in names}) == len(names) >= 3, names
    (preset_itself,) = (one for one in values["workloads"] if one["options"] == "--workload classic")
    assert preset_itself["label"] == "classic"


@example("x" * 200, "x" * 201)
@given(st.text("a \t\u200b", max_size=6), st.text("a \t\u200b", max_size=6))
def test_different_names_stay_different(one: str, other: str) -> None:
    assert (named(one) == named(other)) == (one == other)


@pytest.mark.parametrize("name", [" numpy", "numpy ", "numpy\u200b", "NUMPY"])
def test_a_name_that_looks_like_a_backends_is_not_taken_for_it(name: str) -> None:
    assert named(name) != "numpy"


def test_runs_of_two_folders_are_two_runs(tmp_path: Path) -> None:
    for folder, backend in (("a", "numpy"), ("b", "numba")):
        pages.store(tmp_path / folder, 1, document(pages.turning(backend, "float32", 1.0)))
    contents = data.contents(tmp_path)
    assert len(contents.values["machines"]) == 1
    assert [one["run"] for one in contents.values["rows"]] == [0, 1]
    numpy, numba = contents.measured
    found = storage.speedup(numba, [numpy])
    assert found is not None
    assert not found.known, "they did not run in the same rounds"


def test_rows_of_somebody_else_say_so(tmp_path: Path) -> None:
    merged = document(row("numpy", "float32", 1.0)) | {"merged": "2025-04-01T12:00:00+00:00"}
    pages.store(tmp_path / "machine", 1, merged)
    webpage.write(tmp_path, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert pages.data_of(text)["runs"][0]["merged"] == merged["merged"]
    assert f", by somebody else; merged {merged['merged']}" in text


@pytest.mark.parametrize("field", ["machine_info", "commit_info", "datetime"])
@pytest.mark.parametrize("value", [[1], {"a": [2]}, 7, None, {"id": [1]}, {"name": "a", "microarchitecture": [1]}])
def test_a_document_that_is_damaged_is_named_in_one_line(field: str, value: Any, tmp_path: Path) -> None:
    pages.store(tmp_path / "machine", 1, document(row("numpy", "float32", 1.0)) | {field: value})
    with pytest.raises(MnistbenchError, match="not a file of measurements") as caught:
        data.contents(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["cpu", "vendor", "model", "gpu", "name", "instruction_sets", "usable_cpus"])
@pytest.mark.parametrize("value", [[[1]], {"a": [2]}, 7, None])
def test_a_damaged_machine_is_named_in_one_line_or_read(field: str, value: Any, tmp_path: Path) -> None:
    machine: dict[str, Any] = dict.fromkeys(("name", "microarchitecture", "cpu", "vendor", "model"), "a")
    machine |= {"hypervisor": None, "gpu": None, "instruction_sets": ["a"], "usable_cpus": 2, "memory_gib": 4}
    pages.store(
        tmp_path / "machine", 1, document(row("numpy", "float32", 1.0)) | {"machine_info": machine | {field: value}}
    )
    with suppress(MnistbenchError):
        webpage.write(tmp_path, tmp_path / "page.html")


def test_what_disturbed_the_rounds_is_told() -> None:
    quiet = {"others": 0.0, "stolen": 0.0, "throttlings": 0.0, "clock_lost": 0.0}
    proof = replace(PROOF, watched=(quiet, quiet | {"others": 1.5, "throttlings": 2.0}))
    found = record(replace(pages.turning("numpy", "float32", 1.0), proof=proof))
    assert found["noise"] == [
        "other processes used 1.5 CPUs meanwhile",
        "the CPU throttled its clock because of heat or power",
    ]


def shared(one: Row, count: int) -> Row:
    return replace(one, ranks=Ranks((1,) * count, 1, "MPI 4", "tcp", None, False))


def test_rows_of_several_ranks_are_cases_of_their_own() -> None:
    found = data._Contents()
    alone = row("numpy", "float32", 1.0)
    found.add(0, [alone, shared(alone, 2), shared(alone, 4), shared(alone, 4)])
    assert [one["latest"] for one in found.rows] == [True, True, False, True]
    assert found.rows[1]["ranks"] == {"count": 2, "hosts": 1, "told": "MPI 4 over tcp, 1 thread each"}
    assert commands.repeat([shared(alone, 2)]) == []


def test_the_latest_row_of_a_case_is_marked(results: Path) -> None:
    values = data.contents(results).values
    numba = [one for one in values["rows"] if one["backend"] == "numba" and one["dtype"] == "float64"]
    assert [one["latest"] for one in numba] == [False, True]


# errors and the command line


@pytest.mark.parametrize(
    "address", ["http://example.org/a", "javascript:alert(1)", "https://u:p@example.org/a", "", "x"]
)
def test_an_address_of_a_project_is_checked(address: str) -> None:
    with pytest.raises(OptionError, match="--project"):
        webpage.commits_at(address)


def test_commits_are_linked_where_the_project_is_known(written: Path, committed: Path) -> None:
    assert f'href="https://example.org/owner/name/commit/{"1" * 40}"' in written.read_text(encoding="utf-8")
    assert 'href="https:' not in committed.read_text(encoding="utf-8")


def test_the_command_writes_a_page(results: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    found = CliRunner().invoke(app, ["report", str(results), "--output", str(page)])
    assert found.exit_code == 0, found.output
    assert f"wrote {page}: 20 rows" in found.output
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_folder_of_test_errors_alone_has_no_page(tmp_path: Path) -> None:
    builders.store_errors(tmp_path / "machine")
    with pytest.raises(MnistbenchError, match="holds test errors alone"):
        data.contents(tmp_path)


@pytest.mark.parametrize("field", ["backend", "device", "threads", "problem", "kernel", "data_sha256"])
@pytest.mark.parametrize("value", [[1], {"a": [2]}, 7, None])
def test_a_file_of_damaged_rows_has_a_page(field: str, value: Any, tmp_path: Path) -> None:
    found = document(row("numpy", "float32", 1.0), row("numba", "float32", 1.0))
    found["benchmarks"][0]["extra_info"][field] = value
    found["benchmarks"][0]["extra_info"]["validated"] = found["benchmarks"][0]["extra_info"]["problem"] is None
    pages.store(tmp_path / "machine", 1, found)
    webpage.write(tmp_path, tmp_path / "page.html")
    assert len(pages.data_of((tmp_path / "page.html").read_text(encoding="utf-8"))["rows"]) == 2


def test_without_results_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(MnistbenchError, match="holds no results"):
        webpage.write(tmp_path, tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []
