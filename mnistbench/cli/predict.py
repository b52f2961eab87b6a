"""The command ``predict``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from mnistbench.cli.common import Data, complain, out, require_different, require_picture, told
from mnistbench.exceptions import DataError, ModelError, OptionError
from mnistbench.words import counted, percent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mnistbench.prediction.inputs import Inputs
    from mnistbench.reference.parameters import Model


def predict(
    model: Annotated[Path, typer.Argument(help="File that 'train --save' wrote.")],
    pictures: Annotated[
        list[Path] | None, typer.Argument(help="Pictures of one digit each, or folders of them.", show_default=False)
    ] = None,
    data: Data = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Write all predictions to this CSV file: ImageId,Label, with ids from 1 or those of the data."
        ),
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write the probability of each class to the CSV file too.")
    ] = False,
    count: Annotated[
        int | None, typer.Option(min=1, help="Number of digits to show (default: 8, none with --output).")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed for choosing the digits (default: 0).", show_default=False)
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw what is shown to this .png or .svg file.")] = None,
) -> None:
    """Predict digits: of a file or folder of data, or of pictures of one's own.

    Without pictures and --data, the digits are the embedded MNIST's test images. Of a folder they are its test images,
    with labels or, as Kaggle's, without. Images of a CSV file may be among those the model was trained on.
    """
    from mnistbench.files import require_writable
    from mnistbench.reference.parameters import load_model

    if plot:
        require_picture(plot)
    for path in filter(None, (output, plot)):
        require_writable(path)
    outputs = [("--output", output), ("--plot", plot)]
    require_different(outputs, [("MODEL", model), ("--data", data)])
    if probabilities and not output:
        raise OptionError("--probabilities: has no effect without --output")
    known = load_model(model)
    if pictures:
        for name, given in (("data", data), ("count", count), ("seed", seed)):
            if given is not None:
                raise OptionError(f"--{name}: not with pictures, which are all shown")
        _predict_pictures(model, known, pictures, output, probabilities, plot)
        return

    from mnistbench.prediction.inputs import read_inputs

    shown = count or (0 if output else 8)
    if plot and not shown:
        raise OptionError("--plot: with --output it needs --count, the number of digits to draw")
    if seed is not None and not shown:
        raise OptionError("--seed: with --output it needs --count, the number of digits to choose")
    _require_drawable(plot, shown)
    inputs = told(read_inputs(data).fitted(known, model))
    require_different(outputs, [("--data", Path(inputs.source))])
    _predict_data(known, inputs, output, probabilities, shown, seed or 0, plot)


def _require_drawable(plot: Path | None, count: int) -> None:
    if plot and count > 400:
        raise OptionError(f"--count {count}: give at most 400 with --plot")


def _predict_data(
    model: Model,
    inputs: Inputs,
    output: Path | None,
    with_probabilities: bool,
    count: int,
    seed: int,
    plot: Path | None,
) -> None:
    """Predict all images of a source; write them, and show some."""
    import numpy as np

    from mnistbench.cli.digits import side_by_side
    from mnistbench.prediction.submission import write_predictions
    from mnistbench.reference import evaluation

    found = None
    if with_probabilities:
        found, predicted = evaluation.probabilities(model.parameters, inputs.images, model.activation)
    else:
        predicted = evaluation.predict(model.parameters, inputs.images, model.activation)
    chosen = np.random.default_rng(seed).permutation(len(predicted))[:count]
    images, guesses = inputs.images[chosen], predicted[chosen]
    labels = None if inputs.labels is None else inputs.labels[chosen]
    if count:
        captions = [f"prediction {model.named(guess)}" for guess in guesses]
        if labels is not None:
            captions = [
                f"{caption}, label {inputs.named(label)}" + ("" if guess == label else "  WRONG")
                for caption, guess, label in zip(captions, guesses, labels, strict=True)
            ]
        room = out.width if out.is_terminal else 80
        _print_lines(side_by_side(images.reshape(-1, *inputs.image_shape), captions, room))
    written = []
    if output:
        write_predictions(output, _named(model, predicted), found, inputs.ids)
        written.append(output)
    if plot:
        from mnistbench import charts

        charts.write(charts.predictions(images, guesses, labels, inputs.image_shape), plot)
        written.append(plot)
    which = f"{inputs.which}{'' if inputs.which == 'test images' else f' of {inputs.source}'}"
    if inputs.labels is None:
        out.print(f"predicted all {len(predicted):,} {which}")
    else:
        out.print(f"{percent(float(np.mean(predicted == inputs.labels)))} of all {len(predicted):,} {which} are right")
    _print_written(written)


def _predict_pictures(
    name: Path, model: Model, paths: list[Path], output: Path | None, with_probabilities: bool, plot: Path | None
) -> None:
    """Bring pictures to MNIST's form, predict them, and show each as the network sees it."""
    from mnistbench.cli.digits import beside_probabilities
    from mnistbench.prediction import pictures
    from mnistbench.prediction.submission import write_predictions
    from mnistbench.reference import evaluation

    if model.image_shape != (pictures.SIDE, pictures.SIDE):
        raise ModelError(f"{name}: takes images of {model.image_shape}; pictures are brought to MNIST's (28, 28)")
    files = pictures.list_pictures(paths)
    require_different([("--output", output), ("--plot", plot)], [("PICTURES", path) for path in files])
    if plot:
        from mnistbench import charts
        from mnistbench.charts.evaluation import MOST_PANELS
        from mnistbench.cli.evaluate import require_few_classes

        if len(files) > MOST_PANELS:
            raise OptionError(f"--plot: draws at most {MOST_PANELS} pictures, and these are {len(files):,}")
        require_few_classes(model)
    given, (files, images) = len(files), _readable(files)
    found, predicted = evaluation.probabilities(model.parameters, images, model.activation)
    names = [str(path) for path in files]
    for path, label, image, share in zip(names, predicted, images, found, strict=True):
        out.print(f"{path}: {model.named(label)} ({percent(float(share[label]))})")
        _print_lines(beside_probabilities(image.reshape(model.image_shape), share))
    written = []
    if output:
        write_predictions(output, _named(model, predicted), found if with_probabilities else None, ("Picture", names))
        written.append(output)
    if plot:
        charts.write(charts.probabilities(images, found, [path.name for path in files], model.image_shape), plot)
        written.append(plot)
    out.print(f"predicted {counted(len(files), 'picture')}")
    _print_written(written)
    if len(files) < given:
        raise typer.Exit(2)


def _readable(files: list[Path]) -> tuple[list[Path], NDArray[np.uint8]]:
    """Return the files that are pictures, at least one, and the pictures (k, 784); complain about the others."""
    import numpy as np

    from mnistbench.prediction.pictures import read_picture

    read, errors = [], []
    for path in files:
        try:
            read.append((path, read_picture(path).reshape(-1)))
        except DataError as refused:
            errors.append(refused)
    if not read:
        raise errors[0]
    for error in errors:
        complain(str(error))
    return [path for path, _ in read], np.stack([image for _, image in read])


def _named(model: Model, predicted: NDArray[np.int64]) -> list[object]:
    """Return classes by their names, or by their numbers if they have none."""
    return [model.named(label) if model.class_names else label for label in predicted.tolist()]


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        out.print(Text(line), no_wrap=True, overflow="crop")


def _print_written(paths: Iterable[Path]) -> None:
    for path in paths:
        out.print(f"wrote {path}")
