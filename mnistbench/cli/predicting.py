"""``predict``: what a model makes of digits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from mnistbench.cli.common import Data, out, require_picture


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

    from mnistbench import charts
    from mnistbench.datasets import load_data
    from mnistbench.exceptions import ModelError
    from mnistbench.files import require_writable
    from mnistbench.reference import evaluation
    from mnistbench.reference.parameters import load_model

    require_picture(plot)
    require_writable(plot)
    parameters, image_shape, activation = load_model(model)
    dataset = load_data(data, dev_size=1)
    split, which = (dataset.test, "test images") if dataset.test else (dataset.train, f"images of {dataset.source}")
    if dataset.image_shape != image_shape:
        raise ModelError(
            f"{model}: takes images of {image_shape}, but those of {dataset.source} are {dataset.image_shape}"
        )
    predicted = evaluation.predict(parameters, split.images, activation)
    chosen = np.random.default_rng(seed).permutation(len(split))[:count]
    images, labels = split.images[chosen], split.labels[chosen]
    for line in _digits_as_text(images.reshape(-1, *image_shape), predicted[chosen], labels):
        out.print(Text(line), no_wrap=True, overflow="crop")
    charts.write(charts.predictions(images, predicted[chosen], labels, image_shape), plot)
    accuracy = np.mean(predicted == split.labels)
    out.print(f"{accuracy:.1%} of all {len(split):,} {which} are right; the digits above are drawn in {plot}")


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
