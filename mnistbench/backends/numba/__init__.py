"""Numba: kernels compiled for the CPU's vector registers. Start reading at ``classic/kernels.py``."""

from __future__ import annotations

from dataclasses import replace

import numba

from mnistbench.exceptions import MnistbenchError

if numba.config.DISABLE_JIT:
    raise MnistbenchError("NUMBA_DISABLE_JIT is set, and Numba compiles nothing; unset it")

from mnistbench.backends.base import Availability, Backend, Trainer
from mnistbench.backends.numba.classic.trainer import NumbaTrainer
from mnistbench.backends.numba.mlp.trainer import NumbaMlpTrainer
from mnistbench.datasets import Dataset
from mnistbench.reference.parameters import Parameters
from mnistbench.task.share import Share
from mnistbench.task.workload import Workload
from mnistbench.threads import resolve


class NumbaBackend(Backend):
    """Numba kernels for the CPU's vector registers; see :mod:`mnistbench.backends.numba.classic.kernels`."""

    name = "numba"
    ranks = True

    def availability(self) -> Availability:
        return Availability(usable=True, version=numba.__version__, device="CPU")

    def unsupported(self, workload: Workload) -> str | None:
        return None

    def warm_up(self, workload: Workload, threads: int | None = None) -> None:
        """Compile the kernels for the workload's network, dtype and threads, or load them from the disk cache."""
        self._start_small(workload, threads, None).advance(1)

    def warm_up_split(self, workload: Workload, threads: int | None = None) -> None:
        for _ in self._start_small(workload, threads, Share(0, 1, min(workload.images, resolve(threads)))).split(1):
            pass

    def _start_small(self, workload: Workload, threads: int | None, share: Share | None) -> Trainer:
        parameters = Parameters.initial(workload.network, workload.seed)
        images = min(workload.images, resolve(threads))  # so that each thread has one
        blank = Dataset.blank(workload.network, images)
        blank.train.images[:] = 0  # since white images are not ordered
        dataset = blank if share is None else blank.part(share)
        return self.start(replace(workload, images=images), dataset, parameters, threads)

    def load(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> Trainer:
        if workload.is_classic:
            return NumbaTrainer(workload, dataset, parameters, resolve(threads))
        return NumbaMlpTrainer(workload, dataset, parameters, resolve(threads))
