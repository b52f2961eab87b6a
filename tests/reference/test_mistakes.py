"""Mistakes that readers of the tutorial report: each is one line that says the cure, and the cure works."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mnistbench import reference
from mnistbench.exceptions import DataError, Diverged, MnistbenchError
from mnistbench.reference import Array, Labels, mistakes

sizes = st.integers(1, 9)
IMAGES = 40


def data(n: int = 6, m: int = IMAGES, classes: int = 3) -> tuple[Array, Labels]:
    """Return images (n, m) whose largest pixel tells the class."""
    rng = np.random.default_rng(5)
    X = rng.random((n, m))
    X[0, 0] = 1
    return X, X[:classes].argmax(axis=0)


def train(X: Any, Y: Any, **options: Any) -> None:
    reference.gradient_descent(X, Y, 0.1, 1, hidden=4, outputs=3, seed=1, **options)


def one_line(found: pytest.ExceptionInfo[MnistbenchError]) -> str:
    message = str(found.value)
    assert "\n" not in message
    assert ";" in message  # what is wrong; the cure
    return message


X, Y = data()
LAYER = reference.init_params(6, 4, 3, seed=1)

MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "rows": (lambda: train(X.T, Y), "has an image in each row, for 40 labels; use X.T"),
    "rows at the first layer": (lambda: reference.make_predictions(X.T, *LAYER), "wants one in each column; use X.T"),
    "one image": (
        lambda: reference.make_predictions(X[:, 0], *LAYER),
        "use X[:, None], of shape (6, 1), for one image",
    ),
    "other pixels": (lambda: reference.make_predictions(X[:5], *LAYER), "give (6, m), an image in each of m columns"),
    "a cube": (lambda: train(X.reshape(2, 3, IMAGES), Y), "give (n, m), an image in each of m columns"),
    "a flat bias": (lambda: reference.forward_prop(LAYER[0], LAYER[1][:, 0], *LAYER[2:], X), "give (4, 1), a number"),
    "pixels": (
        lambda: train(np.rint(255 * X), Y),
        "X holds whole numbers up to 255, so pixels are not scaled; use X / 255",
    ),
    "bytes": (lambda: train(np.rint(255 * X).astype(np.uint8), Y), "so pixels are not scaled; use X / 255"),
    "twice": (
        lambda: train(X / 255, Y),
        "X holds nothing above 0.0039, so pixels are scaled twice; divide by 255 only once",
    ),
    "scaled before": (lambda: reference.scale_images(X.T), "images up to 1 are scaled already"),  # type: ignore[arg-type]
    "a gap": (lambda: train(np.where(X > 0.9, np.nan, X), Y), "X holds NaN or infinity; np.argwhere"),
    "nothing": (lambda: train(X[:, :0], Y[:0]), "holds no image; at least one is needed"),
    "another class": (lambda: train(X, Y + 1), "Y holds the label 3: labels are whole numbers from 0 to 2 in one row"),
    "a negative label": (lambda: train(X, Y - 1), "Y holds the label -1"),
    "another class in a loop": (lambda: reference.one_hot(Y + 1, 3), "with more classes, use outputs=4"),
    "fractions": (lambda: train(X, Y.astype(float)), "Y holds float64"),
    "fractions in a loop": (lambda: reference.one_hot(Y.astype(float)), "use Y.astype(int)"),
    "a column": (lambda: reference.one_hot(Y[:, None]), "use Y.ravel() for a column"),
    "one-hot labels": (lambda: train(X, np.eye(3)[Y]), "Y.argmax(axis=1) for one-hot rows"),
    "fewer labels": (lambda: train(X, Y[1:]), "39 labels do not fit 40 images; use X and Y of the same rows"),
    "one bias gradient": (
        lambda: reference.update_params(*LAYER, LAYER[0], np.float64(1), *LAYER[2:], 0.1),  # type: ignore[arg-type]
        "db1 () does not fit b1 (4, 1); sum dZ1 over the images alone, by sum(axis=1, keepdims=True)",
    ),
    "a flat bias gradient": (
        lambda: reference.update_params(*LAYER, *LAYER[:3], LAYER[3][:, 0], 0.1),
        "db2 (3,) does not fit b2 (3, 1); sum dZ2 over",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_with_its_cure(name: str) -> None:
    run, message = MISTAKES[name]
    with pytest.raises(DataError, match=re.escape(message)) as found:
        run()
    one_line(found)


def test_what_is_right_passes() -> None:
    train(X, Y)
    train(X.astype(np.float32), Y.astype(np.uint8))
    train(10 * (X - 0.5), Y)  # standardized, as others scale
    train(np.rint(X), Y)  # black and white
    train(0 * X, Y)  # blank
    train(X[:, :1], Y[:1])
    assert reference.scale_images(255 * X.T).max() == 1  # type: ignore[arg-type]
    assert reference.make_predictions(X[:, :1], *LAYER).shape == (1,)


def test_labels_that_do_not_fit_the_images_are_found_in_a_loop_too() -> None:
    Z1, A1, Z2, A2 = reference.forward_prop(*LAYER, X)
    for labels in (Y[:1], Y[1:]):  # NumPy would give the label of a single one to all images
        with pytest.raises(DataError, match="do not fit 40 images"):
            reference.backward_prop(Z1, A1, Z2, A2, LAYER[0], LAYER[2], X, labels)


def test_a_training_that_diverges_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with (
        np.errstate(over="ignore", invalid="ignore"),
        pytest.raises(Diverged, match=r"training diverged at iteration 10: .* use a learning rate below 1e") as found,
    ):
        reference.gradient_descent(X, Y, 1e200, 40, hidden=4, outputs=3, seed=1)
    one_line(found)
    assert "nan" not in capsys.readouterr().out


@given(rows=sizes, columns=sizes, n=sizes, h=sizes)
def test_shapes_pass_where_the_equations_fit_and_no_others(rows: int, columns: int, n: int, h: int) -> None:
    W1, b1, X = np.zeros((h, n)), np.zeros((h, 1)), np.zeros((rows, columns))
    if rows == n:
        mistakes.check_layer(W1, b1, X)
        return
    with pytest.raises(DataError) as found:
        mistakes.check_layer(W1, b1, X)
    if one_line(found).endswith("use X.T"):
        mistakes.check_layer(W1, b1, X.T)  # the cure
    else:
        assert columns != n


@given(st.lists(st.integers(-3, 12), min_size=1, max_size=9), st.integers(1, 12))
def test_labels_pass_where_each_has_an_output_and_no_others(labels: list[int], outputs: int) -> None:
    X, Y = np.ones((2, len(labels))), np.array(labels)
    assume(Y.size != 2)  # where images in rows would fit as well
    if min(labels) >= 0 and max(labels) < outputs:
        mistakes.check_data(X, Y, outputs)
        return
    with pytest.raises(DataError, match="label") as found:
        mistakes.check_data(X, Y, outputs)
    message = one_line(found)
    named = int(message.split("the label ")[1].split(":")[0])
    assert named in labels
    assert not 0 <= named < outputs
    if (cure := re.search(r"outputs=(\d+)", message)) and min(labels) >= 0:
        mistakes.check_data(X, Y, int(cure[1]))


@given(st.integers(0, 255), st.sampled_from([1.0, 255.0, 255.0**2]))
def test_pixels_pass_where_they_are_scaled_once(largest: int, divisor: float) -> None:
    X, Y = np.array([[0.0, largest, largest // 2]]) / divisor, np.array([0, 1, 2])
    right = (divisor == 255 and largest != 1) or largest == 0 or (divisor == 1 and largest < 32)
    if right:
        mistakes.check_data(X, Y, 3)
    else:
        with pytest.raises(DataError, match=r"pixels are (not scaled|scaled twice)"):
            mistakes.check_data(X, Y, 3)
