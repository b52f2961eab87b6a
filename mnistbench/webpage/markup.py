"""HTML and SVG elements as text. What is not markup already is escaped, so that no text becomes markup."""

from __future__ import annotations

import html
from collections.abc import Iterable


class Markup(str):
    """Text that is markup."""

    __slots__ = ()


def tag(name: str, *children: str | Iterable[str], **attributes: object) -> Markup:
    """Return an element.

    Args:
        children: Texts, which are escaped, elements, and lists of both.
        attributes: Values by name; None leaves one out. An underscore at the end of a name is dropped, others become
            hyphens.
    """
    given = ((key.removesuffix("_").replace("_", "-"), value) for key, value in attributes.items() if value is not None)
    opening = "".join(f' {key}="{html.escape(str(value))}"' for key, value in given)
    return Markup(f"<{name}{opening}>{joined(children)}</{name}>")


def joined(children: str | Iterable[str | Iterable[str]]) -> Markup:
    """Return texts, which are escaped, and elements after each other."""
    if isinstance(children, Markup):
        return children
    if isinstance(children, str):
        return Markup(html.escape(children))
    return Markup("".join(map(joined, children)))
