"""Rows: measurements with everything needed to trust and repeat them.

A row's JSON is the ``extra_info`` of a pytest-benchmark entry, which holds the timings. The document around the entries
holds what the rows of one run have in common.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from mnistbench.backends import Arithmetic, Description
from mnistbench.backends.base import Ranks
from mnistbench.machine.bounds import Speed, beside_limits
from mnistbench.machine.rates import Limits
from mnistbench.measurement import Energy, Proof
from mnistbench.results.origin import LATER, NOWHERE, Origin
from mnistbench.task.workload import DType, Workload
from mnistbench.timing.statistics import Median, Ratio, Rounds, median_of_processes
from mnistbench.training.cold import ColdStart
from mnistbench.training.scores import FinalScores

if TYPE_CHECKING:
    from mnistbench.agreement import Agreement, Trajectory

SCHEMA = 1
"""Version of the JSON; incremented when a field changes its meaning."""

SHARED = "ranks had more threads than CPUs, and waited for each other"
"""Problem of a row whose ranks shared CPUs, unless that was allowed."""

Point = tuple[int, float]
"""Iteration and a finite value after it."""


@dataclass(frozen=True)
class Verdict:
    """Agreement with the float64 reference.

    Attributes:
        passed: Whether every comparison is within its tolerance.
        summary: The comparison nearest to its tolerance, in words.
        tolerance: Tolerated relative error of a parameter after the last iteration.
        trajectory: Largest relative error of a parameter at each checkpoint.
    """

    passed: bool
    summary: str
    tolerance: float
    trajectory: tuple[Point, ...]

    @classmethod
    def of(cls, agreement: Agreement, trajectory: Trajectory) -> Verdict:
        """Sum up a comparison with a trajectory."""
        dtype: DType = agreement.dtype  # type: ignore[assignment]
        tolerance = trajectory.drift(trajectory.workload.iterations, dtype)
        return cls(agreement.passed, agreement.summary(), tolerance, _points(agreement.trajectory()))


@dataclass(frozen=True)
class Size:
    """Place of a row in the scaling benchmark.

    Attributes:
        axes: Axes of the charts that show it: "images", "hidden", "threads"; of ranks "ranks" and "weak".
        hidden: Number of hidden units.
        allowed_threads: Number of threads that the backend may use.
        compared: Quantities compared with the reference, in words.
    """

    axes: tuple[str, ...]
    hidden: int
    allowed_threads: int
    compared: str


@dataclass(frozen=True)
class Speedup(Ratio):
    """Speedup of a row over another.

    Attributes:
        across_runs: Whether the two are of different runs, which may differ in all but the machine.
    """

    across_runs: bool = False


@dataclass(frozen=True)
class Row:
    """Measurement of a backend on a workload.

    Attributes:
        samples: Seconds of every timed round.
        device: "CPU", or a GPU's name.
        threads: Number of CPU threads in effect.
        kernel: Method of the computation, in words.
        skips: Work skipped because its result is known, in words, or None.
        bytes_read: Bytes of image data that an iteration reads; None in rows of earlier versions.
        versions: Versions of the libraries that computed.
        gpu: Report of the GPU's driver, or None.
        costs: Seconds of each cost by name: medians over new processes, and of the timed rounds as ``train``. Rows
            without cold starts have ``train`` alone, those with a ``size`` also ``load``.
        compile_cached: Seconds of compiling in a later process; None if nothing is cached or it is unknown.
        peak_memory_bytes: Peak resident memory of a cold process, or None.
        cold: Costs of each new process; None if none was measured.
        final: Loss and accuracies after the last iteration; None if the loss is not finite or unknown.
        limits: Limits of the machine; None in rows of earlier versions.
        errors: Fractions of the test images misclassified at the checkpoints.
        data_sha256: Digest of the data set.
        problem: Reason why the row is no result, or None.
        interleaved: Whether all rows of the file ran in the same rounds, in turn.
        timed: Number of iterations that a round timed, from the first on, whose seconds were scaled; None if all.
        size: Place in the scaling benchmark, or None.
        proof: What was checked of the rounds; None in rows of earlier versions.
        processes: Number of rounds in each process; None if one process ran them all.
        failed: Ways to compute that were tried and failed, in words, or None.
        arithmetic: Units of a GPU that computed the products; None if unknown.
        energy: Energy of a training; None if it was not measured.
        ranks: The ranks that trained together, whose ``threads`` are all of theirs; None for one process by itself.
        speedup: Speedup over numpy in float64, set by :func:`mnistbench.results.storage.latest`; not stored.
        in_dtype: Speedup over numpy in the row's own dtype, set there too.
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
    cold: ColdStart | None
    limits: Limits | None
    final: FinalScores | None
    errors: tuple[Point, ...]
    agreement: Verdict
    data_sha256: str
    problem: str | None = None
    interleaved: bool = False
    timed: int | None = None
    size: Size | None = None
    proof: Proof | None = None
    processes: tuple[int, ...] | None = None
    failed: str | None = field(default=None, metadata=LATER)
    arithmetic: Arithmetic | None = field(default=None, metadata=LATER)
    energy: Energy | None = field(default=None, metadata=LATER)
    ranks: Ranks | None = field(default=None, metadata=LATER)
    origin: Origin = field(default=NOWHERE)
    speedup: Speedup | None = None
    in_dtype: Speedup | None = None

    @classmethod
    def measured(
        cls,
        workload: Workload,
        description: Description,
        start: ColdStart | None,
        samples: Sequence[float],
        agreement: Agreement,
        trajectory: Trajectory,
        final: FinalScores | None,
        *,
        problem: str | None = None,
        interleaved: bool = False,
        timed: int | None = None,
        size: Size | None = None,
        proof: Proof | None = None,
        processes: Sequence[int] | None = None,
        least_flops: float | None = None,
        energy: Energy | None = None,
        share_cores: bool = False,
    ) -> Row:
        """Make a row from a measurement.

        Args:
            description: The trainer's description of itself.
            start: Costs of new processes; None if there are none. Only their load counts in a row with a ``size``.
            samples: Seconds of each timed round, scaled to all iterations.
            agreement: Agreement of the same trainer with the reference's ``trajectory``.
            final: Loss and accuracies after the last iteration.
            problem: Reason why the row is no result, if known already.
            timed: Number of iterations that a round timed; None for all.
            proof: What was checked of the rounds.
            processes: Number of rounds in each process; None for a single one.
            least_flops: Floating-point operations of an iteration that cannot be skipped; None if unknown.
            energy: Energy of a training; None if it was not measured.
            share_cores: Whether ranks may have more threads than CPUs; else they are no result.
        """
        speed = speed_of(workload, description, min(samples), least_flops)
        limits, too_fast = beside_limits(speed)
        if problem is None:
            problem = too_fast if agreement.passed else f"disagrees with the reference: {agreement.summary()}"
        if problem is None and description.ranks and description.ranks.shared_cores and not share_cores:
            problem = SHARED
        costs = (start.costs if start else {}) | {"train": statistics.median(samples)}
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
            compile_cached=None if start is None else start.compile_cached,
            peak_memory_bytes=None if start is None else start.peak_memory,
            cold=start if size is None else None,
            limits=limits,
            final=final if final is not None and math.isfinite(final.loss) else None,
            errors=_points(agreement.errors),
            agreement=Verdict.of(agreement, trajectory),
            data_sha256=trajectory.dataset.sha256,
            problem=problem,
            interleaved=interleaved,
            timed=None if timed == workload.iterations else timed,
            size=size,
            proof=proof,
            processes=None if processes is None or len(processes) == 1 else tuple(processes),
            failed=description.failed,
            arithmetic=description.arithmetic,
            energy=energy,
            ranks=description.ranks,
        )

    @property
    def dtype(self) -> DType:
        """Dtype of the workload."""
        return self.workload.dtype

    @property
    def validated(self) -> bool:
        """Whether it is a result."""
        return self.problem is None

    @cached_property
    def runs(self) -> Rounds:
        """Seconds of each round, a list for each process."""
        ends = [*accumulate(self.processes or (len(self.samples),))]
        return [[*self.samples[start:end]] for start, end in zip([0, *ends], ends, strict=False)]

    @cached_property
    def timing(self) -> Median:
        """Median of the rounds, with its interval."""
        return median_of_processes(self.runs)

    @cached_property
    def speed(self) -> Speed:
        """Rates reached; rows of earlier versions count as having read each pixel once."""
        read = self.workload.image_bytes if self.bytes_read is None else self.bytes_read
        devices = _devices(self.ranks, self.device)
        return Speed(self.workload, self.timing.value, self.device, self.threads, read, self.skips, devices=devices)

    @property
    def checked_less(self) -> bool:
        """Whether it lacks some of today's checks."""
        return self.proof is None or not self.proof.complete

    @property
    def throttled(self) -> str | None:
        """Reason why the GPU's clocks were throttled, or None."""
        return (self.gpu or {}).get("throttled")

    def as_dict(self) -> dict[str, Any]:
        """Return the row as JSON values, with its rates for readers of the file, without timings and origin."""
        verdict = asdict(self.agreement) | {"trajectory": _records(self.agreement.trajectory)}
        return {
            "schema": SCHEMA,
            **{
                name: getattr(self, name)
                for name in (*_AS_STORED, "gpu", "bytes_read", "validated", "interleaved", "timed", "processes")
            },
            "workload": self.workload.describe(),
            "dense_flops": self.workload.dense_flops,
            "image_bytes": self.workload.image_bytes,
            "flops_per_second": self.speed.flops_per_second,
            "fraction_of_peak": self.speed.fraction_of_peak(self.limits),
            "bytes_per_second": self.speed.bytes_per_second,
            "fraction_of_bandwidth": self.speed.fraction_of_bandwidth(self.limits),
            "limits": self.limits and self.limits.as_dict(),
            "final": final_record(self.final),
            "errors": _records(self.errors),
            "agreement": verdict,
            "proof": self.proof and asdict(self.proof),
            "cold": self.cold and self.cold.as_dict(),
            "failed": self.failed,
            "arithmetic": self.arithmetic and asdict(self.arithmetic),
            "energy": self.energy and asdict(self.energy),
            "ranks": self.ranks and asdict(self.ranks) | {"threads": list(self.ranks.threads)},
            **({} if self.size is None else asdict(self.size) | {"axes": list(self.size.axes)}),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any], samples: Sequence[float], origin: Origin = NOWHERE) -> Row:
        """Read the result of :meth:`as_dict`, of this version or an earlier one with the same schema.

        Raises:
            KeyError, TypeError, ValueError: If the record is damaged.
        """
        verdict, limits, problem = record["agreement"], record.get("limits"), record["problem"]
        if record["validated"] is not (problem is None):
            raise ValueError(f"validated is {record['validated']}, and the problem {problem}")
        size = None
        proof, cold, arithmetic, energy, ranks = map(record.get, ("proof", "cold", "arithmetic", "energy", "ranks"))
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
            timed=record.get("timed"),
            size=size,
            proof=proof and Proof.from_dict(proof),
            cold=cold and ColdStart.from_dict(cold),
            processes=_counts(record.get("processes"), len(samples)),
            failed=record.get("failed"),
            arithmetic=arithmetic and Arithmetic(**arithmetic),
            energy=energy and Energy(**energy),
            ranks=ranks and Ranks(**ranks | {"threads": tuple(ranks["threads"])}),
            origin=origin,
            **{name: record[name] for name in _AS_STORED},
        )


_AS_STORED = (
    *("backend", "device", "threads", "kernel", "skips", "versions", "costs"),
    *("compile_cached", "peak_memory_bytes", "data_sha256", "problem"),
)
"""Attributes that the JSON of every version holds unchanged."""


def speed_of(workload: Workload, description: Description, seconds: float, least_flops: float | None = None) -> Speed:
    """Compute the rates of a trainer that takes ``seconds`` for a workload, from its description."""
    told = description.bytes_read
    bytes_read = workload.image_bytes if told is None else told
    device, threads, skips = description.device, description.threads, description.skips
    declared = description.arithmetic
    bits, products = (None, None) if declared is None else (declared.bits, declared.products)
    devices = _devices(description.ranks, device)
    return Speed(workload, seconds, device, threads, bytes_read, skips, least_flops, bits, products, devices)


def _devices(ranks: Ranks | None, device: str) -> int:
    """Return the number of hosts of ranks on the CPU, or of GPUs, of which each rank has one."""
    if ranks is None:
        return 1
    return ranks.hosts if device == "CPU" else len(ranks.threads)


def _counts(processes: Sequence[int] | None, rounds: int) -> tuple[int, ...] | None:
    """Check the numbers of rounds of processes; raise a ValueError if they do not add up."""
    if processes is not None and (sum(processes) != rounds or min(processes) < 1):
        raise ValueError(f"{rounds} timings of processes with {processes} rounds")
    return None if processes is None else tuple(processes)


def _points(values: Iterable[tuple[int, float]]) -> tuple[Point, ...]:
    return tuple((iteration, value) for iteration, value in values if math.isfinite(value))


def _records(points: Iterable[Point]) -> list[dict[str, float]]:
    return [{"iteration": iteration, "error": error} for iteration, error in points]


def final_record(final: FinalScores | None) -> dict[str, float | None]:
    """Return loss and accuracies as JSON values, None if unknown."""
    return dict.fromkeys(field.name for field in fields(FinalScores)) if final is None else asdict(final)
