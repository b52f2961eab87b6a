"""The page's own arithmetic and words: what the package computes and writes of the same numbers."""

from __future__ import annotations

import math
import random
from importlib import resources
from itertools import chain
from typing import Any

import pytest

from mnistbench import words
from mnistbench.timing.statistics import ratio_of_processes, signed_rank_bound, student_quantile
from mnistbench.timing.unpaired import unpaired_ratio

pytestmark = pytest.mark.browser

_DATA = {
    "student": {str(freedom): student_quantile(freedom, 0.975) for freedom in range(1, 12)},
    "signedRank": {str(count): signed_rank_bound(count, 0.025) for count in range(1, 30)},
}


def on_page(browser: Any, expression: str, values: Any) -> Any:
    """Return what the page's modules make of each of some values: an expression of ``one``."""
    assets = resources.files("mnistbench.webpage") / "assets"
    modules = "\n".join((assets / name).read_text(encoding="utf-8") for name in ("02-words.js", "03-ratios.js"))
    page = browser.new_page()
    script = f"([DATA, values]) => {{ {modules}\nreturn values.map((one) => {expression}); }}"
    found = page.evaluate(script, [_DATA, values])
    page.close()
    return found


@pytest.mark.parametrize("name", ["seconds", "times", "percent"])
def test_numbers_are_written_as_everywhere(chromium: Any, name: str) -> None:
    chance = random.Random(1)
    values = [10 ** chance.uniform(-9, 8) for _ in range(500)] + [10.0**power for power in range(-9, 9)]
    values += [0.0, 9.995, 9.996, 99.96, 999.6, 999.4, 1e5, 99_999.0, 0.0009996]
    values = [value for value in values if name != "percent" or value < 9]
    written = [getattr(words, name)(value) for value in values]
    assert on_page(chromium, f"{name}(one)", values) == written


def _timings(chance: random.Random, shape: tuple[int, ...]) -> list[list[float]]:
    return [[chance.lognormvariate(0, 0.3) for _ in range(count)] for count in shape]


@pytest.mark.parametrize("shape", [(1,), (5,), (6,), (7,), (20,), (3, 3), (3, 4, 5), (1,) * 8])
def test_paired_ratios_are_those_of_the_package(chromium: Any, shape: tuple[int, ...]) -> None:
    chance = random.Random(len(shape))
    pairs = [(_timings(chance, shape), _timings(chance, shape)) for _ in range(20)]
    rows = [[{"seconds": [*chain(*rounds)], "processes": shape} for rounds in pair] for pair in pairs]
    for found, pair in zip(on_page(chromium, "pairedRatio(...one)", rows), pairs, strict=True):
        wanted = ratio_of_processes(*pair)
        assert found["value"] == pytest.approx(wanted.value, rel=1e-12)
        assert _ends(found) == pytest.approx((wanted.low, wanted.high), rel=1e-9)


@pytest.mark.parametrize("counts", [(1, 1), (1, 5), (2, 2), (5, 5), (3, 8)])
def test_unpaired_ratios_are_those_of_the_package(chromium: Any, counts: tuple[int, int]) -> None:
    chance = random.Random(sum(counts))
    groups = [[[chance.gauss(0, 0.2) for _ in range(count)] for count in counts] for _ in range(20)]
    for found, pair in zip(on_page(chromium, "unpairedRatio(...one)", groups), groups, strict=True):
        wanted = unpaired_ratio(pair[0], pair[1])
        assert found["value"] == pytest.approx(wanted.value, rel=1e-12)
        assert _ends(found) == pytest.approx((wanted.low, wanted.high), rel=1e-9)


def _ends(found: dict[str, float | None]) -> tuple[float, float]:
    low, high = found["low"], found["high"]
    return (0.0, math.inf) if low is None or high is None else (low, high)
