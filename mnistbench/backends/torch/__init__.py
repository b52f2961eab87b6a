"""PyTorch: eager operations, or functions compiled by ``torch.compile``; on a GPU the classic is a CUDA graph."""

from __future__ import annotations

import torch

from mnistbench.backends.base import Availability, Backend, Carrier, Trainer
from mnistbench.backends.torch import device, group
from mnistbench.backends.torch.classic import TorchTrainer, fastest
from mnistbench.backends.torch.shared import SharedTrainer
from mnistbench.backends.torch.ways import fastest_way, trainer
from mnistbench.datasets import Dataset
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Workload


class TorchBackend(Backend):
    """PyTorch on a GPU if it sees one, else on the CPU."""

    name = device.NAME
    ranks = peers = True

    def availability(self) -> Availability:
        return Availability(usable=True, version=torch.__version__, device=device.device_name())

    def connect(self, rank: int, size: int, address: str) -> Carrier:
        return group.connect(rank, size, address)

    def disconnect(self) -> None:
        group.disconnect()

    def unsupported(self, workload: Workload) -> str | None:
        return None

    def warm_up(self, workload: Workload, threads: int | None = None) -> None:
        """Find the fastest way to compute, which compiles it."""
        number, ranks = device.threads_in_effect(threads), group.size()
        if workload.is_classic:
            fastest(-(-workload.images // (ranks or 1)), workload.network, workload.dtype, number)
        else:
            fastest_way(workload, number, ranks=ranks)

    def load(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> Trainer:
        number, ranks = device.threads_in_effect(threads), dataset.share.ranks if dataset.share else None
        if not workload.is_classic:
            found = fastest_way(workload, number, dataset.image_shape, ranks)
            return trainer(workload, dataset, parameters, number, *found)
        way, failed = fastest(-(-workload.images // (ranks or 1)), workload.network, workload.dtype, number)
        kind = SharedTrainer if dataset.share else TorchTrainer
        return kind(workload, dataset, parameters, number, way, failed)
