"""Numbers, quantities and exceptions in words."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from mnistbench import words
from mnistbench.exceptions import BackendUnavailable, DataError
from tests.support.attacks import ATTACKS

_UNITS = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}


def _read(text: str) -> float:
    number, unit = text.split()
    return float(number.replace(",", "")) * _UNITS[unit]


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.0, "0 s"), (1.0234, "1.02 s"), (23.34, "23.3 s"), (9.999, "10.0 s"), (59.96, "60.0 s"), (999.6, "1,000 s"),
     (1234.5, "1,230 s"), (0.01, "10.0 ms"), (0.0999, "99.9 ms"), (0.624, "624 ms"), (0.9996, "1.00 s"),
     (2.5e-5, "25.0 µs"), (999.6e-6, "1.00 ms"), (0.5e-6, "500 ns"), (4e-12, "0.00400 ns")],
)  # fmt: skip
def test_seconds(value: float, said: str) -> None:
    assert words.seconds(value) == said


@example(9.996)
@example(0.09996)
@example(99.96e-6)
@given(st.floats(1e-9, 999.4))
def test_seconds_have_three_digits(value: float) -> None:
    text = words.seconds(value)
    number = text.split()[0]
    assert len(number.replace(".", "")) == 3
    assert 1 <= float(number) < 1000
    # Three digits: off by half of the last, which is at most 5 in 1,000.
    assert math.isclose(_read(text), value, rel_tol=5.01e-3)


@given(st.floats(1e-9, 1e5), st.floats(1.0, 1.1))
def test_longer_times_never_look_shorter(value: float, factor: float) -> None:
    assert _read(words.seconds(value)) <= _read(words.seconds(value * factor)) * (1 + 1e-12)


@pytest.mark.parametrize(
    ("value", "said"),
    [(684.4e9, "684 GFLOP/s"), (999.9e9, "1.00 TFLOP/s"), (12.0, "12.0 FLOP/s"), (2e18, "2,000 PFLOP/s")],
)
def test_quantities(value: float, said: str) -> None:
    assert words.quantity(value, "FLOP/s") == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(24.14, "24.1×"), (1.0, "1.00×"), (1020.0, "1,020×"), (99.96, "100×"), (0.5, "0.500×"), (2.1e9, "2.1×10⁹×"),
     (math.inf, "∞×"), (0.0, "0×")],
)  # fmt: skip
def test_ratios(value: float, said: str) -> None:
    assert words.times(value) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.0, "0"), (3.14e-7, "3.1×10⁻⁷"), (1e-10, "10⁻¹⁰"), (9.99e-8, "10⁻⁷"), (25.0, "2.5×10¹"), (math.nan, "nan")],
)
def test_scientific(value: float, said: str) -> None:
    assert words.scientific(value) == said


def test_shares_sizes_and_counts() -> None:
    assert [words.percent(0.8571), words.percent(0.0071, 2), words.percent(0.007, None)] == ["85.7%", "0.71%", "0.7%"]
    assert [words.level(value) for value in (0.9375, 0.95, 0.984375, 0.29, 0.0)] == ["93%", "95%", "98%", "29%", "0%"]
    assert words.level(0.9375, 1) == "93.7%"
    assert [words.size(n) for n in (17, 48 << 10, 3 << 29)] == ["17 bytes", "48 KiB", "1.5 GiB"]
    assert [words.counted(n, "image") for n in (0, 1, 41_000)] == ["0 images", "1 image", "41,000 images"]
    assert [words.abbreviated(n) for n in (300, 41_000, 1_500_000)] == ["300", "41k", "1.5M"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("a\n  b"), "ValueError: a b"),
        (MemoryError(), "MemoryError"),
        (ImportError("no module"), "no module"),
        (DataError("x.csv: line 3"), "x.csv: line 3"),
        (BackendUnavailable("cupy", "no GPU"), str(BackendUnavailable("cupy", "no GPU"))),
    ],
)
def test_exceptions_on_one_line(error: Exception, said: str) -> None:
    assert words.exception(error) == said


@given(st.text())
def test_a_stream_of_any_encoding_takes_any_text(text: str) -> None:
    for encoding in ("ascii", "cp1251", "latin-1"):
        written = text.encode(encoding, words.ALIKE).decode(encoding)
        if text.isascii():
            assert written == text


def test_what_cannot_be_encoded_looks_alike() -> None:
    text = (
        f"{words.times(16.6)}, {words.scientific(3.1e-7)}, {words.seconds(5e-6)}, {words.times(math.inf)} \N{SNOWMAN}, "
        f"{words.ABOUT} 2"
    )
    assert text.encode("ascii", words.ALIKE) == b"16.6x, 3.1x10^-7, 5.00 us, infx ?, ~ 2"
    assert text.encode("utf-8", words.ALIKE).decode() == text


def test_errors_are_written_so_that_they_are_read_at_once() -> None:
    values = 0.0, 5.2e-7, 0.0094, 0.074, 1.27, 12.0, 1e3, math.inf
    expected = "0", "5×10⁻⁷", "9×10⁻³", "0.074", "1.3", "12", "10³", "inf"
    assert tuple(map(words.relative, values)) == expected


def rendered(text: str) -> str:
    """The text that a reader sees of a piece of Markdown; fails if there is anything but text."""
    found = ""
    for token in MARKDOWN.parse(text):
        assert token.type in ("paragraph_open", "paragraph_close", "inline"), token
        for inline in token.children or ():
            if inline.type == "html_inline":
                assert inline.content == "<!-- -->"
            else:
                assert inline.type in ("text", "text_special", "hardbreak"), inline
                found += inline.content
    return found


MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


@pytest.mark.parametrize("text", ATTACKS, ids=ascii)
def test_markdown_shows_what_was_written(text: str) -> None:
    expected = words.one_line(words.visible(text))
    assert rendered(words.markdown(text)) == expected
    for before in ("some text ", "a line  \n"):
        assert rendered(before + words.markdown(text)).endswith(expected)
    cell = words.markdown(text)
    assert MARKDOWN.render(f"| a | b |\n| --- | --- |\n| {cell} | end |\n").count("<td>") == 2


@given(st.text(st.one_of(st.characters(), st.sampled_from("\\`*_[]<>|~$&#+-=.:/@!() \n\x1b\u202e1")), max_size=30))
def test_markdown_shows_any_text(text: str) -> None:
    expected = words.one_line(words.visible(text))
    assert rendered(words.markdown(text)) == expected
    assert rendered("a line  \n" + words.markdown(text)).endswith(expected)
    assert words.markdown(text).isprintable()


@pytest.mark.parametrize("text", ["https://attack.example", "www.attack.example", "WWW.attack.example", "a@b.example"])
def test_an_address_becomes_no_link(text: str) -> None:
    """GitHub makes links of addresses, which the parser of these tests does not."""
    assert text not in words.markdown(text)
    assert rendered(words.markdown(text)) == text


@pytest.mark.parametrize("text", [":warning:", "a:+1:b", ":100::1234:", ":heavy_check_mark:", "::T-Rex::"])
def test_a_code_becomes_no_emoji(text: str) -> None:
    """GitHub makes pictures of codes, which the parser of these tests does not."""
    assert not re.search(r":[\w+-]+:", words.markdown(text))
    assert rendered(words.markdown(text)) == text


def test_a_time_of_day_is_no_code() -> None:
    assert words.markdown("18:30:00") == "18:30:00"


@given(st.text())
def test_what_is_visible_is_printable_and_a_printable_text_is_unchanged(text: str) -> None:
    assert words.visible(text).isprintable()
    if text.isprintable():
        assert words.visible(text) == text


def test_control_characters_are_escaped() -> None:
    assert words.visible("\x1b[2J\u202ea\nb\ud800\x7f\xad") == r"\x1b[2J\u202ea\nb\ud800\x7f\xad"
