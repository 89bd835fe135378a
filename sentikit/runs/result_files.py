"""Reads results files (CSV, TSV, JSON Lines, Parquet) made elsewhere into columns."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sentikit.datasets.columns import cell_text
from sentikit.datasets.examples import Examples, ExamplesBuilder
from sentikit.datasets.labels import LabelScheme
from sentikit.datasets.tables import Rows, read_rows
from sentikit.errors import InputError
from sentikit.registry import Registry
from sentikit.runs.result_columns import ColumnChoice, choose_columns
from sentikit.runs.result_format import ResultColumns
from sentikit.runs.result_labels import meanings, scheme_of
from sentikit.runs.spelled import SpelledLabels, SpelledProbabilities, class_columns
from sentikit.runs.table import Labelling, RunTable


def read_results(path: Path, name: str, choice: ColumnChoice, registry: Registry) -> RunTable:
    """Read a results file.

    Args:
        path: the file.
        name: as the user gave it, for messages.
        choice: columns the user named.
        registry: where to look for result formats.

    Raises:
        InputError: no format knows the file, or it is malformed; says where.
    """
    with read_rows(path) as rows:
        columns = choose_columns(rows, choice, registry)
        collected = _Collected(rows, columns)
        for where, row in rows:
            collected.add(where, row)
    return collected.table(name)


class _Collected:
    """The columns of a results file as they are read."""

    def __init__(self, rows: Rows, columns: ResultColumns) -> None:
        self._rows, self._columns = rows, columns
        self._builder = ExamplesBuilder()
        self._gold, self._labels, self._opinions = SpelledLabels(), SpelledLabels(), SpelledLabels()
        self._probabilities = SpelledProbabilities(_written(columns.probabilities))
        self._opinion_probabilities = SpelledProbabilities(_written(columns.opinion_probabilities))
        self._cost = array("d")
        self._raw: list[pa.Array] = []
        self._raw_open: list[str | None] = []

    def add(self, where: int, row: Mapping[str, Any]) -> None:
        """Add the row that stands at `where`."""
        columns = self._columns
        gold = self._cell(where, row, columns.gold)
        self._builder.add(
            self._cell(where, row, columns.text) or "",
            label=gold,
            source=self._cell(where, row, columns.source) or None,
            id=self._cell(where, row, columns.id),
        )
        self._gold.add(gold, where)
        self._labels.add(self._cell(where, row, columns.label), where)
        self._opinions.add(self._cell(where, row, columns.opinion_label), where)
        self._add_probabilities(where, row)
        self._add_cost(where, row)
        self._add_raw(self._cell(where, row, columns.raw))

    def table(self, name: str) -> RunTable:
        """Return the columns, labels folded into classes."""
        scheme = scheme_of(self._gold, self._labels, self._columns, self._rows)
        numbers = {spelled: i for i, spelled in enumerate(scheme.classes)}
        examples, gold = self._examples_and_gold(scheme, numbers)
        return RunTable(
            name=name,
            classes=scheme.classes,
            examples=examples,
            gold=gold,
            answers=Labelling(
                self._answered(self._labels, scheme, numbers, self._columns.label, name),
                self._probabilities.array(scheme.classes, name),
            ),
            opinion=self._opinion(scheme, numbers, name),
            raw=self._all_raw(),
            cost=np.frombuffer(self._cost, np.float64) if len(self._cost) else None,
            has_texts=self._columns.text is not None,
        )

    def _cell(self, where: int, row: Mapping[str, Any], column: str | None) -> str | None:
        if column is None:
            return None
        try:
            return cell_text(row[column])
        except TypeError as error:
            raise InputError(
                f"{self._rows.at(where)}: the column {column!r} holds {error}; a text is needed."
            ) from error

    def _add_probabilities(self, where: int, row: Mapping[str, Any]) -> None:
        place = self._rows.at(where)
        for columns, collected in (
            (self._columns.probabilities, self._probabilities),
            (self._columns.opinion_probabilities, self._opinion_probabilities),
        ):
            if isinstance(columns, str):
                collected.add(row[columns], where, place)
            elif columns is not None:
                collected.add(class_columns(row, columns), where, place)

    def _add_cost(self, where: int, row: Mapping[str, Any]) -> None:
        if self._columns.cost is None:
            return
        cell = self._cell(where, row, self._columns.cost)
        try:
            amount = float(cell) if cell and cell.strip() else float("nan")
        except ValueError:
            amount = -1.0
        # NaN is how pandas writes that an amount is unknown.
        if amount < 0 or math.isinf(amount):
            raise InputError(
                f"{self._rows.at(where)}: {cell!r} in {self._columns.cost!r} is no amount in USD. "
                "Give 0 or more, or leave it empty where it is unknown."
            )
        self._cost.append(amount)

    def _add_raw(self, answer: str | None) -> None:
        if self._columns.raw is None:
            return
        self._raw_open.append(answer)
        if len(self._raw_open) >= 10_000:
            self._raw.append(pa.array(self._raw_open, pa.large_string()))
            self._raw_open = []

    def _all_raw(self) -> pa.Array | None:
        if self._columns.raw is None:
            return None
        return pa.concat_arrays([*self._raw, pa.array(self._raw_open, pa.large_string())])

    def _examples_and_gold(
        self, scheme: LabelScheme, numbers: Mapping[str, int]
    ) -> tuple[Examples, NDArray[np.int64]]:
        gold = self._gold.numbers(meanings(self._gold, scheme, numbers))
        names = pa.array([*scheme.classes, None], pa.string())
        named = names.take(pa.array(np.where(gold < 0, len(numbers), gold)))
        return self._builder.finish().replace_column("label", named), gold

    def _answered(
        self,
        labels: SpelledLabels,
        scheme: LabelScheme,
        numbers: Mapping[str, int],
        column: str | None,
        name: str,
    ) -> NDArray[np.int64]:
        found = labels.numbers(meanings(labels, scheme, numbers))
        if labels.spellings and (found < 0).all():
            shown = ", ".join(map(repr, labels.spellings[:3]))
            raise InputError(
                f"{name}: no label in {column!r} ({shown}, …) is one of "
                f"{', '.join(scheme.classes)}."
            )
        return found

    def _opinion(
        self, scheme: LabelScheme, numbers: Mapping[str, int], name: str
    ) -> Labelling | None:
        probabilities = self._opinion_probabilities.array(scheme.classes, name)
        if self._columns.opinion_label is not None:
            column = self._columns.opinion_label
            labels = self._answered(self._opinions, scheme, numbers, column, name)
            return Labelling(labels, probabilities)
        if probabilities is None:
            return None
        known = ~np.isnan(probabilities).any(1)
        labels = np.where(known, np.nan_to_num(probabilities).argmax(1), -1)
        return Labelling(labels, probabilities)


def _written(columns: str | Mapping[str, str] | None) -> str:
    return repr(columns) if isinstance(columns, str) else "the columns of probabilities"
