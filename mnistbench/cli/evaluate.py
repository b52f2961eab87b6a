"""The command ``evaluate``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from mnistbench.cli.common import Data, Json, out, plain_table, require_different, require_picture, told
from mnistbench.exceptions import OptionError
from mnistbench.words import level, percent

if TYPE_CHECKING:
    from mnistbench.prediction.evaluation import Evaluation, Share
    from mnistbench.prediction.inputs import Inputs
    from mnistbench.reference.parameters import Model


def evaluate(
    model: Annotated[Path, typer.Argument(help="File that 'train --save' wrote.")],
    data: Data = None,
    count: Annotated[int, typer.Option(min=0, max=10, help="Number of the worst mistakes to show.")] = 5,
    plot: Annotated[
        Path | None, typer.Option(help="Draw matrix, accuracies and mistakes to this .png or .svg file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a model's accuracy on each class with intervals, its confusion matrix, and its most confident mistakes.

    The images are the test images of the data or, of a CSV file, all of it, which the model may have been trained on.
    """
    from mnistbench.files import require_writable
    from mnistbench.prediction import evaluation
    from mnistbench.prediction.inputs import read_inputs
    from mnistbench.reference.parameters import load_model

    if plot:
        require_picture(plot)
        require_writable(plot)
    require_different([("--plot", plot)], [("MODEL", model), ("--data", data)])
    known = load_model(model)
    if plot:
        require_few_classes(known)
    inputs = told(read_inputs(data, needs_labels=True).fitted(known, model))
    images = inputs.labelled
    found = evaluation.evaluate(known, images)
    if plot:
        from mnistbench import charts

        worst = inputs.images[[mistake.image for mistake in found.mistakes[:count]]]
        subtitle = f"{model} on the {len(inputs.images):,} {inputs.which} of {inputs.source}"
        charts.write(charts.evaluation(found, worst, inputs.image_shape, subtitle, _may_be_known(inputs)), plot)
    if as_json:
        print(json.dumps(_record(found, inputs, count)))
    else:
        _print(found, inputs, count)
        if plot:
            out.print(f"wrote {plot}")


def require_few_classes(model: Model) -> None:
    """Refuse to draw more classes than a chart has room for."""
    from mnistbench.charts.evaluation import MOST_CLASSES

    if (outputs := model.parameters.network.outputs) > MOST_CLASSES:
        raise OptionError(f"--plot: draws at most {MOST_CLASSES} classes, and this model has {outputs}")


def _may_be_known(inputs: Inputs) -> bool:
    """Return whether a model may have been trained on the images, which are no test set."""
    return inputs.which == "images"


def _print(found: Evaluation, inputs: Inputs, count: int) -> None:
    from mnistbench.prediction.evaluation import LEVEL

    interval = f"{level(LEVEL)} interval"
    out.print(
        f"{inputs.which} of {inputs.source}: {found.all.right:,} of {found.all.of:,} right, "
        f"{percent(found.all.accuracy or 0.0, 2)}, {interval} {_range(found.all)}"
    )
    out.print()
    table = plain_table()
    for heading in ("class", "images", "right", "accuracy", interval, "most often taken for"):
        table.add_column(heading, justify="left" if heading.startswith("most") else "right")
    for label, share in enumerate(found.classes):
        taken = found.most_often_as(label)
        table.add_row(
            found.names[label],
            f"{share.of:,}",
            f"{share.right:,}",
            percent(share.accuracy, 2) if share.accuracy is not None else "",
            _range(share),
            f"{found.names[taken[0]]} ({taken[1]:,})" if taken else "",
        )
    out.print(table)
    out.print()
    _print_matrix(found)
    if count and found.mistakes:
        _print_mistakes(found, inputs, count)
    if _may_be_known(inputs):
        out.print("The model may have been trained on these images; the intervals hold only if it was not.")
    out.print("Intervals: Wilson's, for the accuracy on other images like these.")


def _range(share: Share) -> str:
    """Write an interval; nothing without images."""
    return " to ".join(percent(end, 2) for end in share.interval or ())


def _print_matrix(found: Evaluation) -> None:
    classes = range(len(found.confusion))
    table = plain_table()
    table.add_column("label", justify="right")
    for label in classes:
        table.add_column(f"as {found.names[label]}", justify="right")
    for label in classes:
        table.add_row(found.names[label], *(f"{n:,}" if n else "." for n in found.confusion[label].tolist()))
    out.print(table)
    out.print()


def _print_mistakes(found: Evaluation, inputs: Inputs, count: int) -> None:
    from mnistbench.cli.digits import side_by_side

    worst = found.mistakes[:count]
    captions = [
        f"{inputs.named(one.predicted)} ({percent(one.probability)}), "
        f"is {inputs.named(one.label)} ({percent(one.of_label)})"
        for one in worst
    ]
    images = inputs.images[[one.image for one in worst]].reshape(-1, *inputs.image_shape)
    places = ", ".join(str(one.image + 1) for one in worst)
    out.print(f"most confidently wrong, of {len(found.mistakes):,}: images {places}, counted from 1")
    for line in side_by_side(images, captions, out.width if out.is_terminal else 80):
        out.print(Text(line), no_wrap=True, overflow="crop")


def _record(found: Evaluation, inputs: Inputs, count: int) -> dict[str, Any]:
    from mnistbench.prediction.evaluation import LEVEL

    return {
        "source": inputs.source,
        "which": inputs.which,
        "may_have_been_trained_on": _may_be_known(inputs),
        **found.all.as_dict(),
        "interval_method": f"Wilson, {level(LEVEL)}",
        "class_names": found.names,
        "classes": [share.as_dict() for share in found.classes],
        "confusion": found.confusion.tolist(),
        "mistakes": [asdict(mistake) for mistake in found.mistakes[:count]],
    }
