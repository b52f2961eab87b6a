"""What nvidia-smi and the driver tell of a GPU, without one: a program and a library that answer in their place."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mnistbench.machine import nvidia


@pytest.mark.parametrize(
    ("answer", "throttled"),
    [
        ("580.65.06, 1980, 1980, 3201, 0x0000000000000000\n", None),
        ("580.65.06, 345, 1980, 3201, 0x0000000000000001\n", None),
        ("580.65.06, 1200, 1980, 3201, 0x0000000000000064\n", "power cap, temperature"),
    ],
)
def test_reduced_clocks_are_reported(answer: str, throttled: str | None) -> None:
    found = nvidia.read_nvidia_smi(answer)
    assert found["driver_version"] == "580.65.06"
    assert found["clock_sm_max_mhz"] == 1980
    assert found["throttled"] == throttled
    assert nvidia.read_nvidia_smi("580.65.06, [N/A], [N/A], [N/A], [N/A]") == {"driver_version": "580.65.06"}


def test_the_gpu_works_longer_and_longer_until_nvidia_smi_has_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(
        f'#!/bin/sh\necho "$*" > {tmp_path}/asked\nwhile ! test -e {tmp_path}/worked; do sleep 0.01; done\n'
        "echo 580.65.06, 1200, 1980, 3201, 0x0000000000000004\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    counts: list[int] = []

    def repeat(iterations: int) -> None:
        counts.append(iterations)
        if len(counts) > 3:
            (tmp_path / "worked").touch()

    found = nvidia.under_load(repeat, "00000000:17:00.0")
    assert (found["clock_sm_mhz"], found["throttled"]) == (1200, "power cap")
    assert counts[:4] == [1, 2, 4, 8]
    assert "--id=00000000:17:00.0" in (tmp_path / "asked").read_text()
    assert nvidia.under_load(repeat, None) == {}
    monkeypatch.setenv("PATH", "")
    assert nvidia.under_load(repeat, "00000000:17:00.0") == {}


@pytest.mark.parametrize("failing", [None, "cuInit", "cuDeviceGet", "cuDeviceGetPCIBusId"])
def test_the_bus_id_is_that_of_cudas_own_number(failing: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def name(buffer: Any, size: int, device: Any) -> int:
        buffer.value = b"0000:%02x:00.0" % device.value
        return 0

    def get(device: Any, ordinal: int) -> int:
        device._obj.value = 23 + ordinal
        return 0

    library = SimpleNamespace(cuInit=lambda flags: 0, cuDeviceGet=get, cuDeviceGetPCIBusId=name)
    if failing:
        setattr(library, failing, lambda *_: 100)
    monkeypatch.setattr(ctypes, "CDLL", lambda path: library)
    assert nvidia.bus_id(1) == (None if failing else "0000:18:00.0")


def test_without_a_driver_there_is_no_bus_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnistbench.machine.CUDA", "libmissing.so")
    assert nvidia.bus_id() is None
