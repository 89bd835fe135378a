"""Text files: plain or compressed bytes, UTF-8 lines, and the JSON objects in them."""

from __future__ import annotations

import bz2
import codecs
import contextlib
import functools
import gzip
import io
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from pydantic_core import from_json

from sentikit.errors import InputError
from sentikit.files import disk_errors

#: A line beyond this many bytes is no row of a table: reading on would only fill the memory.
LONGEST_LINE = 64 * 2**20
_CHUNK = 2**18
_SPACE = re.compile(r"[ \t\r\n]+")

_LOOKALIKES = {
    b"PK\x03\x04": "an Excel workbook, whose name must end in .xlsx, or a zip archive: unpack it",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook: save it as .xlsx, or as CSV UTF-8",
    b"\x1f\x8b": "gzip-compressed: let its name end in .gz",
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
    b"BZh": "bzip2-compressed: let its name end in .bz2",
    b"\xfd7zXZ": "xz-compressed: let its name end in .xz",
    b"\x28\xb5\x2f\xfd": "zstd-compressed: let its name end in .zst",
    b"PAR1": "a Parquet file: let its name end in .parquet",
    b"ARROW1": "an Arrow file: let its name end in .arrow",
    b"%PDF": "a PDF: export its text",
}


def open_binary(path: Path) -> BinaryIO:
    """Open `path` for reading; what a name ending in `COMPRESSED` holds is unpacked on the way.

    Raises:
        InputError: the file is missing, is a folder or may not be read.
    """
    ending = path.suffix.lower()
    with disk_errors(path):
        if ending not in _UNPACKERS:
            return path.open("rb")
        packed = _UNPACKERS[ending](path)
        # These readers' own readline is several times slower than that of a buffer around them.
        return cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, packed)))


def _zstandard(path: Path) -> Any:
    # Of this library's users few have such files; the import takes a moment.
    import pyarrow as pa

    with path.open("rb"):  # says what is wrong with a path as all others do
        return pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")


_UNPACKERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": _zstandard,
}
#: Endings of the compressions that are unpacked.
COMPRESSED = tuple(_UNPACKERS)


def decoded_lines(stream: BinaryIO, name: str) -> Iterator[str]:
    r"""Yield the lines of `stream`, each with its ``\n``; only ``\n`` ends a line.

    A stream is read no further than the line asked for, so that a pipe can be followed as it
    grows. A byte order mark at the start is dropped.

    Args:
        stream: bytes in UTF-8.
        name: the file's name, for messages.

    Raises:
        InputError: a byte that is not UTF-8, a NUL, a line over 64 MiB, a damaged gzip file.
        SentikitError: the disk failed.
    """
    with _reading_errors(name):
        lines = iter(functools.partial(stream.readline, LONGEST_LINE), b"")
        for number, line in enumerate(lines, start=1):
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise _not_utf8(name, number, line, error.start) from error
            if "\0" in text:
                raise _holds_nul(name, number, line)
            if len(line) >= LONGEST_LINE and not line.endswith(b"\n"):
                raise InputError(
                    f"{name}, line {number}: the line is longer than 64 MiB. "
                    "Give a text file with one row a line."
                )
            yield text if number > 1 else text.removeprefix("\ufeff")


@contextlib.contextmanager
def _reading_errors(name: str) -> Iterator[None]:
    with disk_errors(name):
        try:
            yield
        except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
            if getattr(error, "errno", None):
                raise
            raise InputError(
                f"{name} is not a whole {_compression(name)} file ({error}). Compress or download "
                "it again."
            ) from error


def _compression(name: str) -> str:
    return {".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}.get(Path(name).suffix.lower(), "gzip")


def _not_utf8(name: str, number: int, line: bytes, position: int) -> InputError:
    return _mistaken(name, number, line) or InputError(
        f"{name}, line {number}, byte {position + 1} of the line: the byte 0x{line[position]:02X} "
        "is not UTF-8. Save the file as UTF-8 (it may be in Windows-1252 or Latin-1)."
    )


def _holds_nul(name: str, number: int, line: bytes) -> InputError:
    return _mistaken(name, number, line) or InputError(
        f"{name}, line {number}, byte {line.index(0) + 1} of the line: a NUL byte, which no text "
        "holds. Remove it, or save the file as UTF-8 if it is in UTF-16."
    )


def _mistaken(name: str, number: int, line: bytes) -> InputError | None:
    """Recognize what else a file that is not text may be, by its first bytes."""
    for start, advice in _LOOKALIKES.items():
        if number == 1 and line.startswith(start):
            return InputError(f"{name} is not UTF-8 text; it looks like {advice}.")
    return None


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


_NEEDED = 'a JSON object is needed on each line, as {"text": "I love it"}'
_AS_JSON = "Let the name end in .json, or give the format 'json'."
_KINDS = {
    list: "a list",
    dict: "an object",
    str: "a text",
    bool: "true or false",
    type(None): "null",
}


def _explain_kind(value: Any) -> str:
    advice = f" {_AS_JSON}" if isinstance(value, list) else ""
    return f"{_NEEDED}; this is {_KINDS.get(type(value), 'a number')}.{advice}"


def wrapped_list(records: Sequence[tuple[int, Mapping[str, Any]]]) -> str | None:
    """Return the key of the list of objects that is all a JSON Lines file holds, or None."""
    if len(records) != 1:
        return None
    lists = [
        key
        for key, value in records[0][1].items()
        if isinstance(value, list) and value and isinstance(value[0], dict)
    ]
    return lists[0] if len(lists) == 1 else None


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
        with _reading_errors(self._name):
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
        with _reading_errors(self._name):
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
            wrong = _mistaken(self._name, 1, piece) if self._lines == 1 else None
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
