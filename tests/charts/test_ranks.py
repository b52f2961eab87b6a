"""Charts of several ranks: lines from one rank on, the ideal, the efficiency."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mnistbench import charts
from mnistbench.backends.base import Ranks
from mnistbench.exceptions import DataError
from mnistbench.results.row import Row
from tests.support.figures import assert_legible, said
from tests.support.rows import row, sized


def among(count: int, seconds: float, images: int, axis: str, **changes: Any) -> Row:
    """A row of 100 iterations on as many ranks, with ``seconds`` for each iteration."""
    ranks = Ranks((1,) * count, 1, "MPICH 5.0", "shared memory", 3e-5, False)
    known = {"backend": "numba", "dtype": "float32"} | changes
    backend, dtype = known.pop("backend"), known.pop("dtype")
    size = sized([axis], allowed_threads=1)
    changes = {"workload": "scaling", "iterations": 100, "images": images, "ranks": ranks, "size": size} | known
    return row(backend, dtype, 100 * seconds, **changes)


STRONG = [among(count, seconds, 41_000, "ranks") for count, seconds in ((1, 8e-3), (2, 4e-3), (4, 4e-3))]
WEAK = [among(count, seconds, 41_000 * count, "weak") for count, seconds in ((1, 8e-3), (2, 8e-3), (4, 16e-3))]


def lines(figure: Any, panel: int) -> list[list[float]]:
    """The y values of all lines of several points in a panel."""
    found = [np.asarray(line.get_ydata(), float).tolist() for line in figure.axes[panel].lines]
    return [values for values in found if len(values) == 3]


@pytest.mark.parametrize(
    ("kind", "rows", "ideal"), [("ranks", STRONG, [8e-3, 4e-3, 2e-3]), ("weak", WEAK, [8e-3, 8e-3, 8e-3])]
)
def test_the_ideal_and_the_efficiency_are_drawn(kind: Any, rows: list[Row], ideal: list[float]) -> None:
    figure = charts.ranks(rows, kind)
    assert_legible(figure)
    dashed, measured = lines(figure, 0)
    assert dashed == pytest.approx(ideal)
    assert measured == pytest.approx([row.timing.value / 100 for row in rows])
    assert lines(figure, 1) == [pytest.approx([100, 100, 50])]
    label = "numba float32 · 41k" + " each" * (kind == "weak")
    assert {label, f"{label} · 50%"} <= set(said(figure))
    assert any("MPICH 5.0 over shared memory, 1 thread each" in text for text in said(figure))


def test_lines_differ_in_backend_dtype_and_images() -> None:
    everything = [
        *STRONG,
        *[among(count, 0.2 / count, 1_000_000, "ranks") for count in (1, 2, 4)],
        *[among(count, 0.3 / count, 41_000, "ranks", backend="numpy", dtype="float64") for count in (1, 2)],
    ]
    figure = charts.ranks(everything, "ranks")
    assert_legible(figure)
    assert {"numba float32 · 41k", "numba float32 · 1M", "numpy float64 · 41k"} <= set(said(figure))


def test_a_line_begins_with_one_rank_and_has_more() -> None:
    assert charts.ranks_kinds([*STRONG, *WEAK]) == ["ranks", "weak"]
    assert charts.ranks_kinds(STRONG[:1]) == charts.ranks_kinds(STRONG[1:]) == []
    alone = [replace(row, ranks=None) for row in STRONG]
    assert charts.ranks_kinds(alone) == []
    with pytest.raises(DataError, match="no row is of one rank and of several"):
        charts.ranks(STRONG[1:], "ranks")
    with pytest.raises(DataError, match="no validated results"):
        charts.ranks([], "weak")


def test_other_charts_of_scaling_leave_them_out() -> None:
    assert charts.scaling_axes([*STRONG, *WEAK]) == []
