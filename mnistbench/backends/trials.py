"""What a trainer takes for an iteration, for backends that try several ways and keep the fastest."""

from __future__ import annotations

from collections.abc import Callable

from mnistbench.backends.base import Trainer
from mnistbench.timing.clock import timed


def seconds(start: Callable[[], Trainer]) -> float:
    """Return the least time of five that a trainer needs for three iterations, once everything is compiled."""
    with start() as trainer:
        trainer.advance(2)
        return min(timed(lambda: trainer.advance(3))[1] for _ in range(5))
