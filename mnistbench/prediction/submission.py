"""Predictions as a CSV file, in the form of Kaggle's digit-recognizer competition: ``ImageId,Label``, ids from 1."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnistbench.files import write_text


def write_predictions(
    path: Path,
    labels: Sequence[object],
    probabilities: NDArray[np.float64] | None = None,
    ids: tuple[str, Sequence[str]] | None = None,
) -> None:
    """Write the predicted label of each image, a row each in their order, whole or not at all.

    Args:
        path: File to write, replaced if it exists.
        labels: m labels: numbers, or names of classes.
        probabilities: (m, classes), for further columns ``Probability0``, ``Probability1``, ...; None for none.
        ids: Name of the first column, and its m texts, in place of ``ImageId`` with numbers from 1.

    Raises:
        MnistbenchError: If the file cannot be written.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    heading, column = ("ImageId", range(1, len(labels) + 1)) if ids is None else ids
    columns: list[Sequence[Any]] = [column, labels]
    header = [heading, "Label"]
    if probabilities is not None:
        columns += [[f"{value:.6g}" for value in column] for column in probabilities.T.tolist()]
        header += [f"Probability{digit}" for digit in range(probabilities.shape[1])]
    table.writerow(header)
    table.writerows(zip(*columns, strict=True))
    write_text(path, text.getvalue())
