"""Ranks of one thread against one process of as many threads, in interleaved rounds from fresh weights.

``mpiexec -n 2 python -m mpi4py -m benchmarks.ranks_or_threads`` prints how many times as long the ranks take, for the
classic's images and for a million.
"""

from __future__ import annotations

import argparse
import statistics

import mnistbench.backends as registry
from mnistbench.backends import Trainer
from mnistbench.datasets import load_images
from mnistbench.measurement.rounds import timed_round
from mnistbench.ranks import Team, on_ranks
from mnistbench.ranks.launcher import launched
from mnistbench.reference.parameters import Parameters
from mnistbench.task.presets import variant
from mnistbench.timing.statistics import paired_ratio
from mnistbench.words import seconds, significant

_SECONDS = 1.0
"""Seconds of a round, about."""


def main() -> None:
    """Compare for each number of images."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ranks_or_threads", description=__doc__)
    parser.add_argument("--backend", default="numba")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64"))
    parser.add_argument("--images", type=int, nargs="+", default=[41_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()

    def compare(team: Team) -> None:
        for images in options.images:
            _compare(team, options.backend, options.dtype, images, options.rounds)

    on_ranks((launched() or (0, 1))[1], compare, threads=1)


def _compare(team: Team, backend: str, dtype: str, images: int, rounds: int) -> None:
    """Time rounds of both in turn, the first of a round in turn too, and print the ratio."""
    task = variant("classic", 0, images).with_dtype("float64" if dtype == "float64" else "float32")
    dataset = load_images(images)
    initial = Parameters.initial(task.network, task.seed, task.recipe.initializer)
    of_ranks, alone = team.backend(backend), registry.get_backend(backend)
    with of_ranks.start(task, dataset, initial) as ranks, alone.start(task, dataset, initial, team.size) as threads:
        iterations = _iterations(threads)
        found: dict[str, list[float]] = {"ranks": [], "threads": []}
        for number in range(rounds):
            start = Parameters.initial(task.network, number, task.recipe.initializer)
            pair: list[tuple[str, Trainer]] = [("ranks", ranks), ("threads", threads)]
            for name, trainer in pair if number % 2 else pair[::-1]:
                found[name].append(timed_round(trainer, start, iterations).seconds / iterations)
        described = ranks.describe().ranks
    exchange = described.exchange if described else None
    took = "" if exchange is None else f", {seconds(exchange)} of it in the exchange"
    ratio = paired_ratio(found["ranks"], found["threads"])
    each, others = (seconds(statistics.median(found[name])) for name in ("ranks", "threads"))
    print(
        f"{images:,} images, {backend} {dtype}, {rounds} rounds of {iterations} iterations: {team.size} ranks "
        f"{each} an iteration{took}; a process of {team.size} threads {others}; the ranks take "
        f"{significant(ratio.value, 4)} times as long ({significant(ratio.low, 4)} to {significant(ratio.high, 4)})",
        flush=True,
    )


def _iterations(trainer: Trainer) -> int:
    """Return the number of iterations of a round."""
    from mnistbench.timing.clock import timed

    few = 3
    trainer.advance(few)
    return max(few, round(_SECONDS * few / timed(lambda: trainer.advance(few))[1]))


if __name__ == "__main__":
    main()
