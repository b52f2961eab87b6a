"""The plain program."""

from __future__ import annotations

import math

import numpy as np
import pytest

import mnistbench.backends as registry
from mnistbench.datasets import Dataset
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Network, Workload


@pytest.mark.compiles
def test_losses_are_added_in_parts() -> None:
    """All images have the same loss, so that one by one each sum would be rounded in the same direction for long."""
    images = 200_000
    workload = Workload(Network((2, 2, 10)), images, 1, dtype="float64")
    dataset = Dataset.blank(workload.network, images)
    zero = Parameters.from_arrays(np.zeros_like(array) for array in Parameters.initial(workload.network, 0).arrays())
    with registry.get_backend("numba-plain").start(workload, dataset, zero, 1) as trainer:
        loss = trainer.advance(1).loss
    assert loss == pytest.approx(math.log(10), rel=1e-13)
