"""Labelled tables: writing by ``label``, and reading."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentikit import Example, InputError, Prediction
from sentikit.extension import (
    AddedColumns,
    InputFile,
    LabelledTable,
    Labels,
    open_table,
    refuse_taken,
    written_kind,
)

from .pile import Language, Pile, TextsHash, group_reader, rows_again, shown

LABEL, _PREFIX = "predicted_label", "probability_"
CONFIDENCE, STATUS = "confidence", "status"
CERTIFIED, REVIEW = "certified", "review"
#: Column of a review queue: the row of the pile, from 0.
PILE_ROW = "row"
#: Most rows of a review queue.
MOST_QUEUED = 10_000


@dataclass(frozen=True)
class ReadTable(LabelledTable):
    """A labelled table, with lengths, words and a fingerprint of its texts."""

    language: Language
    fingerprint: str


def read_labelled(source: InputFile, by: Sequence[str] = ()) -> ReadTable:
    """Read the labels of a table; texts are not kept.

    Args:
        source: the table.
        by: columns that define groups, or COLUMN:PERIOD for dates.

    Raises:
        InputError: it has no labels, a column is missing, or a cell is not a date.
    """
    with source.open() as rows:
        text_of = source.reader(rows)
        if LABEL not in rows.columns:
            raise InputError(
                f"{rows.name} has no column {LABEL!r}. Give a table that sentikit label or predict "
                "wrote."
            )
        columns = {name: group_reader(name, rows) for name in by}
        named = [c.removeprefix(_PREFIX) for c in rows.columns if c.startswith(_PREFIX)]
        predicted, sure, shares = list[str](), array("d"), array("f")
        language, whole, number = Language(), TextsHash(), 0
        groups: dict[str, list[str]] = {name: [] for name in by}
        same: dict[str, str] = {}  # one string per value, shared by its rows
        for number, (where, row) in enumerate(shown(rows, "Reading"), 1):
            nested = row.get("probabilities")
            if isinstance(nested, dict) and not named:
                named = list(nested)
                shares.extend([np.nan] * (len(named) * (number - 1)))
            name = str(row.get(LABEL) or "")
            predicted.append(same.setdefault(name, name))
            if isinstance(nested, dict):
                shares.extend(_number(nested.get(name)) for name in named)
            else:
                shares.extend(_number(row.get(f"{_PREFIX}{name}")) for name in named)
            sure.append(_number(row.get("confidence")))
            whole.add(text := text_of(where, row))
            language.add(number - 1, text)
            for column, group in columns.items():
                value = group(where, row)
                groups[column].append(same.setdefault(value, value))
    classes = tuple(named) or tuple(sorted(set(predicted) - {""}))
    if len(classes) < 2:
        raise InputError(f"{source.typed} has fewer than two classes; estimates need at least two.")
    table = np.array(shares, np.float32) if named else np.full(number * len(classes), np.nan)
    labels = _labels(classes, predicted, table.reshape(number, len(classes)), np.array(sure))
    return ReadTable(source, labels, groups, number, language, whole.value())


def _labels(
    classes: tuple[str, ...],
    predicted: Sequence[str],
    table: NDArray[Any],
    sure: NDArray[np.float64],
) -> Labels:
    numbers = {name: number for number, name in enumerate(classes)}
    labels = np.array([numbers.get(name, -1) for name in predicted], np.int16)
    silent = np.isnan(table).any(axis=1)
    table[silent] = labels[silent, None] == np.arange(len(classes))
    table[silent & (labels < 0)] = 1 / len(classes)
    known = np.where(labels < 0, np.nan, table.max(axis=1))
    confidence = np.where(np.isnan(sure), known, sure)
    return Labels(classes, labels, confidence, table.astype(np.float32))


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def write_labelled(
    pile: Pile,
    output: Path,
    labels: Labels,
    marked: NDArray[np.bool_],
    statuses: tuple[str, str] = (REVIEW, CERTIFIED),
) -> None:
    """Write the pile's table with label, probabilities, confidence and status added.

    Marked rows get the second status, others the first.

    Raises:
        InputError: the pile has one of the added columns.
    """
    source = pile.source
    with source.open() as rows:
        refuse_taken(rows.columns, [CONFIDENCE, STATUS])
        columns = [*rows.columns, CONFIDENCE, STATUS]
        kind = written_kind(output, source.file, source.kind)
        with open_table(output, kind, columns, AddedColumns(labels.classes)) as out:
            again = rows_again(source, rows, pile.rows, pile.fingerprint)
            for number, (_, text, row) in enumerate(shown(again, "Writing", pile.rows)):
                more = {CONFIDENCE: _sure(labels, number), STATUS: statuses[int(marked[number])]}
                example = Example(text, columns={**row, **more})
                out.add(example, None, _prediction(labels, number))


def write_queue(pile: Pile, output: Path, labels: Labels, certified: NDArray[np.bool_]) -> int:
    """Write the rows to review, lowest confidence first, and return their number.

    Low confidence means that a person is likely to correct the label.
    """
    waiting = np.flatnonzero(~certified)
    sure = np.nan_to_num(labels.confidence[waiting], nan=-1.0)
    order = waiting[np.argsort(sure, kind="stable")][:MOST_QUEUED]
    wanted, kept, source = frozenset(order.tolist()), {}, pile.source
    with source.open() as rows:
        refuse_taken(rows.columns, [CONFIDENCE, PILE_ROW])
        columns = [*rows.columns, PILE_ROW, CONFIDENCE]
        for number, (_, text, row) in enumerate(
            rows_again(source, rows, pile.rows, pile.fingerprint)
        ):
            if number in wanted:
                kept[number] = text, dict(row)
    kind = written_kind(output, source.file, source.kind)
    with open_table(output, kind, columns, AddedColumns(labels.classes)) as out:
        for number in order.tolist():
            text, row = kept[number]
            more = {PILE_ROW: number, CONFIDENCE: _sure(labels, number)}
            out.add(Example(text, columns=row | more), None, _prediction(labels, number))
    return len(order)


def _prediction(labels: Labels, number: int) -> Prediction:
    label = int(labels.labels[number])
    if label < 0:
        return Prediction(None)
    shares = labels.probabilities[number].astype(float)
    known = None if np.isnan(shares).any() else dict(zip(labels.classes, shares, strict=True))
    return Prediction(labels.classes[label], known, float(labels.confidence[number]))


def _sure(labels: Labels, number: int) -> float | None:
    """Return a row's confidence as written; None without a label."""
    sure = float(labels.confidence[number])
    return None if np.isnan(sure) else round(sure, 6)
