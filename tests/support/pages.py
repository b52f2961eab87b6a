"""A browser for the page of results, and results for it: many rows, and rows of somebody hostile."""

from __future__ import annotations

import importlib.util
import json
import random
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from mnistbench.results.row import Row
from tests.support.rows import NO_RESULT, document, row, sized

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
_BACKENDS = {"numpy": 10.0, "numba": 0.5, "jax": 4.0, "torch": 5.0}


def chromium() -> str | None:
    """Return the path of the system's Chromium, or None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def missing() -> str | None:
    """Say why no browser can be driven here, or return None."""
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed: pip install 'mnistbench[browser]'"
    return None if chromium() else "there is no Chromium: apt-get install chromium"


@contextmanager
def browser() -> Iterator[Any]:
    """Start Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=chromium(), args=[*FLAGS])
        yield found
        found.close()


def data_of(page: str) -> dict[str, Any]:
    """Return the JSON of a page."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    values: dict[str, Any] = json.loads(found[1])
    return values


def store(folder: Path, number: int, found: dict[str, Any]) -> None:
    """Write a document under a number into a machine's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{number:04}_classic_0123456.json").write_text(json.dumps(found), encoding="utf-8")


def many(results: Path, runs: int = 125, seed: int = 1) -> int:
    """Store runs of eight cases, each in five processes, on each of two machines; return the number of rows."""
    chance, count = random.Random(seed), 0
    for name in ("Machine A, 8 CPUs", "Machine B, 64 CPUs"):
        for run in range(runs):
            rows = []
            for backend, seconds in _BACKENDS.items():
                for dtype, factor in (("float32", 1.0), ("float64", 2.0)):
                    base = row(backend, dtype, seconds, interleaved=True)
                    rounds = tuple(seconds * factor * chance.lognormvariate(0, 0.05) for _ in range(15))
                    rows.append(replace(base, samples=rounds, processes=(3,) * 5))
            found, day = document(*rows, machine=name), f"2025-{1 + run // 28:02}-{1 + run % 28:02}"
            found["commit_info"] = {
                "id": f"{chance.getrandbits(160):040x}",
                "dirty": False,
                "time": f"{day}T12:00:00+00:00",
            }
            found["datetime"] = f"{day}T13:00:00+00:00"
            store(results / name[:9].lower().replace(" ", "-"), run + 1, found)
            count += len(rows)
    return count


COMMITS = ("1" * 40, "2" * 40)
NOT_PAIRED = "Other CPU, 4 CPUs"
MACHINE = "Some CPU, 2 CPUs"


def _run(results: Path, number: int, machine: str, commit: str, rows: list[Row]) -> None:
    found = document(*rows, day=number, machine=machine)
    found["commit_info"] |= {"id": commit, "time": f"2025-03-{number:02}T10:00:00+00:00"}
    store(results / machine[:5].strip().lower(), number, found)


def several(results: Path) -> None:
    """Store what every control has something to do with.

    On one machine two commits, each of a run in five processes, then a row that did not take turns and one that is no
    result; on another rows that did not take turns; and sizes of the scaling benchmark.
    """
    for number, (commit, numba) in enumerate(zip(COMMITS, (1.2, 1.0), strict=True), 1):
        rows = [
            turning("numpy", "float32", 10.0),
            turning("numba", "float32", numba),
            turning("jax", "float32", 4.0),
            turning("numpy", "float64", 20.0),
            turning("numba", "float64", 2 * numba, skips="zero pixels"),
        ]
        _run(results, number, MACHINE, commit, rows)
    _run(results, 3, MACHINE, COMMITS[1], [row("torch", "float32", 5.0), row("jax", "float64", 9.0, problem=NO_RESULT)])
    _run(results, 4, NOT_PAIRED, COMMITS[1], [row("numpy", "float32", 7.0), row("numba", "float32", 0.7)])
    _run(
        results,
        5,
        NOT_PAIRED,
        COMMITS[1],
        [turning(name, "float32", 1.0, workload="smoke") for name in ("numpy", "jax")],
    )
    sizes = [
        row("numba", "float32", 0.1 * images / 1000, workload="scaling", images=images, size=sized(["images"]))
        for images in (1000, 10_000)
    ]
    sizes += [
        row("numba", "float32", 0.1 * hidden, workload="scaling", size=sized(["hidden"], hidden))
        for hidden in (10, 100)
    ]
    _run(results, 6, MACHINE, COMMITS[1], sizes)


def turning(backend: str, dtype: str, seconds: float, **changes: Any) -> Row:
    """A row of five processes of three rounds, which took turns with others, and scatters in its own way."""
    chance = random.Random(ascii((backend, dtype, seconds)))
    rounds = tuple(seconds * chance.lognormvariate(0, 0.02) for _ in range(15))
    return replace(row(backend, dtype, seconds, interleaved=True, **changes), samples=rounds, processes=(3,) * 5)


HOSTILE = (
    "<script>window.pwned=1</script>",
    '"><img src=x onerror="window.pwned=1">',
    "</script><script>window.pwned=1</script>",
    "<!--<script>",
    "javascript:window.pwned=1",
    '=HYPERLINK("http://example.org")',
    "+1+1",
    "--against=evil.whl",
    "@SUM(1)",
    "../../../etc/passwd",
    "$policy ${data} $$",
    "'; rm -rf ~; '",
    "\u202egnp.exe",
    "one\ntwo\u2028three\x00\x1b[31m",
    "\ud800 half a character",
    "a very long name " * 200,
    "",
    "constructor",
    "__proto__",
)


def hostile(results: Path) -> int:
    """Store rows whose every text is a stranger's trap; return the number of rows."""
    for number, trap in enumerate(HOSTILE, 1):
        texts: dict[str, Any] = {
            "kernel": trap,
            "device": trap,
            "skips": trap,
            "versions": {trap: trap},
            "failed": trap,
        }
        rows = [
            replace(turning(trap, "float32", 1.0, workload=trap), **texts),
            replace(turning(trap, "float64", 2.0), **texts),
            replace(row(trap, "float64", 1.0), **texts),
            replace(row(trap, "float32", 1.0, problem=trap or "none"), **texts, costs={trap: 1.0}),
        ]
        found = document(*rows, day=number, machine=trap)
        found["commit_info"] = {"id": trap, "dirty": False, "time": trap}
        found["datetime"] = trap
        store(results / f"machine-{number}", number, found)
    return 4 * len(HOSTILE)
