"""Counters of energy: folders as Linux shows them, and a library that answers as NVIDIA's does."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mnistbench.machine import energy


def zone(root: Path, folder: str, name: str, microjoules: int, most: int = 1_000_000) -> Path:
    """A power zone; the name of the folder is that of Linux."""
    path = root / "sys/class/powercap" / folder
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "max_energy_range_uj").write_text(f"{most}\n")
    (path / "energy_uj").write_text(f"{microjoules}\n")
    return path / "energy_uj"


def test_all_packages_count_and_nothing_within_or_around_them(tmp_path: Path) -> None:
    first = zone(tmp_path, "intel-rapl:0", "package-0", 500)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 700)
    others = [
        zone(tmp_path, "intel-rapl:0:0", "core", 1),
        zone(tmp_path, "intel-rapl:0:1", "dram", 1),
        zone(tmp_path, "intel-rapl:2", "psys", 1),
        zone(tmp_path, "intel-rapl-mmio:0", "package-0", 1),
    ]
    counter = energy.of_cpus(tmp_path)
    assert counter is not None
    assert counter.name == "RAPL"
    assert counter.joules() == 0
    first.write_text("1500\n")
    second.write_text("900\n")
    for other in others:
        other.write_text("999999\n")
    assert counter.joules() == pytest.approx(1200e-6)


def test_a_counter_that_wraps_around_goes_on(tmp_path: Path) -> None:
    file = zone(tmp_path, "intel-rapl:0", "package-0", 999_990, most=999_999)
    counter = energy.of_cpus(tmp_path)
    assert counter is not None
    for value, total in ((999_999, 9), (5, 15), (999_990, 1_000_000), (3, 1_000_013)):
        file.write_text(f"{value}\n")
        assert counter.joules() == pytest.approx(total * 1e-6)


@pytest.mark.parametrize("damage", ["nothing", "no package", "unreadable", "no number", "no range"])
def test_without_a_counter_there_is_none(damage: str, tmp_path: Path) -> None:
    if damage != "nothing":
        file = zone(tmp_path, "intel-rapl:0", "psys" if damage == "no package" else "package-0", 1)
        if damage == "unreadable":  # as for all but root
            file.unlink()
            file.mkdir()
        elif damage == "no number":
            file.write_text("many\n")
        elif damage == "no range":
            (file.parent / "max_energy_range_uj").unlink()
    assert energy.of_cpus(tmp_path) is None


class Nvml:
    """NVIDIA's library with one GPU, whose functions return a status and write to pointers."""

    def __init__(self, failing: str | None = None) -> None:
        self.millijoules, self._failing = 5_000_000_000, failing  # more than 32 bits hold

    def nvmlInit_v2(self) -> int:
        return 999 * (self._failing == "init")

    def nvmlDeviceGetHandleByPciBusId_v2(self, bus: bytes, handle: Any) -> int:
        if self._failing == "bus" or bus != b"0000:17:00.0":
            return 6
        handle._obj.value = 42
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any, total: Any) -> int:
        assert handle.value == 42
        if self._failing == "counter":  # GPUs before Volta have none
            return 3
        total._obj.value = self.millijoules
        return 0


def test_a_gpu_counts_millijoules(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Nvml()
    asked: list[str] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda name: asked.append(name) or library)  # type: ignore[func-returns-value]
    counter = energy.of_gpu("0000:17:00.0")
    assert counter is not None
    assert (asked, counter.name) == ([energy._NVML], "NVML")
    before = counter.joules()
    assert before == pytest.approx(5e6)
    library.millijoules += 1_500
    assert counter.joules() - before == pytest.approx(1.5)
    library._failing = "counter"
    with pytest.raises(OSError, match="NVML: error 3"):
        counter.joules()
    assert energy.of_gpu("0000:99:00.0") is None


@pytest.mark.parametrize("failing", ["init", "bus", "counter", "no library", "an old library", "no bus"])
def test_a_gpu_without_a_counter_has_none(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> Any:
        if failing == "no library":
            raise OSError("libnvidia-ml.so.1: cannot open shared object file")
        return SimpleNamespace(nvmlInit_v2=lambda: 0) if failing == "an old library" else Nvml(failing)

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert energy.of_gpu(None if failing == "no bus" else "0000:17:00.0") is None
