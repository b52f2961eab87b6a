"""Devices and versions for which the tests build the persistent kernel."""

from __future__ import annotations

from mnistbench.backends.cupy.classic import layout
from mnistbench.task.presets import PRESETS
from mnistbench.task.workload import DType

CLASSIC = PRESETS["classic"]

# Properties of an H200 and a T4.
HOPPER = layout.Device(
    multiprocessors=132, shared_bytes=227 * 1024, l2_bytes=50 << 20, registers=65_536, compute_capability=90
)
TURING = layout.Device(
    multiprocessors=40, shared_bytes=64 * 1024, l2_bytes=4 << 20, registers=65_536, compute_capability=75
)

VERSIONS: dict[str, tuple[DType, int]] = {
    "float32": ("float32", 0),
    "float64": ("float64", 0),
    "matrix units": ("float32", 4),
    "three digits": ("float32", 3),
}
"""Dtypes, and digits of a factor on matrix units, or 0."""


def macros(plan: layout.Plan) -> tuple[str, ...]:
    return tuple(f"-D{name}={value}" for name, value in plan.macros.items())
