"""Rounds of a measurement as pytest-benchmark times them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.recording import timings
from mnistbench.measurement import Measurement, Starts
from mnistbench.reference.parameters import Parameters
from mnistbench.timing.noise import Watch


def time_rounds(
    benchmark: BenchmarkFixture,
    measurement: Measurement,
    starts: Starts,
    rounds: int,
    iterations: int,
    show: Callable[[list[float]], None] = lambda done: None,
) -> None:
    """Run the rounds, check them, and give pytest-benchmark the seconds of the measurement's own clocks.

    Args:
        show: Called before each round with the seconds of those done.
    """
    seeds = starts.seeds(rounds)

    def prepare() -> tuple[tuple[int, Parameters], dict[str, object]]:
        done = measurement.samples
        show(done)
        watch.look()
        seed = seeds[len(done) % rounds]
        return (seed, starts.parameters(seed)), {}

    def train(seed: int, initial: Parameters) -> None:
        if measurement.problem is None and len(measurement.samples) < rounds:
            measurement.round(seed, initial, iterations)
        else:  # pytest-benchmark profiles another, and a trainer with a problem is timed to be stored as no result
            with contextlib.nullcontext() if measurement.problem is None else contextlib.suppress(Exception):
                measurement.trainer.reset(initial)
                measurement.trainer.advance(iterations)

    with Watch() as watch:
        number = rounds if measurement.problem is None else 1
        benchmark.pedantic(train, setup=prepare, rounds=number)  # type: ignore[no-untyped-call]
    measurement.watched = [watch.record()]
    if measurement.samples:
        timings(benchmark)[:] = measurement.samples
