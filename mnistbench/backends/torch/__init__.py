"""PyTorch: eager operations, or functions compiled by ``torch.compile``; on a GPU the classic is a CUDA graph."""

from __future__ import annotations

import torch

from mnistbench.backends.base import Availability, Backend, Trainer
from mnistbench.backends.torch import device
from mnistbench.backends.torch.classic import TorchTrainer, fastest
from mnistbench.backends.torch.ways import fastest_way, trainer
from mnistbench.datasets import Dataset
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Workload


class TorchBackend(Backend):
    """PyTorch on a GPU if it sees one, else on the CPU."""

    name = device.NAME

    def availability(self) -> Availability:
        return Availability(usable=True, version=torch.__version__, device=device.device_name())

    def unsupported(self, workload: Workload) -> str | None:
        return None

    def warm_up(self, workload: Workload, threads: int | None = None) -> None:
        """Find the fastest way to compute, which compiles it."""
        number = device.threads_in_effect(threads)
        if workload.is_classic:
            fastest(workload.images, workload.network, workload.dtype, number)
        else:
            fastest_way(workload, number)

    def load(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> Trainer:
        number = device.threads_in_effect(threads)
        if not workload.is_classic:
            found = fastest_way(workload, number, dataset.image_shape)
            return trainer(workload, dataset, parameters, number, *found)
        way, failed = fastest(workload.images, workload.network, workload.dtype, number)
        return TorchTrainer(workload, dataset, parameters, number, way, failed)
