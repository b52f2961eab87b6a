"""How much slower a round is after the GPU has idled, and whether the work before each round mends that."""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mnistbench.backends as registry
from mnistbench import files, words
from mnistbench.backends import Trainer
from mnistbench.datasets import load_images
from mnistbench.measurement import SPIN, timed_round
from mnistbench.reference.parameters import Parameters
from mnistbench.task.presets import preset

PAUSES = (0.0, 0.1, 1.0, 5.0)
"""Seconds of idling before a round."""

ROUNDS = 2

WARM = 1.0
"""Seconds of work before the first case, by which clocks rise."""


def measure(
    trainer: Trainer, initial: Parameters, iterations: int, sleep: Callable[[float], object] = time.sleep
) -> list[dict[str, float]]:
    """Time rounds after each pause, without and with work in between, in random order, the first after a warm-up."""
    cases = [(pause, spin) for pause in PAUSES for spin in (0.0, SPIN) for _ in range(ROUNDS)]
    random.shuffle(cases)
    end = time.perf_counter() + WARM
    while time.perf_counter() < end:
        trainer.advance(iterations)
    found = []
    for pause, spin in cases:
        sleep(pause)
        end = time.perf_counter() + spin
        while time.perf_counter() < end:
            trainer.advance(max(1, iterations // 50))
        seconds = timed_round(trainer, initial, iterations).seconds
        found.append({"pause": pause, "spin": spin, "seconds": seconds})
    return sorted(found, key=lambda one: (one["pause"], one["spin"]))


def main(path: Path) -> None:
    """Measure the classic in float32 on cupy, and write the rounds to ``path``."""
    task = preset("classic")
    initial = Parameters.initial(task.network, task.seed)
    backend = registry.get_backend("cupy")
    backend.warm_up(task)
    with backend.start(task, load_images(task.images, task.seed), initial) as trainer:
        trainer.advance(task.iterations)
        found = measure(trainer, initial, task.iterations)
    files.write_text(path, json.dumps(found, indent=1) + "\n")
    for one in found:
        after = f"after {words.seconds(one['spin'])} of work" if one["spin"] else "at once"
        print(f"a pause of {one['pause']:g} s, a round {after}: {words.seconds(one['seconds'])}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
