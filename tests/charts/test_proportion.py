"""The charts that put a result in proportion: to the machine, to the reference, to other sizes, to earlier commits."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mnistbench import charts, words
from mnistbench.charts import page, scales
from mnistbench.exceptions import DataError
from mnistbench.machine.rates import Limits
from mnistbench.results.row import Row, Speedup
from mnistbench.task.workload import Network
from tests.support.figures import assert_legible, said
from tests.support.rows import LIMITS, LONG_NAME, MACHINE, on, row, sized

FLOPS = 41_000 * 31_960


def limits(threads: int = 2, factor: float = 1.0) -> Limits:
    return replace(
        LIMITS,
        threads=threads,
        multiply_add={dtype: factor * rate for dtype, rate in LIMITS.multiply_add.items()},
        levels=tuple(replace(level, bytes_per_second=factor * level.bytes_per_second) for level in LIMITS.levels),
    )


def measured(backend: str, dtype: str, median: float, **changes: Any) -> Row:
    """A row with a speedup of known interval."""
    known = Speedup(23.3 / (median or 1e-9), 22.0 / (median or 1e-9), 24.5 / (median or 1e-9))
    return row(backend, dtype, median, **{"bytes_read": 41_000 * 784 * 8, "speedup": known} | changes)


def few() -> list[Row]:
    return [
        measured("numpy", "float64", 23.3),
        measured("numpy", "float32", 15.0, bytes_read=41_000 * 784 * 4),
        measured("numba", "float64", 1.9, skips="chunks of 8 zeros: 60% of them"),
        measured("numba", "float32", 0.95, skips="chunks of 16 zeros: 50% of them"),
    ]


def crowd(**changes: Any) -> list[Row]:
    """Twenty backends of others, on different threads, over many orders of magnitude."""
    return [
        measured(
            f"vendor-{'wide' * (i % 7)}-{i}",
            dtype,
            1e-2 * 2.0**i,
            threads=1 + i % 2,
            bytes_read=10 ** (i % 9),
            **changes,
        )
        for i in range(20)
        for dtype in ("float32", "float64")
    ]


def odd() -> list[Row]:
    rows = [
        measured("$\\frac$ 日本\n", "float16", 1e-6),
        measured("w" * 200, "float64", 1e7, bytes_read=1, speedup=1e-9, skips="w " * 400),
        measured("zero", "float32", 0.0, speedup=Speedup(1e40, 1e30, 2e50), bytes_read=10**18),
        measured("gpu", "float32", 1e-3, device="NVIDIA H200"),
    ]
    return on(LONG_NAME, rows)


def of_size(axis: str, backend: str, dtype: str, size: int, per_iteration: float, **changes: Any) -> Row:
    """A row of the scaling benchmark."""
    sizes = {"images": 41_000, "hidden": 10, "threads": 2} | {axis: size}
    place = sized([axis], sizes["hidden"], sizes["threads"])
    samples = tuple(20 * per_iteration * factor for factor in (0.9, 1.0, 1.0, 1.0, 1.2))
    kept = {"workload": "scaling", "iterations": 20, "images": sizes["images"], "threads": sizes["threads"]}
    network = Network((784, sizes["hidden"], 10))
    return measured(backend, dtype, 1.0, **kept | {"samples": samples, "size": place, "network": network} | changes)


SIZES = {"images": (1_000, 10_000, 41_000, 100_000, 1_000_000), "hidden": (10, 32, 512), "threads": (1, 2, 4, 64)}


def scaled(axis: charts.Axis, backends: int = 3) -> list[Row]:
    power = -0.5 if axis == "threads" else 0.75
    return [
        of_size(axis, f"vendor-{'wide' * (i % 7)}-{i}", dtype, size, 1e-6 * 3.0**i * size**power)
        for i in range(backends)
        for dtype in ("float32", "float64")
        for size in SIZES[axis]
    ]


def at_commit(commit: str, day: int, dtype: str = "float32", median: float = 1.0, **changes: Any) -> Row:
    """A row measured later than its commit was made."""
    dates = {"commit_date": f"2026-01-{day:02}T10:00:00+00:00", "date": f"2026-03-{day:02}T10:00:00+00:00"}
    return measured("numba", dtype, median, **{"commit": commit, **dates, **changes})


def commits(count: int) -> list[str]:
    draw = random.Random(0)
    return [f"{draw.randrange(16**40):040x}" for _ in range(count)]


def machines() -> list[Row]:
    return [
        at_commit(commit, day, dtype, size * (1 + day / 99), machine=f"{'A long name ' * 4}{size}", threads=threads)
        for day, commit in enumerate(commits(28), 1)
        for dtype in ("float32", "float64")
        for size in range(1, 7)
        for threads in (1, 2)
    ]


DRAWN: dict[str, Callable[[], Figure]] = {
    "roofline": lambda: charts.roofline(few()),
    "roofline-crowd": lambda: charts.roofline(crowd()),
    "roofline-odd": lambda: charts.roofline(odd()),
    "roofline-one": lambda: charts.roofline([few()[3]]),
    "speedups": lambda: charts.speedups(few()),
    "speedups-crowd": lambda: charts.speedups(
        [one for w in ("classic", "smoke", "784-32-10x41000x500", "d") for one in crowd(workload=w)]
    ),
    "speedups-odd": lambda: charts.speedups(odd()),
    "speedups-one": lambda: charts.speedups([few()[3]]),
    **{f"scaling-{axis}": lambda axis=axis: charts.scaling(scaled(axis), axis) for axis in charts.AXES},  # type: ignore[misc]
    "scaling-crowd": lambda: charts.scaling(scaled("images", 20), "images"),
    "scaling-one": lambda: charts.scaling([of_size("images", "w" * 99, "float32", 1000, 0.0)], "images"),
    "scaling-odd": lambda: charts.scaling(
        [of_size("hidden", "$", "float16", size, 1e-9 * size**1.5) for size in (1, 2, 3, 10**9)], "hidden"
    ),
    "history": lambda: charts.history([*(at_commit(name, day) for day, name in enumerate(commits(4), 1))]),
    "history-crowd": lambda: charts.history(machines()),
    "history-odd": lambda: charts.history(
        [at_commit("unversioned", 1, median=0.0), at_commit("$日" * 99, 2, "float16", 1e9, machine="w" * 300)]
    ),
    "history-one": lambda: charts.history([at_commit("abc", 1, dirty=True)]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWN)
def test_charts_are_legible(name: str) -> None:
    assert_legible(DRAWN[name]())


# The roofline


def points(figure: Figure) -> dict[tuple[float, ...], str]:
    """The single points drawn, and the shapes of their markers."""
    drawn = [(np.asarray(line.get_xydata(), float), line.get_marker()) for line in figure.axes[0].lines]
    return {tuple(data[0].tolist()): str(shape) for data, shape in drawn if len(data) == 1}


def test_a_point_is_the_rate_at_the_intensity() -> None:
    figure = charts.roofline(few())
    expected = {
        (FLOPS / (41_000 * 784 * 8 + 6 * 7_960 * 8), 500 * FLOPS / 23.3): "D",
        (FLOPS / (41_000 * 784 * 4 + 6 * 7_960 * 4), 500 * FLOPS / 15.0): "o",
    }
    assert expected.items() <= points(figure).items()
    assert "numpy float64  28.1 GFLOP/s, 28%" in said(figure)


def test_the_roofs_are_the_measured_limits() -> None:
    axes = charts.roofline(few()).axes[0]
    level = {float(np.asarray(line.get_ydata())[0]) for line in axes.lines if line.get_color() == page.INK}
    assert level == {200e9, 100e9}
    rising = [np.asarray(line.get_xydata(), float) for line in axes.lines if line.get_color() == page.GREY]
    for line, rate in zip(rising, (200e9, 20e9), strict=True):
        np.testing.assert_allclose(line[:, 1] / line[:, 0], rate)
        assert line[1][1] == pytest.approx(200e9), "it ends where it meets the highest level roof"
    shown = said(charts.roofline(few()))
    assert {"float32 peak  200 GFLOP/s", "float64 peak  100 GFLOP/s", "L2 200 GB/s", "memory 20.0 GB/s"} <= set(shown)


def test_the_roofs_are_the_best_of_the_most_threads() -> None:
    slower = measured("jax", "float32", 9.0, limits=limits(factor=0.5))
    alone = measured("torch", "float32", 9.0, threads=1, limits=limits(1, factor=3.0))
    shown = said(charts.roofline([slower, *few(), alone]))
    assert "float32 peak  200 GFLOP/s" in shown
    assert any(text.startswith("torch float32, 1 thread  ") for text in shown)
    assert any(text.startswith("jax float32, 2 threads  ") for text in shown)


def test_who_skips_work_is_marked_and_explained() -> None:
    shown = said(charts.roofline(few()))
    assert "numba float32†  690 GFLOP/s, 345%" in shown
    small_print = " ".join(shown)
    assert "† The rate counts the FLOPs of the dense products" in small_print
    assert "numba float32 left out chunks of 16 zeros: 50% of them" in small_print
    same = [replace(one, skips="zeros") for one in few()]
    small_print = " ".join(said(charts.roofline([*same[2:]])))
    assert "though numba float64 and numba float32 left out zeros." in small_print
    assert "†" not in " ".join(said(charts.roofline([*few()[:2]])))


def test_a_gpu_has_roofs_of_its_own() -> None:
    rows = [*few(), measured("cupy", "float32", 0.02, device="NVIDIA H200")]
    shown = said(charts.roofline(rows))
    assert {"GPU float32 peak  60.0 TFLOP/s", "GPU memory 4.00 TB/s", "memory 20.0 GB/s"} <= set(shown)


@pytest.mark.parametrize(
    "missing",
    [{"bytes_read": None}, {"bytes_read": 0}, {"limits": None}, {"device": "NVIDIA H200", "limits": LIMITS}],
)
def test_older_rows_are_left_out_of_the_roofline(missing: dict[str, Any]) -> None:
    older = measured("jax", "float32", 3.0, **missing)
    assert not any("jax" in text for text in said(charts.roofline([*few(), older])))
    assert "roofline" in charts.drawable([*few(), older])
    assert set(charts.CHARTS) - set(charts.drawable([older])) == {"roofline"}
    with pytest.raises(DataError, match="no row has the bytes"):
        charts.roofline([older])
    assert charts.drawable([]) == {}


# Speedups


def cells(figure: Figure) -> dict[str, Rectangle]:
    """The coloured cells by the speedup written on them."""
    found: dict[str, Rectangle] = {}
    for axes in figure.axes[1:]:
        filled = [p for p in axes.patches if isinstance(p, Rectangle) and p.get_edgecolor()[:3] == (1, 1, 1)]
        bold = [text for text in axes.texts if text.get_fontweight() == "bold"]
        found |= {text.get_text(): patch for text, patch in zip(bold, filled, strict=True)}
    return found


def test_a_cell_says_the_speedup_and_its_interval() -> None:
    rows = [
        measured("numpy", "float64", 20.0, speedup=1),
        measured("numba", "float32", 1.0, speedup=Speedup(20, 18, 24.5)),
    ]
    figure = charts.speedups(rows)
    assert {"1.00×", "20.0×", "18.0–24.5", "numpy", "numba"} <= set(said(figure))
    assert sum("–" in text for text in said(figure)) == 1
    assert "95%" in " ".join(said(figure))
    alone = said(charts.speedups(rows[:1]))
    assert not any("–" in text or "95%" in text for text in alone)


def test_a_speedup_across_runs_is_marked() -> None:
    """And the small print says of how many runs, commits and versions the rows are."""
    rows = [
        measured("numpy", "float64", 20.0, speedup=1),
        measured("numba", "float32", 1.0, speedup=Speedup(20.0, across_runs=True), file="b", versions={"numba": "2"}),
        measured("numba", "float64", 1.0, speedup=3, file="c", commit="fedcba9876543210", versions={"numba": "1"}),
    ]
    figure = charts.speedups(rows)
    assert {"1.00×", "≈ 20.0×", "3.00×"} <= set(said(figure))
    text = " ".join(said(figure))
    assert "≈: over a time of another run" in text
    assert "Rows of 3 runs, 2 commits and numba 2 or 1." in text
    alone = " ".join(said(charts.speedups(rows[:1])))
    assert "≈" not in alone
    assert "runs" not in alone


@pytest.mark.parametrize("chart", [*charts.CHARTS.values(), charts.speedups])
def test_no_chart_mixes_machines(chart: charts.Chart) -> None:
    rows = [measured("numpy", "float64", 20.0), *on("Another CPU", [measured("numba", "float32", 1.0)])]
    with pytest.raises(DataError, match=f"rows of 2 machines, {MACHINE}; Another CPU: draw each apart"):
        chart(rows)


def test_what_is_not_validated_or_has_no_speedup_is_blank() -> None:
    rows = [
        measured("numpy", "float64", 20.0, speedup=1),
        measured("numba", "float64", 2.0, speedup=10, problem="wrong"),
        measured("numba", "float32", 1.0, speedup=20),
        measured("jax", "float64", 1.0, speedup=None),
    ]
    figure = charts.speedups(rows)
    assert set(cells(figure)) == {"1.00×", "20.0×"}
    outlines = [p for p in figure.axes[1].patches if isinstance(p, Rectangle) and to_rgba(p.get_facecolor())[3] == 0]
    assert [(p.get_x(), p.get_y()) for p in outlines] == [(0, 0), (1, 1)]
    with pytest.raises(DataError, match="no row has a speedup"):
        charts.speedups([rows[1], rows[3]])
    assert [charts.has_speedups([one]) for one in (rows[0], rows[3])] == [True, False]


def luminance(colour: Any) -> float:
    """Relative luminance by WCAG 2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_every_cell_is_readable() -> None:
    rows = [measured(f"b{i:02}", "float32", 1.0, speedup=10.0 ** (i / 5 - 2)) for i in range(21)]
    figure = charts.speedups(rows)
    shown = cells(figure)
    assert len(shown) == 21
    for text in figure.axes[1].texts:
        below = min(range(21), key=lambda j: abs(j + 0.5 - text.get_position()[1]))
        patch = list(shown.values())[below]
        dark, light = sorted([luminance(text.get_color()), luminance(patch.get_facecolor()[:3])])
        # WCAG asks for 3 of bold and large text.
        assert (light + 0.05) / (dark + 0.05) >= 3, (text, patch)


def test_colours_are_of_the_logarithm() -> None:
    speedups = {0.1: "0.100×", 1.0: "1.00×", 10.0: "10.0×", 100.0: "100×"}
    rows = [measured(f"b{i}", "float32", 1.0, speedup=value) for i, value in enumerate(speedups)]
    shown = cells(charts.speedups(rows))
    colours = [np.array(shown[text].get_facecolor()[:3]) for text in speedups.values()]
    assert colours[1] == pytest.approx((1, 1, 1), abs=0.01)
    # Twice the logarithm is further from white; slower is another hue than faster.
    assert colours[3].sum() < colours[2].sum() < colours[1].sum()
    assert colours[0][0] > colours[0][2]
    assert colours[2][0] < colours[2][2]
    assert {"slower 0.010×", "100× faster"} <= set(said(charts.speedups(rows)))


def test_threads_have_lines_of_their_own_where_they_differ() -> None:
    rows = [measured("numba", "float32", 1.0, speedup=20.0), measured("numba", "float32", 2.0, speedup=9.0, threads=1)]
    assert {"CPU, 2 threads", "CPU, 1 thread", "20.0×", "9.00×"} <= set(said(charts.speedups(rows)))


# Scaling


@pytest.mark.slow
@settings(max_examples=20)
@given(st.floats(-3, 3), st.floats(0.01, 10), st.sampled_from(charts.AXES))
def test_the_exponent_of_a_power_law_is_found(power: float, first: float, axis: charts.Axis) -> None:
    rows = [of_size(axis, "numba", "float32", size, first * size**power) for size in (10, 20, 50, 100)]
    shown = said(charts.scaling(rows, axis))
    (label,) = (text for text in shown if text.startswith("numba float32 · "))
    assert label.startswith(f"numba float32 · {axis}^")
    assert float(label.rpartition("^")[2]) == pytest.approx(power, abs=0.0051)


def test_small_sizes_do_not_bend_the_exponent() -> None:
    seconds = {1_000: 1e-3, 10_000: 1.1e-3, 41_000: 4.1e-3, 100_000: 1e-2, 1_000_000: 0.1}
    rows = [of_size("images", "numba", "float32", size, s) for size, s in seconds.items()]
    shown = said(charts.scaling(rows, "images"))
    assert "numba float32 · images^1.00" in shown
    assert "3 largest sizes" in " ".join(shown)
    of_threads = [*(of_size("threads", "numba", "float32", n, s) for n, s in ((1, 8.0), (2, 4.0), (4, 4.0), (8, 4.0)))]
    shown = said(charts.scaling(of_threads, "threads"))
    assert "numba float32 · threads^-0.30" in shown
    assert "over all points" in " ".join(shown)


def test_seconds_per_iteration_are_drawn() -> None:
    figure = charts.scaling([of_size("hidden", "numba", "float64", n, n / 100) for n in (10, 20)], "hidden")
    (line,) = (line for line in figure.axes[0].lines if line.get_marker() == "D")
    assert line.get_xydata() == pytest.approx(np.array([[10, 0.1], [20, 0.2]]))
    bars = [line.get_xydata() for line in figure.axes[0].lines if line.get_marker() == "None"]
    assert bars[0] == pytest.approx(np.array([[10, 0.09], [10, 0.12]]))
    assert "Scaling with hidden units: 41,000 images, 2 threads" in said(figure)


def test_threads_have_an_ideal_line() -> None:
    figure = charts.scaling([of_size("threads", "numba", "float32", n, 0.8 / n**0.5) for n in (1, 2, 4)], "threads")
    (ideal,) = (line for line in figure.axes[0].lines if line.get_linestyle() == "--")
    assert ideal.get_xydata() == pytest.approx(np.array([[1, 0.8], [2, 0.4], [4, 0.2]]))
    low, high = figure.axes[0].get_ylim()
    assert low < 0.2 < high
    without = charts.scaling(scaled("images"), "images")
    assert not [line for line in without.axes[0].lines if line.get_linestyle() == "--"]


def test_only_rows_that_differ_along_the_axis_are_one_line() -> None:
    rows = [of_size("hidden", "numba", "float32", n, n / 100) for n in (10, 20, 40)]
    other = of_size("hidden", "numba", "float32", 80, 5.0, images=10_000)
    figure = charts.scaling([*rows, other, of_size("images", "numba", "float32", 99, 9.0)], "hidden")
    (line,) = (line for line in figure.axes[0].lines if line.get_marker() == "o")
    assert np.asarray(line.get_xdata()).tolist() == [10, 20, 40]
    assert "Not drawn: 1 row of other settings." in " ".join(said(figure))


def test_devices_of_one_backend_are_told_apart() -> None:
    rows = [
        of_size("images", "jax", "float32", n, n * 1e-6, device=d) for n in (10, 20) for d in ("CPU", "NVIDIA H200")
    ]
    shown = said(charts.scaling(rows, "images"))
    assert {"jax float32, CPU · images^1.00", "jax float32, NVIDIA H200 · images^1.00"} <= set(shown)


def test_an_axis_with_one_size_is_not_drawn_by_itself() -> None:
    rows = [of_size("images", "numba", "float32", 1_000, 1.0), of_size("hidden", "numba", "float32", 10, 1.0)]
    assert charts.scaling_axes(rows) == []
    more = of_size("images", "numpy", "float32", 2_000, 1.0)
    assert charts.scaling_axes([*rows, more]) == ["images"]
    assert charts.scaling_axes([]) == []
    with pytest.raises(DataError, match="no row is of the scaling with threads"):
        charts.scaling(rows, "threads")


# History


def lines_of(figure: Figure) -> list[Any]:
    return [line for line in figure.axes[0].lines if line.get_marker() in ("o", "D", "s")]


def test_commits_are_in_the_order_of_their_dates() -> None:
    new, old = commits(2)
    rows = [at_commit(new, 9, median=3.0), at_commit(old, 8, median=2.0, date="2026-05-01T00:00:00+00:00")]
    figure = charts.history(rows)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == [old[:7], new[:7]]
    (line,) = lines_of(figure)
    assert line.get_xydata() == pytest.approx(np.array([[0, 2.0], [1, 3.0]]))
    # Where the commit's own date is not known, the measurement's counts; and zones count.
    unknown = [
        at_commit(new, 1, commit_date=None, date="2026-01-01T12:30:00+00:00"),
        at_commit(old, 1, commit_date=None, date="2026-01-01T13:00:00+02:00"),
    ]
    labels = charts.history(unknown).axes[0].get_xticklabels()
    assert [label.get_text() for label in labels] == [old[:7], new[:7]]


def test_runs_at_one_commit_stand_side_by_side() -> None:
    first, second = commits(2)
    rows = [
        at_commit(first, 1, median=m, date=f"2026-03-0{d}T10:00:00+00:00") for m, d in ((2.0, 2), (1.0, 1), (3.0, 3))
    ]
    (line,) = lines_of(charts.history([*rows, at_commit(second, 2, median=4.0)]))
    assert list(line.get_ydata()) == [1.0, 2.0, 3.0, 4.0]
    x = list(line.get_xdata())
    assert all(-0.5 < place < 0.5 for place in x[:3])
    assert x == sorted(set(x))
    assert x[3] == 1.0


def test_uncommitted_changes_are_a_commit_of_their_own() -> None:
    (name,) = commits(1)
    figure = charts.history([at_commit(name, 1), at_commit(name, 1, dirty=True)])
    assert {name[:7], f"{name[:7]}+"} <= set(said(figure))
    assert "uncommitted" in " ".join(said(figure))
    assert "uncommitted" not in " ".join(said(charts.history([at_commit(name, 1)])))


def test_machines_dtypes_and_threads_are_lines_that_say_their_last_median() -> None:
    name = commits(1)[0]
    rows = [
        at_commit(name, 1, "float32", 1.0),
        at_commit(name, 1, "float64", 2.0),
        at_commit(name, 1, "float32", 3.0, threads=1),
        at_commit(name, 1, "float32", 4.0, machine="Other"),
    ]
    figure = charts.history(rows)
    assert len(lines_of(figure)) == 4
    assert len({line.get_color() for line in lines_of(figure)}) == 2
    assert "float32, CPU, 2 threads, Other  4.00 s" in said(figure)
    # Machines of one name are lines apart.
    namesake = replace(rows[0].origin, machine=replace(rows[0].origin.machine, cpus=8))
    assert len(lines_of(charts.history([rows[0], replace(rows[0], origin=namesake)]))) == 2
    alone = said(charts.history([rows[0]]))
    assert "float32  1.00 s" in alone
    assert f"on {MACHINE}" in " ".join(alone)


# Axes


@pytest.mark.slow
@given(st.lists(st.floats(1e-12, 1e12), min_size=1, max_size=9), st.floats(1.5, 9), st.booleans())
def test_a_logarithmic_axis_holds_the_values_and_its_ticks_keep_apart(
    values: list[float], inches: float, upright: bool
) -> None:
    axis = scales.Logarithmic.of(values, inches, words.seconds, upright=upright)
    assert axis.low < min(values) <= max(values) < axis.high
    assert axis.ticks
    decade = inches / math.log10(axis.high / axis.low)
    for a, b in itertools.pairwise(axis.ticks):
        widths = [page.text_width(words.seconds(t), page.SMALL) for t in (a, b)]
        needed = page.line_height(page.SMALL) if upright else sum(widths) / 2
        assert math.log10(b / a) * decade > needed
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks)


def test_wanted_ticks_are_dropped_from_the_smallest_down_where_they_do_not_fit() -> None:
    sizes = [1_000.0, 10_000.0, 41_000.0, 100_000.0]
    wide = scales.Logarithmic.of(sizes, 6.0, "{:,.0f}".format, at=sizes)
    assert wide.ticks == sizes
    narrow = scales.Logarithmic.of(sizes, 2.0, "{:,.0f}".format, at=sizes)
    assert narrow.ticks == [1_000.0, 10_000.0, 100_000.0]
