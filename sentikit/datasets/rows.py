"""Rows of a table: their places for messages, the choice of columns, and cell values as text."""

from __future__ import annotations

import datetime
import decimal
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, ClassVar, Self

from sentikit.components import Component
from sentikit.errors import InputError, did_you_mean

_TEXT_NAMES = (
    "text sentence review content comment body tweet message review_text review_body full_text "
    "X_test_sent"
)
_LABEL_NAMES = "label gold gold_label sentiment classification class label_text target y_test"
#: Usual names of these columns, the likeliest first; case and spaces are ignored.
USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "text": tuple(_TEXT_NAMES.split()),
    "label": tuple(_LABEL_NAMES.split()),
    "id": ("id", "text_id", "example_id"),
    "source": ("source", "domain", "dataset"),
}

#: Names of an only column that is unlikely to contain texts.
_NOT_TEXTS = frozenset(
    [name for what in ("label", "id", "source") for name in USUAL_NAMES[what]]
    + ["stars", "star", "rating", "ratings", "score", "date", "time", "language", "lang", "user"]
)
_KINDS: dict[type, str] = {list: "a list", dict: "a mapping", bytes: "bytes"}


class Rows(ABC):
    """An open table, iterated once as ``(where, row)``; `row` maps every column to its value.

    Memory does not grow with the table. Use it in a ``with`` statement, or read it to its end.
    Subclasses implement `values`.

    Attributes:
        name: the file's name, for messages.
        columns: the columns, in the file's order.
        unit: the unit of `where`, which counts from 1: ``line`` (where the row starts) or ``row``.
    """

    unit = "row"

    def __init__(
        self,
        name: str,
        columns: Sequence[str],
        close: Callable[[], None] = lambda: None,
        header: str = "",
    ) -> None:
        self.name = name
        self.columns = tuple(columns)
        self._close = close
        self._places = {column: place for place, column in enumerate(self.columns)}
        if len(self._places) < len(self.columns):
            ((column, times),) = Counter(self.columns).most_common(1)
            raise InputError(
                f"{header or name}: {times} columns are named {column!r}. Give each its own name."
            )

    @abstractmethod
    def values(self, columns: Sequence[str]) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Yield each row's place and its values in some of the table's columns."""

    def fields(self, column: str) -> Sequence[str] | None:
        """Return the keys inside a column's values, or None if they are not mappings."""
        return None

    def __iter__(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yield each row's place and its values by column.

        Raises:
            InputError: the file is malformed, with the place, or has no rows.
        """
        columns = self.columns
        for where, values in self._read(columns):
            yield where, dict(zip(columns, values, strict=True))

    def cells(self, *columns: str) -> Iterator[tuple[int, tuple[str | None, ...]]]:
        """Yield each row's place and its values in `columns` as text, None for null.

        Args:
            columns: names, or paths into nested values, such as ``review.text``.

        Raises:
            InputError: as for iterating; an unknown column; a value other than a text, number or
                date.
        """
        paths = [self._path(column) for column in columns]
        for column, path in zip(columns, paths, strict=True):
            if path[0] not in self._places:
                advice = did_you_mean(column, self.columns)
                raise InputError(f"{self.name} has no column {column!r}. {advice}")
        outer = [path[0] for path in paths]
        nested = any(len(path) > 1 for path in paths)
        for where, found in self._read(outer):
            values = found
            try:
                if nested:
                    pairs = zip(found, paths, strict=True)
                    values = tuple([_inside(value, path[1:]) for value, path in pairs])
                yield where, tuple([v if type(v) is str else cell_text(v) for v in values])
            except TypeError as error:
                raise self._no_text(where, columns, values, str(error)) from error

    def texts(
        self, columns: Sequence[str], others: Sequence[str] = (), strip_markup: bool = False
    ) -> Iterator[tuple[int, str, tuple[str | None, ...]]]:
        """Yield each row's place, its text and its values in `others`.

        Args:
            columns: the columns that are joined to the text, which is "" if all are empty.
            others: further columns.
            strip_markup: whether to remove HTML from the text.

        Raises:
            InputError: as for `cells`.
        """
        width = len(columns)
        for where, cells in self.cells(*columns, *others):
            yield where, _joined(cells[:width], strip_markup), cells[width:]

    def text_reader(
        self, wanted: Sequence[str] = (), option: str = "", strip_markup: bool = False
    ) -> Callable[[int, Mapping[str, Any]], str]:
        """Return a function that returns the text of an iterated row, "" if it has none.

        Args:
            wanted: as for `find_text_columns`.
            option: as for `find_column`.
            strip_markup: whether to remove HTML from the text.

        Raises:
            InputError: an unknown column; from the function, a value that is not text.
        """
        columns = self.find_text_columns(wanted, option)
        paths = [self._path(column) for column in columns]

        only = paths[0][0] if len(paths) == len(paths[0]) == 1 and not strip_markup else None

        def text(where: int, row: Mapping[str, Any]) -> str:
            if only is not None and type(plain := row.get(only)) is str:
                return "" if plain.isspace() else plain
            values: list[Any] = [row.get(path[0]) for path in paths]
            try:
                values = [_inside(v, path[1:]) for v, path in zip(values, paths, strict=True)]
                return _joined([cell_text(value) for value in values], strip_markup)
            except TypeError as error:
                raise self._no_text(where, columns, values, str(error)) from error

        return text

    def find_text_columns(self, wanted: Sequence[str] = (), option: str = "") -> tuple[str, ...]:
        """Choose the columns or paths whose values are joined; by default the likeliest one.

        Raises:
            InputError: an unknown column, or none is likely.
        """
        return tuple(self.find_column("text", column, option) for column in wanted or (None,))

    def find_column(self, what: str, wanted: str | None = None, option: str = "") -> str:
        """Choose the column of the ``text``, ``label``, ``id`` or ``source``.

        Args:
            what: one of the four.
            wanted: the user's choice; by default, a column with a usual name or the only column.
            option: the option to name in messages, such as ``--text-column COLUMN``.

        Raises:
            InputError: an unknown column, or none is likely.
        """
        if wanted is not None and wanted not in self._places:
            outer, *keys = self._path(wanted)
            if keys:
                known = self.fields(outer)
                if known is None or keys[0] in known:
                    return wanted
                inner = [f"{outer}.{key}" for key in known]
                raise _no_column(self.name, wanted, what, inner)
        return find_column(self.columns, wanted, what, self.name, option)

    def find_optional_column(self, what: str, wanted: str | None = None) -> str | None:
        """Choose like `find_column`; None if `wanted` is None and no name is likely."""
        return (
            usual_column(self.columns, what) if wanted is None else self.find_column(what, wanted)
        )

    def at(self, where: int) -> str:
        """Return a row's place for messages, such as ``reviews.csv, line 17``."""
        return f"{self.name}, {self.unit} {where}"

    def close(self) -> None:
        """Close the file, unless the caller opened it."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _read(self, columns: Sequence[str]) -> Iterator[tuple[int, tuple[Any, ...]]]:
        with self:
            empty = True
            for item in self.values(columns):
                empty = False
                yield item
        if empty:
            raise InputError(f"{self.name} has no rows; at least one is needed.")

    def _path(self, column: str) -> tuple[str, ...]:
        """Split a path into a column's name and the keys inside its values."""
        keys = column.split(".")
        for length in range(len(keys), 0, -1):
            outer = ".".join(keys[:length])
            if outer in self._places:
                return (outer, *keys[length:])
        return (column,)

    def _no_text(
        self, where: int, columns: Sequence[str], values: Sequence[Any], kind: str
    ) -> InputError:
        odd, value = columns[0], None
        for column, cell in zip(columns, values, strict=True):
            try:
                cell_text(cell)
            except TypeError:
                odd, value = column, cell
                break
        inner = [f"{odd}.{key}" for key in value] if isinstance(value, Mapping) else []
        advice = f" Name a field inside it: {', '.join(inner[:8])}." if inner else ""
        return InputError(
            f"{self.at(where)}: the column {odd!r} holds {kind} instead of text.{advice}"
        )


class RecordRows(Rows):
    """Rows that a plugin reads: `records` with values in the order of `columns`."""

    def __init__(
        self,
        name: str,
        columns: Sequence[str],
        records: Iterator[Sequence[Any]],
        close: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(name, columns, close)
        self._records = records

    def values(self, columns: Sequence[str]) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Yield the number of each record and its values in `columns`."""
        positions = [self._places[column] for column in columns]
        for number, record in enumerate(self._records, 1):
            yield number, tuple([record[position] for position in positions])


class TableFormat(Component, ABC):
    """Reads tables from files with the suffix that it is registered under.

    Attributes:
        has_sheets: whether a file may contain several tables, which are chosen by name.
        compressed: whether `open` also reads compressed files, as `open_binary` does.
    """

    has_sheets: ClassVar[bool] = False
    compressed: ClassVar[bool] = False

    @abstractmethod
    def open(self, path: Path, sheet: str | None = None) -> Rows:
        """Open a file.

        Args:
            path: the file, which may be missing.
            sheet: the table that the user named, if the file contains several.

        Raises:
            sentikit.InputError: it cannot be read, or contains no such table.
        """

    def open_stream(self, stream: BinaryIO, name: str) -> Rows:
        """Read a pipe, no further than needed; `name` is its name in messages.

        Raises:
            sentikit.InputError: it cannot be read; by default, only files can.
        """
        raise InputError(
            f"{name}: {type(self).__name__} cannot be read from a pipe. Save it as a file and give "
            "its path."
        )


def usual_column(columns: Sequence[str], what: str) -> str | None:
    """Return the column with the likeliest name for a key of `USUAL_NAMES`, or None."""
    by_folded = {_fold(column): column for column in reversed(columns)}
    found = (by_folded.get(_fold(name)) for name in USUAL_NAMES[what])
    return next((column for column in found if column is not None), None)


def find_column(
    columns: Sequence[str], wanted: str | None, what: str, path: str, option: str = ""
) -> str:
    """Choose a column of the file `path`, as `Rows.find_column` does."""
    if wanted is not None:
        alike = [column for column in columns if _fold(column) == _fold(wanted)]
        if wanted in columns or len(alike) == 1:
            return wanted if wanted in columns else alike[0]
        raise _no_column(path, wanted, what, columns)
    found = usual_column(columns, what)
    if found is not None:
        return found
    if len(columns) == 1 and _fold(columns[0]) not in _NOT_TEXTS:
        return columns[0]
    advice = f" Choose it with {option}." if option else ""
    listed = ", ".join(repr(column) for column in columns)
    raise InputError(f"{path}: which column holds the {what}? It has {listed}.{advice}")


def _no_column(path: str, wanted: str, what: str, known: Sequence[str]) -> InputError:
    advice = did_you_mean(wanted, known)
    return InputError(f"{path} has no column {wanted!r} for the {what}. {advice}")


def _fold(name: str) -> str:
    return "_".join(name.casefold().replace("_", " ").split())


def cell_text(value: Any) -> str | None:
    """Return a value as text, numbers in their shortest form (``1``, not ``1.0``), or None.

    Raises:
        TypeError: the value is a list, a mapping or bytes; the message is its type.
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


def _joined(cells: Sequence[str | None], strip_markup: bool = False) -> str:
    text = "\n".join(cell for cell in cells if cell and not cell.isspace())
    return _plain_text(text) if strip_markup else text


def _plain_text(markup: str) -> str:
    """Return a text without HTML tags and comments, with its entities decoded."""
    if "<" not in markup and "&" not in markup:
        return markup
    reader = _MarkupReader(convert_charrefs=True)
    reader.feed(markup)
    reader.close()
    lines = (" ".join(line.split()) for line in "".join(reader.pieces).split("\n"))
    return "\n".join(line for line in lines if line)


class _MarkupReader(HTMLParser):
    """Collects the text of a page, one line per block element."""

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


def _inside(value: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise TypeError(_KINDS.get(type(value), f"a {type(value).__name__}"))
        value = value.get(key)
    return value
