"""Columns of a table: which one holds what, and the text of their cells."""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from typing import Any

from sentikit.errors import InputError, did_you_mean

#: Names these columns usually have, likeliest first; case and blanks do not count.
USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "text": (
        "text",
        "sentence",
        "review",
        "content",
        "comment",
        "body",
        "tweet",
        "message",
        "review_text",
        "review_body",
        "full_text",
        "X_test_sent",
    ),
    "label": (
        "label",
        "gold",
        "gold_label",
        "sentiment",
        "classification",
        "class",
        "label_text",
        "target",
        "y_test",
    ),
    "id": ("id", "text_id", "example_id"),
    "source": ("source", "domain", "dataset"),
}


#: Names of a lone column that hardly holds texts.
_NOT_TEXTS = frozenset(
    [name for what in ("label", "id", "source") for name in USUAL_NAMES[what]]
    + ["stars", "star", "rating", "ratings", "score", "date", "time", "language", "lang", "user"]
)


def usual_column(columns: Sequence[str], usual_names: Sequence[str]) -> str | None:
    """Return the column with the likeliest of `usual_names`, or None if there is none."""
    by_folded = {_fold(column): column for column in reversed(columns)}
    found = (by_folded[_fold(name)] for name in usual_names if _fold(name) in by_folded)
    return next(found, None)


def find_column(
    columns: Sequence[str],
    wanted: str | None,
    usual_names: Sequence[str],
    what: str,
    path: str,
    option: str = "",
) -> str:
    """Choose a column: the one asked for, else one with a usual name, else the only one there is.

    Args:
        columns: the table's columns.
        wanted: the name the user gave, if any.
        usual_names: names such a column usually has, likeliest first.
        what: what the column holds, for messages: "text".
        path: the file's name, for messages.
        option: what the user can write to choose, for messages: ``--text-column COLUMN``.

    Raises:
        InputError: there is no such column, or none that is likely.
    """
    if wanted is not None:
        return _named(columns, wanted, what, path)
    found = usual_column(columns, usual_names)
    if found is not None:
        return found
    if len(columns) == 1 and _fold(columns[0]) not in _NOT_TEXTS:
        return columns[0]
    advice = f" Say which one it is with {option}." if option else ""
    listed = ", ".join(repr(column) for column in columns)
    raise InputError(f"{path}: which column holds the {what}? It has {listed}.{advice}")


def _named(columns: Sequence[str], wanted: str, what: str, path: str) -> str:
    if wanted in columns:
        return wanted
    alike = [column for column in columns if _fold(column) == _fold(wanted)]
    if len(alike) == 1:
        return alike[0]
    raise InputError(
        f"{path} has no column {wanted!r} for the {what}. {did_you_mean(wanted, columns)}"
    )


def _fold(name: str) -> str:
    return "_".join(name.casefold().replace("_", " ").split())


_KINDS: dict[type, str] = {list: "a list", dict: "a mapping", bytes: "bytes"}


def cell_text(value: Any) -> str | None:
    """Write a value as text, numbers as short as they go (``1``, not ``1.0``); None stays None.

    Raises:
        TypeError: the value is a list, a mapping or bytes; the message names which.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return None if math.isnan(value) else repr(value).removesuffix(".0")
    if isinstance(value, int):
        return str(value)
    if isinstance(value, decimal.Decimal):
        return f"{value.normalize():f}"
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    raise TypeError(_KINDS.get(type(value), f"a {type(value).__name__}"))


def joined_text(cells: Sequence[str | None], strip_markup: bool = False) -> str:
    """Join the cells of a row's text columns, a line each, blank ones left out."""
    text = "\n".join(cell for cell in cells if cell and not cell.isspace())
    return plain_text(text) if strip_markup else text


def plain_text(markup: str) -> str:
    """Return a text without HTML: tags and comments go, entities become what they stand for."""
    if "<" not in markup and "&" not in markup:
        return markup
    reader = _MarkupReader(convert_charrefs=True)
    reader.feed(markup)
    reader.close()
    lines = (" ".join(line.split()) for line in "".join(reader.pieces).split("\n"))
    return "\n".join(line for line in lines if line)


class _MarkupReader(HTMLParser):
    """Collects the words of a page, a line for each block of it."""

    _BLOCKS = frozenset("p div br li tr h1 h2 h3 h4 h5 h6 blockquote pre table ul ol".split())
    _UNSEEN = frozenset(("script", "style"))

    def __init__(self, *, convert_charrefs: bool) -> None:
        super().__init__(convert_charrefs=convert_charrefs)
        self.pieces: list[str] = []
        self._unseen = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._unseen += tag in self._UNSEEN
        self.pieces.append("\n" if tag in self._BLOCKS else "")

    def handle_endtag(self, tag: str) -> None:
        self._unseen -= tag in self._UNSEEN and self._unseen > 0
        self.pieces.append("\n" if tag in self._BLOCKS else "")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.pieces.append(data)


def inside(value: Any, keys: Sequence[str]) -> Any:
    """Return what stands in a nested value under `keys`, None where there is nothing.

    Raises:
        TypeError: there is a list on the way.
    """
    for key in keys:
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise TypeError(_KINDS.get(type(value), f"a {type(value).__name__}"))
        value = value.get(key)
    return value


def is_plain(value: object) -> bool:
    """Say whether `cell_text` can write a value."""
    try:
        cell_text(value)
    except TypeError:
        return False
    return True
