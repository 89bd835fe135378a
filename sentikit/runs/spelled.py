"""Collects columns of a results file row by row, in a few bytes a row."""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentikit.errors import InputError, quoted

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
