"""JAX: gradients of the loss by ``jax.grad``, all iterations in one compiled loop."""

from __future__ import annotations

import jax

from mnistbench.backends.base import Availability, Backend, Carrier, Trainer
from mnistbench.backends.jax import device, group
from mnistbench.backends.jax.classic import JaxTrainer, fastest
from mnistbench.backends.jax.mlp import JaxMlpTrainer, compile_mlp
from mnistbench.datasets import Dataset
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Workload


class JaxBackend(Backend):
    """JAX's default device: a GPU where it sees one, else the CPU."""

    name = device.NAME
    ranks = peers = True

    def availability(self) -> Availability:
        return Availability(usable=True, version=jax.__version__, device=device.device().name)

    def connect(self, rank: int, size: int, address: str) -> Carrier:
        return group.connect(rank, size, address)

    def disconnect(self) -> None:
        group.disconnect()

    def unsupported(self, workload: Workload) -> str | None:
        return None

    def warm_up(self, workload: Workload, threads: int | None = None) -> None:
        """Compile the loop, unless all ranks have to run it together; for the classic, find the fastest way."""
        number = device.threads_in_effect(threads)
        if workload.is_classic:
            fastest(-(-workload.images // group.ranks()), workload.network, workload.dtype, number)
        elif not group.is_joined():
            compile_mlp(workload, number)

    def load(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> Trainer:
        number = device.threads_in_effect(threads)
        if not workload.is_classic:
            return JaxMlpTrainer(workload, dataset, parameters, number)
        images = -(-workload.images // (dataset.share.ranks if dataset.share else 1))
        way, failed = fastest(images, workload.network, workload.dtype, number)
        return JaxTrainer(workload, dataset, parameters, number, way, failed)
