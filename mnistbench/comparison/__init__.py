"""Comparison of backends on one task in interleaved rounds, with ratios taken within rounds.

Every round runs each contender once, in another order, from fresh weights. A machine that is slower for a while
slows both sides of a ratio, so ratios are known better than times. A process may be faster or slower as a whole, so
with several processes each starts every contender anew, and is one observation. A contender that fails a check of
:mod:`mnistbench.measurement` gets no result, and the race goes on without it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import zip_longest

import mnistbench.backends as registry
from mnistbench import words
from mnistbench.agreement import Agreement, Trajectory, kept
from mnistbench.backends import Description, Trainer
from mnistbench.comparison import processes as remote
from mnistbench.datasets import Dataset
from mnistbench.exceptions import MnistbenchError, OptionError
from mnistbench.measurement import Energy, Proof
from mnistbench.ranks.team import Team
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import DType, Workload
from mnistbench.threads import resolve
from mnistbench.timing import noise
from mnistbench.timing.differences import differences
from mnistbench.timing.statistics import Ratio, Rounds, ratio_of_processes
from mnistbench.training import cold
from mnistbench.training.cold import ColdStart
from mnistbench.training.scores import FinalScores

BASELINE = "numpy"
"""Default baseline, if it takes part."""

COLD = 6.0
"""Seconds for the new processes of a backend in a dtype, after which none starts, and of a training in one."""


MOST = 10_000
"""Largest number of rounds, and of processes."""


@dataclass
class Contender:
    """One backend in one dtype, with its results so far.

    Attributes:
        label: Unique name: "numba float32", "numba float32 (2)".
        agreement: Agreement with the reference along the whole trajectory, before any round.
        state: Current activity, for display.
        runs: Seconds of each round, a list for each process, scaled to all iterations.
        timed: Number of iterations of a round, from the first on; 0 before that is known.
        problem: Reason why it has no result, or None.
        accuracy: Accuracy on the training images in the last iteration of the last round; NaN before.
        description: The trainer's description of itself.
        final: Loss and accuracies after the last iteration; None before.
        proof: What was checked of its rounds; None before.
        cold: Costs of a cold process, if they are wanted and this is the first contender of its backend and dtype.
        energy: Energy of a training, if it is wanted and the device has a counter.
    """

    label: str
    backend: str
    dtype: DType
    agreement: Agreement
    state: str = "waits"
    runs: list[list[float]] = field(default_factory=list)
    timed: int = 0
    problem: str | None = None
    accuracy: float = math.nan
    description: Description | None = None
    final: FinalScores | None = None
    proof: Proof | None = None
    cold: ColdStart | None = None
    energy: Energy | None = None

    @property
    def is_first(self) -> bool:
        """Whether no contender before it is the same backend in the same dtype."""
        return self.label == f"{self.backend} {self.dtype}"

    @property
    def samples(self) -> list[float]:
        """Seconds of all rounds."""
        return [seconds for run in self.runs for seconds in run]


@dataclass
class Comparison:
    """Contenders of one run and their measurements, which grow during the run.

    Attributes:
        workload: Workload that each contender trains in its own dtype.
        rounds: Number of rounds to run in each process.
        processes: Number of processes of each contender, one after the other.
        longest: Seconds from which a round ends at an earlier checkpoint of the training.
        budget: Seconds after which no round of all contenders begins but the one that is then due.
        ends: Moment of :func:`time.monotonic` at which the budget is used up.
        is_cut: Whether rounds were left out because the budget was used up.
        baseline: Label of a contender, or name of a backend, which is the baseline in each dtype.
        isolated: Whether every contender has a process of its own.
        cold_starts: Whether the costs of new processes are measured before the race.
        energies: Whether the energy of a training is measured after it.
        team: Ranks that share the images of each contender; None for one process.
        orders: Order of the contenders in each round, as places in ``contenders``.
        trajectory: The reference's trajectory, once computed.
        warnings: Reasons to doubt the timings.
    """

    workload: Workload
    rounds: int
    processes: int
    longest: float
    baseline: str
    contenders: list[Contender]
    isolated: bool = False
    cold_starts: bool = False
    energies: bool = False
    team: Team | None = None
    budget: float = math.inf
    ends: float = math.inf
    is_cut: bool = False
    orders: list[list[int]] = field(default_factory=list)
    trajectory: Trajectory | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def ran(self) -> list[int]:
        """Number of rounds in each process so far."""
        counts = zip_longest(*([len(run) for run in contender.runs] for contender in self.contenders), fillvalue=0)
        return [most for most in map(max, counts) if most]

    @property
    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self.ends - time.monotonic()

    def baseline_of(self, contender: Contender) -> Contender:
        """Return the contender's baseline, in its own dtype if it takes part in that."""
        own = [c for c in self.contenders if self.baseline in (c.backend, c.label)]
        return next((c for c in own if c.dtype == contender.dtype), own[0])

    def pairs(self, contender: Contender) -> tuple[Rounds, Rounds] | None:
        """Return the runs of the baseline and of a contender, common rounds only; None if one has no result."""
        other = self.baseline_of(contender)
        if contender is other or contender.problem or other.problem:
            return None
        common = [(one[: len(two)], two[: len(one)]) for one, two in zip(other.runs, contender.runs, strict=False)]
        common = [(one, two) for one, two in common if one]
        return ([one for one, _ in common], [two for _, two in common]) if common else None

    def ratio(self, contender: Contender) -> Ratio | None:
        """Estimate a contender's speedup over its baseline within rounds; None if one has no result."""
        pairs = self.pairs(contender)
        return None if pairs is None else ratio_of_processes(*pairs)

    def significant(self, contender: Contender) -> bool | None:
        """Whether the times differ by more than chance, and 1 is outside of the ratio's interval; None if unknown.

        All contenders with the same baseline are tested together.
        """
        baseline = self.baseline_of(contender)
        family = [c for c in self.contenders if self.baseline_of(c) is baseline and self.pairs(c) is not None]
        if contender not in family:
            return None
        differ = differences(baseline.runs, [other.runs for other in family])[family.index(contender)].significant
        ratio = self.ratio(contender)
        return None if differ is None or ratio is None else differ and not ratio.low <= 1 <= ratio.high


Progress = Callable[[Comparison], None]


def compare(
    backends: Sequence[str],
    dtypes: Sequence[DType],
    workload: Workload,
    dataset: Dataset,
    *,
    rounds: int = 7,
    processes: int = 1,
    longest: float = math.inf,
    budget: float = math.inf,
    baseline: str | None = None,
    threads: int | None = None,
    isolate: bool = False,
    cold_starts: bool = False,
    energies: bool = False,
    callback: Progress = lambda comparison: None,
    team: Team | None = None,
) -> Comparison:
    """Run a comparison.

    Args:
        backends: Names of backends; a name may occur more than once.
        dtypes: Dtypes in which each backend takes part.
        workload: Workload to train; its dtype is ignored.
        dataset: Images to train on.
        rounds: Number of rounds in each process.
        processes: Number of processes of each contender. With several, intervals and tests are about all processes;
            with one, about that process only, and they take 6 rounds or more.
        longest: Seconds of a round; one that would be longer ends at an earlier checkpoint, and is scaled to all
            iterations. What a backend does only once after a reset then counts more than once.
        budget: Seconds from now, cold starts and the reference included, after which the next round of all contenders
            is the last one. A further process begins only if one as long as the last fits. A warning then says what
            ran. Checks of rounds, and the energy, come after it.
        baseline: A backend that takes part, or a label such as "numpy float64"; numpy by default, or the first.
        threads: Number of host threads of every contender; None as for :func:`mnistbench.threads.resolve`.
        isolate: Whether to run each contender in a process of its own, as is also done if libraries clash in one
            process. A script must then compare below ``if __name__ == "__main__":``, since new processes import it.
        cold_starts: Whether to measure first what each backend costs in a new process, which stored rows tell.
        energies: Whether to measure the energy of a training after the rounds, where the device has a counter.
        callback: Called on every change while no clock runs.
        team: Ranks that share the images of each contender, in one process each; ``threads`` is then the team's.

    Raises:
        UnknownBackend, BackendUnavailable, UnsupportedWorkload: If a backend cannot run the workload.
        OptionError: If there are fewer than 1 round or process, no backend, a round or a budget of no time, or a
            baseline that does not take part; or if a team is to run in other processes, or its ranks' threads share
            CPUs.
    """
    from mnistbench.comparison.race import Race  # which loads more than a contender's own process needs

    comparison = _prepared(backends, dtypes, workload, rounds, processes, longest, budget, baseline)
    if dataset.share is not None:
        raise OptionError(f"{dataset.source}: holds the share of one rank; the reference needs all images")
    comparison.cold_starts, comparison.team = cold_starts, team
    comparison.energies = energies and (team is None or team.hosts == 1)  # counters are of one machine
    threads = resolve(threads)
    if team:
        _require_alone(team, isolate or processes > 1 or cold_starts)
    initial = Parameters.initial(workload.network, workload.seed, workload.recipe.initializer)
    for name in backends:
        # An isolated backend's libraries stay out of this process; its own process finds out whether it can run.
        if not (isolate or processes > 1) or name not in registry.list_backends():
            registry.refuse_unsupported(team.backend(name) if team else registry.get_backend(name), workload)
    if cold_starts:
        _start_cold(comparison, threads, callback)
    race: Race | None = None
    watched: list[str] = []
    took = -math.inf  # the first process always begins
    for _ in range(processes):
        if took > comparison.left:
            comparison.is_cut = True
            break
        begun = time.monotonic()
        with ExitStack() as stack:
            wanted = isolate or processes > 1 or (team is None and remote.clashing_libraries() is not None)
            racing = _start(comparison, stack, dataset, initial, threads, wanted, callback)
            if race is None:
                comparison.trajectory = kept.trajectory(workload, dataset)
                race = Race(comparison, threads, callback)
            watched += race.run(racing)
        took = time.monotonic() - begun
    comparison.warnings = [
        *_ended_early(comparison),
        *_warnings(comparison.contenders),
        *dict.fromkeys(watched),
        *noise.of_cores(),
    ]
    return comparison


def _require_alone(team: Team, elsewhere: bool) -> None:
    """Refuse a comparison of ranks that would measure something else."""
    if elsewhere:
        raise OptionError("a team: runs in its own processes; leave out isolate, processes and cold_starts")
    if team.shares_cores and not team.may_share_cores:
        raise OptionError(
            f"{team.size} ranks: have more threads than CPUs, and wait for each other; start fewer, give fewer "
            "--threads, or allow it by --share-cores"
        )


def _prepared(
    backends: Sequence[str],
    dtypes: Sequence[DType],
    workload: Workload,
    rounds: int,
    processes: int,
    longest: float,
    budget: float,
    baseline: str | None,
) -> Comparison:
    """Check the options and return the comparison before anything has run."""
    for number, what in ((rounds, "rounds"), (processes, "processes")):
        if number < 1:
            raise OptionError(f"{number} {what}: at least 1 is needed")
        if number > MOST:
            raise OptionError(f"{number} {what}: give at most {MOST:,}")
    if not longest > 0:
        raise OptionError(f"rounds of {longest:g} s: more than 0 are needed")
    if not budget > 0:
        raise OptionError(f"--budget {budget:g}: give a number of seconds above 0")
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
    comparison = Comparison(workload, rounds, processes, longest, chosen, taking_part)
    comparison.budget, comparison.ends = budget, time.monotonic() + budget
    return comparison


def _start_cold(comparison: Comparison, threads: int, progress: Progress) -> None:
    """Measure the cold start of each backend in each dtype, one process after the other."""
    first = {}
    for contender in reversed(comparison.contenders):
        first[contender.backend, comparison.workload.with_dtype(contender.dtype)] = contender

    def starting(case: cold.Case) -> None:
        for contender in comparison.contenders:
            contender.state = "starts in a new process" if contender is first[case] else "waits"
        progress(comparison)

    costs = cold.measure([*first], threads, COLD, kernels=True, starting=starting)
    for contender, found in zip(first.values(), costs, strict=True):
        if isinstance(found, MnistbenchError):
            contender.problem, contender.state = str(found), "out"
        else:
            contender.cold, contender.state = found, "waits"


def _start(
    comparison: Comparison,
    stack: ExitStack,
    dataset: Dataset,
    initial: Parameters,
    threads: int | None,
    isolate: bool,
    progress: Progress,
) -> list[tuple[Contender, Trainer]]:
    """Start all trainers, in this process or, if wanted or if libraries clash, in one each."""
    comparison.isolated = isolate
    started = []
    with ExitStack() as unless_clash:
        for contender in comparison.contenders:
            if contender.problem:
                continue
            contender.state = "loads"
            progress(comparison)
            task = comparison.workload.with_dtype(contender.dtype)
            try:
                trainer = remote.start(
                    contender.backend, task, dataset, initial.astype("float64"), threads, isolate, comparison.team
                )
            except Exception as error:
                measured = any(other.runs for other in comparison.contenders)
                if isinstance(error, MnistbenchError) and type(error) is not MnistbenchError and not measured:
                    raise  # a mistake of the user's
                contender.problem, contender.state = words.exception(error), "out"
                continue
            started.append((contender, unless_clash.enter_context(trainer)))
            contender.state = "loaded"
            if not isolate and comparison.team is None and remote.clashing_libraries() is not None:
                break
        else:
            stack.enter_context(unless_clash.pop_all())
            return started
    return _start(comparison, stack, dataset, initial, threads, True, progress)


def _ended_early(comparison: Comparison) -> Iterator[str]:
    """Yield a warning if the budget was used up before all rounds had run."""
    if comparison.is_cut and comparison.ran:
        wanted, ran = comparison.processes * comparison.rounds, sum(comparison.ran)
        within = f", in {len(comparison.ran)} of {comparison.processes} processes" * (comparison.processes > 1)
        yield f"the budget was used up after {ran} of {words.counted(wanted, 'round')}{within}"


def _warnings(contenders: Sequence[Contender]) -> Iterator[str]:
    """Yield reasons to doubt the contenders' results."""
    for contender in contenders:
        if contender.problem or not contender.samples:
            continue
        for warning in noise.of_processes([run for run in contender.runs if run]):
            yield f"{contender.label}: {warning}"
        if contender.description and (failed := contender.description.failed):
            yield f"{contender.label}: {failed}"
        gpu = contender.description.gpu if contender.description else None
        if throttled := (gpu or {}).get("throttled"):
            yield f"{contender.label}: the GPU's clocks were held down: {throttled}"


def fraction(comparison: Comparison) -> float:
    """Compute the fraction of the rounds that is done."""
    racing = [contender for contender in comparison.contenders if not contender.problem]
    done = sum(len(contender.samples) for contender in racing)
    return done / max(1, comparison.processes * comparison.rounds * len(racing))
