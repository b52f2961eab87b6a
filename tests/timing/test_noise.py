"""What makes timings doubtful is noticed, and nothing else is."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from mnistbench.timing import noise
from mnistbench.timing.statistics import different, paired_ratio

GOOD = [1.0, 1.01, 1.02, 1.03, 1.04, 1.05]


@pytest.mark.parametrize(
    ("samples", "warnings"),
    [
        (GOOD, []),
        ([1.0, 1.0, 1.0, 1.0, 1.2], ["rounds differ by 20% of their median"]),
        ([1.0, 1.0, 1.0, 1.0, 1.6], ["rounds differ by 60% of their median", "1 of 5 rounds further than 50%"]),
        ([1e-4] * 5, ["a round took 100 µs, less than 1 ms"]),
    ],
)
def test_timings(samples: list[float], warnings: list[str]) -> None:
    found = list(noise.of_timings(samples))
    assert len(found) == len(warnings)
    assert all(text.startswith(start) for text, start in zip(found, warnings, strict=True))


def test_own_work_is_not_another_process_s(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = [(100.0, 10.0, 1.0), (110.0, 19.0, 1.5)]
    monkeypatch.setattr(noise, "_cpu_seconds", lambda: seconds.pop(0))
    monkeypatch.setattr("mnistbench.timing.noise.time.perf_counter", lambda: 5.0 * (2 - len(seconds)))
    with noise.Watch() as watch:
        pass
    assert watch.others == pytest.approx(0.1)
    assert watch.stolen == pytest.approx(0.05)


@pytest.mark.process
def test_own_work_is_counted_with_that_of_children() -> None:
    def use_a_core() -> None:
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass

    _, before, _ = noise._cpu_seconds()
    use_a_core()
    busy, middle, _ = noise._cpu_seconds()
    assert middle - before >= 0.15, "each is rounded to 10 ms"
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        while noise._cpu_seconds()[1] < middle + 0.2:
            time.sleep(0.05)  # for ever, if a child's work did not count
    finally:
        child.kill()
        child.wait()
    assert noise._cpu_seconds()[0] >= busy + 0.15


@pytest.mark.process
def test_work_of_others_is_noticed() -> None:
    busy = "import time; end = time.perf_counter() + 3\nwhile time.perf_counter() < end: pass"
    # The child of a process that has ended is no child of this one.
    orphan = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {busy!r}])"
    subprocess.run([sys.executable, "-c", orphan], check=True)
    with noise.Watch() as watch:
        time.sleep(1.0)
    assert any(text.startswith("other processes used") for text in watch.warnings())


def test_a_slower_clock_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = 0.0
    real = hashlib.pbkdf2_hmac

    def slower(name: str, password: bytes, salt: bytes, steps: int) -> bytes:
        time.sleep(lost)
        return real(name, password, salt, steps)

    monkeypatch.setattr("mnistbench.timing.noise.hashlib.pbkdf2_hmac", slower)
    with noise.Watch() as watch:
        watch.look()
        lost = 0.01
        watch.look()
        watch.look()
    assert any("below its best clock" in text for text in watch.warnings())


def test_throttling_is_read_from_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = tmp_path / "cpu0" / "thermal_throttle" / "core_throttle_count"
    counter.parent.mkdir(parents=True)
    counter.write_text("3\n")
    monkeypatch.setattr(noise, "_CPUS", tmp_path)
    with noise.Watch() as watch:
        counter.write_text("4\n")
    assert "the CPU throttled its clock because of heat or power" in list(watch.warnings())


@pytest.mark.parametrize(
    ("files", "warned"),
    [
        ({}, False),
        ({"system/cpu/cpu0/cpu_capacity": "1024\n", "system/cpu/cpu1/cpu_capacity": "446\n"}, True),
        ({"system/cpu/cpu0/cpu_capacity": "1024\n", "system/cpu/cpu1/cpu_capacity": "1024\n"}, False),
        ({"cpu_core/cpus": "0\n", "cpu_atom/cpus": "1-7\n"}, True),
        ({"cpu_core/cpus": "0-3\n", "cpu_atom/cpus": "4-7,9\n"}, False),
        (
            {
                "cpu_core/cpus": "0-3\n",
                "system/cpu/cpu0/cpu_capacity": "1024\n",
                "system/cpu/cpu1/cpu_capacity": "970\n",
            },
            False,
        ),
        ({"cpu_core/cpus": "\n"}, False),
    ],
)
def test_cores_of_different_kinds_are_noticed(
    files: dict[str, str], warned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(noise, "_CPUS", tmp_path / "system" / "cpu")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    assert any("cores of different kinds" in text for text in noise.of_cores()) is warned


# Ratios


def timings(rng: np.random.Generator, rounds: int, kind: str) -> tuple[list[float], list[float]]:
    """Seconds of two trainers in the same rounds, the first exactly 3 times as slow but for noise.

    The noise is what timings on shared machines show: a factor that both have in a round and that wanders, and for
    each its own, skewed to the slow side, now and then by much.
    """
    wander = np.cumsum(rng.normal(0, 0.02, rounds))
    own: Callable[[], NDArray[np.float64]] = {
        "jitter": lambda: rng.normal(0, 0.02, rounds),
        "skewed": lambda: rng.gamma(2, 0.01, rounds),
        "outliers": lambda: rng.gamma(2, 0.01, rounds) + (rng.random(rounds) < 0.05) * rng.exponential(0.2, rounds),
    }[kind]
    return list(3 * np.exp(wander + own())), list(np.exp(wander + own()))


@pytest.mark.parametrize(("rounds", "level"), [(6, 1 - 2 / 64), (7, 1 - 6 / 128), (10, 1 - 50 / 1024), (50, 0.95)])
@pytest.mark.parametrize("kind", ["jitter", "skewed", "outliers"])
def test_intervals_cover_the_truth_as_often_as_they_say(rounds: int, level: float, kind: str) -> None:
    """As often as tables of the signed-rank statistic have it."""
    rng = np.random.default_rng(rounds)
    found = [paired_ratio(*timings(rng, rounds, kind)) for _ in range(1000)]
    covered = sum(ratio.low <= 3 <= ratio.high for ratio in found) / 1000
    assert covered == pytest.approx(level, abs=4.5 * math.sqrt(level * (1 - level) / 1000))


def test_the_interval_is_that_of_the_signed_rank_test() -> None:
    """It holds the ratios that Wilcoxon's test does not reject, and no others."""
    first, second = timings(np.random.default_rng(0), 9, "skewed")
    found = paired_ratio(first, second)
    logarithms = np.log(np.array(first) / np.array(second))
    for ratio, rejected in ((0.9999, True), (1.0001, False)):
        low, high = math.log(found.low * ratio), math.log(found.high / ratio)
        assert [wilcoxon(logarithms - shift).pvalue <= 0.05 for shift in (low, high)] == [rejected] * 2


def test_equal_timings_rarely_differ_and_others_do() -> None:
    rng = np.random.default_rng(0)
    equal = [different(*rng.gamma(2, 1, (2, 7))) for _ in range(1000)]
    assert sum(map(bool, equal)) <= 20
    assert different(GOOD, [2 * value for value in GOOD]) is True
    assert different(GOOD[:5], [2 * value for value in GOOD[:5]]) is None


@given(
    st.lists(st.floats(1e-9, 1e6), min_size=1, max_size=20).flatmap(
        lambda values: st.tuples(st.just(values), st.permutations(values))
    ),
    st.floats(1e-3, 1e3),
)
def test_a_ratio_lies_in_its_interval_and_scales(pair: tuple[list[float], list[float]], factor: float) -> None:
    first, second = pair
    found = paired_ratio(first, second)
    assert found.low <= found.value * (1 + 1e-9)
    assert found.value <= found.high * (1 + 1e-9)
    assert found.known is (len(first) >= 6)
    scaled = paired_ratio([factor * value for value in first], second)
    assert scaled.value == pytest.approx(factor * found.value, rel=1e-6)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [([], [], "no pairs"), ([1.0], [1.0, 2.0], "no pairs"), ([1.0, 0.0], [1.0, 2.0], "not above 0")],
)
def test_what_is_no_pair_is_refused(first: list[float], second: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired_ratio(first, second)


def test_a_long_race_takes_little_memory() -> None:
    """A thousand rounds have half a million pairs."""
    tracemalloc.start()
    found = paired_ratio([2.0] * 1000, [1.0] * 1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.value == pytest.approx(2)
    assert peak < 200e6
