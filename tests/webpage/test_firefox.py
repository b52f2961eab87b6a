"""The page in Firefox: it starts, its controls work, its charts are drawn, and links bring a view back."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support import firefox

pytestmark = pytest.mark.browser

_NAMES = """
    const names = ({ cells }) => `${cells[0].textContent} ${cells[1].textContent}`;
    return [...document.querySelectorAll("#body tr[data-row]")].map(names);
"""


def wait_until_drawn(page: firefox.Marionette) -> None:
    end = time.monotonic() + 20
    while page.run("return document.body.dataset.drawn") != "all":
        assert time.monotonic() < end


def test_the_page_works_in_firefox(written: Path, tmp_path: Path) -> None:
    if firefox.firefox() is None:
        pytest.skip("there is no Firefox: apt-get install firefox-esr")
    with firefox.session(tmp_path / "profile") as page:
        page.open(written.as_uri())
        wait_until_drawn(page)
        assert page.run("return document.querySelector('#app').hidden") is False
        assert "numba float32 is the fastest: 700 ms" in page.run("return document.querySelector('#answers').innerText")
        assert len(page.run(_NAMES)) == 8
        for section in ("times", "speedups", "limits", "machines", "history", "scaling"):
            assert page.run(f"return document.querySelectorAll('#{section} .mark').length") > 0
        page.run("document.querySelector('#backends input[value=numba]').click()")
        wait_until_drawn(page)
        names = page.run(_NAMES)
        assert names == ["numpy float32", "jax float32", "torch float32", "numpy float32", "numpy float64"]
        page.run("document.querySelector('#times .mark').focus()")
        assert page.run("return document.querySelector('#tip').hidden") is False
        page.run("document.querySelector('#body button').click()")
        assert "2".ljust(40, "2") in page.run("return document.querySelector('#provenance').innerText")
        page.run("document.querySelector('#close').click()")
        fragment = page.run("return location.hash")
        assert "backend=" in fragment
        page.open("about:blank")
        page.open(written.as_uri() + fragment)
        wait_until_drawn(page)
        assert page.run(_NAMES) == names
        background = "return getComputedStyle(document.body).backgroundColor"
        before = page.run(background)
        page.run("document.querySelector('#theme').click()")
        assert page.run(background) != before
