"""How fast the page is in Chromium: ``python -m tests.webpage.speed [RESULTS]``; without a folder, with 2,000 rows.

Prints the seconds from the start of loading the file until it is drawn, and how long each choice takes: until what is
seen is drawn and laid out, and until the whole page is.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from mnistbench import webpage
from tests.support import pages

_CHOICES = {
    "a backend off": "document.querySelector('#backends input[value=jax]').click()",
    "a backend on": "document.querySelector('#backends input[value=jax]').click()",
    "float64 off": "document.querySelector('#dtypes input[value=float64]').click()",
    "float64 on": "document.querySelector('#dtypes input[value=float64]').click()",
    "all commits": "document.querySelector('input[name=commits-shown][value=all]').click()",
    "a backend off, all commits": "document.querySelector('#backends input[value=jax]').click()",
    "a backend on, all commits": "document.querySelector('#backends input[value=jax]').click()",
    "a machine off, all commits": "document.querySelector('#machine-choice input').click()",
    "a machine on, all commits": "document.querySelector('#machine-choice input').click()",
    "sorted by speedup": "document.querySelector('[data-focus=sort-speedup]').click()",
    "the latest commits": "document.querySelector('input[name=commits-shown][value=latest]').click()",
}
_TIMED = """async () => {{
    const start = performance.now();
    {};
    document.body.offsetHeight;
    const seen = performance.now() - start;
    while (document.body.dataset.drawn !== "all") await new Promise((done) => setTimeout(done));
    return [seen, performance.now() - start];
}}"""
_OPENED = "performance.getEntriesByType('navigation')[0].loadEventEnd / 1000"


def main() -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory() as folder, pages.browser() as browser:
        page, results = Path(folder) / "report.html", Path(folder) / "results"
        if len(sys.argv) > 1:
            results = Path(sys.argv[1])
        else:
            pages.many(results)
        rows = webpage.write(results, page)
        print(f"{rows} rows, {page.stat().st_size / 1e6:.2f} MB")
        opened = []
        for _ in range(5):
            tab = browser.new_page(viewport={"width": 1280, "height": 900})
            tab.goto(page.as_uri())
            opened.append(tab.evaluate(_OPENED))
            tab.close()
        print(f"opened in {statistics.median(opened):.2f} s ({min(opened):.2f} to {max(opened):.2f})")
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.goto(page.as_uri())
        for name, script in _CHOICES.items():
            seen, whole = tab.evaluate(_TIMED.format(script))
            print(f"{seen:6.0f} ms, the whole page {whole:4.0f} ms  {name}")


if __name__ == "__main__":
    main()
