"""Simulation of how often the intervals cover the truth, and the tests tell a difference, on noise of known kinds.

``python -m mnistbench.timing.coverage`` prints the tables, which docs/honesty.md shows. Every run draws the same noise.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnistbench import words
from mnistbench.timing.differences import differences
from mnistbench.timing.statistics import Rounds, median_of_processes, ratio_of_processes

Design = tuple[int, int]
"""Numbers of processes and of rounds in each."""

Draw = Callable[[np.random.Generator, int, int], NDArray[np.float64]]
"""Logarithms of a contender's seconds but for noise 0, (processes, rounds), from a generator."""

DESIGNS: tuple[Design, ...] = ((5, 3), (5, 5), (1, 7), (1, 15))
"""Designs of which intervals are simulated."""

TESTED: tuple[Design, ...] = ((5, 3), (5, 5), (1, 7))
"""Designs of which tests are simulated."""

TRIALS = 1000
"""Number of runs simulated of each design on each noise, which tells a share near 95% to 1.4 percentage points."""

FASTER = 1.03
"""Ratio that the tests should tell from 1."""

FAMILY = 4
"""Number of contenders tested at once, none of which differs from the baseline."""

_OWN = 0.02  # standard deviation of a round's logarithm, and of what a process adds to all of its rounds
_DRIFT = 0.05  # drift from the first to the last round of a run
_TAIL, _OUTLIER = 0.05, 0.3  # probability of an outlier, and by how much it is slower on average

_MEASURED = (
    *(-0.020, 0.070, -0.016, 0.045, 0.028, 0.000, -0.019, -0.015),
    *(0.013, 0.016, -0.005, -0.001, 0.007, -0.027, 0.002),
)
"""15 rounds of numba on the classic in one process, as distances from their median in fractions of it, measured on two
virtual CPUs of the Emerald Rapids generation."""


@dataclass(frozen=True)
class Noise:
    """Kind of noise.

    Attributes:
        name: Its name in the tables.
        draw: Function that draws it.
        drift: By how much the logarithms grow from the first to the last round, for all contenders alike.
    """

    name: str
    draw: Draw
    drift: float = 0.0

    def seconds(self, random: np.random.Generator, design: Design, later: int = 0) -> list[list[float]]:
        """Draw the rounds of a contender of 1 s, and those of ``later`` processes that start when the run has ended."""
        processes, rounds = design
        places = np.arange((processes + later) * rounds) / max(1, processes * rounds - 1) - 0.5
        logarithms = self.draw(random, processes + later, rounds) + self.drift * places.reshape(-1, rounds)
        found: list[list[float]] = np.exp(logarithms).tolist()
        return found


def _independent(random: np.random.Generator, processes: int, rounds: int) -> NDArray[np.float64]:
    return _OWN * random.standard_normal((processes, rounds))


def _correlated(correlation: float) -> Draw:
    def draw(random: np.random.Generator, processes: int, rounds: int) -> NDArray[np.float64]:
        values = random.standard_normal((processes, rounds))
        for place in range(1, rounds):
            values[:, place] *= math.sqrt(1 - correlation**2)
            values[:, place] += correlation * values[:, place - 1]
        return _OWN * values

    return draw


def _offset(random: np.random.Generator, processes: int, rounds: int) -> NDArray[np.float64]:
    return _independent(random, processes, rounds) + _OWN * random.standard_normal((processes, 1))


def _skewed(random: np.random.Generator, processes: int, rounds: int) -> NDArray[np.float64]:
    shape = processes, rounds
    return _OWN * np.expm1(random.standard_normal(shape)) + _outliers(random, shape)


def _outliers(random: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    return (random.random(shape) < _TAIL) * random.exponential(_OUTLIER, shape)


def _measured(random: np.random.Generator, processes: int, rounds: int) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.log1p(random.choice(_MEASURED, (processes, rounds)))
    return found


NOISES = (
    Noise("independent, 2%", _independent),
    Noise("correlated by 0.5 within a process", _correlated(0.5)),
    Noise("correlated by 0.8 within a process", _correlated(0.8)),
    Noise("drift of 5% over the run", _independent, _DRIFT),
    Noise("2% between and 2% within processes", _offset),
    Noise("skewed, 1 round in 20 an outlier", _skewed),
    Noise("as measured with numba", _measured),
)
"""The kinds of noise."""


def covered_median(noise: Noise, design: Design, random: np.random.Generator) -> bool:
    """Whether the interval of a median covers the true one, of all processes, in a run."""
    found = median_of_processes(noise.seconds(random, design))
    return found.low <= 1 <= found.high


def covered_next(noise: Noise, design: Design, random: np.random.Generator) -> bool:
    """Whether a run's interval for one more process covers its median; with one process, the interval of its own."""
    *before, after = noise.seconds(random, design, later=1)
    found = median_of_processes(before)
    low, high = found.next_process or (found.low, found.high)
    return low <= median_of_processes([after]).value <= high


def covered_ratio(noise: Noise, design: Design, random: np.random.Generator) -> bool:
    """Whether the interval of a ratio of two contenders covers the true one in a run."""
    found = ratio_of_processes(noise.seconds(random, design), noise.seconds(random, design))
    return found.low <= 1 <= found.high


def found_different(noise: Noise, design: Design, random: np.random.Generator, ratio: float = 1.0) -> bool:
    """Whether the test tells a contender from a baseline that takes ``ratio`` times its seconds."""
    baseline = [[ratio * second for second in rounds] for rounds in noise.seconds(random, design)]
    return _any_significant(baseline, [noise.seconds(random, design)])


def found_faster(noise: Noise, design: Design, random: np.random.Generator) -> bool:
    """Whether the test finds a difference of :data:`FASTER`."""
    return found_different(noise, design, random, FASTER)


def found_any(noise: Noise, design: Design, random: np.random.Generator) -> bool:
    """Whether any of :data:`FAMILY` contenders, none of which differs, seems to."""
    baseline, *others = (noise.seconds(random, design) for _ in range(1 + FAMILY))
    return _any_significant(baseline, others)


def _any_significant(baseline: Rounds, others: Sequence[Rounds]) -> bool:
    return any(difference.significant for difference in differences(baseline, others))


Trial = Callable[[Noise, Design, np.random.Generator], bool]


def share(trial: Trial, noise: Noise, design: Design, trials: int = TRIALS) -> float:
    """Compute the share of the runs in which ``trial`` holds."""
    random = np.random.default_rng(design)
    return sum(trial(noise, design, random) for _ in range(trials)) / trials


_COVERED: dict[str, Trial] = {"a median": covered_median, "the next process": covered_next, "a ratio": covered_ratio}
_FOUND: dict[str, Trial] = {
    "two alike": found_different,
    f"any of {FAMILY} alike": found_any,
    f"{words.percent(FASTER - 1, 0)} faster": found_faster,
}


def as_markdown(shown: str = "") -> Iterator[str]:
    """Yield the tables of the intervals and of the tests, and a line with the digest of them and of this code.

    Args:
        shown: Text of an earlier call. If it is of the same code and was not changed, it is taken; else the noise is
            simulated anew, which takes half a minute.
    """
    *lines, last = shown.strip("\n").split("\n")
    if last != _signature(lines):
        lines = [*_table("interval of", _COVERED, DESIGNS), "", *_table("said to differ", _FOUND, TESTED), ""]
    yield from (*lines, _signature(lines))


def _signature(lines: Sequence[str]) -> str:
    found = hashlib.sha256("\n".join(lines).encode())
    for name in ("coverage", "differences", "statistics"):
        found.update(Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8").encode())
    return f"<!-- digest of these tables and of the code that simulates them: {found.hexdigest()[:16]} -->"


def _table(heading: str, trials: dict[str, Trial], designs: Sequence[Design]) -> Iterator[str]:
    columns = [f"{processes} × {rounds}" for processes, rounds in designs]
    for cells in ([heading, "noise", *columns], ["---"] * (2 + len(columns))):
        yield f"| {' | '.join(cells)} |"
    for name, trial in trials.items():
        for noise in NOISES:
            shares = (words.percent(share(trial, noise, design), 0) for design in designs)
            yield f"| {' | '.join([name, noise.name, *shares])} |"


if __name__ == "__main__":
    print("\n".join(as_markdown()))
