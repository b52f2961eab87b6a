"""The backend ``cupy``, which chooses a trainer for each workload."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mnistbench.backends.base import Trainer
from mnistbench.backends.cupy.classic import layout
from mnistbench.backends.cupy.classic.trainer import PersistentTrainer, blocks_at_once, compiled
from mnistbench.backends.cupy.device import CudaBackend, properties
from mnistbench.backends.cupy.mlp.trainer import MlpTrainer
from mnistbench.backends.cupy.plain import KERNEL, PlainTrainer
from mnistbench.datasets import Dataset
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Workload


class CupyBackend(CudaBackend):
    """One persistent launch on the current CUDA device for the classic, a few launches per layer for any mlp."""

    name = "cupy"

    def unsupported(self, workload: Workload) -> str | None:
        return None

    def _load(self, workload: Workload, dataset: Dataset, parameters: Parameters) -> Trainer:
        if not workload.is_classic:
            return MlpTrainer(self.name, workload, dataset, parameters)
        kept = np.flatnonzero(np.bitwise_or.reduce(dataset.train.images, axis=0))
        device = properties()
        workload = replace(workload, images=len(dataset.train))  # fewer in a warm-up
        plan = layout.plan(workload, kept.size, device)
        if isinstance(plan, layout.Plan):
            kernel = compiled(plan, device)
            if (at_once := blocks_at_once(kernel, plan, device)) >= plan.blocks:
                return PersistentTrainer(self.name, plan, kernel, kept, workload, dataset, parameters)
            plan = f"of its {plan.blocks} blocks {at_once} can run at once"
        return PlainTrainer(self.name, workload, dataset, parameters, f"{KERNEL}; not persistent: {plan}")
