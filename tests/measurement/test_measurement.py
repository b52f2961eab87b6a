"""Measurements: a trainer that times other work than was compared has no result, or gains nothing by it.

Each cheat answers the question how one would get a wrong row validated. It is honest where it expects to be watched.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from mnistbench.agreement import Agreement, Trajectory
from mnistbench.backends import Metrics
from mnistbench.backends.numpy import NumpyBackend, NumpyMlpTrainer, NumpyTrainer
from mnistbench.datasets import Dataset, Split
from mnistbench.machine.bounds import Speed
from mnistbench.machine.rates import GpuLimits, Level, Limits
from mnistbench.measurement import Measurement, Proof, Round, Starts, timed_round
from mnistbench.measurement.bound import least_flops
from mnistbench.reference.parameters import Parameters
from mnistbench.task.recipe import Augmentation, Optimizer, Recipe
from mnistbench.task.workload import DType, Network, Workload
from tests.support import builders
from tests.support.builders import identical

DATA = builders.dataset(200, 30, 5)
DATA.train.images[:, :4] = 0  # a border that is always empty, as MNIST has
TASK = replace(builders.workload(DATA, iterations=20), learning_rate=0.5)
ITERATIONS = TASK.iterations


class Honest(NumpyTrainer):
    """A trainer that counts its resets and the calls of as many iterations as a round has."""

    def __init__(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> None:
        self.rounds = 0
        super().__init__(workload, dataset, parameters, threads)
        self.initial = super().parameters()

    def reset(self, parameters: Parameters) -> None:
        super().reset(parameters)
        self.initial = super().parameters()

    def advance(self, iterations: int) -> Metrics:
        if iterations < ITERATIONS:
            return super().advance(iterations)
        self.rounds += 1
        return self.whole(iterations)

    def whole(self, iterations: int) -> Metrics:
        """Run as many iterations as a round has."""
        return super().advance(iterations)


class SkipsAnIteration(Honest):
    def whole(self, iterations: int) -> Metrics:
        return super().whole(iterations - 1)


class TrainsHalf(Honest):
    """Says what the metrics of the last iteration would be, which costs one forward pass."""

    def whole(self, iterations: int) -> Metrics:
        super().whole(iterations // 2)
        half = NumpyTrainer.parameters(self)
        found = super().whole(iterations - iterations // 2)
        NumpyTrainer.reset(self, half)
        return found


class TrainsHalfOnceTrusted(TrainsHalf):
    """The first whole call is the one that is compared."""

    def whole(self, iterations: int) -> Metrics:
        return Honest.whole(self, iterations) if self.rounds == 1 else super().whole(iterations)


class LeavesOut(Honest):
    """Takes updates back, wherever ``leaves_out`` says so. The pieces are as wrong as the whole."""

    done = 0

    def leaves_out(self) -> bool:
        """Whether the update just made, the ``done``-th, is taken back; here none."""
        return False

    def reset(self, parameters: Parameters) -> None:
        super().reset(parameters)
        self.done = 0

    def advance(self, iterations: int) -> Metrics:
        for _ in range(iterations):
            before = NumpyTrainer.parameters(self)
            found = NumpyTrainer.advance(self, 1)
            self.done += 1
            if self.leaves_out():
                NumpyTrainer.reset(self, before)
        return found


class TrainsHalfFromOtherWeights(LeavesOut):
    """Knows the workload's own initial parameters, and is honest there."""

    def leaves_out(self) -> bool:
        return self.done > ITERATIONS // 2 and not identical(self.initial, builders.initial(self.workload))


class MakesAnUpdateMoreFromOtherWeights(NumpyMlpTrainer):
    """Knows the workload's own initial parameters, and is honest there and on other images."""

    known = True

    def reset(self, parameters: Parameters) -> None:
        own = identical(parameters.astype("float64"), builders.initial(self.workload).astype("float64"))
        self.known = own or self.workload.images != TASK.images
        super().reset(parameters)

    def advance(self, iterations: int) -> Metrics:
        if not self.known:
            self.known = True
            super().advance(1)
        return super().advance(iterations)


class Remembers(Honest):
    """Returns again what the first round computed."""

    end: tuple[Metrics, Parameters] | None = None

    def whole(self, iterations: int) -> Metrics:
        if self.end is None:
            self.end = super().whole(iterations), super().parameters()
        NumpyTrainer.reset(self, self.end[1])
        return self.end[0]


class RemembersItsRounds(Honest):
    """Makes half of the updates, the last one honestly, and in a repetition goes on from where it began that one."""

    done = 0

    def reset(self, parameters: Parameters) -> None:
        super().reset(parameters)
        self.seen: dict[bytes, Parameters] = getattr(self, "seen", {})
        self.key, self.done = self.initial.weights[0].tobytes(), 0

    def advance(self, iterations: int) -> Metrics:
        if iterations == ITERATIONS:
            self.rounds += 1
            if self.rounds > 1:
                NumpyTrainer.advance(self, ITERATIONS // 2)
                self.seen[self.key] = NumpyTrainer.parameters(self)
                return NumpyTrainer.advance(self, 1)
        for _ in range(iterations):
            found = NumpyTrainer.advance(self, 1)
            self.done += 1
            if self.done == ITERATIONS - 1 and self.key in self.seen:
                NumpyTrainer.reset(self, self.seen[self.key])
        return found


class StaysWarm(Honest):
    """Goes on from the weights that it has, once the comparison is over."""

    def reset(self, parameters: Parameters) -> None:
        if self.rounds < 1:
            super().reset(parameters)


class NeverFinishes(Honest):
    """Returns at once, with the right metrics, and trains later, if anybody waits."""

    def whole(self, iterations: int) -> Metrics:
        start = NumpyTrainer.parameters(self)
        found = super().whole(iterations)
        NumpyTrainer.reset(self, start)
        return found


class FillsTheArraysLater(Honest):
    """Hands out arrays that a thread goes on writing."""

    def parameters(self) -> Parameters:
        found = super().parameters()
        if self.rounds < 1:
            return found
        late = Parameters.from_arrays(np.zeros_like(array) for array in found.arrays())

        def fill() -> None:
            time.sleep(0.02)
            for array, value in zip(late.arrays(), found.arrays(), strict=True):
                array[...] = value

        threading.Thread(target=fill).start()
        return late


class RoundsWhereNobodyLooks(Honest):
    """Computes long calls in half of the digits."""

    def whole(self, iterations: int) -> Metrics:
        found = super().whole(iterations)
        NumpyTrainer.reset(self, super().parameters().astype(np.float32).astype(np.float64))
        return found


class Boasts(Honest):
    def whole(self, iterations: int) -> Metrics:
        return replace(super().whole(iterations), accuracy=0.999)


class BoastsOnceTrusted(Boasts):
    def whole(self, iterations: int) -> Metrics:
        return Honest.whole(self, iterations) if self.rounds == 1 else super().whole(iterations)


class ChangesDtype(Honest):
    def parameters(self) -> Parameters:
        found = super().parameters()
        return found.astype(np.float32) if self.rounds else found


class ReadsOnlyTheMiddle(Honest):
    """Leaves the border out, which is empty in the data that everybody measures."""

    def __init__(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> None:
        images = dataset.train.images.copy()
        images[:, :4] = 0
        super().__init__(workload, replace(dataset, train=Split(images, dataset.train.labels)), parameters, threads)


class KnowsFiveClasses(Honest):
    def __init__(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> None:
        train = Split(dataset.train.images, np.minimum(dataset.train.labels, 4))
        super().__init__(workload, replace(dataset, train=train), parameters, threads)


class StopsTheClock(Honest):
    """Puts a clock that stands still in the place of Python's."""

    def whole(self, iterations: int) -> Metrics:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "perf_counter", lambda: 0.0)
            return super().whole(iterations // 2)


class Disagrees(Honest):
    def gradients(self) -> Parameters:
        return super().gradients().astype(np.float32).astype(np.float64)


CHEATS: dict[type[Honest], str] = {
    SkipsAnIteration: "one call of 20 iterations disagrees with the reference: loss",
    TrainsHalf: "one call of 20 iterations disagrees with the reference: W1",
    TrainsHalfOnceTrusted: "ends elsewhere than calls of a few iterations",
    TrainsHalfFromOtherWeights: "disagrees with the reference: ",
    Remembers: "ends elsewhere than calls of a few iterations",
    StaysWarm: "a reset did not give the initial parameters",
    NeverFinishes: "one call of 20 iterations disagrees with the reference: W1",
    FillsTheArraysLater: "one call of 20 iterations disagrees with the reference: W1",
    RoundsWhereNobodyLooks: "one call of 20 iterations disagrees with the reference: W1",
    Boasts: "one call of 20 iterations disagrees with the reference: accuracy",
    BoastsOnceTrusted: "ended with other metrics than its repetition",
    ChangesDtype: "TypeError: W1 is float32, not float64",
    RemembersItsRounds: "disagrees with the reference: ",
    ReadsOnlyTheMiddle: "disagrees with the reference on random images: ",
    KnowsFiveClasses: "disagrees with the reference on random images: ",
    StopsTheClock: "one call of 20 iterations disagrees with the reference: ",
    Disagrees: "disagrees with the reference: dW1",
}


def started(kind: type[NumpyMlpTrainer]) -> Callable[[Workload, Dataset, Parameters], Any]:
    return lambda task, dataset, initial: kind(task, dataset.training_only(), initial, 1)


def measured(
    kind: type[Any], task: Workload = TASK, data: Dataset = DATA, rounds: int = 3, iterations: int | None = None
) -> tuple[Measurement, Any]:
    """A whole measurement, as the race and the benchmarks make it, and the trainer."""
    trajectory = Trajectory(task, data)
    starts, start, count = Starts(trajectory), started(kind), iterations or task.iterations
    trainer = start(task, data, trajectory.fresh())
    found = Measurement(trainer, Agreement(kind.__name__, task.dtype), trajectory)
    steps: list[Callable[[], None]] = [
        found.compare,
        lambda: found.compare_elsewhere(start),
        lambda: found.tie(count),
    ]
    steps += [partial(found.round, seed, starts.parameters(seed), count) for seed in starts.seeds(rounds)]
    steps += [lambda: found.confirm(starts, count), lambda: found.judge(trainer.describe())]
    for step in steps:
        if found.problem is None:
            step()
    return found, trainer


@pytest.mark.parametrize("kind", CHEATS)
def test_a_cheat_has_no_result(kind: type[Honest]) -> None:
    found, _ = measured(kind)
    assert found.problem is not None
    assert CHEATS[kind] in found.problem
    assert not found.proof().complete


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"network": Network((30, 6, 4, 5), "tanh")},
        {"network": Network((30, 5)), "recipe": Recipe(optimizer=Optimizer("momentum"))},
        {"network": Network((30, 6, 4, 5)), "recipe": Recipe("he", dropout=(0.4,), batch_size=64)},
    ],
    ids=["classic", "two hidden layers", "no hidden layer", "dropout"],
)
def test_an_honest_trainer_passes_every_check(dtype: DType, options: dict[str, Any]) -> None:
    kind = Honest if not options else NumpyMlpTrainer
    for _ in range(3):  # the checks choose at random
        found, _trainer = measured(kind, replace(TASK.with_dtype(dtype), **options))
        assert found.problem is None
        assert found.proof().checks == (
            "trajectory",
            "other images",
            "one call",
            "fresh weights",
            "repetition",
            "threads",
        )
        assert found.proof().complete
        assert len(found.samples) == 3


@pytest.mark.parametrize("iterations", [None, 5])
def test_a_training_that_loses_its_digits_sooner_has_tolerances_of_its_own(
    iterations: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the wider tolerances of the checked training were exceeded, which rounding may do on other weights."""
    monkeypatch.setattr("mnistbench.measurement.ELSEWHERE", 1e-12)
    task = replace(TASK.with_dtype("float32"), network=Network((30, 6, 4, 5), "tanh"))
    found, _ = measured(NumpyMlpTrainer, task, iterations=iterations)
    assert found.problem is None
    assert "fresh weights" in found.proof().checks
    late, _ = measured(MakesAnUpdateMoreFromOtherWeights, task, iterations=iterations)
    assert "from fresh weights, disagrees with the reference" in str(late.problem)


def test_a_round_may_end_at_any_checkpoint() -> None:
    found, trainer = measured(Honest, iterations=5)
    assert found.problem is None
    assert trainer.rounds == 0
    assert len(found.samples) == 3


@pytest.mark.parametrize("kind", [Honest, TrainsHalf])
def test_rounds_may_be_longer_than_the_trajectory(kind: type[Honest]) -> None:
    """As in the benchmark of scaling: five iterations are compared, and rounds of twenty are timed."""
    trajectory = Trajectory(replace(TASK, iterations=5), DATA)
    trainer = kind(TASK, DATA, trajectory.fresh(), 1)
    starts, found = Starts(trajectory), Measurement(trainer, Agreement("it", "float64"), trajectory)
    found.compare(gradients=False)
    found.tie(5)
    for seed in starts.seeds(2):
        found.round(seed, starts.parameters(seed), ITERATIONS)
    found.confirm(starts, ITERATIONS, whole=False)
    assert (found.problem is None) is (kind is Honest)


class StopsAfterFive(LeavesOut):
    """Makes no update beyond the iterations that the benchmark of scaling compares, in pieces or at once."""

    def leaves_out(self) -> bool:
        return self.done > 6


def test_who_stops_where_the_comparison_does_has_no_result() -> None:
    trajectory = Trajectory(replace(TASK, iterations=5), DATA)
    trainer = StopsAfterFive(TASK, DATA, trajectory.fresh(), 1)
    starts, found = Starts(trajectory), Measurement(trainer, Agreement("it", "float64"), trajectory)
    found.compare(gradients=False)
    found.tie(5)
    for seed in starts.seeds(2):
        found.round(seed, starts.parameters(seed), ITERATIONS)
    assert found.problem is None
    found.confirm(starts, ITERATIONS, whole=False)
    assert found.problem is not None
    assert "disagrees with the reference: step W1" in found.problem


# Work outside of the clock


class ReturnsEarly(Honest):
    """The work is done when somebody asks for its result."""

    pending: Parameters | None = None

    def whole(self, iterations: int) -> Metrics:
        start = NumpyTrainer.parameters(self)
        found = super().whole(iterations)
        NumpyTrainer.reset(self, start)
        self.pending = start
        return found

    def parameters(self) -> Parameters:
        if self.pending is not None:
            self.pending = None
            time.sleep(0.05)
            NumpyTrainer.advance(self, ITERATIONS)
        return super().parameters()


class WorksAhead(Honest):
    """Trains in ``reset``, and shows the initial parameters until ``advance``."""

    ahead: tuple[Metrics, Parameters] | None = None

    def reset(self, parameters: Parameters) -> None:
        super().reset(parameters)
        time.sleep(0.05)
        self.ahead = super().whole(ITERATIONS), NumpyTrainer.parameters(self)
        NumpyTrainer.reset(self, parameters)

    def whole(self, iterations: int) -> Metrics:
        assert self.ahead is not None, "a round begins with a reset"
        NumpyTrainer.reset(self, self.ahead[1])
        return self.ahead[0]


@pytest.mark.parametrize("kind", [ReturnsEarly, WorksAhead])
def test_work_outside_of_the_clock_is_timed(kind: type[Honest]) -> None:
    found, _ = measured(kind)
    assert found.problem is None
    assert found.host_to_host
    assert found.proof().host_to_host
    assert min(found.samples) > 0.05


class MostlyReturnsEarly(ReturnsEarly):
    """Does so in three rounds of seven, which no median shows."""

    def whole(self, iterations: int) -> Metrics:
        return super().whole(iterations) if self.rounds in (3, 4, 7) else Honest.whole(self, iterations)


def test_work_outside_of_the_clock_is_timed_in_the_rounds_that_have_it() -> None:
    found, _ = measured(MostlyReturnsEarly, rounds=7)
    assert found.problem is None
    assert found.host_to_host
    assert [seconds > 0.05 for seconds in found.samples] == [False, True, True, False, False, True, False]


class Replays(Honest):
    """Knows the end of every training it has seen, whatever the order of the units."""

    seen: dict[bytes, tuple[Metrics, Parameters]]
    computed = 0

    def whole(self, iterations: int) -> Metrics:
        self.seen = getattr(self, "seen", {})
        key = np.sort(self.initial.weights[0].ravel()).tobytes()
        if key not in self.seen:
            self.computed += 1
            self.seen[key] = super().whole(iterations), NumpyTrainer.parameters(self)
        NumpyTrainer.reset(self, self.seen[key][1])
        return self.seen[key][0]


def test_there_is_nothing_to_replay() -> None:
    found, trainer = measured(Replays, rounds=4)
    assert found.problem is None
    assert trainer.computed == trainer.rounds == 1 + 4, "every round starts from weights that nobody has seen"


def test_seeds_are_new_and_one_is_the_references() -> None:
    starts = Starts(Trajectory(TASK, DATA))
    places = {starts.seeds(4).index(starts.reference) for _ in range(200)}
    assert places == {0, 1, 2, 3}
    assert len({*starts.seeds(3), *starts.seeds(3)}) == 5


# What does not repeat itself


class Wanders(Honest):
    """Sums in another order each time, as atomic additions on a GPU do."""

    def advance(self, iterations: int) -> Metrics:
        found = super().advance(iterations)
        random, own = np.random.default_rng(), NumpyTrainer.parameters(self).arrays()
        moved = [np.nextafter(array, random.choice((-1, 1), array.shape)) for array in own]
        NumpyTrainer.reset(self, Parameters.from_arrays(moved))
        return found


def test_who_never_repeats_itself_is_held_to_its_own_spread() -> None:
    assert measured(Wanders)[0].problem is None


class WandersAndTrainsHalf(Wanders, TrainsHalfOnceTrusted):
    pass


def test_and_so_may_not_train_less() -> None:
    problem = measured(WandersAndTrainsHalf)[0].problem
    assert problem is not None
    assert "ends elsewhere" in problem


# Threads and rates


@pytest.mark.parametrize(("busy", "passes"), [(0.5, True), (1.0, True), (1.25, True), (1.4, False), (2.0, False)])
def test_more_threads_than_declared_are_noticed(busy: float, passes: bool) -> None:
    """The trainer declares one."""

    def clock(trainer: Any, initial: Parameters, iterations: int) -> Round:
        return replace(timed_round(trainer, initial, iterations), seconds=0.1, cpu=0.1 * busy)

    trajectory = Trajectory(TASK, DATA)
    trainer = Honest(TASK, DATA, trajectory.fresh(), 1)
    found = Measurement(trainer, Agreement("it", "float64"), trajectory, clock)
    found.round(0, trajectory.fresh(), ITERATIONS)
    found.judge(replace(trainer.describe(), threads=1))
    expected = None if passes else f"declares 1 thread, and spent {busy:.2g} CPU seconds a second"
    assert found.problem == expected


def test_what_cannot_be_skipped_is_counted() -> None:
    nonzero = np.count_nonzero(DATA.train.images)
    assert least_flops(TASK, DATA) == 2 * nonzero * 7
    leaky = replace(TASK, network=replace(TASK.network, activation="leaky-relu"))
    assert least_flops(leaky, DATA) == 2 * 2 * nonzero * 7
    batches = replace(TASK, recipe=Recipe(batch_size=64), iterations=6)  # four of them an epoch
    emptiest = np.sort(np.count_nonzero(DATA.train.images, axis=1))[:128].sum()
    assert least_flops(batches, DATA) == pytest.approx(2 * (nonzero + emptiest) / 6 * 7)
    for recipe in (Recipe(batch_size=64, augmentation=Augmentation(shift=1)), Recipe(dropout=(0.5,))):
        assert least_flops(replace(TASK, recipe=recipe), DATA) is None


def test_no_declaration_lifts_the_bound() -> None:
    limits = Limits({"float64": 1e9}, (Level("memory", None, 1e9),), threads=1, product={}, blas=None, gpu=None)
    least = least_flops(TASK, DATA)
    assert least is not None
    seconds = least * ITERATIONS / 1e9
    for factor, possible in ((1.01, True), (0.99, False)):
        speed = Speed(TASK, seconds * factor, "CPU", 1, 0, "all that is known", least)
        found = speed.above(limits)
        assert (found is None) is possible
        assert possible or "counting only what cannot be skipped" in str(found)


@pytest.mark.parametrize("skips", [None, "all that is known"])
def test_no_gpu_is_faster_than_its_matrix_units(skips: str | None) -> None:
    memory = (Level("memory", None, 1.0),)
    gpu = GpuLimits({"float64": 1e3}, memory, "Some GPU", 1e-6, matrix=1e9)
    limits = Limits({"float64": 1.0}, memory, threads=1, product={}, blas=None, gpu=gpu)
    flops = least_flops(TASK, DATA) if skips else TASK.dense_flops
    assert flops is not None
    for factor, possible in ((1.01, True), (0.99, False)):
        speed = Speed(TASK, flops * ITERATIONS / 1e9 * factor, "Some GPU", 1, 10**9, skips, least_flops(TASK, DATA))
        assert (speed.above(limits) is None) is possible
        unknown = replace(limits, gpu=replace(gpu, matrix=None))
        assert speed.above(unknown) is speed.above(replace(limits, gpu=None)) is None


def test_a_trainer_never_sees_what_it_is_tested_on() -> None:
    seen: list[Dataset] = []

    class Looks(NumpyBackend):
        def load(self, workload: Workload, dataset: Dataset, parameters: Parameters, threads: int | None) -> Any:
            seen.append(dataset)
            return super().load(workload, dataset, parameters, threads)

    tested = replace(DATA, test=DATA.dev)
    Looks().start(TASK, tested, builders.initial(TASK))
    assert (len(seen[0].train), len(seen[0].dev), seen[0].test) == (200, 0, None)


def test_a_proof_is_read_as_it_was_written() -> None:
    found = measured(Honest)[0].proof()
    assert Proof.from_dict(asdict(found)) == found


def test_the_clocks_of_a_round() -> None:
    class Slow(Honest):
        def reset(self, parameters: Parameters) -> None:
            time.sleep(0.02)
            super().reset(parameters)

        def whole(self, iterations: int) -> Metrics:
            time.sleep(0.03)
            return super().whole(iterations)

    trainer = Slow(TASK, DATA, builders.initial(TASK), 1)
    found = timed_round(trainer, builders.initial(TASK), ITERATIONS)
    assert found.whole > found.seconds + 0.02 > 0.05
    assert found.cpu >= 0
