"""JSON documents as tables, read incrementally."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from sentikit import InputError
from sentikit.extension import (
    ObjectRows,
    Rows,
    TableFormat,
    open_binary,
    read_rows,
    reading_errors,
)

_CHUNK = 2**18
_LONGEST_ROW = 64 * 2**20
_SPACE = re.compile(r"[ \t\r\n]+")
_KINDS = {
    list: "a list",
    dict: "an object",
    str: "a text",
    bool: "true or false",
    type(None): "null",
}


class Json(TableFormat):
    """An array of objects or texts, or an object with one such list."""

    compressed = True

    def open(self, path: Path, sheet: str | None = None) -> Rows:
        """Open a file; a second object after the first means JSON Lines."""
        with open_binary(path) as stream:
            document = JsonDocument(stream, str(path))
            keys = document.lists()
        if document.of_lines:
            return read_rows(path, "jsonl")
        if len(keys) > 1:
            raise InputError(
                f"{path} holds several lists: {', '.join(map(repr, keys))}. Save the one with the "
                "rows in a file of its own."
            )
        stream = open_binary(path)
        try:
            records = JsonDocument(stream, str(path), keys[0] if keys else None).rows()
            return ObjectRows(records, str(path), close=stream.close)
        except InputError:
            stream.close()
            raise

    def open_stream(self, stream: BinaryIO, name: str) -> Rows:
        """Read a pipe; of an object's lists, use the first."""
        return ObjectRows(JsonDocument(stream, name).rows(), name, looked_at=1)


class JsonDocument:
    """The rows of a JSON document: an array, or an object with one list of rows.

    A row is an object, or a text, which means ``{"text": …}``. The document is read incrementally,
    so memory does not grow with it.

    Attributes:
        of_lines: whether `lists` found a second object, so that this is JSON Lines.
    """

    def __init__(self, stream: BinaryIO, name: str, key: str | None = None) -> None:
        """Read from `stream`; of an object's lists use the one under `key`, else the first."""
        self._stream, self._name, self._key = stream, name, key
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._decoder = json.JSONDecoder(parse_constant=_constant)
        self._buffer, self._position, self._ended = "", 0, False
        self._lines, self._chunk = 1, _CHUNK
        self.of_lines = False

    def rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the number of each row, from 1, and its values.

        Raises:
            InputError: this is not JSON, or has no list of rows, or several.
        """
        with reading_errors(self._name):
            found, begun = 0, bool(self._peek())
            for _, items in self._lists():
                for number, item in enumerate(items, 1):
                    yield number, self._row(number, item)
                found += 1
            if begun and not found:
                raise InputError(
                    f"{self._name}: it has no list of rows. A JSON file holds an array of "
                    "objects, or an object with one such list."
                )

    def lists(self) -> list[str]:
        """Return the keys of an object's lists of rows; none for an array."""
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
        """Yield the list of rows, or each one of an object, with its key."""
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
        """Read the next value of any kind."""
        self._peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._position)
            except (json.JSONDecodeError, RecursionError) as error:
                if isinstance(error, RecursionError):
                    raise self._malformed("the JSON is nested too deeply") from error
                # A value cut off by the buffer looks broken: read twice as much each time.
                cut = error.msg.startswith("Unterminated") or error.pos > len(self._buffer) - 16
                if not cut or self._ended or not self._more():
                    raise self._malformed(f"not valid JSON: {error.msg}", error.pos) from error
                continue
            except ValueError as error:
                raise self._malformed(f"not valid JSON: {error}") from error
            # A value at the buffer's end, such as a number, may continue after it.
            if end < len(self._buffer) or self._ended or not self._more():
                break
        if "\\u" in self._buffer[self._position : end]:
            try:
                json.dumps(value, ensure_ascii=False).encode("utf-8")
            except UnicodeEncodeError as error:
                half = f"\\u{ord(error.object[error.start]):04x} is half of a character"
                raise self._malformed(half) from error
        self._position, self._chunk = end, _CHUNK
        return value

    def _peek(self) -> str:
        """Skip white space and return the next character, or "" at the end."""
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
        """Read more; return whether there was any."""
        if len(self._buffer) - self._position > _LONGEST_ROW:
            raise self._malformed("one row is longer than 64 MiB")
        self._lines += self._buffer.count("\n", 0, self._position)
        piece = self._stream.read(self._chunk)
        self._chunk *= 2
        self._ended = not piece
        try:
            text = self._decode(piece, not piece)
        except UnicodeDecodeError as error:
            if self._lines == 1:
                raise
            odd = f"the byte 0x{error.object[error.start]:02X} is not UTF-8"
            raise self._malformed(odd) from error
        self._buffer = self._buffer[self._position :] + text
        self._position = 0
        return bool(piece)

    def _malformed(self, reason: str, position: int | None = None) -> InputError:
        at = self._position if position is None else position
        line = self._lines + self._buffer.count("\n", 0, at)
        near = self._buffer[max(0, at - 10) : at + 10]
        return InputError(f"{self._name}, line {line}: {reason}, near {near!r}.")


def _constant(spelling: str) -> None:
    """Read NaN as null: many programs write it for a missing number."""
    if spelling != "NaN":
        raise ValueError(f"{spelling} is not a JSON number")
