"""Head to head: several backends train the same task in interleaved rounds, and ratios are taken within a round.

Every round runs each contender once, in another random order, from fresh weights. A machine that is slower for a
while slows both sides of a ratio, so that ratios are known better than times are.

The clock trusts nobody. In every round it is checked that a reset gave the initial parameters, that the parameters
afterwards are the reference's, that as many iterations ran as were asked for, and that ``advance`` did not return
before its work was done. Who fails gets no result.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import threadpoolctl

import mnistbench.backends as registry
from mnistbench import training
from mnistbench.agreement import Agreement, Trajectory, check_final, check_trainer
from mnistbench.backends import Trainer
from mnistbench.comparison import contenders as ways
from mnistbench.datasets import Dataset
from mnistbench.errors import OptionError
from mnistbench.measurement import noise
from mnistbench.measurement.statistics import Ratio, different, paired_ratio
from mnistbench.workload import DType, Workload

SETTLE = 0.1
"""Seconds of rest before each run: threads of the one before stop spinning within that."""

EARLY = 0.05
"""A trainer whose parameters come later than this fraction of a round's seconds, in every round, returned early."""

EARLY_FLOOR = 5e-4
"""Seconds by which they may be late whatever a round takes: a first copy from a device, a cold cache."""

BASELINE = "numpy"
"""What others are compared with, unless somebody chooses, or it does not take part."""


@dataclass
class Contender:
    """One backend in one dtype, and what is known of it so far.

    Attributes:
        label: unique among the contenders: "numba float32", "numba float32 (2)".
        state: what it is doing, for somebody who watches.
        samples: seconds of each round.
        agreement: with the reference, along the whole trajectory, before any round.
        problem: why it has no result, else None.
        accuracy: of the training images in the last iteration of the last round.
        late: by how much reading the parameters after each round was late, in seconds.
        description: what the trainer says of itself.
        final: loss and accuracies after the last iteration.
    """

    label: str
    backend: str
    dtype: DType
    agreement: Agreement
    state: str = "waits"
    samples: list[float] = field(default_factory=list)
    problem: str | None = None
    accuracy: float = math.nan
    late: list[float] = field(default_factory=list)
    description: dict[str, Any] = field(default_factory=dict)
    final: dict[str, float | None] = field(default_factory=dict)


@dataclass
class Comparison:
    """The contenders of one run and what was measured; it grows while the run goes on.

    Attributes:
        workload: what everybody trains; each contender in its own dtype.
        rounds: how many there will be.
        baseline: label of the contender, or name of the backend (of each dtype its own), that ratios are over.
        isolated: whether every contender has a process of its own.
        trajectory: the reference's.
        warnings: what makes the timings doubtful, in words.
    """

    workload: Workload
    rounds: int
    baseline: str
    contenders: list[Contender]
    trajectory: Trajectory
    isolated: bool = False
    warnings: list[str] = field(default_factory=list)

    def baseline_of(self, contender: Contender) -> Contender:
        """Whom a contender is compared with: the baseline in its own dtype, where that takes part in it."""
        own = [c for c in self.contenders if self.baseline in (c.backend, c.label)]
        return next((c for c in own if c.dtype == contender.dtype), own[0])

    def ratio(self, contender: Contender) -> Ratio | None:
        """How many times as fast as its baseline a contender is, within rounds; None where one has no result."""
        other = self.baseline_of(contender)
        if contender.problem or other.problem or not contender.samples or contender is other:
            return None
        done = min(len(contender.samples), len(other.samples))
        return paired_ratio(other.samples[:done], contender.samples[:done])

    def significant(self, contender: Contender) -> bool | None:
        """Whether a contender and its baseline differ by more than chance; None where nothing can be said."""
        ratio, other = self.ratio(contender), self.baseline_of(contender)
        if ratio is None or (differ := different(other.samples, contender.samples)) is None:
            return None
        return differ and not ratio.low <= 1 <= ratio.high


Progress = Callable[[Comparison], None]


def compare(
    backends: Sequence[str],
    dtypes: Sequence[DType],
    workload: Workload,
    dataset: Dataset,
    *,
    rounds: int = 7,
    baseline: str | None = None,
    threads: int | None = None,
    isolate: bool = False,
    progress: Progress = lambda comparison: None,
) -> Comparison:
    """Run a comparison to its end.

    Args:
        backends: names; one may be given more than once.
        dtypes: each backend takes part in each.
        workload: what to train; its dtype does not count.
        dataset: what to train on.
        rounds: how often everybody runs; from 5 on, a difference can be significant.
        baseline: a backend that takes part; by default numpy, or else the first.
        threads: how many of the host's to use; None for all that the process may.
        isolate: a process for each contender. It is also done where libraries clash in one process.
        progress: called whenever something has changed and no clock runs.

    Raises:
        UnknownBackend, BackendUnavailable, UnsupportedWorkload: a backend cannot do it.
        OptionError: fewer than 1 round, no backend, or a baseline that does not take part.
    """
    for name in backends:
        if isolate and name in registry.names():
            continue  # its process will say whether it can run; its libraries stay out of this one
        registry.require(name)
    comparison = _prepared(backends, dtypes, workload, dataset, rounds, baseline)
    with ExitStack() as stack:
        trainers = _start(comparison, stack, threads, isolate, progress)
        for contender, trainer in zip(comparison.contenders, trainers, strict=True):
            _check(contender, trainer, comparison, progress)
        racing = [pair for pair in zip(comparison.contenders, trainers, strict=True) if not pair[0].problem]
        with noise.Watch() as watch:
            _race(comparison, racing, watch, progress)
        for contender, trainer in racing:
            _finish(contender, trainer, dataset)
    comparison.warnings = [*_warnings(comparison.contenders), *watch.warnings()]
    return comparison


def _warnings(contenders: Sequence[Contender]) -> Iterator[str]:
    """What makes the contenders' own timings doubtful."""
    for contender in contenders:
        for warning in noise.of_timings(contender.samples) if contender.samples else ():
            yield f"{contender.label}: {warning}"
        if throttled := (contender.description.get("gpu") or {}).get("throttled"):
            yield f"{contender.label}: the GPU's clocks were held down: {throttled}"


def _prepared(
    backends: Sequence[str],
    dtypes: Sequence[DType],
    workload: Workload,
    dataset: Dataset,
    rounds: int,
    baseline: str | None,
) -> Comparison:
    """The comparison before anything has run, its options checked."""
    if rounds < 1:
        raise OptionError(f"{rounds} rounds: at least 1 is needed")
    if not backends or not dtypes:
        raise OptionError("nothing to compare: name a backend")
    taking_part: list[Contender] = []
    for dtype in dict.fromkeys(dtypes):
        for place, name in enumerate(backends):
            earlier = backends[:place].count(name)
            label = f"{name} {dtype}" + (f" ({earlier + 1})" if earlier else "")
            taking_part.append(Contender(label, name, dtype, Agreement(name, dtype)))
    chosen = baseline or (BASELINE if BASELINE in backends else backends[0])
    if chosen not in (names := dict.fromkeys([*backends, *(contender.label for contender in taking_part)])):
        raise OptionError(f"baseline {chosen!r} does not take part; choose from {', '.join(names)}")
    trajectory = Trajectory(workload.with_dtype("float64"), dataset)
    return Comparison(workload, rounds, chosen, taking_part, trajectory)


def _start(
    comparison: Comparison, stack: ExitStack, threads: int | None, isolate: bool, progress: Progress
) -> list[Trainer]:
    """Start everybody's trainer: in this process, or, if that is wanted or needed, in one each."""
    trajectory = comparison.trajectory
    with ExitStack() as unless_clash:
        trainers = []
        for contender in comparison.contenders:
            contender.state = "loads"
            progress(comparison)
            task = comparison.workload.with_dtype(contender.dtype)
            trainer = ways.start(contender.backend, task, trajectory.dataset, trajectory.fresh(), threads, isolate)
            trainers.append(unless_clash.enter_context(trainer))
            contender.state = "loaded"
        clash = None if isolate else ways.clashing_libraries(threadpoolctl.threadpool_info)
        if clash is None:
            comparison.isolated = isolate
            stack.enter_context(unless_clash.pop_all())
            return trainers
    return _start(comparison, stack, threads, True, progress)


def _check(contender: Contender, trainer: Trainer, comparison: Comparison, progress: Progress) -> None:
    """Compare a trainer with the reference along the whole trajectory, which is also the warm-up."""
    contender.state = "is checked"
    progress(comparison)
    contender.agreement = check_trainer(trainer, contender.agreement, comparison.trajectory)
    contender.description = trainer.describe()
    if not contender.agreement.passed:
        contender.problem = f"disagrees with the reference: {contender.agreement.summary()}"
    contender.state = "out" if contender.problem else "ready"
    progress(comparison)


def _race(
    comparison: Comparison, racing: list[tuple[Contender, Trainer]], watch: noise.Watch, progress: Progress
) -> None:
    """All rounds. Nothing is drawn while a clock runs: on few cores, drawing would be in the time."""
    order = random.Random(comparison.workload.seed)
    for _ in range(comparison.rounds):
        for contender, trainer in order.sample(racing, len(racing)):
            if contender.problem is None:
                contender.state = "runs"
                progress(comparison)
                _run(contender, trainer, comparison, watch)
                contender.state = "out" if contender.problem else "ready"
                progress(comparison)
    for contender, _ in racing:
        late = min(contender.late, default=0.0)
        if contender.problem is None and late > max(EARLY_FLOOR, EARLY * statistics.median(contender.samples)):
            contender.problem = (
                f"advance returned before its work was done: reading the parameters then took {late * 1e3:.1f} ms more"
            )


def _run(contender: Contender, trainer: Trainer, comparison: Comparison, watch: noise.Watch) -> None:
    """One round of one contender."""
    trajectory, iterations = comparison.trajectory, comparison.workload.iterations
    try:
        trainer.reset(trajectory.fresh())
        initial = trajectory.fresh().astype(contender.dtype)
        if any((a != b).any() for (_, a), (_, b) in zip(trainer.parameters().named(), initial.named(), strict=True)):
            contender.problem = "reset did not give the initial parameters"
            return
        time.sleep(SETTLE)
        watch.look()
        found = ways.run_round(trainer, iterations)
    except Exception as error:  # a contender that fails leaves the race to the others
        contender.problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return
    contender.samples.append(found.seconds)
    contender.late.append(found.late)
    contender.accuracy = found.metrics.accuracy
    if found.metrics.iteration != iterations - 1:
        contender.problem = f"ran {found.metrics.iteration + 1} of {iterations} iterations"
    checks = check_final(found.parameters, contender.dtype, trajectory)
    contender.agreement.checks.extend(checks)
    if (failed := [check for check in checks if not check.passed]) and contender.problem is None:
        contender.problem = f"a timed round disagrees with the reference: {failed[0]}"


def _finish(contender: Contender, trainer: Trainer, dataset: Dataset) -> None:
    """What a row says of the trained network. It takes one iteration more, of which the forward pass counts."""
    contender.final = {"dev_accuracy": None, "test_accuracy": None, "loss": None, "train_accuracy": contender.accuracy}
    if contender.problem:
        return
    contender.final = {
        "dev_accuracy": training.accuracy(trainer, dataset.dev),
        "test_accuracy": training.accuracy(trainer, dataset.test) if dataset.test else None,
    }
    last = trainer.advance(1)
    contender.final |= {"loss": last.loss, "train_accuracy": last.accuracy}
    contender.description = trainer.describe()  # with what a GPU's clocks did meanwhile
    contender.state = "finished"


def fraction(comparison: Comparison) -> float:
    """How much of the rounds is done."""
    done = sum(len(contender.samples) for contender in comparison.contenders)
    racing = [contender for contender in comparison.contenders if not contender.problem]
    return done / max(1, comparison.rounds * len(racing))
