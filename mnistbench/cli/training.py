"""``train``, ``crossval`` and ``errors``: from options to trained networks, and what is said and kept of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import mnistbench.backends as registry
from mnistbench import threads
from mnistbench.cli.common import Json, Results, Threads, dtype_named, out, require_picture
from mnistbench.cli.options import TrainingOptions, taking_training_options
from mnistbench.cli.printing import (
    crossval_record,
    drawn_training,
    following,
    print_crossval,
    print_result,
    reporting,
    training_record,
)
from mnistbench.exceptions import OptionError
from mnistbench.task.presets import PUBLISHED
from mnistbench.task.workload import DType

if TYPE_CHECKING:
    from mnistbench.datasets import Dataset
    from mnistbench.training.result import Progress, TrainingResult


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

    from mnistbench.files import require_writable
    from mnistbench.training import loop

    options.check()
    if plot:
        require_picture(plot)
    for path in filter(None, (save, plot)):
        require_writable(path)
    dataset = options.load()
    workload = options.task(dataset)
    with reporting(workload, quiet=as_json) as report:
        result = loop.train(
            dataset,
            workload=workload,
            backend=options.backend,
            every=every,
            threads=options.threads,
            snapshots=_snapshot_iterations(workload.iterations) if plot else (),
            callback=report,
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
        from mnistbench.reference.parameters import save_model

        save_model(save, result.parameters, dataset.image_shape, result.workload.network.activation)
    if plot:
        from mnistbench import charts

        kept = [(done, parameters) for done, parameters in result.snapshots if done < result.updates]
        weights = [(done, parameters.weights[0]) for done, parameters in (*kept, (result.updates, result.parameters))]
        subtitle = drawn_training(result.workload)
        charts.write(charts.training_run(result.history, weights, dataset.image_shape, subtitle), plot)
    return [path for path in (save, plot) if path]


def _snapshot_iterations(iterations: int) -> list[int]:
    """When to draw the weights: at the start and the end, and in between ever more rarely, as learning slows."""
    return sorted({0, *(round(iterations * fraction) for fraction in (0.02, 0.1, 0.2, 0.4)), iterations})


@taking_training_options
def crossval(
    options: TrainingOptions,
    folds: Annotated[int, typer.Option(help="Into how many the labelled images are put; each is predicted once.")] = 5,
    as_json: Json = False,
) -> None:
    """Train once for each fold on all the others, and report the accuracies on the folds held out.

    --train-size is the number of labelled images, all by default; --dev-size is for --patience.
    """
    threads.limit(options.threads)
    registry.require(options.backend)

    from mnistbench.datasets import DEV_SIZE
    from mnistbench.training.crossval import cross_validate

    options.check()
    if options.dev_size is not None and options.patience is None:
        raise OptionError("--dev-size: has no effect without --patience; each fold is held out once")
    dataset = options.load_labelled()
    workload = options.task(dataset)
    # Of full batches there would be a line for every tenth iteration.
    with following(quiet=as_json or (workload.recipe.batch_size is None and not out.is_terminal)) as report:
        found = cross_validate(
            dataset,
            workload=workload,
            backend=options.backend,
            folds=folds,
            threads=options.threads,
            patience=options.patience,
            dev_size=DEV_SIZE if options.dev_size is None else options.dev_size,
            callback=report and (lambda fold, said: report(f"fold {fold + 1} of {folds}", said, None)),
        )
    if as_json:
        print(json.dumps(crossval_record(found)))
    else:
        print_crossval(found)


def errors(
    workload: Annotated[str, typer.Option(help="A preset with a published test error, or all of them.")] = "all",
    seeds: Annotated[int, typer.Option(help="Train from so many seeds: 0, 1, ...")] = 3,
    backend: Annotated[str, typer.Option(help="Which way to compute.")] = "numba",
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    results: Results = Path("results"),
    threads_: Threads = None,
) -> None:
    """Train presets to their end, store their test errors beside the published ones, and draw the charts anew."""
    threads.limit(threads_)
    registry.require(backend)

    from mnistbench.results import report, reproduction

    precision = dtype_named(dtype)
    if seeds < 1:
        raise OptionError(f"--seeds {seeds}: at least 1 is needed")
    names = [*PUBLISHED] if workload == "all" else [workload]
    for name in names:
        reproduction.require(name)
    for name in names:
        out.print(f"wrote {_measure_errors(name, seeds, backend, precision, threads_, results)}")
    for path in report.write(results):
        out.print(f"wrote {path}")


def _measure_errors(name: str, seeds: int, backend: str, dtype: DType, threads_: int | None, results: Path) -> Path:
    """Train one preset from every seed; the file it is stored in."""
    from mnistbench.results import reproduction

    with following(quiet=False) as say:

        def follow(seed: int, progress: Progress, error: float) -> None:
            if say:
                say(f"{name}, seed {seed}", progress, error)

        return reproduction.measure(name, range(seeds), results, backend, dtype, threads_, follow)
