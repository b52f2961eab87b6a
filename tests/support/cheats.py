"""Backends for sessions of ``pytest benchmarks/`` that time other work than they show."""

from __future__ import annotations

import time
from dataclasses import replace

from mnistbench.backends import Metrics, Trainer
from mnistbench.backends.numpy import NumpyBackend, NumpyTrainer
from mnistbench.datasets import Dataset
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Workload


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
        return super().advance(-(-iterations // 2))  # a cold process trains a single iteration


class AtOnce(Cheat):
    trusted = 0


class Boasting(AtOnce):
    def cheat(self, iterations: int) -> Metrics:
        return replace(NumpyTrainer.advance(self, iterations), accuracy=0.999, loss=0.001)


class Ahead(NumpyTrainer):
    def reset(self, parameters: Parameters) -> None:
        super().reset(parameters)
        time.sleep(0.05)


class HalfBackend(NumpyBackend):
    name = "half"

    def load(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> Trainer:
        return Cheat(workload, dataset, parameters, threads)


class AtOnceBackend(NumpyBackend):
    name = "at-once"

    def load(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> Trainer:
        return AtOnce(workload, dataset, parameters, threads)


class BoastingBackend(NumpyBackend):
    name = "boasting"

    def load(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> Trainer:
        return Boasting(workload, dataset, parameters, threads)


class AheadBackend(NumpyBackend):
    name = "ahead"

    def load(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> Trainer:
        return Ahead(workload, dataset, parameters, threads)
