"""Several ranks of CuPy's backends, on a stand-in that runs the kernels on the CPU: one step for all ranks' images."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mnistbench.agreement import Trajectory, check
from mnistbench.backends import Backend
from mnistbench.datasets import Dataset, Split
from mnistbench.exceptions import UnsupportedWorkload
from mnistbench.reference.mlp import State
from mnistbench.task.share import Share
from mnistbench.task.workload import DType, Workload
from tests.support import builders, options
from tests.support.cuda.host import needs_compiler
from tests.support.lockstep import Lockstep

pytestmark = needs_compiler

CATALOGUE = options.catalogue()
RANKS = (1, 2, 3)


def agrees(backend: Backend, ranks: int, task: Workload, dataset: Dataset) -> None:
    expected = Trajectory(task.with_dtype("float64"), dataset)
    found = check(Lockstep(backend, ranks), task, dataset, expected)
    assert found.passed, found.summary()


def some_ink() -> tuple[Workload, Dataset]:
    """Return the classic with pixels that are zero in the images of one rank or another."""
    data = builders.dataset(71, 13, 5, ink=0.5)
    images = data.train.images.copy()
    images[:40, 3] = images[24:, 7] = images[:, 11] = 0
    data = replace(data, train=Split(images, data.train.labels))
    return builders.workload(data), data


@pytest.mark.parametrize("ranks", RANKS)
def test_the_classic_agrees(cupy_backend: Backend, ranks: int, dtype: DType) -> None:
    task, data = some_ink()
    agrees(cupy_backend, ranks, task.with_dtype(dtype), data)


@pytest.mark.parametrize("ranks", RANKS[1:])
@pytest.mark.parametrize("name", ["cupy", "cupy-plain"])
def test_array_operations_agree(cupy_backend: Backend, name: str, ranks: int, dtype: DType) -> None:
    """The persistent kernel leaves many classes to them."""
    data = builders.dataset(37, 13, 300, labels=300)
    plain: Any = importlib.import_module("mnistbench.backends.cupy.plain")
    backend = cupy_backend if name == "cupy" else plain.CupyPlainBackend()
    agrees(backend, ranks, builders.workload(data, dtype=dtype), data)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("case", [*CATALOGUE][1::3])
def test_every_option_agrees(cupy_backend: Backend, case: str, ranks: int, dtype: DType) -> None:
    agrees(cupy_backend, ranks, CATALOGUE[case].with_dtype(dtype), options.DATA)


@pytest.mark.parametrize("ranks", RANKS)
def test_all_options_together_agree(cupy_backend: Backend, ranks: int, dtype: DType) -> None:
    agrees(cupy_backend, ranks, options.task(dtype, **options.EVERYTHING), options.DATA)


def test_a_state_goes_on_with_another_number_of_ranks(cupy_backend: Backend) -> None:
    task = options.task(**options.EVERYTHING)
    whole, first, second = (Lockstep(cupy_backend, n).start(task, options.DATA, builders.initial(task)) for n in RANKS)
    whole.advance(9)
    first.advance(5)
    second.restore(State(5, first.parameters(), first.moments()))
    second.advance(4)
    builders.assert_close(second.parameters(), whole.parameters(), 1e-12)


def test_a_rank_without_images_is_refused(cupy_backend: Backend) -> None:
    data = builders.dataset(2, 13, 5)
    task = builders.workload(data)
    part = data.part(Share(0, 3, 2))
    assert not len(part.train)
    with pytest.raises(UnsupportedWorkload, match="backend cupy needs an image for each rank; start fewer ranks"):
        cupy_backend.start(task, part, builders.initial(task))


def test_sums_are_on_the_host(cupy_backend: Backend) -> None:
    """Any MPI sends them, also one that knows nothing of devices."""
    task, data = some_ink()
    for own in (task, options.task(**options.EVERYTHING)):
        dataset = data if own is task else options.DATA
        part = dataset.part(Share(1, 2, len(dataset.train)))
        with cupy_backend.start(own, part, builders.initial(own)) as trainer:
            for sums in trainer.split(2):
                assert type(sums.gradients) is np.ndarray
                assert sums.gradients.flags.c_contiguous
