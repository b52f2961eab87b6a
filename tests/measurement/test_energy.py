"""The energy of a training, on a clock that goes by what was done, and a counter that is updated now and then."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mnistbench.measurement import energy
from mnistbench.reference.parameters import Parameters


def state(start: float, iterations: int) -> Parameters:
    """Parameters that tell where a training began and how many iterations it made."""
    column = np.array([[float(start)], [float(iterations)]])
    return Parameters([column], [column])


class World:
    """A device that takes 50 W and in trainings 150 W, with a counter that is updated every ``interval`` seconds.

    Attributes:
        training: Seconds of a training of all 10 iterations.
    """

    name = "NVML"

    def __init__(self, training: float, interval: float, stops: float = 1e9) -> None:
        self.now, self.spent, self.training, self.interval, self.stops = 0.0, 0.0, training, interval, stops
        self.shown, self.shown_at = 0.0, 0.0
        self.trained: list[int] = []
        self.resets = 0
        self.workload = SimpleNamespace(iterations=10)

    def sleep(self, seconds: float) -> None:
        self.pass_(seconds, 50.0)

    def pass_(self, seconds: float, watts: float) -> None:
        end = self.now + seconds
        while (at := self.shown_at + self.interval) <= end and at < self.stops:
            self.spent += (at - self.now) * watts
            self.now = at
            self.shown, self.shown_at = self.spent, at
        self.spent += (end - self.now) * watts
        self.now = end

    def joules(self) -> float:
        return self.shown

    def reset(self, initial: Parameters) -> None:
        self.resets += 1
        self.state = (initial.biases[0][0, 0], 0)

    def advance(self, iterations: int) -> None:
        self.trained.append(iterations)
        self.state = (self.state[0], self.state[1] + iterations)
        self.pass_(self.training * iterations / 10, 150.0)

    def parameters(self) -> Parameters:
        return state(*self.state)


def measured(world: World, iterations: int = 10) -> energy.Energy | None:
    trainer: Any = world
    return energy.measure(trainer, [state(3, 0), state(4, 0)], iterations, world, lambda: world.now, world.sleep)


@pytest.mark.parametrize(
    ("training", "interval"), [(0.0023, 0.02), (0.0023, 0.1), (0.5, 0.1), (3.0, 0.001), (0.0023, 0.9)]
)
def test_joules_are_of_a_training_over_many_updates(training: float, interval: float) -> None:
    found = measured(world := World(training, interval))
    assert found is not None
    assert found.joules == pytest.approx(150 * training, rel=0.06)
    assert found.watts == pytest.approx(150, rel=0.06)
    assert found.idle_watts == pytest.approx(50, rel=0.01)
    assert found.seconds == pytest.approx(training, rel=0.06)
    assert found.trainings * training >= 0.95 * energy.SECONDS
    assert found.updates >= energy.UPDATES
    assert found.counter == "NVML"
    assert world.trained[-2:] == [5, 5], "the last one again, in two calls"
    assert world.resets == len(world.trained) - 1, "each is from fresh weights"


@pytest.mark.parametrize(("last", "spans"), [(0.0, 2), (1.0, 3), (3.0, 4), (60.0, 7)])
def test_the_idle_power_is_that_after_the_clocks_have_fallen(last: float, spans: int) -> None:
    """It falls by 10 W every second until the last one, and is asked for in spans of some 2 s, for 15 s at most."""
    world = World(0.5, 0.1)
    spend, begun = world.pass_, []
    world.advance = lambda iterations: begun.append(world.now) or World.advance(world, iterations)  # type: ignore

    def warm(seconds: float) -> None:
        spend(seconds, 50.0 + 10.0 * max(0.0, last - int(world.now)))

    world.sleep = warm  # type: ignore[method-assign]
    found = measured(world)
    assert found is not None
    assert begun[0] == pytest.approx(energy.REST + 2.1 * spans, abs=0.1 * spans)
    if last < energy.SETTLING:
        assert found.idle_watts == pytest.approx(50.0, rel=0.01)


def test_a_trainer_that_does_not_train_has_no_energy() -> None:
    world = World(0.5, 0.1)
    work = world.advance

    def lazy(iterations: int) -> None:
        work(iterations)
        if iterations == 10 and len(world.trained) > 2:
            world.state = (world.state[0], 0)  # it only looks busy

    world.advance = lazy  # type: ignore[method-assign]
    assert measured(world) is None


def test_a_shorter_training_is_scaled_to_all_iterations() -> None:
    found = measured(world := World(1.0, 0.01), iterations=2)
    assert found is not None
    assert set(world.trained[:-2]) == {2}
    assert found.joules == pytest.approx(150.0, rel=0.05)
    assert found.seconds == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("stops", [0.0, 1.0, 4.0])
def test_a_counter_that_stands_still_tells_nothing(stops: float) -> None:
    world = World(0.01, 0.02, stops)
    assert measured(world) is None
    assert world.now < 60


def test_a_counter_that_fails_or_goes_back_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(0.01, 0.02)

    def fail() -> float:
        raise OSError("gone")

    monkeypatch.setattr(world, "joules", fail)
    assert measured(world) is None
    world = World(0.01, 0.02)
    monkeypatch.setattr(world, "joules", lambda: -world.shown)
    assert measured(world) is None
