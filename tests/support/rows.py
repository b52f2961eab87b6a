"""Rows as a machine that does not exist would have measured them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mnistbench.machine.identity import Machine
from mnistbench.machine.rates import GpuLimits, Level, Limits
from mnistbench.measurement import CHECKS, Proof
from mnistbench.results.origin import Origin
from mnistbench.results.row import Row, Size, Speedup, Verdict
from mnistbench.task.presets import preset
from mnistbench.task.workload import DType
from mnistbench.training.cold import ColdStart, Process
from mnistbench.training.scores import FinalScores

PROOF = Proof(CHECKS, False, (), (), (), ())
MACHINE = "Some CPU, 2 CPUs"
LONG_NAME = "a very long name of a machine " * 12
LIMITS = Limits(
    {"float32": 200e9, "float64": 100e9},
    (Level("L2", 2**21, 200e9), Level("memory", None, 20e9)),
    threads=2,
    product={},
    blas=None,
    gpu=None,
)
ORIGIN = Origin(
    Machine.named(MACHINE), "0123456789abcdef", False, None, "2025-03-01T12:00:00+00:00", "0001_classic_0123456.json"
)
NO_RESULT = "disagrees with the reference: dW1 after 0 updates: 99 of its tolerance"

_ROUNDS = (1.0, 0.98, 1.01, 0.99, 1.03, 1.0, 1.0)
_ITERATIONS = (1, 2, 5, 10, 20, 50, 100, 200, 500)


def row(backend: str, dtype: str, median: float, **changes: Any) -> Row:
    """A row of seven rounds around ``median`` seconds; ``changes`` are of its fields, its workload's or its origin's.

    ``workload`` and ``machine`` are names; a ``speedup`` may be a number.
    """
    known: DType = "float32" if dtype == "float32" else "float64"
    task = preset("classic", known)
    changes["name"] = changes.pop("workload", task.name)
    for name in ("name", "images", "iterations", "network", "recipe"):
        if name in changes:
            task = replace(task, **{name: changes.pop(name)})
    if dtype not in ("float32", "float64"):
        object.__setattr__(task, "dtype", dtype)
    origin = ORIGIN
    if "machine" in changes:
        changes["machine"] = Machine.named(changes["machine"])
    for name in ("machine", "commit", "dirty", "commit_date", "date", "file"):
        if name in changes:
            origin = replace(origin, **{name: changes.pop(name)})
    if isinstance(changes.get("speedup"), float | int):
        changes["speedup"] = Speedup(changes["speedup"])
    if (device := changes.get("device", "CPU")) != "CPU":
        changes.setdefault("limits", replace(LIMITS, gpu=gpu(device)))
    error = 1e-7 if dtype == "float32" else 1e-16
    found = Row(
        backend=backend,
        workload=task,
        samples=tuple(median * factor for factor in _ROUNDS),
        device="CPU",
        threads=2,
        kernel="loops",
        skips=None,
        bytes_read=41_000 * 784 * (4 if dtype == "float32" else 8),
        versions={backend: "1.2.3"},
        gpu=None,
        costs={"import": 0.5, "load": 0.25, "compile": 5.0, "train": median},
        compile_cached=0.125,
        peak_memory_bytes=10**9,
        cold=None,
        limits=LIMITS,
        final=FinalScores(0.5, 0.8475, 0.8, 0.8),
        errors=tuple((k, 0.02 + 0.9 / (1 + k / 5)) for k in (0, *_ITERATIONS)),
        agreement=Verdict(
            True,
            "W1 after 0 updates: 0.5 of its tolerance",
            1e-3 if dtype == "float32" else 1e-10,
            tuple((k, error * k) for k in _ITERATIONS),
        ),
        data_sha256="0",
        proof=PROOF,
        origin=origin,
    )
    return replace(found, **changes)


def started(*compiling: float, train: float = 4.0, iterations: int = 500, cached: float | None = None) -> ColdStart:
    """Cold starts of processes that spent the ``compiling`` seconds, and trained ``iterations``."""

    def process(seconds: float) -> Process:
        costs = {"import": 0.5, "load": 0.25, "compile": seconds, "tuning": 2.0, "first_call": 1.0, "train": train}
        return Process(costs, iterations, 10**8, 10**9)

    return ColdStart(tuple(map(process, compiling)), () if cached is None else (process(cached),))


def gpu(name: str) -> GpuLimits:
    """The limits of a GPU."""
    return GpuLimits({"float32": 60e12}, (Level("memory", None, 4e12),), name, 1e-5)


def on(machine: str, rows: Sequence[Row]) -> list[Row]:
    """The rows on another machine."""
    return [replace(row, origin=replace(row.origin, machine=Machine.named(machine))) for row in rows]


def agreeing(row: Row, *trajectory: tuple[int, float], tolerance: float | None = None) -> Row:
    """The row with other errors of its parameters."""
    verdict = replace(row.agreement, trajectory=trajectory or ((1, 0.0), (10, 0.0), (500, 0.0)))
    return replace(row, agreement=verdict if tolerance is None else replace(verdict, tolerance=tolerance))


def sized(axes: Sequence[str], hidden: int = 10, allowed_threads: int = 2) -> Size:
    """A place in the scaling benchmark."""
    return Size(tuple(axes), hidden, allowed_threads, "5 iterations")


def document(*rows: Row, day: int = 1, dirty: bool = False, machine: str = MACHINE) -> dict[str, Any]:
    """The part of pytest-benchmark's document of some rows that is read."""
    entries = [
        {"name": f"test_training[{row.backend}]", "extra_info": row.as_dict(), "stats": {"data": [*row.samples]}}
        for row in rows
    ]
    return {
        "machine_info": {"name": machine},
        "commit_info": {"id": ORIGIN.commit, "dirty": dirty},
        "datetime": f"2025-03-{day:02}T12:00:00+00:00",
        "benchmarks": entries,
    }
