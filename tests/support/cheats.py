"""Backends for sessions of ``pytest benchmarks/`` that time other work than they show."""

from __future__ import annotations

import time
from dataclasses import replace

from mnistbench.backends import Metrics
from mnistbench.backends.numpy import NumpyBackend, NumpyTrainer
from mnistbench.reference.parameters import Parameters


class Cheat(NumpyTrainer):
    """A trainer that cheats in calls of a whole training, from the second on, or from the first."""

    trusted = 1
    calls = 0

    def advance(self, iterations: int) -> Metrics:
        if iterations != self.workload.iterations:
            return super().advance(iterations)
        self.calls += 1
        return super().advance(iterations) if self.calls <= self.trusted else self.cheat(iterations)

    def cheat(self, iterations: int) -> Metrics:
        return super().advance(iterations // 2)


class AtOnce(Cheat):
    trusted = 0


class Boasting(AtOnce):
    def cheat(self, iterations: int) -> Metrics:
        return replace(NumpyTrainer.advance(self, iterations), accuracy=0.999, loss=0.001)


class Failing(Cheat):
    def cheat(self, iterations: int) -> Metrics:
        raise RuntimeError("out of luck")


class Ahead(NumpyTrainer):
    def reset(self, parameters: Parameters) -> None:
        super().reset(parameters)
        time.sleep(0.05)


class HalfBackend(NumpyBackend):
    name, load = "half", staticmethod(Cheat)


class AtOnceBackend(NumpyBackend):
    name, load = "at-once", staticmethod(AtOnce)


class BoastingBackend(NumpyBackend):
    name, load = "boasting", staticmethod(Boasting)


class FailingBackend(NumpyBackend):
    name, load = "failing", staticmethod(Failing)


class AheadBackend(NumpyBackend):
    name, load = "ahead", staticmethod(Ahead)
