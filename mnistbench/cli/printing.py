"""What is said of training, while it goes on and after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mnistbench.cli.common import out
from mnistbench.workload import Published, Workload

if TYPE_CHECKING:
    from mnistbench.training import Report, TrainingResult

Reporter = Callable[["Report"], None]


@contextmanager
def reporting(workload: Workload, quiet: bool) -> Iterator[Reporter | None]:
    """What to do with the reports of training: a bar on a terminal, lines as the tutorial's when piped."""
    if quiet:
        yield None
    elif out.is_terminal:
        with progress_bar(workload, "training") as show:
            yield show
    else:
        yield lambda report: print(_line(report, workload), flush=True)


@contextmanager
def progress_bar(workload: Workload, title: str) -> Iterator[Reporter]:
    """A bar of the epochs, or of the iterations where each takes all images."""
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[state]}"))
    length = workload.iterations_per_epoch
    with Progress(*columns, TimeElapsedColumn(), console=out, transient=True) as progress:
        task = progress.add_task("", total=-(-workload.iterations // length), state="")

        def show(report: Report) -> None:
            done = report.iteration if length == 1 else -(-(report.iteration + 1) // length)
            progress.update(task, completed=done, state=_state(report))

        yield show


def _state(report: Report) -> str:
    dev = "" if report.dev_accuracy is None else f"  dev {report.dev_accuracy:.2%}"
    return f"loss {report.loss:.3f}  accuracy {report.accuracy:.1%}{dev}"


def _line(report: Report, workload: Workload) -> str:
    if workload.recipe.batch_size is None:
        start = f"Iteration: {report.iteration}, Accuracy: {report.accuracy:.3f}"
    else:
        start = f"Epoch: {report.epoch}, Iteration: {report.iteration}, Accuracy: {report.accuracy:.3f}"
    return start + ("" if report.dev_accuracy is None else f", Dev accuracy: {report.dev_accuracy:.4f}")


def how_trained(workload: Workload) -> str:
    """The recipe in words: "adam, learning rate 0.001 (cosine), he, dropout 0.5, batches of 128, shift 2"."""
    recipe, augmentation = workload.recipe, workload.recipe.augmentation
    schedule = {
        "constant": "",
        "cosine": " (cosine)",
        "step": f" (times {recipe.schedule.factor:g} every {recipe.schedule.every} epochs)",
    }[recipe.schedule.name]
    parts = {
        recipe.optimizer.name: True,
        f"learning rate {workload.learning_rate:g}{schedule}": True,
        workload.network.activation: True,
        recipe.initializer: True,
        f"L2 {recipe.l2:g}": recipe.l2 > 0,
        f"dropout {', '.join(f'{rate:g}' for rate in recipe.dropout)}": any(recipe.dropout),
        f"batches of {workload.batch_size}": recipe.batch_size is not None,
        f"shift {augmentation.shift}": augmentation.shift > 0,
        f"rotate {augmentation.rotate:g}": augmentation.rotate > 0,
        f"elastic {augmentation.elastic:g} over {augmentation.sigma:g}": augmentation.elastic > 0,
    }
    return ", ".join(words for words, said in parts.items() if said)


def duration(workload: Workload, iterations: int) -> str:
    """So many iterations of a workload: "20 epochs", "500 iterations"."""
    length = workload.iterations_per_epoch
    if workload.recipe.batch_size is None or iterations % length:
        return f"{iterations} iterations"
    epochs = iterations // length
    return f"{epochs} epoch{'s' * (epochs != 1)} of {length} iterations"


def print_result(result: TrainingResult, published: Published | None, written: list[Path]) -> None:
    """The summary of a run."""
    workload, facts = result.workload, result.description
    out.print(
        f"{result.backend}, {workload.dtype}: {workload.network} network, {workload.images:,} images, "
        f"{duration(workload, result.iterations)} on {facts['device']}, {facts['threads']} threads"
    )
    if workload.beyond_classic:
        out.print(f"training   {how_trained(workload)}")
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
        out.print(
            f"test error {1 - result.test_accuracy:.2%}   published {100 * published.error:g}% "
            f"({published.source}: the same network, trained their way)".replace("%", " %")
        )


def training_record(result: TrainingResult, published: Published | None) -> dict[str, Any]:
    """The run as JSON values."""
    from mnistbench.measurement import machine

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
