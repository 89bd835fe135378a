"""Reads CSV and TSV with the standard csv module, strictly, and says where a quote went astray."""

from __future__ import annotations

import csv
import re
import threading
from collections.abc import Iterator
from typing import Any

from sentikit.errors import InputError

#: The longest field, in characters; what is longer is an unclosed quote that swallows the file.
LONGEST_FIELD = 16 * 2**20

# The csv module knows one limit for the whole process (131,072 characters unless somebody changed
# it). It stays as it is: it is raised only while one long record is parsed again, under this lock.
_RAISED_LIMIT = threading.Lock()

DIALECTS: dict[str, dict[str, Any]] = {
    "csv": {"delimiter": ","},
    "csv-semicolons": {"delimiter": ";"},
    "csv-bars": {"delimiter": "|"},
    "tsv": {"delimiter": "\t"},
    "tsv-unquoted": {"delimiter": "\t", "quoting": csv.QUOTE_NONE},
}


_QUOTED = re.compile(r'"(?:[^"]|"")*("|$)')


def csv_dialect(header: str) -> str:
    """Tell by its header which CSV a file is: with semicolons or bars, where no comma is in it.

    Spreadsheets write semicolons wherever the comma is the decimal sign, databases bars.
    """
    names = _QUOTED.sub("", header)
    if "," in names or "\t" in names:
        return "csv"
    return "csv-semicolons" if ";" in names else "csv-bars" if "|" in names else "csv"


class Records:
    """The records of a CSV or TSV file, header included: ``(line, fields)``, blank lines skipped.

    Args:
        lines: the file's lines, line ends included.
        name: the file's name, for messages.
        dialect: a key of `DIALECTS`.
    """

    def __init__(self, lines: Iterator[str], name: str, dialect: str) -> None:
        self._lines = lines
        self._name = name
        self._dialect = dialect
        self._delimiter: str = DIALECTS[dialect]["delimiter"]
        self._record: list[str] = []
        self._reader = self._new_reader([])

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the number of each record's first line, and its fields.

        Raises:
            InputError: a quote that is not closed, or closed in the middle of a field.
        """
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
        """Give the csv module its lines and keep those of the current record."""
        keep = self._record.append
        for line in unread:
            keep(line)
            yield line
        for line in self._lines:
            keep(line)
            yield line

    def _parse_again(self, line: int, error: csv.Error) -> list[str]:
        """Parse a record that failed once more, with room for long fields, or refuse it."""
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
            return self._explain_without_quote(line, record, error)
        opens, closes = quote
        place = f"{self._name}, line {line + record.count(chr(10), 0, opens)}"
        advice = "write a quote that belongs to a quoted field twice"
        if self._dialect == "tsv":
            advice += ", or give the format 'tsv-unquoted' if quotes mean nothing in this file"
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

    def _explain_without_quote(self, line: int, record: str, error: csv.Error) -> InputError:
        if "\r" in record.rstrip("\r\n"):
            return InputError(
                f"{self._name}, line {line}: a carriage return in the middle of the line. "
                "Save the file with Unix or Windows line ends."
            )
        return InputError(f"{self._name}, line {line}: {error}.")


def _stray_quote(record: str, delimiter: str) -> tuple[int, int | None] | None:
    """Find the field whose quotes the csv module refused.

    Returns:
        Where its quote opens, and where it closes if it does; None if all fields are in order.
    """
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
