"""The command ``train``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import rich.progress as bars
import typer

import mnistbench.backends as registry
from mnistbench.cli.common import Json, Ranks, out, require_different, require_picture
from mnistbench.cli.options import TrainingOptions, taking_training_options
from mnistbench.cli.printing import duration, print_ranks, print_training, state
from mnistbench.cli.ranks import team_of
from mnistbench.exceptions import OptionError
from mnistbench.task.presets import Published
from mnistbench.task.summary import training_summary
from mnistbench.task.workload import Workload
from mnistbench.words import counted, percent, seconds

if TYPE_CHECKING:
    from mnistbench.datasets import Dataset
    from mnistbench.ranks import Team
    from mnistbench.reference.parameters import Parameters
    from mnistbench.training.result import Progress, TrainingResult


_PANEL = "Checkpoints"


@taking_training_options
def train(
    options: TrainingOptions,
    every: Annotated[
        int | None,
        typer.Option(help="Iterations between reports (default: 10, or an epoch with --batch-size)."),
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Write the trained model to this .npz file.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw loss, accuracy and weights to this .png or .svg file.")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Keep the state of training in this file, also at Ctrl-C and SIGTERM.", rich_help_panel=_PANEL
        ),
    ] = None,
    checkpoint_every: Annotated[
        float | None,
        typer.Option(help="Seconds between checkpoints (default: 60).", rich_help_panel=_PANEL, show_default=False),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Go on from this checkpoint of the same training, and update it.", rich_help_panel=_PANEL),
    ] = None,
    ranks: Ranks = None,
    as_json: Json = False,
) -> None:
    """Train a network; print its accuracies and the seconds of import, load, compile and train."""
    files = Files(save, plot, checkpoint, checkpoint_every, resume)
    with team_of(ranks, options.threads) as team:
        (team.backend if team else registry.get_backend)(options.backend)
        options.check()
        files.check(options.data)
        dataset = options.load(team)
        result = _train(options, dataset, every, files, team, quiet=as_json)
        written = _write(result, dataset, save, plot)
    published = options.published(result.workload)
    if as_json:
        print(json.dumps(_record(result, published)))
    else:
        _print(result, published, written)


@dataclass(frozen=True)
class Files:
    """Files of a training, as given on the command line."""

    save: Path | None
    plot: Path | None
    checkpoint: Path | None
    checkpoint_every: float | None
    resume: Path | None

    def check(self, data: Path | None) -> None:
        """Raise an OptionError for what cannot be written, before the images are loaded."""
        from mnistbench.files import require_writable

        if self.plot:
            require_picture(self.plot)
        if self.checkpoint_every is not None and not (self.checkpoint or self.resume):
            raise OptionError("--checkpoint-every: has no effect without --checkpoint or --resume")
        same = self.checkpoint and self.resume and self.checkpoint.resolve() == self.resume.resolve()
        outputs = [("--save", self.save), ("--plot", self.plot), ("--checkpoint", None if same else self.checkpoint)]
        require_different(outputs, [("--resume", self.resume), ("--data", data)])
        for path in filter(None, (self.save, self.plot, self.checkpoint or self.resume)):
            require_writable(path)


def _train(
    options: TrainingOptions, dataset: Dataset, every: int | None, files: Files, team: Team | None, quiet: bool
) -> TrainingResult:
    """Train, and report the progress."""
    from mnistbench.training import keeping, loop

    workload = options.task(dataset)
    with _reporting(workload, quiet) as report:
        return loop.train(
            dataset,
            workload=workload,
            backend=options.backend,
            every=every,
            threads=options.threads,
            snapshots=_snapshot_iterations(workload.iterations) if files.plot else (),
            callback=report,
            patience=options.patience,
            checkpoint=files.checkpoint,
            checkpoint_every=keeping.SECONDS if files.checkpoint_every is None else files.checkpoint_every,
            resume=files.resume,
            team=team,
        )


@contextmanager
def _reporting(workload: Workload, quiet: bool) -> Iterator[Callable[[Progress, Parameters], None] | None]:
    """Report progress: on a terminal as a bar, otherwise in the tutorial's lines."""
    if quiet:
        yield None
    elif not out.is_terminal:
        yield lambda progress, parameters: print(_line(progress, workload), flush=True)
    else:
        metrics = bars.TextColumn("{task.fields[state]}")
        columns = (bars.TextColumn("training"), bars.BarColumn(), bars.MofNCompleteColumn(), metrics)
        length = workload.iterations_per_epoch
        with bars.Progress(*columns, bars.TimeElapsedColumn(), console=out, transient=True) as bar:
            task = bar.add_task("", total=-(-workload.iterations // length), state="")

            def show(progress: Progress, parameters: Parameters) -> None:
                done = progress.iteration if length == 1 else -(-(progress.iteration + 1) // length)
                bar.update(task, completed=done, state=state(progress))

            yield show


def _line(progress: Progress, workload: Workload) -> str:
    epoch = "" if workload.recipe.batch_size is None else f"Epoch: {progress.epoch}, "
    dev = "" if progress.dev_accuracy is None else f", Dev accuracy: {progress.dev_accuracy:.4f}"
    return f"{epoch}Iteration: {progress.iteration}, Accuracy: {progress.accuracy:.3f}{dev}"


def _write(result: TrainingResult, dataset: Dataset, save: Path | None, plot: Path | None) -> list[Path]:
    """Write the requested files and return their paths."""
    workload = result.workload
    if save:
        from mnistbench.reference.parameters import save_model

        network = workload.network
        save_model(save, result.parameters, dataset.image_shape, network.activation, dataset.class_names)
    if plot:
        from mnistbench import charts

        kept = [(done, parameters) for done, parameters in result.snapshots if done < result.updates]
        weights = [(done, parameters.weights[0]) for done, parameters in (*kept, (result.updates, result.parameters))]
        subtitle = ""
        if not workload.is_classic:
            batches = ". Train: of the last batch of an epoch, and at the end of all images"
            subtitle = (
                f"{workload.network}: {training_summary(workload)}{batches if workload.recipe.batch_size else ''}"
            )
        charts.write(charts.training_run(result.history, weights, dataset.image_shape, subtitle), plot)
    return [path for path in (save, plot) if path]


def _snapshot_iterations(iterations: int) -> list[int]:
    """Return the numbers of updates after which the weights are drawn, ever rarer as learning slows."""
    return sorted({0, *(round(iterations * fraction) for fraction in (0.02, 0.1, 0.2, 0.4)), iterations})


def _print(result: TrainingResult, published: Published | None, written: list[Path]) -> None:
    workload, facts = result.workload, result.description
    out.print(
        f"{result.backend}, {workload.dtype}: {workload.network} network, {counted(workload.images, 'image')}, "
        f"{duration(workload, result.iterations)} on {facts.device}, {counted(facts.threads, 'thread')}"
    )
    if facts.ranks:
        print_ranks(facts.ranks)
    print_training(workload)
    for updates, backend in result.resumed:
        out.print(f"resumed    after {duration(workload, updates)} on {backend}")
    for change in result.changes:
        out.print(f"changed    {change}")
    if result.updates < workload.iterations:
        out.print(f"parameters of {duration(workload, result.updates)}, with the lowest dev loss of all reported")
    shares = {"train": result.accuracy, "dev": result.dev_accuracy, "test": result.test_accuracy}
    accuracies = "   ".join(f"{name} {percent(share)}" for name, share in shares.items() if share is not None)
    out.print(f"accuracy   {accuracies}   loss {result.loss:.4f}")
    costs = {**result.costs.as_dict(), "total": result.costs.total}
    named = (f"{name.replace('_', ' ')} {seconds(max(0.0, cost))}" for name, cost in costs.items())
    out.print(f"costs      {'   '.join(named)}")
    for path in written:
        out.print(f"wrote      {path}")
    if published and result.test_accuracy is not None:
        theirs = f"{percent(published.error, None)} ({published.source}: the same network, trained their way)"
        out.print(f"test error {percent(1 - result.test_accuracy, 2)}   published {theirs}")


def _record(result: TrainingResult, published: Published | None) -> dict[str, Any]:
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
        "description": asdict(result.description),
        "workload": result.workload.describe(),
        "updates": result.updates,
        "resumed": [{"updates": updates, "backend": backend} for updates, backend in result.resumed],
        "changes": result.changes,
        "test_error": None if result.test_accuracy is None else 1 - result.test_accuracy,
        "published": published and {"test_error": published.error, "source": published.source},
    }
