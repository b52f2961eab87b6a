"""Trials of trainers, for backends that try several ways to compute and keep the fastest."""

from __future__ import annotations

from collections.abc import Callable

from mnistbench.backends.base import Trainer
from mnistbench.timing.clock import timed


def seconds(start: Callable[[], Trainer]) -> float:
    """Return the shortest of five times that a trainer takes for three iterations, after warm-up."""
    with start() as trainer:
        trainer.advance(2)
        return min(timed(lambda: trainer.advance(3))[1] for _ in range(5))
