"""The command ``crossval``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

import mnistbench.backends as registry
from mnistbench import threads
from mnistbench.cli.common import Json, out, plain_table
from mnistbench.cli.options import TrainingOptions, taking_training_options
from mnistbench.cli.printing import duration, following, print_training
from mnistbench.exceptions import OptionError
from mnistbench.words import counted, percent, seconds

if TYPE_CHECKING:
    from mnistbench.training.crossval import CrossValidation


@taking_training_options
def crossval(
    options: TrainingOptions,
    folds: Annotated[int, typer.Option(help="Number of folds.")] = 5,
    as_json: Json = False,
) -> None:
    """Train once per fold on all other folds, and report the accuracies on the folds held out.

    --train-size is the number of labelled images (default: all); --dev-size is for --patience.
    """
    threads.limit(options.threads)
    registry.get_backend(options.backend)

    from mnistbench.datasets import DEV_SIZE
    from mnistbench.training.crossval import cross_validate

    options.check()
    if options.dev_size is not None and options.patience is None:
        raise OptionError("--dev-size: has no effect without --patience; each fold is held out once")
    dataset = options.load_labelled()
    workload = options.task(dataset)
    # Full-batch training would print a line for every tenth iteration.
    with following(quiet=as_json or (workload.recipe.batch_size is None and not out.is_terminal)) as follow:
        found = cross_validate(
            dataset,
            workload=workload,
            backend=options.backend,
            folds=folds,
            threads=options.threads,
            patience=options.patience,
            dev_size=DEV_SIZE if options.dev_size is None else options.dev_size,
            callback=follow and (lambda fold, progress: follow(f"fold {fold + 1} of {folds}", progress, None)),
        )
    if as_json:
        print(json.dumps(_record(found)))
    else:
        _print(found)


def _print(found: CrossValidation) -> None:
    first = found.results[0]
    task, facts = first.workload, first.description
    out.print(
        f"{first.backend}, {task.dtype}: {task.network} network, {len(found.results)} folds of "
        f"{counted(task.images, 'image')} to train on, {duration(task, task.iterations)} each on {facts.device}"
    )
    print_training(task)
    table = plain_table()
    for heading in ("fold", "accuracy", "train", "loss", "time"):
        table.add_column(heading, justify="right")
    for number, (result, accuracy) in enumerate(zip(found.results, found.accuracies, strict=True), 1):
        shares = (percent(share, 2) for share in (accuracy, result.accuracy))
        table.add_row(str(number), *shares, f"{result.loss:.4f}", seconds(result.costs.train))
    out.print(table)
    mean, deviation, low, high = (percent(share, 2) for share in (found.mean, found.deviation, *found.interval))
    out.print(f"accuracy   mean {mean}   standard deviation {deviation}   95% interval {low} to {high}")


def _record(found: CrossValidation) -> dict[str, Any]:
    first = found.results[0]
    return {
        "backend": first.backend,
        "workload": first.workload.describe(),
        "accuracies": found.accuracies,
        "mean": found.mean,
        "standard_deviation": found.deviation,
        "interval": list(found.interval),
        "folds": [
            {
                "accuracy": accuracy,
                "train_accuracy": result.accuracy,
                "loss": result.loss,
                "updates": result.updates,
                "costs": result.costs.as_dict(),
            }
            for result, accuracy in zip(found.results, found.accuracies, strict=True)
        ],
        "description": asdict(first.description),
    }
