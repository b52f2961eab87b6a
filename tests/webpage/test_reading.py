"""The page in Chromium as who reads it finds it: its answers, what axe-core finds, without scripts, of strangers."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from mnistbench import webpage
from mnistbench.results import storage, stored
from mnistbench.webpage.record import plain
from tests.support import pages
from tests.support.rows import document, row, sized
from tests.support.tabs import Tab, marks, until
from tests.webpage.conftest import ROOT

pytestmark = pytest.mark.browser


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
