"""The tutorial's functions against numbers worked out by hand, its gradients against PyTorch's.

Finite differences check the gradients in ``test_mlp.py``, whose bits are those of these functions.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from mnistbench import reference
from mnistbench.datasets import Dataset
from mnistbench.reference import Array, Labels
from mnistbench.task.workload import DType

sizes = st.integers(1, 6)
seeds = st.integers(0, 2**32 - 1)
logits = st.one_of(
    hnp.arrays(np.float64, st.tuples(sizes, sizes), elements=st.floats(-1e4, 1e4)),
    hnp.arrays(np.float32, st.tuples(sizes, sizes), elements=st.floats(-1e4, 1e4, width=32)),
)

Problem = tuple[list[Array], Array, Labels]


def problem(n: int, h: int, c: int, m: int, seed: int, dtype: str = "float64") -> Problem:
    """Draw W1, b1, W2, b2, X and Y for n inputs, h hidden units, c classes and m images."""
    rng = np.random.default_rng(seed)
    arrays = [rng.uniform(-1, 1, shape).astype(dtype) for shape in ((h, n), (h, 1), (c, h), (c, 1))]
    return arrays, rng.random((n, m)).astype(dtype), rng.integers(0, c, m)


def gradients(arrays: list[Array], X: Array, Y: Labels) -> tuple[Array, Array, Array, Array]:
    """Compute dW1, db1, dW2, db2 at these parameters."""
    W1, b1, W2, b2 = arrays
    Z1, A1, Z2, A2 = reference.forward_prop(W1, b1, W2, b2, X)
    return reference.backward_prop(Z1, A1, Z2, A2, W1, W2, X, Y)


def loss(arrays: list[Array], X: Array, Y: Labels) -> float:
    """Compute the mean cross-entropy at these parameters."""
    W1, b1, W2, b2 = arrays
    return reference.cross_entropy(reference.forward_prop(W1, b1, W2, b2, X)[2], Y)


# The tutorial's interface


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (reference.init_params, ""),
        (reference.ReLU, "Z"),
        (reference.ReLU_deriv, "Z"),
        (reference.softmax, "Z"),
        (reference.one_hot, "Y"),
        (reference.forward_prop, "W1 b1 W2 b2 X"),
        (reference.backward_prop, "Z1 A1 Z2 A2 W1 W2 X Y"),
        (reference.update_params, "W1 b1 W2 b2 dW1 db1 dW2 db2 alpha"),
        (reference.get_predictions, "A2"),
        (reference.get_accuracy, "predictions Y"),
        (reference.gradient_descent, "X Y alpha iterations"),
        (reference.make_predictions, "X W1 b1 W2 b2"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_signature_is_the_tutorials(function: Callable[..., Any], parameters: str) -> None:
    required = [
        name for name, p in inspect.signature(function).parameters.items() if p.default is inspect.Parameter.empty
    ]
    assert required == parameters.split()


# Worked out by hand


def test_scale_images_gives_columns_from_0_to_1(dtype: DType) -> None:
    X = reference.scale_images(np.array([[0, 51], [255, 102], [1, 254]], np.uint8), dtype)
    assert X.dtype == dtype
    expected = np.array([[0, 255, 1], [51, 102, 254]]) / 255
    np.testing.assert_allclose(X, expected, rtol=float(np.finfo(dtype).eps), atol=0)
    assert X[0, 1] == 1


def test_relu_and_its_derivative() -> None:
    Z = np.array([[-2.0, -0.0, 0.0], [1e-300, 3.0, -1e-300]])
    assert reference.ReLU(Z).tolist() == [[0, 0, 0], [1e-300, 3, 0]]
    assert reference.ReLU_deriv(Z).tolist() == [[False, False, False], [True, True, False]]


def test_softmax_of_known_logits() -> None:
    Z = np.array([[0.0, math.log(1), 7.0], [0.0, math.log(2), 7.0], [0.0, math.log(5), 7.0]])
    expected = [[1 / 3, 1 / 8, 1 / 3], [1 / 3, 2 / 8, 1 / 3], [1 / 3, 5 / 8, 1 / 3]]
    np.testing.assert_allclose(reference.softmax(Z), expected, rtol=1e-15)


def test_cross_entropy_of_known_probabilities() -> None:
    Z2 = np.log([[0.5, 0.25], [0.25, 0.5], [0.25, 0.25]])
    assert reference.cross_entropy(Z2, np.array([0, 2])) == pytest.approx((math.log(2) + math.log(4)) / 2, rel=1e-15)


def test_forward_prop_by_hand() -> None:
    W1, b1 = np.array([[1.0, -1.0], [2.0, 0.5]]), np.array([[0.0], [-1.0]])
    W2, b2 = np.array([[1.0, 2.0], [0.0, -1.0]]), np.array([[0.5], [1.0]])
    X = np.array([[1.0, 0.0], [0.5, 1.0]])
    Z1, A1, Z2, A2 = reference.forward_prop(W1, b1, W2, b2, X)
    assert Z1.tolist() == [[0.5, -1.0], [1.25, -0.5]]
    assert A1.tolist() == [[0.5, 0.0], [1.25, 0.0]]
    assert Z2.tolist() == [[3.5, 0.5], [-0.25, 1.0]]
    first = [1 / (1 + math.exp(-3.75)), 1 / (1 + math.exp(0.5))]
    np.testing.assert_allclose(A2, [first, [1 - p for p in first]], rtol=1e-14)


def test_backward_prop_by_hand() -> None:
    # Two images; the first hidden unit is on for the first image only, the second is always off.
    Z1 = np.array([[2.0, -1.0], [-3.0, -0.5]])
    A1 = np.array([[2.0, 0.0], [0.0, 0.0]])
    A2 = np.array([[0.75, 0.5], [0.25, 0.5]])
    W1, W2 = np.zeros((2, 3)), np.array([[1.0, 4.0], [-2.0, 8.0]])
    X = np.array([[1.0, 0.0], [0.5, 1.0], [0.0, 0.25]])
    dW1, db1, dW2, db2 = reference.backward_prop(Z1, A1, np.log(A2), A2, W1, W2, X, np.array([1, 0]))
    # dZ2 = [[0.75, -0.5], [-0.75, 0.5]]; of W2ᵀ dZ2 only the first unit's at the first image passes: 2.25.
    assert dW2.tolist() == [[0.75, 0.0], [-0.75, 0.0]]
    assert db2.tolist() == [[0.125], [-0.125]]
    assert dW1.tolist() == [[1.125, 0.5625, 0.0], [0.0, 0.0, 0.0]]
    assert db1.tolist() == [[1.125], [0.0]]


def test_update_params_steps_against_the_gradient_and_copies() -> None:
    before = [np.array([[float(k)]]) for k in (1, 2, 3, 4)]
    kept = [array.copy() for array in before]
    steps = [np.array([[float(k)]]) for k in (10, 20, 40, 80)]
    W1, b1, W2, b2 = reference.update_params(*before, *steps, 0.5)  # type: ignore[call-arg, arg-type]
    assert [W1.item(), b1.item(), W2.item(), b2.item()] == [-4, -8, -17, -36]
    assert before == kept


def test_get_predictions_gives_ties_to_the_first() -> None:
    A2 = np.array([[0.2, 0.4, 0.25], [0.4, 0.4, 0.5], [0.4, 0.2, 0.25]])
    assert reference.get_predictions(A2).tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("predictions", "labels", "accuracy"),
    [([1, 2, 3, 4], [1, 2, 3, 4], 1.0), ([1, 2, 3, 4], [4, 2, 1, 3], 0.25), ([0], [9], 0.0)],
)
def test_get_accuracy(predictions: list[int], labels: list[int], accuracy: float) -> None:
    assert reference.get_accuracy(np.array(predictions), np.array(labels)) == accuracy


def test_make_predictions_is_the_largest_output_of_forward_prop() -> None:
    arrays, X, _ = problem(5, 4, 3, 20, seed=1)
    W1, b1, W2, b2 = arrays
    expected = np.argmax(W2 @ np.maximum(W1 @ X + b1, 0) + b2, axis=0)
    assert len(set(expected.tolist())) > 1
    assert reference.make_predictions(X, W1, b1, W2, b2).tolist() == expected.tolist()


# Properties


@given(logits)
def test_softmax_columns_are_probabilities(Z: NDArray[Any]) -> None:
    A = reference.softmax(Z)
    eps = float(np.finfo(Z.dtype).eps)
    assert A.dtype == Z.dtype
    assert bool(((A >= 0) & (A <= 1)).all())
    np.testing.assert_allclose(A.sum(axis=0), 1, atol=4 * eps * len(Z))


@given(hnp.arrays(np.float64, st.tuples(sizes, sizes), elements=st.integers(-100, 100)), st.integers(-(10**6), 10**6))
def test_softmax_ignores_a_shift_of_all_logits(Z: Array, shift: int) -> None:
    np.testing.assert_array_equal(reference.softmax(Z + shift), reference.softmax(Z))


def test_huge_logits_do_not_overflow(dtype: DType) -> None:
    A = reference.softmax(np.array([[1e4, -1e4, 1e4], [0, -1e4, 1e4]], dtype))
    assert A.tolist() == [[1, 0.5, 0.5], [0, 0.5, 0.5]]
    assert A.dtype == dtype
    assert reference.cross_entropy(np.array([[1e4, 0], [0, 1e4]], dtype), np.array([1, 1])) == 5e3


@given(logits, st.data())
def test_cross_entropy_is_minus_the_log_of_softmax(Z2: NDArray[Any], data: st.DataObject) -> None:
    c, m = Z2.shape
    Y = np.array(data.draw(st.lists(st.integers(0, c - 1), min_size=m, max_size=m)))
    found = reference.cross_entropy(Z2, Y)
    assert math.isfinite(found)
    assert type(found) is float
    # The definition, image by image, in Python's floats; an exponent below -745 gives 0 in both.
    terms = []
    for column, label in zip(Z2.astype(np.float64).T.tolist(), Y.tolist(), strict=True):
        log_sum = math.log(math.fsum(math.exp(z - max(column)) for z in column))
        terms.append(log_sum - (column[label] - max(column)))
    tolerance = 8 * float(np.finfo(Z2.dtype).eps)
    assert found == pytest.approx(math.fsum(terms) / m, rel=tolerance, abs=tolerance * c)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=20), st.integers(7, 12))
def test_one_hot_marks_each_label_once(labels: list[int], outputs: int) -> None:
    matrix = reference.one_hot(np.array(labels), outputs)
    assert matrix.shape == (outputs, len(labels))
    assert reference.one_hot(np.array(labels)).shape == (10, len(labels))
    assert matrix.sum(axis=0).tolist() == [1] * len(labels)
    assert matrix.argmax(axis=0).tolist() == labels


@pytest.mark.slow
@given(n=sizes, h=sizes, c=sizes, m=st.integers(1, 8), seed=seeds)
def test_gradients_equal_those_of_pytorch(n: int, h: int, c: int, m: int, seed: int) -> None:
    torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed")
    arrays, X, Y = problem(n, h, c, m, seed)
    W1, b1, W2, b2 = tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    Z2 = W2 @ torch.relu(W1 @ torch.tensor(X) + b1) + b2
    torch.nn.functional.cross_entropy(Z2.T, torch.tensor(Y)).backward()
    for tensor, gradient in zip(tensors, gradients(arrays, X, Y), strict=True):
        np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=0, atol=1e-12)


def test_every_function_keeps_the_dtype(dtype: DType) -> None:
    arrays, X, Y = problem(5, 4, 3, 6, seed=2, dtype=dtype)
    W1, b1, W2, b2 = arrays
    forward = reference.forward_prop(W1, b1, W2, b2, X)
    found = gradients(arrays, X, Y)
    updated = reference.update_params(W1, b1, W2, b2, *found, 0.1)
    assert {array.dtype for array in (*forward, *found, *updated)} == {np.dtype(dtype)}


# What differs from the tutorial


def test_bias_gradients_are_summed_per_unit() -> None:
    arrays, X, Y = problem(5, 4, 3, 6, seed=3)
    _, db1, _, db2 = gradients(arrays, X, Y)
    assert db1.shape == (4, 1)
    assert db2.shape == (3, 1)
    assert len(set(db1.ravel())) > 1
    assert len(set(db2.ravel())) == 3


def test_a_set_without_the_last_class_fits_the_network() -> None:
    arrays, X, _ = problem(5, 4, 3, 6, seed=4)
    Y = np.array([0, 1, 0, 1, 1, 0])
    dW2, db2 = gradients(arrays, X, Y)[2:]
    assert dW2.shape == (3, 4)
    assert db2[2, 0] > 0  # the class that never occurs is made less probable


def test_gradients_are_a_mean_over_the_images_at_hand() -> None:
    arrays, X, Y = problem(5, 4, 3, 6, seed=5)
    twice = gradients(arrays, np.hstack([X, X]), np.hstack([Y, Y]))
    halves = [gradients(arrays, X[:, part], Y[part]) for part in (slice(0, 3), slice(3, 6))]
    for whole, doubled, first, second in zip(gradients(arrays, X, Y), twice, *halves, strict=True):
        np.testing.assert_allclose(doubled, whole, atol=1e-15)
        np.testing.assert_allclose((first + second) / 2, whole, atol=1e-15)


# Initial values and training


def test_initial_values_are_float32_numbers_from_minus_a_half_to_a_half() -> None:
    W1, b1, W2, b2 = reference.init_params(seed=0)
    assert [array.shape for array in (W1, b1, W2, b2)] == [(10, 784), (10, 1), (10, 10), (10, 1)]
    for array in (W1, b1, W2, b2):
        assert array.dtype == np.float64
        assert float(array.min()) >= -0.5
        assert float(array.max()) < 0.5
        assert np.array_equal(array.astype(np.float32), array)
    # 7840 uniform values: their mean and variance are within five standard errors of 0 and 1/12.
    assert abs(float(W1.mean())) < 5 * math.sqrt(1 / 12 / 7840)
    assert abs(float(W1.var()) - 1 / 12) < 5 * math.sqrt(1 / 180 / 7840)
    assert len(np.unique(np.concatenate([array.ravel() for array in (W1, b1, W2, b2)]))) > 7900


def test_initial_values_depend_on_the_seed_only() -> None:
    def draw(seed: int | None) -> bytes:
        return b"".join(array.tobytes() for array in reference.init_params(7, 5, 3, seed))

    assert draw(1) == draw(1)
    assert len({draw(1), draw(2), draw(None), draw(None)}) == 4
    assert [array.shape for array in reference.init_params(7, 5, 3)] == [(5, 7), (5, 1), (3, 5), (3, 1)]


@pytest.mark.slow
def test_gradient_descent_prints_every_tenth_accuracy_and_learns(
    small_dataset: Dataset, dtype: DType, capsys: pytest.CaptureFixture[str]
) -> None:
    X, Y = reference.scale_images(small_dataset.train.images, dtype), small_dataset.train.labels
    start = [array.astype(dtype) for array in reference.init_params(seed=3)]
    trained = reference.gradient_descent(X, Y, 0.1, 41, seed=3)
    lines = capsys.readouterr().out.splitlines()
    matches = [re.fullmatch(r"Iteration: (\d+), Accuracy: (0\.\d{3}|1\.000)", line) for line in lines]
    printed = [(int(match[1]), float(match[2])) for match in matches if match]
    assert [iteration for iteration, _ in printed] == [0, 10, 20, 30, 40]
    assert len(lines) == 5
    # Iteration 0 describes the initial parameters, before its update.
    W1, b1, W2, b2 = start
    initial_accuracy = reference.get_accuracy(reference.make_predictions(X, W1, b1, W2, b2), Y)
    assert printed[0][1] == round(initial_accuracy, 3)
    assert printed[-1][1] > printed[0][1] + 0.1
    assert {array.dtype for array in trained} == {np.dtype(dtype)}
    assert loss(list(trained), X, Y) < loss(start, X, Y) - 0.5


def test_gradient_descent_is_repeated_forward_backward_update() -> None:
    _, X, Y = problem(6, 4, 3, 9, seed=7)
    arrays = list(reference.init_params(6, 4, 3, seed=8))
    for _ in range(3):
        arrays = [array - 0.2 * step for array, step in zip(arrays, gradients(arrays, X, Y), strict=True)]
    found = reference.gradient_descent(X, Y, 0.2, 3, hidden=4, outputs=3, seed=8)
    for array, expected in zip(found, arrays, strict=True):
        np.testing.assert_allclose(array, expected, atol=1e-15)


def test_gradient_descent_takes_whole_numbers_for_inputs() -> None:
    X = np.random.default_rng(0).integers(0, 2, (6, 20))
    Y = X[0]
    found = reference.gradient_descent(X, Y, 0.2, 3, seed=8)  # type: ignore[arg-type]
    expected = reference.gradient_descent(X.astype(np.float64), Y, 0.2, 3, seed=8)
    for array, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(array, wanted, atol=1e-12)
