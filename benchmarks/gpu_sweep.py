"""``python -m benchmarks.gpu_sweep``: how an iteration's cost on a GPU grows with images and with hidden units.

Real MNIST images, repeated, in float32. Every contender starts from the same parameters; where several ran, the
largest relative difference of their parameters from those of the first is part of the row, so that a fast wrong
answer shows. Writes ``results/<machine>/gpu_sweep_NNNN.json`` and prints a line for each row.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

import mnistbench.backends as registry
from mnistbench import machine
from mnistbench.datasets import Dataset, Split, load_data
from mnistbench.exceptions import BackendUnavailable
from mnistbench.files import write_text
from mnistbench.reference.parameters import Parameters
from mnistbench.task.workload import Network, Workload
from mnistbench.timing import statistics
from mnistbench.timing.clock import timed

IMAGES = (10_000, 41_000, 100_000, 1_000_000, 8_000_000)
HIDDEN = (2, 10, 32, 64, 128, 256)
ROUNDS = 5

# Iterations of a round, so that the images of all of them are about those of the classic.
_IMAGES_A_ROUND = 41_000 * 500
_FEWEST = 10


def main(arguments: list[str] | None = None) -> int:
    """Run the sweep; the exit status is 2 where there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"), help="where to store the rows")
    parser.add_argument("--most-images", type=int, default=max(IMAGES), help="leave out the cases with more")
    options = parser.parse_args(arguments)
    try:
        registry.require("cupy")
    except BackendUnavailable as error:
        print(error, file=sys.stderr)
        return 2
    rows = []
    for images, hidden in cases(options.most_images):
        for row in measure(images, hidden):
            rows.append(row)
            print(line(row), flush=True)
    folder = options.results / machine.folder_name()
    path = folder / f"gpu_sweep_{len(list(folder.glob('gpu_sweep_*.json'))) + 1:04}.json"
    document = {"machine": machine.describe(), "versions": machine.versions(), "rows": rows}
    write_text(path, json.dumps(document, indent=1) + "\n")
    print(f"wrote {path}")
    return 0


def cases(most_images: int) -> list[tuple[int, int]]:
    """(images, hidden units): all numbers of images with the classic's units, all numbers of units with its images."""
    by_images = [(images, 10) for images in IMAGES]
    by_hidden = [(41_000, hidden) for hidden in HIDDEN if hidden != 10]
    return [case for case in by_images + by_hidden if case[0] <= most_images]


def repeated(images: int) -> Dataset:
    """That many training images of MNIST, the same again and again."""
    data = load_data()
    size = len(data.train)
    order = np.arange(images) % size
    train = Split(data.train.images[order], data.train.labels[order])
    return Dataset(f"MNIST, {images / size:.1f} times", data.image_shape, data.classes, train, data.dev, data.test)


def measure(images: int, hidden: int) -> Iterator[dict[str, Any]]:
    """A row for every contender; one that cannot run has its ``problem`` in words instead of times."""
    iterations = max(_FEWEST, min(500, _IMAGES_A_ROUND // images))
    workload = Workload(Network((784, hidden, 10)), images, iterations, name="sweep")
    dataset, initial = repeated(images), Parameters.initial(workload.network, 0)
    first: Parameters | None = None
    for name in contenders():
        row: dict[str, Any] = {"contender": name, "workload": workload.describe()}
        try:
            samples, parameters, said = _run(name, workload, dataset, initial)
        except Exception as error:  # one contender's failure is a fact about it, and no reason to stop
            yield {**row, "problem": f"{type(error).__name__}: {' '.join(str(error).split())}"}
            continue
        first = first or parameters
        median = statistics.median(samples).value
        yield {
            **row,
            **said,
            "samples": samples,
            "seconds_an_iteration": median / iterations,
            "flops_per_second": workload.dense_flops * iterations / median,
            "image_bytes_per_second": workload.image_bytes * iterations / median,
            "difference": difference(parameters, first),
        }


def contenders() -> list[str]:
    """The backends that compute on a GPU here; CuPy's are named in any case, so that their failure shows."""
    others = (name for name in ("jax", "torch") if registry.availability(name).device not in (None, "CPU"))
    return ["cupy", "cupy-plain", *others]


def _run(
    name: str, workload: Workload, dataset: Dataset, initial: Parameters
) -> tuple[list[float], Parameters, dict[str, Any]]:
    """Seconds of each round, the parameters after the last, and what the trainer says."""
    backend = registry.require(name)
    backend.warm_up(workload)
    with closing(backend.start(workload, dataset, initial)) as trainer:
        trainer.advance(workload.iterations)
        samples = []
        for _ in range(ROUNDS):
            trainer.reset(initial)
            samples.append(timed(lambda: trainer.advance(workload.iterations))[1])
        return samples, trainer.parameters(), trainer.describe()


def difference(parameters: Parameters, others: Parameters) -> float:
    """The largest difference of any parameter, relative to the largest value of its array."""
    pairs = zip(parameters.named(), others.named(), strict=True)
    return max(float(np.abs(own - other).max() / np.abs(other).max()) for (_, own), (_, other) in pairs)


def line(row: dict[str, Any]) -> str:
    """A row in words."""
    workload = row["workload"]
    head = f"{workload['images']:>9,} images, {workload['network'][1]:>3} hidden, {row['contender']:<10}"
    if "problem" in row:
        return f"{head} {row['problem']}"
    throttled = (row.get("gpu") or {}).get("throttled")
    return (
        f"{head} {row['seconds_an_iteration'] * 1e6:>9.1f} us an iteration, "
        f"{row['image_bytes_per_second'] / 1e9:>6.0f} GB/s of images, "
        f"{row['flops_per_second'] / 1e12:>5.1f} TFLOP/s, off by {row['difference']:.0e}"
        + (f"; WARNING: clocks were held down: {throttled}" if throttled else "")
    )


if __name__ == "__main__":
    sys.exit(main())
