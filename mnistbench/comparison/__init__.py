"""Head to head: several backends train the same task in interleaved rounds, and ratios are taken within a round.

Every round runs each contender once, in another random order, from fresh weights. A machine that is slower for a
while slows both sides of a ratio, so that ratios are known better than times are.

The clock trusts nobody; see :mod:`mnistbench.comparison.race`. Who fails a check gets no result, and the race goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import mnistbench.backends as registry
from mnistbench import words
from mnistbench.agreement import Agreement, Trajectory
from mnistbench.backends import Description, Trainer
from mnistbench.comparison import processes as ways
from mnistbench.datasets import Dataset
from mnistbench.exceptions import MnistbenchError, OptionError
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import DType, Workload
from mnistbench.timing import noise
from mnistbench.timing.statistics import Ratio, different, paired_ratio
from mnistbench.training.scores import FinalScores

BASELINE = "numpy"
"""What others are compared with, unless somebody chooses, or it does not take part."""


@dataclass
class Contender:
    """One backend in one dtype, and what is known of it so far.

    Attributes:
        label: unique among the contenders: "numba float32", "numba float32 (2)".
        agreement: with the reference, along the whole trajectory, before any round.
        state: what it is doing, for somebody who watches.
        samples: seconds of each round.
        problem: why it has no result, else None.
        accuracy: of the training images in the last iteration of the last round; NaN before.
        description: what the trainer says of itself.
        final: loss and accuracies after the last iteration; None before.
    """

    label: str
    backend: str
    dtype: DType
    agreement: Agreement
    state: str = "waits"
    samples: list[float] = field(default_factory=list)
    problem: str | None = None
    accuracy: float = math.nan
    description: Description | None = None
    final: FinalScores | None = None


@dataclass
class Comparison:
    """The contenders of one run and what was measured; it grows while the run goes on.

    Attributes:
        workload: what everybody trains; each contender in its own dtype.
        rounds: how many there will be.
        baseline: label of the contender, or name of the backend (of each dtype its own), that ratios are over.
        isolated: whether every contender has a process of its own.
        trajectory: the reference's, once it is computed.
        warnings: what makes the timings doubtful, in words.
    """

    workload: Workload
    rounds: int
    baseline: str
    contenders: list[Contender]
    isolated: bool = False
    trajectory: Trajectory | None = None
    warnings: list[str] = field(default_factory=list)

    def baseline_of(self, contender: Contender) -> Contender:
        """Whom a contender is compared with: the baseline in its own dtype, where that takes part in it."""
        own = [c for c in self.contenders if self.baseline in (c.backend, c.label)]
        return next((c for c in own if c.dtype == contender.dtype), own[0])

    def pairs(self, contender: Contender) -> tuple[list[float], list[float]] | None:
        """Seconds of the baseline and of a contender in the rounds that both have run; None where one has no result."""
        other = self.baseline_of(contender)
        done = min(len(contender.samples), len(other.samples))
        if contender is other or contender.problem or other.problem or not done:
            return None
        return other.samples[:done], contender.samples[:done]

    def ratio(self, contender: Contender) -> Ratio | None:
        """How many times as fast as its baseline a contender is, within rounds; None where one has no result."""
        pairs = self.pairs(contender)
        return None if pairs is None else paired_ratio(*pairs)

    def different(self, contender: Contender) -> bool | None:
        """Whether the times of a contender and its baseline differ by more than chance (see
        :func:`~mnistbench.timing.statistics.different`); None where nothing can be said."""
        pairs = self.pairs(contender)
        return None if pairs is None else different(*pairs)

    def significant(self, contender: Contender) -> bool | None:
        """Whether the times differ by more than chance, and 1 is outside of the ratio's interval."""
        ratio, differ = self.ratio(contender), self.different(contender)
        return None if ratio is None or differ is None else differ and not ratio.low <= 1 <= ratio.high


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
        rounds: how often everybody runs; from 6 on, ratios have intervals and differences are tested.
        baseline: a backend that takes part, or one of its labels ("numpy float64"); by default numpy, or else the
            first.
        threads: how many of the host's to use; None for all that the process may.
        isolate: a process for each contender. It is also done where libraries clash in one process. A script that
            compares so must do it below ``if __name__ == "__main__":``, since new processes import it.
        progress: called whenever something has changed and no clock runs.

    Raises:
        UnknownBackend, BackendUnavailable, UnsupportedWorkload: a backend cannot do it.
        OptionError: fewer than 1 round, no backend, or a baseline that does not take part.
    """
    from mnistbench.comparison import race  # which loads more than a contender's own process needs

    comparison = _prepared(backends, dtypes, workload, rounds, baseline)
    initial = Parameters.initial(workload.network, workload.seed, workload.recipe.initializer)
    for name in backends:
        # Its own process will say whether an isolated one can run; its libraries stay out of this one.
        (registry.get_backend if not isolate else _known)(name)
    with ExitStack() as stack:
        wanted = isolate or ways.clashing_libraries() is not None
        racing = _start(comparison, stack, dataset, initial, threads, wanted, progress)
        comparison.trajectory = Trajectory(workload.with_dtype("float64"), dataset)
        race.check_all(comparison, racing, progress)
        comparison.trajectory.free_images()
        with noise.Watch() as watch:
            race.run(comparison, racing, watch, progress)
        race.finish(comparison, racing)
    comparison.warnings = [*_warnings(comparison.contenders), *watch.warnings()]
    return comparison


def _known(name: str) -> None:
    if name not in registry.list_backends():
        registry.get_backend(name)  # raises, and says what is meant


def _prepared(
    backends: Sequence[str], dtypes: Sequence[DType], workload: Workload, rounds: int, baseline: str | None
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
    return Comparison(workload, rounds, chosen, taking_part)


def _start(
    comparison: Comparison,
    stack: ExitStack,
    dataset: Dataset,
    initial: Parameters,
    threads: int | None,
    isolate: bool,
    progress: Progress,
) -> list[tuple[Contender, Trainer]]:
    """Start everybody's trainer: in this process, or, if that is wanted or turns out to be needed, in one each."""
    comparison.isolated = isolate
    started = []
    with ExitStack() as unless_clash:
        for contender in comparison.contenders:
            contender.state = "loads"
            progress(comparison)
            task = comparison.workload.with_dtype(contender.dtype)
            try:
                trainer = ways.start(contender.backend, task, dataset, initial.astype("float64"), threads, isolate)
            except MnistbenchError:
                raise  # the user's to mend, before anything was measured
            except Exception as error:
                contender.problem, contender.state = words.exception(error), "out"
                continue
            started.append((contender, unless_clash.enter_context(trainer)))
            contender.state = "loaded"
            if not isolate and ways.clashing_libraries() is not None:
                break
        else:
            stack.enter_context(unless_clash.pop_all())
            return started
    return _start(comparison, stack, dataset, initial, threads, True, progress)


def _warnings(contenders: Sequence[Contender]) -> Iterator[str]:
    """What makes the results of contenders doubtful."""
    for contender in contenders:
        if contender.problem or not contender.samples:
            continue
        for warning in noise.of_timings(contender.samples):
            yield f"{contender.label}: {warning}"
        gpu = contender.description.gpu if contender.description else None
        if throttled := (gpu or {}).get("throttled"):
            yield f"{contender.label}: the GPU's clocks were held down: {throttled}"


def fraction(comparison: Comparison) -> float:
    """How much of the rounds is done."""
    racing = [contender for contender in comparison.contenders if not contender.problem]
    done = sum(len(contender.samples) for contender in racing)
    return done / max(1, comparison.rounds * len(racing))
