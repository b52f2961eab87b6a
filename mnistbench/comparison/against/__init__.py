"""A gate for regressions: a backend now against the same backend of another revision of this package.

Two processes differ though they run the same code: their memory lies elsewhere (Mytkowicz et al., "Producing wrong data
without doing anything obviously wrong!", ASPLOS 2009). So the unit is a pair of new processes, one of each side, alive
at the same time. They train in turn, round by round, so that both meet the same disturbances; the median of the rounds'
ratios is the pair's. :mod:`verdict` judges the pairs' ratios, and more pairs are measured until it can tell.

Both sides train on the same images from the same weights, and after every process's last round its parameters, loss
and accuracy are compared with the reference. A side that disagrees has no verdict.
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

_ROUNDS_SECONDS = 2.0  # of rounds in a pair, about as long as starting it takes
_FEWEST, _MOST = 4, 100  # rounds in a pair


@dataclass
class Case:
    """One backend in one dtype, with what is known of it so far.

    Attributes:
        label: Backend and dtype.
        backend, dtype: The same, apart.
        pairs: Seconds of each round of each pair of processes, now and of the other revision.
        verdict: Verdict of the last look; None before the first.
        problem: Reason why there is no verdict, or None.
        spent: Seconds of measuring.
        threads: Number of threads in effect on each side.
        versions: Versions of the libraries on each side.
    """

    label: str
    backend: str
    dtype: DType
    pairs: list[tuple[list[float], list[float]]] = field(default_factory=list)
    verdict: Verdict | None = None
    problem: str | None = None
    spent: float = 0.0
    threads: tuple[int, int] = (0, 0)
    versions: tuple[dict[str, str], dict[str, str]] = field(default_factory=lambda: ({}, {}))

    @property
    def ratios(self) -> list[float]:
        """Time now as a multiple of the other revision's, in each pair: the median of its rounds' ratios."""
        return [statistics.median(now / then for now, then in zip(*pair, strict=True)) for pair in self.pairs]

    @property
    def due(self) -> int:
        """Number of pairs at the next look, or at the look just taken."""
        return next_look(len(self.pairs) - 1)

    @property
    def seconds(self) -> tuple[float, float]:
        """Median of the pairs' median rounds, now and of the other revision."""
        now, then = ([statistics.median(pair[side]) for pair in self.pairs] for side in (0, 1))
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
        with together(gate.sides, order, case.backend, task, threads) as processes:
            begun = min(begun, time.monotonic())  # the first start of a process may compile
            case.threads = processes[0].threads, processes[1].threads
            case.versions = processes[0].versions, processes[1].versions
            case.pairs.append(_rounds(processes, order))
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


def _rounds(processes: tuple[Process, Process], order: Sequence[int]) -> tuple[list[float], list[float]]:
    """Time rounds of both processes in turn, in the order A B, B A, A B, ...: a drift of the machine cancels."""
    samples: tuple[list[float], list[float]] = ([], [])
    count = _FEWEST
    while len(samples[0]) < count:
        for place in order:
            samples[place].append(processes[place].round())
        order = order[::-1]
        if len(samples[0]) == _FEWEST:
            spent = statistics.median(samples[0]) + statistics.median(samples[1])
            count = max(_FEWEST, min(_MOST, round(_ROUNDS_SECONDS / spent)))
    return samples


def _require_agreement(process: Process, task: Workload, trajectory: Trajectory) -> None:
    """Compare what the last round left with the reference; raise a MnistbenchError if it disagrees."""
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
    if (shortest := min(case.seconds)) < noise.SHORTEST:
        yield f"{case.label}: a round takes {seconds(shortest)}, too short to be timed well; train for more iterations"
    if case.threads[0] != case.threads[1]:
        yield f"{case.label}: {case.threads[0]} threads now, {case.threads[1]} of {gate.sides[1].name}"
    now, then = case.versions
    differ = [f"{name} {now[name]} now, {then[name]} then" for name in now if name in then and now[name] != then[name]]
    if differ:
        yield f"{case.label}: libraries differ: {'; '.join(differ)}"
