"""Finds the classes that the labels of a results file mean."""

from __future__ import annotations

from collections.abc import Mapping

from sentikit.classifiers.label_reader import plain_label
from sentikit.datasets.labels import SCHEMES, LabelScheme, scheme_for_classes
from sentikit.datasets.tables import Rows
from sentikit.errors import InputError
from sentikit.runs.result_format import ResultColumns
from sentikit.runs.spelled import SpelledLabels

_KNOWN = {spelling for scheme in SCHEMES.values() for spelling in scheme.meanings}


def scheme_of(
    gold: SpelledLabels, answered: SpelledLabels, columns: ResultColumns, rows: Rows
) -> LabelScheme:
    """Return the scheme of the gold labels, or, where there are none, of the answers.

    Raises:
        InputError: the labels are of no scheme, or of several.
    """
    if gold.spellings:
        return _scheme_of_gold(gold, str(columns.gold), rows)
    spelled = {plain_label(label).casefold() for label in answered.spellings} & _KNOWN
    for scheme in SCHEMES.values():
        if spelled and spelled <= set(scheme.meanings):
            return scheme
    raise InputError(
        f"{rows.name}: none of the labels in {columns.label!r} is a sentiment "
        f"({', '.join(map(repr, answered.spellings[:3]))}). Write them out, as positive."
    )


def meanings(
    labels: SpelledLabels, scheme: LabelScheme, numbers: Mapping[str, int]
) -> dict[str, int]:
    """Return the class number of each spelling that means a class."""
    named = {
        spelling: scheme.class_of(spelling) or scheme.class_of(plain_label(spelling))
        for spelling in labels.spellings
    }
    return {spelling: numbers[name] for spelling, name in named.items() if name is not None}


def _scheme_of_gold(gold: SpelledLabels, column: str, rows: Rows) -> LabelScheme:
    """Return the scheme that knows all gold labels.

    Where most are of no scheme, all are classes themselves: emotions may have a ``neutral``.
    """
    spelled = {label.casefold() for label in gold.spellings}
    for scheme in SCHEMES.values():
        if spelled <= set(scheme.classes):
            return scheme
    for scheme in SCHEMES.values():
        if spelled <= set(scheme.meanings):
            return scheme
    odd = [label for label in gold.spellings if label.casefold() not in _KNOWN]
    if 2 * len(odd) > len(gold.spellings):
        return scheme_for_classes(sorted(gold.spellings))
    if not odd:
        raise InputError(
            f"{rows.name}: the labels in {column!r} mix several label schemes "
            f"({', '.join(gold.spellings)})."
        )
    raise InputError(
        f"{rows.at(gold.first(odd[0]))}: the label {odd[0]!r} in {column!r} is not of the same "
        f"kind as {next(label for label in gold.spellings if label not in odd)!r}. Remove such "
        "rows or label them otherwise."
    )
