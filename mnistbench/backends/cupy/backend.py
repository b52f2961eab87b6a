"""The backend ``cupy``, which chooses a trainer for each workload."""

from __future__ import annotations

from mnistbench.backends.base import Trainer
from mnistbench.backends.cupy.classic.trainer import load
from mnistbench.backends.cupy.device import CudaBackend
from mnistbench.backends.cupy.mlp.ways import start
from mnistbench.backends.cupy.plain import KERNEL, PlainTrainer
from mnistbench.datasets import Dataset
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Workload


class CupyBackend(CudaBackend):
    """One persistent launch on the current CUDA device for the classic.

    For any mlp, an iteration is one launch of a graph, or some six launches a layer.
    """

    name = "cupy"
    ranks = True

    def unsupported(self, workload: Workload) -> str | None:
        return None

    def _load(self, workload: Workload, dataset: Dataset, parameters: Parameters) -> Trainer:
        if not workload.is_classic:
            return start(workload, dataset, parameters)
        found = load(self.name, workload, dataset, parameters)
        if isinstance(found, str):
            return PlainTrainer(self.name, workload, dataset, parameters, f"{KERNEL}; not persistent: {found}")
        return found
