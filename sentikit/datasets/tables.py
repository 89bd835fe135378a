"""Tables in any format, opened from a path, a pipe or a query."""

from __future__ import annotations

import csv
import functools
import glob
import hashlib
import itertools
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sentikit.components import open_component
from sentikit.datasets.json_lines import OBJECTS_LOOKED_AT, json_lines
from sentikit.datasets.rows import RecordRows, Rows, TableFormat
from sentikit.datasets.text_files import COMPRESSED, decoded_lines, open_binary
from sentikit.errors import InputError, SentikitError, did_you_mean
from sentikit.files import missing_file
from sentikit.registry import default_registry
from sentikit.terminal import LiveBar

#: Suffixes of the formats that are read without a plugin.
SUFFIXES: dict[str, str] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".txt": "text",
}
#: Formats of `read_rows`; plugins add more.
FORMATS = ("csv", "tsv", "tsv-unquoted", "jsonl", "text")
STANDARD_INPUT = "standard input"
_HOOK = "register_table_formats"
_OTHER_SPREADSHEETS = (".xls", ".ods")
#: Rows between two updates of the progress bar.
_SHOWN_EVERY = 10_000
#: Bytes at a file's beginning and end that enter its fingerprint.
_EDGE = 2**16
_OPTION = "--text-column"


def read_rows(
    source: Path | str | BinaryIO,
    format: str | None = None,  # noqa: A002 - the word users know
    name: str = STANDARD_INPUT,
    sheet: str | None = None,
) -> Rows:
    """Open a table, whose rows are read on demand.

    Formats: ``csv`` and ``tsv`` (the first row names the columns; quoted as in RFC 4180; CSV may
    also use semicolons or bars, if its header has no comma), ``tsv-unquoted`` (quotes have no
    meaning), ``jsonl`` (one object per line), ``text`` (one text per line, in a column ``text``),
    and those of plugins: ``parquet``, ``arrow``, ``json`` (an array of objects, or an object with
    one such list) and ``xlsx``. Texts are UTF-8. Blank lines are skipped.

    A folder, or a pattern such as ``texts/*.txt``, is a table of its ``.txt`` files with the
    columns ``file`` and ``text``; a folder of ``.parquet`` files is one table of their rows.

    Args:
        source: a path, or a stream of bytes, which is read no further than needed.
        format: one of these; by default, the path's suffix decides (`SUFFIXES`; text formats also
            with .gz, .bz2, .xz or .zst after it), and a stream is text.
        name: a stream's name in messages.
        sheet: the table in a workbook or another file with several tables.

    Raises:
        InputError: the file or format is unknown, or the file is empty or malformed.
        SentikitError: the disk failed.
    """
    if format is not None:
        known_table_format(format)
    if not isinstance(source, Path | str):
        return _streamed(source, format or "text", name)
    path = Path(source).expanduser()
    if format in (None, "text") and (files := _text_files(path)) is not None:
        return _FolderRows(str(path), files)
    kind = format or format_of(path)
    reader = None if kind in FORMATS else _from_plugin(kind)
    if sheet is not None and not (reader and reader.has_sheets):
        raise InputError(f"{path} is no Excel workbook and has no sheets. Leave out the sheet.")
    if reader is not None:
        return reader.open(path, sheet)
    stream = open_binary(path)
    try:
        return _rows_of(stream, kind, str(path), OBJECTS_LOOKED_AT, stream.close)
    except SentikitError:
        stream.close()
        raise


def _streamed(stream: BinaryIO, kind: str, name: str) -> Rows:
    if kind not in FORMATS:
        return _from_plugin(kind).open_stream(stream, name)
    return _rows_of(stream, kind, name, 1, lambda: None)


def _rows_of(
    stream: BinaryIO, kind: str, name: str, looked_at: int, close: Callable[[], None]
) -> Rows:
    if kind == "jsonl":
        return json_lines(stream, name, looked_at, close)
    lines = decoded_lines(stream, name)
    if kind == "text":
        return _TextRows(lines, name, close)
    return DelimitedRows(lines, name, kind, close)


def _from_plugin(kind: str) -> TableFormat:
    found = default_registry().load(_HOOK, kind)
    made: TableFormat = found(found.Settings())
    return made


def format_of(path: Path) -> str:
    suffix = ".parquet" if path.is_dir() and _has_parquet(path) else path.suffix.lower()
    packed = suffix in COMPRESSED
    if packed:
        suffix = Path(path.stem).suffix.lower()
    found = SUFFIXES.get(suffix)
    if found is None and suffix[1:] in default_registry().names(_HOOK):
        found = suffix[1:]
    if found and (not packed or _reads_compressed(found)):
        return found
    if path.is_dir():
        raise InputError(f"{path} is a folder. Give a file.")
    if not path.exists():
        raise missing_file(path)
    if found:
        raise InputError(f"{path}: compressed {found} files are not supported. Unpack it first.")
    if suffix in _OTHER_SPREADSHEETS:
        raise InputError(
            f"{path} is a spreadsheet in an unsupported format. Save it as .xlsx or CSV UTF-8."
        )
    raise InputError(
        f"{path}: the format of this suffix is unknown. Rename the file to end in "
        f"{', '.join([*SUFFIXES, *(f'.{name}' for name in default_registry().names(_HOOK))])}, "
        f"or name the format: {', '.join(_formats())}."
    )


def known_table_format(name: str) -> str:
    """Return the name of a format that `read_rows` takes.

    Raises:
        InputError: there is no such format.
    """
    if name not in FORMATS and name not in _formats():
        raise InputError(f"There is no format {name!r}. {did_you_mean(name, _formats())}")
    return name


def _formats() -> list[str]:
    return [*FORMATS, *default_registry().names(_HOOK)]


def _reads_compressed(kind: str) -> bool:
    return kind in FORMATS or _from_plugin(kind).compressed


def _text_files(path: Path) -> list[Path] | None:
    """Return the text files of a folder or pattern, or None if `path` is a file."""
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.suffix.lower() == ".txt")
        if found or _has_parquet(path):
            return found or None
        if (path / "manifest.json").is_file():
            raise InputError(f"{path} is a run. Give a file.")
        raise InputError(f"{path} is a folder without .txt or .parquet files. Give a file.")
    if not any(character in str(path) for character in "*?[") or path.exists():
        return None
    found = sorted(Path(file) for file in glob.glob(str(path), recursive=True))
    texts = [file for file in found if file.is_file()]
    if not texts:
        raise InputError(f"No file matches {path}. Check the pattern.")
    if odd := [file for file in texts if file.suffix.lower() != ".txt"]:
        raise InputError(f"{path} matches {odd[0]}; a pattern is for .txt files. Give one file.")
    return texts


def _has_parquet(folder: Path) -> bool:
    return any(folder.glob("*.parquet"))


class _TextRows(Rows):
    unit = "line"

    def __init__(self, lines: Iterator[str], name: str, close: Callable[[], None]) -> None:
        self._lines = lines
        super().__init__(name, ("text",), close)

    def values(self, columns: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
        for number, line in enumerate(self._lines, start=1):
            text = line.rstrip("\r\n")
            if text.strip():
                yield number, (text,) * len(columns)


class _FolderRows(RecordRows):
    unit = "file"

    def __init__(self, name: str, files: Sequence[Path]) -> None:
        self._files = files
        super().__init__(name, ("file", "text"), map(_name_and_text, files))

    def at(self, where: int) -> str:
        return str(self._files[where - 1])


def _name_and_text(path: Path) -> tuple[str, str]:
    with open_binary(path) as stream:
        return path.name, "".join(decoded_lines(stream, str(path))).rstrip("\r\n")


@dataclass(frozen=True)
class InputFile:
    """A table of texts; anything but a pipe can be read several times.

    Attributes:
        file: the path of a table, a folder of Parquet files, a folder or pattern of text files,
            or ``-`` for standard input.
        kind: its format; None: by the file's suffix.
        text_columns: the columns that are joined to the text; by default one with a usual name.
        sheet: the sheet of a workbook.
        strip_markup: whether to remove HTML from the texts.
        query: a SELECT whose rows are read instead of a file, through the dataset ``sql``.
        database: the database of `query`; None: the files that it names.
    """

    file: str
    kind: str | None = None
    text_columns: tuple[str, ...] = ()
    sheet: str | None = None
    strip_markup: bool = False
    query: str | None = None
    database: str | None = None

    @property
    def piped(self) -> bool:
        """Whether it is standard input."""
        return self.file == "-" and self.query is None

    def open(self) -> Rows:
        """Open the table; refuse a terminal as standard input."""
        if self.query is not None:
            return self._answered(self.query)
        if self.database is not None:
            raise InputError("--database needs --sql. Leave it out, or give a query.")
        if not self.piped:
            return read_rows(self.file, self.kind, sheet=self.sheet)
        if sys.stdin.isatty():
            raise InputError(
                "There is nothing to label. Name a file, or pipe in texts, one per line "
                "(echo 'I love it' | sentikit predict MODEL)."
            )
        return read_rows(sys.stdin.buffer, self.kind, sheet=self.sheet)

    def _answered(self, query: str) -> Rows:
        if self.file != "-":
            raise InputError("--sql and a file are mutually exclusive. Give one of them.")
        section = {"name": "sql", "test": query, "database": self.database}
        rows: Rows = open_component("register_datasets", section).rows("test")
        return rows

    def columns(self, rows: Rows) -> tuple[str, ...]:
        """Return the text columns, chosen by `Rows.find_text_columns`."""
        return rows.find_text_columns(self.text_columns, _OPTION)

    def reader(self, rows: Rows) -> Callable[[int, Mapping[str, Any]], str]:
        """Return the function that extracts a row's text, from `Rows.text_reader`."""
        return rows.text_reader(self.text_columns, _OPTION, self.strip_markup)

    def count(self) -> int | None:
        """Return the number of rows, by reading them all once; None of a pipe.

        Raises:
            InputError: a row is malformed, or its text column holds no text.
        """
        return None if self.piped else self._count

    @functools.cached_property
    def _count(self) -> int:
        count = 0
        with self.open() as rows, LiveBar("rows", shown=os.environ.get("RANK", "0") == "0") as bar:
            for count, _ in enumerate(rows.cells(*self.columns(rows)), 1):
                if count % _SHOWN_EVERY == 0:
                    bar.update(count, line="Reading")
        return count

    def describe(self) -> dict[str, Any]:
        """Return what identifies this input, as JSON values."""
        return {
            "input": "standard input" if self.piped else self._fingerprint(),
            "text_columns": list(self.text_columns),
            "sheet": self.sheet,
            "strip_markup": self.strip_markup,
        }

    def _fingerprint(self) -> str:
        """Return what identifies the data: of a file, its size and both ends."""
        if self.query is not None:
            asked = f"{self.query}\0{self.database}".encode()
            return f"query {hashlib.sha256(asked).hexdigest()}"
        path = Path(self.file).expanduser()
        if not path.is_file():
            with self.open() as rows:
                names = "\0".join(rows.at(where) for where, _ in rows)
            return f"files {hashlib.sha256(names.encode()).hexdigest()}"
        size = path.stat().st_size
        with path.open("rb") as stream:
            digest = hashlib.sha256(stream.read(_EDGE))
            stream.seek(max(0, size - _EDGE))
            digest.update(stream.read(_EDGE))
        return f"{size} {digest.hexdigest()}"


#: Longest field in characters; a longer one is an unclosed quote.
LONGEST_FIELD = 16 * 2**20

# The csv module has one field limit for the whole process, 131,072 characters by default. It is
# raised only while one long record is parsed again, under this lock.
_RAISED_LIMIT = threading.Lock()

DIALECTS: dict[str, dict[str, Any]] = {
    "csv": {"delimiter": ","},
    "csv-semicolons": {"delimiter": ";"},
    "csv-bars": {"delimiter": "|"},
    "tsv": {"delimiter": "\t"},
    "tsv-unquoted": {"delimiter": "\t", "quoting": csv.QUOTE_NONE},
}

_QUOTED = re.compile(r'"(?:[^"]|"")*("|$)')
_SPACED_QUOTE = re.compile(r' +"')
_SPACED_QUOTES = re.compile(r' +".*" *', re.DOTALL)


class DelimitedRows(Rows):
    """Rows of a CSV or TSV file whose first record names the columns."""

    unit = "line"

    def __init__(
        self, lines: Iterator[str], name: str, dialect: str, close: Callable[[], None]
    ) -> None:
        if dialect == "csv":
            head = list(_through_first_filled(lines))
            dialect, lines = _csv_dialect("".join(head)), itertools.chain(head, lines)
        self._records = iter(_Records(lines, name, dialect))
        line, header = next(self._records, (0, []))
        if not header:
            raise InputError(f"{name} is empty. Give a file with at least one row.")
        _refuse_wrong_delimiter(header, f"{name}, line {line}", dialect)
        super().__init__(name, header, close, f"{name}, line {line}")

    def values(self, columns: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
        positions = [self._places[column] for column in columns]
        width = len(self.columns)
        for line, fields in self._records:
            if len(fields) != width:
                raise self._wrong_width(line, fields)
            for field in fields:
                if field[:1] == " " and _SPACED_QUOTES.fullmatch(field):
                    raise self._blank_before_quote(line)
            yield line, tuple([fields[position] for position in positions])

    def _wrong_width(self, line: int, fields: Sequence[str]) -> InputError:
        if any(_SPACED_QUOTE.match(field) for field in fields):
            return self._blank_before_quote(line)
        listed = ", ".join(repr(column) for column in self.columns)
        advice = (
            "Quote fields that contain the separator."
            if len(fields) > len(self.columns)
            else "Give every row all of them, or look for a quote that is not closed."
        )
        return InputError(
            f"{self.at(line)}: {_count(fields, 'field')}, but the header names "
            f"{_count(self.columns, 'column')} ({listed}). {advice}"
        )

    def _blank_before_quote(self, line: int) -> InputError:
        return InputError(
            f"{self.at(line)}: a space before a quote, so the quote does not enclose the field. "
            "Remove the spaces after the separators."
        )


def _count(items: Sequence[str], noun: str) -> str:
    return f"{len(items)} {noun}" if len(items) == 1 else f"{len(items)} {noun}s"


def _through_first_filled(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield line
        if line.strip():
            return


def _csv_dialect(header: str) -> str:
    # Spreadsheets write semicolons where the comma is the decimal sign; databases write bars.
    names = _QUOTED.sub("", header)
    if "," in names or "\t" in names:
        return "csv"
    return "csv-semicolons" if ";" in names else "csv-bars" if "|" in names else "csv"


def _refuse_wrong_delimiter(header: Sequence[str], place: str, dialect: str) -> None:
    tabs = dialect.startswith("tsv")
    others = {",": "commas", ";": "semicolons", "|": "bars"} if tabs else {"\t": "tabs"}
    right, wanted = ("csv", "tabs") if tabs else ("tsv", "commas")
    for character, word in others.items():
        if len(header) == 1 and character in header[0]:
            raise InputError(
                f"{place}: the columns seem to be separated by {word}, not by {wanted} "
                f"({header[0]!r}). Rename the file to end in .{right}, or set the format {right!r}."
            )


class _Records:
    """The records of a file, header included: ``(line, fields)``, blank lines skipped."""

    def __init__(self, lines: Iterator[str], name: str, dialect: str) -> None:
        self._lines = lines
        self._name = name
        self._dialect = dialect
        self._delimiter: str = DIALECTS[dialect]["delimiter"]
        self._record: list[str] = []
        self._reader = self._new_reader([])

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        record, line = self._record, 1
        while True:
            record.clear()
            try:
                fields = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                fields = self._parse_again(line, error)
            if fields:
                yield line, fields
            line += len(record)

    def _new_reader(self, unread: list[str]) -> Iterator[list[str]]:
        return csv.reader(self._feed(unread), strict=True, **DIALECTS[self._dialect])

    def _feed(self, unread: list[str]) -> Iterator[str]:
        """Yield lines to the csv module and remember those of the current record."""
        for line in itertools.chain(unread, self._lines):
            self._record.append(line)
            yield line

    def _parse_again(self, line: int, error: csv.Error) -> list[str]:
        """Parse a failed record again with a higher field limit, or raise an error."""
        if sum(map(len, self._record)) <= csv.field_size_limit():
            raise self._explain(line, error) from error
        unread = self._record.copy()
        self._record.clear()
        self._reader = self._new_reader(unread)
        with _RAISED_LIMIT:
            usual = csv.field_size_limit(LONGEST_FIELD)
            try:
                return next(self._reader)
            except csv.Error as second_error:
                raise self._explain(line, second_error) from second_error
            finally:
                csv.field_size_limit(usual)

    def _explain(self, line: int, error: csv.Error) -> InputError:
        record = "".join(self._record)
        quote = None if self._dialect == "tsv-unquoted" else _stray_quote(record, self._delimiter)
        if quote is None:
            at = f"{self._name}, line {line}"
            if "\r" in record.rstrip("\r\n"):
                return InputError(
                    f"{at}: a carriage return in the middle of the line. "
                    "Save the file with Unix or Windows line endings."
                )
            return InputError(f"{at}: {error}.")
        opens, closes = quote
        place = f"{self._name}, line {line + record.count(chr(10), 0, opens)}"
        advice = "inside a quoted field, write a quote twice"
        if self._dialect == "tsv":
            advice += ", or set the format 'tsv-unquoted' if quotes have no meaning in this file"
        if closes is None:
            return InputError(
                f"{place}: a quote opens here ({_excerpt(record, opens)}) and is never closed. "
                f"Close it; {advice}."
            )
        return InputError(
            f"{place}: the quote that opens here closes in the middle of a field "
            f"({_excerpt(record, closes)}, line {line + record.count(chr(10), 0, closes)}). "
            f"Close it elsewhere; {advice}."
        )


def _stray_quote(record: str, delimiter: str) -> tuple[int, int | None] | None:
    """Return where the misplaced quote opens, and where it closes, or None."""
    quoted = re.compile(r'"(?:[^"]++|"")*+"')
    plain = re.compile(rf"[^{re.escape(delimiter)}\r\n]*")
    position = 0
    while position < len(record):
        if record[position] != '"':
            match = plain.match(record, position)
        else:
            match = quoted.match(record, position)
            if match is None:
                return position, None
            if record[match.end() : match.end() + 1] not in (delimiter, "\r", "\n", ""):
                return position, match.end() - 1
        assert match is not None
        position = match.end() + 1
    return None


def _excerpt(record: str, position: int) -> str:
    return repr(record[max(0, position - 15) : position + 15].strip("\r\n"))
