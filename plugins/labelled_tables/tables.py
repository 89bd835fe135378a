"""Tables that ``label`` or ``predict`` wrote, as they are read back."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentikit import InputError
from sentikit.extension import InputFile, LabelledTable, Labels, Language, group_reader

LABEL, _PREFIX = "predicted_label", "probability_"


def read_labelled(
    path: Path, by: Sequence[str] = (), text_columns: tuple[str, ...] = ()
) -> LabelledTable:
    """Read the labels of a table; texts are not kept.

    Args:
        path: of the table.
        by: columns that divide it into groups, or COLUMN:PERIOD of dates.
        text_columns: as of `InputFile`.

    Raises:
        InputError: it has no labels, lacks a column, or holds no date where one is needed.
    """
    source = InputFile(str(path), None, text_columns)
    with source.open() as rows:
        text_of = source.reader(rows)
        if LABEL not in rows.columns:
            raise InputError(
                f"{path} has no column {LABEL!r}; it is a table that sentikit label or "
                "predict wrote."
            )
        columns = {name: group_reader(name, rows) for name in by}
        named = [c.removeprefix(_PREFIX) for c in rows.columns if c.startswith(_PREFIX)]
        said, sure, shares = list[str](), array("d"), array("f")
        language, number = Language(), 0
        groups: dict[str, list[str]] = {name: [] for name in by}
        same: dict[str, str] = {}  # one string a value, however many rows have it
        for number, (where, row) in enumerate(rows, 1):
            nested = row.get("probabilities")
            if isinstance(nested, dict) and not named:
                named = list(nested)
                shares.extend([np.nan] * (len(named) * (number - 1)))
            name = str(row.get(LABEL) or "")
            said.append(same.setdefault(name, name))
            if isinstance(nested, dict):
                shares.extend(_number(nested.get(name)) for name in named)
            else:
                shares.extend(_number(row.get(f"{_PREFIX}{name}")) for name in named)
            sure.append(_number(row.get("confidence")))
            language.add(number - 1, text_of(where, row))
            for column, group in columns.items():
                value = group(where, row)
                groups[column].append(same.setdefault(value, value))
    classes = tuple(named) or tuple(sorted(set(said) - {""}))
    if len(classes) < 2:
        raise InputError(f"{path} names fewer than two classes; estimates need at least two.")
    table = np.array(shares, np.float32) if named else np.full(number * len(classes), np.nan)
    labels = _labels(classes, said, table.reshape(number, len(classes)), np.array(sure))
    return LabelledTable(source, labels, groups, number, language)


def _labels(
    classes: tuple[str, ...],
    said: Sequence[str],
    table: NDArray[Any],
    sure: NDArray[np.float64],
) -> Labels:
    numbers = {name: number for number, name in enumerate(classes)}
    labels = np.array([numbers.get(name, -1) for name in said], np.int16)
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
