"""Multilayer perceptrons with every option on CuPy: on a stand-in that runs the kernels on the CPU, and on a GPU."""

from __future__ import annotations

import importlib
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

import mnistbench.backends as registry
from mnistbench.backends import Backend, Trainer, trials
from mnistbench.datasets import Dataset
from mnistbench.exceptions import BackendUnavailable, UnsupportedWorkload
from mnistbench.reference.parameters import Parameters
from mnistbench.task.recipe import ACTIVATIONS, Augmentation, Optimizer, Recipe, Schedule
from mnistbench.task.workload import DType, Network, Workload
from tests.support import builders, options
from tests.support.builders import identical
from tests.support.cuda.host import GRAPH, SINGLY, StandIn, needs_compiler, settle

CASES = options.catalogue()
EVERYTHING = options.task(**options.EVERYTHING)


def started(backend: Backend, workload: Workload, dataset: Dataset = options.DATA) -> Trainer:
    return backend.start(workload, dataset, builders.initial(workload))


@needs_compiler
@pytest.mark.parametrize("case", CASES)
def test_every_option_agrees(cupy_backend: Backend, dtype: DType, case: str) -> None:
    if dtype == "float32" and not case.startswith("combination"):
        pytest.skip("the combinations have every value")
    options.assert_agrees(cupy_backend, CASES[case].with_dtype(dtype))


@needs_compiler
def test_gradients_predictions_and_descriptions_change_nothing(cupy_backend: Backend, dtype: DType) -> None:
    workload = EVERYTHING.with_dtype(dtype)
    with started(cupy_backend, workload) as trainer, started(cupy_backend, workload) as other:
        for iterations in (1, 2):  # up to the end of an epoch
            trainer.advance(iterations)
            before = trainer.parameters()
            assert identical(trainer.gradients(), trainer.gradients())
            trainer.predict(options.DATA.dev.images)
            trainer.describe()
            assert identical(trainer.parameters(), before)
        metrics = trainer.advance(2)
        assert metrics == other.advance(5)
        assert identical(trainer.parameters(), other.parameters())
        trainer.reset(builders.initial(workload))
        assert trainer.advance(5) == metrics
        assert identical(trainer.parameters(), other.parameters())


@needs_compiler
def test_advance_copies_two_numbers_to_the_host(cupy_backend: Backend, cupy: StandIn) -> None:
    with started(cupy_backend, EVERYTHING) as trainer:
        before = cupy.copies
        trainer.advance(7)
        assert cupy.copies == before + 1


@needs_compiler
@pytest.mark.parametrize(
    ("case", "passes_of_bytes"), [("hidden two", 0), ("batch_size 16", 1), ("augmentation rotate", 1)]
)
def test_it_describes_the_gpu_and_what_it_reads(
    cupy_backend: Backend, dtype: DType, case: str, passes_of_bytes: int
) -> None:
    workload = CASES[case].with_dtype(dtype)
    cupy_backend.warm_up(workload)
    with started(cupy_backend, workload) as trainer:
        trainer.advance(2)
        description = trainer.describe()
    operations = "cuBLAS products, kernels for what is random or elementwise"
    assert description.kernel == f"operations launched one by one: {operations}"
    assert description.failed is None
    assert description.bytes_read == workload.image_bytes * (2 * workload.itemsize + passes_of_bytes)
    assert (description.device, description.skips, description.threads) == ("stand-in", None, 1)
    assert description.gpu is not None
    assert (description.gpu["device_seconds"], description.gpu["device_iterations"]) == (0.002, 2)


@needs_compiler
def test_a_weight_that_is_not_finite_shows_in_the_loss(cupy_backend: Backend, dtype: DType) -> None:
    for activation in ACTIVATIONS:
        workload = options.task(activation=activation).with_dtype(dtype)
        initial = Parameters.initial(workload.network, 0)
        initial.weights[0][0, 0] = np.nan
        with cupy_backend.start(workload, options.DATA, initial) as trainer:
            assert not np.isfinite(trainer.advance(1).loss)


@needs_compiler
def test_elastic_distortion_of_images_too_large_for_shared_memory_is_refused(
    cupy_backend: Backend, cupy: StandIn
) -> None:
    dataset = replace(builders.dataset(3, 4_200, 2), image_shape=(60, 70))
    for elastic, bytes_of_a_block in ((0, 1_000), (30, 70_000)):
        cupy.attributes["MaxSharedMemoryPerBlockOptin"] = bytes_of_a_block
        change = Augmentation(shift=1, elastic_alpha=elastic)
        workload = Workload(Network((4_200, 2, 2)), 3, 1, recipe=Recipe(augmentation=change))
        with started(cupy_backend, workload, dataset) as trainer:
            trainer.advance(1)
    cupy.attributes["MaxSharedMemoryPerBlockOptin"] = 65_536
    with pytest.raises(BackendUnavailable) as caught:
        started(cupy_backend, workload, dataset)
    assert caught.value.reason == (
        "the elastic distortion of 4,200 pixels needs 65 KiB of a block's shared memory, of which this GPU has 64"
    )


@needs_compiler
@pytest.mark.parametrize("method", ["start", "gradients", "advance"])
def test_memory_that_runs_out_is_said_in_one_line(
    cupy_backend: Backend, cupy: StandIn, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def full(*arguments: Any, **names: Any) -> Any:
        raise cupy.cuda.memory.OutOfMemoryError

    if method == "start":
        cupy.limit = 1_500
        with pytest.raises(BackendUnavailable, match="37 images in float64 do not fit into the GPU's memory"):
            started(cupy_backend, options.task(batch_size=16))
        assert cupy.held_when_freed == [0]
        return
    with started(cupy_backend, options.task(batch_size=16)) as trainer:
        monkeypatch.setattr(cupy, "matmul", full)
        calls: dict[str, Any] = {
            "gradients": trainer.gradients,
            "advance": lambda: trainer.advance(1),
        }
        with pytest.raises(BackendUnavailable, match="37 images in float64 do not fit into the GPU's memory"):
            calls[method]()


@needs_compiler
def test_a_closed_trainer_holds_no_arrays(cupy_backend: Backend, cupy: StandIn) -> None:
    with started(cupy_backend, EVERYTHING):
        pass
    assert cupy.held_when_freed == [0]


@pytest.mark.usefixtures("cupy")
def test_the_array_operations_refuse_two_hidden_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    # Looking for backends would import those of CuPy, and keep them on the stand-in.
    monkeypatch.setattr(registry, "list_backends", lambda usable: ["numpy"])
    plain: Any = importlib.import_module("mnistbench.backends.cupy.plain")
    with pytest.raises(UnsupportedWorkload, match="cupy-plain does not implement 2 hidden layers"):
        started(plain.CupyPlainBackend(), options.task(hidden=(7, 6)))


# On a GPU


@pytest.mark.gpu
def test_a_large_network_agrees_on_the_gpu(dtype: DType, small_dataset: Dataset) -> None:
    # Not Adam: it divides by the mean square, and among 200,000 gradients some are mere rounding errors.
    recipe = replace(EVERYTHING.recipe, batch_size=128, optimizer=Optimizer("nesterov"))
    network = Network((784, 257, 128, 64, 10), "leaky-relu")
    options.assert_agrees(
        registry.get_backend("cupy"), Workload(network, 300, 9, 0.001, dtype, recipe=recipe), small_dataset
    )


@pytest.mark.gpu
@pytest.mark.parametrize("way", [SINGLY, GRAPH])
def test_every_way_agrees_on_the_gpu(monkeypatch: pytest.MonkeyPatch, dtype: DType, way: str) -> None:
    backend, workload = registry.get_backend("cupy"), EVERYTHING.with_dtype(dtype)
    settle(way, monkeypatch)
    with trials.session({}):
        with started(backend, workload) as trainer:
            description = trainer.describe()
        assert description.failed is None
        assert description.kernel.startswith(f"{way}: ")
        options.assert_agrees(backend, workload)


def compare_launches(backend: Backend, dtype: DType, iterations: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare the bits of graphs with those of the same operations launched singly, in one call of ``advance``."""
    settle(GRAPH, monkeypatch)
    steps: Any = importlib.import_module("mnistbench.backends.cupy.mlp.steps")
    monkeypatch.setattr(steps.Steps, "capacity", 2)  # of the three iterations of an epoch
    # Rates that fall later, so that the last iterations still change the parameters.
    changed = options.EVERYTHING | {"schedule": Schedule("step", every=30, factor=0.5)}
    workload = options.task(dtype, **changed)
    with trials.session({}), started(backend, workload) as trainer, started(backend, workload) as other:
        assert trainer.describe().failed is None
        singly: Any = importlib.import_module("mnistbench.backends.cupy.mlp.trainer")
        monkeypatch.setattr(other, "_run", partial(singly.MlpTrainer._run, other))
        assert trainer.advance(iterations) == other.advance(iterations)
        assert identical(trainer.parameters(), other.parameters())
        assert all(map(identical, trainer.moments(), other.moments()))


@needs_compiler
def test_graphs_repeat_their_operations(cupy_backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    compare_launches(cupy_backend, "float64", 20, monkeypatch)


@pytest.mark.gpu
def test_graphs_repeat_their_operations_on_the_gpu(monkeypatch: pytest.MonkeyPatch, dtype: DType) -> None:
    compare_launches(registry.get_backend("cupy"), dtype, 400, monkeypatch)


@pytest.mark.gpu
def test_the_gpu_repeats_itself_bit_for_bit(dtype: DType) -> None:
    runs = []
    for _ in range(2):
        with started(registry.get_backend("cupy"), EVERYTHING.with_dtype(dtype)) as trainer:
            runs.append((trainer.advance(9), trainer.parameters()))
    assert runs[0][0] == runs[1][0]
    assert identical(runs[0][1], runs[1][1])
