"""Elements of HTML and SVG as text; whatever is written inside is escaped."""

from __future__ import annotations

import html
from typing import Any


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def escaped(text: object) -> Markup:
    """Return text as markup: nothing in it is read as a tag or an entity."""
    return text if isinstance(text, Markup) else Markup(html.escape(str(text), quote=True))


def joined(*parts: object) -> Markup:
    """Return parts one after the other, each escaped unless it is markup."""
    return Markup("".join(escaped(part) for part in parts))


def element(tag: str, *content: object, **attributes: Any) -> Markup:
    """Return an element.

    Args:
        tag: its name.
        *content: text, which is escaped, or markup.
        **attributes: None leaves one out; ``class_`` is class, an underline inside is a hyphen.
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escaped(_number(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{tag}{written}>{joined(*content)}</{tag}>")


def svg(width: float, height: float, title: str, *content: object) -> Markup:
    """Return a drawing that scales with the page; `title` is read to those who do not see it."""
    return element(
        "svg",
        element("title", title),
        *content,
        viewBox=f"0 0 {_number(width)} {_number(height)}",
        role="img",
        aria_label=title,
        xmlns="http://www.w3.org/2000/svg",
    )


def _number(value: Any) -> Any:
    """Write coordinates short: a tenth of a unit cannot be seen."""
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value
