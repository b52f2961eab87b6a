"""Sizes of the scaling benchmark, and how much of each is compared and timed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

from mnistbench.agreement import Trajectory
from mnistbench.backends import Trainer
from mnistbench.datasets import Dataset, load_images
from mnistbench.results import storage
from mnistbench.task.presets import preset
from mnistbench.task.workload import Workload
from mnistbench.timing.clock import timed

IMAGES = (1_000, 10_000, 41_000, 100_000, 1_000_000)
HIDDEN = (10, 32, 64, 128, 256, 512)

# Number of iterations compared, and of those that all comparisons run.
COMPARED = 5
COMPARING = 3 * (COMPARED + 1)
CHECKED = f"{COMPARED} iterations, all but the gradients, and some updates of a round"

ROUND_SECONDS = 0.5
_MOST_ITERATIONS = 1_000

# Idle threads of OpenBLAS spin for some tens of milliseconds after the comparison.
_SETTLE = 0.3


@dataclass(frozen=True)
class Case:
    """One size, and the axes of the charts that show it.

    Attributes:
        threads: Number of threads, of each rank.
        ranks: Number of ranks; None for one process by itself.
    """

    images: int
    hidden: int
    threads: int
    axes: tuple[str, ...]
    ranks: int | None = None

    def __str__(self) -> str:
        among = "" if self.ranks is None else f"-{self.ranks}-ranks"
        return f"{self.images}-images-{self.hidden}-hidden-{self.threads}-threads{among}"


def cases(most_images: int, threads: int) -> list[Case]:
    """List every size once, small ones first; along each axis the other two are the classic's, or near to them."""
    base, hidden = base_size(most_images)
    found: dict[tuple[int, int, int], list[str]] = {}
    for images in IMAGES:
        if images <= most_images:
            found.setdefault((images, hidden, threads), []).append("images")
    for units in HIDDEN:
        found.setdefault((base, units, threads), []).append("hidden")
    for count in thread_counts(threads):
        found.setdefault((base, hidden, count), []).append("threads")
    return sorted((Case(*sizes, tuple(axes)) for sizes, axes in found.items()), key=_size)


def base_size(most_images: int) -> tuple[int, int]:
    """Return the classic's numbers of images, or the next smaller one that is allowed, and of hidden units."""
    classic = preset("classic")
    most = min(most_images, classic.images)
    return max(images for images in IMAGES if images <= most), classic.network.hidden[0]


def cases_of_ranks(most_images: int, threads: int, ranks: Sequence[int]) -> list[Case]:
    """List the cases of strong scaling, of the classic's images and of the most, and of weak scaling.

    Args:
        threads: Number of threads of each rank.
    """
    base, hidden = base_size(most_images)
    found: dict[tuple[int, int], list[str]] = {}
    for images in dict.fromkeys((base, max(images for images in IMAGES if images <= most_images))):
        for count in ranks:
            found.setdefault((images, count), []).append("ranks")
    for count in ranks:
        if base * count <= most_images:
            found.setdefault((base * count, count), []).append("weak")
    return [Case(images, hidden, threads, tuple(axes), count) for (images, count), axes in sorted(found.items())]


def _size(case: Case) -> tuple[int, int, int]:
    return (case.images, case.hidden, -case.threads)


def thread_counts(most: int) -> list[int]:
    """Return 1, 2, 4, ... and ``most``."""
    return sorted({*(2**k for k in range(most.bit_length()) if 2**k <= most), most})


@lru_cache(maxsize=1)
def dataset(images: int) -> Dataset:
    """Load training images of MNIST, with shifted copies beyond their number."""
    return load_images(images)


@lru_cache(maxsize=1)
def trajectory(images: int, hidden: int) -> Trajectory:
    """Compute the reference's first iterations, without keeping its images, 8 bytes a pixel."""
    data = dataset(images)
    task = Workload(data.network(hidden), images, COMPARED, dtype="float64", name=storage.SCALING)
    found = Trajectory(task, data)
    found.free_images()
    return found


def settle(trainer: Trainer) -> float:
    """Iterate until BLAS threads from the comparison are asleep; return the seconds of an iteration."""
    count, spent, seconds = 1, 0.0, 0.0
    while spent < _SETTLE:
        if spent:
            count *= 2 if seconds < _SETTLE / 4 else 1
        _, seconds = timed(partial(trainer.advance, count))
        spent += seconds
    return seconds / count


def round_length(iteration: float) -> int:
    """Return the iterations of a round of about half a second: 1, 2 or 5 times a power of ten."""
    series = [digit * 10**power for power in range(4) for digit in (1, 2, 5)]
    fitting = [n for n in series if n <= _MOST_ITERATIONS and n * iteration <= ROUND_SECONDS]
    return max(fitting, default=1)
