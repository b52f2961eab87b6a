"""Limits of a machine as values: rates of arithmetic and of reading, and their JSON form.

:mod:`mnistbench.machine.limits` measures them. This module loads no array library, so rows and files are quick to read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

QUIET = 0.9
"""Least fraction of the wanted CPU time that the threads of an undisturbed measurement get."""

# Exceptions raised by a damaged record.
_DAMAGED = (KeyError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True)
class Level:
    """A level of the memory hierarchy.

    Attributes:
        name: "L2", "L3" or "memory".
        bytes: Capacity for the working set of all threads together; None for memory.
        bytes_per_second: Bandwidth of reading, all threads together.
    """

    name: str
    bytes: int | None
    bytes_per_second: float


@dataclass(frozen=True)
class Rates:
    """Limits of a processor, be it a CPU or a GPU.

    Attributes:
        multiply_add: Floating-point operations per second by dtype, of multiply-adds in registers, each counted as
            two. Empty where multiply-adds are not the fastest arithmetic.
        levels: Levels of the memory hierarchy, nearest first; the last is memory. Caches of unknown size are missing.
    """

    multiply_add: Mapping[str, float]
    levels: tuple[Level, ...]

    def level_for(self, size: float) -> Level:
        """Return the nearest level that holds a working set of ``size`` bytes."""
        return next(level for level in self.levels if level.bytes is None or size <= level.bytes)

    def bandwidth_for(self, size: float) -> float:
        """Return the bandwidth in bytes/s of repeatedly reading a working set of ``size`` bytes."""
        return self.level_for(size).bytes_per_second

    def least_seconds(self, size: float) -> float | None:
        """Compute a lower bound on the seconds to read ``size`` bytes once; None if the cache sizes are unknown.

        Part of a working set larger than a cache is still found there. At best every cache is full of it and no two
        caches hold the same bytes, so each level in turn serves as many bytes as fit, and memory the rest.
        """
        if len(self.levels) < 2:
            return None
        seconds = 0.0
        for level in self.levels:
            served = size if level.bytes is None else min(size, level.bytes)
            seconds += served / level.bytes_per_second
            size -= served
        return seconds


@dataclass(frozen=True)
class GpuLimits(Rates):
    """Limits of a GPU; its level "L2" is the cache that all multiprocessors share.

    Attributes:
        name: Name of the device, as in the rows measured on it.
        launch_latency: Seconds from the launch of an empty kernel until the host knows that it has finished.
        matrix: Operations per second that its matrix units can give with operands of a pixel's 8 bits, at its highest
            clock, each multiply-add counted as two; no arithmetic on it is faster. None if they are not known.
    """

    name: str
    launch_latency: float
    matrix: float | None = None

    def matrix_rate(self, bits: int) -> float | None:
        """Return an upper bound on the operations per second of matrix units with operands of ``bits`` bits.

        Twice the bits halve the rate, and fewer than 8 give no more than 8. Those of 64 bits, where there are any, give
        twice what multiply-adds give. None if the rate is not known.
        """
        if bits == 64:
            double = self.multiply_add.get("float64")
            return double and 2 * double
        return self.matrix and self.matrix * 8 / max(8, bits)


@dataclass(frozen=True)
class Blas:
    """BLAS library that NumPy uses for matrix products, as reported by threadpoolctl.

    Attributes:
        library: "openblas", "mkl", ...
        version: Version of the library; None if unknown.
        kernel: Processor whose kernels the library chose; None if unknown.
    """

    library: str
    version: str | None
    kernel: str | None

    def __str__(self) -> str:
        return " ".join(filter(None, (self.library, self.version, self.kernel)))


@dataclass(frozen=True)
class Limits(Rates):
    """Limits of a machine: those of its CPU with ``threads`` threads, and those of its GPU.

    Attributes:
        threads: Number of CPU threads used.
        product: Floating-point operations per second by dtype, of a large square matrix product by NumPy.
        blas: Library that computes the matrix product; None if unknown.
        gpu: Limits of the GPU; None if there is none that CuPy can use.
        cpu_share: Fraction of the wanted CPU time that the best rounds got; the smallest over the CPU's limits.
        date: When they were measured (ISO 8601); None in records of earlier versions.
    """

    threads: int
    product: Mapping[str, float]
    blas: Blas | None
    gpu: GpuLimits | None
    cpu_share: float = 1.0
    date: str | None = None

    @property
    def disturbed(self) -> bool:
        """Whether other processes took so much of the CPU that the limits may be too low."""
        return self.cpu_share < QUIET

    def as_dict(self) -> dict[str, Any]:
        """Return the limits as JSON values, keyed by attribute."""
        return asdict(self, dict_factory=_with_lists)

    @classmethod
    def from_dict(cls, record: Any) -> Limits:
        """Rebuild limits from the result of :meth:`as_dict`.

        Raises:
            ValueError: If the record is not such a result.
        """
        try:
            blas, gpu = record["blas"], record["gpu"]
            return cls(
                **_rates(record),
                cpu_share=_positive(record["cpu_share"]),
                date=record.get("date"),
                threads=_count(record["threads"]),
                product=_by_dtype(record["product"]),
                blas=None if blas is None else Blas(str(blas["library"]), blas["version"], blas["kernel"]),
                gpu=None if gpu is None else _of_gpu(gpu),
            )
        except _DAMAGED as error:
            raise ValueError(f"not the limits of a machine: {error}") from error


def _with_lists(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    """Collect the fields of a dataclass, with tuples as lists, as JSON reads them back."""
    return {name: [*value] if isinstance(value, tuple) else value for name, value in fields}


def _of_gpu(record: Any) -> GpuLimits:
    """Read a GPU's limits; records of earlier versions say nothing of its matrix units."""
    matrix = record.get("matrix")
    return GpuLimits(
        **_rates(record),
        name=str(record["name"]),
        launch_latency=_positive(record["launch_latency"]),
        matrix=None if matrix is None else _positive(matrix),
    )


def _rates(record: Any) -> dict[str, Any]:
    """Read the attributes of :class:`Rates` from a record."""
    levels = tuple(
        Level(
            str(level["name"]),
            None if level["bytes"] is None else _count(level["bytes"]),
            _positive(level["bytes_per_second"]),
        )
        for level in record["levels"]
    )
    if not levels or levels[-1].bytes is not None:
        raise ValueError("the last level is not memory")
    return {"multiply_add": _by_dtype(record["multiply_add"]), "levels": levels}


def _by_dtype(record: Any) -> dict[str, float]:
    return {str(dtype): _positive(rate) for dtype, rate in record.items()}


def _positive(value: Any) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{value} is not a positive number")
    return float(value)


def _count(value: Any) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{value} is not a positive whole number")
    return value
