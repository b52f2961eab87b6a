"""The tables of docs/data.md: every kind of data is read as the plain file is, or refused as its row says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from mnistbench.datasets import load_data, read_file
from tests.support import kinds
from tests.support.data_files import refusal

PAGE = Path(__file__).parents[2] / "docs" / "data.md"


def rows(heading: str) -> dict[str, str]:
    """Return the table below a heading of the page: the first cell of each row, and the second."""
    part = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    cells = [re.fullmatch(r"\| (.*?) \| (?:(.*?) )?\|", line) for line in part.splitlines() if line.startswith("|")]
    found = {match[1]: match[2] or "" for match in cells if match}
    assert len(found) == len(cells)
    return dict(list(found.items())[2:])


ACCEPTED, REFUSED = rows("Accepted"), rows("Refused")


def test_the_tables_list_what_is_tried() -> None:
    assert [*ACCEPTED] == [*kinds.ACCEPTED]
    assert [*REFUSED] == [*kinds.REFUSED]


@pytest.mark.parametrize("kind", kinds.ACCEPTED)
def test_accepted(kind: str, tmp_path: Path) -> None:
    source = kinds.ACCEPTED[kind](tmp_path)
    data = load_data(source, seed=2, dev_size=7)
    assert ACCEPTED[kind] in "\n".join(data.notes) if ACCEPTED[kind] else not data.notes
    order = np.random.default_rng(2).permutation(kinds.IMAGES)
    for split, places in ((data.dev, order[:7]), (data.train, order[7:])):
        assert np.array_equal(split.images, kinds.TRAIN.images[places])
        assert np.array_equal(split.labels, kinds.TRAIN.labels[places])
    if data.test is not None:
        assert np.array_equal(data.test.images, kinds.TEST.images)
        assert np.array_equal(data.test.labels, kinds.TEST.labels)
    assert (data.image_shape, data.classes) == ((28, 28), 10)
    assert (data.test is not None) == ((source.is_dir() and "Kaggle" not in kind) or "Keras" in kind)


@pytest.mark.parametrize("kind", kinds.REFUSED)
def test_refused(kind: str, tmp_path: Path) -> None:
    assert REFUSED[kind] in refusal(kinds.REFUSED[kind](tmp_path), dev_size=7)


@pytest.mark.parametrize("name", ["test.csv", "train.csv", "train-images-idx3-ubyte.gz"])
def test_images_without_labels(name: str, tmp_path: Path) -> None:
    content = {"test.csv": kinds.UNLABELLED, "train.csv": kinds.KAGGLE}
    (tmp_path / name).write_bytes(content.get(name) or kinds.GZIPPED[name.removesuffix(".gz")])
    found = read_file(tmp_path / name)
    assert np.array_equal(found.images, kinds.TRAIN.images)
    assert found.image_shape == (28, 28)
    assert (found.labels is None) == (name != "train.csv")
