"""The places that a rank takes of each batch, against the reference's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnistbench.reference.mlp import Batches
from mnistbench.task.recipe import Recipe
from mnistbench.task.share import Share
from mnistbench.task.workload import Network, Workload

pytest.importorskip("jax")
batches: Any = pytest.importorskip("mnistbench.backends.jax.batches")


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 5), st.integers(0, 3))
def test_a_rank_takes_its_places_of_each_batch_in_order(images: int, size: int, ranks: int, epoch: int) -> None:
    workload = Workload(Network((1, 2)), images, recipe=Recipe(batch_size=size))
    per_epoch, sizes = workload.iterations_per_epoch, set()
    for rank in range(ranks):
        share = Share(rank, ranks, images)
        held = np.zeros((share.held, 1), np.uint8), np.zeros(share.held, np.int64)
        wanted = Batches(workload, *held, (1, 1), share)
        order, most = batches.order_of(share, workload, epoch)
        sizes.add(most)
        for batch, places in enumerate(order.reshape(per_epoch, most)):
            own = wanted.places(epoch * per_epoch + batch)
            assert np.array_equal(places[: len(own)], own)
            assert (places[len(own) :] == -1).all()
    assert len(sizes) == 1, "programs of ranks would differ"
    assert sizes.pop() <= workload.batch_size


def test_few_sizes_occur() -> None:
    """A size is a program that is compiled."""
    workload = Workload(Network((1, 2)), 59_000, recipe=Recipe(batch_size=128))
    found = {batches.order_of(Share(0, 4, 59_000), workload, epoch)[1] for epoch in range(20)}
    assert len(found) <= 2
    assert max(found) < 64
