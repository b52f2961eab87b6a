"""The commands: parse, call, print.

Nothing here loads an array library before a command has set the thread limits and knows which backend it needs, so
that both the limits and the cost of the import are real.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

import mnistbench.backends as registry
from mnistbench import __version__, threads
from mnistbench.errors import MnistbenchError, OptionError
from mnistbench.workload import DTYPES, DType

if TYPE_CHECKING:
    from mnistbench.agreement import Agreement
    from mnistbench.backends import Metrics
    from mnistbench.comparison import Comparison
    from mnistbench.training import TrainingResult


class _Commands(TyperGroup):
    """What a user got wrong is one line on standard error and exit status 2; Ctrl-C is one line and 130."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except MnistbenchError as error:
            _complain(str(error))
            raise typer.Exit(2) from error
        except MemoryError as error:
            _complain("out of memory; use fewer images (--train-size) or hidden units (--hidden)")
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:
            _complain("interrupted")
            raise typer.Exit(130) from error


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="One small neural network, trained on MNIST by interchangeable backends: the same numbers, honestly timed.",
)
out = Console(highlight=False, markup=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)

Data = Annotated[
    Path | None,
    typer.Option("--data", help="A folder of IDX files, or Kaggle's train.csv; the embedded MNIST by default."),
]
Threads = Annotated[int | None, typer.Option("--threads", help="Threads of the CPU; by default all there are.")]
Seed = Annotated[int, typer.Option("--seed", help="Of the initial parameters and the order of the images.")]
BackendNames = Annotated[
    list[str] | None, typer.Option("--backend", help="A backend; give it again for more. All available by default.")
]
DTypeNames = Annotated[list[str] | None, typer.Option("--dtype", help="float32 or float64; both by default.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Results = Annotated[Path, typer.Option("--results", help="The folder of stored measurements.")]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"mnistbench {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


@app.command()
def train(
    backend: Annotated[str, typer.Option(help="Which way to compute; 'mnistbench backends' lists them.")] = "numba",
    data: Data = None,
    iterations: Annotated[int, typer.Option(help="Gradient steps, each over all training images.")] = 500,
    learning_rate: Annotated[float, typer.Option(help="The factor of the gradient in an update.")] = 0.10,
    hidden: Annotated[str, typer.Option(help="Units of the hidden layer.")] = "10",
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    threads_: Threads = None,
    seed: Seed = 0,
    dev_size: Annotated[int | None, typer.Option(help="Images held out; 1,000 by default.")] = None,
    train_size: Annotated[
        int | None, typer.Option(help="Images to train on; by default 41,000, or all that a file of yours has left.")
    ] = None,
    every: Annotated[int, typer.Option(help="Report loss and accuracy at every so many iterations.")] = 10,
    save: Annotated[Path | None, typer.Option(help="Write the trained parameters to this .npz file.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the run to this .png or .svg file: loss, accuracy, and the weights.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train the network and report its accuracies and what each step cost."""
    threads.limit(threads_)
    registry.require(backend)

    from mnistbench import training
    from mnistbench.datasets import load_data
    from mnistbench.files import require_writable

    layers, precision = _layers(hidden), _dtype(dtype)
    if plot:
        _require_picture(plot)
    for path in filter(None, (save, plot)):
        require_writable(path)
    dataset = load_data(data, seed=seed, train_size=train_size, dev_size=dev_size)
    with _reporter(iterations, quiet=as_json) as report:
        result = training.train(
            dataset,
            backend,
            iterations=iterations,
            learning_rate=learning_rate,
            dtype=precision,
            seed=seed,
            hidden=layers,
            every=every,
            threads=threads_,
            snapshots=_snapshot_iterations(iterations) if plot else (),
            progress=report,
        )
    written = []
    if save:
        from mnistbench.network import save_parameters

        save_parameters(save, result.parameters, dataset.image_shape)
        written.append(save)
    if plot:
        from mnistbench import charts

        weights = [(iteration, parameters.weights[0]) for iteration, parameters in result.snapshots]
        charts.write(charts.training_run(result.history, weights, dataset.image_shape), plot)
        written.append(plot)
    if as_json:
        print(json.dumps(_training_record(result)))
    else:
        _print_training(result, written)


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A file that 'train --save' wrote.")],
    data: Data = None,
    count: Annotated[int, typer.Option(min=1, help="How many digits to show.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Which digits: drawn from this seed.")] = 0,
    plot: Annotated[Path, typer.Option(help="Draw them to this .png or .svg file.")] = Path("predictions.png"),
) -> None:
    """Show digits with the model's prediction and their label, as text and as a picture.

    They are test images, or, from a CSV file, any of it: those may be among what the model was trained on.
    """
    import numpy as np

    from mnistbench import charts, reference
    from mnistbench.datasets import load_data
    from mnistbench.errors import ModelError
    from mnistbench.files import require_writable
    from mnistbench.network import load_parameters

    _require_picture(plot)
    require_writable(plot)
    parameters, image_shape = load_parameters(model)
    dataset = load_data(data, dev_size=1)
    split, which = (dataset.test, "test images") if dataset.test else (dataset.train, f"images of {dataset.source}")
    if dataset.image_shape != image_shape:
        raise ModelError(
            f"{model}: takes images of {image_shape}, but those of {dataset.source} are {dataset.image_shape}"
        )
    if len(parameters.network.hidden) != 1:
        raise ModelError(f"{model}: a {parameters.network} network; predict knows networks of one hidden layer")
    (W1, W2), (b1, b2) = parameters.weights, parameters.biases
    predicted = reference.make_predictions(reference.scale_images(split.images, W1.dtype), W1, b1, W2, b2)
    chosen = np.random.default_rng(seed).permutation(len(split))[:count]
    images, labels = split.images[chosen], split.labels[chosen]
    for line in _digits_as_text(images.reshape(-1, *image_shape), predicted[chosen], labels):
        out.print(Text(line), no_wrap=True, overflow="crop")
    charts.write(charts.predictions(images, predicted[chosen], labels, image_shape), plot)
    accuracy = reference.get_accuracy(predicted, split.labels)
    out.print(f"{accuracy:.1%} of all {len(split):,} {which} are right; the digits above are drawn in {plot}")


@app.command()
def verify(
    backend: BackendNames = None,
    dtype: DTypeNames = None,
    workload: Annotated[str, typer.Option(help="classic, or smoke, which takes seconds.")] = "classic",
    threads_: Threads = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Compare every available backend with the float64 reference; exit with 1 if any disagrees."""
    threads.limit(threads_)
    from mnistbench import agreement

    dtypes = [_dtype(name) for name in dtype or DTYPES]
    with out.status("computing the reference ...") as status:

        def report(outcome: Agreement) -> None:
            status.update(f"{outcome.backend} {outcome.dtype}: {'agrees' if outcome.passed else 'DISAGREES'} ...")

        outcomes = agreement.verify(backend, dtypes, workload, seed, threads_, report)
    if as_json:
        print(json.dumps([_agreement_record(outcome) for outcome in outcomes]))
    else:
        out.print(_agreement_table(outcomes))
        for name in registry.names() if backend is None else []:
            if not (found := registry.availability(name)).usable:
                out.print(f"not compared: {name} is unavailable: {found.reason}", style="dim")
    if not all(outcome.passed for outcome in outcomes):
        raise typer.Exit(1)


@app.command()
def compare(
    backend: Annotated[
        list[str] | None, typer.Argument(metavar="BACKEND...", help="Who takes part; all available by default.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="How often everybody trains; from 5 on, differences are tested.")] = 7,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="Whom ratios are over: numpy, or 'numpy float64' for all dtypes. By default numpy, or else the first."
        ),
    ] = None,
    dtype: Annotated[
        list[str] | None, typer.Option("--dtype", help="float32 or float64, or both; float32 by default.")
    ] = None,
    workload: Annotated[str, typer.Option(help="classic, or smoke, which takes seconds.")] = "classic",
    images: Annotated[
        int | None, typer.Option(help="So many instead of the workload's; beyond 59,000, moved copies.")
    ] = None,
    hidden: Annotated[int | None, typer.Option(help="So many hidden units instead of the workload's.")] = None,
    iterations: Annotated[int | None, typer.Option(help="So many iterations instead of the workload's.")] = None,
    threads_: Threads = None,
    seed: Seed = 0,
    isolate: Annotated[bool, typer.Option(help="A process for each; also done where libraries clash.")] = False,
    results: Annotated[
        Path | None, typer.Option("--results", help="Store the rows in this folder and draw its charts anew.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Race backends against each other: interleaved rounds, paired ratios, intervals, and whether they differ."""
    threads.limit(threads_)
    dtypes = [_dtype(name) for name in dtype or ["float32"]]
    from mnistbench import comparison
    from mnistbench.comparison import storing
    from mnistbench.comparison.contenders import available_elsewhere
    from mnistbench.comparison.table import table
    from mnistbench.datasets.copies import load_images
    from mnistbench.workload import variant

    task = variant(workload, seed, images, hidden, iterations)
    if results is not None:
        storing.require_writable(results)
    with _live(lambda running: table(running, True), quiet=as_json) as show:
        found = comparison.compare(
            backend or (available_elsewhere() if isolate else registry.available()),
            dtypes,
            task,
            load_images(task.images, seed),
            rounds=rounds,
            baseline=baseline,
            threads=threads_,
            isolate=isolate,
            progress=show,
        )
    if as_json:
        print(json.dumps(storing.record(found), allow_nan=False), flush=True)
    else:
        out.print(table(found, False))
    if results is not None:
        for path in storing.store(found, results, threads_):
            if not as_json:
                out.print(f"wrote {path}")
    if any(contender.problem for contender in found.contenders):
        raise typer.Exit(1)


@app.command()
def backends(as_json: Json = False) -> None:
    """List the backends: version and device, or why one is unavailable here and how to get it."""
    threads.limit(None)
    found = {name: registry.availability(name) for name in registry.names()}
    if as_json:
        print(json.dumps({name: vars(availability) for name, availability in found.items()}))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("backend", "available", "version", "device"):
        table.add_column(heading, no_wrap=heading != "device")
    for name, availability in found.items():
        where = availability.device or "; ".join(filter(None, (availability.reason, availability.fix)))
        table.add_row(name, "yes" if availability.usable else "no", availability.version or "", where)
    out.print(table)


@app.command()
def machine(
    threads_: Threads = None,
    again: Annotated[bool, typer.Option("--again", help="Measure now, and keep that.")] = False,
    as_json: Json = False,
) -> None:
    """Show this machine and the rates that no computation on it can exceed: measured once, then kept."""
    threads.limit(threads_)
    from mnistbench.measurement import limits, overview

    with out.status("measuring the machine's limits ..."):
        found = limits.limits(threads_, again)
    if as_json:
        print(json.dumps(overview.record(found)))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for line in overview.rows(found):
        table.add_row(*line)
    out.print(table)
    for note in overview.notes(found):
        out.print(note)


@app.command()
def charts(
    results: Results = Path("results"),
    check: Annotated[bool, typer.Option(help="Write nothing; exit with 1 if anything is stale.")] = False,
    history: Annotated[
        bool, typer.Option("--history", help="Draw instead what one backend took at every commit.")
    ] = False,
    backend: Annotated[str | None, typer.Option(help="Whose history; numba by default.")] = None,
    workload: Annotated[str | None, typer.Option(help="Of which workload; classic by default.")] = None,
    output: Annotated[Path | None, typer.Option(help="The .svg or .png file; history.svg by default.")] = None,
) -> None:
    """Draw the charts and the tables of the stored measurements anew, also in a README.md beside their folder."""
    from mnistbench import report

    if history:
        _draw_history(results, backend or "numba", workload or "classic", output or Path("history.svg"), check)
        return
    for option, value in {"backend": backend, "workload": workload, "output": output}.items():
        if value is not None:
            raise OptionError(f"--{option}: is for --history only")
    if check:
        stale = report.stale(results)
        for path in stale:
            out.print(f"{path} is stale: run 'mnistbench charts'")
        raise typer.Exit(1 if stale else 0)
    for path in report.write(results):
        out.print(str(path))


def _draw_history(results: Path, backend: str, workload: str, output: Path, check: bool) -> None:
    from mnistbench import charts, report
    from mnistbench.files import require_writable

    if check:
        raise OptionError("--check: not with --history, which is drawn on demand and never stale")
    _require_picture(output, "--output")
    require_writable(output)
    rows = report.history(results, backend, workload)
    charts.write(charts.history(rows), output)
    out.print(f"wrote {output}: {len(rows)} rows of {rows['commit'].nunique()} commits")
    if spread := report.spread(rows):
        out.print(f"noise: the rounds of a row differ by {spread[0]:.1%} to {spread[1]:.1%} of their median")


def main() -> None:
    """Run the command line."""
    app(prog_name="mnistbench")


def _complain(message: str) -> None:
    print(f"mnistbench: {' '.join(message.split())}", file=sys.stderr)


def _dtype(name: str) -> DType:
    if name not in DTYPES:
        raise OptionError(f"--dtype {name}: choose from {', '.join(DTYPES)}")
    return name


def _layers(text: str) -> tuple[int, ...]:
    """Units of the hidden layers: "10", or "500,150"."""
    parts = text.split(",")
    if not all(part.strip().isascii() and part.strip().isdigit() and int(part) > 0 for part in parts):
        raise OptionError(f"--hidden {text}: give a whole number above 0, such as 10")
    return tuple(int(part) for part in parts)


def _require_picture(path: Path, option: str = "--plot") -> None:
    if path.suffix.lower() not in (".png", ".svg"):
        raise OptionError(f"{option} {path}: give a name that ends in .png or .svg")


def _snapshot_iterations(iterations: int) -> list[int]:
    """When to draw the weights: at the start and the end, and in between ever more rarely, as learning slows."""
    return sorted({0, *(round(iterations * fraction) for fraction in (0.02, 0.1, 0.2, 0.4)), iterations})


@contextmanager
def _reporter(iterations: int, quiet: bool) -> Iterator[Callable[[Metrics], None] | None]:
    """What to do with the metrics while training: a bar on a terminal, the tutorial's lines when piped."""
    if quiet:
        yield None
    elif out.is_terminal:
        columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[state]}"))
        with Progress(*columns, TimeElapsedColumn(), console=out, transient=True) as progress:
            task = progress.add_task("", total=iterations, state="")

            def show(metrics: Metrics) -> None:
                state = f"loss {metrics.loss:.3f}  accuracy {metrics.accuracy:.1%}"
                progress.update(task, completed=metrics.iteration, state=state)

            yield show
    else:
        yield lambda metrics: print(f"Iteration: {metrics.iteration}, Accuracy: {metrics.accuracy:.3f}", flush=True)


@contextmanager
def _live(render: Callable[[Comparison], RenderableType], quiet: bool) -> Iterator[Callable[[Comparison], None]]:
    """What to do while a comparison runs: a table that is drawn anew, or a line for each round when piped."""
    if quiet:
        yield lambda comparison: None
    elif out.is_terminal:
        # No thread that draws by itself: it would take CPU time from whoever is being timed.
        with Live(Text("computing the reference"), console=out, auto_refresh=False, transient=True) as live:
            yield lambda comparison: live.update(render(comparison), refresh=True)
    else:
        yield _print_new_rounds()


def _print_new_rounds() -> Callable[[Comparison], None]:
    """Print each timed round once."""
    printed: Counter[str] = Counter()

    def show(comparison: Comparison) -> None:
        for contender in comparison.contenders:
            if len(contender.samples) > printed[contender.label]:
                printed[contender.label] += 1
                print(
                    f"Round: {printed[contender.label]}, {contender.label}: {contender.samples[-1]:.4f} s", flush=True
                )

    return show


def _training_record(result: TrainingResult) -> dict[str, Any]:
    from mnistbench.measurement import machine

    return {
        "backend": result.backend,
        "dtype": result.workload.dtype,
        "iterations": result.workload.iterations,
        "train_accuracy": result.accuracy,
        "dev_accuracy": result.dev_accuracy,
        "test_accuracy": result.test_accuracy,
        "loss": result.loss,
        "costs": result.costs.as_dict(),
        "history": result.history_records(),
        "peak_memory_bytes": machine.peak_memory(),
        "description": result.description,
    }


def _print_training(result: TrainingResult, written: list[Path]) -> None:
    workload, facts = result.workload, result.description
    out.print(
        f"{result.backend}, {workload.dtype}: {workload.network} network, {workload.images:,} images, "
        f"{workload.iterations} iterations on {facts['device']}, {facts['threads']} threads"
    )
    test = "" if result.test_accuracy is None else f"   test {result.test_accuracy:.1%}"
    out.print(f"accuracy   train {result.accuracy:.1%}   dev {result.dev_accuracy:.1%}{test}   loss {result.loss:.4f}")
    costs = "   ".join(f"{name} {seconds:.2f} s" for name, seconds in result.costs.as_dict().items())
    out.print(f"costs      {costs}   total {result.costs.total:.2f} s")
    for path in written:
        out.print(f"wrote      {path}")


def _digits_as_text(images: Any, predicted: Any, labels: Any) -> Iterator[str]:
    """Images (k, height, width) as text, side by side as far as the screen is wide; two rows of pixels a line."""
    shades = " .:-=+*#%@"
    captions = [
        f"prediction {guess}, label {label}" + ("" if guess == label else "  WRONG")
        for guess, label in zip(predicted, labels, strict=True)
    ]
    width = max(images.shape[2], *map(len, captions)) + 2
    room = out.width if out.is_terminal else 80
    for first in range(0, len(images), per_line := max(1, room // width)):
        part = slice(first, first + per_line)
        yield "".join(caption.ljust(width) for caption in captions[part]).rstrip()
        for row in range(0, images.shape[1], 2):
            ink = images[part, row : row + 2].mean(axis=1)
            cells = ("".join(shades[int(value) * len(shades) // 256] for value in line).ljust(width) for line in ink)
            yield "".join(cells).rstrip()


def _agreement_record(outcome: Agreement) -> dict[str, Any]:
    return {
        "backend": outcome.backend,
        "dtype": outcome.dtype,
        "passed": outcome.passed,
        "summary": outcome.summary(),
        "checks": len(outcome.checks),
        "trajectory": [(k, error if math.isfinite(error) else None) for k, error in outcome.trajectory()],
    }


def _agreement_table(outcomes: list[Agreement]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("backend", "dtype", "verdict", "checks", "parameters", "nearest to its tolerance"):
        right = heading in ("checks", "parameters")
        wide = heading == "nearest to its tolerance"
        table.add_column(heading, no_wrap=not wide, justify="right" if right else "left")
    for outcome in outcomes:
        verdict = Text("agrees", style="green") if outcome.passed else Text("DISAGREES", style="bold red")
        last = outcome.trajectory()[-1:]
        error = f"{last[0][1]:.1e}" if last else ""
        table.add_row(outcome.backend, outcome.dtype, verdict, str(len(outcome.checks)), error, outcome.summary())
    return table
