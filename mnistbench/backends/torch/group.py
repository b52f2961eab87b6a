"""The ranks' processes in ``torch.distributed``: gloo adds up on CPUs, NCCL on GPUs."""

from __future__ import annotations

from typing import Any

import torch
from torch import distributed

from mnistbench import words
from mnistbench.backends.base import Carrier
from mnistbench.backends.torch import device
from mnistbench.exceptions import RankFailed


def connect(rank: int, size: int, address: str) -> Carrier:
    """Join the other ranks, as :meth:`mnistbench.backends.base.Backend.connect` has it."""
    on_gpu = device.device().type == "cuda"
    library = "nccl" if on_gpu else "gloo"
    distributed.init_process_group(library, init_method=f"tcp://{address}", rank=rank, world_size=size)
    # NCCL chooses among NVLink, PCIe and a network.
    return Carrier(f"{library} of PyTorch {torch.__version__}", "GPU links" if on_gpu else "TCP")


def disconnect() -> None:
    """Leave the other ranks."""
    distributed.destroy_process_group()


def size() -> int | None:
    """Return the number of ranks that are joined; None for a process by itself."""
    return int(distributed.get_world_size()) if distributed.is_initialized() else None


def add(vector: Any) -> Any:
    """Replace a vector by its sum over all ranks, the same bits on each, and return it.

    Raises:
        RankFailed: another rank has ended.
    """
    try:
        distributed.all_reduce(vector)
    except RuntimeError as error:
        raise RankFailed(f"another rank has ended: {words.exception(error)}") from error
    return vector


def scores(Z: Any, labels: Any) -> tuple[float, float]:
    """Return the sum of the cross-entropies of logits Z (m, c), and the number of hits, over the images of all ranks.

    A rank may have no images.
    """
    loss = torch.nn.functional.cross_entropy(Z.double(), labels, reduction="sum")
    hits = (Z.argmax(1) == labels).sum()
    loss, hits = add(torch.stack((loss, hits.double()))).tolist()
    return loss, hits
