"""``train``: from options to a trained network, and what is printed, saved and drawn of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import mnistbench.backends as registry
from mnistbench import threads
from mnistbench.cli.common import Json, require_picture
from mnistbench.cli.options import TrainingOptions, taking_training_options
from mnistbench.cli.printing import print_result, reporting, training_record

if TYPE_CHECKING:
    from mnistbench.datasets import Dataset
    from mnistbench.training import TrainingResult


@taking_training_options
def train(
    options: TrainingOptions,
    every: Annotated[
        int | None, typer.Option(help="Report at every so many iterations; by default 10, or with batches an epoch.")
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Write the trained parameters to this .npz file.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the run to this .png or .svg file: loss, accuracy, and the weights.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a network and report its accuracies and what each step cost."""
    threads.limit(options.threads)
    registry.require(options.backend)

    from mnistbench import training
    from mnistbench.files import require_writable

    options.check()
    if plot:
        require_picture(plot)
    for path in filter(None, (save, plot)):
        require_writable(path)
    dataset = options.load()
    workload = options.task(dataset)
    with reporting(workload, quiet=as_json) as report:
        result = training.train_workload(
            workload,
            dataset,
            options.backend,
            every=every,
            threads=options.threads,
            snapshots=_snapshot_iterations(workload.iterations) if plot else (),
            progress=report,
            patience=options.patience,
        )
    written = _write(result, dataset, save, plot)
    published = options.published(workload)
    if as_json:
        print(json.dumps(training_record(result, published)))
    else:
        print_result(result, published, written)


def _write(result: TrainingResult, dataset: Dataset, save: Path | None, plot: Path | None) -> list[Path]:
    """Save and draw what was asked for; the files."""
    if save:
        from mnistbench.network import save_parameters

        save_parameters(save, result.parameters, dataset.image_shape, result.workload.network.activation)
    if plot:
        from mnistbench import charts

        kept = [(done, parameters) for done, parameters in result.snapshots if done < result.updates]
        weights = [(done, parameters.weights[0]) for done, parameters in (*kept, (result.updates, result.parameters))]
        charts.write(charts.training_run(result.history, weights, dataset.image_shape), plot)
    return [path for path in (save, plot) if path]


def _snapshot_iterations(iterations: int) -> list[int]:
    """When to draw the weights: at the start and the end, and in between ever more rarely, as learning slows."""
    return sorted({0, *(round(iterations * fraction) for fraction in (0.02, 0.1, 0.2, 0.4)), iterations})
