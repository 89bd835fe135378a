"""JSON Lines, and JSON documents that hold a list of rows."""

from __future__ import annotations

import codecs
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from pydantic_core import from_json

from sentikit.datasets.rows import Rows
from sentikit.datasets.text_files import (
    LONGEST_LINE,
    decoded_lines,
    mistaken_file,
    open_binary,
    reading_errors,
)
from sentikit.errors import InputError

_CHUNK = 2**18
_SPACE = re.compile(r"[ \t\r\n]+")
_NEEDED = 'a JSON object is needed on each line, as {"text": "I love it"}'
_AS_JSON = "Let the name end in .json, or give the format 'json'."
_KINDS = {
    list: "a list",
    dict: "an object",
    str: "a text",
    bool: "true or false",
    type(None): "null",
}


class JsonRows(Rows):
    """Rows that are JSON objects; the columns are the keys of the first ones.

    Args:
        records: the place and the object of each row.
        name: the file's name, for messages.
        unit: what a place counts.
        looked_at: how many objects are read for their keys, since any may leave some out; of a
            pipe, which may be slow to grow, the first alone.
        close: closes the file.
    """

    def __init__(
        self,
        records: Iterator[tuple[int, dict[str, Any]]],
        name: str,
        unit: str,
        looked_at: int,
        close: Callable[[], None],
    ) -> None:
        self.unit = unit
        self._first = list(itertools.islice(records, looked_at))
        if not self._first:
            raise InputError(f"{name} is empty. Give a file with at least one row.")
        self._records = itertools.chain(self._first, records)
        keys = dict.fromkeys(key for _, record in self._first for key in record)
        super().__init__(name, list(keys), close)

    def fields(self, column: str) -> Sequence[str] | None:
        """Return the keys inside a column's values, in the first rows."""
        inner = [record.get(column) for _, record in self._first]
        keys = [key for value in inner if isinstance(value, dict) for key in value]
        return list(dict.fromkeys(keys)) or None

    def values(self, columns: Sequence[str]) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Yield the place of each row and its values."""
        for where, record in self._records:
            yield where, tuple([record.get(column) for column in columns])

    def __iter__(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yield where each row stands and its values; keys not met before come after `columns`."""
        absent = dict.fromkeys(self.columns)
        with self:
            for where, record in self._records:
                yield where, {**absent, **record}


def json_lines(stream: BinaryIO, name: str, looked_at: int, close: Callable[[], None]) -> JsonRows:
    """Open JSON Lines.

    Raises:
        InputError: as for `json_records`; or an object around all rows is all there is.
    """
    records = json_records(decoded_lines(stream, name), name)
    rows = JsonRows(records, name, "line", looked_at, close)
    if looked_at > 1 and len(rows._first) == 1:
        lists = [k for k, v in rows._first[0][1].items() if _is_list_of_objects(v)]
        if len(lists) == 1:
            raise InputError(
                f"{name} is one JSON object around the rows, in {lists[0]!r}. {_AS_JSON}"
            )
    return rows


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def json_document_shape(path: Path) -> tuple[str, str | None]:
    """Return the format of a file that ends in ``.json``, and the key of its list of rows.

    An array has no key; an object behind another means JSON Lines.

    Raises:
        InputError: it is no JSON, or an object with several lists of rows.
    """
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


def json_records(lines: Iterable[str], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number and the object of each line; blank lines are skipped.

    ``NaN``, which Python and others write for a missing number though JSON has no such thing, is
    read as null.

    Raises:
        InputError: a line is not JSON, or is no object; says which and what is wrong with it.
    """
    for number, line in enumerate(lines, start=1):
        if not line or line.isspace():
            continue
        try:
            record = _decode(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{name}, line {number}: {_explain(error, line, number)}") from error
        if not isinstance(record, dict):
            raise InputError(f"{name}, line {number}: {_explain_kind(record)}")
        yield number, record


def _decode(line: str) -> Any:
    try:
        # Three times as fast as the standard decoder, and stricter.
        return from_json(line, allow_inf_nan=False, cache_strings="keys")
    except ValueError:
        # The standard one takes NaN and deep nesting, and says better what is wrong.
        record = json.JSONDecoder(parse_constant=_constant).decode(line.rstrip())
    if "\\u" in line:
        _refuse_half_characters(record)
    return record


def _constant(spelling: str) -> None:
    if spelling != "NaN":
        raise ValueError(f"{spelling} is not a JSON number")


def _refuse_half_characters(record: Any) -> None:
    r"""Refuse half of a surrogate pair (``\ud83d`` alone): no file could hold such a text."""
    try:
        json.dumps(record, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise ValueError(f"\\u{ord(half):04x} is half of a character") from error


def _explain(error: Exception, line: str, number: int) -> str:
    if isinstance(error, json.JSONDecodeError):
        cut = number == 1 and error.pos >= len(error.doc.rstrip())
        if line.lstrip()[:1] == "[" or cut:
            what = "a list" if line.lstrip()[:1] == "[" else "an object"
            return f"{_NEEDED}; {what} over several lines is not JSON Lines. {_AS_JSON}"
        near = error.doc[max(0, error.pos - 10) : error.pos + 10]
        return f"not valid JSON: {error.msg} at character {error.pos + 1}, near {near!r}."
    if isinstance(error, RecursionError):
        return "the JSON is nested too deeply."
    return f"not valid JSON: {error}."


def _explain_kind(value: Any) -> str:
    advice = f" {_AS_JSON}" if isinstance(value, list) else ""
    return f"{_NEEDED}; this is {_KINDS.get(type(value), 'a number')}.{advice}"


class JsonDocument:
    """The rows of a JSON document: an array, or the one list of rows that an object holds.

    A row is an object, or a text, which stands for ``{"text": …}``. The document is read piece by
    piece, so that memory does not grow with it.

    Attributes:
        of_lines: whether `lists` found that an object follows another: these are JSON Lines.
    """

    def __init__(self, stream: BinaryIO, name: str, key: str | None = None) -> None:
        """Read from `stream`; of an object's lists take that under `key`, else the first."""
        self._stream, self._name, self._key = stream, name, key
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._decoder = json.JSONDecoder(parse_constant=_constant)
        self._buffer, self._position, self._ended = "", 0, False
        self._lines, self._chunk = 1, _CHUNK
        self.of_lines = False

    def rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the number of each row, from 1, and its values.

        Raises:
            InputError: this is not JSON, or holds no list of rows or several; says where.
        """
        with reading_errors(self._name):
            found, begun = 0, bool(self._peek())
            for _, items in self._lists():
                for number, item in enumerate(items, 1):
                    yield number, self._row(number, item)
                found += 1
            if begun and not found:
                raise InputError(
                    f"{self._name}: no list of rows is in it. A JSON file holds an array of "
                    "objects, or an object with one such list."
                )

    def lists(self) -> list[str]:
        """Return the keys of an object's lists of rows; none of an array."""
        with reading_errors(self._name):
            found = {}
            for key, items in self._lists(every=True):
                if key is not None:
                    found[key] = next(items, None)
                for _ in items:
                    pass
            objects = [key for key, item in found.items() if isinstance(item, dict)]
            return objects or [key for key, item in found.items() if isinstance(item, str)]

    def _lists(self, every: bool = False) -> Iterator[tuple[str | None, Iterator[Any]]]:
        """Yield the list of rows, or each of an object's, with its key."""
        start = self._peek()
        if start == "[":
            yield None, self._items()
        elif start == "{":
            for key in self._keys():
                if self._peek() == "[" and (every or self._key in (None, key)):
                    yield key, self._items()
                else:
                    self._value()
        elif start:
            raise self._malformed("an array of objects is needed")
        if start == "{" and self._peek() == "{":
            self.of_lines = True
            if not every:
                raise self._malformed("more objects follow; give the format 'jsonl'")
        elif self._peek():
            raise self._malformed("more text follows the end of the JSON document")

    def _keys(self) -> Iterator[str]:
        self._skip("{")
        while self._peek() != "}":
            key = self._value()
            if not isinstance(key, str):
                raise self._malformed("a key is needed")
            self._skip(":")
            yield key
            if self._peek() != "}":
                self._skip(",")
        self._skip("}")

    def _items(self) -> Iterator[Any]:
        self._skip("[")
        while self._peek() != "]":
            yield self._value()
            if self._peek() != "]":
                self._skip(",")
        self._skip("]")

    def _row(self, number: int, item: Any) -> dict[str, Any]:
        if isinstance(item, str):
            return {"text": item}
        if not isinstance(item, dict):
            raise InputError(
                f"{self._name}, item {number}: an object is needed; this is "
                f"{_KINDS.get(type(item), 'a number')}."
            )
        return item

    def _value(self) -> Any:
        """Read the next value, whatever it is."""
        self._peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._position)
            except (json.JSONDecodeError, RecursionError) as error:
                if isinstance(error, RecursionError):
                    raise self._malformed("the JSON is nested too deeply") from error
                # A value that the buffer cuts looks broken; twice as much is read each time.
                cut = error.msg.startswith("Unterminated") or error.pos > len(self._buffer) - 16
                if not cut or self._ended or not self._more():
                    raise self._malformed(f"not valid JSON: {error.msg}", error.pos) from error
                continue
            except ValueError as error:
                raise self._malformed(f"not valid JSON: {error}") from error
            # What ends at the buffer's end may go on behind it, as a number.
            if end < len(self._buffer) or self._ended or not self._more():
                break
        if "\\u" in self._buffer[self._position : end]:
            try:
                _refuse_half_characters(value)
            except ValueError as error:
                raise self._malformed(str(error)) from error
        self._position, self._chunk = end, _CHUNK
        return value

    def _peek(self) -> str:
        """Skip white space and return the next character, "" at the end."""
        while True:
            match = _SPACE.match(self._buffer, self._position)
            self._position = match.end() if match else self._position
            if self._position < len(self._buffer):
                return self._buffer[self._position]
            if self._ended or not self._more():
                return ""

    def _skip(self, character: str) -> None:
        if self._peek() != character:
            raise self._malformed(f"not valid JSON: {character!r} is needed")
        self._position += 1

    def _more(self) -> bool:
        """Read on; return whether there was anything."""
        if len(self._buffer) - self._position > LONGEST_LINE:
            raise self._malformed("one row is longer than 64 MiB")
        self._lines += self._buffer.count("\n", 0, self._position)
        piece = self._stream.read(self._chunk)
        self._chunk *= 2
        self._ended = not piece
        try:
            text = self._decode(piece, not piece)
        except UnicodeDecodeError as error:
            wrong = mistaken_file(self._name, piece) if self._lines == 1 else None
            odd = f"the byte 0x{error.object[error.start]:02X} is not UTF-8"
            raise wrong or self._malformed(odd) from error
        self._buffer = self._buffer[self._position :] + text
        self._position = 0
        return bool(piece)

    def _malformed(self, reason: str, position: int | None = None) -> InputError:
        at = self._position if position is None else position
        line = self._lines + self._buffer.count("\n", 0, at)
        near = self._buffer[max(0, at - 10) : at + 10]
        return InputError(f"{self._name}, line {line}: {reason}, near {near!r}.")
