"""Progress and summaries of training, as several commands print them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mnistbench.cli.common import out
from mnistbench.task.summary import training_summary
from mnistbench.task.workload import Workload
from mnistbench.words import counted, percent, seconds

if TYPE_CHECKING:
    from mnistbench.backends.base import Ranks
    from mnistbench.training.result import Progress

Follower = Callable[[str, "Progress", float | None], None]
"""Called with a title, the progress, and the test error if that is computed."""


@contextmanager
def following(quiet: bool) -> Iterator[Follower | None]:
    """Report the progress of several runs: on a terminal in one changing line, otherwise line by line."""
    if quiet:
        yield None
    elif out.is_terminal:
        with out.status("loading ...") as status:
            yield lambda title, progress, error: status.update(_followed(title, progress, error))
    else:
        yield lambda title, progress, error: print(_followed(title, progress, error), flush=True)


def _followed(title: str, progress: Progress, error: float | None) -> str:
    tested = "" if error is None else f"  test error {percent(error, 2)}  {seconds(progress.seconds)}"
    return f"{title}: epoch {progress.epoch}  {state(progress)}{tested}"


def state(progress: Progress) -> str:
    """Format the loss and accuracies of an iteration."""
    dev = "" if progress.dev_accuracy is None else f"  dev {percent(progress.dev_accuracy, 2)}"
    return f"loss {progress.loss:.3f}  accuracy {percent(progress.accuracy)}{dev}"


def duration(workload: Workload, iterations: int) -> str:
    """Format a number of iterations; with mini-batches in epochs: "20 epochs of 469 iterations"."""
    length = workload.iterations_per_epoch
    if workload.recipe.batch_size is None or iterations % length:
        return counted(iterations, "iteration")
    return f"{counted(iterations // length, 'epoch')} of {counted(length, 'iteration')}"


def print_training(workload: Workload) -> None:
    """Print the options of training, except for the classic."""
    if not workload.is_classic:
        out.print(f"training   {training_summary(workload)}")


def print_ranks(ranks: Ranks) -> None:
    """Print what the ranks were, and what their exchange cost."""
    where = f"on {counted(ranks.hosts, 'host')}{' that share CPUs' * ranks.shared_cores}"
    took = "" if ranks.exchange is None else f", {seconds(ranks.exchange)} an iteration in the exchange"
    how = f"{ranks.library} over {ranks.transport}{took}"
    out.print(f"ranks      {len(ranks.threads)}, of {ranks.each}, {where}; {how}")
