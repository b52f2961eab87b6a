"""The page in Chromium: every control, links, downloads, the keyboard, and what axe-core finds."""

from __future__ import annotations

import csv
import io
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from mnistbench import webpage, words
from mnistbench.results import storage, stored
from mnistbench.webpage.record import plain
from tests.support import pages
from tests.support.rows import document, row, sized
from tests.webpage.conftest import ROOT

pytestmark = pytest.mark.browser


class Settled:
    """A page of Playwright whose every action waits until all of the page is drawn again."""

    def __init__(self, page: Any) -> None:
        self._page = page

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._page, name)
        if name not in ("click", "check", "uncheck", "select_option", "evaluate", "goto", "set_viewport_size"):
            return found

        def acting(*arguments: Any, **options: Any) -> Any:
            result = found(*arguments, **options)
            until(self._page, "document.body.dataset.drawn !== 'partly'")
            return result

        return acting


def until(page: Any, condition: str, seconds: float = 10.0) -> None:
    """Wait until an expression is true on the page; fail if it takes long."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition


class Tab:
    """A tab, which notes what the page must not do: requests, messages in the console, errors."""

    def __init__(self, browser: Any, page: Path, fragment: str = "", **options: Any) -> None:
        self.context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        self.tab = Settled(self.context.new_page())
        self.complaints: list[str] = []
        self.tab.on("request", lambda request: self._asked(request.url))
        self.tab.on("console", lambda message: self.complaints.append(message.text))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.goto(page.as_uri() + fragment)

    def _asked(self, url: str) -> None:
        if not url.startswith(("file:", "data:", "blob:")):
            self.complaints.append(f"asked for {url}")

    def rows(self) -> list[list[str]]:
        """Return the texts of the table, cell by cell."""
        script = (
            "[...document.querySelectorAll('#body tr[data-row]')].map(r => [...r.cells].map(c => c.innerText.trim()))"
        )
        found: list[list[str]] = self.tab.evaluate(script)
        return found

    def names(self) -> list[str]:
        """Return the backend and dtype of each row of the table."""
        return [f"{cells[0]} {cells[1]}" for cells in self.rows()]

    def saved(self, selector: str) -> bytes:
        """Press a button that saves a file, and return its content."""
        with self.tab.expect_download() as download:
            self.tab.click(selector)
        return Path(download.value.path()).read_bytes()

    def fragment(self) -> str:
        """Return the part of the address after #."""
        found: str = self.tab.evaluate("location.hash")
        return found


@pytest.fixture
def tab(chromium: Any, written: Path) -> Iterator[Tab]:
    """The page, opened; at the end nothing may have been complained of."""
    found = Tab(chromium, written)
    yield found
    assert found.complaints == []
    found.context.close()


def marks(tab: Tab, section: str) -> int:
    found: int = tab.tab.locator(f"#{section} .mark").count()
    return found


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


def _violations(page: Any) -> list[str]:
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page._page).response["violations"]
    return [f"{one['id']}: {node['html'][:120]} {node['failureSummary']}" for one in found for node in one["nodes"]]


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1280, "dark")])
def test_axe_finds_nothing(chromium: Any, written: Path, scheme: str, width: int) -> None:
    pytest.importorskip("axe_playwright_python")
    found = Tab(chromium, written, color_scheme=scheme, bypass_csp=True)
    page = found.tab
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate("document.querySelector('#choices').open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert "numba float32" in page.locator("#history svg .label").all_text_contents(), "lines have names at any width"
    assert _violations(page) == []
    page.click("#body button >> nth=0")
    assert _violations(page) == []
    found.context.close()


def test_without_javascript_everything_is_there(chromium: Any, written: Path) -> None:
    found = Tab(chromium, written, java_script_enabled=False)
    page = found.tab
    assert page.is_hidden("#app")
    assert page.is_hidden("#link")
    assert page.locator("#plain svg").count() == 3
    assert page.locator("#plain tbody tr").count() == 19
    for link in page.locator("#plain ul a").all():
        assert page.locator(link.get_attribute("href")).count() == 1
    page.click("#plain tbody a >> nth=0")
    assert page.locator("#plain h3:target").count() == 1, "the provenance is one click away"
    assert found.complaints == []
    found.context.close()


def test_a_script_that_fails_leaves_what_is_for_readers_without(chromium: Any, written: Path, tmp_path: Path) -> None:
    text = written.read_text(encoding="utf-8")
    broken = text.replace('id="data">{', 'id="data">{"rows":')
    (tmp_path / "page.html").write_text(broken, encoding="utf-8")
    found = Tab(chromium, tmp_path / "page.html")
    assert found.complaints
    assert found.tab.is_visible("#plain table >> nth=0")
    found.context.close()


@pytest.mark.parametrize("failing", ["throw new Error('no')", "Promise.reject(new Error('no'))"])
def test_a_script_that_fails_later_does_too(chromium: Any, written: Path, tmp_path: Path, failing: str) -> None:
    text = written.read_text(encoding="utf-8")
    script = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)[1]
    broken = script.replace("VIEW = { ...VIEW, ...changes };", f"{failing}; VIEW = {{ ...VIEW, ...changes }};")
    assert broken != script
    policy = text.replace(webpage._hash(script), webpage._hash(broken)).replace(script, broken)
    (tmp_path / "page.html").write_text(policy, encoding="utf-8")
    found = Tab(chromium, tmp_path / "page.html")
    assert found.complaints == []
    assert found.tab.is_hidden("#plain")
    found.tab.uncheck("#rounds")
    until(found.tab, "document.querySelector('#plain').offsetHeight > 0")
    assert found.tab.is_hidden("#app")
    found.context.close()


def test_a_page_of_sizes_alone_shows_them(chromium: Any, tmp_path: Path) -> None:
    sizes = [row("numba", "float32", 0.1 * one, workload="scaling", size=sized(["hidden"], one)) for one in (10, 100)]
    pages.store(tmp_path / "machine", 1, document(*sizes))
    webpage.write(tmp_path, tmp_path / "page.html")
    found = Tab(chromium, tmp_path / "page.html")
    assert marks(found, "scaling") == 2
    assert found.complaints == []
    found.context.close()


def test_how_sure_it_is(chromium: Any, tmp_path: Path) -> None:
    """The fastest by its times may be slower in pairs, one process shows itself alone, and ranks are no rivals."""
    mostly, other = (1.0,) * 11 + (2.0,) * 9, (5.0,) + (0.9,) * 10 + (1.9,) * 9
    rows = [
        row("numpy", "float32", 1.0, samples=mostly, interleaved=True, skips="zero pixels"),
        row("jax", "float32", 1.0, samples=other, interleaved=True),
    ]
    pages.store(tmp_path / "a", 1, document(*rows, machine="a"))
    rows = [row(name, "float32", seconds, interleaved=True) for name, seconds in (("numpy", 9.0), ("jax", 3.0))]
    pages.store(tmp_path / "b", 1, document(*rows, row("numba", "float32", 0.1, interleaved=True), machine="b"))
    webpage.write(tmp_path, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    values = pages.data_of(text)
    values["rows"][-1]["ranks"] = {"count": 2, "hosts": 1, "told": "MPI"}
    changed = re.sub('(id="data">).*?(</script>)', lambda found: found[1] + webpage.as_data(values) + found[2], text)
    (tmp_path / "page.html").write_text(changed, encoding="utf-8")
    found = Tab(chromium, tmp_path / "page.html")
    first, second = found.tab.locator("#answers .answer").all_inner_texts()
    assert "numpy float32 is the fastest: 1.00 s ⚠ †" in first
    assert "slower in pairs" in first
    assert "⚠ rounds scatter by" in first
    assert "† It skips zero pixels." in first
    assert found.tab.is_visible("#fair")
    assert "jax float32 is the fastest" in second, "numba ran on two ranks"
    assert "in this process" in second
    assert "sure" not in second
    assert [marks(found, name) for name in ("times", "speedups", "limits", "machines")] == [4, 4, 4, 4]
    assert found.tab.locator("#limits .mark path[d*='l11 6']").count() == 3, "what passes 100% ends in an arrow there"
    assert "Rows of several ranks are in the table alone" in found.tab.inner_text("#times figcaption")
    assert ["numba", "float32", "2 threads, 2 ranks on 1 machine"] in [cells[:3] for cells in found.rows()]
    assert found.complaints == []
    found.context.close()


def test_the_policy_stops_what_is_slipped_into_the_file(chromium: Any, written: Path, tmp_path: Path) -> None:
    text = written.read_text(encoding="utf-8")
    slipped = (
        "<script>window.pwned = 1</script><img src='http://127.0.0.1:9/a.png' onerror='window.pwned = 2'>"
        "<link rel='stylesheet' href='http://127.0.0.1:9/a.css'><iframe src='http://127.0.0.1:9/'></iframe>"
    )
    (tmp_path / "page.html").write_text(text.replace("<footer>", slipped + "<footer>"), encoding="utf-8")
    found = Tab(chromium, tmp_path / "page.html")
    assert found.tab.evaluate("window.pwned") is None
    assert sum("Content Security Policy" in one for one in found.complaints) >= 4
    found.context.close()


def test_a_strangers_rows_are_text(chromium: Any, hostile: Path) -> None:
    found = Tab(chromium, hostile, "#" + "&".join(f"backend={one}" for one in ("<script>", "constructor")))
    page = found.tab
    page.click("#reset")
    labels = page.evaluate("[...document.querySelector('#workload').options].map(one => one.value)")
    assert len(labels) == len(pages.HOSTILE) + 1
    page.check("input[name=commits-shown][value=all]")
    for label in labels[:4]:
        page.select_option("#workload", label)
        lines = [*csv.reader(io.StringIO(tab_csv(found)))]
        assert not [cell for line in lines for cell in line if cell.startswith(("=", "+", "-", "@"))]
        page.click("#body button >> nth=0")
        page.keyboard.press("Escape")
    assert page.evaluate("document.querySelectorAll('script, img, iframe').length") == 3
    assert page.evaluate("[...document.querySelectorAll('a')].every(one => one.protocol === 'file:')")
    assert page.evaluate("window.pwned") is None
    assert plain(pages.HOSTILE[0]) in page.inner_text("#backends")
    assert found.complaints == []
    found.context.close()


def tab_csv(found: Tab) -> str:
    return found.saved("#csv").decode()


def test_the_speedups_of_the_committed_rows_are_those_of_the_tables(chromium: Any, committed: Path) -> None:
    found = Tab(chromium, committed)
    page = found.tab
    page.check("input[name=commits-shown][value=all]")
    wanted = _speedups()
    compared = 0
    for label in page.evaluate("[...document.querySelector('#workload').options].map(one => one.value)"):
        page.select_option("#workload", label)
        for one in json.loads(found.saved("#json"))["rows"]:
            ratio = wanted[one["machine"], one["file"], one["backend"], one["dtype"]]
            if ratio is None:
                assert one["speedup"] is None
                continue
            assert one["speedup"] == pytest.approx(ratio.value, rel=1e-12)
            if ratio.known:
                assert (one["speedup_low"], one["speedup_high"]) == pytest.approx((ratio.low, ratio.high), rel=1e-9)
                compared += 1
            else:
                assert one["speedup_low"] in (None, 1)  # 1 is of a row over itself
            assert one["paired"] or not ratio.known
    assert compared > 20
    assert found.complaints == []
    found.context.close()


def _speedups() -> dict[tuple[str, ...], Any]:
    """Return each committed row's speedup over numpy in its own dtype."""
    found: dict[tuple[str, ...], Any] = {}
    for machine in stored.read(ROOT / "results"):
        for rows in storage.workloads(machine.rows).values():
            for one in rows:
                numpy = [other for other in rows if (other.backend, other.dtype) == ("numpy", one.dtype)]
                key = (machine.label, one.origin.file, one.backend, one.dtype)
                found[key] = storage.speedup(one, [other for other in numpy if other.validated])
    return found
