"""Every backend that can run here, in every dtype, by its interface alone: the numbers are the reference's."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import cache
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_info

import mnistbench
import mnistbench.backends as registry
from mnistbench import reference
from mnistbench.agreement import Trajectory, check
from mnistbench.backends import Backend, Description, Metrics, Trainer
from mnistbench.datasets import Dataset, Split, load_data
from mnistbench.exceptions import BackendUnavailable, OptionError, UnknownBackend
from mnistbench.reference.parameters import Array, Parameters
from mnistbench.task.recipe import Recipe
from mnistbench.task.workload import DType, Workload
from tests.support import builders
from tests.support.builders import identical
from tests.support.paths import ROOT

# Training images, pixels, hidden units, classes, and options of the data. Numba's kernel is compiled for its tiles:
# these sizes need three pairs of them.
SHAPES: dict[str, tuple[int, int, int, int, dict[str, Any]]] = {
    "odd sizes": (37, 13, 7, 5, {}),
    "one image": (1, 13, 7, 5, {"ink": 1.0}),
    "one pixel": (37, 1, 7, 5, {"ink": 0.5}),
    "one hidden unit": (37, 13, 1, 2, {}),
    "one class": (37, 13, 2, 1, {}),
    "two of everything": (2, 2, 2, 2, {"ink": 1.0}),
    "70 hidden units": (37, 13, 70, 9, {}),
    "290 classes": (37, 13, 9, 290, {}),
    "labels without the last classes": (37, 13, 7, 5, {"labels": 3}),
    "blank images": (37, 13, 7, 5, {"ink": 0.0}),
    "dense noise": (67, 784, 10, 10, {"ink": 1.0}),
    "the classic's sizes": (1031, 784, 10, 10, {}),
}


@cache
def trajectory(shape: str) -> Trajectory:
    """Compute the reference's trajectory of 12 iterations on these sizes, once for all backends."""
    images, pixels, hidden, classes, kind = SHAPES[shape]
    data = builders.dataset(images, pixels, classes, **kind)
    return Trajectory(builders.workload(data, hidden), data)


@pytest.fixture
def backend(backend_name: str) -> Backend:
    return registry.get_backend(backend_name)


@pytest.fixture
def data() -> Dataset:
    return builders.dataset(37, 13, 5)


@pytest.fixture
def task(data: Dataset, dtype: DType) -> Workload:
    return builders.workload(data, dtype=dtype)


Start = Callable[..., Trainer]


@pytest.fixture
def start(backend: Backend, data: Dataset, task: Workload) -> Start:
    """Return a function that starts a trainer on ``data``, by default from the initial parameters."""

    def started(parameters: Parameters | None = None, threads: int | None = None) -> Trainer:
        return backend.start(task, data, parameters or builders.initial(task), threads)

    return started


def require(backend: Backend, threads: int | None) -> None:
    """Skip the test if the backend takes no such number of threads in this process; JAX's pool has one number."""
    dataset = builders.dataset(8, 5, 3)
    task = builders.workload(dataset)
    try:
        backend.start(task, dataset, builders.initial(task), threads).close()
    except OptionError as error:
        pytest.skip(str(error))


def after(trainer: Trainer, *chunks: int) -> Parameters:
    """Advance by each number of iterations; return the parameters."""
    with trainer:
        for iterations in chunks:
            trainer.advance(iterations)
        return trainer.parameters()


def arrays(parameters: Parameters) -> tuple[Array, Array, Array, Array]:
    """Return W1, b1, W2, b2 in float64."""
    W1, b1, W2, b2 = (array.astype(np.float64) for _, array in parameters.named())
    return W1, b1, W2, b2


def reference_loss(parameters: Parameters, split: Split) -> float:
    """Compute the mean cross-entropy in float64."""
    Z2 = reference.forward_prop(*arrays(parameters), reference.scale_images(split.images))[2]
    return reference.cross_entropy(Z2, split.labels)


def reference_predictions(parameters: Parameters, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    return reference.make_predictions(reference.scale_images(images), *arrays(parameters))


# The same numbers as the reference


@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_the_reference_along_the_trajectory(backend: Backend, dtype: DType, shape: str) -> None:
    expected = trajectory(shape)
    found = check(backend, expected.workload.with_dtype(dtype), expected.dataset, expected)
    assert found.passed, found.summary()


@pytest.mark.parametrize("shape", ["odd sizes", "70 hidden units"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_agrees_on_any_number_of_threads(backend: Backend, dtype: DType, shape: str, threads: int) -> None:
    expected = trajectory(shape)
    require(backend, threads)
    found = check(backend, expected.workload.with_dtype(dtype), expected.dataset, expected, threads)
    assert found.passed, found.summary()


def test_three_iterations_equal_the_equations(start: Start, data: Dataset, task: Workload) -> None:
    """Compare without the agreement module, which could be wrong itself."""
    tolerance = 50 * float(np.finfo(task.dtype).eps)
    X, Y = reference.scale_images(data.train.images), data.train.labels
    W1, b1, W2, b2 = arrays(builders.initial(task))
    with start() as trainer:
        for _ in range(3):
            Z1, A1, Z2, A2 = reference.forward_prop(W1, b1, W2, b2, X)
            dW1, db1, dW2, db2 = reference.backward_prop(Z1, A1, Z2, A2, W1, W2, X, Y)
            expected = Parameters([dW1, dW2], [db1, db2])
            for (name, gradient), (_, wanted) in zip(trainer.gradients().named(), expected.named(), strict=True):
                np.testing.assert_allclose(gradient, wanted, rtol=tolerance, atol=tolerance, err_msg=f"d{name}")
            metrics = trainer.advance(1)
            assert metrics.loss == pytest.approx(reference.cross_entropy(Z2, Y), rel=tolerance)
            assert metrics.accuracy == reference.get_accuracy(reference.get_predictions(A2), Y)
            W1, b1, W2, b2 = reference.update_params(W1, b1, W2, b2, dW1, db1, dW2, db2, task.learning_rate)
            for (name, array), wanted in zip(trainer.parameters().named(), (W1, b1, W2, b2), strict=True):
                np.testing.assert_allclose(array, wanted, rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("iterations", [1, 2, 7])
def test_metrics_describe_the_state_before_the_last_update(
    start: Start, data: Dataset, task: Workload, iterations: int
) -> None:
    with start() as trainer:
        if iterations > 1:
            trainer.advance(iterations - 1)
        before = trainer.parameters()
        trainer.reset(builders.initial(task))
        metrics = trainer.advance(iterations)
        later = trainer.parameters()
    assert (type(metrics.loss), type(metrics.accuracy)) == (float, float)
    tolerance = 50 * float(np.finfo(task.dtype).eps)
    assert metrics.loss == pytest.approx(reference_loss(before, data.train), rel=tolerance)
    assert metrics.loss - reference_loss(later, data.train) > 100 * tolerance
    hits = reference_predictions(before, data.train.images) == data.train.labels
    assert metrics.accuracy == pytest.approx(float(np.mean(hits)), abs=1e-12)


def test_predictions_equal_the_references(start: Start, data: Dataset) -> None:
    rng = np.random.default_rng(1)
    with start() as trainer:
        trainer.advance(5)
        parameters = trainer.parameters()
        for count in (0, 1, 2, 37, 1000):
            images = rng.integers(0, 256, (count, data.pixels), dtype=np.uint8)
            found = trainer.predict(images)
            assert found.dtype == np.int64
            assert found.tolist() == reference_predictions(parameters, images).tolist()
        assert len(set(found.tolist())) > 1
        assert trainer.predict(images[::-3]).tolist() == found[::-3].tolist()  # whatever the strides
        assert identical(trainer.parameters(), parameters)


def test_a_tie_is_predicted_as_the_first_class(backend: Backend, data: Dataset, task: Workload) -> None:
    parameters = builders.initial(task)
    for array in (*parameters.weights, *parameters.biases):
        array[:] = 0
    parameters.biases[1][2:4] = 1
    with backend.start(task, data, parameters) as trainer:
        assert set(trainer.predict(data.dev.images).tolist()) == {2}
        assert trainer.advance(1).accuracy == pytest.approx(float(np.mean(data.train.labels == 2)), abs=1e-12)


def test_logits_beyond_the_range_of_exp_give_the_references_numbers(
    backend: Backend, data: Dataset, task: Workload
) -> None:
    parameters = builders.initial(task)
    parameters.weights[1][:] *= 1e4
    parameters.biases[1][1:4:2] = [[-3e3], [3e3]]
    W1, b1, W2, b2 = arrays(parameters)
    X, Y = reference.scale_images(data.train.images), data.train.labels
    Z1, A1, Z2, A2 = reference.forward_prop(W1, b1, W2, b2, X)
    assert float(Z2.max()) > 2000
    assert float(Z2.min()) < -2000
    tolerance = 50 * float(np.finfo(task.dtype).eps)
    with backend.start(task, data, parameters) as trainer:
        found = trainer.gradients()
        assert trainer.advance(1).loss == pytest.approx(reference.cross_entropy(Z2, Y), rel=tolerance)
    dW1, db1, dW2, db2 = reference.backward_prop(Z1, A1, Z2, A2, W1, W2, X, Y)
    for (name, gradient), wanted in zip(found.named(), (dW1, db1, dW2, db2), strict=True):
        # The logits are off by eps of their own size, and the probabilities by as much.
        atol = tolerance * float(np.abs(Z2).max() * np.abs(wanted).max())
        np.testing.assert_allclose(gradient, wanted, rtol=0, atol=atol, err_msg=f"d{name}")


@pytest.mark.parametrize("name", ["W1", "b1", "W2", "b2"])
def test_nan_is_not_hidden(backend: Backend, dtype: DType, name: str) -> None:
    """A ReLU that takes NaN for a negative number would yield a plausible loss."""
    data = builders.dataset(37, 13, 5, ink=1.0)
    task = builders.workload(data, dtype=dtype)
    parameters = builders.initial(task)
    dict(parameters.named())[name][-1, -1] = np.nan
    with backend.start(task, data, parameters) as trainer:
        assert math.isnan(trainer.advance(1).loss)


def test_a_diverging_run_has_a_loss_that_is_not_finite(backend: Backend, data: Dataset, dtype: DType) -> None:
    learning_rate = {"float32": 1e20, "float64": 1e160}[dtype]
    task = builders.workload(data, dtype=dtype, learning_rate=learning_rate)
    with backend.start(task, data, builders.initial(task)) as trainer:
        finite = [math.isfinite(trainer.advance(1).loss) and trainer.parameters().is_finite() for _ in range(6)]
    assert finite[0]
    assert not finite[-1]


# Reproducibility and state


@pytest.mark.parametrize("threads", [1, 2, 3, None])
def test_a_repeated_run_is_identical(backend: Backend, start: Start, threads: int | None) -> None:
    require(backend, threads)
    assert identical(after(start(threads=threads), 10), after(start(threads=threads), 10))


def test_advancing_in_parts_is_identical(start: Start, task: Workload) -> None:
    with start() as whole, start() as parts:
        expected = whole.advance(10)
        found = [parts.advance(iterations) for iterations in (1, 2, 3, 4)]
        assert found[-1] == expected
        assert identical(parts.parameters(), whole.parameters())


def test_reset_starts_again_from_any_parameters(start: Start, task: Workload) -> None:
    initial = builders.initial(task)
    with start() as trainer:
        first = [trainer.advance(1), trainer.advance(4)]
        gradients, parameters = trainer.gradients(), trainer.parameters()
        trainer.reset(initial)
        assert identical(trainer.parameters(), initial)
        assert [trainer.advance(1), trainer.advance(4)] == first
        assert identical(trainer.gradients(), gradients)
        assert identical(trainer.parameters(), parameters)
        other = Parameters.initial(task.network, seed=99).astype(task.dtype)
        trainer.reset(other)
        trainer.advance(3)
        assert identical(trainer.parameters(), after(start(other), 3))


def test_parameters_and_gradients_are_copies(start: Start, task: Workload) -> None:
    with start() as trainer:
        trainer.advance(3)
        for hand_out in (trainer.parameters, trainer.gradients):
            kept, spoilt = hand_out(), hand_out()
            assert spoilt.network == task.network
            assert {array.dtype for _, array in spoilt.named()} == {np.dtype(task.dtype)}
            for _, array in spoilt.named():
                array.fill(np.nan)
            assert identical(hand_out(), kept)
        before = trainer.parameters(), trainer.gradients()
        copies = before[0].astype(task.dtype), before[1].astype(task.dtype)
        trainer.advance(3)
        assert not identical(trainer.parameters(), copies[0])
        assert identical(before[0], copies[0])
        assert identical(before[1], copies[1])
        assert identical(trainer.parameters(), after(start(), 6))


def test_gradients_and_predictions_do_not_train(start: Start, data: Dataset) -> None:
    with start() as trainer, start() as plain:
        trainer.gradients()
        trainer.predict(data.dev.images)
        assert identical(trainer.parameters(), plain.parameters())
        assert trainer.advance(2) == plain.advance(2)
        trainer.predict(data.dev.images)
        trainer.gradients()
        assert identical(trainer.parameters(), plain.parameters())
        assert trainer.advance(1) == plain.advance(1)


def test_the_callers_parameters_and_data_do_not_change(start: Start, data: Dataset, task: Workload) -> None:
    given = builders.initial(task)
    kept = given.astype(task.dtype)
    digest = data.sha256
    with start(given) as trainer:
        trainer.advance(3)
        trainer.reset(given)
        trainer.advance(3)
        trainer.gradients()
        trainer.predict(data.dev.images)
    assert identical(given, kept)
    assert Dataset("", data.image_shape, data.classes, data.train, data.dev, None).sha256 == digest


def test_the_initial_parameters_are_copied(start: Start, task: Workload) -> None:
    given = builders.initial(task)
    with start(given) as trainer:
        for _, array in given.named():
            array.fill(0)
        assert identical(trainer.parameters(), builders.initial(task))
        again = builders.initial(task)
        trainer.reset(again)
        for _, array in again.named():
            array.fill(0)
        trainer.advance(4)
        assert identical(trainer.parameters(), after(start(), 4))


@pytest.mark.parametrize("given", ["float16", "float32", "float64"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_parameters_come_in_any_float_dtype_and_layout(start: Start, task: Workload, given: str, order: Any) -> None:
    plain = Parameters.initial(task.network, 0).astype(given)
    laid_out = Parameters(
        [np.asarray(array, order=order) for array in plain.weights],
        [np.repeat(array, 2, axis=1)[:, ::2] for array in plain.biases],
    )
    with start(laid_out) as trainer:
        assert identical(trainer.parameters(), plain.astype(task.dtype))
        trainer.reset(laid_out)
        assert identical(trainer.parameters(), plain.astype(task.dtype))
        trainer.advance(3)
        tolerance = 50 * float(np.finfo(task.dtype).eps)
        expected = after(start(plain.astype(task.dtype)), 3)
        for (_, array), (_, wanted) in zip(trainer.parameters().named(), expected.named(), strict=True):
            np.testing.assert_allclose(array, wanted, rtol=tolerance, atol=tolerance)


def test_a_learning_rate_of_numpys_changes_nothing(
    start: Start, backend: Backend, data: Dataset, task: Workload
) -> None:
    """A float64 scalar, such as from np.linspace, must not make float32 arrays float64."""
    given = replace(task, learning_rate=np.float64(task.learning_rate))
    found = after(backend.start(given, data, builders.initial(task)), 3)
    assert identical(found, after(start(), 3))


def test_a_read_only_data_set_can_be_trained_on(backend: Backend, data: Dataset) -> None:
    """Such as from a memory map or a pandas table; in one dtype, as some backends compile for it anew."""
    for split in (data.train, data.dev):
        split.images.flags.writeable = False
        split.labels.flags.writeable = False
    task = builders.workload(data, dtype="float32")
    with backend.start(task, data, builders.initial(task)) as trainer:
        trainer.advance(2)
        assert trainer.gradients().network == task.network
        assert trainer.predict(data.dev.images).shape == (23,)


# Several trainers at once


def history(trainer: Trainer) -> list[Metrics]:
    return [trainer.advance(1) for _ in range(20)]


def test_two_trainers_do_not_disturb_each_other(backend: Backend, task: Workload) -> None:
    sets = [builders.dataset(37, 13, 5, seed=1), builders.dataset(61, 17, 9, seed=2)]
    tasks = [builders.workload(sets[0], 7, dtype=task.dtype), builders.workload(sets[1], 19, dtype=task.dtype)]
    pairs = list(zip(tasks, sets, strict=True))
    alone = [history(backend.start(own, data, builders.initial(own))) for own, data in pairs]
    first, second = (backend.start(own, data, builders.initial(own)) for own, data in pairs)
    together = [(first.advance(1), second.advance(1)) for _ in range(20)]
    assert [a for a, _ in together] == alone[0]
    assert [b for _, b in together] == alone[1]


def test_trainers_in_two_threads_do_not_disturb_each_other(backend: Backend, dtype: DType) -> None:
    data = builders.dataset(503, 97, 5)
    task = builders.workload(data, dtype=dtype)
    inits = [Parameters.initial(task.network, seed) for seed in (1, 2)]
    alone = [history(backend.start(task, data, parameters)) for parameters in inits]
    barrier = Barrier(2)

    def run(parameters: Parameters) -> list[Metrics]:
        with backend.start(task, data, parameters) as trainer:
            barrier.wait(timeout=60)
            return history(trainer)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, inits)) == alone


TWO_THREADS = """
import sys
from concurrent.futures import ThreadPoolExecutor
import mnistbench.backends as registry
from tests.support import builders
data = builders.dataset(503, 97, 5)
task = builders.workload(data)
def run(_):
    with registry.get_backend(sys.argv[1]).start(task, data, builders.initial(task), 2) as trainer:
        assert trainer.describe().kernel  # before anything has run in this process
        return [trainer.advance(1) for _ in range(50)]
with ThreadPoolExecutor(2) as pool:
    first, second = pool.map(run, range(2))
print(first == second)
"""


@pytest.mark.process
@pytest.mark.compiles
@pytest.mark.parametrize("name", ["numba", "numba-plain"])
def test_two_threads_may_use_numbas_workqueue_layer(name: str) -> None:
    """Numba ends the process when two threads enter it at once."""
    environment = os.environ | {"NUMBA_THREADING_LAYER": "workqueue", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", TWO_THREADS, name]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.stdout == "True\n", run.stderr


def blas_threads() -> dict[str, int]:
    """Return the thread pool sizes of the BLAS libraries that this process has loaded."""
    return {pool["filepath"]: pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.mark.parametrize("backend_name", ["numpy", "numba", "numba-plain"])
def test_a_limit_of_threads_is_restored(backend: Backend, dtype: DType) -> None:
    data = builders.dataset(1009, 97, 5)
    task = builders.workload(data, dtype=dtype)
    before = blas_threads()
    barrier = Barrier(2)

    def run_together(threads: int) -> None:
        barrier.wait(timeout=60)
        run(threads)

    def run(threads: int) -> None:
        with backend.start(task, data, builders.initial(task), threads) as trainer:
            for _ in range(100):
                trainer.advance(1)
            trainer.gradients()
            trainer.predict(data.dev.images)
            trainer.describe()

    run(1)
    assert blas_threads() | before == blas_threads()  # another library may have been loaded
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run_together, [1, 3]))
    assert blas_threads() | before == blas_threads()


# Descriptions and refusals


@pytest.mark.parametrize("threads", [1, 2, None])
def test_descriptions_can_be_written_as_json(backend: Backend, start: Start, threads: int | None) -> None:
    require(backend, threads)
    with start(threads=threads) as trainer:
        trainer.advance(1)
        found = trainer.describe()
    assert Description(**json.loads(json.dumps(asdict(found), allow_nan=False))) == found
    assert found.device
    assert found.kernel
    assert found.versions
    assert all(isinstance(word, str) for pair in found.versions.items() for word in pair)
    assert found.skips is None or isinstance(found.skips, str)
    assert type(found.threads) is int
    assert 1 <= found.threads <= (threads or 4096)


def test_the_bytes_of_images_that_an_iteration_reads_are_counted(backend: Backend, dtype: DType) -> None:
    """At least one bit per pixel, at most four passes over all pixels in float64; proportional to the images."""
    counts = []
    for images in (640, 1280):
        data = builders.dataset(images, 97, 5, ink=1.0)
        task = builders.workload(data, dtype=dtype)
        with backend.start(task, data, builders.initial(task)) as trainer:
            trainer.advance(1)
            counts.append(trainer.describe().bytes_read or 0)
    assert [type(count) for count in counts] == [int, int]
    assert task.image_bytes // 8 < counts[1] <= 4 * 8 * task.image_bytes
    assert counts[1] / counts[0] == pytest.approx(2, rel=0.1)


def fail_within(trainer: Trainer) -> None:
    with trainer as entered:
        assert entered is trainer
        raise KeyError("mine")


def test_leaving_a_trainer_lets_an_error_through(start: Start) -> None:
    with pytest.raises(KeyError, match="mine"):
        fail_within(start())


@pytest.mark.parametrize("name", ["numba-plain", "cupy-plain"])
def test_the_plain_backends_do_the_classic_only(name: str, task: Workload) -> None:
    found = registry.availability(name)
    if not found.usable:
        pytest.skip(f"{name} is unavailable: {found.reason}")
    plain = registry.get_backend(name)
    assert plain.unsupported(task) is None
    assert plain.unsupported(replace(task, recipe=Recipe(l2=0.1))) == "L2 regularisation"
    assert plain.unsupported(replace(task, network=replace(task.network, activation="tanh"))) == "the activation tanh"


def test_available_backends_name_their_device(backend: Backend) -> None:
    found = backend.availability()
    assert found.usable
    assert found.version
    assert found.device
    assert found.reason is None


# The registry


def test_the_registry_lists_every_backend_once() -> None:
    names = registry.list_backends()
    assert names[:4] == ["numpy", "numba", "numba-plain", "cupy"]
    assert len(set(names)) == len(names)
    assert registry.list_backends(usable=True) == [name for name in names if registry.availability(name).usable]
    assert {"numpy", "numba", "numba-plain"} <= set(registry.list_backends(usable=True))


def test_a_backend_is_imported_once(backend: Backend, backend_name: str) -> None:
    assert registry.get_backend(backend_name) is backend
    assert registry.import_seconds(backend_name) == registry.import_seconds(backend_name) > 0


@pytest.mark.parametrize("look_up", [registry.get_backend, registry.availability, registry.import_seconds])
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("numbaa", "did you mean numba?"),
        ("Numpy", "did you mean numpy?"),
        ("cuda", "choose from numpy, numba, numba-plain, cupy"),
        ("", "choose from numpy, numba, numba-plain, cupy"),
    ],
)
def test_an_unknown_backend_is_refused_with_a_suggestion(look_up: Callable[[str], Any], name: str, hint: str) -> None:
    with pytest.raises(UnknownBackend) as caught:
        look_up(name)
    assert str(caught.value).startswith(f"backend {name!r} does not exist; {hint}")


def test_unavailable_backends_have_a_reason() -> None:
    for name in registry.list_backends():
        if not (found := registry.availability(name)).usable:
            assert found.reason
            with pytest.raises(BackendUnavailable, match=f"^backend {name} is unavailable: "):
                registry.get_backend(name)


# The classic workload

# Iteration to the lowest and highest training accuracy of 20 seeds, with a margin.
LEARNING_CURVE = {0: (0.05, 0.15), 50: (0.36, 0.60), 100: (0.54, 0.71), 200: (0.69, 0.79), 500: (0.82, 0.86)}


@pytest.mark.slow
def test_the_learning_curve_of_the_classic_workload(request: pytest.FixtureRequest) -> None:
    for seed in range(3) if request.config.getoption("--all-options") else (0,):
        result = mnistbench.train(load_data(seed=seed), seed=seed, every=50)
        curve = {metrics.iteration: metrics.accuracy for metrics in result.metrics}
        for iteration, (lowest, highest) in LEARNING_CURVE.items():
            assert lowest <= curve[iteration] <= highest, f"seed {seed}, iteration {iteration}"
        assert result.dev_accuracy is not None
        assert 0.82 <= result.dev_accuracy <= 0.87, f"seed {seed}"
