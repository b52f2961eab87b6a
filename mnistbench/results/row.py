"""A row: one measurement, with all that is needed to believe it and to repeat it.

Its JSON is the ``extra_info`` of a pytest-benchmark entry. The entry holds the timings, and the document around it
what the rows of one run have in common.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mnistbench.backends import Description
from mnistbench.machine.bounds import Speed, beside_limits
from mnistbench.machine.rates import Limits
from mnistbench.task.workload import DType, Workload
from mnistbench.timing.statistics import Median, Ratio, median
from mnistbench.training.scores import FinalScores

if TYPE_CHECKING:
    from mnistbench.agreement import Agreement, Trajectory
    from mnistbench.training.cold import ColdStart

SCHEMA = 1
"""Raised when a field of the JSON changes its meaning."""

Point = tuple[int, float]
"""An iteration, and a finite value after it."""


@dataclass(frozen=True)
class Verdict:
    """The agreement with the float64 reference.

    Attributes:
        passed: whether every comparison is within its tolerance.
        summary: the comparison nearest to its tolerance, in words.
        tolerance: the relative error of a parameter that is tolerated at the end.
        trajectory: the largest relative error of a parameter on the way.
    """

    passed: bool
    summary: str
    tolerance: float
    trajectory: tuple[Point, ...]

    @classmethod
    def of(cls, agreement: Agreement, trajectory: Trajectory) -> Verdict:
        """What a comparison with a trajectory found."""
        dtype: DType = agreement.dtype  # type: ignore[assignment]
        tolerance = trajectory.drift(trajectory.workload.iterations, dtype)
        return cls(agreement.passed, agreement.summary(), tolerance, _points(agreement.trajectory()))


@dataclass(frozen=True)
class Size:
    """The place of a row in the scaling benchmark.

    Attributes:
        axes: the charts' axes that it lies on: "images", "hidden", "threads".
        hidden: hidden units.
        allowed_threads: threads that the backend may use.
        compared: what agrees with the reference, in words.
    """

    axes: tuple[str, ...]
    hidden: int
    allowed_threads: int
    compared: str


@dataclass(frozen=True)
class Origin:
    """Where, when and with which code something was measured.

    Attributes:
        machine: its name.
        commit: the code's.
        dirty: whether the code differed from the commit.
        commit_date: ISO 8601, or None.
        date: of the measurement, ISO 8601.
        file: the name of the file that holds it.
    """

    machine: str
    commit: str
    dirty: bool
    commit_date: str | None
    date: str
    file: str

    @classmethod
    def of(cls, document: Mapping[str, Any], file: str) -> Origin:
        """The origin of all rows of a pytest-benchmark document."""
        commit = document["commit_info"]
        return cls(
            document["machine_info"]["name"],
            commit["id"],
            commit["dirty"],
            commit.get("time"),
            document["datetime"],
            file,
        )


NOWHERE = Origin("", "", False, None, "", "")
"""The origin of a row that is not stored yet."""


@dataclass(frozen=True)
class Row:
    """One measurement of a backend on a workload.

    Attributes:
        samples: seconds of every timed round.
        device: "CPU", or a GPU's name.
        threads: threads of the CPU that took effect.
        kernel: how the backend computed, in words.
        skips: which work it left out because the result is known, in words, or None.
        bytes_read: bytes of image data that an iteration reads; None in rows of earlier versions.
        versions: of the libraries that computed.
        gpu: what the GPU's driver told, or None.
        costs: seconds of import, load, compile and train; import and compile only where a cold process was measured.
        compile_cached: seconds of compiling in a later process; None where compiling costs nothing or is not known.
        peak_memory_bytes: the largest resident memory of a cold process, or None.
        final: loss and accuracies after the last iteration; None where the loss is not finite or not known.
        limits: what the machine can do at best; None in rows of earlier versions.
        errors: fractions of the test images predicted wrongly on the way.
        data_sha256: digest of the data set.
        problem: why it is no result, or None.
        interleaved: whether all rows of the file ran in the same rounds, in turn.
        size: its place in the scaling benchmark, or None.
        speedup: over numpy in float64, where :func:`mnistbench.results.storage.latest` found that; not stored.
    """

    backend: str
    workload: Workload
    samples: tuple[float, ...]
    device: str
    threads: int
    kernel: str
    skips: str | None
    bytes_read: int | None
    versions: Mapping[str, str]
    gpu: Mapping[str, Any] | None
    costs: Mapping[str, float]
    compile_cached: float | None
    peak_memory_bytes: int | None
    limits: Limits | None
    final: FinalScores | None
    errors: tuple[Point, ...]
    agreement: Verdict
    data_sha256: str
    problem: str | None = None
    interleaved: bool = False
    size: Size | None = None
    origin: Origin = field(default=NOWHERE)
    speedup: Ratio | None = None

    @classmethod
    def measured(
        cls,
        workload: Workload,
        description: Description,
        start: ColdStart,
        samples: Sequence[float],
        agreement: Agreement,
        trajectory: Trajectory,
        final: FinalScores | None,
        *,
        problem: str | None = None,
        interleaved: bool = False,
        size: Size | None = None,
    ) -> Row:
        """Make a row of what was measured.

        Args:
            workload: what was computed.
            description: what the trainer said of itself.
            start: what a cold process paid; of a row with a ``size``, only its load counts.
            samples: seconds of each timed round.
            agreement: of the same trainer with the reference.
            trajectory: the reference's.
            final: loss and accuracies after the last iteration.
            problem: why it is no result, if that is known already.
            interleaved, size: as the attributes.
        """
        speed = speed_of(workload, description, median(samples).value)
        limits, too_fast = beside_limits(speed)
        if problem is None:
            problem = too_fast if agreement.passed else f"disagrees with the reference: {agreement.summary()}"
        costs = start.costs.as_dict() | {"train": speed.seconds}
        return cls(
            backend=agreement.backend,
            workload=workload,
            samples=tuple(samples),
            device=speed.device,
            threads=speed.threads,
            kernel=description.kernel,
            skips=speed.skips,
            bytes_read=speed.bytes_read,
            versions=description.versions,
            gpu=description.gpu,
            costs=costs if size is None else {name: costs[name] for name in ("load", "train")},
            compile_cached=start.compile_cached,
            peak_memory_bytes=start.peak_memory,
            limits=limits,
            final=final if final is not None and math.isfinite(final.loss) else None,
            errors=_points(agreement.errors),
            agreement=Verdict.of(agreement, trajectory),
            data_sha256=trajectory.dataset.sha256,
            problem=problem,
            interleaved=interleaved,
            size=size,
        )

    @property
    def dtype(self) -> DType:
        """The workload's."""
        return self.workload.dtype

    @property
    def validated(self) -> bool:
        """Whether it is a result."""
        return self.problem is None

    @cached_property
    def timing(self) -> Median:
        """The median of the rounds, with its interval."""
        return median(self.samples)

    @cached_property
    def speed(self) -> Speed:
        """The rates reached; of an earlier version's row as if it had read each pixel once."""
        read = self.workload.image_bytes if self.bytes_read is None else self.bytes_read
        return Speed(self.workload, self.timing.value, self.device, self.threads, read, self.skips)

    @property
    def throttled(self) -> str | None:
        """Why the GPU's clocks were held down, in words, or None."""
        return (self.gpu or {}).get("throttled")

    def as_dict(self) -> dict[str, Any]:
        """The row as JSON values, with its rates for who reads the file; timings and origin stand beside it there."""
        verdict = asdict(self.agreement) | {"trajectory": _records(self.agreement.trajectory)}
        return {
            "schema": SCHEMA,
            "backend": self.backend,
            "workload": self.workload.describe(),
            "device": self.device,
            "threads": self.threads,
            "kernel": self.kernel,
            "skips": self.skips,
            "versions": dict(self.versions),
            "gpu": self.gpu and dict(self.gpu),
            "costs": dict(self.costs),
            "compile_cached": self.compile_cached,
            "peak_memory_bytes": self.peak_memory_bytes,
            "dense_flops": self.workload.dense_flops,
            "image_bytes": self.workload.image_bytes,
            "bytes_read": self.bytes_read,
            "flops_per_second": self.speed.flops_per_second,
            "fraction_of_peak": self.speed.fraction_of_peak(self.limits),
            "bytes_per_second": self.speed.bytes_per_second,
            "fraction_of_bandwidth": self.speed.fraction_of_bandwidth(self.limits),
            "limits": self.limits and self.limits.as_dict(),
            "final": final_record(self.final),
            "errors": _records(self.errors),
            "agreement": verdict,
            "data_sha256": self.data_sha256,
            "validated": self.validated,
            "problem": self.problem,
            "interleaved": self.interleaved,
            **({} if self.size is None else asdict(self.size) | {"axes": list(self.size.axes)}),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any], samples: Sequence[float], origin: Origin = NOWHERE) -> Row:
        """Read what :meth:`as_dict` gave, in this version or an earlier one of the same schema.

        Raises:
            KeyError, TypeError, ValueError: it did not give that.
        """
        verdict, limits, problem = record["agreement"], record.get("limits"), record["problem"]
        if record["validated"] is not (problem is None):
            raise ValueError(f"validated is {record['validated']}, and the problem {problem}")
        size = None
        if "axes" in record:
            size = Size(tuple(record["axes"]), record["hidden"], record["allowed_threads"], record["compared"])
        if not samples:
            raise ValueError("no timings")
        return cls(
            samples=tuple(map(float, samples)),
            workload=Workload.from_description(record["workload"]),
            bytes_read=record.get("bytes_read"),
            gpu=record.get("gpu"),
            limits=None if limits is None else Limits.from_dict(limits),
            final=None if record["final"]["loss"] is None else FinalScores(**record["final"]),
            errors=_points((point["iteration"], point["error"]) for point in record.get("errors", ())),
            agreement=Verdict(
                verdict["passed"],
                verdict["summary"],
                verdict["tolerance"],
                _points((point["iteration"], point["error"]) for point in verdict["trajectory"]),
            ),
            interleaved=record.get("interleaved", False),
            size=size,
            origin=origin,
            **{name: record[name] for name in _AS_STORED},
        )


_AS_STORED = (
    *("backend", "device", "threads", "kernel", "skips", "versions", "costs"),
    *("compile_cached", "peak_memory_bytes", "data_sha256", "problem"),
)
"""Attributes of a row that its JSON holds unchanged, and always has."""


def speed_of(workload: Workload, description: Description, seconds: float) -> Speed:
    """The rates of a trainer that takes ``seconds`` for a workload, from what it said of itself."""
    told = description.bytes_read
    bytes_read = workload.image_bytes if told is None else told
    return Speed(workload, seconds, description.device, description.threads, bytes_read, description.skips)


def _points(values: Iterable[tuple[int, float]]) -> tuple[Point, ...]:
    return tuple((iteration, value) for iteration, value in values if math.isfinite(value))


def _records(points: Iterable[Point]) -> list[dict[str, float]]:
    return [{"iteration": iteration, "error": error} for iteration, error in points]


def final_record(final: FinalScores | None) -> dict[str, float | None]:
    """Loss and accuracies as JSON values, None where they are not known."""
    return dict.fromkeys(field.name for field in fields(FinalScores)) if final is None else asdict(final)
