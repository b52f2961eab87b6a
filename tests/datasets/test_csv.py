"""CSV files: read as they were written, and anything malformed or in doubt is refused in one line."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnistbench.datasets import load_data
from mnistbench.datasets.content import BLOCK
from mnistbench.datasets.csv import read_csv
from mnistbench.exceptions import DataError
from tests.support.builders import idx
from tests.support.data_files import COLUMNS, HEADER, compressed_bytes, csv_file, csv_row, one_line, refusal, table

IDX_FILE = idx(np.zeros((2, 3, 3)))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a path for tests that write one file many times."""
    return tmp_path_factory.mktemp("scratch") / "file"


def test_csv(tmp_path: Path) -> None:
    rows = [csv_row(i % 4, pixel0=i, pixel783=255 - i, pixel30=7) for i in range(10)]
    data = load_data(csv_file(tmp_path / "train.csv", *rows), seed=1, dev_size=3)
    assert (data.source, data.image_shape, data.classes) == (str(tmp_path / "train.csv"), (28, 28), 4)
    assert data.test is None
    order = np.random.default_rng(1).permutation(10)
    for split, rows_of_file in ((data.dev, order[:3]), (data.train, order[3:])):
        assert np.array_equal(split.labels, rows_of_file % 4)
        assert np.array_equal(split.images[:, 0], rows_of_file)
        assert np.array_equal(split.images[:, 783], 255 - rows_of_file)
        assert np.array_equal(split.images[:, 30], np.full(len(split), 7))
        assert split.images.sum() == (255 + 7) * len(split)
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int64
        assert split.images.flags.c_contiguous
    assert len(load_data(tmp_path / "train.csv", train_size=2, dev_size=3).train) == 2


VALID = f"{HEADER}\n{csv_row(1, pixel0=200)}\n{csv_row(0, pixel2=3)}\n".encode()


@pytest.mark.parametrize(
    "content",
    [
        VALID,
        VALID.removesuffix(b"\n"),
        VALID.replace(b"\n", b"\r\n"),
        VALID.replace(b"\n", b"\r"),
        b"\n" + VALID.replace(b"\n", b"\n\n  \n") + b"\n\n",
        codecs.BOM_UTF8 + VALID,
        compressed_bytes(VALID),
        VALID.replace(b",200,", b",200.0,").replace(b",3,", b", 3. ,").replace(b"\n1,", b"\n+1e0,"),
    ],
    ids=["plain", "no last line end", "crlf", "cr", "blank lines", "bom", "gzip", "floats"],
)
def test_csv_variants(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "any.name").write_bytes(content)
    found = read_csv(tmp_path / "any.name")
    assert found.labels is not None
    assert found.labels.tolist() == [1, 0]
    expected = np.zeros((2, 784), np.uint8)
    expected[0, 0], expected[1, 2] = 200, 3
    assert np.array_equal(found.images, expected)


def test_csv_of_many_lines(tmp_path: Path) -> None:
    """Files are read in pieces, with the right line numbers in the last piece."""
    count = 3 * BLOCK // len(csv_row())
    tail = ",0" * 782
    rows = [f"{i % 10},{i % 256},{i // 256}{tail}" for i in range(count)]
    found = read_csv(csv_file(tmp_path / "train.csv", *rows))
    assert found.labels is not None
    assert np.array_equal(found.labels, np.arange(count) % 10)
    assert np.array_equal(found.images[:, 0] + 256 * found.images[:, 1].astype(int), np.arange(count))
    for bad in ("256", "x"):
        rows[-2] = f"1,{bad},0{tail}"
        message = refusal(csv_file(tmp_path / "train.csv", *rows))
        assert f"line {count}, column 'pixel0': '{bad}', not" in message


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (",".join(COLUMNS[1:]), "has no labels, only 784 pixels a row"),
        (",".join(COLUMNS[:-1]), "line 1: 783 columns beside the label, 'label', which make no square picture"),
        (HEADER.replace("pixel5,", ""), "line 1: column 'pixel5' is missing, and 783 columns of pixels"),
        (HEADER.replace("pixel783", "pixel784"), "line 1: column 'pixel783' is missing; give each pixel a column"),
        (HEADER.replace("pixel5,", "pixel4,"), "line 1: 2 columns are called 'pixel4'"),
        (HEADER.replace("pixel", "p\x03x").replace("p\x03x7", "p\x03x8", 1), "line 1: 2 columns are called 'p\\x03x8'"),
        (HEADER.replace("pixel5,", "").replace("pixel", "p\x03"), "line 1: column 'p\\x035' is missing"),
        (HEADER + ",pixel784", "line 1: 785 columns beside the label, 'label', which make no square picture"),
        (HEADER + ",x" * 300_000, "line 1: 300,785 columns, which is no table of pictures"),
        (HEADER + ",class", "line 1: 'label', 'class' could each be the label"),
        (HEADER + ",", "line 2: 785 fields, but the header has 786"),
        (HEADER.replace("label", "id,label"), "line 2: 785 fields, but the header has 786"),
        (HEADER.replace("label", "l\u2028" + "y" * 500), "all training labels are 0"),
        (csv_row(), "column 1 or 785 could be the label"),
        ("some words", "line 1: 2 columns, which make no square picture"),
        ('"' + HEADER, "line 1: 1 columns, which make no square picture"),
        ("0" + "".join(f",{k}" for k in range(1, 17)), "line 1: may be a header or an image"),
        ("x" * 5_000_000, "line 1: longer than 4,194,304 bytes"),
        ('"' + "x" * 200_000 + '"', "line 1: no row of a CSV file (field larger than field limit"),
    ],
)
def test_header_that_is_refused(tmp_path: Path, header: str, expected: str) -> None:
    assert expected in refusal(csv_file(tmp_path / "train.csv", csv_row(), header=header))


@pytest.mark.parametrize("column", ["label", "pixel0", "pixel783"])
@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("", "an empty cell"),
        (" ", "an empty cell"),
        ("\u2028", "an empty cell"),
        ("9" * 400, f"'{'9' * 37}...'"),
        *((cell, repr(cell)) for cell in ("-1", "1.5", "65536", "9" * 30, "1e400", "inf", "-Infinity", "nan", "NaN")),
        *((cell, repr(cell)) for cell in ("NA", "five", "True", "1_0", "0x10", '5"5"', '"5"5', '"5""5"', "5 6", "٣")),
    ],
)
def test_csv_cell(tmp_path: Path, column: str, cell: str, found: str) -> None:
    rows = [csv_row(1), "", csv_row(2), csv_row(**{column: cell}), csv_row(pixel5=999)]
    message = refusal(csv_file(tmp_path / "train.csv", *rows))
    largest = 65_535 if column == "label" else 255
    assert f"line 5, column '{column}': {found}, not a whole number from 0 to {largest}" in message


def test_csv_bounds(tmp_path: Path) -> None:
    rows = [csv_row(65_535, pixel9=255), csv_row(0)]
    data = load_data(csv_file(tmp_path / "train.csv", *rows), dev_size=1)
    assert data.classes == 65_536
    assert max(data.train.images.max(), data.dev.images.max()) == 255
    bad = csv_file(tmp_path / "train.csv", csv_row(pixel9=256), rows[1])
    assert "'256', not a whole number from 0 to 255" in refusal(bad)


@given(cell=st.text(st.characters(codec="utf-8", exclude_characters=",\r\n"), max_size=6) | st.floats().map(repr))
def test_csv_cell_is_a_number_or_refused(scratch: Path, cell: str) -> None:
    """A cell is read as Python reads it, or refused."""
    csv_file(scratch, csv_row(1, pixel9=255), csv_row(pixel3=cell))
    try:
        value = int(read_csv(scratch).images[1, 3])
    except DataError as error:
        message = one_line(error)
        assert ("line 3: not UTF-8 text" if "\0" in cell else "line 3, column 'pixel3'") in message
        assert not re.fullmatch(r"\d{1,2}|1\d\d|2[0-4]\d|25[0-5]", cell, re.ASCII)
    else:
        assert value == float(cell)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], "has a header, but no rows"),
        (["", " "], "has a header, but no rows"),
        ([csv_row(), csv_row() + ",0"], "line 3: 786 fields, but the header has 785"),
        ([csv_row() + ",", csv_row() + ","], "line 2: 786 fields"),
        ([csv_row(), "", csv_row()[:-2]], "line 4: 784 fields"),
        (["1"], "line 2: 1 fields"),
        ([csv_row(7), csv_row(7)], "all training labels are 7"),
    ],
)
def test_csv_rows(tmp_path: Path, rows: list[str], expected: str) -> None:
    assert expected in refusal(csv_file(tmp_path / "train.csv", *rows))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the file is empty"),
        (b"\r\n \n", "the file is empty"),
        (codecs.BOM_UTF8, "the file is empty"),
        (compressed_bytes(b""), "the file is empty"),
        (compressed_bytes(VALID)[:-9], "before its gzip data does"),
        (compressed_bytes(VALID)[:-8] + bytes(8), "damaged gzip data"),
        (VALID.decode().encode("utf-16"), "not a CSV file but a text in UTF-16"),
        (VALID.decode().encode("utf-16")[2:], "line 1: not UTF-8 text"),
        (VALID.replace(b"\n", b"\r\n") + b"5,\xff", "line 4: not UTF-8 text"),
        (VALID.replace(b",3,", b",3\x003,"), "line 3: not UTF-8 text"),
        (b"PK\x03\x04rest", "a zip archive that cannot be read (File is not a zip file)"),
        (IDX_FILE, "not a CSV file but an IDX file"),
        (compressed_bytes(IDX_FILE), "not a CSV file but an IDX file"),
    ],
)
def test_csv_content(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "train.csv").write_bytes(content)
    assert expected in refusal(tmp_path / "train.csv")


# How columns are understood


PIXELS = np.random.default_rng(2).integers(0, 256, (12, 16))
PIXELS[:, [0, 15]] = 0
TARGETS = np.arange(12) % 3


@given(st.data())
def test_the_same_table_in_any_spelling(scratch: Path, data: st.DataObject) -> None:
    """Separators, names, order, quotes, line ends, floats, an index and empty rows change nothing."""
    draw = data.draw
    names = [str(place) for place in draw(st.permutations(range(16)))]
    order = [int(name) for name in names]
    named = draw(st.sampled_from(["pixel{}", "{}", "p_{}_x", "grid", "words"]))
    if named == "grid":
        names = [f"{place // 4 + 1}x{place % 4 + 1}" for place in order]
    elif named == "words":
        order, names = list(range(16)), list("abcdefghijklmnop")
    else:
        names = [named.format(int(name) + 1) for name in names]
    place = draw(st.integers(0, 16))
    columns: list[tuple[str, Sequence[object]]] = [
        (name, PIXELS[:, k].tolist()) for name, k in zip(names, order, strict=True)
    ]
    columns.insert(place, (draw(st.sampled_from(["label", "Class", " Y ", "TARGET"])), TARGETS.tolist()))
    if draw(st.booleans()):
        index = (draw(st.sampled_from(["", "Unnamed: 0", "id", "Index"])), [f"r{row}" for row in range(12)])
        columns.insert(draw(st.integers(0, 17)), index)
    separator = draw(st.sampled_from([",", ";", "\t", "|"]))
    spell = draw(st.sampled_from(["{}", '"{}"', " {} ", "{}"]))
    number = draw(st.sampled_from(["{}", "{}.0", "{}.00", "{}e0", "0{}"]))
    header = separator.join(spell.format(name) for name, _ in columns)
    cells = [[number.format(value) if isinstance(value, int) else value for value in values] for _, values in columns]
    rows = [separator.join(spell.format(value) for value in row) for row in zip(*cells, strict=True)]
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    for _ in range(draw(st.integers(0, 3))):
        rows.insert(draw(st.integers(0, len(rows))), draw(st.sampled_from(["", "  ", separator * 16, '""'])))
    text = draw(st.sampled_from(["", "\ufeff"])) + end.join(
        [header, *rows, *draw(st.sampled_from([[], [""], ["", ""]]))]
    )
    scratch.write_bytes(compressed_bytes(text.encode()) if draw(st.booleans()) else text.encode())
    found = read_csv(scratch)
    assert np.array_equal(found.images, PIXELS)
    assert found.labels is not None
    assert np.array_equal(found.labels, TARGETS)
    assert found.image_shape == (4, 4)


@given(st.data())
def test_a_label_without_a_name_is_told_by_its_values(scratch: Path, data: st.DataObject) -> None:
    """A pixel at a corner hardly varies and labels do, also where they are sorted, and few rows are read at a time."""
    draw = data.draw
    rows, classes = draw(st.integers(20, 60)), draw(st.integers(2, 10))
    labels = np.sort(np.arange(rows) % classes)
    pixels = np.random.default_rng(rows).integers(0, 256, (rows, 16))
    pixels[:, [0, 15]] = 0
    pixels[0, draw(st.sampled_from([0, 1, 15]))] = 7
    last = draw(st.booleans())
    header = draw(
        st.sampled_from([[], [f"c{k}" for k in range(17)], list("abcdefghijklmnopq"), ["", *map(str, range(17))]])
    )
    parts = [pixels, labels[:, np.newaxis]] if last else [labels[:, np.newaxis], pixels]
    cells = np.column_stack([np.arange(rows), *parts] if header[:1] == [""] else parts)
    found = read_csv(table(scratch, cells.tolist(), header))
    assert found.labels is not None
    assert np.array_equal(found.labels, labels)
    assert np.array_equal(found.images, pixels)


def test_pictures_that_are_no_squares_by_the_names_of_their_pixels(tmp_path: Path) -> None:
    names = [f"r{row}c{column}" for row in range(2) for column in range(8)]
    found = read_csv(table(tmp_path / "wide.csv", np.column_stack([PIXELS, TARGETS]).tolist(), [*names, "y"]))
    assert found.image_shape == (2, 8)
    assert found.understood == "label in the last column ('y'), 16 pixels, 2 x 8, with a header"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (["label", *(f"1x{k}" for k in range(16))], (4, 4)),  # numbers, not a grid
        (["label", *(f"{k}x{k}" for k in range(16))], (4, 4)),
        (["label", *(f"{k}x1" for k in range(2, 18))], (4, 4)),
        (["label", *(f"a{k}" for k in range(8)), *(f"b{k}" for k in range(8))], (4, 4)),
        (["label", *([""] * 16)], (4, 4)),
    ],
)
def test_names_that_give_no_order(tmp_path: Path, header: list[str], expected: tuple[int, int]) -> None:
    found = read_csv(table(tmp_path / "t.csv", np.column_stack([TARGETS, PIXELS]).tolist(), header))
    assert found.image_shape == expected
    assert np.array_equal(found.images, PIXELS)


@pytest.mark.parametrize("share", [0.65, 0.95])
def test_a_label_in_doubt_is_refused(tmp_path: Path, share: float) -> None:
    """A column at either end that varies, but as neither labels nor a corner do."""
    pixels = np.random.default_rng(1).integers(0, 256, (100, 15))
    ends = np.column_stack([np.arange(100) >= 100 * share, np.arange(100) < 100 * share - 1]).astype(int)
    message = refusal(table(tmp_path / "t.csv", np.column_stack([ends[:, :1], pixels, ends[:, 1:]]).tolist()))
    assert "column 1 or 17 could be the label; give the columns names, and call the label's 'label'" in message
