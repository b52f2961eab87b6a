"""What is said of training, while it goes on and after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich.progress as bars

from mnistbench.cli.common import out, plain_table
from mnistbench.task.presets import Published
from mnistbench.task.summary import training_summary
from mnistbench.task.workload import Workload

if TYPE_CHECKING:
    from mnistbench.reference.parameters import Parameters
    from mnistbench.training.crossval import CrossValidation
    from mnistbench.training.result import Progress, TrainingResult

Reporter = Callable[["Progress", "Parameters"], None]


@contextmanager
def reporting(workload: Workload, quiet: bool) -> Iterator[Reporter | None]:
    """What to do with the reports of training: a bar on a terminal, lines as the tutorial's when piped."""
    if quiet:
        yield None
    elif not out.is_terminal:
        yield lambda progress, parameters: print(_line(progress, workload), flush=True)
    else:
        state = bars.TextColumn("{task.fields[state]}")
        columns = (bars.TextColumn("training"), bars.BarColumn(), bars.MofNCompleteColumn(), state)
        length = workload.iterations_per_epoch
        with bars.Progress(*columns, bars.TimeElapsedColumn(), console=out, transient=True) as bar:
            task = bar.add_task("", total=-(-workload.iterations // length), state="")

            def show(progress: Progress, parameters: Parameters) -> None:
                done = progress.iteration if length == 1 else -(-(progress.iteration + 1) // length)
                bar.update(task, completed=done, state=_state(progress))

            yield show


Follower = Callable[[str, "Progress", float | None], None]
"""Called with what is being trained, a report of it, and its test error if that is followed."""


@contextmanager
def following(quiet: bool) -> Iterator[Follower | None]:
    """What to do with the reports of several trainings: a line that changes on a terminal, lines when piped."""
    if quiet:
        yield None
    elif out.is_terminal:
        with out.status("loading ...") as status:
            yield lambda title, progress, error: status.update(_followed(title, progress, error))
    else:
        yield lambda title, progress, error: print(_followed(title, progress, error), flush=True)


def _followed(title: str, progress: Progress, error: float | None) -> str:
    tested = "" if error is None else f"  test error {100 * error:.2f} %  {progress.seconds:.1f} s"
    return f"{title}: epoch {progress.epoch}  {_state(progress)}{tested}"


def _state(progress: Progress) -> str:
    dev = "" if progress.dev_accuracy is None else f"  dev {progress.dev_accuracy:.2%}"
    return f"loss {progress.loss:.3f}  accuracy {progress.accuracy:.1%}{dev}"


def _line(progress: Progress, workload: Workload) -> str:
    if workload.recipe.batch_size is None:
        start = f"Iteration: {progress.iteration}, Accuracy: {progress.accuracy:.3f}"
    else:
        start = f"Epoch: {progress.epoch}, Iteration: {progress.iteration}, Accuracy: {progress.accuracy:.3f}"
    return start + ("" if progress.dev_accuracy is None else f", Dev accuracy: {progress.dev_accuracy:.4f}")


def duration(workload: Workload, iterations: int) -> str:
    """So many iterations of a workload: "20 epochs", "500 iterations"."""
    length = workload.iterations_per_epoch
    if workload.recipe.batch_size is None or iterations % length:
        return f"{iterations} iterations"
    epochs = iterations // length
    return f"{epochs} epoch{'s' * (epochs != 1)} of {length} iterations"


def drawn_training(workload: Workload) -> str:
    """What stands below the title of a picture of a run; nothing for the classic."""
    if not workload.beyond_classic:
        return ""
    batches = ". Train: of the last batch of an epoch, and at the end of all images"
    return f"{workload.network}: {training_summary(workload)}{batches if workload.recipe.batch_size else ''}"


def print_result(result: TrainingResult, published: Published | None, written: list[Path]) -> None:
    """The summary of a run."""
    workload, facts = result.workload, result.description
    out.print(
        f"{result.backend}, {workload.dtype}: {workload.network} network, {workload.images:,} images, "
        f"{duration(workload, result.iterations)} on {facts['device']}, {facts['threads']} threads"
    )
    if workload.beyond_classic:
        out.print(f"training   {training_summary(workload)}")
    if result.updates < workload.iterations:
        out.print(f"parameters of {duration(workload, result.updates)}, with the least dev loss of all reported")
    shares = {"train": result.accuracy, "dev": result.dev_accuracy, "test": result.test_accuracy}
    accuracies = "   ".join(f"{name} {share:.1%}" for name, share in shares.items() if share is not None)
    out.print(f"accuracy   {accuracies}   loss {result.loss:.4f}")
    costs = "   ".join(f"{name} {seconds:.2f} s" for name, seconds in result.costs.as_dict().items())
    out.print(f"costs      {costs}   total {result.costs.total:.2f} s")
    for path in written:
        out.print(f"wrote      {path}")
    if published and result.test_accuracy is not None:
        error = 1 - result.test_accuracy
        theirs = f"published {100 * published.error:g} % ({published.source}: the same network, trained their way)"
        out.print(f"test error {100 * error:.2f} %   {theirs}")


def print_crossval(found: CrossValidation) -> None:
    """The accuracy of each fold, and what they say together."""
    first = found.results[0]
    task, facts = first.workload, first.description
    out.print(
        f"{first.backend}, {task.dtype}: {task.network} network, {len(found.results)} folds of "
        f"{task.images:,} images to train on, {duration(task, task.iterations)} each on {facts['device']}"
    )
    if task.beyond_classic:
        out.print(f"training   {training_summary(task)}")
    table = plain_table()
    for heading in ("fold", "accuracy", "train", "loss", "seconds"):
        table.add_column(heading, justify="right")
    for number, (result, accuracy) in enumerate(zip(found.results, found.accuracies, strict=True), 1):
        seconds = f"{result.costs.train:.2f}"
        table.add_row(str(number), f"{accuracy:.2%}", f"{result.accuracy:.2%}", f"{result.loss:.4f}", seconds)
    out.print(table)
    low, high = found.interval
    out.print(
        f"accuracy   mean {found.mean:.2%}   standard deviation {found.deviation:.2%}   "
        f"95% interval {low:.2%} to {high:.2%}"
    )


def crossval_record(found: CrossValidation) -> dict[str, Any]:
    """The same as JSON values."""
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
        "description": first.description,
    }


def training_record(result: TrainingResult, published: Published | None) -> dict[str, Any]:
    """The run as JSON values."""
    from mnistbench import machine

    return {
        "backend": result.backend,
        "dtype": result.workload.dtype,
        "iterations": result.iterations,
        "train_accuracy": result.accuracy,
        "dev_accuracy": result.dev_accuracy,
        "test_accuracy": result.test_accuracy,
        "loss": result.loss,
        "costs": result.costs.as_dict(),
        "history": result.history_records(),
        "peak_memory_bytes": machine.peak_memory(),
        "description": result.description,
        "workload": result.workload.describe(),
        "updates": result.updates,
        "test_error": None if result.test_accuracy is None else 1 - result.test_accuracy,
        "published": published and {"test_error": published.error, "source": published.source},
    }
