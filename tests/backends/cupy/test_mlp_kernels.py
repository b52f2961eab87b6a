"""The CUDA kernels of mlp.cu, on the CPU and on a GPU: random bits are the reference's, and planted faults are noticed.

On the CPU they run on ``emulation.h`` in tests/support/cuda.
"""

from __future__ import annotations

import subprocess
from typing import Any

import numpy as np
import pytest

import mnistbench.backends as registry
from mnistbench.backends import Backend
from mnistbench.backends.cupy.mlp import flat
from mnistbench.datasets import Dataset, load_data
from mnistbench.reference import counter, mlp
from mnistbench.task.recipe import ACTIVATIONS, OPTIMIZERS, Augmentation, Optimizer, Recipe
from mnistbench.task.workload import DType, Network, Workload
from tests.support import builders, options
from tests.support.cuda import host
from tests.support.cuda.host import needs_compiler
from tests.support.cuda.nvrtc import compile_for_gpu
from tests.support.options import DATA, EVERYTHING


def compare_batches(backend: Backend, workload: Workload, dataset: Dataset) -> None:
    """Compare the inputs, order and masks of every batch of two epochs with NumPy's, bit for bit."""
    trainer: Any = backend.start(workload, dataset, builders.initial(workload))
    wanted = mlp.Batches(workload, dataset.train.images, dataset.train.labels, dataset.image_shape)
    for iteration in (*range(2 * workload.iterations_per_epoch), 0):
        m, expected = trainer._batches.begin(iteration), wanted(iteration)
        step = trainer._batches.steps.row(iteration)
        X = trainer._batches.load(m, step)
        first = iteration % workload.iterations_per_epoch * workload.batch_size
        assert trainer._batches.places.get()[first : first + m].tolist() == wanted.places(iteration).tolist()
        assert np.array_equal(X.get().T, expected.X)
        masks = expected.masks or [np.ones((units, m)) for units in workload.network.hidden]
        assert all(map(np.array_equal, _masks(trainer, X, step), masks))


def _masks(trainer: Any, X: Any, step: Any) -> list[Any]:
    """Return each hidden layer's masks (units, m): ReLU's A where the weights are 0 and the biases 1."""
    trainer._values.fill(0)
    for b in trainer._bs:
        b.fill(1)
    m = len(X)
    Zs, As = [Z[:m] for Z in trainer._Zs], [A[:m] for A in trainer._As]
    trainer._forward([X, *As], Zs, step)
    for Z, A in zip(Zs, As, strict=False):
        np.testing.assert_array_equal(Z.get(), A.get())  # ReLU's slope is 1, masked likewise
    return [A.get().T for A in As]


def batches(hidden: tuple[int, ...] = (7, 6), **recipe: Any) -> Workload:
    """Return a task in batches of 16, unless ``recipe`` has another size."""
    return options.task(**{"hidden": hidden, "batch_size": 16, **recipe})


ALL_CHANGES = EVERYTHING["augmentation"]
RANDOM = {
    "batches": batches(),
    "turned": batches(augmentation=Augmentation(rotate=180)),
    "shifted": batches(augmentation=Augmentation(shift=64)),
    "bent": batches(augmentation=Augmentation(elastic_alpha=500, elastic_sigma=0.5), batch_size=None),
    "bent widely": batches(augmentation=Augmentation(elastic_alpha=500, elastic_sigma=16), batch_size=None),
    "all": batches(augmentation=ALL_CHANGES),
    "dropout": batches((7, 6, 1), dropout=(0.5, 0.1, 0.9)),
    "dropout of all units": batches(dropout=(1 - 1e-12, 0.0)),
    "a large seed": batches(augmentation=ALL_CHANGES, dropout=(0.5,), seed=2**70 + 2**40 + 5),
}


@needs_compiler
@pytest.mark.parametrize("name", RANDOM)
def test_batches_and_masks_are_the_references_bit_for_bit(cupy_backend: Backend, dtype: DType, name: str) -> None:
    compare_batches(cupy_backend, RANDOM[name].with_dtype(dtype), DATA)


@needs_compiler
def test_augmented_images_of_mnist_are_the_references_bit_for_bit(cupy_backend: Backend, dtype: DType) -> None:
    dataset = load_data(train_size=40, dev_size=1)
    network = Network((784, 7, 10))
    workload = Workload(network, 40, 4, dtype=dtype, recipe=Recipe(augmentation=Augmentation(2, 15, 34), batch_size=25))
    compare_batches(cupy_backend, workload, dataset)


def test_the_known_answer_of_threefry_is_the_counters() -> None:
    # Random123's kat_vectors for 20 rounds, so that both cannot be wrong in the same way.
    first, second = counter.threefry((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3))
    assert (int(first), int(second)) == (0xC4923A9C, 0x483DF7A0)


# Planted faults

FAULTS = {
    "a rotation": ("{13, 15, 26, 6}", "{13, 15, 26, 7}"),
    "parity": ("0x1BD11BDAu", "0x1BD11BDBu"),
    "rounds": ("group < 5", "group < 4"),
    "the gathered image": ("(long long)held[step->first + blockIdx.x] * pixels", "(long long)blockIdx.x * pixels"),
    "the distorted image": ("place = places[step->first + blockIdx.x]", "place = blockIdx.x"),
    "the angle": ("cosines[words.second >> 22]", "cosines[words.second >> 23]"),
    "rounding of a turn": ("- sine * x + 64) >> 7", "- sine * x) >> 7"),
    "the centre": ("128 * (width - 1)", "128 * width"),
    "the shift's half": ("(words.first & 0xFFFF) *", "(words.first >> 16) *"),
    "what is outside": ("column >= 0 && column < width", "column >= 0 && column <= width"),
    "rounding of a value": ("+ (1 << 15)) >> 16", ") >> 16"),
    "the field's byte": ("(int)(words.second >> 24)", "(int)(words.second & 255)"),
    "smoothing of rows": ("smooth_rows[row * height + k]", "smooth_rows[k * height + height - 1 - row]"),
    "smoothing of columns": ("smooth_columns[k * width + column]", "smooth_columns[k]"),
    "the bend": ("* bend >> 14", "* bend >> 13"),
    "a pair's words": ("k ? words.second : words.first", "k ? words.first : words.second"),
    "the mask's scale": (">= below ? scale", ">= below ? 1"),
    "the mask on the way back": ("slope(z, a) * mask", "slope(z, a)"),
    "the bias": ("Z[at] + bias[unit]", "Z[at]"),
    "a slope": ("1 - a * a", "1 - a"),
    "the image of a label": ("labels[held[step->first + image]]", "labels[step->first + image]"),
    "the batch of a label": ("labels[held[step->first + image]]", "labels[held[image]]"),
    "the batch of a mask": ("places[step->first + image], pair", "places[image], pair"),
    "the key of a layer": ("key(step, DROPOUT_KEY + layer)", "key(step, DROPOUT_KEY)"),
    "the label": ("c == label ? 1 : 0", "c == best ? 1 : 0"),
    "the loss": ("(double)of_label - (double)largest", "(double)of_label"),
    "a penalty of biases": ("i < weights ? mean", "true ? mean"),
    "a decay of biases": ("OPTIMIZER == ADAMW && i < weights", "OPTIMIZER == ADAMW"),
    "the correction": ("sqrt(square) * own.correction", "sqrt(square)"),
    "the batch's mean": ("sums[i] / images", "sums[i] / 16"),
    "the second moment's place": ("moments[length + i]", "moments[i]"),
}


@needs_compiler
@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_kernel_is_noticed(cupy_backend: Backend, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    right, wrong = FAULTS[fault]
    source = flat.source()
    assert source.count(right) == 1
    monkeypatch.setattr(flat, "source", lambda: source.replace(right, wrong))
    # Images are gathered only without augmentation.
    everything = options.task(**EVERYTHING | {"optimizer": Optimizer("adamw", weight_decay=0.1)})
    with pytest.raises(AssertionError):
        options.assert_agrees(cupy_backend, batches() if fault == "the gathered image" else everything)


def sanitized(source: str, sanitizer: str, too_few: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the augmentation's kernel with shared memory that is ``too_few`` bytes too small."""
    path = host.build_sanitized(source, options_of(options.task(), 8), sanitizer, runner="run_mlp.cpp")
    environment = {"TSAN_OPTIONS": "exitcode=66 halt_on_error=1"}
    return subprocess.run([str(path), str(too_few)], capture_output=True, text=True, env=environment, timeout=120)


def options_of(workload: Workload, threads: int) -> tuple[str, ...]:
    return tuple(f"-D{name}={value}" for name, value in flat.macros(workload, threads).items())


@pytest.mark.sanitizer
@needs_compiler
@pytest.mark.parametrize("left_out", [None, 0, 1])
def test_only_a_missing_barrier_makes_a_race(left_out: int | None) -> None:
    parts = flat.source().split("__syncthreads();")
    assert len(parts) == 3
    source = "".join(
        part + ("" if place in (left_out, len(parts) - 1) else "__syncthreads();") for place, part in enumerate(parts)
    )
    run = sanitized(source, "thread")
    assert run.returncode == (0 if left_out is None else 66), run.stderr[-2000:]
    assert ("data race" in run.stderr) == (left_out is not None)


@pytest.mark.sanitizer
@needs_compiler
@pytest.mark.parametrize("too_few", [0, 16])
def test_every_access_is_inside_an_array(too_few: int) -> None:
    run = sanitized(flat.source(), "address,undefined", too_few)
    assert (run.returncode == 0) == (too_few == 0), run.stderr[-2000:]
    assert ("heap-buffer-overflow" in run.stderr) == (too_few > 0)


# For GPUs


@pytest.mark.parametrize("architecture", ["sm_75", "sm_80", "sm_90"])
def test_the_source_builds_for_gpus(architecture: str, dtype: DType) -> None:
    every = [options.task(activation=name) for name in ACTIVATIONS]
    every += [options.task(optimizer=Optimizer(name)) for name in OPTIMIZERS]
    for one in every if architecture == "sm_80" else every[:1]:
        workload = one.with_dtype(dtype)
        log = compile_for_gpu(architecture, flat.source(), options_of(workload, 256)).log
        assert " warning" not in log
        assert log.count("0 bytes spill stores") == log.count("Used ") == 7


@pytest.mark.gpu
@pytest.mark.parametrize("name", RANDOM)
def test_batches_and_masks_on_the_gpu_are_the_references_bit_for_bit(dtype: DType, name: str) -> None:
    compare_batches(registry.get_backend("cupy"), RANDOM[name].with_dtype(dtype), DATA)
