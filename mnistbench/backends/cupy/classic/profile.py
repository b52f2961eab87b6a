"""Where an iteration's time goes on a GPU, and how long each variant of the persistent kernel takes.

``python -m mnistbench.backends.cupy.classic.profile`` trains the classic in both dtypes. For every variant it prints
the median time of its 500 iterations on the device and, from a build that notes the clock, the cycles of each phase of
the slowest block's last iteration. That build waits for a block's last warp after each phase.
With epochs, blocks wait in "update" and, for new parameters, in the next "load weights".
"""

from __future__ import annotations

from dataclasses import replace

import cupy as cp
import numpy as np

from mnistbench.backends.cupy.classic.trainer import PersistentTrainer, Variant, load, module
from mnistbench.datasets import load_images
from mnistbench.reference.parameters import Parameters
from mnistbench.task.presets import preset
from mnistbench.task.workload import DTYPES, Workload

PHASES = (
    "load weights",
    "forward",
    "output",
    "unit errors",
    "backward",
    "loss and hits",
    "wait for all sums",
    "update",
    "wait for all parameters",
)
"""Phases between two notes of the clock, in the order of the kernel's."""

VARIANTS = {
    "as planned": Variant(),
    "images in their order": Variant(similar=False),
    "three digits": Variant(digits=3),
    "multiply-adds": Variant(digits=0),
    "epochs in place of barriers": Variant(epochs=True),
}
"""Variants by name."""

_ROUNDS = 7


def seconds(trainer: PersistentTrainer, iterations: int, initial: Parameters) -> float:
    """Return the median time of some trainings on the device."""
    for _ in range(_ROUNDS):
        trainer.reset(initial)
        trainer.advance(iterations)
    return trainer.device_seconds


def cycles(trainer: PersistentTrainer, iterations: int) -> list[int]:
    """Return the cycles of each phase in the last iteration of the block on which the others wait longest."""
    trainer.advance(iterations)
    clocks = module(trainer.plan, profiled=True).get_global("phase_clocks")
    noted = cp.asnumpy(cp.ndarray((trainer.plan.blocks, len(PHASES) + 1), np.int64, clocks))
    phases = np.diff(noted, axis=1)
    slowest = np.argmin(phases[:, PHASES.index("update" if trainer.plan.epochs else "wait for all sums")])
    return [int(cycles) for cycles in phases[slowest]]


def report(workload: Workload) -> list[str]:
    """Return a line for each variant and phase of a classic workload."""
    dataset, initial = load_images(workload.images), Parameters.initial(workload.network, 0)
    lines = []
    for name, variant in VARIANTS.items():
        if workload.dtype == "float64" and (variant.digits is not None or variant.epochs):
            continue  # multiply-adds, as planned, or impossible
        for profiled in (False, True):
            trainer = load("cupy", workload, dataset, initial, replace(variant, profiled=profiled))
            if isinstance(trainer, str):
                lines.append(f"{workload.dtype}  {name}: {trainer}")
                break
            with trainer:
                if not profiled:
                    taken = seconds(trainer, workload.iterations, initial)
                    lines.append(f"{workload.dtype}  {name}: {1e3 * taken:.3f} ms  ({trainer.plan})")
                else:
                    found = zip(PHASES, cycles(trainer, workload.iterations), strict=True)
                    lines.append("  ".join(f"{phase} {cycles:,}" for phase, cycles in found))
    return lines


def main() -> None:
    """Print the report of the classic in both dtypes."""
    for dtype in DTYPES:
        for line in report(preset("classic", dtype)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
