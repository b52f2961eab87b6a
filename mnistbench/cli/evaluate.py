"""The command ``evaluate``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from mnistbench.cli.common import Data, Json, out, plain_table, require_picture, told
from mnistbench.words import percent

if TYPE_CHECKING:
    from mnistbench.prediction.evaluation import Evaluation, Share
    from mnistbench.prediction.inputs import Inputs


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
    known = load_model(model)
    inputs = told(read_inputs(data))
    inputs.require_fit(known, model)
    found = evaluation.evaluate(known, inputs.labelled)
    if plot:
        from mnistbench import charts

        images = inputs.images[[mistake.image for mistake in found.mistakes[:count]]]
        subtitle = f"{model} on the {len(inputs.images):,} {inputs.which} of {inputs.source}"
        charts.write(charts.evaluation(found, images, inputs.image_shape, subtitle), plot)
    if as_json:
        print(json.dumps(_record(found, inputs, count)))
    else:
        _print(found, inputs, count)
        if plot:
            out.print(f"wrote {plot}")


def _print(found: Evaluation, inputs: Inputs, count: int) -> None:
    out.print(
        f"{inputs.which} of {inputs.source}: {found.all.right:,} of {found.all.of:,} right, {_in_words(found.all)}"
    )
    out.print()
    table = plain_table()
    for heading in ("class", "images", "right", "accuracy", "95% interval", "most often taken for"):
        table.add_column(heading, justify="left" if heading.startswith("most") else "right")
    for label, share in enumerate(found.classes):
        taken = found.most_often_as(label)
        accuracy, interval = _in_words(share).split(", ") if share.of else ("", "")
        table.add_row(
            str(label),
            f"{share.of:,}",
            f"{share.right:,}",
            accuracy,
            interval.removeprefix("95% interval "),
            f"{taken[0]} ({taken[1]:,})" if taken else "",
        )
    out.print(table)
    out.print()
    _print_matrix(found)
    if count and found.mistakes:
        _print_mistakes(found, inputs, count)
    out.print("Intervals: Wilson's, for the accuracy on other images like these.")


def _in_words(share: Share) -> str:
    low, high = share.interval or (0.0, 1.0)
    return f"{percent(share.accuracy or 0.0, 2)}, 95% interval {percent(low, 2)} to {percent(high, 2)}"


def _print_matrix(found: Evaluation) -> None:
    classes = range(len(found.confusion))
    table = plain_table()
    table.add_column("label", justify="right")
    for label in classes:
        table.add_column(f"as {label}", justify="right")
    for label in classes:
        table.add_row(str(label), *(f"{n:,}" if n else "." for n in found.confusion[label].tolist()))
    out.print(table)
    out.print()


def _print_mistakes(found: Evaluation, inputs: Inputs, count: int) -> None:
    from mnistbench.cli.digits import side_by_side

    worst = found.mistakes[:count]
    captions = [
        f"{one.predicted} ({percent(one.probability)}), is {one.label} ({percent(one.of_label)})" for one in worst
    ]
    images = inputs.images[[one.image for one in worst]].reshape(-1, *inputs.image_shape)
    out.print(f"most confidently wrong, of {len(found.mistakes):,}: images {', '.join(f'{m.image:,}' for m in worst)}")
    for line in side_by_side(images, captions, out.width if out.is_terminal else 80):
        out.print(Text(line), no_wrap=True, overflow="crop")


def _record(found: Evaluation, inputs: Inputs, count: int) -> dict[str, Any]:
    return {
        "source": inputs.source,
        "which": inputs.which,
        **found.all.as_dict(),
        "interval_method": "Wilson, 95%",
        "classes": [share.as_dict() for share in found.classes],
        "confusion": found.confusion.tolist(),
        "mistakes": [asdict(mistake) for mistake in found.mistakes[:count]],
    }
