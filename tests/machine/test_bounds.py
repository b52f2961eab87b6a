"""Rates of a GPU, held to the units that its trainer declares."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mnistbench.backends import Arithmetic, Description
from mnistbench.machine.bounds import Speed
from mnistbench.machine.rates import GpuLimits, Level, Limits
from mnistbench.results.row import speed_of
from mnistbench.task.presets import preset
from tests.support.rows import LIMITS

H100 = GpuLimits(
    {"float32": 60e12, "float64": 30e12}, (Level("memory", None, 3e12),), "Some GPU", 1e-5, matrix=1_900e12
)
ON_GPU: Limits = replace(LIMITS, gpu=H100)
TASK = preset("classic")


def speed(flops: float, arithmetic: Arithmetic | None, dtype: str = "float32", skips: str | None = None) -> Speed:
    """The speed of a training whose dense computation, or with ``skips`` its least, has that rate."""
    task = preset("classic", "float64" if dtype == "float64" else "float32")
    seconds = task.dense_flops * task.iterations / flops
    found = Description("Some GPU", 1, {}, skips=skips, bytes_read=1, arithmetic=arithmetic)
    return speed_of(task, found, seconds, None if skips is None else float(task.dense_flops))


@pytest.mark.parametrize("skips", [None, "empty pixels"])
@pytest.mark.parametrize(
    ("arithmetic", "dtype", "peak"),
    [
        (None, "float32", 1_900e12),
        (None, "float64", 1_900e12),
        (Arithmetic(), "float32", 60e12),
        (Arithmetic(), "float64", 30e12),
        (Arithmetic(products=2), "float32", 30e12),
        (Arithmetic(bits=64), "float64", 60e12),
        (Arithmetic(bits=8, products=4), "float32", 475e12),
        (Arithmetic(bits=16, products=3), "float32", 950e12 / 3),
        (Arithmetic(bits=4), "float32", 1_900e12),
    ],
)
def test_a_rate_above_the_declared_units_is_refused(
    arithmetic: Arithmetic | None, dtype: str, peak: float, skips: str | None
) -> None:
    assert speed(0.99 * peak, arithmetic, dtype, skips).above(ON_GPU) is None
    said = speed(1.01 * peak, arithmetic, dtype, skips).above(ON_GPU)
    assert said is not None
    assert "is above the machine's peak of" in said


def test_units_whose_rate_is_unknown_have_no_bound() -> None:
    unknown = replace(LIMITS, gpu=replace(H100, matrix=None, multiply_add={}))
    for arithmetic in (None, Arithmetic(), Arithmetic(bits=8, products=4), Arithmetic(bits=64)):
        assert speed(1e18, arithmetic).above(unknown) is None


def test_a_cpu_has_the_bound_of_its_multiply_adds_whatever_is_declared() -> None:
    on_cpu = replace(speed(201e9, Arithmetic(bits=8)), device="CPU")
    assert on_cpu.above(LIMITS) is not None
