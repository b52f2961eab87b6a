"""Charts of predictions: what is drawn, for any number of classes, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from mnistbench import charts
from mnistbench.charts.page import WIDTH
from mnistbench.exceptions import DataError
from mnistbench.prediction.evaluation import Evaluation, Mistake

RNG = np.random.default_rng(0)


def texts(figure: Figure) -> list[str]:
    """Every text of a figure and its axes."""
    return [text.get_text() for text in (*figure.texts, *(text for axes in figure.axes for text in axes.texts))]


def assert_inside(figure: Figure) -> None:
    figure.canvas.draw()
    for text in (*figure.texts, *(text for axes in figure.axes for text in axes.texts)):
        box = text.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= WIDTH * figure.dpi + 1, text.get_text()


def found(classes: int, mistakes: int = 5, scale: int = 100) -> Evaluation:
    confusion = RNG.integers(0, 5, (classes, classes)) + scale * np.eye(classes, dtype=np.int64)
    names = (*(str(label) for label in range(classes - 1)), "a long name of a class")
    return Evaluation(confusion, [Mistake(k, 1 % classes, 0, 0.99, 0.001) for k in range(mistakes)], names)


@pytest.mark.parametrize("classes", [2, 3, 10, 26, 41])
@pytest.mark.parametrize("shown", [0, 5, 10])
def test_an_evaluation_is_drawn_inside_the_page(classes: int, shown: int) -> None:
    one = found(classes, 10)
    figure = charts.evaluation(one, RNG.integers(0, 256, (shown, 20)).astype(np.uint8), (4, 5), "a model")
    assert_inside(figure)
    said = texts(figure)
    assert sum(text == "0, is 1" for text in said) == shown
    assert ("most confidently wrong" in said) == (shown > 0)
    if classes <= 10:
        assert all(f"{count:,}" in said for count in one.confusion.ravel() if count)


def test_classes_without_images_are_named() -> None:
    one = found(3)
    one.confusion[1] = 0
    assert texts(charts.evaluation(one, np.zeros((0, 20), np.uint8), (4, 5))).count("no images") == 1


@pytest.mark.parametrize(("classes", "count"), [(2, 7), (10, 1), (10, 7), (40, 2)])
def test_probabilities_are_drawn_inside_the_page(classes: int, count: int) -> None:
    shares = RNG.dirichlet(np.ones(classes), count)
    shares[0] = np.eye(classes)[-1]
    names = ["a very long name of a file " * 9, *(f"{k}.png" for k in range(1, count))]
    figure = charts.probabilities(RNG.integers(0, 256, (count, 20)).astype(np.uint8), shares, names, (4, 5))
    assert_inside(figure)
    assert texts(figure).count("100.0%") == 1
    assert len([text for text in texts(figure) if text.endswith("%")]) == count * classes


def test_what_does_not_fit_is_refused() -> None:
    images = np.zeros((2, 20), np.uint8)
    with pytest.raises(DataError):
        charts.evaluation(found(42), images, (4, 5))
    with pytest.raises(DataError):
        charts.evaluation(found(3, 1), images, (4, 5))
    for count, classes, names in ((0, 3, 0), (61, 3, 61), (2, 41, 2), (2, 3, 1), (3, 3, 3)):
        with pytest.raises(DataError):
            charts.probabilities(images, np.full((count, classes), 1 / classes), ["a"] * names, (4, 5))
