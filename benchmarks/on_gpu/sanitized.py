"""What runs under compute-sanitizer: the classic's kernel, and a network with every other one."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from typing import Any

import mnistbench
import mnistbench.backends as registry
from mnistbench.backends.cupy.classic import layout
from mnistbench.datasets import Dataset
from mnistbench.exceptions import MnistbenchError
from mnistbench.reference.parameters import Parameters
from mnistbench.task.recipe import Augmentation, Optimizer, Recipe
from mnistbench.task.workload import DTYPES, Network, Workload

IMAGES = {"memcheck": 41_000, "racecheck": 3_000, "synccheck": 3_000}
"""Images of the classic under each tool. All of memcheck's do not fit into shared memory; those of the others would."""

RECIPE = Recipe(
    l2=1, dropout=(0.5,), optimizer=Optimizer("adamw"), batch_size=2000, augmentation=Augmentation(2, 9, 34)
)


def main(tool: str) -> None:
    """Run the kernels in both dtypes."""
    import cupy

    # Without the memory pool, an access beyond an array is one beyond an allocation.
    cupy.cuda.set_allocator(None)
    trainer: Any = importlib.import_module("mnistbench.backends.cupy.classic.trainer")
    device = trainer.properties()
    images, few = (mnistbench.load_data(train_size=size) for size in (IMAGES[tool], 3_000))
    for dtype in DTYPES:
        classic = Workload(Network((784, 10, 10)), IMAGES[tool], 1, dtype=dtype)
        if tool != "memcheck":
            smaller = streaming(device, classic, kept(images))
            trainer.properties = lambda smaller=smaller: smaller
        _run(classic, images)
        _run(Workload(Network((784, 31, 9, 10), "tanh"), 3_000, dtype=dtype, recipe=RECIPE), few)


def _run(workload: Workload, dataset: Dataset) -> None:
    initial = Parameters.initial(workload.network, 0)
    with registry.get_backend("cupy").start(workload, dataset, initial) as trainer:
        trainer.advance(2)
        trainer.gradients()
        trainer.predict(dataset.dev.images)


def kept(dataset: Dataset) -> int:
    """Count the pixels that are not zero in every image."""
    return int(dataset.train.images.any(axis=0).sum())


def streaming(device: layout.Device, workload: Workload, pixels: int) -> layout.Device:
    """Return a device like the given one with so little shared memory that a block keeps few of its images there.

    Raises:
        MnistbenchError: If every device that can run the kernel keeps all of them.
    """
    for kibibytes in range(8, device.shared_bytes // 1024 + 1, 4):
        smaller = replace(device, shared_bytes=kibibytes * 1024)
        plan: Any = layout.plan(workload, pixels, smaller)
        if isinstance(plan, layout.Plan):
            if plan.resident_share < 1:
                return smaller
            break
    raise MnistbenchError(f"no plan streams images of {workload.images:,}")


if __name__ == "__main__":
    main(sys.argv[1])
