"""Tabs of a browser that show the page of results."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any


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


def marks(tab: Tab, section: str) -> int:
    found: int = tab.tab.locator(f"#{section} .mark").count()
    return found
