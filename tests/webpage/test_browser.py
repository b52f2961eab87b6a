"""The page in Chromium: every control, links, downloads, the keyboard and the mouse."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from mnistbench import words
from tests.support.tabs import Tab, marks, until

pytestmark = pytest.mark.browser


LATEST = ["numba float32", "numpy float32"]  # of the machine whose rows are not paired
LATEST += ["numba float32", "numba float64", "jax float32", "torch float32", "numpy float32", "numpy float64"]


def test_it_opens_with_an_answer_and_asks_for_nothing(tab: Tab) -> None:
    page = tab.tab
    assert page.locator("#answers .answer").count() == 2
    first, second = page.locator("#answers .answer").all_inner_texts()
    assert "numba float32 is the fastest: 700 ms" in first
    assert "not paired" in first
    assert "as fast as numpy float32, within the same rounds" in second
    assert "sure" in second
    assert "as fast as the next backend, jax float32, within the same rounds of 5 processes" in second
    assert "In float64 numba takes" in second
    assert "† It skips" not in second
    assert page.is_hidden("#fair")
    assert tab.names() == LATEST
    assert [marks(tab, name) for name in ("times", "speedups", "limits", "machines")] == [8, 8, 8, 8]
    assert page.locator("#speedups .mark path[d*='m-5 -5l10 10']").count() == 2, "those that are not paired are crosses"
    assert "disagrees with the reference" in page.inner_text("#problems")
    ends = "(one) => one.getBoundingClientRect().right"
    inside = (
        f"[...document.querySelectorAll('#limits .mark')].every((one) => ({ends})(one) < ({ends})(one.closest('svg')))"
    )
    assert page.evaluate(inside), "shares far above 100% end where the axis does"
    assert page.get_attribute("#times .mark >> nth=2 >> .process", "d").count("H") == 5, "a line for each process"
    assert page.locator("#overview-body tr").count() == 2
    page.click("#overview-body button >> text=smoke")
    assert page.input_value("#workload") == "smoke"
    for section in ("times", "speedups", "limits", "machines", "history", "scaling"):
        caption = page.inner_text(f"#{section} figcaption")
        assert "How to read it." in caption
        assert "What would make it wrong." in caption


def test_choices_narrow_what_is_shown_and_a_link_brings_them_back(tab: Tab, chromium: Any, written: Path) -> None:
    page = tab.tab
    page.uncheck("#backends input[value=numpy]")
    assert page.is_visible("#problems")
    page.uncheck("#dtypes input[value=float64]")
    assert page.is_hidden("#problems"), "the choices narrow the rows that are no result too"
    assert tab.names() == ["numba float32", "numba float32", "jax float32", "torch float32"]
    page.uncheck("#machine-choice input >> nth=0")
    assert tab.names() == ["numba float32", "jax float32", "torch float32"]
    page.check("input[name=commits-shown][value=all]")
    assert tab.names() == ["numba float32", "numba float32", "jax float32", "jax float32", "torch float32"]
    page.check("input[name=commits-shown][value=chosen]")
    assert [cells[-2][:7] for cells in tab.rows()] == ["2222222"] * 3, "the last commit"
    page.check("#commit-list input >> nth=1")
    assert len(tab.rows()) == 5
    page.uncheck("#commit-list input >> nth=0")
    assert [cells[-2][:7] for cells in tab.rows()] == ["1111111"] * 2
    page.select_option("#baseline", label="jax float32")
    assert [cells[5].split()[0] for cells in tab.rows()][1] == "1.00×"
    page.select_option("#sort", "-time")
    assert tab.names() == ["jax float32", "numba float32"]
    page.uncheck("#rounds")
    page.select_option("#axis", "hidden")
    assert page.locator("#times .round").count() == 0
    again = Tab(chromium, written, tab.fragment())
    assert again.rows() == tab.rows()
    assert not again.tab.is_checked("#rounds")
    assert again.tab.input_value("#axis") == "hidden"
    assert json.loads(again.tab.input_value("#baseline")) == ["jax", "float32"]
    for choice in ("#backends", "#dtypes", "#machine-choice", "#commit-list"):
        boxes = f"[...document.querySelectorAll('{choice} input')].map(one => one.checked)"
        assert again.tab.evaluate(boxes) == page.evaluate(boxes)
    assert again.complaints == []
    again.context.close()
    page.click("#reset")
    assert tab.names() == LATEST


def test_the_workload_the_order_and_the_measure(tab: Tab) -> None:
    page = tab.tab
    page.select_option("#workload", "smoke")
    assert sorted(tab.names()) == ["jax float32", "numpy float32"]
    assert "smoke" in page.inner_text("#h-answers")
    assert page.is_hidden("#commits"), "no case has two runs"
    page.select_option("#workload", "classic")
    page.click("thead button[data-focus=sort-backend]")
    assert page.get_attribute("#head th >> nth=0", "aria-sort") == "ascending"
    assert page.evaluate("document.activeElement.dataset.focus") == "sort-backend"
    assert tab.names()[0].startswith("numpy")
    page.click("thead button[data-focus=sort-backend]")
    assert page.get_attribute("#head th >> nth=0", "aria-sort") == "descending"
    assert tab.names()[0].startswith("numba")
    page.click("thead button[data-focus=sort-speedup]")
    assert page.get_attribute("#head th >> nth=5", "aria-sort") == "descending", "the largest is first"
    assert page.locator("#body .group").all_inner_texts() == ["Other CPU, 4 CPUs", "Some CPU, 2 CPUs"]
    page.check("input[name=measure][value=limit]")
    assert "%" in page.text_content("#machines .value >> nth=0")
    page.select_option("#axis", "hidden")
    assert "hidden units" in page.text_content("#scaling svg")
    assert marks(tab, "scaling") == 2
    assert "All have one hidden layer, 41,000 images, 2 threads." in page.inner_text("#scaling figcaption")
    page.uncheck("#backends input[value=numba]")
    assert page.is_hidden("#scaling"), "its rows are all of numba"
    for broken in ("#workload=nothing&sort=constructor&baseline=x&machine=y", "#workload=%E0%A4%A"):
        page.evaluate(f"location.hash = {broken!r}")
    page.evaluate("location.hash = '#main'")
    until(page, "location.hash !== '#main'")


def test_links_lead_to_sections_and_keep_the_view(tab: Tab) -> None:
    page = tab.tab
    page.uncheck("#backends input[value=numpy]")
    names = tab.names()
    page.click("#sections a >> text=The rows")
    until(page, "location.hash !== '#rows'")
    assert "backend=" in tab.fragment()
    assert tab.names() == names
    until(page, "document.querySelector('#rows').getBoundingClientRect().top <= innerHeight")  # it scrolls smoothly
    assert page.locator("#sections a").count() == 11
    page.select_option("#workload", "smoke")
    assert page.locator("#sections a").count() == 9, "those that are not hidden"


def test_two_commits_are_compared_beside_what_did_not_change(tab: Tab) -> None:
    page = tab.tab
    page.select_option("#pick", "numba float32, Some CPU, 2 CPUs, 2 threads")
    told = page.inner_text("#verdict")
    assert re.match(
        r"faster 2222222 against 1111111: 1\.\d+× as fast \(1\.\d+× to 1\.\d+×\) beside numpy float32", told
    )
    assert "mnistbench compare numba --against " + "1" * 40 + " --workload classic --dtype float32" in told
    assert f"git checkout {'2' * 40} && mnistbench compare" in told
    assert "The machine may have moved: numpy float32" in told, "the interval holds 1"
    assert page.locator("#before option:disabled").count() == page.locator("#after option:disabled").count() == 1
    page.click("#swap")
    assert page.inner_text("#verdict").startswith("slower 1111111 against 2222222")
    cases = page.locator("#all-verdicts tr").all_inner_texts()
    assert len(cases) == 5
    assert "faster" in cases[0], "the most decisive one is first"
    assert [("numba" in one, "no difference shown" not in one) for one in cases].count((True, True)) >= 1
    page.click("#all-verdicts button >> text=numba float64")
    assert page.input_value("#pick").startswith("numba float64, Some CPU")
    page.select_option("#pick", "jax float32, Some CPU, 2 CPUs, 2 threads")
    assert page.inner_text("#verdict").startswith("no difference shown")
    assert page.locator("#history a").first.get_attribute("href") == f"https://example.org/owner/name/commit/{'2' * 40}"


def test_the_keyboard_alone_reaches_numbers_and_their_provenance(tab: Tab) -> None:
    page = tab.tab
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main", "the first stop skips the choices"
    page.focus("#times button >> nth=0")
    stops = 0
    while not page.evaluate("document.activeElement.classList.contains('mark')"):
        page.keyboard.press("Tab")
        stops += 1
        assert stops < 4
    assert page.is_visible("#tip")
    assert "700 ms" in page.inner_text("#tip")
    page.keyboard.press("ArrowDown")
    assert "numpy float32: 7.00 s" in page.inner_text("#tip")
    assert "numpy float32: 7.00 s" in page.evaluate("document.activeElement.getAttribute('aria-label')")
    page.keyboard.press("End")
    page.keyboard.press("Escape")
    assert page.is_hidden("#tip")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    assert page.is_visible("#provenance")
    told = page.inner_text("#provenance")
    for wanted in ("Other CPU, 4 CPUs", "2" * 40, "numba 1.2.3", "0004_classic_0123456.json", "pytest benchmarks/"):
        assert wanted in told
    page.keyboard.press("Escape")
    assert page.is_hidden("#provenance")
    assert page.evaluate("document.activeElement.classList.contains('mark')")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('section').id") == "speedups", "a chart is one stop"


def test_the_mouse_shows_numbers_and_their_provenance(tab: Tab) -> None:
    page = tab.tab
    page.hover("#speedups .mark >> nth=0")
    assert "of medians: the two did not run in the same rounds" in page.inner_text("#tip")
    page.mouse.move(0, 0)
    assert page.is_hidden("#tip")
    page.hover("#times .mark >> nth=2")
    assert "geometric mean of the medians of 5 processes, 15 rounds in 5 processes" in page.inner_text("#tip")
    page.click("#body button >> nth=2")
    told = page.inner_text("#provenance")
    assert "process 5: " in told
    assert "level 95%" in told
    assert "200 GFLOP/s" in told
    assert "git clone https://example.org/owner/name mnistbench && cd mnistbench" in told
    page.click("#close")
    page.click("#body button >> nth=0")
    assert "level 98%" in page.inner_text("#provenance"), "of seven rounds in one process"
    page.click("#close")
    assert page.is_hidden("#provenance")


def test_the_link_is_copied_and_the_theme_changes(tab: Tab) -> None:
    page = tab.tab
    tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.uncheck("#backends input[value=jax]")
    page.click("#link")
    until(page, "document.querySelector('#copying [role=status]').textContent.startsWith('Copied')")
    assert "send the file too" in page.inner_text("#copying")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.evaluate("location.href")
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('no')); }")
    page.click("#link")
    page.wait_for_selector("#copying input:visible")
    assert page.input_value("#copying input") == copied
    page.click("#body button >> text=Details >> nth=0")
    page.click("#provenance button >> text=Copy the commands")
    page.wait_for_selector("#provenance input:visible")
    assert "pytest benchmarks/" in page.input_value("#provenance input")
    page.keyboard.press("Escape")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    page.emulate_media(media="print")
    assert page.is_hidden("nav")
    assert page.is_visible("#times svg")
    assert page.is_visible("#view-text")
    assert "Workload: classic. Backends: numpy, numba, torch." in page.inner_text("#view-text")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_downloads_hold_the_rows_that_are_shown(tab: Tab) -> None:
    page = tab.tab
    page.uncheck("#dtypes input[value=float64]")
    found = json.loads(tab.saved("#json"))["rows"]
    lines = [*csv.DictReader(io.StringIO(tab.saved("#csv").decode(), newline=""))]
    assert [f"{one['backend']} {one['dtype']}" for one in found] == tab.names()
    assert [cells[3].split("\n")[0].rstrip(" ⚠†") for cells in tab.rows()] == [
        words.seconds(one["seconds"]) for one in found
    ]
    assert len(lines) == len(found)
    sizes = [*csv.DictReader(io.StringIO(tab.saved("#sizes-csv").decode(), newline=""))]
    assert [(one["images"], one["hidden_units"]) for one in sizes][:2] == [("1000", "10"), ("10000", "10")]
    for line, one in zip(lines, found, strict=True):
        assert line["backend"] == one["backend"]
        assert float(line["seconds"]) == one["seconds"]
        assert [float(value) for value in line["round_seconds"].split("; ")] == one["round_seconds"]
        assert int(line["processes"]) == len(one["rounds_per_process"])
        assert float(line["interval_level"]) == one["interval_level"]
        assert line["speedup_low"] == ("" if one["speedup_low"] is None else str(one["speedup_low"]).removesuffix(".0"))


def test_charts_are_saved_as_they_look(tab: Tab) -> None:
    drawn = ElementTree.fromstring(tab.saved("#times button[data-save=svg]"))
    assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
    texts = "\n".join(drawn.itertext())
    assert "Training time, classic" in texts
    assert "700 ms" in texts
    foot = " ".join(texts.split("\n"))
    for wanted in (
        "Machines: Other CPU, 4 CPUs, Some CPU, 2 CPUs.",
        "Commits: 2222222.",
        "Measured 2025-03-02 to 2025-03-04.",
    ):
        assert wanted in foot
    assert not [one for one in drawn.iter() if set(one.attrib) & {"class", "style"}]
    assert all(one.get("fill", "").startswith(("rgb", "none")) for one in drawn.iter() if one.tag.endswith("path"))
    picture = tab.saved("#history button[data-save=png]")
    assert picture.startswith(b"\x89PNG")
    width, height = (int.from_bytes(picture[at : at + 4]) for at in (16, 20))
    assert width > 1000
    assert height > 500
