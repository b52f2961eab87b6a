"""What a machine can do at best, as values: rates of arithmetic and of reading, and their JSON.

:mod:`mnistbench.machine.limits` measures them. Reading them back, from a row or a file, loads no array library.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

QUIET = 0.9
"""A measurement whose threads got less than this of the CPU time they wanted says what other processes left."""

# What a value of the wrong kind raises when it is read.
_DAMAGED = (KeyError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True)
class Level:
    """A place that data is read from.

    Attributes:
        name: "L2", "L3" or "memory".
        bytes: how many bytes it holds of what the threads read together; None for memory, which holds all.
        bytes_per_second: how fast all threads together read from it.
    """

    name: str
    bytes: int | None
    bytes_per_second: float


@dataclass(frozen=True)
class Rates:
    """What a processor can do at best, of a kind or another.

    Attributes:
        multiply_add: by dtype, floating-point operations a second of multiply-adds in registers, each counted as two.
            Empty where they are not the limit.
        levels: where data is read from, nearest first; the last is memory. A cache whose size the system does not
            tell is not among them.
    """

    multiply_add: Mapping[str, float]
    levels: tuple[Level, ...]

    def level_for(self, size: float) -> Level:
        """The nearest level that holds a working set of ``size`` bytes."""
        return next(level for level in self.levels if level.bytes is None or size <= level.bytes)

    def bandwidth_for(self, size: float) -> float:
        """How fast a working set of ``size`` bytes can be read, over and over, in bytes/s: its level's rate."""
        return self.level_for(size).bytes_per_second

    def least_seconds(self, size: float) -> float | None:
        """A time in which ``size`` bytes cannot be read once, however well the caches keep them; None where unknown.

        A working set larger than a cache still finds a part of itself there. At best that part is all that the cache
        can hold, and no other cache holds the same bytes, so each level in turn is taken to serve as many bytes as
        fit, and memory the rest. Without the sizes of the caches nothing is known.
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
    """The limits of a GPU; its level "L2" is the cache that all multiprocessors share.

    Attributes:
        name: the device's, as in the rows that are measured on it.
        launch_latency: seconds from the launch of an empty kernel until the host knows that it has finished.
    """

    name: str
    launch_latency: float


@dataclass(frozen=True)
class Blas:
    """The library that does NumPy's matrix products, as threadpoolctl finds it.

    Attributes:
        library: "openblas", "mkl", ...
        version: its own.
        kernel: the processor whose code it chose; None where it does not tell.
    """

    library: str
    version: str | None
    kernel: str | None

    def __str__(self) -> str:
        return " ".join(filter(None, (self.library, self.version, self.kernel)))


@dataclass(frozen=True)
class Limits(Rates):
    """The limits of a machine: of its CPU for so many threads, and of its GPU.

    Attributes:
        threads: how many were used.
        product: by dtype, floating-point operations a second of a large square matrix product by NumPy.
        blas: what does those; None where it is not known.
        gpu: the GPU's; None where there is none that CuPy can use.
        cpu_share: the least share of the CPU time they wanted that the best rounds of a limit of the CPU got.
    """

    threads: int
    product: Mapping[str, float]
    blas: Blas | None
    gpu: GpuLimits | None
    cpu_share: float = 1.0

    @property
    def disturbed(self) -> bool:
        """Whether other processes took so much of the CPU that the limits may be too low."""
        return self.cpu_share < QUIET

    def as_dict(self) -> dict[str, Any]:
        """As JSON values, by the names of the attributes."""
        return asdict(self, dict_factory=_with_lists)

    @classmethod
    def from_dict(cls, record: Any) -> Limits:
        """What :meth:`as_dict` gave.

        Raises:
            ValueError: it did not give that.
        """
        try:
            blas, gpu = record["blas"], record["gpu"]
            return cls(
                **_rates(record),
                cpu_share=_positive(record["cpu_share"]),
                threads=_count(record["threads"]),
                product=_by_dtype(record["product"]),
                blas=None if blas is None else Blas(str(blas["library"]), blas["version"], blas["kernel"]),
                gpu=None
                if gpu is None
                else GpuLimits(**_rates(gpu), name=str(gpu["name"]), launch_latency=_positive(gpu["launch_latency"])),
            )
        except _DAMAGED as error:
            raise ValueError(f"not the limits of a machine: {error}") from error


def _with_lists(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    """The fields of a dataclass; what JSON would read back as a list is one."""
    return {name: [*value] if isinstance(value, tuple) else value for name, value in fields}


def _rates(record: Any) -> dict[str, Any]:
    """The attributes of :class:`Rates` in a record."""
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
