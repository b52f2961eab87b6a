"""The intervals and tests on noise of every kind, and the tables that docs/honesty.md shows of them."""

from __future__ import annotations

import re

import numpy as np
import pytest

from mnistbench.timing import coverage
from mnistbench.timing.coverage import NOISES, Design, Noise, share
from tests.support.paths import ROOT

TRIALS = 400


def named(start: str) -> Noise:
    (found,) = (noise for noise in NOISES if noise.name.startswith(start))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("design", [(5, 3), (5, 5)])
@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: noise.name)
def test_with_five_processes_intervals_cover_and_tests_hold_their_level(noise: Noise, design: Design) -> None:
    """Three standard errors of the simulation beside 95% and 5%."""
    if not noise.drift:
        assert 0.915 < share(coverage.covered_median, noise, design, TRIALS) < 0.99
        assert 0.90 < share(coverage.covered_next, noise, design, TRIALS) < 0.99
    assert 0.915 < share(coverage.covered_ratio, noise, design, TRIALS) < 0.99
    assert share(coverage.found_different, noise, design, TRIALS) < 0.085
    assert share(coverage.found_any, noise, design, TRIALS) < 0.085


@pytest.mark.slow
def test_one_process_does_not_show_what_others_do() -> None:
    """The simulation would tell a wrong interval: that of one process, taken for all of them."""
    noise = named("2% between")
    assert share(coverage.covered_median, noise, (1, 15), TRIALS) < 0.6
    assert share(coverage.covered_ratio, noise, (1, 15), TRIALS) < 0.6
    assert share(coverage.found_different, noise, (1, 7), TRIALS) > 0.3


@pytest.mark.slow
def test_a_planted_difference_of_3_percent_is_found_on_measured_noise() -> None:
    noise = named("as measured")
    assert share(coverage.found_faster, noise, (5, 5), TRIALS) > 0.8
    assert share(coverage.found_different, noise, (5, 5), TRIALS) < 0.08


def test_drift_goes_on_after_the_run() -> None:
    noise = Noise("drift alone", lambda random, processes, rounds: np.zeros((processes, rounds)), 0.05)
    *run, later = noise.seconds(np.random.default_rng(0), (2, 3), later=1)
    flat = np.log([second for rounds in run for second in rounds])
    assert flat == pytest.approx(np.linspace(-0.025, 0.025, 6))
    assert np.log(later) == pytest.approx(0.025 + 0.01 * np.arange(1, 4))


def test_the_page_has_the_tables_of_the_present_code() -> None:
    """All of their headings, and two numbers of them; ``mnistbench charts --check`` compares the whole."""
    text = (ROOT / "docs" / "honesty.md").read_text(encoding="utf-8").partition("<!-- coverage: begin")[2]
    assert len(re.findall(r"^\| .*%", text, re.M)) == 6 * len(NOISES)
    for what, trial, design, column in (
        ("a ratio", coverage.covered_ratio, (1, 7), 2),
        ("two alike", coverage.found_different, (5, 3), 0),
    ):
        noise = named("2% between")
        (line,) = (line for line in text.splitlines() if line.startswith(f"| {what} | {noise.name} |"))
        assert line.split(" | ")[2:][column].rstrip(" |") == f"{share(trial, noise, design):.0%}"


def test_tables_are_simulated_again_if_they_or_the_code_have_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = []

    def table(heading: str, *_: object) -> list[str]:
        simulated.append(heading)
        return ["| a table |"]

    monkeypatch.setattr(coverage, "_table", table)
    shown = "\n".join(coverage.as_markdown())
    assert len(simulated) == 2
    assert "\n".join(coverage.as_markdown(f"\n{shown}\n")) == shown
    assert len(simulated) == 2
    assert "\n".join(coverage.as_markdown(shown.replace("a table", "another"))) == shown
    assert len(simulated) == 4
    monkeypatch.setattr(coverage, "__file__", __file__)  # beside which no such code lies
    with pytest.raises(FileNotFoundError):
        [*coverage.as_markdown(shown)]
