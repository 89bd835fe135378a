"""Results files made elsewhere (CSV, TSV, JSON Lines, Parquet), read into columns."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sentikit.classifiers.label_reader import plain_label
from sentikit.datasets.examples import Examples, ExamplesBuilder
from sentikit.datasets.labels import SCHEMES, LabelScheme, scheme_for_classes
from sentikit.datasets.rows import Rows, cell_text
from sentikit.datasets.tables import read_rows
from sentikit.errors import InputError, quoted
from sentikit.registry import Registry
from sentikit.runs.result_format import ColumnChoice, ResultColumns, choose_columns
from sentikit.runs.table import Labelling, RunTable

# Files round probabilities; a row that misses 1 by more than this is no distribution.
_TOLERANCE = 0.02


class SpelledLabels:
    """A column of labels as the file spells them; blank ones are None."""

    def __init__(self) -> None:
        self._codes = array("q")
        self._known: dict[str | None, int] = {}
        self._first: list[int] = []

    def add(self, label: str | None, where: int) -> None:
        """Add the label of the next row, which stands at `where`."""
        spelled = label.strip() if label else None
        code = self._known.setdefault(spelled or None, len(self._known))
        if code == len(self._first):
            self._first.append(where)
        self._codes.append(code)

    @property
    def spellings(self) -> list[str]:
        """The different labels, in the order they came."""
        return [label for label in self._known if label is not None]

    def first(self, label: str) -> int:
        """Return where a label stood first."""
        return self._first[self._known[label]]

    def numbers(self, meanings: Mapping[str, int]) -> NDArray[np.int64]:
        """Return the class number of each row by what its label means; -1 where it means none."""
        table = [-1 if label is None else meanings.get(label, -1) for label in self._known]
        return np.asarray(table or [-1], np.int64)[np.frombuffer(self._codes, np.int64)]


class SpelledProbabilities:
    """A column of probabilities: JSON lists in the order of the classes, or mappings by class.

    Args:
        what: names the column in messages.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._flat = array("d")
        self._where = array("q")
        self._keys: tuple[str, ...] | None = None
        self._width = 0

    def add(self, value: Any, where: int, place: str) -> None:
        """Add the next row's value, a list, a mapping, either as JSON, or nothing.

        Raises:
            InputError: it is none of these, or unlike the rows before.
        """
        numbers = self._numbers(value, place)
        if numbers is None:
            self._where.append(-1)
            return
        if not self._width:
            self._width = len(numbers)
        if len(numbers) != self._width:
            raise InputError(
                f"{place}: {len(numbers)} probabilities in {self._what}; the rows before have "
                f"{self._width}."
            )
        self._flat.extend(numbers)
        self._where.append(where)

    def array(self, classes: Sequence[str], name: str) -> NDArray[np.float64] | None:
        """Return (rows, classes), NaN where a row has none; None where no row has any.

        Raises:
            InputError: not one probability a class, or not probabilities; `name` is the file.
        """
        if not self._width:
            return None
        where = np.frombuffer(self._where, np.int64)
        given = np.frombuffer(self._flat, np.float64).reshape(-1, self._width)
        given = given[:, self._order(classes, name)]
        odd = np.flatnonzero(~are_distributions(given))
        if len(odd):
            raise InputError(
                f"{name}, line {int(where[where >= 0][odd[0]])}: {given[odd[0]].tolist()} in "
                f"{self._what} are no probabilities: each lies between 0 and 1, and they add up "
                "to 1."
            )
        result = np.full((len(where), len(classes)), np.nan)
        result[where >= 0] = given
        return result

    def _order(self, classes: Sequence[str], name: str) -> list[int]:
        """Return which of the given numbers belongs to each class."""
        if self._keys is None and self._width == len(classes):
            return list(range(self._width))
        folded = [key.strip().casefold() for key in self._keys or ()]
        try:
            return [folded.index(label.casefold()) for label in classes]
        except ValueError:
            listed = ", ".join(self._keys or ()) or f"{self._width} numbers"
            raise InputError(
                f"{name}: {self._what} gives {listed}; one for each of {', '.join(classes)} is "
                "needed."
            ) from None

    def _numbers(self, value: Any, place: str) -> list[float] | None:
        parsed = self._parsed(value, place)
        if parsed is None:
            return None
        if isinstance(parsed, Mapping):
            parsed = self._in_order(parsed, place)
        is_list = isinstance(parsed, list | tuple) and len(parsed) > 1
        if not is_list or not all(map(_is_number, parsed)):
            raise self._refuse(place, value)
        return [float(number) for number in parsed]

    def _parsed(self, value: Any, place: str) -> Any:
        if not isinstance(value, str):
            return value
        if not value.strip():
            return None
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            raise self._refuse(place, value) from error

    def _in_order(self, mapping: Mapping[str, Any], place: str) -> list[Any] | None:
        if self._keys is None and not self._width:
            self._keys = tuple(map(str, mapping))
        if self._keys is None or set(mapping) != set(self._keys):
            raise InputError(f"{place}: {self._what} names other classes than the rows before.")
        return [mapping[key] for key in self._keys]

    def _refuse(self, place: str, value: Any) -> InputError:
        return InputError(
            f"{place}: {quoted(value)} in {self._what} is no list of probabilities, "
            "as [0.1, 0.2, 0.7]."
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def are_distributions(rows: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Say of each row whether its numbers are probabilities: from 0 to 1, and 1 together."""
    inside = ((rows >= 0) & (rows <= 1)).all(1)
    return np.asarray(inside & (np.abs(rows.sum(1) - 1) <= _TOLERANCE))


def class_columns(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, float] | None:
    """Gather a column for each class into a mapping; None where all are blank."""
    cells = {name: row[column] for name, column in columns.items()}
    if all(_is_blank(cell) for cell in cells.values()):
        return None
    return {name: _number_or_text(cell) for name, cell in cells.items()}


def _is_blank(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip())


def _number_or_text(cell: Any) -> Any:
    """Read a CSV cell as a number, ``0,7`` as ``0.7``: a probability groups no thousands.

    What is none is refused by the one who knows the place.
    """
    if not isinstance(cell, str):
        return cell
    try:
        return float(cell.replace(",", "."))
    except ValueError:
        return cell


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
    """Return the scheme that knows all gold labels; labels of no scheme are classes themselves."""
    spelled = {label.casefold() for label in gold.spellings}
    for scheme in SCHEMES.values():
        if spelled <= set(scheme.classes):
            return scheme
    for scheme in SCHEMES.values():
        if spelled <= set(scheme.meanings):
            return scheme
    odd = [label for label in gold.spellings if label.casefold() not in _KNOWN]
    # Emotions may have a neutral among them.
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
            ordered=scheme.ordered,
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
