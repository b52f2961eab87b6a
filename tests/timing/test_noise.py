"""What makes timings doubtful is noticed, and nothing else is."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mnistbench.timing import noise

GOOD = [1.0, 1.01, 1.02, 1.03, 1.04, 1.05]


@pytest.mark.parametrize(
    ("samples", "warnings"),
    [
        (GOOD, []),
        ([1.0, 1.1, 1.0, 1.1, 1.2], ["rounds scatter by 10% of their median"]),
        ([1.0, 1.0, 1.0, 1.0, 1.2], []),
        ([1.0, 1.0, 1.0, 1.0, 1.6], ["1 of 5 rounds further than 50%"]),
        ([1e-4] * 5, ["a round took 100 µs, less than 1 ms"]),
    ],
)
def test_timings(samples: list[float], warnings: list[str]) -> None:
    found = list(noise.of_processes([samples]))
    assert len(found) == len(warnings)
    assert all(text.startswith(start) for text, start in zip(found, warnings, strict=True))


def test_processes_are_told_apart() -> None:
    """A process that is twice as slow has no outliers among its own rounds."""
    found = list(noise.of_processes([[1.0, 1.01, 1.02], [2.0, 2.01, 2.02], [1.0, 1.01, 1.7]]))
    assert [text.split(":")[0] for text in found] == [
        "processes scatter by 40%",
        "1 of 9 rounds further than 50% from the median",
    ]


def test_own_work_is_not_another_process_s(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = [(100.0, 10.0, 1.0), (110.0, 19.0, 1.5)]
    monkeypatch.setattr(noise, "_cpu_seconds", lambda cpus: seconds.pop(0))
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
