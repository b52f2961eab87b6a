"""The commands that repeat a run: they measure what was measured, whatever names rows give."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mnistbench.task.presets import preset, variant
from mnistbench.webpage import commands
from tests.support import pages
from tests.support.rows import row


def test_the_commands_of_a_race() -> None:
    rows = [pages.turning(name, "float32", 1.0, commit="ab" * 20) for name in ("numpy", "numba")]
    assert commands.repeat(rows) == [
        f"git checkout {'ab' * 20}",
        "mnistbench compare numpy numba --workload classic --dtype float32 --rounds 3 --processes 5 --threads 2",
    ]


def test_the_commands_of_other_runs() -> None:
    assert commands.repeat([row("numpy", "float32", 1.0, commit="not a hash")]) == [
        "pytest benchmarks/ --workload classic --backend numpy --dtype float32 --rounds 7 --threads 2"
    ]
    sized = row("numpy", "float32", 1.0, workload="scaling", commit="")
    assert commands.repeat([sized]) == ["pytest benchmarks/test_scaling.py"]
    assert commands.repeat([row("numpy", "float32", 1.0, iterations=7)]) == []
    smaller = row("numpy", "float32", 1.0, workload="784-10-10x1000x500", images=1000)
    assert commands.options(smaller.workload) is not None
    assert commands.repeat([smaller]) == [], "the benchmarks have no option for a size"
    assert commands.repeat([row("numpy", "float32", 1.0, commit="ab" * 20, dirty=True)]) == []


def test_the_options_of_a_variant_give_it_again() -> None:
    task = replace(variant("wide", 3, 5000, 32, 7), dtype="float64")
    assert commands.options(task) == [
        *("--workload", "wide", "--images", "5000", "--hidden", "32", "--iterations", "7", "--seed", "3")
    ]
    assert commands.options(preset("deep", "float64", 1)) == ["--workload", "deep", "--seed", "1"]


@pytest.mark.parametrize("name", [*pages.HOSTILE, "numba;true"])
@pytest.mark.parametrize("interleaved", [True, False])
def test_a_name_in_a_command_is_one_word_and_no_option(name: str, interleaved: bool) -> None:
    found = commands.repeat([row(name, "float32", 1.0, interleaved=interleaved, commit=name)])
    assert bool(found) == (name == "constructor")
    assert all(name in command.split(" ") for command in found)
