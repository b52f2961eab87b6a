"""What a measurement does before a round, and the counter that it takes, on the CPU and on a GPU."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mnistbench import measurement
from mnistbench.agreement import Agreement, Trajectory
from mnistbench.backends import Description, Metrics
from mnistbench.backends.numpy import NumpyTrainer
from mnistbench.machine import energy as counters
from mnistbench.measurement import Energy, Measurement
from mnistbench.reference.parameters import Parameters
from tests.support import builders

DATA = builders.dataset(20, 13, 5)
TASK = builders.workload(DATA, iterations=100)


class Noting(NumpyTrainer):
    """Notes its calls, and computes nothing."""

    device = "CPU"
    calls: list[str]

    def advance(self, iterations: int) -> Metrics:
        self.calls.append(f"advance {iterations}")
        return Metrics(0.0, 0.0)

    def reset(self, parameters: Parameters) -> None:
        super().reset(parameters)
        self.calls.append("reset")

    def describe(self) -> Description:
        return replace(super().describe(), device=self.device)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> tuple[Measurement, Noting]:
    monkeypatch.setattr(Noting, "calls", [], raising=False)
    monkeypatch.setattr(measurement, "SPIN", 0.01)
    trainer = Noting(TASK, DATA, builders.initial(TASK), 1)
    found = Measurement(trainer, Agreement("noting", "float64"), Trajectory(replace(TASK, iterations=100), DATA))
    del trainer.calls[:]
    return found, trainer


def test_a_gpu_works_before_the_clock_starts(measured: tuple[Measurement, Noting]) -> None:
    found, trainer = measured
    trainer.device = "Some GPU"
    found.round(1, builders.initial(TASK), 100)
    assert found.problem is None
    *spins, reset, timed = trainer.calls
    assert len(spins) > 2
    assert set(spins) == {"advance 2"}
    assert (reset, timed) == ("reset", "advance 100")
    assert found.samples[0] < 0.01, "the clock is that of the round"


def test_a_cpu_does_not(measured: tuple[Measurement, Noting]) -> None:
    found, trainer = measured
    found.round(1, builders.initial(TASK), 100)
    assert trainer.calls == ["reset", "advance 100"]


@pytest.mark.parametrize("device", ["CPU", "Some GPU"])
def test_the_counter_is_that_of_the_device(
    device: str, measured: tuple[Measurement, Noting], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, trainer = measured
    trainer.device = device
    monkeypatch.setattr("mnistbench.machine.nvidia.bus_id", lambda: "bus")
    monkeypatch.setattr(counters, "of_gpu", lambda bus: f"counter of {bus}")
    monkeypatch.setattr(counters, "of_cpus", lambda: "counter of CPUs")
    expected = Energy(1.0, 2.0, 3.0, 4, 5, "RAPL")
    seen: list[Any] = []

    def measure(*arguments: Any) -> Energy:
        seen.append(arguments)
        return expected

    monkeypatch.setattr("mnistbench.measurement.energy.measure", measure)
    found.count_energy(50)
    assert found.energy == expected
    assert seen[0][2:] == (50, "counter of bus" if device != "CPU" else "counter of CPUs")
    monkeypatch.setattr(counters, "of_gpu", lambda bus: None)
    monkeypatch.setattr(counters, "of_cpus", lambda: None)
    found.energy = None
    found.count_energy(50)
    assert found.energy is None
    assert len(seen) == 1
