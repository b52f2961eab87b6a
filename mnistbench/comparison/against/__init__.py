"""A gate for regressions: a backend now against the same backend of another revision of this package.

Two processes differ though they run the same code: their memory lies elsewhere (Mytkowicz et al., "Producing wrong data
without doing anything obviously wrong!", ASPLOS 2009). So the unit is a pair of new processes, one of each side, alive
at the same time. They train in turn, slice by slice, so that both meet the same disturbances; the median of the slices'
ratios is the pair's. :mod:`verdict` judges the pairs' ratios, and more pairs are measured until it can tell.

A slice is some milliseconds of training: as short as the time that the system gives a process before it lets another
one run, so that many slices are undisturbed even on a busy machine. Pairs of processes with the same code differed by
0.5% with slices of 3 ms where they differed by 5% with slices of 15 ms, in the same time. A slice is whole epochs,
since the median would hide what is slower in fewer than half of the slices, and every epoch does the same work.

Both sides train on the same images from the same weights, and what they trained in slices is compared with the
reference: parameters, loss and accuracy in the end. A side that disagrees has no verdict.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mnistbench import machine
from mnistbench.agreement import Trajectory, check_round
from mnistbench.comparison.against.sides import Process, Side, together
from mnistbench.comparison.against.verdict import Verdict, judge, next_look
from mnistbench.datasets import load_images
from mnistbench.exceptions import MnistbenchError, OptionError
from mnistbench.task.workload import DType, Workload
from mnistbench.timing import noise
from mnistbench.words import counted, seconds

__all__ = ["Case", "Gate", "Side", "run"]

_SLICE = 3e-3  # seconds of a slice, at least
_FEWEST = 4  # slices in a pair
_SHORTEST, _LONGEST = 1.0, 5.0  # seconds of training in a pair, which is as long as its start took


@dataclass
class Case:
    """One backend in one dtype, with what is known of it so far.

    Attributes:
        label: Backend and dtype.
        backend, dtype: The same, apart.
        slice: Number of iterations of a slice; 0 before the first pair.
        pairs: Seconds of each slice of each pair of processes, now and of the other revision.
        verdict: Verdict of the last look; None before the first.
        problem: Reason why there is no verdict, or None.
        spent: Seconds of measuring.
        threads: Number of threads in effect on each side.
        versions: Versions of the libraries on each side.
    """

    label: str
    backend: str
    dtype: DType
    slice: int = 0
    pairs: list[tuple[list[float], list[float]]] = field(default_factory=list)
    verdict: Verdict | None = None
    problem: str | None = None
    spent: float = 0.0
    threads: tuple[int, int] = (0, 0)
    versions: tuple[dict[str, str], dict[str, str]] = field(default_factory=lambda: ({}, {}))

    @property
    def ratios(self) -> list[float]:
        """Time now as a multiple of the other revision's, in each pair: the median of its slices' ratios."""
        return [statistics.median(now / then for now, then in zip(*pair, strict=True)) for pair in self.pairs]

    @property
    def due(self) -> int:
        """Number of pairs at the next look, or at the look just taken."""
        return next_look(len(self.pairs) - 1)

    @property
    def seconds(self) -> tuple[float, float]:
        """Seconds of an iteration, now and of the other revision: the median of the pairs' medians."""
        now, then = ([statistics.median(pair[side]) / self.slice for pair in self.pairs] for side in (0, 1))
        return statistics.median(now), statistics.median(then)

    @property
    def failed(self) -> bool:
        """Whether the gate is closed: the backend is slower, or wrong on either side."""
        return self.problem is not None or (self.verdict is not None and self.verdict.word == "slower")


@dataclass
class Gate:
    """Outcome of a gate.

    Attributes:
        sides: Now, and the other revision.
        workload: Workload that each case trains in its own dtype.
        fail: Slowdown from which on a case is slower, as a fraction.
        budget: Seconds of measuring after which a case ends, decided or not.
        warnings: Reasons to doubt the outcome.
    """

    sides: tuple[Side, Side]
    workload: Workload
    fail: float
    budget: float
    cases: list[Case]
    warnings: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """Return the outcome as JSON values, with all raw timings."""
        return {
            "machine": machine.describe(),
            "workload": self.workload.describe(),
            "sides": [{"name": side.name, "revision": side.revision} for side in self.sides],
            "fail": self.fail,
            "budget": self.budget,
            "cases": [_record(case) for case in self.cases],
            "warnings": self.warnings,
        }


def _record(case: Case) -> dict[str, Any]:
    fields = asdict(case)
    if case.verdict is not None and not case.verdict.ratio.known:
        fields["verdict"]["ratio"] |= {"low": None, "high": None}  # JSON has no infinity
    return {**fields, "pairs": [{"now": now, "then": then} for now, then in case.pairs], "ratios": case.ratios}


def run(
    sides: tuple[Side, Side],
    backends: Sequence[str],
    dtypes: Sequence[DType],
    workload: Workload,
    *,
    fail: float = 0.05,
    budget: float = 300.0,
    threads: int | None = None,
    callback: Callable[[Case], None] = lambda case: None,
) -> Gate:
    """Measure every backend in every dtype on both sides, until each is judged or its budget is used up.

    Args:
        sides: Now, and the other revision.
        backends: Names of backends that both sides have.
        dtypes: Dtypes to measure each backend in.
        workload: Workload to train; its dtype is ignored.
        fail: Slowdown from which on a backend is slower, as a fraction.
        budget: Seconds of measuring for each backend and dtype.
        threads: Number of host threads; None for all usable CPUs.
        callback: Called after each pair of processes, while no clock runs.

    Raises:
        OptionError: If ``fail`` or ``budget`` is not a positive number, or no backend is named.
    """
    if not (math.isfinite(fail) and fail > 0):
        raise OptionError(f"--fail {fail:g}: give a slowdown above 0, such as 5%")
    if not (math.isfinite(budget) and budget > 0):
        raise OptionError(f"--budget {budget:g}: give a number of seconds above 0")
    if not backends or not dtypes:
        raise OptionError("nothing to compare: name a backend")
    cases = [
        Case(f"{name} {dtype}", name, dtype) for dtype in dict.fromkeys(dtypes) for name in dict.fromkeys(backends)
    ]
    gate = Gate(sides, workload, fail, budget, cases)
    trajectory = Trajectory(workload.with_dtype("float64"), load_images(workload.images, workload.seed))
    trajectory.free_images()
    with noise.Watch() as watch:
        for case in cases:
            try:
                _measure(case, gate, trajectory, threads, callback)
            except MnistbenchError as error:  # the other cases can still be measured
                case.problem = str(error)
                callback(case)
    gate.warnings = [*(warning for case in cases for warning in _warnings(case, gate)), *watch.warnings()]
    return gate


def _measure(
    case: Case, gate: Gate, trajectory: Trajectory, threads: int | None, callback: Callable[[Case], None]
) -> None:
    """Measure pairs of processes until the case is judged or its budget is used up."""
    task, look, begun = gate.workload.with_dtype(case.dtype), 0, math.inf
    while True:
        order = random.sample((0, 1), 2)  # not seeded: no two gates shall share an order
        start = time.monotonic()
        with together(gate.sides, order, case.backend, task, threads) as processes:
            begun = min(begun, time.monotonic())  # the first start of a process may compile
            case.threads = processes[0].threads, processes[1].threads
            case.versions = processes[0].versions, processes[1].versions
            case.slice = case.slice or _slice(processes, task)
            lasting = min(_LONGEST, max(_SHORTEST, time.monotonic() - start))
            case.pairs.append(_in_turn(processes, order, case.slice, lasting))
            for process in processes:
                _require_agreement(process, task, trajectory)
        case.spent = time.monotonic() - begun
        over = case.spent > gate.budget
        if len(case.pairs) == case.due or over:
            case.verdict = judge(case.ratios, look, gate.fail)
            look += 1
        callback(case)
        if over or (case.verdict is not None and case.verdict.word != "cannot tell"):
            return


def _slice(processes: tuple[Process, Process], task: Workload) -> int:
    """Find the least number of iterations that are whole epochs and take both sides long enough to be timed."""
    iterations = task.iterations_per_epoch
    while 2 * iterations <= task.iterations:
        if min(process.advance(iterations) for process in processes for _ in range(5)) >= _SLICE:
            return iterations
        iterations *= 2
    return min(iterations, task.iterations)


def _in_turn(
    processes: tuple[Process, Process], order: Sequence[int], iterations: int, lasting: float
) -> tuple[list[float], list[float]]:
    """Time slices of both processes in turn, in the order A B, B A, A B, ...: a drift of the machine cancels."""
    samples: tuple[list[float], list[float]] = ([], [])
    end = time.monotonic() + lasting
    while len(samples[0]) < _FEWEST or time.monotonic() < end:
        for place in order:
            samples[place].append(processes[place].advance(iterations))
        order = order[::-1]
    return samples


def _require_agreement(process: Process, task: Workload, trajectory: Trajectory) -> None:
    """Compare what a process has trained with the reference; raise a MnistbenchError if it disagrees."""
    metrics, parameters = process.result()
    if failed := [c for c in check_round(parameters, metrics, task.dtype, trajectory) if not c.passed]:
        raise MnistbenchError(f"{process.side.name} disagrees with the reference: {failed[0]}")


def _warnings(case: Case, gate: Gate) -> Iterator[str]:
    """Yield reasons to doubt a case."""
    if case.verdict is None or case.problem:
        return
    if case.verdict.word == "cannot tell":
        few = "" if case.verdict.ratio.known else f" (at least {next_look(0)} are needed)"
        yield (
            f"{case.label}: cannot tell after {counted(len(case.pairs), 'pair')}{few}; give a larger --budget or --fail"
        )
    if (shortest := min(case.seconds) * case.slice) < noise.SHORTEST:
        yield f"{case.label}: a slice takes {seconds(shortest)}, too short to be timed well; train for more iterations"
    if case.threads[0] != case.threads[1]:
        yield f"{case.label}: {case.threads[0]} threads now, {case.threads[1]} of {gate.sides[1].name}"
    now, then = case.versions
    differ = [f"{name} {now[name]} now, {then[name]} then" for name in now if name in then and now[name] != then[name]]
    if differ:
        yield f"{case.label}: libraries differ: {'; '.join(differ)}"
