"""The charts: nothing runs into anything else, every number drawn is the number given, and stored charts are stable."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from PIL import Image

from mnistbench import charts
from mnistbench.charts import page, storage
from mnistbench.exceptions import DataError, MnistbenchError
from mnistbench.results import reproduction
from mnistbench.results.reproduction import Run
from mnistbench.results.row import Row
from mnistbench.task.presets import PUBLISHED
from tests.support import builders
from tests.support.figures import assert_legible, said
from tests.support.paths import ROOT
from tests.support.rows import LONG_NAME, agreeing, on, row, started


def normal() -> list[Row]:
    return [
        agreeing(row("numpy", "float64", 23.3, speedup=1.0)),
        row("numpy", "float32", 14.5, speedup=1.61),
        row("numba-plain", "float64", 7.0, speedup=3.33),
        row("numba-plain", "float32", 5.0, speedup=4.66),
        agreeing(row("numba", "float64", 1.9, speedup=12.3)),
        row("numba", "float32", 1.02, speedup=22.8),
    ]


def many() -> list[Row]:
    names = ["numpy", "numba", "numba-plain", "cupy", "cupy-plain", "torch", "jax", "an-accelerated-backend-of-others"]
    return [
        row(name, dtype, 60 * (10e-3 / 60) ** (i / 7) * factor, device="NVIDIA H200" if i > 2 else "CPU")
        for i, name in enumerate(names)
        for dtype, factor in (("float64", 1.0), ("float32", 0.6))
    ]


def crowd() -> list[Row]:
    """Twelve backends of others, with names and devices of any length."""
    return [
        row(f"vendor-{'wide' * i}-{i}", dtype, 0.1 * 1.5**i, device=f"{'a long name ' * (3 * i)}{i}")
        for i in range(12)
        for dtype in ("float32", "float64")
    ]


def odd() -> list[Row]:
    """What a reader of results might hand over in its worst days."""
    nothing = {"import": 0.0, "load": -1e-3, "compile": 0.0, "train": 0.0}
    rows = [
        agreeing(row("$\\frac$ 日本\n", "float16", 1e-6)),
        row("zero", "float32", 0.0, costs=nothing, speedup=math.inf),
        agreeing(row("slow", "float64", 1e6, speedup=1e-9), (0, 1.0)),
        row("w" * 200, "float64", 0.5),
    ]
    return on(LONG_NAME, rows)


def single() -> list[Row]:
    return [agreeing(row("numba", "float32", 1.02, samples=(1.02,)), (1, 0.0), tolerance=0.0)]


def equal() -> list[Row]:
    return [row(name, "float32", 1.0 + i * 1e-4) for i, name in enumerate(("numpy", "torch", "jax", "cupy"))]


def ends() -> list[Row]:
    return [row("numpy", "float64", 60.0), row("cupy", "float32", 10e-3)]


ROWS: list[Callable[[], list[Row]]] = [normal, many, crowd, odd, single, equal, ends]


def history(points: int = 51) -> pd.DataFrame:
    iterations = [*range(0, 500, 10), 499][:points]
    return pd.DataFrame(
        {
            "iteration": iterations,
            "loss": [0.55 + 2.6 * math.exp(-i / 60) for i in iterations],
            "accuracy": [0.85 - 0.743 * math.exp(-i / 100) for i in iterations],
        },
        columns=["iteration", "loss", "accuracy"],
    )


def snapshots(hidden: int, pixels: int, iterations: tuple[int, ...] = (0, 100, 499)) -> list[tuple[int, Any]]:
    random = np.random.default_rng(0)
    return [(i, random.normal(size=(hidden, pixels)).astype(np.float32)) for i in iterations]


# Nothing runs into anything


@pytest.mark.slow
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("name", list(charts.CHARTS))
def test_result_charts_are_legible(name: str, rows: Callable[[], list[Row]]) -> None:
    assert_legible(charts.CHARTS[name](rows()))


@pytest.mark.parametrize("chart", [charts.training_time, charts.cold_start, charts.agreement])
def test_a_long_subtitle_is_wrapped(chart: Callable[..., Figure]) -> None:
    figure = chart(normal(), subtitle="a subtitle that goes on " * 15)
    assert_legible(figure)
    assert sum("that goes" in text for text in said(figure)) > 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hidden", "shape"), [(1, (28, 28)), (10, (28, 28)), (1024, (8, 8)), (3, (40, 2)), (10, (1, 300))]
)
def test_training_run_is_legible(hidden: int, shape: tuple[int, int]) -> None:
    iterations = (0, 5, 6_000_000)
    figure = charts.training_run(history(), snapshots(hidden, math.prod(shape), iterations), shape, "one of many")
    assert_legible(figure)


def test_dev_is_drawn_beside_train() -> None:
    run = history().assign(epoch=1, dev_loss=lambda rows: rows["loss"] * 0.9, dev_accuracy=0.875)
    figure = charts.training_run(run, [], (4, 5))
    assert_legible(figure)
    last = run.iloc[-1]
    assert {f"train {last['accuracy']:.3f}", "dev 0.875"} <= set(said(figure))
    without = charts.training_run(run.assign(dev_loss=math.nan, dev_accuracy=math.nan), [], (4, 5))
    assert not [text for text in said(without) if "dev" in text]


@pytest.mark.parametrize(("count", "shape", "classes"), [(1, (28, 28), 10), (25, (28, 28), 10), (40, (2, 20), 1000)])
def test_predictions_are_legible(count: int, shape: tuple[int, int], classes: int) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, math.prod(shape)), dtype=np.uint8)
    predicted, labels = random.integers(0, classes, (2, count))
    assert_legible(charts.predictions(images, predicted, labels, shape))


def errors(names: Sequence[str], **shape: Any) -> list[Run]:
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            builders.store_errors(Path(folder), name, **shape)
        return reproduction.load(Path(folder))


@pytest.mark.slow
@pytest.mark.parametrize("names", [[*PUBLISHED], ["simard"], ["lecun-300", "simard-elastic"]], ids=len)
@pytest.mark.parametrize(("points", "seconds"), [(1, 1e-4), (20, 1.0), (300, 1e4)])
def test_errors_over_time_are_legible(names: list[str], points: int, seconds: float) -> None:
    assert_legible(charts.errors_over_time(errors(names, points=points, seconds=seconds), "a line"))


# Every number drawn is the number given


def test_errors_over_time_draws_the_median_seed_and_what_is_published() -> None:
    runs = errors(["simard", "lecun-300"])
    figure = charts.errors_over_time(runs)
    (axes,) = figure.axes
    drawn: list[list[float]] = [np.asarray(line.get_ydata()).tolist() for line in axes.lines]
    expected = [[error for _, error in run.curve] for run in runs]
    assert [line for line in drawn if len(line) == 20] == [expected[1], expected[4]]
    assert [line for line in drawn if len(line) == 2] == [[0.047, 0.047], [0.016, 0.016]]
    assert {"simard  1.35%", "lecun-300  1.35%", "published  1.6%", "published  4.7%"} <= set(said(figure))


def test_lines_of_one_workload_say_who_trained_it() -> None:
    one, other = errors(["simard"], seeds=2)
    shown = said(charts.errors_over_time([one, replace(other, backend="jax")]))
    assert any(text.startswith("simard numba float32") for text in shown)
    assert any(text.startswith("simard jax float32") for text in shown)


def test_errors_of_several_runs_say_so() -> None:
    one, other = errors(["simard"], seeds=2)
    newer = replace(other, origin=replace(other.origin, commit="fedcba9876543210"), versions={"numba": "1.3.0"})
    text = " ".join(said(charts.errors_over_time([one, newer])))
    assert "Trainings of 2 runs, 2 commits and numba 1.2.3 or 1.3.0." in text
    assert "Trainings" not in " ".join(said(charts.errors_over_time([one])))


def test_an_error_of_0_is_drawn_at_the_least_that_can_be() -> None:
    (run,) = errors(["simard"], seeds=1)
    assert_legible(charts.errors_over_time([replace(run, curve=((0.0, 0.0),))]))


def test_error_over_time_has_the_fastest_first_and_its_end_where_a_round_ended() -> None:
    without = row("torch", "float32", 8.0, errors=())
    rows = [row("numba", "float32", 2.0), row("numpy", "float64", 20.0), without]
    figure = charts.error_over_time(rows)
    assert [line.get_xdata()[-1] for line in figure.axes[0].lines] == [2.0, 20.0]  # type: ignore[index]
    assert "numba float32  2.00 s" in said(figure)
    assert not charts.has_errors([without])
    assert charts.error_over_time in charts.drawable(rows).values()
    assert charts.error_over_time not in charts.drawable([without]).values()


def test_the_title_says_the_workload_in_words() -> None:
    assert "Time to train: 500 iterations on 41,000 images" in said(charts.training_time(normal()))
    several = [*normal(), row("numpy", "float32", 1.0, iterations=1)]
    assert "Time to train: 500 iterations or 1 iteration on 41,000 images" in said(charts.training_time(several))


def test_training_time_is_labelled_and_sorted() -> None:
    figure = charts.training_time(normal())
    assert {"1.02 s · 22.8×", "23.3 s · 1.00×"} <= set(said(figure))
    heights = {t.get_text(): t.get_position()[1] for t in figure.texts}
    assert heights["numba"] > heights["numba-plain"] > heights["numpy"]
    times = [t for text in figure.axes[0].texts if (t := text.get_text())]
    assert [t.split()[0] for t in times] == ["1.02", "1.90", "5.00", "7.00", "14.5", "23.3"]


def test_training_time_draws_the_median_the_interval_and_every_round() -> None:
    lines = charts.training_time([row("numba", "float32", 2.0, samples=(1.0, 2.0, 4.0))]).axes[0].lines
    drawn = {str(line.get_marker()): np.atleast_1d(line.get_xdata()).tolist() for line in lines}
    assert drawn["|"] == [1.0, 2.0, 4.0]
    assert drawn["None"] == [1.0, 4.0]
    assert drawn["o"] == [2.0]


def test_training_time_says_what_it_cannot_show() -> None:
    text = " ".join(said(charts.training_time(single())))
    assert "A single round has no interval." in text
    assert "×" not in text
    assert "confidence" not in text


def test_equal_times_look_equal() -> None:
    low, high = charts.training_time(equal()).axes[0].get_xlim()
    assert high / low >= 9.99


def test_a_device_is_named_where_it_differs() -> None:
    assert not any("NVIDIA" in text for text in said(charts.training_time(normal())))
    numpy, cupy = ends()
    shown = said(charts.training_time([numpy, replace(cupy, device="NVIDIA H200")]))
    assert {"NVIDIA H200, 2 threads", "CPU, 2 threads"} <= set(shown)


def test_cold_start_stacks_the_costs() -> None:
    costs = {"import": 0.5, "load": 0.25, "compile": 5.0, "train": 10.0}
    figure = charts.cold_start([row("numba", "float32", 10.0, costs=costs)])
    bars = [patch for patch in figure.axes[1].patches if isinstance(patch, Rectangle)]
    assert [bar.get_width() for bar in bars] == pytest.approx([0.5, 0.25, 5.0, 0.0, 0.0, 10.0])
    assert [bar.get_x() for bar in bars] == pytest.approx([0.0, 0.5, 0.75, 5.75, 5.75, 5.75])
    assert {"15.8 s", "compile 5.0 s", "train 10.0 s", "import 500 ms, load 250 ms"} <= set(said(figure))


def test_cold_start_draws_a_training_that_was_really_cold() -> None:
    cold = started(5.0, 3.0, 9.0, train=2.0, iterations=250)
    measured = row("numba", "float32", 1.0, costs=cold.costs | {"train": 1.0}, cold=cold)
    figure = charts.cold_start([measured])
    bars = [patch for patch in figure.axes[1].patches if isinstance(patch, Rectangle)]
    assert [bar.get_width() for bar in bars] == pytest.approx([0.5, 0.25, 5.0, 2.0, 1.0, 4.0])
    (whisker,) = (line for line in figure.axes[1].lines if line.get_color() == page.INK)
    assert np.array(whisker.get_xdata()) == pytest.approx([10.75, 16.75])
    text = " ".join(said(figure))
    assert "Scaled from a training's first iterations: numba float32." in text
    assert "warm rounds" not in text


def test_cold_start_is_sorted_by_the_total() -> None:
    slow_start = {"import": 60.0, "load": 0.0, "compile": 0.0, "train": 0.01}
    figure = charts.cold_start([row("cupy", "float32", 0.01, costs=slow_start), row("numpy", "float32", 10.0)])
    heights = {t.get_text(): t.get_position()[1] for t in figure.texts}
    assert heights["numpy"] > heights["cupy"]


def lines_of(figure: Figure, panel: int, colour: str) -> list[Any]:
    return [line for line in figure.axes[panel].lines if line.get_color() == colour]


def test_lines_on_each_other_take_turns_and_others_are_whole() -> None:
    away = agreeing(row("jax", "float32", 1.0), *((k, 1e-4) for k in (1, 10, 500)))
    figure = charts.agreement([row("numpy", "float32", 1.0), row("numba", "float32", 1.0), away])
    colour = page.colours([])
    (numpy,) = lines_of(figure, 0, colour["numpy"])
    (numba,) = lines_of(figure, 0, colour["numba"])
    (jax,) = lines_of(figure, 0, colour["jax"])
    assert (numpy.get_linestyle(), numba.get_linestyle(), jax.get_linestyle()) == ("--", "--", "-")
    assert jax.get_ydata().tolist() == [1e-4] * 3
    assert numpy.get_ydata().tolist() == [1e-7 * i for i in (1, 2, 5, 10, 20, 50, 100, 200, 500)]


def test_an_exact_zero_is_drawn_on_a_floor_that_says_so() -> None:
    figure = charts.agreement(normal())
    axes = figure.axes[0]
    floor = next(
        place
        for place, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
        if label.get_text() == "exactly 0"
    )
    colour = page.colours([])
    drawn = {line.get_marker(): line for line in lines_of(figure, 0, colour["numpy"])}
    assert set(drawn["D"].get_ydata()) == {floor}
    assert 0 < floor < min(drawn["o"].get_ydata())
    assert drawn["o"].get_ydata().tolist() == [1e-7 * i for i in (1, 2, 5, 10, 20, 50, 100, 200, 500)]
    assert axes.get_ylim()[0] < floor
    assert "exactly 0" not in said(charts.agreement([row("numba", "float32", 1.0)]))


def test_the_tolerance_of_each_dtype_is_drawn() -> None:
    figure = charts.agreement(normal())
    level = {np.asarray(line.get_ydata())[0] for line in figure.axes[0].lines if line.get_color() == page.INK}
    assert level == {1e-3, 1e-10}
    assert {"tolerated in float32: 10⁻³", "tolerated in float64: 10⁻¹⁰"} <= set(said(figure))


def pictures(figure: Figure) -> list[AxesImage]:
    return [image for axes in figure.axes for image in axes.images]


def test_training_run_shows_the_weights_and_their_change() -> None:
    taken = snapshots(3, 12)
    weights = [W1.reshape(3, 3, 4) for _, W1 in taken]
    figure = charts.training_run(history(), taken, (3, 4))
    scale, *shown = pictures(figure)
    expected = [unit for images in (*weights, weights[-1] - weights[0]) for unit in images]
    assert len(shown) == len(expected) == 12
    for picture, unit in zip(shown, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(picture.get_array()), unit)
        assert picture.get_clim() == scale.get_clim()
    low, high = scale.get_clim()
    assert -low == high == max(np.abs(unit).max() for unit in expected)
    assert {"0", "100", "499", "change", "unit 0", "unit 2"} <= set(said(figure))


def test_of_many_units_the_largest_are_shown() -> None:
    taken = snapshots(1024, 4, iterations=(7,))
    largest = [3, 99, 100, 101, 102, 500, 501, 502, 503, 1023]
    taken[0][1][largest] += 50
    figure = charts.training_run(history(), taken, (2, 2))
    assert [text for text in said(figure) if text.startswith("unit ")] == [f"unit {unit}" for unit in largest]
    assert "weights of the first layer, 10 largest of 1,024 units" in said(figure)
    assert "change" not in said(figure)


@pytest.mark.parametrize("points", [1, 51])
def test_training_run_without_snapshots_shows_the_curves(points: int) -> None:
    figure = charts.training_run(history(points), [], (28, 28))
    assert_legible(figure)
    assert len(figure.axes) == 2
    assert not pictures(figure)
    assert_legible(charts.training_run(history(points), [(0, np.zeros((2, 4)))], (2, 2)))


def test_wrong_predictions_are_marked_by_more_than_colour() -> None:
    images = np.arange(12, dtype=np.uint8).reshape(3, 4)
    figure = charts.predictions(images, np.array([7, 1, 2]), np.array([7, 1, 3]), (2, 2))
    assert {"Predictions: 2 of 3 right", "7", "1", "✗ 2, is 3"} <= set(said(figure))
    frames = [patch.get_linewidth() for patch in figure.axes[0].patches]
    assert frames[0] == frames[1] < frames[2]
    for picture, image in zip(pictures(figure), images, strict=True):
        np.testing.assert_array_equal(np.asarray(picture.get_array()), image.reshape(2, 2))
        assert picture.get_clim() == (0, 255)


def test_without_labels_no_prediction_is_called_wrong() -> None:
    figure = charts.predictions(np.zeros((2, 4), np.uint8), np.array([7, 1]), None, (2, 2))
    assert said(figure) == ["Predictions", "7", "1"]


@pytest.mark.parametrize(
    "chart",
    [*charts.CHARTS.values(), charts.speedups, charts.history, lambda rows: charts.scaling(rows, "images")],
)
def test_no_rows_are_refused(chart: Callable[[list[Row]], Figure]) -> None:
    with pytest.raises(DataError, match="no validated results"):
        chart([])


IMAGES, PREDICTED = np.zeros((2, 4), np.uint8), np.zeros(2, np.int64)
ROW = row("numpy", "float64", 1.0)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: charts.predictions(IMAGES, PREDICTED, None, (3, 2)), r"images of shape \(2, 4\)"),
        (lambda: charts.predictions(IMAGES, PREDICTED[:1], None, (2, 2)), "as many predictions"),
        (lambda: charts.predictions(IMAGES, PREDICTED, PREDICTED[:1], (2, 2)), "as many labels"),
        (lambda: charts.predictions(IMAGES[:0], PREDICTED[:0], None, (2, 2)), "give 1 to"),
        (lambda: charts.training_run(history(), [(k, np.ones((2 + k, 4))) for k in (0, 1)], (2, 2)), "different net"),
        (lambda: charts.training_run(history(), [(0, np.full((1, 4), np.nan))], (2, 2)), "not finite"),
        (lambda: charts.training_run(history(0), [], (2, 2)), "no finite loss"),
        (lambda: charts.agreement([replace(ROW, agreement=replace(ROW.agreement, trajectory=()))]), "no row has"),
    ],
)
def test_what_does_not_fit_is_refused(draw: Callable[[], Figure], message: str) -> None:
    with pytest.raises(DataError, match=message):
        draw()


# Matplotlib is left as it was


@pytest.mark.process
def test_matplotlib_is_left_as_it_was() -> None:
    script = """
import matplotlib
import sys
before = matplotlib.rcParams.copy()
from tests.charts.test_charts import normal
from mnistbench import charts
for chart in charts.CHARTS.values():
    chart(normal())
assert matplotlib.rcParams.copy() == before
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, cwd=ROOT)


def test_the_users_style_does_not_change_a_chart(tmp_path: Path) -> None:
    plain, styled = tmp_path / "plain.svg", tmp_path / "styled.svg"
    charts.write(charts.training_time(normal()), plain)
    settings: Any = {"font.size": 30, "axes.facecolor": "black", "savefig.bbox": "tight", "svg.fonttype": "none"}
    with mpl.rc_context(settings):
        charts.write(charts.training_time(normal()), styled)
    assert styled.read_bytes() == plain.read_bytes()


# Text and numbers


def test_long_names_are_shortened_in_the_middle_and_unknown_characters_replaced() -> None:
    short = page.shortened("my-accelerated-backend-version-2", 1.2)
    assert page.text_width(short) <= 1.2
    assert short.startswith("my-acc")
    assert short.endswith("on-2")
    assert page.shortened("numba", 1.2) == "numba"
    assert page.clean(" a\n 日  b\t") == "a ? b"


def test_backends_of_this_package_have_one_colour_each_and_others_get_one() -> None:
    alone, together = page.colours(["numba"]), page.colours(["zeta", "numba", "alpha"])
    assert alone["numba"] == together["numba"]
    assert together == page.colours(["alpha", "zeta"])
    assert len(set(together.values())) == len(together)


@given(st.lists(st.floats(0, 10), max_size=12), st.floats(0.01, 0.8))
@example([5.0, 5.0, 5.0], 0.5)
@example([9.9, 10.0, 0.0, 0.0], 0.5)
def test_spread_keeps_apart_in_order_and_within(wanted: list[float], gap: float) -> None:
    places = page.spread(wanted, gap, 0.0, 10.0)
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    for before, after in itertools.pairwise(places[i] for i in order):
        assert after - before >= gap - 1e-9
    assert all(-1e-9 <= place <= 10 + 1e-9 for place in places)
    if all(b - a >= gap for a, b in itertools.pairwise(sorted(wanted))):
        assert places == pytest.approx(wanted)


@given(st.lists(st.floats(0, 9), min_size=1, max_size=6), st.floats(0.01, 0.8), st.lists(st.floats(0, 9), min_size=6))
def test_spread_moves_as_little_as_it_can(wanted: list[float], gap: float, others: list[float]) -> None:
    """No other places that keep apart, in order and within are nearer in least squares."""
    assert page.spread([5.0, 5.0, 5.0, 9.0], 1.0, 0.0, 10.0) == pytest.approx([4.0, 5.0, 6.0, 9.0])
    wanted.sort()
    free = sorted(others[: len(wanted)])
    top = 10.0 - gap * (len(wanted) - 1)
    other = [min(place, top) + gap * rank for rank, place in enumerate(free)]
    found, theirs = (math.dist(wanted, places) for places in (page.spread(wanted, gap, 0.0, 10.0), other))
    assert found <= theirs + 1e-9


# Stored charts


@pytest.mark.slow
def test_the_same_data_gives_the_same_bytes(tmp_path: Path) -> None:
    drawings: dict[str, Callable[[], Figure]] = {
        "agreement": lambda: charts.agreement(normal()),
        "run": lambda: charts.training_run(history(), snapshots(3, 12), (3, 4)),
    }
    for kind, (name, draw) in itertools.product(("svg", "png"), drawings.items()):
        figure, one, other, again = draw(), *(tmp_path / f"{name}-{k}.{kind}" for k in range(3))
        charts.write(figure, one, "digest")
        charts.write(figure, again, "digest")
        charts.write(draw(), other, "digest")
        assert one.read_bytes() == other.read_bytes() == again.read_bytes()
        assert b"dc:date" not in one.read_bytes()


def test_pictures_are_white_and_large_enough(tmp_path: Path) -> None:
    png = tmp_path / "chart.png"
    charts.write(charts.training_time(single()), png)
    with Image.open(png) as image:
        assert image.width == 1275
        assert image.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)


@pytest.mark.parametrize("source", ["", "0123abcd", "<&> \"quoted\" 'é' 日本"])
def test_the_source_is_stored_in_an_svg(tmp_path: Path, source: str) -> None:
    path = tmp_path / "numba-0.61.svg"
    charts.write(charts.predictions(*small()), path, source)
    assert charts.stored_source(path) == (source or None)


def small() -> tuple[Any, Any, None, tuple[int, int]]:
    return np.zeros((1, 4), np.uint8), np.array([3]), None, (2, 2)


@pytest.mark.parametrize("content", [None, b"", b"neither", b"<svg>", b"<svg/>"])
def test_no_source_is_found_where_there_is_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "chart.svg"
    if content is not None:
        path.write_bytes(content)
    assert charts.stored_source(path) is None


def test_a_failed_save_leaves_the_old_chart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = charts.predictions(*small())
    charts.write(figure, tmp_path / "chart.svg")
    before = (tmp_path / "chart.svg").read_bytes()

    def fails(file: Any, **options: Any) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(figure, "savefig", fails)
    with pytest.raises(KeyboardInterrupt):
        charts.write(figure, tmp_path / "chart.svg")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == {tmp_path / "chart.svg": before}


def test_a_chart_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MnistbenchError, match=r"chart\.svg"):
        charts.write(charts.predictions(*small()), tmp_path / "file" / "chart.svg")


def test_the_digest_changes_with_what_is_drawn_and_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    first = charts.digest("{}")
    assert first == charts.digest("{}")
    assert len(first) == 64
    assert charts.digest("{} ") != first
    monkeypatch.setattr(storage, "VERSION", storage.VERSION + 1)
    assert charts.digest("{}") != first
