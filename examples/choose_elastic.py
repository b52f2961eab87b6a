"""Choice of the elastic distortion of the preset simard-elastic, by images held out of training.

Each candidate trains the preset's network on 50,000 images and is scored on 10,000 others of MNIST's training set; the
test images are not looked at. ``python examples/choose_elastic.py`` prints the number of errors of each candidate and
seed; ``--epochs`` and ``--seeds`` say how long it takes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace

import mnistbench
from mnistbench.task.presets import preset

CANDIDATES = ((34, 4), (40, 5), (38, 6), (50, 6))
"""Alpha and sigma in pixels: those of Simard et al. 2003, and smoother ones."""

TRAIN, DEV = 50_000, 10_000


def errors(epochs: int, seed: int, backend: str) -> Iterator[tuple[tuple[int, int], int]]:
    """Train every candidate from a seed, and yield it with its number of wrong dev images."""
    dataset = mnistbench.load_data(seed=seed, train_size=TRAIN, dev_size=DEV)
    task = replace(preset("simard-elastic", seed=seed), images=TRAIN).for_epochs(epochs)
    for alpha, sigma in CANDIDATES:
        changed = replace(task.recipe.augmentation, elastic_alpha=alpha, elastic_sigma=sigma)
        workload = replace(task, recipe=replace(task.recipe, augmentation=changed))
        accuracy = mnistbench.train(dataset, workload=workload, backend=backend, every=workload.iterations).dev_accuracy
        assert accuracy is not None, "the data set has dev images"
        yield (alpha, sigma), round((1 - accuracy) * DEV)


def main() -> None:
    """Print a table in Markdown, a row for each candidate and seed as it ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=200, help="epochs of each training (default: the preset's 200)")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds: 0, 1, ... (default: 1)")
    parser.add_argument("--backend", default="numba", help="backend to train with (default: numba)")
    options = parser.parse_args()
    print(f"| alpha | sigma | seed | dev errors of {DEV} |\n| --- | --- | --- | --- |")
    for seed in range(options.seeds):
        for (alpha, sigma), wrong in errors(options.epochs, seed, options.backend):
            print(f"| {alpha} | {sigma} | {seed} | {wrong} |", flush=True)


if __name__ == "__main__":
    main()
