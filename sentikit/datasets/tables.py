"""Tables read row by row: delimited files, JSON, Parquet, Arrow, workbooks and plain text."""

from __future__ import annotations

import datetime
import decimal
import itertools
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from sentikit.datasets.delimited import DIALECTS, Records, csv_dialect
from sentikit.datasets.text_files import decoded_lines, json_records, open_binary
from sentikit.errors import InputError, SentikitError, did_you_mean

SUFFIXES: dict[str, str] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".txt": "text",
}
FORMATS = ("csv", "tsv", "tsv-unquoted", "jsonl", "parquet", "text")
_SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".ods")
STANDARD_INPUT = "standard input"

# Keys that a JSON object may leave out are found by looking at this many; of a pipe, which may be
# slow to grow, at the first alone.
_OBJECTS_LOOKED_AT = 100


class Rows(ABC):
    """A table being read: iterate once over ``(where, row)``, `row` a mapping with every column.

    Memory does not grow with the table. Use it in a ``with`` statement, or read it to its end.

    Attributes:
        name: the file's name, for messages.
        columns: the columns, in the file's order.
        unit: what `where` counts, from 1: ``line`` (the one the row starts on) or, in Parquet,
            ``row``.
    """

    unit = "line"

    def __init__(self, name: str, columns: Sequence[str], close: Callable[[], None]) -> None:
        self.name = name
        self.columns = tuple(columns)
        self._close = close

    @abstractmethod
    def _values(self, columns: Sequence[str]) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Yield where each row stands and its values in `columns`."""

    def __iter__(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yield where each row stands and its values by column, as the format spells them.

        Raises:
            InputError: the file is malformed, says where; or it has no rows.
        """
        columns = self.columns
        for where, values in self._read(columns):
            yield where, dict(zip(columns, values, strict=True))

    def cells(self, *columns: str) -> Iterator[tuple[int, tuple[str | None, ...]]]:
        """Yield where each row stands and its values in `columns` as texts, None for null.

        Raises:
            InputError: as for iterating; or a value that is no text, number or date.
        """
        for where, values in self._read(columns):
            try:
                yield where, tuple([v if type(v) is str else cell_text(v) for v in values])
            except TypeError as error:
                odd = next(c for c, v in zip(columns, values, strict=True) if not is_plain(v))
                raise InputError(
                    f"{self.at(where)}: the column {odd!r} holds {error}; a text is needed."
                ) from error

    def at(self, where: int) -> str:
        """Say where a row stands: ``reviews.csv, line 17``."""
        return f"{self.name}, {self.unit} {where}"

    def find_column(self, what: str, wanted: str | None = None, option: str = "") -> str:
        """Choose the column of the ``text``, ``label``, ``id`` or ``source``.

        Args:
            what: which of the four.
            wanted: the name the user gave; without it, one with a usual name is chosen, or the
                only column.
            option: what the user can write to choose, for messages: ``--text-column COLUMN``.

        Raises:
            InputError: there is no such column, or none that is likely.
        """
        return find_column(self.columns, wanted, USUAL_NAMES[what], what, self.name, option)

    def find_optional_column(self, what: str, wanted: str | None = None) -> str | None:
        """Choose like `find_column`, with None where nobody asked and no name is likely."""
        if wanted is None:
            return usual_column(self.columns, USUAL_NAMES[what])
        return self.find_column(what, wanted)

    def close(self) -> None:
        """Close the file, unless it was open before."""
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
            for item in self._values(columns):
                empty = False
                yield item
        if empty:
            raise InputError(f"{self.name} has no rows. Give a file with at least one.")


class _DelimitedRows(Rows):
    def __init__(
        self, lines: Iterator[str], name: str, dialect: str, close: Callable[[], None]
    ) -> None:
        if dialect == "csv":
            dialect, lines = _csv_dialect(lines)
        self._records = iter(Records(lines, name, dialect))
        line, header = next(self._records, (0, []))
        if not header:
            raise _empty(name)
        _refuse_wrong_delimiter(header, f"{name}, line {line}", dialect)
        _refuse_repeated(header, f"{name}, line {line}")
        super().__init__(name, header, close)

    def _values(self, columns: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
        positions = [self.columns.index(column) for column in columns]
        width = len(self.columns)
        for line, fields in self._records:
            if len(fields) != width:
                raise self._wrong_width(line, len(fields))
            yield line, tuple([fields[position] for position in positions])

    def _wrong_width(self, line: int, width: int) -> InputError:
        listed = ", ".join(repr(column) for column in self.columns)
        advice = (
            "Quote fields that hold the separator."
            if width > len(self.columns)
            else "Give every row all of them, or look for a quote that is not closed."
        )
        return InputError(
            f"{self.at(line)}: {_count(width, 'field')}, but the header names "
            f"{_count(len(self.columns), 'column')} ({listed}). {advice}"
        )


class _JsonRows(Rows):
    def __init__(
        self, lines: Iterator[str], name: str, looked_at: int, close: Callable[[], None]
    ) -> None:
        records = json_records(lines, name)
        first = list(itertools.islice(records, looked_at))
        if not first:
            raise _empty(name)
        self._records = itertools.chain(first, records)
        super().__init__(name, _keys(first), close)

    def _values(self, columns: Sequence[str]) -> Iterator[tuple[int, tuple[Any, ...]]]:
        for line, record in self._records:
            yield line, tuple([record.get(column) for column in columns])

    def __iter__(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yield where each row stands and its values; keys not met before come after `columns`."""
        absent = dict.fromkeys(self.columns)
        with self:
            for line, record in self._records:
                yield line, {**absent, **record}


class _TextRows(Rows):
    def __init__(self, lines: Iterator[str], name: str, close: Callable[[], None]) -> None:
        self._lines = lines
        super().__init__(name, ("text",), close)

    def _values(self, columns: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
        for number, line in enumerate(self._lines, start=1):
            text = line.rstrip("\r\n")
            if text.strip():
                yield number, (text,) * len(columns)


class _ParquetRows(Rows):
    unit = "row"

    def __init__(self, path: Path) -> None:
        # pyarrow.parquet takes a while to import; most tables are not Parquet.
        from sentikit.datasets.columnar import ParquetTable

        table = ParquetTable(path)
        try:
            _refuse_repeated(table.columns, str(path))
        except InputError:
            table.close()
            raise
        self._values_of = table.rows
        super().__init__(str(path), table.columns, table.close)

    def _values(self, columns: Sequence[str]) -> Iterator[tuple[int, tuple[Any, ...]]]:
        return self._values_of(columns)


def read_rows(
    source: Path | str | BinaryIO,
    format: str | None = None,  # noqa: A002 - the word users know
    name: str = STANDARD_INPUT,
) -> Rows:
    """Open a table; its rows are read as they are asked for.

    Formats: ``csv`` and ``tsv`` (the first row names the columns; quoted as RFC 4180 has it; of CSV
    with semicolons and no comma between those names, semicolons separate the fields),
    ``tsv-unquoted`` (quotes mean nothing), ``jsonl`` (an object a line), ``parquet``, and ``text``
    (a text a line, in a column ``text``). All are UTF-8. Blank lines are skipped.

    Args:
        source: a path, or a stream of bytes, which is read no further than needed.
        format: one of these; without it a path's suffix decides (``.csv``, ``.tsv``, ``.jsonl``,
            ``.ndjson``, ``.txt``, each also with ``.gz``, or ``.parquet``), and a stream is text.
        name: what messages call a stream.

    Raises:
        InputError: no such file or format, or a file that is empty or malformed; says where.
        SentikitError: the disk failed.
    """
    if format is not None and format not in FORMATS:
        raise InputError(f"There is no format {format!r}. {did_you_mean(format, FORMATS)}")
    if not isinstance(source, Path | str):
        return _rows_of(source, format or "text", name, 1, close=lambda: None)
    path = Path(source).expanduser()
    kind = format or format_of(path)
    if kind == "parquet":
        return _ParquetRows(path)
    stream = open_binary(path)
    try:
        return _rows_of(stream, kind, str(path), _OBJECTS_LOOKED_AT, stream.close)
    except SentikitError:
        stream.close()
        raise


def format_of(path: Path) -> str:
    """Return the format that a path's suffix stands for.

    Raises:
        InputError: the suffix is unknown.
    """
    plain_name = path.name.lower().removesuffix(".gz")
    found = SUFFIXES.get(Path(plain_name).suffix)
    if found and not (found == "parquet" and plain_name != path.name.lower()):
        return found
    if path.is_dir():
        raise InputError(f"{path} is a folder, a file is needed.")
    if not path.exists():
        raise InputError(f"{path} does not exist. Check the path.")
    if Path(plain_name).suffix in _SPREADSHEETS:
        raise InputError(
            f"{path} is a spreadsheet's own file, as of Excel. Save it there as CSV (UTF-8), and "
            "give that file."
        )
    raise InputError(
        f"{path}: the name does not tell the format. Let it end in {', '.join(SUFFIXES)}, "
        f"or say the format: {', '.join(FORMATS)}."
    )


def _rows_of(
    stream: BinaryIO, kind: str, name: str, objects_looked_at: int, close: Callable[[], None]
) -> Rows:
    lines = decoded_lines(stream, name)
    if kind in DIALECTS:
        return _DelimitedRows(lines, name, kind, close)
    if kind == "jsonl":
        return _JsonRows(lines, name, objects_looked_at, close)
    if kind == "text":
        return _TextRows(lines, name, close)
    raise InputError(
        f"{name}: Parquet cannot be read from a pipe. Save it as a file and give its path."
    )


def _keys(records: Sequence[tuple[int, Mapping[str, Any]]]) -> list[str]:
    return list(dict.fromkeys(key for _, record in records for key in record))


def _empty(name: str) -> InputError:
    return InputError(f"{name} is empty. Give a file with at least one row.")


def _csv_dialect(lines: Iterator[str]) -> tuple[str, Iterator[str]]:
    """Look at the header, and return which CSV it begins and all lines, the header's included."""
    begin = []
    for line in lines:
        begin.append(line)
        if line.strip():
            break
    return csv_dialect("".join(begin)), itertools.chain(begin, lines)


def _refuse_wrong_delimiter(header: Sequence[str], place: str, dialect: str) -> None:
    tabs = dialect.startswith("tsv")
    others = {",": "commas", ";": "semicolons"} if tabs else {"\t": "tabs"}
    right, wanted = ("csv", "tabs") if tabs else ("tsv", "commas")
    for character, word in others.items():
        if len(header) == 1 and character in header[0]:
            raise InputError(
                f"{place}: the columns seem to be separated by {word}, not by {wanted} "
                f"({header[0]!r}). Let the name end in .{right}, or give the format {right!r}."
            )


def _refuse_repeated(columns: Sequence[str], place: str) -> None:
    for column, times in Counter(columns).most_common(1):
        if times > 1:
            raise InputError(
                f"{place}: {times} columns are called {column!r}. Give each its own name."
            )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


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


def is_plain(value: object) -> bool:
    """Say whether `cell_text` can write a value."""
    try:
        cell_text(value)
    except TypeError:
        return False
    return True
