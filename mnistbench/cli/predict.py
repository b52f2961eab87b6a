"""The command ``predict``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from mnistbench.cli.common import Data, out, require_picture
from mnistbench.words import percent


def predict(
    model: Annotated[Path, typer.Argument(help="File that 'train --save' wrote.")],
    data: Data = None,
    count: Annotated[int, typer.Option(min=1, help="Number of digits to show.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Seed for choosing the digits.")] = 0,
    plot: Annotated[Path, typer.Option(help="Picture to write, .png or .svg.")] = Path("predictions.png"),
) -> None:
    """Show digits with the model's prediction and their label, as text and as a picture.

    The digits are test images. A CSV file has none: its digits may be among those the model was trained on.
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
    accuracy = float(np.mean(predicted == split.labels))
    out.print(f"{percent(accuracy)} of all {len(split):,} {which} are right; the digits above are drawn in {plot}")


def _digits_as_text(images: Any, predicted: Any, labels: Any) -> Iterator[str]:
    """Draw images (k, height, width) in characters, side by side; each line shows two rows of pixels."""
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
