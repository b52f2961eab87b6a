"""Rows of a file that nobody checked: what they say is shown, and nothing of it is obeyed."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from typer.testing import CliRunner

from mnistbench import charts, report
from mnistbench.cli import app
from mnistbench.exceptions import MnistbenchError
from mnistbench.machine.rates import Blas
from mnistbench.report import tables
from mnistbench.results import reproduction, storage
from mnistbench.results.row import Row
from tests.support import builders
from tests.support.attacks import ATTACKS
from tests.support.rows import LIMITS, document, row, sized, started

MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
ACTIVE = ("script", "a", "foreignObject", "iframe", "set", "animate")
"""Elements of SVG that do more than draw."""

NAMED = [attack for attack in ATTACKS if attack]


def hostile(text: str) -> dict[str, Any]:
    """A document that says the text wherever one is shown."""
    limits = replace(LIMITS, product=LIMITS.multiply_add, blas=Blas(text, text, text))
    kernels = replace(started(2.0), kernels=tuple(replace(one, blas=text) for one in started(1.0).empty))
    same: dict[str, Any] = {"limits": limits, "versions": {text: text}, "kernel": text, "skips": text}
    rows = [
        row("numpy", "float32", 20.0, cold=kernels, **same),
        row(text, "float32", 2.0, failed=text, gpu={"throttled": text}, device=text, **same | {"limits": LIMITS}),
        row(text, "float64", 2.0, problem=text, **same),
        row(text, "float64", 2.0, workload=text, **same),
        row("numba", "float64", 2.0, workload=storage.SCALING, size=sized(["images"]), **same),
    ]
    found = document(*rows, machine=text)
    found["commit_info"] |= {"id": text, "time": text}
    return found


def page(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The page of the results of a document, without drawing its charts."""
    storage.store(folder / "machine", "classic_0123456", hostile(text))
    monkeypatch.setattr(report, "_stale_pictures", lambda machines: [])
    report.write(folder)
    return (folder / "README.md").read_text(encoding="utf-8")


def structure(markdown: str) -> list[str]:
    """The types of all tokens but those of texts."""

    def of(tokens: list[Token]) -> Iterator[str]:
        for token in tokens:
            if token.type not in ("text", "text_special") and token.content != "<!-- -->":
                yield token.type
            yield from of(token.children or [])

    return [*of(MARKDOWN.parse(markdown))]


@pytest.mark.parametrize("attack", NAMED, ids=ascii)
def test_a_text_of_a_row_is_no_markup_on_a_page(tmp_path: Path, attack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = page(tmp_path / "hostile", attack, monkeypatch)
    assert structure(written) == structure(page(tmp_path / "harmless", "harmless", monkeypatch))
    assert written.replace("\n", "").isprintable()
    sources = re.findall(r"!\[[a-z- ]+\]\(([^)]*)\)", written)
    assert sources
    assert all(re.fullmatch(r"[a-z0-9-]+/[a-z-]+\.svg", source, re.ASCII) for source in sources)


@pytest.mark.parametrize("attack", NAMED, ids=ascii)
def test_a_text_of_a_row_says_nothing_to_a_terminal(tmp_path: Path, attack: str) -> None:
    path = storage.store(tmp_path / "machine", "classic_0123456", hostile(attack))
    shown = [*tables.as_text(storage.load(path.parent))]
    assert all(line.isprintable() for line in shown)
    found = CliRunner().invoke(app, ["charts", "--history", "--backend", "none", "--results", str(tmp_path)])
    assert found.exit_code == 2
    assert re.sub("\n$", "", found.stderr).isprintable()
    damaged = hostile("harmless")
    damaged["benchmarks"][0]["extra_info"]["problem"] = attack
    path.write_text(json.dumps(damaged), encoding="utf-8")
    found = CliRunner().invoke(app, ["charts", "--results", str(tmp_path)])
    assert found.exit_code == 2
    assert re.sub("\n$", "", found.stderr).isprintable()


def require_harmless(path: Path) -> None:
    """Fail if an SVG does anything but draw."""
    for element in ElementTree.parse(path).iter():
        if not isinstance(element.tag, str):
            continue
        assert element.tag.rpartition("}")[2] not in ACTIVE
        for name, value in element.attrib.items():
            assert not name.rpartition("}")[2].lower().startswith("on")
            if name.endswith("href"):
                assert value.startswith(("#", "data:image/png;base64,"))  # a scale of colours is a picture


@pytest.mark.slow
def test_a_text_of_a_row_is_no_markup_in_a_chart(tmp_path: Path) -> None:
    """Every text in every chart, several at once; one that matplotlib reads as a formula raises."""
    for number, place in enumerate(range(0, len(NAMED), 20)):
        texts = NAMED[place : place + 20]
        storage.store(tmp_path / str(number), "classic_0123456", documents(texts))
        rows = storage.load(tmp_path / str(number))
        figures = [draw(rows) for draw in charts.drawable(rows).values()]
        figures += [charts.history(rows[:1]), charts.speedups(storage.latest(rows))]
        figures += [charts.scaling(scaled(rows), axis="images")]
        for figure in figures:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                charts.write(figure, tmp_path / "chart.svg", "digest")
            require_harmless(tmp_path / "chart.svg")


def documents(texts: list[str]) -> dict[str, Any]:
    """A document with a row for each text, on a machine that has all of them for a name."""
    rows = [row("numpy", "float32", 20.0), row("numpy", "float64", 30.0)]
    rows += [row(text, "float32", 2.0, device=text, versions={text: text}, kernel=text) for text in texts]
    found = document(*rows, machine=" ".join(texts))
    found["commit_info"] |= {"id": texts[0], "time": "2025-03-01T12:00:00+00:00"}
    return found


def scaled(rows: list[Row]) -> list[Row]:
    """The rows at two sizes."""
    return [
        replace(one, workload=replace(one.workload, name=storage.SCALING, images=images), size=sized(["images"]))
        for one in rows
        for images in (1000, 41_000)
    ]


@pytest.mark.parametrize("attack", NAMED, ids=ascii)
def test_a_text_of_a_training_is_no_markup(tmp_path: Path, attack: str) -> None:
    builders.store_errors(tmp_path, "simard")
    path = tmp_path / "errors_simard.json"
    stored = json.loads(path.read_text(encoding="utf-8"))

    def shown(text: str) -> str:
        changed = {"device": text, "versions": {text: text}, "backend": text, "commit": text}
        runs = [{**run, **changed} for run in stored["runs"]]
        published = stored["published"] | {"source": text}
        path.write_text(json.dumps(stored | {"runs": runs, "published": published}), encoding="utf-8")
        return "\n".join(tables.errors_as_markdown(reproduction.load(tmp_path)))

    harmless, written = shown("harmless"), shown(attack)
    assert structure(written) == structure(harmless)
    assert written.replace("\n", "").isprintable()


@given(st.recursive(st.one_of(st.text(), st.integers(), st.floats(), st.none()), lambda inner: st.lists(inner)))
def test_a_damaged_file_is_one_line(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "0001_classic_0123456.json").write_text(json.dumps({"benchmarks": value}), encoding="utf-8")
    with pytest.raises(MnistbenchError, match="not a file of measurements"):
        storage.load(folder)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"benchmarks": ' + "9" * 5000 + "}"], ids=["deep", "giant"])
def test_a_file_that_exhausts_a_parser_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "0001_classic_0123456.json").write_text(text, encoding="utf-8")
    with pytest.raises(MnistbenchError, match="not a file of measurements"):
        storage.load(tmp_path)
