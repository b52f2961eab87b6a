"""The CSV file of predictions, as a strict reader of submissions sees it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from mnistbench.exceptions import MnistbenchError
from mnistbench.prediction.submission import write_predictions

LABELS = np.arange(28_000, dtype=np.int64) * 7 % 10


def strictly_read(path: Path, rows: int) -> list[int]:
    """Read a submission, or fail at the first thing that is not as the competition asks."""
    content = path.read_bytes()
    assert content.isascii()
    assert content.endswith(b"\n")
    header, *lines = content.decode().removesuffix("\n").split("\n")
    assert header == "ImageId,Label"
    assert len(lines) == rows
    labels = []
    for number, line in enumerate(lines, 1):
        identifier, label = line.split(",")
        assert identifier == str(number)
        assert label in {*"0123456789"}
        labels.append(int(label))
    return labels


def test_a_submission_is_what_the_competition_asks_for(tmp_path: Path) -> None:
    path = tmp_path / "new" / "submission.csv"
    write_predictions(path, LABELS.tolist())
    assert strictly_read(path, 28_000) == LABELS.tolist()


def test_probabilities_and_names_have_columns(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    shares = np.array([[0.25, 0.75, 0.0], [1 / 3, 1e-9, 2 / 3]])
    write_predictions(path, [1, 2], shares, ("Picture", ["seven, or so.png", 'the "second"']))
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["Picture", "Label", "Probability0", "Probability1", "Probability2"]
    assert [row[:2] for row in rows] == [["seven, or so.png", "1"], ['the "second"', "2"]]
    np.testing.assert_allclose([[float(cell) for cell in row[2:]] for row in rows], shares, rtol=1e-5)


def test_an_old_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "submission.csv"
    path.write_text("old")
    (tmp_path / "file").touch()
    with pytest.raises(MnistbenchError, match="cannot be written"):
        write_predictions(tmp_path / "file" / "submission.csv", LABELS.tolist())
    write_predictions(path, LABELS[:3].tolist())
    assert path.read_text(encoding="utf-8") == "ImageId,Label\n1,0\n2,7\n3,4\n"
    assert sorted(tmp_path.iterdir()) == [tmp_path / "file", path]
