"""The GPU sweep's own logic, with a stand-in for the GPU's backends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import mnistbench.backends as registry
from benchmarks import gpu_sweep
from mnistbench.backends import Availability
from mnistbench.backends.numpy import NumpyBackend, NumpyTrainer
from mnistbench.reference.parameters import Parameters


class ZeroTrainer(NumpyTrainer):
    """Computes all it should, and then says that all parameters are 0."""

    def parameters(self) -> Parameters:
        found = super().parameters()
        return Parameters([w * 0 for w in found.weights], [b * 0 for b in found.biases])


class ZeroBackend(NumpyBackend):
    def start(self, workload: Any, dataset: Any, parameters: Parameters, threads: int | None = None) -> ZeroTrainer:
        return ZeroTrainer(workload, dataset, parameters, threads)


def test_rows_are_measured_compared_and_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def require(name: str) -> NumpyBackend:
        if name == "broken":
            raise RuntimeError("no\nkernel")
        return ZeroBackend() if name == "wrong" else NumpyBackend()

    monkeypatch.setattr(registry, "require", require)
    monkeypatch.setattr(gpu_sweep, "cases", lambda most: [(50, 3)])
    monkeypatch.setattr(gpu_sweep, "contenders", lambda: ["cupy", "cupy-plain", "broken", "wrong"])
    assert gpu_sweep.main(["--results", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("*/gpu_sweep_0001.json")
    plain, other, failed, wrong = json.loads(path.read_text())["rows"]
    assert plain["difference"] == other["difference"] == 0
    assert len(plain["samples"]) == gpu_sweep.ROUNDS
    assert failed["problem"] == "RuntimeError: no kernel"
    assert wrong["difference"] == 1
    assert "RuntimeError: no kernel" in capsys.readouterr().out


def test_frameworks_take_part_where_they_see_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"jax": Availability(True, "1", "Some GPU"), "torch": Availability(True, "2", "CPU")}
    monkeypatch.setattr(registry, "availability", found.__getitem__)
    assert gpu_sweep.contenders() == ["cupy", "cupy-plain", "jax"]
    found["jax"] = Availability(False, reason="No module named 'jax'")
    assert gpu_sweep.contenders() == ["cupy", "cupy-plain"]


def test_a_clock_that_was_held_down_is_said() -> None:
    workload = {"images": 41_000, "network": [784, 10, 10]}
    rates = {"seconds_an_iteration": 2e-5, "image_bytes_per_second": 1e12, "flops_per_second": 6e13}
    row = {"contender": "cupy", "workload": workload, **rates, "difference": 0.0, "gpu": {"throttled": "temperature"}}
    assert gpu_sweep.line(row).endswith("WARNING: clocks were held down: temperature")


def test_the_cases_vary_one_size_at_a_time() -> None:
    found = gpu_sweep.cases(100_000)
    assert (41_000, 10) in found
    assert len(set(found)) == len(found)
    assert all(images <= 100_000 and (images == 41_000 or hidden == 10) for images, hidden in found)


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    if registry.availability("cupy").usable:
        pytest.skip("there is a GPU")
    assert gpu_sweep.main([]) == 2
    assert "backend cupy is unavailable" in capsys.readouterr().err
