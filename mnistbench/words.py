"""Numbers, quantities and exceptions in words: the same in a table, a chart and a terminal."""

from __future__ import annotations

import codecs
import io
import math
import re

from mnistbench.exceptions import MnistbenchError

TIMES, MINUS, ABOUT = "\N{MULTIPLICATION SIGN}", "\N{MINUS SIGN}", "\N{ALMOST EQUAL TO}"

_PREFIXES = (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0), ("m", 1e-3), ("µ", 1e-6))
_BINARY = (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))

_SUPERSCRIPTS = "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"
_ASCII = str.maketrans(
    {TIMES: "x", MINUS: "-", ABOUT: "~", "∞": "inf", "µ": "u", "…": "..."}
    | dict(zip(_SUPERSCRIPTS, "-0123456789", strict=True))
)


def ascii_alike(text: str) -> str:
    """Write a text in ASCII: x for ×, ^-7 for ⁻⁷, ? for what nothing in ASCII looks like."""
    power = "^" if text[:1] in _SUPERSCRIPTS else ""
    return power + text.translate(_ASCII).encode("ascii", "replace").decode()


def _encoded_alike(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return ascii_alike(error.object[error.start : error.end]), error.end


ALIKE = "mnistbench.alike"
"""Error handler for streams whose encoding lacks a character: it writes :func:`ascii_alike`."""
codecs.register_error(ALIKE, _encoded_alike)


def write_alike(*streams: object) -> None:
    """Let streams with an encoding write :func:`ascii_alike` in place of what it lacks."""
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ALIKE)


def significant(value: float, digits: int = 3) -> str:
    """Write ``digits`` significant digits, never in exponent form: 1.02, 22.8, 41,000."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    value = _rounded(value, digits)
    return f"{value:,.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def quantity(value: float, unit: str, digits: int = 3) -> str:
    """Write a quantity with the SI prefix that suits its size: 684 GFLOP/s, 1.20 TB/s."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g} {unit}"
    rounded = abs(_rounded(value, digits))
    prefix, size = next((pair for pair in _PREFIXES if rounded >= pair[1]), ("n", 1e-9))
    return f"{significant(value / size, digits)} {prefix}{unit}"


def seconds(value: float, digits: int = 3) -> str:
    """Write a duration: 10.9 s, 624 ms, 870 µs."""
    return quantity(value, "s", digits) if _rounded(value, digits) < 1000 else f"{significant(value, digits)} s"


def times(ratio: float, digits: int = 3) -> str:
    """Write a ratio: 24.1×, 1.00×, 1,020×; a very large or small one as 2.1×10⁹×."""
    text = significant(ratio, digits) if ratio == 0 or 1e-3 <= ratio < 1e5 or math.isinf(ratio) else scientific(ratio)
    return f"{text.replace('inf', '∞')}{TIMES}"


def scientific(value: float, digits: int = 2) -> str:
    """Write a mantissa and a power of ten: 3.1×10⁻⁷; without a mantissa of 1: 10⁻⁷."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    power = "10" + str(int(exponent)).translate(str.maketrans("-0123456789", _SUPERSCRIPTS))
    return power if float(mantissa) == 1 else f"{mantissa}{TIMES}{power}"


def relative(error: float) -> str:
    """Write a relative error, or a tolerance of one: 5×10⁻⁷, 0.074, 1.3."""
    return significant(error, 2) if 0.01 <= error < 100 else scientific(error, 1)


def abbreviated(value: float) -> str:
    """Write a large number with a suffix: 41k for 41,000."""
    suffix, unit = next((pair for pair in (("M", 1e6), ("k", 1e3)) if value >= pair[1]), ("", 1.0))
    return f"{value / unit:.4g}{suffix}"


def percent(share: float, decimals: int | None = 1) -> str:
    """Write a fraction as a percentage: 85.7%; with ``decimals=None`` with all its digits: 0.7%."""
    return f"{100 * share:g}%" if decimals is None else f"{share:.{decimals}%}"


def level(probability: float, decimals: int = 0) -> str:
    """Write a confidence level as a percentage, never more than it is: 93% for 0.9375."""
    unit = 10 ** (2 + decimals)
    return percent(math.floor(round(probability * unit, 6)) / unit, decimals)


def size(count: float) -> str:
    """Write a number of bytes: 48 KiB, 1.5 GiB."""
    unit, factor = next((pair for pair in _BINARY if count >= pair[1]), ("bytes", 1))
    return f"{count / factor:.4g} {unit}"


def counted(number: float, what: str) -> str:
    """Write a number of things: 1 thread, 2 threads, 41,000 images."""
    return f"{number:,.0f} {what}{'' if number == 1 else 's'}"


def one_line(text: object) -> str:
    """Put a text, or the message of an exception, on one line."""
    return " ".join(str(text).split())


def visible(text: str) -> str:
    r"""Replace what a terminal or a reader would obey and not show, such as control characters, line breaks and marks
    of the direction of writing, by its escape: ``\x1b`` for the character that begins a terminal's commands.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def markdown(text: str) -> str:
    """Escape a line, so that GitHub's Markdown shows it unchanged: no markup, links, HTML, entities, emoji, math."""
    escaped = _MARKUP.sub(r"\\\g<0>", one_line(visible(text)))
    return _BEGINNING.sub(r"\1\\\2", _CODE.sub(":<!-- -->", _ADDRESS.sub("<!-- -->@", escaped)))


_MARKUP = re.compile(
    r"[\\`*\[\]<>|~$&]"
    r"|(?<![^\W_])_|_(?![^\W_])"  # within a word it is no markup
    r"|:(?=//)|(?<=www)\.",  # a bare address would become a link
    re.IGNORECASE,
)
_CODE = re.compile(r":(?=(?:[\w+-]*[a-z][\w+-]*|[+-]1|100|1234):)", re.IGNORECASE)  # of an emoji
_ADDRESS = re.compile(r"(?<=\S)@(?=\S)")
_BEGINNING = re.compile(r"^(\d*)([#+=.)-])(?=[#+=-]|\s|$)")


def exception(error: BaseException) -> str:
    """Write an exception on one line: its message alone if it is one of this package's or a failed import, otherwise
    after the name of its type.
    """
    text = one_line(error)
    return (
        text
        if isinstance(error, (MnistbenchError, ImportError))
        else f"{type(error).__name__}: {text}".removesuffix(": ")
    )


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits - 1}e}")
