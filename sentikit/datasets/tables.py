"""Tables read row by row: delimited files, JSON, Parquet, Arrow, workbooks and plain text."""

from __future__ import annotations

import glob
import itertools
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from sentikit.datasets.columns import (
    USUAL_NAMES,
    cell_text,
    find_column,
    inside,
    is_plain,
    joined_text,
    usual_column,
)
from sentikit.datasets.delimited import DIALECTS, Records, csv_dialect
from sentikit.datasets.text_files import (
    COMPRESSED,
    JsonDocument,
    decoded_lines,
    json_records,
    open_binary,
    wrapped_list,
)
from sentikit.errors import InputError, SentikitError, did_you_mean

SUFFIXES: dict[str, str] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
    ".txt": "text",
}
FORMATS = ("csv", "tsv", "tsv-unquoted", "jsonl", "json", "parquet", "arrow", "xlsx", "text")
#: Formats that are read from a file's end, or from several places: not from a pipe.
_OF_FILES_ALONE = {"parquet": "Parquet", "arrow": "Arrow", "xlsx": "Excel"}
_OTHER_SPREADSHEETS = (".xls", ".ods")
STANDARD_INPUT = "standard input"

# Keys that a JSON object may leave out are found by looking at this many; of a pipe, which may be
# slow to grow, at the first alone.
_OBJECTS_LOOKED_AT = 100


_SPACED_QUOTE = re.compile(r' +"')
_SPACED_QUOTES = re.compile(r' +".*" *', re.DOTALL)


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
        self._places = {column: place for place, column in enumerate(self.columns)}

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

        Args:
            columns: names, or paths into nested values, as ``review.text``.

        Raises:
            InputError: as for iterating; or a value that is no text, number or date.
        """
        paths = [self._path(column) for column in columns]
        outer = [path[0] for path in paths]
        nested = any(len(path) > 1 for path in paths)
        for where, found in self._read(outer):
            values = found
            try:
                if nested:
                    pairs = zip(found, paths, strict=True)
                    values = tuple([inside(value, path[1:]) for value, path in pairs])
                yield where, tuple([v if type(v) is str else cell_text(v) for v in values])
            except TypeError as error:
                raise self._no_text(where, columns, values, str(error)) from error

    def texts(
        self, columns: Sequence[str], others: Sequence[str] = (), strip_markup: bool = False
    ) -> Iterator[tuple[int, str, tuple[str | None, ...]]]:
        """Yield where each row stands, its text and its values in `others`.

        Args:
            columns: of the text, which is joined from them, "" where none holds any.
            others: further columns.
            strip_markup: whether to take HTML off the text.

        Raises:
            InputError: as for `cells`.
        """
        width = len(columns)
        for where, cells in self.cells(*columns, *others):
            yield where, joined_text(cells[:width], strip_markup), cells[width:]

    def text_reader(
        self, wanted: Sequence[str] = (), option: str = "", strip_markup: bool = False
    ) -> Callable[[int, Mapping[str, Any]], str]:
        """Return what gives the text of a row that iterating yields, "" where it has none.

        Args:
            wanted: columns or paths to join; without any, the one with a usual name.
            option: what the user can write to choose, for messages: ``--text-column COLUMN``.
            strip_markup: whether to take HTML off, as `plain_text` does.

        Raises:
            InputError: there is no such column, now; later, a value that is no text.
        """
        columns = self.find_text_columns(wanted, option)
        paths = [self._path(column) for column in columns]

        def text(where: int, row: Mapping[str, Any]) -> str:
            values: list[Any] = [row.get(path[0]) for path in paths]
            try:
                values = [inside(v, path[1:]) for v, path in zip(values, paths, strict=True)]
                return joined_text([cell_text(value) for value in values], strip_markup)
            except TypeError as error:
                raise self._no_text(where, columns, values, str(error)) from error

        return text

    def find_text_columns(self, wanted: Sequence[str] = (), option: str = "") -> tuple[str, ...]:
        """Choose the columns whose values are joined to a text.

        Raises:
            InputError: there is no such column, or none that is likely.
        """
        if not wanted:
            return (self.find_column("text", None, option),)
        return tuple(self.find_column("text", column, option) for column in wanted)

    def _path(self, column: str) -> tuple[str, ...]:
        """Return a column's name, and behind it the keys inside its values."""
        if column in self._places:
            return (column,)
        keys = column.split(".")
        for length in range(len(keys) - 1, 0, -1):
            outer = ".".join(keys[:length])
            if outer in self._places:
                return (outer, *keys[length:])
        return (column,)

    def _fields(self, column: str) -> Sequence[str] | None:
        """Return the keys inside a column's values, None where they hold none."""
        return None

    def _no_text(
        self, where: int, columns: Sequence[str], values: Sequence[Any], kind: str
    ) -> InputError:
        pairs = zip(columns, values, strict=True)
        odd, value = next(((c, v) for c, v in pairs if not is_plain(v)), (columns[0], None))
        inner = [f"{odd}.{key}" for key in value] if isinstance(value, Mapping) else []
        advice = f" Name a field inside it: {', '.join(inner[:8])}." if inner else ""
        return InputError(
            f"{self.at(where)}: the column {odd!r} holds {kind}; a text is needed.{advice}"
        )

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
        if wanted is not None and wanted not in self._places:
            outer, *keys = self._path(wanted)
            if keys:
                known = self._fields(outer)
                if known is None or keys[0] in known:
                    return wanted
                inner = [f"{outer}.{key}" for key in known]
                raise InputError(
                    f"{self.name} has no column {wanted!r} for the {what}. "
                    f"{did_you_mean(wanted, inner)}"
                )
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
        positions = [self._places[column] for column in columns]
        width = len(self.columns)
        for line, fields in self._records:
            if len(fields) != width:
                raise self._wrong_width(line, fields)
            if any(field[:1] == " " and _SPACED_QUOTES.fullmatch(field) for field in fields):
                raise self._blank_before_quote(line)
            yield line, tuple([fields[position] for position in positions])

    def _wrong_width(self, line: int, fields: Sequence[str]) -> InputError:
        if any(_SPACED_QUOTE.match(field) for field in fields):
            return self._blank_before_quote(line)
        listed = ", ".join(repr(column) for column in self.columns)
        advice = (
            "Quote fields that hold the separator."
            if len(fields) > len(self.columns)
            else "Give every row all of them, or look for a quote that is not closed."
        )
        return InputError(
            f"{self.at(line)}: {_count(len(fields), 'field')}, but the header names "
            f"{_count(len(self.columns), 'column')} ({listed}). {advice}"
        )

    def _blank_before_quote(self, line: int) -> InputError:
        return InputError(
            f"{self.at(line)}: a blank stands before a quote, so that the quote does not enclose "
            "the field. Remove the blanks behind the separators."
        )


class _JsonRows(Rows):
    def __init__(
        self,
        records: Iterator[tuple[int, dict[str, Any]]],
        name: str,
        looked_at: int,
        close: Callable[[], None],
    ) -> None:
        self.first = list(itertools.islice(records, looked_at))
        if not self.first:
            raise _empty(name)
        self._records = itertools.chain(self.first, records)
        super().__init__(name, _keys(self.first), close)

    def _values(self, columns: Sequence[str]) -> Iterator[tuple[int, tuple[Any, ...]]]:
        for line, record in self._records:
            yield line, tuple([record.get(column) for column in columns])

    def _fields(self, column: str) -> Sequence[str] | None:
        inner = [record.get(column) for _, record in self.first]
        keys = [key for value in inner if isinstance(value, dict) for key in value]
        return list(dict.fromkeys(keys)) or None

    def __iter__(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yield where each row stands and its values; keys not met before come after `columns`."""
        absent = dict.fromkeys(self.columns)
        with self:
            for line, record in self._records:
                yield line, {**absent, **record}


class _JsonDocumentRows(_JsonRows):
    unit = "item"


class _TextRows(Rows):
    def __init__(self, lines: Iterator[str], name: str, close: Callable[[], None]) -> None:
        self._lines = lines
        super().__init__(name, ("text",), close)

    def _values(self, columns: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
        for number, line in enumerate(self._lines, start=1):
            text = line.rstrip("\r\n")
            if text.strip():
                yield number, (text,) * len(columns)


class _FolderRows(Rows):
    """Files that hold a text each, by name."""

    unit = "file"

    def __init__(self, name: str, files: Sequence[Path]) -> None:
        self._files = files
        super().__init__(name, ("file", "text"), lambda: None)

    def at(self, where: int) -> str:
        return str(self._files[where - 1])

    def _values(self, columns: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
        for number, path in enumerate(self._files, 1):
            with open_binary(path) as stream:
                text = "".join(decoded_lines(stream, str(path))).rstrip("\r\n")
            known = {"file": path.name, "text": text}
            yield number, tuple([known[column] for column in columns])


class _TableRows(Rows):
    """Rows of a table that names its columns itself: Parquet, Arrow or a sheet."""

    unit = "row"

    def __init__(self, path: Path, kind: str, sheet: str | None) -> None:
        # These libraries take a while to import; most tables need none of them.
        if kind == "xlsx":
            from sentikit.datasets.workbook import SheetTable

            table: Any = SheetTable(path, sheet)
        else:
            from sentikit.datasets.columnar import ColumnarTable

            table = ColumnarTable(path, kind)
        try:
            _refuse_repeated(table.columns, str(path))
        except InputError:
            table.close()
            raise
        self._table = table
        super().__init__(str(path), table.columns, table.close)

    def _fields(self, column: str) -> Sequence[str] | None:
        fields: Sequence[str] | None = getattr(self._table, "fields", lambda column: None)(column)
        return fields

    def _values(self, columns: Sequence[str]) -> Iterator[tuple[int, tuple[Any, ...]]]:
        yield from self._table.rows(columns)


class RecordRows(Rows):
    """Rows that a plugin reads: `records` in the order of `columns`, counted from 1."""

    unit = "row"

    def __init__(
        self,
        name: str,
        columns: Sequence[str],
        records: Iterator[Sequence[Any]],
        close: Callable[[], None] = lambda: None,
    ) -> None:
        _refuse_repeated(columns, name)
        self._records = records
        super().__init__(name, columns, close)

    def _values(self, columns: Sequence[str]) -> Iterator[tuple[int, tuple[Any, ...]]]:
        positions = [self._places[column] for column in columns]
        for number, record in enumerate(self._records, 1):
            yield number, tuple([record[position] for position in positions])


def read_rows(
    source: Path | str | BinaryIO,
    format: str | None = None,  # noqa: A002 - the word users know
    name: str = STANDARD_INPUT,
    sheet: str | None = None,
) -> Rows:
    """Open a table; its rows are read as they are asked for.

    Formats: ``csv`` and ``tsv`` (the first row names the columns; quoted as RFC 4180 has it; of CSV
    whose header holds semicolons or bars and no comma, these separate the fields), ``tsv-unquoted``
    (quotes mean nothing), ``jsonl`` (an object a line), ``json`` (an array of objects, or an object
    with one such list), ``parquet``, ``arrow``, ``xlsx`` (a sheet), and ``text`` (a text a line, in
    a column ``text``). All are UTF-8. Blank lines are skipped.

    A folder, or a pattern such as ``texts/*.txt``, is a table of its ``.txt`` files: ``file``, the
    name, and ``text``.

    Args:
        source: a path, or a stream of bytes, which is read no further than needed.
        format: one of these; without it a path's suffix decides (`SUFFIXES`; texts also with .gz,
            .bz2, .xz or .zst behind it), and a stream is text.
        name: what messages call a stream.
        sheet: of a workbook with several.

    Raises:
        InputError: no such file or format, or a file that is empty or malformed; says where.
        SentikitError: the disk failed.
    """
    if format is not None and format not in FORMATS:
        raise InputError(f"There is no format {format!r}. {did_you_mean(format, FORMATS)}")
    if not isinstance(source, Path | str):
        return _rows_of(source, format or "text", name, 1, close=lambda: None)
    path = Path(source).expanduser()
    if format in (None, "text") and (files := _text_files(path)) is not None:
        return _FolderRows(str(path), files)
    kind = format or format_of(path)
    if sheet is not None and kind != "xlsx":
        raise InputError(f"{path} has no sheets; only an Excel workbook has. Leave the sheet out.")
    if kind in _OF_FILES_ALONE:
        return _TableRows(path, kind, sheet)
    kind, key = _json_kind(path) if kind == "json" else (kind, None)
    stream = open_binary(path)
    try:
        return _rows_of(stream, kind, str(path), _OBJECTS_LOOKED_AT, stream.close, key)
    except SentikitError:
        stream.close()
        raise


def format_of(path: Path) -> str:
    """Return the format that a path's suffix stands for.

    Raises:
        InputError: the suffix is unknown.
    """
    suffix = path.suffix.lower()
    packed = suffix in COMPRESSED
    if packed:
        suffix = Path(path.stem).suffix.lower()
    found = SUFFIXES.get(suffix)
    if found and not (packed and found in _OF_FILES_ALONE):
        return found
    if path.is_dir():
        raise InputError(f"{path} is a folder, a file is needed.")
    if not path.exists():
        raise InputError(f"{path} does not exist. Check the path.")
    if found:
        raise InputError(f"{path}: {found} files are not read compressed. Unpack it first.")
    if suffix in _OTHER_SPREADSHEETS:
        raise InputError(f"{path} is a spreadsheet of another kind. Save it as .xlsx or CSV UTF-8.")
    raise InputError(
        f"{path}: the name does not tell the format. Let it end in {', '.join(SUFFIXES)}, "
        f"or say the format: {', '.join(FORMATS)}."
    )


def _text_files(path: Path) -> list[Path] | None:
    """Return the texts that a folder or a pattern means, None where `path` is a file's."""
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.suffix.lower() == ".txt")
        if not found:
            raise InputError(f"{path} is a folder, a file is needed; it holds no .txt files.")
        return found
    if not any(character in str(path) for character in "*?[") or path.exists():
        return None
    found = sorted(Path(file) for file in glob.glob(str(path), recursive=True))
    texts = [file for file in found if file.is_file()]
    if not texts:
        raise InputError(f"No file matches {path}. Check the pattern.")
    if odd := [file for file in texts if file.suffix.lower() != ".txt"]:
        raise InputError(f"{path} matches {odd[0]}; a pattern is for .txt files. Give one table.")
    return texts


def _json_kind(path: Path) -> tuple[str, str | None]:
    """Return how a JSON file is to be read, and the key of its list of rows if an object has it."""
    with open_binary(path) as stream:
        document = JsonDocument(stream, str(path))
        keys = document.lists()
    if document.of_lines:
        return "jsonl", None
    if len(keys) > 1:
        raise InputError(
            f"{path} holds several lists: {', '.join(map(repr, keys))}. Save the one with the rows "
            "in a file of its own."
        )
    return "json", keys[0] if keys else None


def _rows_of(
    stream: BinaryIO,
    kind: str,
    name: str,
    objects_looked_at: int,
    close: Callable[[], None],
    key: str | None = None,
) -> Rows:
    if kind in _OF_FILES_ALONE:
        raise InputError(
            f"{name}: {_OF_FILES_ALONE[kind]} cannot be read from a pipe. Save it as a file and "
            "give its path."
        )
    if kind == "json":
        records = JsonDocument(stream, name, key).rows()
        return _JsonDocumentRows(records, name, objects_looked_at, close)
    lines = decoded_lines(stream, name)
    if kind in DIALECTS:
        return _DelimitedRows(lines, name, kind, close)
    if kind == "text":
        return _TextRows(lines, name, close)
    rows = _JsonRows(json_records(lines, name), name, objects_looked_at, close)
    if objects_looked_at > 1 and (wrapped := wrapped_list(rows.first)):
        raise InputError(
            f"{name} is one JSON object around the rows, in {wrapped!r}. "
            "Let the name end in .json, or give the format 'json'."
        )
    return rows


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
    others = {",": "commas", ";": "semicolons", "|": "bars"} if tabs else {"\t": "tabs"}
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
