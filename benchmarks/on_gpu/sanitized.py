"""What runs under compute-sanitizer: the classic's kernel, and a network with every other one."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from typing import Any

import numpy as np

import mnistbench
import mnistbench.backends as registry
from mnistbench.backends.cupy.classic import layout
from mnistbench.backends.cupy.classic.dealing import deal
from mnistbench.datasets import Dataset
from mnistbench.exceptions import MnistbenchError
from mnistbench.reference.parameters import Parameters
from mnistbench.task.recipe import Augmentation, Optimizer, Recipe
from mnistbench.task.workload import DTYPES, Network, Workload

IMAGES = {"memcheck": 41_000, "racecheck": 3_000, "synccheck": 3_000}
"""Images of the classic under each tool."""

KEPT = (0.2, 0.8)
"""Least and largest share of the images that are kept in shared memory, so that the kernel reads both kinds."""

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
        smaller = streaming(device, classic, images)
        trainer.properties = lambda smaller=smaller: smaller
        _run(classic, images)
        _run(Workload(Network((784, 31, 9, 10), "tanh"), 3_000, dtype=dtype, recipe=RECIPE), few)


def _run(workload: Workload, dataset: Dataset) -> None:
    initial = Parameters.initial(workload.network, 0)
    with registry.get_backend("cupy").start(workload, dataset, initial) as trainer:
        trainer.advance(2)
        trainer.gradients()
        trainer.predict(dataset.dev.images)


def streaming(device: layout.Device, workload: Workload, dataset: Dataset) -> layout.Device:
    """Return a device like the given one with so little shared memory that some images are kept there, and some not.

    Raises:
        MnistbenchError: If no size does that.
    """
    kept = np.flatnonzero(dataset.train.images.any(axis=0))
    blocks = layout.blocks_of(workload.images, device)
    shares = deal(dataset.train.images, dataset.image_shape, kept, blocks).shares
    for kibibytes in range(8, device.shared_bytes // 1024 + 1, 2):
        smaller = replace(device, shared_bytes=kibibytes * 1024)
        plan = layout.plan(workload, kept.size, smaller, shares=shares)
        if isinstance(plan, layout.Plan) and KEPT[0] < plan.resident_share < KEPT[1]:
            return smaller
    raise MnistbenchError(f"no plan keeps some of {workload.images:,} images in shared memory, and streams others")


if __name__ == "__main__":
    main(sys.argv[1])
