"""Pages of results, and one browser for all tests of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mnistbench import webpage
from tests.support import pages
from tests.support.tabs import Tab

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results in which every control has something to do."""
    folder = tmp_path_factory.mktemp("page") / "results"
    pages.several(folder)
    return folder


@pytest.fixture(scope="session")
def written(results: Path) -> Path:
    """The page of these results."""
    page = results.parent / "report.html"
    webpage.write(results, page, "https://example.org/owner/name")
    return page


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a stranger's rows."""
    folder = tmp_path_factory.mktemp("hostile")
    pages.hostile(folder / "results")
    webpage.write(folder / "results", folder / "report.html", "https://example.org/owner/name")
    return folder / "report.html"


@pytest.fixture(scope="session")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the results in the repository."""
    page = tmp_path_factory.mktemp("committed") / "report.html"
    webpage.write(ROOT / "results", page)
    return page


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Chromium, or a skip with the reason."""
    if reason := pages.missing():
        pytest.skip(reason)
    with pages.browser() as found:
        yield found


@pytest.fixture
def tab(chromium: Any, written: Path) -> Iterator[Tab]:
    """The page, opened; at the end nothing may have been complained of."""
    found = Tab(chromium, written)
    yield found
    assert found.complaints == []
    found.context.close()
