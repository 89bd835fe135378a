"""Delimited files: CSV and TSV, with the line of each row."""

from __future__ import annotations

import csv
import itertools
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from sentikit import InputError, SentikitError
from sentikit.extension import Rows, TableFormat, decoded_lines, open_binary

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


class Csv(TableFormat):
    """Commas, semicolons or bars; quoted as in RFC 4180."""

    compressed = True
    dialect: ClassVar[str] = "csv"

    def open(self, path: Path, sheet: str | None = None) -> Rows:
        """Open a file."""
        stream = open_binary(path)
        try:
            lines = decoded_lines(stream, str(path))
            return DelimitedRows(lines, str(path), self.dialect, stream.close)
        except SentikitError:
            stream.close()
            raise

    def open_stream(self, stream: BinaryIO, name: str) -> Rows:
        """Read a pipe."""
        return DelimitedRows(decoded_lines(stream, name), name, self.dialect, lambda: None)


class Tsv(Csv):
    """Tabs; quoted as in RFC 4180."""

    dialect = "tsv"


class UnquotedTsv(Csv):
    """Tabs; quotes have no meaning."""

    dialect = "tsv-unquoted"


class DelimitedRows(Rows):
    """Rows of a CSV or TSV file whose first record names the columns.

    Raises:
        InputError: it is empty, or its header is not separated as the format says.
    """

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
