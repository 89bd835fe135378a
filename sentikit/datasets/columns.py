"""Finds the column that holds the texts, the labels, the ids or the sources of a table."""

from __future__ import annotations

from collections.abc import Sequence

from sentikit.errors import InputError, did_you_mean

#: Names these columns usually have, likeliest first; case and surrounding blanks do not count.
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
    if len(columns) == 1:
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
    return name.strip().casefold()
